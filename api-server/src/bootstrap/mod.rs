//! What a cluster begins with, written by its first leader and put right by each later one:
//! namespaces, priority classes, Kubernetes' default roles, flow control, API services; and the
//! leader's small duties: the `kubernetes` Service that names the living masters, and aggregated
//! roles.
//!
//! Everything goes through [`ControllerAdmit`], like any controller's write.

mod extensions;
mod masters;
mod rbac;
pub mod roles;

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_state_machine::{Key, Op, Outcome, View};
use quorate_store::{Admit as _, LeaderStore, Refused, Write};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admit::ControllerAdmit;
use crate::limits::DUTIES_INTERVAL;
use crate::model::text;

/// Who the writes are made as.
const USER: &str = "system:apiserver";

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// How deep roles may be made of each other before [`bootstrap`] leaves the rest to [`duties`].
const AGGREGATION_LEVELS_MAX: usize = 8;

/// Operations that are proposed together.
const BATCH: usize = 100;

/// Why the beginnings could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store did not take them.
    #[error("bootstrap objects could not be written")]
    Store(#[from] quorate_store::Error),
    /// Our own object does not pass our own admission.
    #[error("bootstrap object {object} was refused")]
    Refused {
        /// Which one.
        object: String,
        /// Why.
        #[source]
        source: Refused,
    },
    /// The store decided against it.
    #[error("bootstrap object {object} came to {outcome:?}")]
    Outcome {
        /// Which one.
        object: String,
        /// What it came to.
        outcome: Outcome,
    },
}

/// Writes what is missing of a cluster's beginnings. Idempotent; adds to roles what they lack and
/// takes nothing away (upstream's `rbac.authorization.kubernetes.io/autoupdate`).
///
/// # Errors
/// [`BootstrapError`].
pub async fn bootstrap(
    leader: &LeaderStore,
    admit: &ControllerAdmit,
) -> Result<(), BootstrapError> {
    let namespaces = NAMESPACES.map(|name| {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        });
        Wanted { key: Key::new("", "namespaces", "", name), object, merge: keep }
    });
    ensure(leader, admit, namespaces.into()).await?;
    ensure(leader, admit, priority_classes().into()).await?;
    ensure(leader, admit, rbac::wanted()).await?;
    ensure(leader, admit, extensions::wanted()).await?;
    // Roles are made of roles that are made of roles: what a round changed may be part of others.
    for _ in 0..AGGREGATION_LEVELS_MAX {
        if !aggregate(leader, admit).await? {
            break;
        }
    }
    Ok(())
}

/// Whether [`bootstrap`] has written everything: the namespaces come first, then the roles; the
/// aggregated ones are filled last.
#[must_use]
pub fn has_begun(view: &View) -> bool {
    let has = |key: &Key| view.get(key).is_some();
    NAMESPACES.iter().all(|name| has(&Key::new("", "namespaces", "", name)))
        && rbac::wanted().iter().all(|wanted| has(&wanted.key))
        && rbac::aggregated(view).is_empty()
}

fn priority_classes() -> [Wanted; 2] {
    let rows = [
        (
            "system-node-critical",
            2_000_001_000_i64,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to \
             another node if necessary.",
        ),
    ];
    rows.map(|(name, value, description)| Wanted {
        key: Key::new("scheduling.k8s.io", "priorityclasses", "", name),
        object: json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }),
        merge: keep,
    })
}

/// From (what is there, what is wanted) to what it must become.
type Merge = fn(&Value, &Value) -> Option<Value>;

/// An object that must be there, and what to make of one that is there already: `None` when it is
/// right.
struct Wanted {
    key: Key,
    object: Value,
    merge: Merge,
}

fn keep(_: &Value, _: &Value) -> Option<Value> {
    None
}

async fn ensure(
    leader: &LeaderStore,
    admit: &ControllerAdmit,
    wanted: Vec<Wanted>,
) -> Result<(), BootstrapError> {
    // A second round for what changed between reading and writing; then the next leader's turn.
    let mut left = wanted;
    for _ in 0..3 {
        let view = leader.view();
        let mut ops = Vec::new();
        for one in &left {
            if let Some(op) = op_for(&view, admit, one).await? {
                ops.push(op);
            }
        }
        let mut again = Vec::new();
        for batch in ops.chunks(BATCH) {
            let outcomes = leader.write(batch.to_vec()).await?;
            for (op, outcome) in batch.iter().zip(outcomes) {
                match outcome {
                    Outcome::Done(_) => {}
                    Outcome::AlreadyExists(_) | Outcome::Conflict(_) | Outcome::NotFound => {
                        again.push(op.key().clone());
                    }
                    outcome => {
                        let object = op.key().to_string();
                        return Err(BootstrapError::Outcome { object, outcome });
                    }
                }
            }
        }
        left.retain(|one| again.contains(&one.key));
        if left.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn op_for(
    view: &Arc<View>,
    admit: &ControllerAdmit,
    wanted: &Wanted,
) -> Result<Option<Op>, BootstrapError> {
    let write = match view.get(&wanted.key) {
        None => {
            Write::Create { resource: wanted.key.resource.clone(), object: wanted.object.clone() }
        }
        Some(stored) => {
            let current: Value = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
            match (wanted.merge)(&current, &wanted.object) {
                None => return Ok(None),
                Some(object) => Write::Update { stored: stored.clone(), object, subresource: "" },
            }
        }
    };
    admit
        .admit(view, USER, write)
        .await
        .map_err(|source| BootstrapError::Refused { object: wanted.key.to_string(), source })
}

/// Fills roles that are made of others (`aggregationRule`). Tells whether one had to be changed.
async fn aggregate(leader: &LeaderStore, admit: &ControllerAdmit) -> Result<bool, BootstrapError> {
    let view = leader.view();
    let mut ops = Vec::new();
    for (stored, object) in rbac::aggregated(&view) {
        let name = stored.key.to_string();
        let write = Write::Update { stored, object, subresource: "" };
        let op = admit
            .admit(&view, USER, write)
            .await
            .map_err(|source| BootstrapError::Refused { object: name, source })?;
        ops.extend(op);
    }
    for batch in ops.chunks(BATCH) {
        // A conflict means that somebody wrote the role just now: the next round looks again.
        leader.write(batch.to_vec()).await?;
    }
    Ok(!ops.is_empty())
}

/// The `kubernetes` Service, Endpoints and EndpointSlice for these masters (the addresses and ports
/// that pods reach their APIs at).
///
/// # Errors
/// [`BootstrapError`].
pub async fn publish_masters(
    leader: &LeaderStore,
    admit: &ControllerAdmit,
    masters: &[SocketAddr],
) -> Result<(), BootstrapError> {
    ensure(leader, admit, masters::wanted(admit.facts(), masters)).await?;
    let view = leader.view();
    let mut ops = Vec::new();
    for stored in masters::outdated(&view, admit.facts(), masters) {
        let object = stored.key.to_string();
        let write =
            Write::Delete { stored, grace_period_seconds: Some(0), propagation: "Background" };
        let admitted = admit.admit(&view, USER, write).await;
        ops.extend(admitted.map_err(|source| BootstrapError::Refused { object, source })?);
    }
    if !ops.is_empty() {
        // A conflict means that somebody wrote or deleted it just now: the next round looks again.
        leader.write(ops).await?;
    }
    Ok(())
}

/// The leader's duties, until `stop`: keeps aggregated roles and the `kubernetes` Service right.
/// Woken by changes of `masters` and of roles, and from time to time.
pub async fn duties(
    leader: LeaderStore,
    admit: Arc<ControllerAdmit>,
    mut masters: watch::Receiver<Vec<SocketAddr>>,
    stop: CancellationToken,
) {
    let roles =
        quorate_state_machine::GroupResource::new("rbac.authorization.k8s.io", "clusterroles");
    let mut changes = leader.watch(roles, leader.view().revision());
    loop {
        let addresses = masters.borrow_and_update().clone();
        let mut results = vec![aggregate(&leader, &admit).await.map(drop)];
        // Without an address that pods can reach there is still the Service.
        results.push(publish_masters(&leader, &admit, &addresses).await);
        for error in results.into_iter().filter_map(Result::err) {
            if !leader.holds() {
                return;
            }
            tracing::warn!(%error, "a duty of the leader failed, it will be tried again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DUTIES_INTERVAL) => {}
            changed = masters.changed() => if changed.is_err() { return },
            // That there are some is enough, so that no history need be there.
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Adds to `object` the labels and annotations that are missing.
fn add_metadata(object: &mut Value, wanted: &Value) -> bool {
    let mut changed = false;
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            if object["metadata"][map][key.as_str()].is_null() {
                object["metadata"][map][key.as_str()] = value.clone();
                changed = true;
            }
        }
    }
    changed
}

/// Whether somebody has turned updates of this default off.
fn is_frozen(object: &Value) -> bool {
    text(&object["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"])
        == "false"
}
