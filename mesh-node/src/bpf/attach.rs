//! Attaches programs by pinned links, and renews them without a gap.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::error::DatapathError;
use super::load::Loaded;
use super::pins;
use crate::sys::bpf::{AttachType, Link};

/// What a program is attached to.
pub(super) struct Target<'a> {
    /// Its name, for people.
    pub(super) name: String,
    /// The cgroup's directory or the network namespace.
    pub(super) fd: BorrowedFd<'a>,
    /// The cgroup's id or the namespace's inode.
    pub(super) id: u64,
}

/// Attaches a program by a pinned link; an existing link to the same target gets the new program
/// without a gap, one to anything else is removed.
pub(super) fn attach_pinned(
    pin: &Path,
    name: &'static str,
    at: AttachType,
    loaded: &Loaded,
    target: &Target<'_>,
) -> Result<(), DatapathError> {
    let attach_failed = |source| DatapathError::Attach(name, target.name.clone(), source);
    let pin_failed = |source| DatapathError::Pin(pin.to_owned(), source);
    if pin.exists() {
        let link = Link::from_pin(pin).map_err(pin_failed)?;
        if link.target().map_err(pin_failed)? == Some(target.id) {
            return link.replace_program(loaded).map_err(attach_failed);
        }
        pins::remove_link(pin)?;
    }
    let link = Link::attach(loaded, target.fd, at).map_err(attach_failed)?;
    link.pin(pin).map_err(pin_failed)
}
