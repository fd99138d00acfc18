//! Tunnels by destination: shared while they last, dialled once however many wait for them.

use http::Request;
use mesh_common::identity::SpiffeId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{OpenError, Stream, Tunnel};

/// A tunnel without streams is released after this time.
const UNUSED_FOR: Duration = Duration::from_secs(300);
/// How often unused tunnels are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What a tunnel may be shared for: two connections share one only if all of it is equal, so a
/// stream never runs under another pod's identity or towards a peer it did not ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The identity presented.
    pub source: SpiffeId,
    /// The network namespace (its cookie) the tunnel is dialled from.
    pub source_netns: u64,
    /// The identities of which the peer must prove one.
    pub expected: Arc<[SpiffeId]>,
    /// Where the tunnel goes.
    pub destination: SocketAddr,
}

#[derive(Debug, Default)]
struct Slot {
    tunnels: Mutex<Vec<Arc<Tunnel>>>,
    /// Held while dialling; remembers the last failure for those who waited meanwhile.
    dialling: tokio::sync::Mutex<Option<(Instant, OpenError)>>,
}

impl Slot {
    fn reserve(self: &Arc<Self>) -> Option<Lease> {
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        tunnels.retain(|tunnel| tunnel.usable());
        tunnels
            .iter()
            .find(|tunnel| tunnel.reserve())
            .map(|tunnel| Lease(tunnel.clone()))
    }
}

/// A place on a tunnel; given back when dropped.
#[derive(Debug)]
pub struct Lease(Arc<Tunnel>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// All tunnels of this agent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    slots: Arc<Mutex<HashMap<Key, Arc<Slot>>>>,
}

impl Pool {
    /// Opens a stream on a pooled tunnel, or on one that `dial` makes. A pooled tunnel that turns
    /// out to be broken is replaced: no application byte was sent on it yet.
    ///
    /// # Errors
    /// [`OpenError`]; those who waited for one failed dial all receive its error.
    pub async fn open<D>(
        &self,
        key: &Key,
        request: impl Fn() -> Result<Request<()>, OpenError>,
        dial: impl Fn() -> D,
    ) -> Result<(Stream, Lease), OpenError>
    where
        D: Future<Output = Result<Tunnel, OpenError>>,
    {
        let slot = self.slot(key);
        loop {
            let (lease, fresh) = Self::lease(&slot, &dial).await?;
            match lease.0.open(request()?).await {
                // Each turn retires a tunnel, so a fresh one comes.
                Err(e) if e.tunnel_is_stale() && !fresh => {
                    tracing::debug!(destination = %key.destination, "pooled tunnel was stale: {e}");
                    lease.0.retire();
                }
                opened => return Ok((opened?, lease)),
            }
        }
    }

    async fn lease<D>(slot: &Arc<Slot>, dial: impl Fn() -> D) -> Result<(Lease, bool), OpenError>
    where
        D: Future<Output = Result<Tunnel, OpenError>>,
    {
        if let Some(lease) = slot.reserve() {
            return Ok((lease, false));
        }
        let asked = Instant::now();
        let mut last_failure = slot.dialling.lock().await;
        if let Some(lease) = slot.reserve() {
            return Ok((lease, false));
        }
        if let Some((at, error)) = &*last_failure
            && *at > asked
        {
            return Err(error.clone());
        }
        let dialled = dial().await.and_then(|tunnel| match tunnel.reserve() {
            true => Ok(Arc::new(tunnel)),
            false => Err(OpenError::Unusable),
        });
        match dialled {
            Ok(tunnel) => {
                slot.tunnels
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(tunnel.clone());
                *last_failure = None;
                Ok((Lease(tunnel), true))
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get(key) {
            Some(slot) => slot.clone(),
            None => slots.entry(key.clone()).or_default().clone(),
        }
    }

    /// Lets go of every tunnel dialled from a network namespace; open streams run on.
    pub fn forget_netns(&self, cookie: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|key, _| key.source_netns != cookie);
    }

    /// Tunnels open now.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |slot: &Arc<Slot>| {
            slot.tunnels
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len()
        };
        slots.values().map(open).sum()
    }

    /// Releases unused tunnels, for ever.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|_, slot| {
                let mut tunnels = slot.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
                tunnels.retain(|tunnel| {
                    let unused = tunnel
                        .unused_since()
                        .is_some_and(|since| now - since > UNUSED_FOR);
                    tunnel.usable() && !unused
                });
                !tunnels.is_empty() || Arc::strong_count(slot) > 1
            });
        }
    }
}
