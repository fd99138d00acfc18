//! Drain in two steps: stop taking new work, then, at a deadline, end what is left.

use tokio_util::sync::CancellationToken;

/// Tells tasks that they should finish, and later that they must. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    started: CancellationToken,
    expired: CancellationToken,
}

impl Drain {
    /// A drain that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of this drain that can also be drained alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            started: self.started.child_token(),
            expired: self.expired.child_token(),
        }
    }

    /// Starts: no new connections, GOAWAY on tunnels.
    pub fn start(&self) {
        self.started.cancel();
    }

    /// Ends what is left, at once.
    pub fn expire(&self) {
        self.start();
        self.expired.cancel();
    }

    /// Whether the drain has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.is_cancelled()
    }

    /// Completes once the drain has started.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Completes once the deadline has passed.
    pub async fn expired(&self) {
        self.expired.cancelled().await;
    }
}
