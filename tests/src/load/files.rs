//! Room for many sockets in one process.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process needs besides its connections.
const SPARE: u64 = 64;

/// Raises this process's limit of open files so that it can hold this many sockets.
///
/// # Errors
/// When the hard limit is lower and may not be raised.
pub(super) fn room_for(sockets: usize) -> Result<()> {
    let need = u64::try_from(sockets)?.saturating_add(SPARE);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(need),
        maximum: limit.maximum.map(|maximum| maximum.max(need)),
    };
    setrlimit(Resource::Nofile, raised).with_context(|| {
        let hard = limit.maximum.unwrap_or_default();
        format!("{sockets} sockets need {need} open files and the hard limit is {hard}: raise it (`ulimit -Hn {need}`) or run as root")
    })
}

/// Raises the limit to `sockets` when that is allowed, else as far as it goes.
pub(super) fn room_up_to(sockets: usize) -> Result<()> {
    if room_for(sockets).is_ok() {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        bail!("cannot raise the limit of open files to the hard limit: {error}");
    }
    Ok(())
}
