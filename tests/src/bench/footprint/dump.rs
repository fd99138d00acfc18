//! A proxy's dump of what it knows, of any length: what is looked for is counted while it comes.

use crate::netns;
use anyhow::{Context as _, Result, ensure};
use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often `mark` is in the dump of the proxy of this network namespace.
pub(super) fn count(netns: &Path, mark: &str) -> Result<usize> {
    let counted = netns::within(netns, || {
        let mut stream = TcpStream::connect_timeout(&ADMIN, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "GET /config_dump HTTP/1.0\r\nHost: localhost\r\n\r\n"
        )?;
        occurrences(stream, mark.as_bytes())
    })?;
    counted.with_context(|| format!("cannot get http://{ADMIN}/config_dump"))
}

/// How often `mark` comes, also across the borders of what is read at a time.
fn occurrences(mut source: impl Read, mark: &[u8]) -> Result<usize> {
    ensure!(!mark.is_empty(), "nothing to look for");
    let (mut found, mut kept) = (0, 0);
    let mut buffer = vec![0; (64 << 10) + mark.len()];
    loop {
        let length = match source.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(found),
            Ok(length) => kept + length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let text = &buffer[..length];
        found += text
            .windows(mark.len())
            .filter(|part| *part == mark)
            .count();
        // Too short to hold the mark by itself, long enough to hold its beginning.
        let rest = length.saturating_sub(mark.len() - 1);
        buffer.copy_within(rest..length, 0);
        kept = length - rest;
    }
}

#[cfg(test)]
mod tests {
    use super::occurrences;
    use std::io::Read;

    /// Hands out a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn each_occurrence_counts_once_wherever_it_is_cut() {
        let text = b"Pod/x Pod/ Po Pod/y PodPod/";
        for size in 1..=text.len() {
            assert_eq!(
                occurrences(Drops(text, size), b"Pod/").unwrap(),
                4,
                "{size} at a time"
            );
        }
        assert_eq!(occurrences(&b""[..], b"x").unwrap(), 0);
        assert!(occurrences(&b"x"[..], b"").is_err());
    }
}
