//! The maps. The sizes here are floors for tests of the object alone: the agent sets the real ones.

use aya_ebpf::btf_maps::{
    Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage, SockHash,
};
use aya_ebpf::macros::btf_map;
use mesh_common::abi::{
    Address, Agent, Counter, DirectEvent, DirectKey, DirectSocket, EnrolledPod, Exemption,
    Expected, FlowKey, ListenerKey, MAX_AGENTS, Origin, RefusedCount, RefusedKey, RefusedSlot,
};

#[btf_map]
pub(crate) static ENROLLED: HashMap<u64, EnrolledPod, 1> = HashMap::new();

#[btf_map]
pub(crate) static ORIGIN: SkStorage<Origin> = SkStorage::new();

#[btf_map]
pub(crate) static HANDOVER: LruHashMap<FlowKey, Origin, 1> = LruHashMap::new();

#[btf_map]
pub(crate) static EXPECTED: LruHashMap<FlowKey, Expected, 1> = LruHashMap::new();

#[btf_map]
pub(crate) static LISTENERS: SockHash<ListenerKey, 1> = SockHash::new();

#[btf_map]
pub(crate) static NODE_ADDRESSES: HashMap<Address, u8, 1> = HashMap::new();

#[btf_map]
pub(crate) static EXCLUDED_PORTS: HashMap<u16, u8, 1> = HashMap::new();

#[btf_map]
pub(crate) static EXCLUDED_CIDRS: LpmTrie<Address, u8, 1> = LpmTrie::new();

#[btf_map]
pub(crate) static AGENT: Array<Agent, { MAX_AGENTS as usize }> = Array::new();

#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

#[btf_map]
pub(crate) static DIRECT: HashMap<DirectKey, Exemption, 1> = HashMap::new();

#[btf_map]
pub(crate) static LEASE: Array<u64, 1> = Array::new();

#[btf_map]
pub(crate) static DIRECT_SOCKETS: SkStorage<DirectSocket> = SkStorage::new();

#[btf_map]
pub(crate) static DIRECT_EVENTS: RingBuf<DirectEvent, 4096> = RingBuf::new();

#[btf_map]
pub(crate) static REFUSED: HashMap<RefusedKey, u32, 1> = HashMap::new();

#[btf_map]
pub(crate) static REFUSED_COUNTS: PerCpuArray<RefusedCount, 1> = PerCpuArray::new();

#[btf_map]
pub(crate) static REFUSED_SLOTS: Array<RefusedSlot, 1> = Array::new();
