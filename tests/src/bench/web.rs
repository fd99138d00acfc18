//! nginx as a benchmark's server: one process, no log, connections kept alive without end.

use crate::process::Process;
use crate::topology::Pod;
use crate::wait;
use anyhow::Result;
use std::fs;

/// Its port.
pub(super) const PORT: u16 = 80;

/// Starts it in the pod; it accepts connections when this returns.
pub(super) fn start(pod: &Pod) -> Result<Process> {
    let dir = pod.dir.join("web");
    fs::create_dir_all(&dir)?;
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
        listen 0.0.0.0:{PORT} backlog=4096;
        location / {{ return 200 "hello\n"; }}
    }}
}}
"#
    )
}
