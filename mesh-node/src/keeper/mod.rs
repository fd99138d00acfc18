//! The keeper: a process that holds descriptors of every pod's listening sockets and does nothing else.
//!
//! While it lives, a listener does not close when the agent crashes: connections wait in its backlog until the
//! agent is back and takes the listeners up again. It knows nothing of pods, policy or the mesh, so that there
//! is nothing in it to upgrade or to crash.

mod client;
mod server;

pub use client::{Keeper, Taken};
pub use server::run;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One request or answer is sent and read within this time.
const WITHIN: Duration = Duration::from_secs(5);

/// What the agent asks; one request for each connection.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    /// Hold these sockets, which come along, in place of those held under this cookie.
    Keep { cookie: u64 },
    /// Let go of those under this cookie.
    Drop { cookie: u64 },
    /// Name the cookies.
    List,
    /// Hand out a copy of everything, one message for each cookie, then [`Answer::Done`].
    Take,
    /// Another agent has taken over: let go of everything, and say so to whoever asks later.
    Supersede,
}

/// What the keeper says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// Sockets, which come along.
    Sockets { cookie: u64 },
    /// The cookies.
    Cookies(Vec<u64>),
    /// Done.
    Done { superseded: bool },
    /// Not done, and why.
    Error(String),
}
