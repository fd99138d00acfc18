//! A small readiness loop over epoll.

use anyhow::{Context as _, Result};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::Instant;

pub(super) use rustix::event::epoll::EventFlags as Ready;

/// How many events one wait brings at most.
const BATCH: usize = 256;

/// Sockets that are watched, each under a token.
pub(super) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// Watches nothing yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("cannot create an epoll")?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Watches a socket until it is closed or removed.
    pub(super) fn add(&self, socket: impl AsFd, token: usize, ready: Ready) -> Result<()> {
        epoll::add(&self.epoll, socket, data(token), ready).context("cannot watch a socket")
    }

    /// Watches for something else.
    pub(super) fn modify(&self, socket: impl AsFd, token: usize, ready: Ready) -> Result<()> {
        epoll::modify(&self.epoll, socket, data(token), ready).context("cannot watch a socket")
    }

    /// Watches a socket no more.
    pub(super) fn remove(&self, socket: impl AsFd) -> Result<()> {
        epoll::delete(&self.epoll, socket).context("cannot stop watching a socket")
    }

    /// Waits until a socket is ready or the time has come; returns how many events there are.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> Result<usize> {
        self.events.clear();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left
            .map(Timespec::try_from)
            .transpose()
            .context("the time is too far away")?;
        let events = spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error).context("cannot wait for sockets"),
        }
    }

    /// The token and the readiness of one event of the last wait.
    pub(super) fn event(&self, index: usize) -> (usize, Ready) {
        let event = self.events[index];
        let token = event.data.u64();
        // Tokens were `usize` when they came in.
        (token as usize, event.flags)
    }
}

fn data(token: usize) -> EventData {
    EventData::new_u64(token as u64)
}
