//! Moves bytes both ways between a TCP connection and a tunnel stream, or between two TCP connections.
//!
//! Guarantees: an end of stream is passed on as one and leaves the other direction open; a reset, or
//! a broken tunnel, becomes a reset on the other side; a side that does not read stops the other
//! side's reading, so one connection never holds more than its windows and one buffer per direction.
//! An idle connection holds no buffer.

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use std::future::poll_fn;
use std::io;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;

use super::dial;
use crate::hbone::Stream;
use crate::observe::Traffic;

const SMALLEST: usize = 8 << 10;
const LARGEST: usize = 256 << 10;

/// A connection that did not end with an end of stream from both sides.
#[derive(Debug, Error)]
pub(super) enum RelayError {
    #[error("the client's connection broke: {0}")]
    Client(io::Error),
    #[error("the server's connection broke: {0}")]
    Server(io::Error),
    #[error("the tunnel stream was reset: {0}")]
    Tunnel(h2::Error),
    #[error("the peer reset the tunnel stream: {0}")]
    Reset(Reason),
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

/// How much to read at once: grows while reads fill it, shrinks when they do not.
#[derive(Debug)]
struct ReadSize(usize);

impl ReadSize {
    fn adapt(&mut self, read: usize) {
        if read >= self.0 {
            self.0 = (self.0 * 2).min(LARGEST);
        } else if read < self.0 / 4 {
            self.0 = (self.0 / 2).max(SMALLEST);
        }
    }
}

/// Relays until both directions ended or one broke. On an error, and when the future is dropped,
/// both sides are reset.
pub(super) async fn tunnel(
    mut tcp: TcpStream,
    stream: Stream,
    side: TcpSide,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    let mut tcp = Resetting::new(&mut tcp);
    let Stream { mut send, mut recv } = stream;
    let received_all = Notify::new();
    let result = {
        let (read, write) = tcp.stream.split();
        let up = async {
            upload(read, &mut send, side, traffic).await?;
            tokio::select! {
                () = received_all.notified() => Ok(()),
                reset = poll_fn(|cx| send.poll_reset(cx)) => match reset {
                    Ok(reason) => Err(RelayError::Reset(reason)),
                    Err(e) => Err(RelayError::Tunnel(e)),
                },
            }
        };
        let down = async {
            download(&mut recv, write, side, traffic).await?;
            received_all.notify_one();
            Ok(())
        };
        tokio::try_join!(up, down)
    };
    match result {
        Ok(_) => {
            tcp.disarm();
            Ok(())
        }
        Err(e) => {
            send.send_reset(Reason::CANCEL);
            Err(e)
        }
    }
}

/// A TCP connection that is reset when dropped, unless it ended well.
struct Resetting<'a> {
    stream: &'a mut TcpStream,
    armed: bool,
}

impl<'a> Resetting<'a> {
    fn new(stream: &'a mut TcpStream) -> Self {
        Self {
            stream,
            armed: true,
        }
    }

    fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for Resetting<'_> {
    fn drop(&mut self) {
        if self.armed {
            dial::reset_on_close(self.stream);
        }
    }
}

/// TCP to tunnel. A buffer exists only between a readable socket and the tunnel's send queue.
async fn upload(
    tcp: ReadHalf<'_>,
    send: &mut SendStream<Bytes>,
    side: TcpSide,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    let mut size = ReadSize(SMALLEST);
    loop {
        tokio::select! {
            ready = tcp.readable() => ready.map_err(|e| side.broke(e))?,
            reset = poll_fn(|cx| send.poll_reset(cx)) => {
                return Err(match reset {
                    Ok(reason) => RelayError::Reset(reason),
                    Err(e) => RelayError::Tunnel(e),
                });
            }
        }
        let granted = capacity(send, size.0).await?;
        let mut buffer = BytesMut::with_capacity(granted.min(size.0));
        match tcp.try_read_buf(&mut buffer) {
            Ok(0) => {
                return send
                    .send_data(Bytes::new(), true)
                    .map_err(RelayError::Tunnel);
            }
            Ok(read) => {
                side.count_read(traffic, read);
                size.adapt(read);
                send.send_data(buffer.freeze(), false)
                    .map_err(RelayError::Tunnel)?;
                if read < granted {
                    // What was reserved and not used belongs to the tunnel's other streams.
                    send.reserve_capacity(0);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => send.reserve_capacity(0),
            Err(e) => return Err(side.broke(e)),
        }
    }
}

/// Waits until the peer's windows and the send queue take at least one byte.
async fn capacity(send: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, RelayError> {
    send.reserve_capacity(wanted);
    loop {
        let granted = send.capacity();
        if granted > 0 {
            return Ok(granted);
        }
        match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(e)) => return Err(RelayError::Tunnel(e)),
            None => return Err(RelayError::Reset(Reason::STREAM_CLOSED)),
        }
    }
}

/// Tunnel to TCP. The window opens again only for what the TCP side has taken.
async fn download(
    recv: &mut RecvStream,
    mut tcp: WriteHalf<'_>,
    side: TcpSide,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    while let Some(data) = recv.data().await {
        let data = data.map_err(RelayError::Tunnel)?;
        let length = data.len();
        tcp.write_all(&data).await.map_err(|e| side.broke(e))?;
        side.count_written(traffic, length);
        recv.flow_control()
            .release_capacity(length)
            .map_err(RelayError::Tunnel)?;
    }
    tcp.shutdown().await.map_err(|e| side.broke(e))
}

/// Relays between two TCP connections, with the same guarantees.
pub(super) async fn tcp(
    mut client: TcpStream,
    mut server: TcpStream,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    let mut client = Resetting::new(&mut client);
    let mut server = Resetting::new(&mut server);
    let (client_read, client_write) = client.stream.split();
    let (server_read, server_write) = server.stream.split();
    let to_server = copy(client_read, server_write, TcpSide::Client, traffic);
    let to_client = copy(server_read, client_write, TcpSide::Server, traffic);
    tokio::try_join!(to_server, to_client)?;
    client.disarm();
    server.disarm();
    Ok(())
}

async fn copy(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    read_side: TcpSide,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    let write_side = match read_side {
        TcpSide::Client => TcpSide::Server,
        TcpSide::Server => TcpSide::Client,
    };
    let mut size = ReadSize(SMALLEST);
    loop {
        from.readable().await.map_err(|e| read_side.broke(e))?;
        let mut buffer = BytesMut::with_capacity(size.0);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return to.shutdown().await.map_err(|e| write_side.broke(e)),
            Ok(read) => {
                size.adapt(read);
                to.write_all(&buffer)
                    .await
                    .map_err(|e| write_side.broke(e))?;
                read_side.count_read(traffic, read);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(read_side.broke(e)),
        }
    }
}
