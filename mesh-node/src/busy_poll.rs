//! Looks for the next small message for a moment before a thread sleeps.
//!
//! To sleep and be woken costs more than a small message does: tens of microseconds where the processor
//! has to leave its idle state. A thread that was woken soon after it fell asleep therefore stays awake a
//! little longer the next time, and less long when that did not pay, as hypervisors do with a
//! halted guest. It gives the processor away between looks. With many messages at once there is
//! nothing to gain, and it sleeps as usual.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// The first time to stay awake.
const SHORTEST: Duration = Duration::from_micros(10);
/// A message of fewer bytes than this is small.
const SMALL: usize = 4 << 10;
/// More messages than this in one turn are many.
const FEW: u32 = 4;

thread_local! {
    /// Small messages since this was last looked at.
    static MESSAGES: Cell<u32> = const { Cell::new(0) };
    static ASLEEP: Cell<Option<Waker>> = const { Cell::new(None) };
}

/// Notes that `bytes` of application data came on this thread.
pub(crate) fn note(bytes: usize) {
    if bytes == 0 || bytes >= SMALL {
        return;
    }
    MESSAGES.set(MESSAGES.get().saturating_add(1));
    if let Some(waker) = ASLEEP.take() {
        waker.wake();
    }
}

/// Keeps this thread awake for at most `longest` at a time, while that pays. Never completes.
pub(crate) async fn run(longest: Duration) {
    let mut window = Duration::ZERO;
    loop {
        let asleep = Instant::now();
        messages().await;
        window = if asleep.elapsed() < longest {
            (window * 2).clamp(SHORTEST.min(longest), longest)
        } else if window > SHORTEST {
            window / 2
        } else {
            Duration::ZERO
        };
        while MESSAGES.take() <= FEW && window > Duration::ZERO && more_within(window).await {}
    }
}

/// Waits for a message, asleep.
async fn messages() {
    poll_fn(|cx| {
        if MESSAGES.get() > 0 {
            return Poll::Ready(());
        }
        ASLEEP.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Waits for a message, awake; whether one came in time.
async fn more_within(window: Duration) -> bool {
    let start = Instant::now();
    loop {
        std::thread::yield_now();
        tokio::task::yield_now().await;
        if MESSAGES.get() > 0 {
            return true;
        }
        if start.elapsed() > window {
            return false;
        }
    }
}
