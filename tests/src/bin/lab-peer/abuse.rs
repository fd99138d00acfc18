//! A peer with a valid certificate that breaks or strains the rules of HTTP/2.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::frames::{
    ACK, CONTINUATION, END_HEADERS, Frame, GOAWAY, HEADERS, PING, PREFACE, REFUSED_STREAM,
    RST_STREAM, SETTINGS, connect, frame, padding, reset,
};
use crate::hbone;

/// Streams of one round of `cancel`: as many resets at once as h2 takes without complaint.
const ROUND: u32 = 20;
/// The agent lets go of whatever stalls before this.
const PATIENCE: Duration = Duration::from_secs(50);

#[derive(Args)]
pub(crate) struct Abuse {
    server: SocketAddr,
    /// PEM file with certificate chain and key.
    #[arg(long)]
    svid: PathBuf,
    #[arg(long)]
    authority: String,
    #[command(subcommand)]
    how: How,
}

#[derive(Subcommand)]
enum How {
    /// Open streams, all at once; count the answers; then hold the tunnel until a line comes.
    Streams { count: u32 },
    /// Open streams and reset each at once, until the agent ends the tunnel.
    Resets { count: u32 },
    /// Open streams in rounds, see that they were taken, then reset them; hold at the end.
    Cancel { count: u32 },
    /// One request with this many bytes of headers.
    Headers { bytes: usize },
    /// TLS, then nothing.
    NoPreface,
    /// One stream, then nothing: not even an answer to PING.
    Stall,
}

pub(crate) fn run(abuse: &Abuse) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let line = runtime.block_on(async { tokio::time::timeout(PATIENCE, go(abuse)).await });
    println!("{}", line.unwrap_or_else(|_| Ok("never let go".into()))?);
    if matches!(abuse.how, How::Streams { .. } | How::Cancel { .. }) {
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

struct Peer {
    read: ReadHalf<TlsStream<TcpStream>>,
    write: WriteHalf<TlsStream<TcpStream>>,
    authority: String,
}

async fn go(abuse: &Abuse) -> Result<String> {
    let tls = hbone::tls(abuse.server, &abuse.svid).await?;
    let (read, write) = tokio::io::split(tls);
    let mut peer = Peer {
        read,
        write,
        authority: abuse.authority.clone(),
    };
    if let How::NoPreface = abuse.how {
        return Ok(peer.until_closed().await);
    }
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    peer.write.write_all(&hello).await?;
    let line = match abuse.how {
        How::NoPreface => String::new(),
        How::Streams { count } => peer.streams(count).await?,
        How::Resets { count } => peer.resets(count).await,
        How::Cancel { count } => peer.cancel(count).await?,
        How::Headers { bytes } => peer.headers(bytes).await,
        How::Stall => {
            peer.write.write_all(&peer.open(1)).await?;
            while !Frame::read(&mut peer.read).await?.is_ok() {}
            println!("stream open");
            peer.until_closed().await
        }
    };
    // The tunnel stays open as long as the process.
    std::mem::forget(peer);
    Ok(line)
}

impl Peer {
    fn open(&self, stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, &connect(&self.authority))
    }

    async fn streams(&mut self, count: u32) -> Result<String> {
        let all: Vec<u8> = (0..count).flat_map(|n| self.open(2 * n + 1)).collect();
        self.write.write_all(&all).await?;
        let (mut accepted, mut refused, mut other) = (0, 0, 0);
        while accepted + refused + other < count {
            let Ok(frame) = Frame::read(&mut self.read).await else {
                return Ok(format!("accepted {accepted} refused {refused} then closed"));
            };
            match frame.kind {
                HEADERS if frame.is_ok() => accepted += 1,
                RST_STREAM if frame.code() == REFUSED_STREAM => refused += 1,
                HEADERS | RST_STREAM => other += 1,
                GOAWAY => {
                    return Ok(format!("accepted {accepted} refused {refused} then goaway"));
                }
                _ => {}
            }
        }
        Ok(format!(
            "accepted {accepted} refused {refused} other {other}"
        ))
    }

    async fn resets(&mut self, count: u32) -> String {
        for n in 0..count {
            let stream = 2 * n + 1;
            let pair = [self.open(stream), reset(stream)].concat();
            if self.write.write_all(&pair).await.is_err() {
                break;
            }
        }
        self.until_closed().await
    }

    async fn cancel(&mut self, count: u32) -> Result<String> {
        let mut refused = 0;
        for round in 0..count / ROUND {
            let streams: Vec<u32> = (0..ROUND).map(|n| 2 * (round * ROUND + n) + 1).collect();
            let mut opening: Vec<u8> = streams.iter().flat_map(|&s| self.open(s)).collect();
            opening.extend(frame(PING, 0, 0, &[0; 8]));
            self.write.write_all(&opening).await?;
            loop {
                let frame = Frame::read(&mut self.read).await.context("closed")?;
                match frame.kind {
                    PING if frame.flags & ACK != 0 => break,
                    GOAWAY => return Ok(format!("goaway {} in round {round}", frame.code())),
                    HEADERS | RST_STREAM => refused += 1,
                    _ => {}
                }
            }
            let closing: Vec<u8> = streams.iter().flat_map(|&s| reset(s)).collect();
            self.write.write_all(&closing).await?;
        }
        Ok(format!("cancelled {count}, {refused} of them answered"))
    }

    async fn headers(&mut self, bytes: usize) -> String {
        let mut first = Some(connect(&self.authority));
        let mut sent = 0;
        while sent < bytes {
            let start = first.is_some();
            let mut block = first.take().unwrap_or_default();
            while block.len() < bytes.min(16_000) {
                block.extend(padding());
            }
            sent += block.len();
            let kind = if start { HEADERS } else { CONTINUATION };
            let flags = if sent < bytes { 0 } else { END_HEADERS };
            if self
                .write
                .write_all(&frame(kind, flags, 1, &block))
                .await
                .is_err()
            {
                break;
            }
        }
        loop {
            match Frame::read(&mut self.read).await {
                Err(_) => return "closed".into(),
                Ok(frame) if frame.is_ok() => return "accepted".into(),
                Ok(frame) => match frame.kind {
                    HEADERS => return "refused".into(),
                    RST_STREAM => return format!("reset {}", frame.code()),
                    GOAWAY => return format!("goaway {}", frame.code()),
                    _ => {}
                },
            }
        }
    }

    /// Reads on, answering nothing.
    async fn until_closed(&mut self) -> String {
        let mut goaway = None;
        while let Ok(frame) = Frame::read(&mut self.read).await {
            if frame.kind == GOAWAY {
                goaway = Some(frame.code());
            }
        }
        match goaway {
            Some(code) => format!("closed after goaway {code}"),
            None => "closed".into(),
        }
    }
}
