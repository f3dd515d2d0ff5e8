//! Pod CIDRs: each node gets a block of each cluster CIDR.
//!
//! Desired: every node has `spec.podCIDRs`, no two overlap. Writes: that field, once. All nodes are
//! planned together under one key, from what all nodes have in one view: two allocations can
//! neither race with each other nor with those of an earlier leader, whose writes are fenced.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use quorate_store::EventDraft;
use serde_json::json;

use crate::limits::IPAM_NODES_MAX;
use crate::model::{Node, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::Object;

/// What is to be done for all nodes.
pub(super) fn plan(ctx: &Ctx<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut waiting: Vec<&Object<Node>> = ctx
        .world
        .nodes
        .iter()
        .filter(|node| {
            node.object.spec.pod_cidrs.is_empty() && node.object.spec.pod_cidr.is_empty()
        })
        .collect();
    if waiting.is_empty() || ctx.config.cluster_cidr.is_empty() {
        return plan;
    }
    waiting.sort_by_key(|node| node.object.metadata.created());
    let mut pools: Vec<Pool> = ctx
        .config
        .cluster_cidr
        .iter()
        .map(|cidr| Pool::new(*cidr, block_length(ctx, cidr)))
        .collect();
    for taken in taken(ctx) {
        pools.iter_mut().for_each(|pool| pool.take(&taken));
    }
    for node in waiting.into_iter().take(IPAM_NODES_MAX) {
        let blocks: Option<Vec<String>> =
            pools.iter_mut().map(|pool| Some(pool.next()?.to_string())).collect();
        match blocks {
            Some(blocks) => {
                let mut object = to_value(&node.stored);
                object["spec"]["podCIDR"] = json!(blocks[0]);
                object["spec"]["podCIDRs"] = json!(blocks);
                plan.update(&node.stored, object, "");
            }
            None => plan.events.push(exhausted(&node.object)),
        }
    }
    plan
}

/// What no node may get: other nodes' blocks, the services' range.
fn taken(ctx: &Ctx<'_>) -> Vec<IpNet> {
    let of_nodes = ctx.world.nodes.iter().flat_map(|node| {
        let spec = &node.object.spec;
        spec.pod_cidrs.iter().chain(Some(&spec.pod_cidr)).filter_map(|cidr| cidr.parse().ok())
    });
    of_nodes.chain(ctx.config.service_cluster_ip_range.iter().copied()).collect()
}

fn block_length(ctx: &Ctx<'_>, cidr: &IpNet) -> u8 {
    match cidr {
        IpNet::V4(_) => ctx.config.node_cidr_mask_size,
        IpNet::V6(_) => ctx.config.node_cidr_mask_size_ipv6,
    }
}

fn exhausted(node: &Node) -> EventDraft {
    EventDraft {
        component: "cidrAllocator",
        regarding: node.metadata.regarding("v1", "Node"),
        warning: false,
        reason: "CIDRNotAvailable",
        message: format!("Node {} status is now: CIDRNotAvailable", node.metadata.name),
    }
}

/// The blocks of one cluster CIDR, by number.
struct Pool {
    cidr: IpNet,
    block: u8,
    blocks: u128,
    taken: BTreeSet<u128>,
    /// Ranges that hold more than one block.
    ranges: Vec<(u128, u128)>,
    candidate: u128,
}

impl Pool {
    fn new(cidr: IpNet, block: u8) -> Self {
        let cidr = cidr.trunc();
        let bits = block.checked_sub(cidr.prefix_len()).filter(|_| block <= cidr.max_prefix_len());
        let blocks = bits.map_or(0, |bits| 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX));
        Self { cidr, block, blocks, taken: BTreeSet::new(), ranges: Vec::new(), candidate: 0 }
    }

    fn take(&mut self, net: &IpNet) {
        let same_family = matches!(
            (net, &self.cidr),
            (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_))
        );
        if !same_family || !(self.cidr.contains(net) || net.contains(&self.cidr)) {
            return;
        }
        let (first, last) = (self.number(net.network()), self.number(net.broadcast()));
        if first == last {
            self.taken.insert(first);
        } else {
            self.ranges.push((first, last));
        }
    }

    /// The number of the block that an address is in; the first or last when it is outside.
    fn number(&self, address: IpAddr) -> u128 {
        let first = to_bits(self.cidr.network());
        let last = to_bits(self.cidr.broadcast());
        let inside = to_bits(address).clamp(first, last);
        let shift = u32::from(self.cidr.max_prefix_len() - self.block);
        (inside - first).checked_shr(shift).unwrap_or(0)
    }

    fn next(&mut self) -> Option<IpNet> {
        while self.candidate < self.blocks {
            let number = self.candidate;
            if let Some((_, last)) =
                self.ranges.iter().find(|(first, last)| (*first..=*last).contains(&number))
            {
                self.candidate = last + 1;
                continue;
            }
            self.candidate += 1;
            if self.taken.insert(number) {
                let shift = u32::from(self.cidr.max_prefix_len() - self.block);
                let bits = to_bits(self.cidr.network()) + number.checked_shl(shift).unwrap_or(0);
                return IpNet::new(from_bits(bits, &self.cidr), self.block).ok();
            }
        }
        None
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn from_bits(bits: u128, like: &IpNet) -> IpAddr {
    match like {
        // The block lies in an IPv4 network, so its address has 32 bits.
        IpNet::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()),
        IpNet::V6(_) => IpAddr::V6(bits.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_given_once_and_in_order() {
        let mut pool = Pool::new(net("10.42.0.0/22"), 24);
        pool.take(&net("10.42.1.0/24"));
        pool.take(&net("192.168.0.0/24"));
        let given: Vec<String> =
            std::iter::from_fn(|| pool.next()).map(|block| block.to_string()).collect();
        assert_eq!(given, ["10.42.0.0/24", "10.42.2.0/24", "10.42.3.0/24"]);
    }

    #[test]
    fn what_overlaps_is_not_given() {
        let mut pool = Pool::new(net("10.0.0.0/14"), 16);
        pool.take(&net("10.1.0.0/20"));
        pool.take(&net("10.2.0.0/15"));
        let given: Vec<String> =
            std::iter::from_fn(|| pool.next()).map(|block| block.to_string()).collect();
        assert_eq!(given, ["10.0.0.0/16"]);
    }

    #[test]
    fn ipv6_and_impossible_sizes() {
        let mut pool = Pool::new(net("fd00:1::/48"), 64);
        pool.take(&net("fd00:1::/64"));
        assert_eq!(pool.next().unwrap().to_string(), "fd00:1:0:1::/64");
        assert_eq!(Pool::new(net("10.0.0.0/24"), 16).next(), None);
        let mut whole = Pool::new(net("0.0.0.0/0"), 1);
        whole.take(&net("10.0.0.0/8"));
        assert_eq!(whole.next().unwrap().to_string(), "128.0.0.0/1");
    }
}
