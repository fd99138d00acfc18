//! nginx: answers every request with its pod's name, its secret and the request's own path.

use crate::process::Process;
use crate::topology::Pod;
use crate::wait;
use anyhow::{Context as _, Result};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

/// A running nginx on port 80 of its pod.
#[derive(Debug)]
pub struct Nginx {
    /// A word that is in every answer and in no request.
    pub secret: String,
    log: PathBuf,
    _process: Process,
}

/// A line of its access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's address.
    pub address: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The path with the query.
    pub uri: String,
}

impl Nginx {
    /// Starts it; it accepts connections when this returns.
    pub fn start(pod: &Pod) -> Result<Self> {
        let dir = pod.dir.join("nginx");
        fs::create_dir_all(dir.join("files"))?;
        let secret = format!("secret-{:016x}", rand::random::<u64>());
        let conf = dir.join("nginx.conf");
        let shown = dir.display().to_string();
        fs::write(&conf, configuration(&shown, &pod.key(), &secret))?;
        let conf = conf.to_string_lossy();
        let argv = ["nginx", "-p", &shown, "-c", &conf, "-e", "stderr"];
        let mut process = pod.place.start(&argv, &dir.join("nginx.log"))?;
        let pid = dir.join("nginx.pid");
        process.ready("nginx's pid file", wait::DEADLINE, |_| Ok(pid.exists()))?;
        Ok(Self {
            secret,
            log: dir.join("access.log"),
            _process: process,
        })
    }

    /// The requests that it has logged.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .map(|line| parse(line).with_context(|| format!("nginx logged {line:?}")))
            .collect()
    }

    /// Waits for the request whose path contains `needle`.
    pub fn request(&self, needle: &str) -> Result<Request> {
        wait::until(&format!("{needle} in nginx's log"), wait::DEADLINE, || {
            Ok(self
                .requests()?
                .into_iter()
                .find(|request| request.uri.contains(needle)))
        })
    }
}

fn parse(line: &str) -> Option<Request> {
    let mut words = line.split(' ');
    Some(Request {
        address: words.next()?.parse().ok()?,
        port: words.next()?.parse().ok()?,
        uri: words.next()?.to_owned(),
    })
}

fn configuration(dir: &str, name: &str, secret: &str) -> String {
    format!(
        r#"daemon off;
master_process off;
pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    log_format peer '$remote_addr $remote_port $request_uri $status';
    access_log {dir}/access.log peer;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    default_type text/plain;
    server {{
        listen 0.0.0.0:80;
        listen [::]:80 ipv6only=on;
        location / {{ return 200 "from {name} {secret} $request_uri\n"; }}
        location /files/ {{ root {dir}; }}
    }}
}}
"#
    )
}
