//! How far a change of the authorities is: one ConfigMap in `kube-system`, so that it is the same on all masters,
//! survives whatever they survive, and is in backups. No secrets are in it; the keys go from master to master
//! ([`super::peers`]).

use std::sync::Arc;

use anyhow::{Context, bail};
use quorate_pki::Phase;
use quorate_state_machine::{Key, Outcome, View};
use quorate_store::{Admit, Store, Write};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "quorate-authorities";
const USER: &str = "system:quorate";

/// A record whose generation is so much above that of the keys was written by a mistake: it is as if there were none.
const AHEAD_MAX: u64 = 1_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub generation: u64,
    pub phase: Phase,
    /// Fingerprints of the new authorities: cluster, peer, front proxy. Only what has these is taken.
    pub authorities: [String; 3],
    /// The master that made them.
    pub made_by: String,
    /// When, for people.
    pub began_at: String,
    /// They were lost before anybody used them; the next change begins anew.
    #[serde(default)]
    pub abandoned: bool,
}

impl Record {
    /// Whether a change is half done.
    pub fn under_way(&self) -> bool {
        self.phase != Phase::Done && !self.abandoned
    }

    /// Whether it can be of a cluster whose keys are of this generation.
    pub fn is_possible(&self, keys: u64) -> bool {
        self.generation <= keys.saturating_add(AHEAD_MAX)
    }
}

fn key() -> Key {
    Key::new("", "configmaps", NAMESPACE, NAME)
}

/// What a view says; `None` when nothing was ever changed, or it does not decode.
pub fn read(view: &View) -> Option<Record> {
    let object: Value = serde_json::from_slice(&view.get(&key())?.to_json()).ok()?;
    serde_json::from_str(object["data"]["record"].as_str()?).ok()
}

/// Writes a record in the place of the one that `view` has; an error, and nothing written, when it is another by now.
pub async fn write(
    store: &Store,
    admit: &Arc<dyn Admit>,
    view: &Arc<View>,
    record: &Record,
) -> anyhow::Result<()> {
    let data = json!({ "record": serde_json::to_string_pretty(record)? });
    let write = match view.get(&key()).cloned() {
        None => Write::Create {
            resource: key().resource,
            object: json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": NAME,
                    "namespace": NAMESPACE,
                    "annotations": {
                        "kubernetes.io/description":
                            "How far the change of the cluster's certificate authorities is. \
                             Of `quorate certs rotate-ca`; not to be edited.",
                    },
                },
                "data": data,
            }),
        },
        Some(stored) => {
            let mut object: Value = serde_json::from_slice(&stored.to_json())?;
            object["data"] = data;
            Write::Update { stored, object, subresource: "" }
        }
    };
    let Some(op) = admit.admit(view, USER, write).await? else { return Ok(()) };
    let outcomes = store.write(vec![op]).await.context("the record cannot be written")?;
    match outcomes.first() {
        Some(Outcome::Done(_)) => Ok(()),
        Some(Outcome::Conflict(_) | Outcome::AlreadyExists(_) | Outcome::NotFound) => {
            bail!("somebody else changes the authorities at the same time")
        }
        other => bail!("the record was not written: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_nobody_can_have_reached_is_told() {
        let record = |generation| Record {
            generation,
            phase: Phase::Trust,
            authorities: <[String; 3]>::default(),
            made_by: String::new(),
            began_at: String::new(),
            abandoned: false,
        };
        assert!(record(1).is_possible(7) && record(8).is_possible(7));
        assert!(!record(u64::MAX).is_possible(7) && record(u64::MAX).is_possible(u64::MAX));
    }
}
