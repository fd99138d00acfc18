//! The access log: JSON, one object per line, written by a thread of its own.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait for the disk before new lines are dropped and counted.
const QUEUE: usize = 8 << 20;
/// Lines that come within this time are written together, which is one wake-up for all of them.
const GATHER: Duration = Duration::from_millis(20);
/// The last lines are written within this time when the agent ends.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(2);

/// Handle to the access log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    dropped: u64,
    /// No more lines come.
    closed: bool,
    /// The writer has written all of them.
    finished: bool,
}

impl AccessLog {
    /// Opens `target`: a file to append to, or `-` for standard output.
    ///
    /// # Errors
    /// When the file cannot be opened or the writer thread cannot be started.
    pub fn open(target: &str) -> std::io::Result<Self> {
        let out: Box<dyn Write + Send> = if target == "-" {
            Box::new(std::io::stdout())
        } else {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(target)
                .map_err(|e| {
                    std::io::Error::new(e.kind(), format!("--access-log {target}: {e}"))
                })?;
            Box::new(file)
        };
        let shared = Arc::new(Shared::default());
        let log = Self(shared.clone());
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(out, &shared))?;
        Ok(log)
    }

    /// Queues one line (without its newline); never waits for the disk.
    pub fn line(&self, line: &str) {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() >= QUEUE {
            state.dropped += 1;
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line.as_bytes());
        state.waiting.push(b'\n');
        drop(state);
        if first {
            self.0.changed.notify_all();
        }
    }

    /// Lines dropped because the disk did not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Waits until every line is written, for 2 s at most. Lines that come later are lost.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        self.0.changed.notify_all();
        let _ = self
            .0
            .changed
            .wait_timeout_while(state, LAST_LINES_WITHIN, |state| !state.finished);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what waits, once something does; none when the log is closed and empty.
    fn take(&self, spare: Vec<u8>) -> Option<Vec<u8>> {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self
            .changed
            .wait_while(self.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            drop(state);
            std::thread::sleep(GATHER);
            state = self.lock();
        }
        let lines = std::mem::replace(&mut state.waiting, spare);
        (!lines.is_empty()).then_some(lines)
    }
}

fn write_lines(mut out: impl Write, shared: &Shared) {
    let mut spare = Vec::new();
    while let Some(mut lines) = shared.take(spare) {
        if let Err(e) = out.write_all(&lines).and_then(|()| out.flush()) {
            tracing::error!("access log: cannot write: {e}; lines are lost until this is repaired");
        }
        lines.clear();
        spare = lines;
    }
    shared.lock().finished = true;
    shared.changed.notify_all();
}
