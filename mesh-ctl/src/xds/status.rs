//! What each connected client was sent and what it said to that, for people.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_common::admin::controller::NodeReport;
use mesh_common::proto::xds::Status;
use serde_json::{Value, json};

use crate::resources::Kind;

/// A refusal longer than this is cut.
const MAX_REASON: usize = 1024;

/// One response.
#[derive(Clone, Debug)]
pub struct Push {
    /// Of the world that it was made of.
    pub generation: u64,
    /// How many resources it had.
    pub resources: usize,
    /// How many names it removed.
    pub removed: usize,
    /// Its length.
    pub bytes: u64,
    /// When it was made.
    pub at: SystemTime,
}

/// What a client was sent of one kind.
#[derive(Clone, Debug, Default)]
pub struct KindStatus {
    /// It wants everything.
    pub wildcard: bool,
    /// How many names it asked for.
    pub names: usize,
    /// How many responses it was sent.
    pub pushes: u64,
    /// The last one.
    pub last: Option<Push>,
    /// The generation of the last one that it answered, well or not.
    pub answered: u64,
    /// The last refusal, and when it came.
    pub refused: Option<(String, SystemTime)>,
}

impl KindStatus {
    pub(super) fn sent(&mut self, push: Push) {
        self.pushes += 1;
        self.last = Some(push);
    }

    pub(super) fn answered(&mut self, refusal: Option<&Status>) {
        self.answered = self.last.as_ref().map_or(0, |push| push.generation);
        if let Some(refusal) = refusal {
            let reason: String = refusal.message.chars().take(MAX_REASON).collect();
            self.refused = Some((reason, SystemTime::now()));
        }
    }

    fn in_sync(&self) -> bool {
        let last = self.last.as_ref();
        last.is_none_or(|push| push.generation == self.answered)
    }

    /// Why the last push was refused, if it was.
    fn refusal(&self) -> Option<&str> {
        let (reason, at) = self.refused.as_ref()?;
        let of_last = self.last.as_ref().is_some_and(|push| push.at <= *at);
        of_last.then_some(reason)
    }

    fn json(&self) -> Value {
        let push = |push: &Push| {
            json!({
                "generation": push.generation, "resources": push.resources, "removed": push.removed,
                "bytes": push.bytes, "at": seconds(push.at),
            })
        };
        let refused =
            |(reason, at): &(String, SystemTime)| json!({"reason": reason, "at": seconds(*at)});
        json!({
            "wildcard": self.wildcard,
            "names": self.names,
            "pushes": self.pushes,
            "lastPush": self.last.as_ref().map(push),
            "answeredGeneration": self.answered,
            "lastRefusal": self.refused.as_ref().map(refused),
        })
    }
}

/// What is known of one client.
#[derive(Debug, Default)]
pub(super) struct ClientStatus {
    pub(super) caller: String,
    /// The node that its token is of.
    pub(super) caller_node: String,
    pub(super) address: Option<SocketAddr>,
    pub(super) node: String,
    pub(super) since: Option<SystemTime>,
    pub(super) kinds: [KindStatus; 3],
}

impl ClientStatus {
    fn report(&self) -> NodeReport {
        let refusal = self.kinds.iter().find_map(KindStatus::refusal);
        let since = self.since.unwrap_or(UNIX_EPOCH);
        NodeReport {
            node: self.caller_node.clone(),
            address: self.address,
            connected: humantime::format_rfc3339_seconds(since).to_string(),
            in_sync: self.kinds.iter().all(KindStatus::in_sync),
            refusal: refusal.map(str::to_owned),
        }
    }

    fn json(&self) -> Value {
        let kinds = Kind::ALL.iter().zip(&self.kinds);
        let kinds = kinds.map(|(kind, status)| (kind.label().to_owned(), status.json()));
        json!({
            "caller": self.caller,
            "address": self.address.map(|address| address.to_string()),
            "node": self.node,
            "connectedAt": self.since.map(seconds),
            "types": Value::Object(kinds.collect()),
        })
    }
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// All connected clients; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    clients: Mutex<BTreeMap<u64, Arc<Mutex<ClientStatus>>>>,
    next: AtomicU64,
}

impl Clients {
    /// A client that is connected until the value is dropped.
    pub(super) fn connected(&self, status: ClientStatus) -> Connected {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let status = Arc::new(Mutex::new(status));
        let mut clients = self
            .0
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients.insert(id, Arc::clone(&status));
        Connected {
            id,
            status,
            all: self.clone(),
        }
    }

    /// As JSON, the longest connected first.
    pub fn json(&self) -> Value {
        self.each(ClientStatus::json)
    }

    /// In short, the longest connected first.
    pub fn report(&self) -> Vec<NodeReport> {
        self.each(ClientStatus::report)
    }

    fn each<T, C: FromIterator<T>>(&self, one: impl Fn(&ClientStatus) -> T) -> C {
        let clients: Vec<_> = {
            let clients = self
                .0
                .clients
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            clients.values().cloned().collect()
        };
        let one = |status: Arc<Mutex<ClientStatus>>| {
            one(&status.lock().unwrap_or_else(PoisonError::into_inner))
        };
        clients.into_iter().map(one).collect()
    }
}

/// One connected client.
#[derive(Debug)]
pub(super) struct Connected {
    id: u64,
    status: Arc<Mutex<ClientStatus>>,
    all: Clients,
}

impl Connected {
    pub(super) fn update(&self, change: impl FnOnce(&mut ClientStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut clients = (self.all.0.clients.lock()).unwrap_or_else(PoisonError::into_inner);
        clients.remove(&self.id);
    }
}
