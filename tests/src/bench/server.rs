//! The servers in a pod: the load generator's, and nginx with one process, no log, and connections kept
//! alive without end.

use crate::process::Process;
use crate::topology::Pod;
use crate::{netns, programs, wait};
use anyhow::{Context as _, Result};
use std::fs::{self, File};

/// The port of the load generator's server.
pub(super) const LOAD_PORT: u16 = 7000;
/// The port of nginx.
pub(super) const WEB_PORT: u16 = 80;
/// The page that takes long to read, and its length in bytes. It is empty on the disk.
pub(super) const LARGE: &str = "/large";
const LARGE_BYTES: u64 = 64 << 20;

/// Ports enough for many short connections; those that were closed are taken again soon.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv4/ip_local_port_range", "16384 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
];

/// Lets a pod open many connections in a short time.
pub(super) fn allow_many_connections(pod: &Pod) -> Result<()> {
    netns::within(pod.place.netns(), || {
        for (key, value) in SETTINGS {
            fs::write(format!("/proc/sys/net/{key}"), value)
                .with_context(|| format!("cannot set {key}"))?;
        }
        Ok(())
    })?
}

/// Starts both servers in the pod; they accept connections when this returns.
pub(super) fn start(pod: &Pod) -> Result<[Process; 2]> {
    Ok([lab_load(pod)?, nginx(pod)?])
}

fn lab_load(pod: &Pod) -> Result<Process> {
    let program = programs::binary("lab-load")?;
    let listen = format!("0.0.0.0:{LOAD_PORT}");
    let argv = [&*program.to_string_lossy(), "serve", "--listen", &listen];
    let mut process = pod.place.start(&argv, &pod.dir.join("lab-load.log"))?;
    let netns = pod.place.netns().to_owned();
    process.ready("lab-load to listen", wait::DEADLINE, |_| {
        Ok(netns::listening(&netns)?.contains(&LOAD_PORT))
    })?;
    Ok(process)
}

fn nginx(pod: &Pod) -> Result<Process> {
    let dir = pod.dir.join("web");
    fs::create_dir_all(&dir)?;
    File::create(dir.join(LARGE.trim_start_matches('/')))?.set_len(LARGE_BYTES)?;
    let shown = dir.display().to_string();
    let conf = dir.join("nginx.conf");
    fs::write(&conf, configuration(&shown))?;
    let argv = [
        "nginx",
        "-p",
        &shown,
        "-c",
        &conf.to_string_lossy(),
        "-e",
        "stderr",
    ];
    let mut process = pod.place.start(&argv, &dir.join("nginx.log"))?;
    let pid = dir.join("nginx.pid");
    process.ready("nginx's pid file", wait::DEADLINE, |_| Ok(pid.exists()))?;
    Ok(process)
}

fn configuration(dir: &str) -> String {
    format!(
        r#"daemon off;
master_process off;
pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    default_type text/plain;
    server {{
        listen 0.0.0.0:{WEB_PORT} backlog=4096;
        location / {{ return 200 "hello\n"; }}
        location = {LARGE} {{ root {dir}; sendfile on; }}
    }}
}}
"#
    )
}
