//! One address in front of several servers, as a Kubernetes Service is: a connection goes to the next
//! server that accepts it, and ends when that server does.

use crate::netns;
use anyhow::{Context as _, Result};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Forwards TCP until it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    inside: std::path::PathBuf,
}

impl Balancer {
    /// Listens on `address` in this network namespace, in front of `servers`.
    pub fn start(inside: &Path, address: SocketAddr, servers: Vec<SocketAddr>) -> Result<Self> {
        let listener = netns::within(inside, || TcpListener::bind(address))?
            .with_context(|| format!("cannot listen on {address}"))?;
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, home) = (ended.clone(), inside.to_owned());
        thread::spawn(move || {
            // The thread lives in the namespace, and so do the connections that it makes.
            let _ = netns::within(&home, || accept(&listener, &servers, &stop));
        });
        Ok(Self {
            address,
            ended,
            inside: inside.to_owned(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = netns::within(&self.inside, || TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, servers: &[SocketAddr], ended: &AtomicBool) {
    let turn = AtomicUsize::new(0);
    while let Ok((client, _)) = listener.accept() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let first = turn.fetch_add(1, Ordering::Relaxed);
        let server = (0..servers.len())
            .filter_map(|next| TcpStream::connect(servers[(first + next) % servers.len()]).ok())
            .next();
        if let Some(server) = server {
            let _ = forward(client, server);
        }
    }
}

fn forward(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}
