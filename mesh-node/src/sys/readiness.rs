//! Waits until a descriptor is readable, without reading it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells when a descriptor becomes readable.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// For the file that `descriptor` stands for. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Such a file cannot be waited for.
    pub fn of(descriptor: &impl AsFd) -> io::Result<Self> {
        let own = descriptor.as_fd().try_clone_to_owned()?;
        // SAFETY: an owned descriptor stays open, and the same one, until it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Completes when the file became readable since this was last called.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
