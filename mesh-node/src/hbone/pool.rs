//! Tunnels by destination: shared while they last, dialled once however many wait for them. Each
//! data-plane worker has a pool of its own, so no stream ever crosses threads.

use mesh_common::identity::SpiffeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fields, OpenError, OpenTunnel, OpenTunnels, Stream, Tunnel};

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
    tunnels: RefCell<Vec<Rc<Pooled>>>,
    /// Held while dialling; remembers the last failure for those who waited meanwhile.
    dialling: tokio::sync::Mutex<Option<(Instant, OpenError)>>,
}

/// A tunnel, counted among those of the agent for as long as it is in use.
#[derive(Debug)]
struct Pooled {
    tunnel: Tunnel,
    _open: OpenTunnel,
}

impl Slot {
    fn reserve(&self) -> Option<Lease> {
        let mut tunnels = self.tunnels.borrow_mut();
        tunnels.retain(|pooled| pooled.tunnel.usable());
        tunnels
            .iter()
            .find(|pooled| pooled.tunnel.reserve())
            .map(|pooled| Lease(pooled.clone()))
    }
}

/// A place on a tunnel; given back when dropped.
#[derive(Debug)]
pub struct Lease(Rc<Pooled>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.tunnel.release();
    }
}

/// The tunnels of one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    slots: Rc<RefCell<HashMap<Key, Rc<Slot>>>>,
    open: OpenTunnels,
}

impl Pool {
    /// No tunnels yet; `open` counts those of all workers.
    #[must_use]
    pub fn new(open: OpenTunnels) -> Self {
        Self {
            slots: Rc::default(),
            open,
        }
    }

    /// Opens a stream on a pooled tunnel, or on one that `dial` makes. A pooled tunnel that turns
    /// out to be broken is replaced: no application byte was sent on it yet.
    ///
    /// # Errors
    /// [`OpenError`]; those who waited for one failed dial all receive its error.
    pub async fn open<D>(
        &self,
        key: &Key,
        request: &Fields,
        dial: impl Fn() -> D,
    ) -> Result<(Stream, Lease), OpenError>
    where
        D: Future<Output = Result<Tunnel, OpenError>>,
    {
        let slot = self.slot(key);
        loop {
            let (lease, fresh) = self.lease(key, &slot, &dial).await?;
            match lease.0.tunnel.open(request).await {
                // Each turn retires a tunnel, so a fresh one comes.
                Err(e) if e.tunnel_is_stale() && !fresh => {
                    tracing::debug!(destination = %key.destination, "pooled tunnel was stale: {e}");
                    lease.0.tunnel.retire();
                }
                opened => return Ok((opened?, lease)),
            }
        }
    }

    async fn lease<D>(
        &self,
        key: &Key,
        slot: &Slot,
        dial: impl Fn() -> D,
    ) -> Result<(Lease, bool), OpenError>
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
            true => {
                let _open = self.open.dialled(&key.source, tunnel.group());
                Ok(Rc::new(Pooled { tunnel, _open }))
            }
            false => Err(OpenError::Unusable),
        });
        match dialled {
            Ok(tunnel) => {
                slot.tunnels.borrow_mut().push(tunnel.clone());
                *last_failure = None;
                Ok((Lease(tunnel), true))
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn slot(&self, key: &Key) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        match slots.get(key) {
            Some(slot) => slot.clone(),
            None => slots.entry(key.clone()).or_default().clone(),
        }
    }

    /// Lets go of every tunnel dialled from a network namespace; open streams run on.
    pub fn forget_netns(&self, cookie: u64) {
        self.slots
            .borrow_mut()
            .retain(|key, _| key.source_netns != cookie);
    }

    /// Releases unused tunnels, for ever.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            self.slots.borrow_mut().retain(|_, slot| {
                let mut tunnels = slot.tunnels.borrow_mut();
                tunnels.retain(|pooled| {
                    let unused = pooled.tunnel.unused_since();
                    let unused = unused.is_some_and(|since| now - since > UNUSED_FOR);
                    pooled.tunnel.usable() && !unused
                });
                !tunnels.is_empty() || Rc::strong_count(slot) > 1
            });
        }
    }
}
