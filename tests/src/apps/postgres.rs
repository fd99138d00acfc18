//! PostgreSQL on port 5432 of its pod, with a fresh database that trusts its clients.

use crate::process::Process;
use crate::shell;
use crate::topology::Pod;
use crate::wait;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

/// PostgreSQL refuses to run as root.
const AS_POSTGRES: [&str; 4] = [
    "setpriv",
    "--reuid=postgres",
    "--regid=postgres",
    "--clear-groups",
];

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    _process: Process,
}

impl Postgres {
    /// Makes a database and starts it; it accepts connections when this returns.
    pub fn start(pod: &Pod) -> Result<Self> {
        let bin = binaries()?;
        let dir = pod.dir.join("postgres");
        fs::create_dir_all(&dir)?;
        shell::run(&["chown", "postgres:postgres", &dir.to_string_lossy()])?;
        let data = dir.join("data").to_string_lossy().into_owned();
        let initdb = bin.join("initdb").to_string_lossy().into_owned();
        let make = [
            &initdb,
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
            &data,
        ];
        shell::run(&[&AS_POSTGRES[..], &make[..]].concat())?;
        let rules = "local all all trust\nhost all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
        fs::write(format!("{data}/pg_hba.conf"), rules)?;
        let postgres = bin.join("postgres").to_string_lossy().into_owned();
        let sockets = format!("unix_socket_directories={}", dir.display());
        let serve = [
            &postgres,
            "-D",
            &data,
            "-c",
            "listen_addresses=*",
            "-c",
            "fsync=off",
            "-c",
            "dynamic_shared_memory_type=mmap",
            "-c",
            &sockets,
        ];
        // System V shared memory outlives a killed server, but not its IPC namespace.
        let argv = [&["unshare", "--ipc"][..], &AS_POSTGRES[..], &serve[..]].concat();
        let mut process = pod.place.start(&argv, &pod.dir.join("postgres.log"))?;
        process.ready(
            "PostgreSQL's \"ready to accept connections\"",
            wait::DEADLINE,
            |log| Ok(log.contains("ready to accept connections")),
        )?;
        Ok(Self { _process: process })
    }
}

/// Debian keeps the server's programs out of the path, one directory a version.
fn binaries() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.retain(|dir| dir.join("initdb").exists());
    found.sort();
    found
        .pop()
        .context("no PostgreSQL in /usr/lib/postgresql: run `cargo xtask setup`")
}
