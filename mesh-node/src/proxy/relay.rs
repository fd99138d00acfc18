//! Moves bytes both ways between a TCP connection and a tunnel stream, or between two TCP connections.
//!
//! Guarantees: an end of stream is passed on as one and leaves the other direction open; a reset, or
//! a broken tunnel, becomes a reset on the other side; a side that does not read stops the other
//! side's reading, so one connection never holds more than its windows and one buffer per direction.
//! An idle connection holds no buffer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;

use crate::hbone::{Reading, Stream, StreamError};
use crate::observe::Traffic;
use crate::socket::Socket;

#[cfg(test)]
mod tests;

/// Read at once from a connection that is relayed in the clear, bytes.
const READ: usize = 256 << 10;
/// Reads of one connection before others get their turn.
const READS: usize = 4;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection that did not end with an end of stream from both sides.
#[derive(Debug, Error)]
pub(super) enum RelayError {
    #[error("the client's connection broke: {0}")]
    Client(io::Error),
    #[error("the server's connection broke: {0}")]
    Server(io::Error),
    #[error("{0}")]
    Stream(StreamError),
}

/// Which end of the connection the TCP side of a tunnel relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpSide {
    Client,
    Server,
}

impl TcpSide {
    fn broke(self, error: io::Error) -> RelayError {
        match self {
            Self::Client => RelayError::Client(error),
            Self::Server => RelayError::Server(error),
        }
    }

    fn failed(self, error: StreamError) -> RelayError {
        match error {
            StreamError::Socket(error) => self.broke(error),
            error => RelayError::Stream(error),
        }
    }

    /// Counts bytes read from the TCP side.
    fn count_read(self, traffic: &Traffic, bytes: usize) {
        match self {
            Self::Client => traffic.from_client(bytes as u64),
            Self::Server => traffic.to_client(bytes as u64),
        }
    }

    /// Counts bytes written to the TCP side.
    fn count_written(self, traffic: &Traffic, bytes: usize) {
        match self {
            Self::Client => traffic.to_client(bytes as u64),
            Self::Server => traffic.from_client(bytes as u64),
        }
    }
}

/// A TCP connection that is reset when dropped, unless it ended well.
struct Resetting {
    socket: Rc<Socket>,
    armed: bool,
}

impl Resetting {
    fn new(socket: Socket) -> Self {
        Self {
            socket: Rc::new(socket),
            armed: true,
        }
    }
}

impl Drop for Resetting {
    fn drop(&mut self) {
        if self.armed {
            self.socket.reset_on_close();
        }
    }
}

/// Watches a socket that is not read for now, so that its reset is noticed all the same.
#[derive(Default)]
struct Unread(Option<Pin<Box<dyn Future<Output = io::Error>>>>);

impl Unread {
    fn check(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> io::Result<()> {
        let broken = || Box::pin(socket.clone().broken()) as Pin<Box<_>>;
        match self.0.get_or_insert_with(broken).as_mut().poll(cx) {
            Poll::Ready(error) => Err(error),
            Poll::Pending => Ok(()),
        }
    }
}

/// Relays until both directions ended or one broke. On an error, and when the future is dropped,
/// both sides are reset.
pub(super) async fn tunnel(
    socket: Socket,
    stream: Stream,
    side: TcpSide,
    traffic: &Arc<Traffic>,
) -> Result<(), RelayError> {
    let tcp = Resetting::new(socket);
    let counted = traffic.clone();
    stream.attach(tcp.socket.clone(), move |n| side.count_written(&counted, n));
    let mut relay = Tunnelled {
        tcp,
        stream,
        traffic,
        unread: Unread::default(),
        reading: Reading::default(),
        side,
        sent_all: false,
        received_all: false,
    };
    let result = poll_fn(|cx| relay.poll(cx)).await;
    relay.tcp.armed = match &result {
        Ok(()) => false,
        // A reset would take back what the kernel has not delivered yet. Without a tunnel the connection
        // is closed, and so is reset once the application sends more.
        Err(RelayError::Stream(StreamError::Tunnel(_))) => !relay.received_all,
        Err(_) => true,
    };
    result
}

/// A connection and its stream.
struct Tunnelled<'a> {
    tcp: Resetting,
    stream: Stream,
    traffic: &'a Traffic,
    unread: Unread,
    reading: Reading,
    side: TcpSide,
    sent_all: bool,
    received_all: bool,
}

impl Tunnelled<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let (stream, side) = (&self.stream, self.side);
        stream.remember(cx);
        if !self.received_all
            && let Poll::Ready(delivered) = stream.poll_deliver(cx)
        {
            delivered.map_err(|e| side.failed(e))?;
            // After the other direction has ended, closing says the same.
            if !self.sent_all {
                self.tcp.socket.finish().map_err(|e| side.broke(e))?;
            }
            self.received_all = true;
        }
        let mut reads = 0;
        while !self.sent_all
            && reads < READS
            && let Poll::Ready(read) =
                stream.poll_send_from(cx, &self.tcp.socket, &mut self.reading)
        {
            let read = read.map_err(|e| side.failed(e))?;
            side.count_read(self.traffic, read);
            self.sent_all = read == 0;
            reads += 1;
        }
        if self.sent_all && self.received_all {
            return Poll::Ready(Ok(()));
        }
        if self.sent_all || self.reading.is_stalled() {
            let checked = self.unread.check(cx, &self.tcp.socket);
            checked.map_err(|e| side.broke(e))?;
        }
        if reads == READS {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Relays between two TCP connections, with the same guarantees.
pub(super) async fn tcp(
    client: Socket,
    server: Socket,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    let mut client = Resetting::new(client);
    let mut server = Resetting::new(server);
    let mut up = Copying::new(TcpSide::Client);
    let mut down = Copying::new(TcpSide::Server);
    poll_fn(|cx| {
        let sent = up.poll(cx, &client.socket, &server.socket, traffic)?;
        let received = down.poll(cx, &server.socket, &client.socket, traffic)?;
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(Ok(()));
        }
        up.check(cx, &client.socket)?;
        down.check(cx, &server.socket)?;
        Poll::Pending
    })
    .await?;
    (client.armed, server.armed) = (false, false);
    Ok(())
}

/// One direction between two TCP connections.
struct Copying {
    from: TcpSide,
    /// What was read and is not written yet.
    rest: Vec<u8>,
    written: usize,
    done: bool,
    unread: Unread,
}

impl Copying {
    fn new(from: TcpSide) -> Self {
        Self {
            from,
            rest: Vec::new(),
            written: 0,
            done: false,
            unread: Unread::default(),
        }
    }

    /// Fails when the connection broke that is not read for now.
    fn check(&mut self, cx: &mut Context<'_>, from: &Rc<Socket>) -> Result<(), RelayError> {
        if self.done || !self.rest.is_empty() {
            let checked = self.unread.check(cx, from);
            checked.map_err(|e| self.from.broke(e))?;
        }
        Ok(())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Socket,
        to: &Socket,
        traffic: &Traffic,
    ) -> Result<Poll<()>, RelayError> {
        let write_side = match self.from {
            TcpSide::Client => TcpSide::Server,
            TcpSide::Server => TcpSide::Client,
        };
        for _ in 0..READS {
            if self.done {
                return Ok(Poll::Ready(()));
            }
            while let Some(rest) = self.rest.get(self.written..).filter(|r| !r.is_empty()) {
                match to.poll_write_vectored(cx, &[IoSlice::new(rest)]) {
                    Poll::Ready(n) => self.written += n.map_err(|e| write_side.broke(e))?,
                    Poll::Pending => return Ok(Poll::Pending),
                }
            }
            (self.rest, self.written) = (Vec::new(), 0);
            let read = SCRATCH.with_borrow_mut(|scratch| {
                if scratch.is_empty() {
                    *scratch = vec![0; READ];
                }
                let Poll::Ready(read) = from.poll_read(cx, scratch) else {
                    return Ok(Poll::Pending);
                };
                let read = read.map_err(|e| self.from.broke(e))?;
                self.from.count_read(traffic, read);
                let bytes = scratch.get(..read).unwrap_or_default();
                if read > 0 {
                    let written = match to.try_write(bytes) {
                        Ok(written) => written,
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                        Err(e) => return Err(write_side.broke(e)),
                    };
                    self.rest = bytes.get(written..).unwrap_or_default().to_vec();
                }
                Ok(Poll::Ready(read))
            })?;
            match read {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(0) => {
                    to.finish().map_err(|e| write_side.broke(e))?;
                    self.done = true;
                }
                Poll::Ready(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }
}
