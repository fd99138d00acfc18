//! The access log: JSON, one object per line, written by a thread of its own.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

/// Lines that may wait for the disk before new ones are dropped and counted.
const QUEUE_LINES: usize = 8192;
/// A quiet log is flushed at least this often.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Handle to the access log. Cheap to clone; the writer stops when the last handle is gone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<String>,
    dropped: Arc<AtomicU64>,
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
        let (queue, lines) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(BufWriter::new(out), &lines))?;
        Ok(Self {
            queue,
            dropped: Arc::default(),
        })
    }

    /// Queues one line (without its newline); never blocks.
    pub fn line(&self, line: String) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped because the disk did not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write_lines(mut out: impl Write, lines: &Receiver<String>) {
    let mut dirty = false;
    loop {
        let next = lines.recv_timeout(FLUSH_EVERY);
        let failed = match next {
            Ok(line) => {
                dirty = true;
                writeln!(out, "{line}").err()
            }
            Err(RecvTimeoutError::Timeout) if dirty => {
                dirty = false;
                out.flush().err()
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let _ = out.flush();
                return;
            }
        };
        if let Some(e) = failed {
            tracing::error!("access log: cannot write: {e}; lines are lost until this is repaired");
        }
    }
}
