//! Many connections that say nothing, each replaced as soon as it is closed.

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Where a connection stays before its successor comes, if it was refused at once.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Crowd {
    server: SocketAddr,
    connections: usize,
    /// Do not replace those that are closed: say so once all are.
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(crowd: &Crowd) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, all).context("descriptors")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(stand(crowd))
}

async fn stand(crowd: &Crowd) -> Result<()> {
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut members = tokio::task::JoinSet::new();
    for _ in 0..crowd.connections {
        members.spawn(member(crowd.server, crowd.once, arrived.clone()));
    }
    while arrived.load(Ordering::Relaxed) < crowd.connections {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("all there");
    while members.join_next().await.is_some() {}
    println!("all gone");
    Ok(())
}

async fn member(server: SocketAddr, once: bool, arrived: Arc<AtomicUsize>) {
    let mut counted = false;
    loop {
        if let Ok(mut tcp) = TcpStream::connect(server).await {
            if !counted {
                arrived.fetch_add(1, Ordering::Relaxed);
                counted = true;
            }
            // However it ends.
            let _ = tcp.read(&mut [0]).await;
            if once {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
