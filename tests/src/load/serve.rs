//! The server of every load: one thread serves all answers and echoes, bulk transfers get their own.

use super::files;
use super::header::Request;
use super::poll::{Poll, Ready};
use super::runs::Runs;
use super::session::{Next, Session};
use super::{stream, transfer};
use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How many connections the server makes room for, when it may.
const CONNECTIONS: usize = 1 << 17;

/// How many connections are accepted before the others get their turn.
const TURN: usize = 64;

/// The listener's token; connection `n` has the token `n + 1`.
const LISTENER: usize = 0;

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    runs: Runs,
}

struct Connection {
    session: Session,
    waits_for: Ready,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        files::room_up_to(CONNECTIONS)?;
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Ready::IN)?;
        Ok(Self {
            listener,
            poll,
            connections: Vec::new(),
            free: Vec::new(),
            runs: Runs::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// When no more connections can be accepted. A connection that fails is told on stderr and closed.
    pub fn run(mut self) -> Result<()> {
        loop {
            let events = self.poll.wait(None)?;
            for event in 0..events {
                match self.poll.event(event).0 {
                    LISTENER => self.accept()?,
                    token => self.step(token - 1),
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        for _ in 0..TURN {
            let Some(stream) = stream::accept(&self.listener)? else {
                break;
            };
            let index = self.free.pop().unwrap_or(self.connections.len());
            self.poll.add(&stream, index + 1, Ready::IN)?;
            let connection = Some(Connection {
                session: Session::new(stream),
                waits_for: Ready::IN,
            });
            match self.connections.get_mut(index) {
                Some(slot) => *slot = connection,
                None => self.connections.push(connection),
            }
        }
        Ok(())
    }

    /// Goes on with a connection that is ready. The event may be meant for an earlier connection in this
    /// place: a step that finds nothing to do does nothing.
    fn step(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let stepped = match connection.session.step() {
            Ok(Next::Wait(ready)) if ready == connection.waits_for => return,
            Ok(Next::Wait(ready)) => {
                connection.waits_for = ready;
                let watched = self
                    .poll
                    .modify(&connection.session.stream, index + 1, ready);
                if watched.is_ok() {
                    return;
                }
                watched
            }
            Ok(Next::Close) => Ok(()),
            Ok(Next::Transfer(request)) => self.transfer(index, request),
            Err(error) => Err(error),
        };
        let closed = self.connections[index].take();
        self.free.push(index);
        if let Err(error) = stepped {
            let peer = closed.and_then(|c| c.session.stream.peer_addr().ok());
            let peer = peer.map_or_else(|| "a client".into(), |peer| peer.to_string());
            eprintln!("lab-load: the connection from {peer}: {error:#}");
        }
    }

    /// Hands a connection to a thread.
    fn transfer(&mut self, index: usize, request: Request) -> Result<()> {
        let Some(connection) = self.connections[index].take() else {
            return Ok(());
        };
        let stream = connection.session.stream;
        self.poll.remove(&stream)?;
        transfer::spawn(stream, request, &self.runs)
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
