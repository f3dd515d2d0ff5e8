//! Who owns which field: `metadata.managedFields`, and server-side apply on top of it.
//!
//! Follows structured-merge-diff and apimachinery's `util/managedfields`. [`update`] is for writes
//! that bring a whole object (create, update, the other patches): what they change becomes theirs.
//! [`apply`] merges a configuration into an object: what it names becomes its applier's, what its
//! applier no longer names goes unless somebody else owns it, and what would change a field of
//! another is a conflict. Both are pure; times come from the caller.

mod compare;
mod entries;
mod merge;
mod overlay;
pub mod scale;
mod set;
mod shape;

use serde_json::{Map, Value};

use crate::custom::Custom;
use crate::resource::GroupVersionKind;
use crate::schema::{Kind, TypeId};
use crate::{normalise, text, tree};
use entries::{Entry, Operation};
pub use overlay::overlay;
pub use set::Set;
use shape::Shape;

/// Whose the existing fields become when an object that nobody tracked is applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// kubectl's own manager: it takes over what client-side apply owned.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who writes, through what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager
    pub manager: &'a str,
    /// The subresource it writes through, or empty
    pub subresource: &'a str,
    /// RFC 3339, whole seconds
    pub now: &'a str,
}

/// What is written: its kind and struct, and whether fields are reset whatever a writer says.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The kind
    pub gvk: GroupVersionKind,
    /// Its struct
    pub schema: TypeId,
    /// The kind has a status subresource: main writes do not own the status
    pub has_status: bool,
    /// The schema is a definition's
    pub custom: Option<&'static Custom>,
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, as messages name it: `"kubectl" using apps/v1`
    pub manager: String,
    /// The field: `.spec.replicas`
    pub field: String,
}

/// Why a configuration cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request makes no sense (400)
    #[error("{0}")]
    Malformed(String),
    /// The configuration does not fit the schema (upstream answers 500 with this text)
    #[error("{0}")]
    DoesNotFit(String),
    /// Fields belong to others (409)
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [Conflict { manager, field }] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|one| one.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let own = conflicts.iter().filter(|one| one.manager == manager);
        lines.extend(own.map(|one| format!("- {}", one.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl Target {
    fn shape(&self) -> Shape {
        match self.custom {
            Some(custom) => Shape::Node(&custom.root),
            None => Shape::Struct(self.schema),
        }
    }

    /// The object as Go has it before anything is set.
    fn empty(&self) -> Value {
        match self.custom {
            Some(_) => Value::Object(Map::new()),
            None => normalise::zero(Kind::Ref(self.schema)),
        }
    }

    /// Fields that are reset on every write through this subresource: nobody owns them there.
    fn reset(&self, subresource: &str) -> Set {
        match subresource {
            "" if self.has_status => Set::of(&[&["f:status"]]),
            "status" => Set::of(&[&["f:spec"], &["f:metadata", "f:labels"]]),
            _ => Set::default(),
        }
    }
}

/// What is never owned: identity, and what the server alone sets.
fn stripped(set: &Set) -> Set {
    let own = [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:clusterName",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
    ];
    let mut strip = Set::of(&[&["f:apiVersion"], &["f:kind"], &["f:metadata"]]);
    for name in own {
        strip.insert(&["f:metadata", name]);
    }
    set.difference(&strip)
}

/// The object's managedFields, or null.
#[must_use]
pub fn field(object: &Value) -> &Value {
    tree::at(object, &["metadata", "managedFields"])
}

/// Sets an object's managedFields; null takes them away.
pub fn set_field(object: &mut Value, entries: Value) {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_null() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), entries);
    }
}

fn without_field(object: &Value) -> Value {
    let mut object = object.clone();
    set_field(&mut object, Value::Null);
    object
}

/// Whether two lists of managedFields say the same but for their times.
#[must_use]
pub fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return a == b };
    let timeless = |entry: &Value| {
        let map = entry.as_object().into_iter().flatten();
        map.filter(|(name, _)| *name != "time")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<String, Value>>()
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| timeless(a) == timeless(b))
}

/// Records who owns what after a write of a whole object. `live`: as it was, `None` for a create.
/// The new object may bring its own managedFields: those of clients that manage them are taken,
/// an empty list resets the tracking.
pub fn update(live: Option<&Value>, new: &mut Value, target: Target, writer: Writer<'_>) {
    let mut managed = starting_point(live, new, writer.subresource);
    set_field(new, Value::Null);
    // An object that nobody tracks stays so until it is applied to.
    if managed.is_empty() && live.is_some() {
        return;
    }
    let before = live.map_or_else(|| target.empty(), without_field);
    let reset = target.reset(writer.subresource);
    take(&mut managed, &before, new, target, writer, &reset);
    entries::cap(&mut managed);
    set_field(new, entries::encode(managed));
}

/// The entries to go on from: the request's own when it brings some, else those that are there.
fn starting_point(live: Option<&Value>, new: &Value, subresource: &str) -> Vec<Entry> {
    let there = || live.and_then(|live| entries::decode(field(live))).unwrap_or_default();
    if !subresource.is_empty() {
        return there();
    }
    let own = field(new);
    let resets = own.as_array().is_some_and(|list| match list.as_slice() {
        [] => true,
        [one] => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    });
    if resets {
        return Vec::new();
    }
    entries::decode(own).filter(|list| !list.is_empty()).unwrap_or_else(there)
}

/// Makes what differs the writer's.
fn take(
    managed: &mut Vec<Entry>,
    before: &Value,
    after: &Value,
    target: Target,
    writer: Writer<'_>,
    reset: &Set,
) {
    let difference = compare::compare(before, after, target.shape()).without(reset);
    let changed = difference.modified.union(&difference.added);
    for entry in managed.iter_mut() {
        entry.set = entry.set.difference(&changed).difference(&difference.removed);
    }
    let owned = stripped(&changed);
    let api_version = target.gvk.api_version();
    let is_writer = |entry: &Entry| {
        entry.operation == Operation::Update
            && entry.is_of(writer.manager, writer.subresource)
            && entry.api_version == api_version
    };
    if !owned.is_empty() {
        if let Some(entry) = managed.iter_mut().find(|entry| is_writer(entry)) {
            entry.set = entry.set.union(&owned);
            writer.now.clone_into(&mut entry.time);
        } else {
            managed.push(Entry::new(Operation::Update, writer, api_version, owned));
        }
    }
    managed.retain(|entry| !entry.set.is_empty());
}

/// Merges a configuration into an object (`None`: it is to be made), and records who owns what.
///
/// # Errors
///
/// See [`Error`]. With `force`, fields of others are taken instead.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    target: Target,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, Error> {
    check(config, target)?;
    let mut managed = live.and_then(|live| entries::decode(field(live))).unwrap_or_default();
    let before = live.map_or_else(|| target.empty(), without_field);
    if managed.is_empty() && live.is_some() {
        let nobody = Writer { manager: BEFORE_FIRST_APPLY, ..writer };
        take(&mut managed, &target.empty(), &before, target, nobody, &Set::default());
    }
    let mut result = attempt(&before, config, target, writer, force, &managed);
    if let Err(conflicts) = &mut result
        && writer.manager == KUBECTL
        && let Some(allowed) = client_side(&before, target)
    {
        conflicts.retain(|(_, path)| !allowed.has(path));
        if conflicts.is_empty() {
            result = attempt(&before, config, target, writer, true, &managed);
        }
    }
    let (mut object, mut managed) = result.map_err(|conflicts| {
        Error::Conflicts(
            conflicts
                .into_iter()
                .map(|(manager, path)| Conflict { manager, field: set::display(&path) })
                .collect(),
        )
    })?;
    entries::cap(&mut managed);
    set_field(&mut object, entries::encode(managed));
    if writer.manager == KUBECTL {
        keep_last_applied(&mut object, config);
    }
    Ok(object)
}

/// Paths that are owned by others, with the name of each owner.
type Conflicts = Vec<(String, Vec<String>)>;

fn attempt(
    before: &Value,
    config: &Value,
    target: Target,
    writer: Writer<'_>,
    force: bool,
    managed: &[Entry],
) -> Result<(Value, Vec<Entry>), Conflicts> {
    let (shape, reset) = (target.shape(), target.reset(writer.subresource));
    let is_writer = |entry: &Entry| {
        entry.operation == Operation::Apply && entry.is_of(writer.manager, writer.subresource)
    };
    let last = managed.iter().find(|entry| is_writer(entry));
    let set = compare::to_set(config, shape).without_below(&reset);
    let mut others: Vec<Entry> =
        managed.iter().filter(|entry| !is_writer(entry)).cloned().collect();
    let mut after = merge::merge(before, config, shape);
    if let Some(last) = last.filter(|last| !last.set.is_empty()) {
        let claimed = others.iter().fold(set.clone(), |all, entry| all.union(&entry.set));
        after = prune(after, &last.set, &claimed, shape);
    }
    let difference = compare::compare(before, &after, shape).without(&reset);
    let changed = difference.modified.union(&difference.added);
    let mut conflicts = Vec::new();
    for entry in &others {
        let taken = entry.set.intersection(&changed);
        conflicts.extend(taken.paths().into_iter().map(|path| (entry.shown(), path)));
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    for entry in &mut others {
        entry.set = entry.set.difference(&changed).difference(&difference.removed);
    }
    others.retain(|entry| !entry.set.is_empty());
    let set = stripped(&set);
    if !set.is_empty() {
        let api_version = target.gvk.api_version();
        let mut own = Entry::new(Operation::Apply, writer, api_version, set);
        if let Some(last) = last.filter(|last| last.set == own.set && difference.is_empty()) {
            own.time.clone_from(&last.time);
        }
        others.push(own);
    }
    Ok((after, others))
}

/// Takes away what was applied last time and is claimed by nobody now.
fn prune(merged: Value, last: &Set, claimed: &Set, shape: Shape) -> Value {
    let last = last.with_named_fields(shape);
    let all = compare::to_set(&merged, shape).with_named_fields(shape);
    let left = merge::remove(&merged, &last, shape);
    let left = compare::to_set(&left, shape).with_named_fields(shape);
    let kept = left.union(&claimed.with_named_fields(shape));
    let pruned = merge::remove(&merged, &all.difference(&kept), shape);
    let pruned = compare::to_set(&pruned, shape).with_named_fields(shape);
    // Only what the applier itself had applied: what nobody owns stays.
    merge::remove(&merged, &all.difference(&pruned).intersection(&last), shape)
}

/// What client-side apply had applied and is still so.
fn client_side(live: &Value, target: Target) -> Option<Set> {
    let annotations = tree::at(live, &["metadata", "annotations"]);
    let last: Value = serde_json::from_str(tree::text_opt(annotations, LAST_APPLIED)?).ok()?;
    if tree::text(&last, "apiVersion") != target.gvk.api_version() {
        return None;
    }
    let difference = compare::compare(&last, live, target.shape());
    let set = compare::to_set(&last, target.shape());
    let gone = difference.modified.union(&difference.added).union(&difference.removed);
    Some(set.difference(&gone))
}

/// An object that knows client-side apply goes on knowing what was applied last.
fn keep_last_applied(object: &mut Value, config: &Value) {
    let annotations = object.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"));
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else { return };
    if !annotations.contains_key(LAST_APPLIED) {
        return;
    }
    let mut applied = config.clone();
    if let Some(own) = applied
        .get_mut("metadata")
        .and_then(|meta| meta.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    {
        own.remove(LAST_APPLIED);
    }
    annotations
        .insert(LAST_APPLIED.to_owned(), Value::String(format!("{}\n", text::json(&applied))));
}

fn check(config: &Value, target: Target) -> Result<(), Error> {
    let gvk = target.gvk;
    let (version, kind) = (tree::text(config, "apiVersion"), tree::text(config, "kind"));
    if version != gvk.api_version() || kind != gvk.kind {
        return Err(Error::Malformed(format!("invalid object type: {version}, Kind={kind}")));
    }
    if !field(config).is_null() {
        return Err(Error::Malformed("metadata.managedFields must be nil".to_owned()));
    }
    let errors = shape::errors(config, target.shape());
    let why = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let meta = tree::get(config, "metadata");
    Err(Error::DoesNotFit(format!(
        "failed to create typed patch object ({}/{}; {version}, Kind={kind}): {why}",
        tree::text(meta, "namespace"),
        tree::text(meta, "name"),
    )))
}

#[cfg(test)]
mod tests;
