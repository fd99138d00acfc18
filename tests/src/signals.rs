//! SIGINT and SIGTERM: the labs of this process are removed before it ends.

use crate::id::LabId;
use crate::janitor;
use anyhow::{Context as _, Result};
use std::sync::{Mutex, Once, PoisonError};
use tokio::signal::unix::{SignalKind, signal};

static LABS: Mutex<Vec<LabId>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// From now on a signal removes this lab too.
pub(crate) fn register(id: &LabId) -> Result<()> {
    let mut failure = None;
    WATCH.call_once(|| failure = watch().err());
    if let Some(error) = failure {
        return Err(error);
    }
    LABS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(id.clone());
    Ok(())
}

/// The lab is gone, or is to stay.
pub(crate) fn forget(id: &LabId) {
    LABS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|other| other != id);
}

fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    drop(entered);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let code = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                }
            });
            for id in LABS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                eprintln!("lab: removing {id}");
                if let Err(error) = janitor::remove(id) {
                    eprintln!("lab: {error:#}");
                }
            }
            std::process::exit(code);
        })?;
    Ok(())
}
