//! Brings the maps that configure the programs in line with the options, entry by entry, so that a
//! restarted agent changes only what differs.

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData};
use ipnet::IpNet;
use mesh_common::abi::{Address, Agent, MAX_AGENTS, map};
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::DatapathOptions;
use super::error::DatapathError;
use super::pins::Pins;
use crate::sys::bpf::Abi;

/// Room in each of the maps of exceptions.
pub(super) const CAPACITY: u32 = 4096;

pub(super) fn apply(
    pins: &Pins,
    options: &DatapathOptions,
    agent: u64,
) -> Result<(), DatapathError> {
    put_agents(pins, &[agent])?;
    put_node_addresses(pins, &options.node_addresses)?;
    sync(pins, map::EXCLUDED_PORTS, &options.exclude_ports, |a, b| {
        a == b
    })?;
    sync_cidrs(pins, &options.exclude_cidrs)
}

/// Puts these cgroups first among those of agents; an agent that has not ended yet stays known.
pub(super) fn put_agents(pins: &Pins, cgroups: &[u64]) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::map(map::AGENT, source);
    let mut held: Array<MapData, Abi<Agent>> = pins.typed(map::AGENT, |map: Map| map.try_into())?;
    let mut wanted = cgroups.to_vec();
    for slot in 0..MAX_AGENTS {
        let known = held.get(&slot, 0).map_err(failed)?.0.cgroup;
        if known != 0 && !wanted.contains(&known) {
            wanted.push(known);
        }
    }
    wanted.resize(MAX_AGENTS as usize, 0);
    for (slot, cgroup) in (0..).zip(wanted) {
        held.set(slot, Abi(Agent { cgroup }), 0).map_err(failed)?;
    }
    Ok(())
}

/// Makes these the node's addresses.
pub(super) fn put_node_addresses(pins: &Pins, addresses: &[IpAddr]) -> Result<(), DatapathError> {
    let nodes = addresses.iter().map(|&ip| Abi(Address::from(ip)));
    let nodes: Vec<_> = nodes.collect();
    sync(pins, map::NODE_ADDRESSES, &nodes, |a, b| a.0 == b.0)
}

fn sync<K: Pod>(
    pins: &Pins,
    name: &'static str,
    wanted: &[K],
    same: impl Fn(&K, &K) -> bool,
) -> Result<(), DatapathError> {
    if wanted.len() > CAPACITY as usize {
        return Err(DatapathError::Full(name, CAPACITY));
    }
    let failed = |source| DatapathError::map(name, source);
    let mut held: HashMap<MapData, K, u8> = pins.typed(name, |map: Map| map.try_into())?;
    let before = held.keys().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    for key in before {
        if !wanted.iter().any(|w| same(w, &key)) {
            held.remove(&key).map_err(failed)?;
        }
    }
    wanted
        .iter()
        .try_for_each(|key| held.insert(key, 1, 0))
        .map_err(failed)
}

fn sync_cidrs(pins: &Pins, wanted: &[IpNet]) -> Result<(), DatapathError> {
    let name = map::EXCLUDED_CIDRS;
    if wanted.len() > CAPACITY as usize {
        return Err(DatapathError::Full(name, CAPACITY));
    }
    let failed = |source| DatapathError::map(name, source);
    let mut held: LpmTrie<MapData, Abi<Address>, u8> =
        pins.typed(name, |map: Map| map.try_into())?;
    let wanted: BTreeSet<(u32, [u32; 4])> = wanted.iter().map(prefix).collect();
    for key in held.keys().collect::<Result<Vec<_>, _>>().map_err(failed)? {
        if !wanted.contains(&(key.prefix_len(), key.data().0.0)) {
            held.remove(&key).map_err(failed)?;
        }
    }
    for &(length, address) in &wanted {
        held.insert(&Key::new(length, Abi(Address(address))), 1, 0)
            .map_err(failed)?;
    }
    Ok(())
}

/// A CIDR as the map has it: IPv4 prefixes are 96 bits longer, in the mapped form.
fn prefix(cidr: &IpNet) -> (u32, [u32; 4]) {
    let length = u32::from(cidr.prefix_len()) + if cidr.addr().is_ipv4() { 96 } else { 0 };
    (length, Address::from(cidr.network()).0)
}
