//! The transport of the library's end: bytes in memory, read and written in random pieces.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Cheap to clone: both ends hold one.
#[derive(Clone)]
pub(crate) struct Pipe(Rc<RefCell<State>>);

struct State {
    to_library: VecDeque<u8>,
    from_library: VecDeque<u8>,
    /// We send no more.
    ended: bool,
    /// The library sends no more.
    library_ended: bool,
    reader: Option<Waker>,
    rng: StdRng,
}

impl Pipe {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            to_library: VecDeque::new(),
            from_library: VecDeque::new(),
            ended: false,
            library_ended: false,
            reader: None,
            rng: StdRng::seed_from_u64(seed),
        })))
    }

    /// Moves some of `bytes` to the library.
    pub(crate) fn push(&self, bytes: &mut Vec<u8>) {
        let mut state = self.0.borrow_mut();
        let length = piece(&mut state.rng, bytes.len());
        state.to_library.extend(bytes.drain(..length));
        state.wake();
    }

    /// We send no more.
    pub(crate) fn end(&self) {
        let mut state = self.0.borrow_mut();
        state.ended = true;
        state.wake();
    }

    /// Some of what the library has sent.
    pub(crate) fn pop(&self) -> Vec<u8> {
        let mut state = self.0.borrow_mut();
        let length = state.from_library.len();
        let length = piece(&mut state.rng, length);
        state.from_library.drain(..length).collect()
    }

    /// Whether nothing is on its way in either direction.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.0.borrow();
        state.to_library.is_empty() && state.from_library.is_empty()
    }

    pub(crate) fn library_ended(&self) -> bool {
        self.0.borrow().library_ended
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// How much of `available` bytes passes at once: often little, sometimes all.
pub(crate) fn piece(rng: &mut StdRng, available: usize) -> usize {
    let most = match rng.random_range(0..8) {
        0 => 12,
        1..4 => 1500,
        4..7 => 20_000,
        _ => usize::MAX,
    };
    rng.random_range(0..=available.min(most))
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        if state.to_library.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let available = state.to_library.len().min(buf.remaining());
        let length = piece(&mut state.rng, available).max(1);
        let bytes: Vec<u8> = state.to_library.drain(..length).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        let length = piece(&mut state.rng, bytes.len());
        if length == 0 && !bytes.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        state.from_library.extend(bytes.iter().take(length));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().library_ended = true;
        Poll::Ready(Ok(()))
    }
}
