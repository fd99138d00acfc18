//! A connected TCP socket, for the data plane.
//!
//! It is tokio's readiness without tokio's own reads and writes: a read that came back short is known to
//! have emptied the socket, which saves the system call that would find out.

use socket2::SockRef;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::watch_stream;

/// How TCP paces what it sends: an algorithm of the kernel by its name, or the node's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CongestionControl(Option<Box<str>>);

impl CongestionControl {
    /// For connections within one network namespace, where nothing is congested: without pacing
    /// timers, which some defaults bring.
    #[must_use]
    pub fn local() -> Self {
        Self(Some("cubic".into()))
    }

    /// Applies to a socket, or to those that a listener will accept.
    ///
    /// # Errors
    /// When the kernel does not have the algorithm.
    pub fn apply(&self, socket: &socket2::Socket) -> io::Result<()> {
        match &self.0 {
            Some(name) => socket.set_tcp_congestion(name.as_bytes()),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for CongestionControl {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "system" {
            return Ok(Self(None));
        }
        let control = Self(Some(name.into()));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        match socket.and_then(|socket| control.apply(&socket)) {
            Ok(()) => Ok(control),
            Err(e) => Err(format!(
                "the kernel refuses congestion control {name:?}: {e}; \
                 see `sysctl net.ipv4.tcp_available_congestion_control`, or say `system`"
            )),
        }
    }
}

/// A TCP connection in non-blocking mode, registered with the runtime of this thread.
#[derive(Debug)]
pub struct Socket(AsyncFd<TcpStream>);

impl Socket {
    /// Registers a connected socket that is in non-blocking mode.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn from_nonblocking(stream: TcpStream) -> io::Result<Self> {
        Ok(Self(watch_stream(stream)?))
    }

    /// Connects a non-blocking socket.
    ///
    /// # Errors
    /// What connect() says, at once or later.
    pub async fn connect(socket: socket2::Socket, to: SocketAddr) -> io::Result<Self> {
        let to = to.into();
        let in_progress = |result: io::Result<()>| match result {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINPROGRESS | libc::EALREADY)) => {
                Ok(true)
            }
            result => result.map(|()| false),
        };
        // Within one host the answer comes while the first call returns; the second one tells it.
        if in_progress(socket.connect(&to))? && in_progress(socket.connect(&to))? {
            let socket = Self(watch_stream(socket.into())?);
            socket.0.writable().await?.retain_ready();
            return match socket.get().take_error()? {
                Some(error) => Err(error),
                None => Ok(socket),
            };
        }
        Ok(Self(watch_stream(socket.into())?))
    }

    /// The socket itself, for options and addresses.
    #[must_use]
    pub fn get(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Reads into `buffers`, which take `wanted` bytes in all. Zero bytes are the end of the stream;
    /// with some, true tells that nothing but the end follows.
    pub fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        wanted: usize,
    ) -> Poll<io::Result<(usize, bool)>> {
        self.poll_read_with(cx, wanted, |mut stream| stream.read_vectored(buffers))
    }

    /// Reads into `buffer`; zero is the end of the stream.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.poll_read_with(cx, buffer.len(), |mut stream| stream.read(buffer));
        read.map_ok(|(read, _)| read)
    }

    fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        wanted: usize,
        mut read: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<(usize, bool)>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            // Known before the read: all that the peer ever sent had come by then.
            let ended = guard.ready().is_read_closed();
            match read(self.get()) {
                Ok(n) => {
                    let emptied = n > 0 && n < wanted && !self.has_been_urgent();
                    if emptied {
                        // An end of stream that has been seen stays visible.
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok((n, emptied && ended)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Whether urgent data came at any time: a read ends before it, although there may be more behind.
    fn has_been_urgent(&self) -> bool {
        self.0.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    /// Completes when the connection has broken, also while nobody reads or writes.
    pub async fn broken(self: Rc<Self>) -> io::Error {
        let error = match self.0.ready(Interest::ERROR).await {
            Ok(_) => self.get().take_error().unwrap_or_else(Some),
            Err(error) => Some(error),
        };
        error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    /// Writes what the kernel takes at once; `WouldBlock` when that is nothing.
    ///
    /// # Errors
    /// What the socket says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.get().write(bytes)
    }

    /// Writes what the kernel takes of `buffers` at once; `WouldBlock` when that is nothing.
    ///
    /// # Errors
    /// What the socket says.
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.get().write_vectored(buffers)
    }

    /// As [`Self::try_write_vectored`], for what [`Self::finish`] follows at once: the kernel keeps the
    /// last segment back for the FIN, so that one packet carries both.
    ///
    /// # Errors
    /// What the socket says.
    pub fn try_write_last(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        SockRef::from(self.get()).send_vectored_with_flags(buffers, flags)
    }

    /// Writes `buffers` with `write`, once the kernel takes any of it.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write_vectored(buffers) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_writable(cx))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Completes once the socket takes bytes again. Only to be asked right after `WouldBlock`.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is known from before has just been found to be wrong.
        ready!(self.0.poll_write_ready(cx))?.clear_ready();
        ready!(self.0.poll_write_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Reads at least one byte, or zero at the end of the stream.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written =
                std::future::poll_fn(|cx| self.poll_write_vectored(cx, &[IoSlice::new(bytes)]))
                    .await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends FIN.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn finish(&self) -> io::Result<()> {
        self.get().shutdown(Shutdown::Write)
    }

    /// Makes the close a reset.
    pub fn reset_on_close(&self) {
        let _ = SockRef::from(self.get()).set_linger(Some(Duration::ZERO));
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.reset_on_close();
    }
}
