//! Stamping: the one place where uid, times and generated names are fixed; and [`Command`], the
//! only thing that is proposed.

use jiff::Timestamp;
use quorate_state_machine::{Op, Outcome};
use quorate_store::Store;
use rand::RngExt as _;
use serde_json::{Map, Value, json};

use crate::clock::rfc3339;
use crate::limits::WRITE_DEADLINE;
use crate::model;
use crate::status_error::{self, Answer};

/// Characters of generated suffixes: no vowels, nothing that looks like another (upstream's
/// `rand.SafeEncodeString`).
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters of a generated suffix, and how long the part before it may be (upstream's
/// `SimpleNameGenerator`).
const SUFFIX_CHARS: usize = 5;
const GENERATED_PREFIX_MAX: usize = 63 - SUFFIX_CHARS;

/// An operation that authorization and admission have passed. Made by
/// [`crate::admission::Admitted::into_command`] alone.
#[derive(Debug, Clone)]
pub struct Command {
    op: Op,
    also: Vec<Op>,
}

impl Command {
    pub(crate) fn new(op: Op, also: Vec<Op>) -> Self {
        Self { op, also }
    }

    /// All operations, which are to take effect together or not at all; the one that was asked for is the first.
    #[must_use]
    pub fn into_ops(self) -> Vec<Op> {
        let mut ops = vec![self.op];
        ops.extend(self.also);
        ops
    }

    /// The operation alone, for whoever proposes it with others: bookkeeping of the masters, which is not charged to
    /// quotas before it is counted.
    #[must_use]
    pub fn into_op(self) -> Op {
        self.op
    }
}

/// The one door for HTTP writes. [`Outcome::Aborted`]: what was to take effect with the write (a quota's charge) was
/// computed from an older version than there is; to be computed anew.
///
/// # Errors
/// What the store could not do; outcomes other than success are the caller's to judge.
pub(crate) async fn propose(store: &Store, command: Command) -> Answer<Outcome> {
    let ops = command.into_ops();
    let decided = if ops.len() == 1 {
        store.write_within(ops, WRITE_DEADLINE).await
    } else {
        store.transact_within(ops, WRITE_DEADLINE).await
    };
    let outcomes = decided.map_err(|error| status_error::of_store(&error))?;
    outcomes.into_iter().next().ok_or_else(|| {
        Box::new(quorate_api::status::Status::internal_error("a write had no outcome"))
    })
}

/// The metadata of an object, made when it is not there.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("it was made an object just before")
}

/// A name from `generateName`.
pub(crate) fn generated_name(base: &str) -> String {
    let mut rng = quorate_chance::rng();
    let prefix: String = base.chars().take(GENERATED_PREFIX_MAX).collect();
    let suffix: String =
        (0..SUFFIX_CHARS).map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())])).collect();
    format!("{prefix}{suffix}")
}

/// Names each owner once. The warning that there were more.
pub(crate) fn distinct_owners(object: &mut Value) -> Option<String> {
    let owners = object.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    let (mut kept, mut twice): (Vec<Value>, Vec<String>) = (Vec::new(), Vec::new());
    for owner in std::mem::take(owners) {
        if kept.contains(&owner) {
            twice.push(model::text(owner.get("uid").unwrap_or(&Value::Null)).to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    twice.dedup();
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner \
             references in 1.20+, and may reject such requests as early as 1.24; please fix your \
             requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        )
    })
}

/// Fixes what is new about a new object: uid and creation time; nobody brings these along.
pub(crate) fn created(object: &mut Value, now: Timestamp) {
    let meta = metadata(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"]
    {
        meta.remove(field);
    }
    meta.insert("uid".to_owned(), json!(quorate_chance::uuid()));
    meta.insert("creationTimestamp".to_owned(), json!(rfc3339(now)));
}

/// What an update may not change in the metadata is what it was.
pub(crate) fn updated(object: &mut Value, old: &Value) {
    let old = &old["metadata"];
    let meta = metadata(object);
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "selfLink",
    ] {
        match old.get(field) {
            Some(value) if !value.is_null() => meta.insert(field.to_owned(), value.clone()),
            _ => meta.remove(field),
        };
    }
    if model::text(meta.get("uid").unwrap_or(&Value::Null)).is_empty() {
        meta.insert("uid".to_owned(), old["uid"].clone());
    }
}

/// Marks an object as being deleted in `grace` seconds from now.
pub(crate) fn deleting(object: &mut Value, now: Timestamp, grace: i64) {
    let at = now + jiff::SignedDuration::from_secs(grace);
    let meta = metadata(object);
    meta.insert("deletionTimestamp".to_owned(), json!(rfc3339(at)));
    meta.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    bump_generation(meta);
}

/// Whoever watches generations is to look again.
pub(crate) fn bump_generation(meta: &mut Map<String, Value>) {
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64)
        && generation > 0
    {
        meta.insert("generation".to_owned(), json!(generation + 1));
    }
}
