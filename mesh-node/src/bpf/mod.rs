//! The data path in the kernel: programs, maps and links, and the table of enrolled pods.
//!
//! Everything is pinned under `<bpffs>/v<ABI>/`, so capture outlives the agent: while no agent runs, new
//! connections of enrolled pods are refused, never let through in plaintext. A restarted agent takes
//! over what is pinned, replacing the programs in place.

mod attach;
pub mod cgroup;
mod direct;
mod error;
mod load;
mod pins;
mod pods;
mod probe;
mod refused;
mod settings;

pub use direct::{DirectEvents, DirectMarks, DirectRoute, MAX_EXEMPTIONS, since_boot};
pub use error::DatapathError;
pub use pins::uninstall;
pub use pods::Listeners;
pub use probe::{Feature, Need, Probe, probe};
pub use refused::{RefusedConnection, RefusedConnections, RefusedPorts};

use aya::maps::{Map, MapData, PerCpuArray};
use ipnet::IpNet;
use mesh_common::abi::{Address, Counter, Origin, OriginKind, map};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::Netns;
use crate::sys::bpf::OriginMap;
use direct::Lease;
use load::Loader;
use pins::Pins;
use pods::Pods;

/// What the data path is to capture, and where it keeps its state.
#[derive(Clone, Debug)]
pub struct DatapathOptions {
    /// The cgroup whose processes are captured when their network namespace is enrolled. The agent's own
    /// cgroup must be below it.
    pub cgroup: PathBuf,
    /// A directory of this agent's own, in a mounted bpffs; created when absent.
    pub bpffs: PathBuf,
    /// Addresses of the node itself, whose connections to pods are not captured.
    pub node_addresses: Vec<IpAddr>,
    /// Destination ports that are not captured.
    pub exclude_ports: Vec<u16>,
    /// Destinations that are not captured.
    pub exclude_cidrs: Vec<IpNet>,
    /// Most pods that can be enrolled at once.
    pub max_pods: u32,
    /// Most connections that can be in the making, or from a pod to itself, at once.
    pub max_flows: u32,
}

/// The data path. Dropping it leaves capture in place; [`uninstall`] ends it.
pub struct Datapath {
    origins: OriginMap,
    counters: PerCpuArray<MapData, u64>,
    pods: Mutex<Pods>,
    lease: Mutex<Lease>,
    pins: Pins,
    agent: u64,
}

impl Datapath {
    /// Puts the programs in place, or takes over those of an earlier agent.
    ///
    /// # Errors
    /// The kernel lacks a feature, a path is unfit, or the kernel refuses: the error names it.
    pub fn open(options: &DatapathOptions) -> Result<Self, DatapathError> {
        let missing = probe().missing(Need::Always);
        if !missing.is_empty() {
            return Err(DatapathError::Kernel(missing));
        }
        let pins = Pins::create(&options.bpffs)?;
        let agent = cgroup::agent_id(&options.cgroup)?;
        let mut loader = Loader::new(&pins, options)?;
        loader.attach_to_cgroup(&options.cgroup)?;
        settings::apply(&pins, options, agent)?;
        let origins = OriginMap::from_pin(&pins.map(map::ORIGIN))
            .map_err(|source| DatapathError::Pin(pins.map(map::ORIGIN), source))?;
        let counters = pins.typed(map::COUNTERS, |map: Map| map.try_into())?;
        let lease = Lease::open(&pins)?;
        let mut pods = Pods::open(pins.clone(), loader, options.max_pods)?;
        pods.forget_dead()?;
        let enrolled = pods.enrolled()?;
        pods.refused.forget_others(&enrolled)?;
        Ok(Self {
            origins,
            counters,
            pods: Mutex::new(pods),
            lease: Mutex::new(lease),
            pins,
            agent,
        })
    }

    /// Captures the pod in `netns`, or renews its addresses and listeners. New connections are
    /// captured when this returns; established ones are left alone.
    ///
    /// # Errors
    /// The table is full, the addresses are unfit, or the kernel refuses. A pod that was not enrolled
    /// before is not after either.
    pub fn enroll(
        &self,
        netns: &Netns,
        addresses: &[IpAddr],
        listeners: &Listeners<'_>,
    ) -> Result<(), DatapathError> {
        self.pods().enroll(netns, addresses, listeners)
    }

    /// Ends the capture of the pod in the namespace with this cookie; nothing of it is left. That it is
    /// not enrolled is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unenroll(&self, cookie: u64) -> Result<(), DatapathError> {
        self.pods().unenroll(cookie)
    }

    /// Namespace cookies of the enrolled pods, those of an earlier agent included.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enrolled(&self) -> Result<Vec<u64>, DatapathError> {
        self.pods().enrolled()
    }

    /// Makes these the node's own addresses, in place of all before.
    ///
    /// # Errors
    /// There are too many, or the kernel refuses.
    pub fn set_node_addresses(&self, addresses: &[IpAddr]) -> Result<(), DatapathError> {
        settings::put_node_addresses(&self.pins, addresses)
    }

    /// From now on the agent in this cgroup is told from the applications too: it has handed its pods over,
    /// and still has connections.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_agent(&self, cgroup: u64) -> Result<(), DatapathError> {
        settings::put_agents(&self.pins, &[self.agent, cgroup])
    }

    /// Removes what agents of other ABI versions pinned. To be called once every pod that they had is
    /// enrolled here: until then theirs keep the pods closed.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn retire_other_versions(&self) -> Result<(), DatapathError> {
        self.pins.retire_others()
    }

    /// The destination that the application dialled, for a socket accepted at the outbound port; none
    /// for a connection that was not captured, which must not be carried.
    ///
    /// # Errors
    /// The descriptor is no socket.
    pub fn original_destination(&self, socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
        let origin = self.origins.get(socket)?;
        Ok(origin
            .filter(|origin| origin.kind == OriginKind::Captured as u32)
            .map(|origin| SocketAddr::new(origin.address.into(), origin.port)))
    }

    /// Makes the application that `socket` is about to connect to see `client` as its far end.
    /// To be called before the connect, from inside an enrolled pod.
    ///
    /// # Errors
    /// The descriptor is no socket, or the kernel has no memory.
    pub fn announce_client(&self, socket: BorrowedFd<'_>, client: SocketAddr) -> io::Result<()> {
        let address = Address::from(client.ip());
        self.origins.set(
            socket,
            &Origin::new(OriginKind::Delivered, address, client.port()),
        )
    }

    /// How often each program (first) passed, redirected or dropped for each reason (second).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Vec<(&'static str, &'static str, u64)>, DatapathError> {
        let named = |&counter: &Counter| {
            let count = self.counter(counter)?;
            Ok((counter.program(), counter.name(), count))
        };
        Counter::ALL.iter().map(named).collect()
    }

    fn counter(&self, counter: Counter) -> Result<u64, DatapathError> {
        let values = self
            .counters
            .get(&(counter as u32), 0)
            .map_err(|source| DatapathError::map(map::COUNTERS, source))?;
        Ok(values.iter().sum())
    }

    /// Id of the agent's cgroup, which its sockets belong to.
    #[must_use]
    pub fn agent_cgroup(&self) -> u64 {
        self.agent
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        // Handles to the kernel's tables: a panic in between leaves nothing half done here.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath").finish_non_exhaustive()
    }
}
