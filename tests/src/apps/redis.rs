//! redis-server on port 6379 of its pod, without persistence.

use crate::process::Process;
use crate::topology::Pod;
use crate::wait;
use anyhow::Result;
use std::fs;

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    _process: Process,
}

impl Redis {
    /// Starts it; it accepts connections when this returns.
    pub fn start(pod: &Pod) -> Result<Self> {
        let dir = pod.dir.join("redis");
        fs::create_dir_all(&dir)?;
        let shown = dir.to_string_lossy();
        let argv = [
            "redis-server",
            "--port",
            "6379",
            "--bind",
            "*",
            "-::*",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--dir",
            &shown,
        ];
        let mut process = pod.place.start(&argv, &dir.join("redis.log"))?;
        process.ready(
            "Redis's \"Ready to accept connections\"",
            wait::DEADLINE,
            |log| Ok(log.contains("Ready to accept connections")),
        )?;
        Ok(Self { _process: process })
    }
}
