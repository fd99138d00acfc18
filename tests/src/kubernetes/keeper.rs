//! Starts processes that end with this one, however it ends.
//!
//! The kernel sends the signal when the *thread* that started them ends. A test has a thread of its own,
//! so the starter is one thread that never ends.

use crate::process::Process;
use anyhow::{Context as _, Result, anyhow};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{OnceLock, mpsc};
use std::thread;

struct Order {
    command: Command,
    log: PathBuf,
    answer: mpsc::Sender<Result<Process>>,
}

/// Starts a command, which must ask for the signal itself (`setpriv --pdeathsig`).
pub(super) fn spawn(command: Command, log: &Path) -> Result<Process> {
    let (answer, answered) = mpsc::channel();
    let order = Order {
        command,
        log: log.to_owned(),
        answer,
    };
    starter()
        .send(order)
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    answered.recv().context("no answer from the starter")?
}

fn starter() -> &'static mpsc::Sender<Order> {
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    STARTER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for order in received {
                // A caller that is gone needs no answer.
                let _ = order.answer.send(Process::spawn(order.command, &order.log));
            }
        });
        orders
    })
}
