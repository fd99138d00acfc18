//! curl, redis-cli and psql inside a pod.

use crate::process::Process;
use crate::shell::Output;
use crate::topology::Pod;
use anyhow::{Context as _, Result, ensure};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
/// What curl appends to the body: the status and its own end of the connection.
const WRITE_OUT: &str = "\n%{http_code} %{local_ip} %{local_port}";

/// What curl got.
#[derive(Clone, Debug)]
pub struct Curl {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The client's end of the connection, as curl saw it.
    pub local: SocketAddr,
}

/// Gets `http://address:port/path`; a connection that fails is an error.
pub fn curl(pod: &Pod, server: SocketAddr, path: &str) -> Result<Curl> {
    let output = run_curl(pod, server, path)?;
    ensure!(output.success(), "curl: {}", output.summary());
    let (body, tail) = output
        .stdout
        .rsplit_once('\n')
        .context("curl printed nothing")?;
    let mut words = tail.split(' ');
    let mut word = || words.next().context("curl's last line is too short");
    let status = word()?.parse()?;
    let address: IpAddr = word()?.parse()?;
    let local = SocketAddr::new(address, word()?.parse()?);
    Ok(Curl {
        status,
        body: body.to_owned(),
        local,
    })
}

/// As `curl`, for a connection that must fail: how it failed.
pub fn curl_fails(pod: &Pod, server: SocketAddr, path: &str) -> Result<String> {
    let output = run_curl(pod, server, path)?;
    ensure!(
        !output.success(),
        "curl got an answer: {}",
        output.stdout.trim()
    );
    Ok(output
        .stderr
        .lines()
        .last()
        .unwrap_or("curl failed")
        .trim()
        .to_owned())
}

fn run_curl(pod: &Pod, server: SocketAddr, path: &str) -> Result<Output> {
    let url = format!("http://{server}{path}");
    let argv = [
        "curl",
        "-sS",
        "-g",
        "--noproxy",
        "*",
        "--max-time",
        "5",
        "-w",
        WRITE_OUT,
        &url,
    ];
    pod.place.run(&argv, LIMIT)
}

/// Runs one Redis command.
pub fn redis_cli(pod: &Pod, server: SocketAddr, words: &[&str]) -> Result<Output> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let mut argv = vec!["redis-cli", "-e", "-h", &host, "-p", &port];
    argv.extend(words);
    pod.place.run(&argv, LIMIT)
}

/// Runs one statement; the rows come without decoration.
pub fn psql(pod: &Pod, server: SocketAddr, statement: &str) -> Result<Output> {
    let connect = connection(server);
    pod.place.run(
        &["psql", "-X", "-A", "-t", "-d", &connect, "-c", statement],
        LIMIT,
    )
}

/// Starts a session that reads statements from its stdin.
pub fn psql_session(pod: &Pod, server: SocketAddr, log: &Path) -> Result<Process> {
    let connect = connection(server);
    pod.place
        .start(&["psql", "-X", "-A", "-t", "-d", &connect], log)
}

fn connection(server: SocketAddr) -> String {
    // Without TLS and GSS of its own: what protects the bytes is the mesh alone.
    format!(
        "host={} port={} user=postgres connect_timeout=10 sslmode=disable gssencmode=disable",
        server.ip(),
        server.port()
    )
}
