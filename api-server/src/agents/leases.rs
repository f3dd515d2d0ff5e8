//! The Lease objects of nodes in `kube-node-lease`, for clients that look at them. Nothing in a cluster of ours
//! decides by them: liveness is in the masters' memory ([`super::liveness`]). So each master renews those of its own
//! nodes, a bounded number at a time and all in one proposal (docs/decisions/0005).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quorate_state_machine::{Key, Op, View};
use quorate_store::Write;
use serde_json::{Value, json};

use super::hub::Inner;
use crate::limits::{AGENT_IDLE_TIMEOUT, LEASES_IN_ROUND_MAX, LEASES_INTERVAL};

const NAMESPACE: &str = "kube-node-lease";

/// Renews, round after round.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut rounds = tokio::time::interval(LEASES_INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = 0;
    loop {
        let round = tokio::select! {
            _ = rounds.tick() => true,
            // A node that has just come should not wait for its first one.
            () = inner.came.notified() => false,
            () = inner.stop.cancelled() => return,
        };
        let nodes = inner.connected();
        let duration = duration(nodes.len());
        let view = inner.store.view();
        let turn = if round {
            turn(&nodes, &mut next)
        } else {
            let without = nodes.into_iter().filter(|node| view.get(&key(node)).is_none());
            without.take(LEASES_IN_ROUND_MAX).collect()
        };
        let mut ops = Vec::with_capacity(turn.len());
        for node in turn {
            // A stream that is open is not a node that speaks.
            if inner.liveness.age(&node).is_none_or(|age| age > AGENT_IDLE_TIMEOUT) {
                continue;
            }
            ops.extend(plan(&inner, &view, &node, duration).await);
        }
        if ops.is_empty() {
            continue;
        }
        // Somebody else's write in between is as good as ours; the next round comes soon.
        if let Err(error) = inner.store.write(ops).await {
            tracing::debug!(%error, "leases of nodes were not renewed");
        }
    }
}

fn key(node: &str) -> Key {
    Key::new("coordination.k8s.io", "leases", NAMESPACE, node)
}

/// The nodes whose turn it is, and where the next round goes on.
fn turn(nodes: &[String], next: &mut usize) -> Vec<String> {
    if nodes.len() <= LEASES_IN_ROUND_MAX {
        return nodes.to_vec();
    }
    let start = *next % nodes.len();
    *next = start + LEASES_IN_ROUND_MAX;
    nodes.iter().cycle().skip(start).take(LEASES_IN_ROUND_MAX).cloned().collect()
}

/// Four times as long as it takes until a node's turn comes again.
fn duration(nodes: usize) -> Duration {
    let rounds = u32::try_from(nodes.div_ceil(LEASES_IN_ROUND_MAX)).unwrap_or(u32::MAX).max(1);
    LEASES_INTERVAL * rounds * 4
}

async fn plan(inner: &Inner, view: &Arc<View>, node: &str, duration: Duration) -> Option<Op> {
    let late = inner.late()?;
    let owner = view.get(&Key::new("", "nodes", "", node))?;
    let now = inner.clock.now();
    let key = key(node);
    let write = match view.get(&key) {
        None => {
            let object = lease(node, owner.uid(), now, duration);
            Write::Create { resource: key.resource.clone(), object }
        }
        Some(stored) => {
            let mut object: Value = serde_json::from_slice(&stored.to_json()).ok()?;
            let fresh = lease(node, owner.uid(), now, duration);
            object.as_object_mut()?.insert("spec".to_owned(), fresh["spec"].clone());
            let metadata = object.get_mut("metadata")?.as_object_mut()?;
            let owners = fresh["metadata"]["ownerReferences"].clone();
            metadata.insert("ownerReferences".to_owned(), owners);
            Write::Update { stored: stored.clone(), object, subresource: "" }
        }
    };
    match late.admit.admit(view, &format!("system:node:{node}"), write).await {
        Ok(op) => op,
        Err(error) => {
            tracing::debug!(node, %error, "the lease of a node was refused");
            None
        }
    }
}

fn lease(node: &str, uid: &str, now: Timestamp, duration: Duration) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": node,
            "namespace": NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
        },
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": duration.as_secs(),
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nodes_turn_comes_before_its_lease_ends() {
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("n{n}")).collect() };
        assert_eq!(duration(1), Duration::from_secs(40));
        for count in [1, LEASES_IN_ROUND_MAX, LEASES_IN_ROUND_MAX + 1, 1234] {
            let (nodes, mut next) = (names(count), 0);
            let rounds = duration(count).as_secs() / LEASES_INTERVAL.as_secs() / 4;
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..rounds {
                let turn = turn(&nodes, &mut next);
                assert!(turn.len() <= LEASES_IN_ROUND_MAX);
                seen.extend(turn);
            }
            assert_eq!(seen.len(), count);
        }
    }

    #[test]
    fn a_lease_reads_as_the_kubelets() {
        let now = Timestamp::from_microsecond(1_000_000_000_123_456).unwrap();
        let lease = lease("n", "u", now, Duration::from_secs(40));
        assert_eq!(lease["spec"]["renewTime"], "2001-09-09T01:46:40.123456Z");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
        assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], "u");
    }
}
