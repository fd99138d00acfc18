//! A TCP forwarder between a client and the API server, which a test can cut.

use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections until it is dropped.
pub struct Forwarder {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// Listens on loopback and forwards to `to`.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("there is no free port on loopback")?;
        let address = listener.local_addr()?;
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, to, is_open.clone()));
            }
        });
        Ok(Self {
            address,
            open,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and every new one at once.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Forwards again.
    pub fn restore(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn forward(mut from: TcpStream, to: SocketAddr, mut is_open: watch::Receiver<bool>) {
    if !*is_open.borrow() {
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(to).await else {
        return;
    };
    // Either way both sockets are closed.
    tokio::select! {
        _ = copy_bidirectional(&mut from, &mut upstream) => {}
        _ = is_open.wait_for(|open| !open) => {}
    }
}
