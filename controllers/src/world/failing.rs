//! How often pods of daemon sets fail on a node: who refuses or kills them again and again is asked ever less often.
//! Not replicated, as upstream's: after a change of the leader it begins anew.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::ChangedPod;
use crate::limits::{DAEMON_BACKOFF_BASE, DAEMON_BACKOFF_MAX};
use crate::plan::after;

/// See the module. By uid of the daemon set and name of the node.
#[derive(Debug, Default)]
pub(super) struct FailingDaemons(HashMap<(String, String), Failing>);

#[derive(Debug)]
struct Failing {
    /// When the last pod that failed may go.
    until: Timestamp,
    /// How long after that the next one waits.
    next: Duration,
}

impl Failing {
    /// Nobody remembers it any more.
    fn over(&self, now: Timestamp) -> bool {
        after(self.until, DAEMON_BACKOFF_MAX * 2) < now
    }
}

impl FailingDaemons {
    pub(super) fn take(&mut self, pods: &[ChangedPod], now: Timestamp) {
        let mut failed = false;
        for change in pods {
            let Some(new) = &change.new else { continue };
            let before = change.old.as_ref().map(|old| old.object.status.phase.as_str());
            if new.object.status.phase != "Failed" || before == Some("Failed") {
                continue;
            }
            let owner = new.object.metadata.controller().filter(|owner| owner.kind == "DaemonSet");
            if let Some(owner) = owner {
                failed = true;
                self.note((owner.uid.clone(), new.object.spec.node_name.clone()), now);
            }
        }
        if failed {
            self.0.retain(|_, failing| !failing.over(now));
        }
    }

    fn note(&mut self, key: (String, String), now: Timestamp) {
        let known = self.0.get(&key).filter(|failing| !failing.over(now));
        let (until, next) = match known {
            None => (now, DAEMON_BACKOFF_BASE),
            Some(known) => {
                let until = after(known.until, known.next).max(now);
                (until, (known.next * 2).min(DAEMON_BACKOFF_MAX))
            }
        };
        self.0.insert(key, Failing { until, next });
    }

    pub(super) fn until(&self, daemon_set: &str, node: &str) -> Option<Timestamp> {
        self.0.get(&(daemon_set.to_owned(), node.to_owned())).map(|failing| failing.until)
    }
}
