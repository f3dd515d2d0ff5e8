//! Candidates for a few Leases, as client-go's leader election has them: who finds no holder, or sees the holder's
//! record unchanged for [`LASTS`] by its own clock, takes the lease by an update under the `resourceVersion` that it
//! read; who holds it renews it in the same way, now and then gives it back (`holderIdentity: ""`), or stops
//! renewing without a word.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Value, json};

use super::bank::written;
use super::{Client, Request};
use crate::model::{Content, Family, Input, VersionedInput};

const FAMILY: Family = Family::Leases;

/// `leaseDurationSeconds`: who does not renew for so long has lost it.
pub const LASTS: Duration = Duration::from_secs(1);

/// So long after it asked for the last renewal that was granted, a holder relies on its lease (client-go's
/// `RenewDeadline`).
pub const RELIED: Duration = Duration::from_millis(700);

/// Where the serial is.
const SERIAL: &str = "chaos.quorate/serial";

/// What one candidate has seen.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    /// Of each lease: the serial, and since when it is the same.
    seen: BTreeMap<usize, (u64, Instant)>,
    /// Leases that it does not look at until then.
    away: BTreeMap<usize, Instant>,
}

impl Client {
    pub(super) async fn use_lease(&mut self, candidate: &mut Candidate) {
        let key = self.key();
        if candidate.away.get(&key).is_some_and(|until| Instant::now() < *until) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        }
        let own = format!("candidate-{}", self.number);
        let Some(read) = self.read_versioned(FAMILY, key).await else { return };
        let Some((serial, content, version)) = read else {
            let content = Content::Lease { holder: own, transitions: 0 };
            let serial = self.shared.value();
            let body = object(key, serial, &content, None);
            let input = Input::Lease(VersionedInput::Create(serial, content));
            self.run(key, input, Request::post(self.all(FAMILY), body), written).await;
            return;
        };
        let Content::Lease { holder, transitions } = content else { return };
        let now = Instant::now();
        let since = match candidate.seen.get(&key) {
            Some((same, since)) if *same == serial => *since,
            _ => {
                candidate.seen.insert(key, (serial, now));
                now
            }
        };
        let content = match holder.as_str() {
            same if same == own => match self.random.random_range(0..100) {
                0..5 => Content::Lease { holder: String::new(), transitions },
                5..9 => {
                    candidate.away.insert(key, now + LASTS + LASTS / 2);
                    return;
                }
                _ => Content::Lease { holder: own, transitions },
            },
            "" => Content::Lease { holder: own, transitions: transitions + 1 },
            _ if now.duration_since(since) >= LASTS => {
                Content::Lease { holder: own, transitions: transitions + 1 }
            }
            _ => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return;
            }
        };
        let next = self.shared.value();
        let body = object(key, next, &content, Some(&version));
        let input = Input::Lease(VersionedInput::Update { from: serial, to: next, content });
        self.run(key, input, Request::put(self.path(FAMILY, key), body), written).await;
    }
}

fn object(key: usize, serial: u64, content: &Content, version: Option<&str>) -> Value {
    let (holder, transitions) = match content {
        Content::Lease { holder, transitions } => (holder.as_str(), *transitions),
        Content::Balances(_) => ("", 0),
    };
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": FAMILY.object(key),
            "resourceVersion": version,
            "annotations": {SERIAL: serial.to_string()},
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": LASTS.as_secs(),
            "leaseTransitions": transitions,
            "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        },
    })
}

/// Serial, holder and transitions.
pub(super) fn content(object: &Value) -> Option<(u64, Content)> {
    let serial = object["metadata"]["annotations"][SERIAL].as_str()?.parse().ok()?;
    let holder = object["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let transitions = object["spec"]["leaseTransitions"].as_u64().unwrap_or(0);
    Some((serial, Content::Lease { holder, transitions }))
}
