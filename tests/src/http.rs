//! Reading the mesh's own HTTP pages (readiness, metrics, dumps) from inside a node's namespace.

use crate::netns;
use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 64 << 20;

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Gets a page from `address` as seen inside `netns`.
pub fn get(netns: &Path, address: SocketAddr, path: &str) -> Result<Page> {
    request(netns, address, "GET", path, "")
}

/// Puts `body` to a page of `address` as seen inside `netns`.
pub fn put(netns: &Path, address: SocketAddr, path: &str, body: &str) -> Result<Page> {
    request(netns, address, "PUT", path, body)
}

fn request(
    netns: &Path,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Page> {
    let answer = netns::within(netns, || fetch(address, method, path, body))?;
    let bytes = answer.with_context(|| format!("cannot {method} http://{address}{path}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("an answer without a header")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .context("no status code")?;
    Ok(Page {
        status,
        body: body.to_owned(),
    })
}

/// Gets a page whose status must be 200.
pub fn get_ok(netns: &Path, address: SocketAddr, path: &str) -> Result<String> {
    let page = get(netns, address, path)?;
    ensure!(
        page.status == 200,
        "http://{address}{path} answered {}: {}",
        page.status,
        page.body
    );
    Ok(page.body)
}

fn fetch(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the body is neither chunked nor followed by anything.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
