//! Memory that a burst took goes back to the system once the burst is over.
//!
//! The allocator keeps for each thread what was freed of its memory until that thread uses it again. First
//! syncs to many nodes take a lot for a short time, on every thread, and what follows takes little. So once
//! it is quiet, each worker gives back what it keeps, the next time it has nothing to do.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// It is looked this often for the end of a burst.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// More bytes sent in that time are a burst.
const BURST: u64 = 1 << 20;

/// How often memory was to be given back.
static DUE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// How often this thread has done it.
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// A runtime whose workers give memory back. Without one the rest of this module does nothing.
///
/// # Errors
/// When threads or the poller cannot be had.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(give_back_if_due)
        .build()
}

/// Has memory given back after each burst of what is sent, and after the first state was compiled.
pub(crate) async fn follow(metrics: Metrics, stop: CancellationToken) {
    let mut sent = metrics.sent_so_far();
    // What was compiled before counts as one.
    let mut burst = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = metrics.sent_so_far();
        if now - sent > BURST {
            burst = true;
        } else if std::mem::take(&mut burst) {
            DUE.fetch_add(1, Ordering::Release);
            wake_workers();
        }
        sent = now;
    }
}

/// A worker that has nothing to do is not woken by time alone.
fn wake_workers() {
    for _ in 0..2 * Handle::current().metrics().num_workers() {
        tokio::spawn(std::future::ready(()));
    }
}

fn give_back_if_due() {
    let due = DUE.load(Ordering::Acquire);
    if DONE.replace(due) != due {
        collect();
    }
}

#[expect(unsafe_code, reason = "the allocator's interface is C")]
fn collect() {
    // SAFETY: may be called by any thread at any time; it frees nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
