//! When each node was last heard from: in memory only. Each master notes its own nodes and relays
//! batches to the leader, whose answer tells which master holds which node.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// One node in a relayed batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// Name of the node.
    pub node: String,
    /// Name of the master that holds its stream.
    pub master: String,
    /// Milliseconds since it was last heard from.
    pub age_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Liveness {
    seen: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    master: String,
}

impl Liveness {
    /// A node was heard from, by the named master, so long ago.
    pub fn note(&self, node: &str, master: &str, age: Duration) {
        let now = Instant::now();
        let at = now.checked_sub(age).unwrap_or(now);
        let mut seen = self.lock();
        match seen.get_mut(node) {
            Some(known) if known.at >= at => {}
            Some(known) => {
                known.at = at;
                if known.master != master {
                    master.clone_into(&mut known.master);
                }
            }
            None => {
                seen.insert(node.to_owned(), Seen { at, master: master.to_owned() });
            }
        }
    }

    /// How long ago a node was last heard from; `None` when this master never heard of it.
    #[must_use]
    pub fn age(&self, node: &str) -> Option<Duration> {
        self.lock().get(node).map(|seen| seen.at.elapsed())
    }

    /// The master that holds a node's stream, as far as known here.
    #[must_use]
    pub fn master_of(&self, node: &str) -> Option<String> {
        self.lock().get(node).map(|seen| seen.master.clone())
    }

    /// Everything known, for a relay.
    #[must_use]
    pub fn all(&self) -> Vec<NodeSeen> {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.lock()
            .iter()
            .map(|(node, seen)| NodeSeen {
                node: node.clone(),
                master: seen.master.clone(),
                age_ms: millis(seen.at.elapsed()),
            })
            .collect()
    }

    /// Takes over what another master knows.
    pub fn merge(&self, batch: &[NodeSeen]) {
        for node in batch {
            self.note(&node.node, &node.master, Duration::from_millis(node.age_ms));
        }
    }

    /// Forgets nodes that were not heard from for so long.
    pub fn forget(&self, older_than: Duration) {
        self.lock().retain(|_, seen| seen.at.elapsed() <= older_than);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_counts_whoever_relays_it() {
        let liveness = Liveness::default();
        let about = |age: Option<Duration>, seconds: u64| {
            let age = age.expect("the node is known");
            assert!(age >= Duration::from_secs(seconds), "{age:?}");
            assert!(age < Duration::from_secs(seconds + 5), "{age:?}");
        };
        liveness.note("n", "a", Duration::from_secs(10));
        liveness.note("n", "b", Duration::from_secs(20));
        about(liveness.age("n"), 10);
        assert_eq!(liveness.master_of("n").as_deref(), Some("a"));
        liveness.merge(&[NodeSeen { node: "n".into(), master: "b".into(), age_ms: 500 }]);
        about(liveness.age("n"), 0);
        assert_eq!(liveness.master_of("n").as_deref(), Some("b"));
        assert_eq!(liveness.age("other"), None);
        liveness.forget(Duration::ZERO);
        assert_eq!(liveness.age("n"), None);
    }
}
