//! Garbage collection by owner references, over all resources of the store.
//!
//! Background: an object whose owners are all gone is deleted. Foreground: an owner that is being
//! deleted waits (finalizer `foregroundDeletion`) until the dependents that block it are gone.
//! Orphan: before the owner goes (finalizer `orphan`), its dependents forget it. Whether an owner
//! exists is decided by uid alone, in the same view as the dependent.

use quorate_api::resource;
use quorate_state_machine::Key;
use quorate_state_machine::object::{Header, StoredRef};
use quorate_store::EventDraft;
use serde::Deserialize;
use serde_json::Value;

use super::definition;
use crate::model::{Meta, OwnerReference, decode, to_value};
use crate::plan::{Ctx, Plan, WorkKey};
use crate::wake::garbage_key;
use crate::world::{Changed, World};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Any object, as far as garbage collection looks at it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Any {
    api_version: String,
    kind: String,
    metadata: Meta,
}

/// Wakes an object with owners or with finalizers of ours, dependents of one that goes, and owners
/// that wait for one that goes.
pub(crate) fn wakes(world: &World, change: &Changed, wake: &mut dyn FnMut(WorkKey)) {
    if change.new.as_ref().is_some_and(|new| concerns_us(&new.image.header)) {
        wake(garbage_key(&change.key));
    }
    for version in change.versions() {
        let header = &version.image.header;
        let gone = change.new.as_ref().is_none_or(|new| new.uid() != version.uid());
        if gone || deletes_dependents(header) {
            world.dependents(&header.uid).for_each(|key| wake(garbage_key(key)));
        }
        for owner in &header.owners {
            let waits = |key: &&Key| world.get(key).is_some_and(|owner| waits(&owner.image.header));
            if let Some(key) = world.by_uid(owner).filter(waits) {
                wake(garbage_key(key));
            }
        }
    }
}

fn concerns_us(header: &Header) -> bool {
    !header.owners.is_empty() || waits(header)
}

fn has(header: &Header, finalizer: &str) -> bool {
    header.finalizers.iter().any(|name| name == finalizer)
}

fn waits(header: &Header) -> bool {
    header.deletion.is_some() && (has(header, FOREGROUND) || has(header, ORPHAN))
}

fn deletes_dependents(header: &Header) -> bool {
    header.deletion.is_some() && has(header, FOREGROUND)
}

/// What is to be done for one object.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else {
        return plan;
    };
    let header = &stored.image.header;
    if deletes_dependents(header) {
        finish_foreground(ctx, stored, &mut plan);
    } else if header.deletion.is_some() && has(header, ORPHAN) {
        orphan(ctx, stored, &mut plan);
    } else if header.deletion.is_none() && !header.owners.is_empty() {
        collect(ctx, stored, &mut plan);
    }
    plan
}

/// The owner may go when nothing blocks it any more.
fn finish_foreground(ctx: &Ctx<'_>, stored: &StoredRef, plan: &mut Plan) {
    let uid = stored.uid();
    let blocks = |key: &Key| {
        // Nothing waits for itself.
        if *key == stored.key {
            return false;
        }
        let dependent = ctx.world.get(key).and_then(decode::<Any>).unwrap_or_default();
        let mut owners = dependent.metadata.owner_references.iter();
        owners.any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
    };
    if !ctx.world.dependents(uid).any(blocks) {
        plan.update(stored, without_finalizer(stored, FOREGROUND), "");
    }
}

/// First the dependents forget their owner, then it may go.
fn orphan(ctx: &Ctx<'_>, stored: &StoredRef, plan: &mut Plan) {
    let uid = stored.uid();
    for dependent in ctx.world.dependents(uid).filter_map(|key| ctx.world.get(key)) {
        let mut object = to_value(dependent);
        remove_owners(&mut object, |owner| owner == uid);
        plan.update(dependent, object, "");
    }
    if plan.steps.is_empty() {
        plan.update(stored, without_finalizer(stored, ORPHAN), "");
    }
}

/// What is known of an owner.
enum Owner {
    Solid,
    /// It waits for this dependent to go.
    Waiting,
    Absent,
    /// Whether the owner is there cannot be said.
    Unresolvable,
}

/// An object is deleted when no owner is left that wants it.
fn collect(ctx: &Ctx<'_>, stored: &StoredRef, plan: &mut Plan) {
    // Nearly always all owners are there: the header tells, without reading the object.
    if stored.image.header.owners.iter().all(|owner| is_solid(ctx.world, stored, owner)) {
        return;
    }
    let Some(object) = decode::<Any>(stored) else {
        return;
    };
    let (mut solid, mut waiting) = (0, 0);
    let mut useless = Vec::new();
    for owner in &object.metadata.owner_references {
        match owner_of(ctx.world, stored, owner) {
            Owner::Solid => solid += 1,
            Owner::Waiting => {
                waiting += 1;
                useless.push(owner.uid.as_str());
            }
            Owner::Absent => {
                warn_of_namespace(ctx.world, &object, owner, plan);
                useless.push(owner.uid.as_str());
            }
            Owner::Unresolvable => return,
        }
    }
    if solid > 0 {
        if !useless.is_empty() {
            let mut object = to_value(stored);
            remove_owners(&mut object, |owner| useless.contains(&owner));
            plan.update(stored, object, "");
        }
        // Said with a write only: else each look would say it again.
        if plan.steps.is_empty() {
            plan.events.clear();
        }
        return;
    }
    if waiting > 0 && in_a_circle(ctx.world, stored) && unblock(stored, &object, plan) {
        return;
    }
    let header = &stored.image.header;
    let propagation = if waiting > 0 && ctx.world.dependents(&header.uid).next().is_some() {
        "Foreground"
    } else if has(header, ORPHAN) {
        "Orphan"
    } else if has(header, FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    plan.delete_with(stored, None, propagation);
}

/// Whether the object may be waited for by something that it would wait for itself: a dependent of it
/// is being deleted in the foreground already.
fn in_a_circle(world: &World, stored: &StoredRef) -> bool {
    let dependents = world.dependents(stored.uid()).filter_map(|key| world.get(key));
    dependents.into_iter().any(|dependent| deletes_dependents(&dependent.image.header))
}

/// Lets the owners go before the object, which would else wait for them as they wait for it. Whether
/// there was something to change; the object is then looked at again.
fn unblock(stored: &StoredRef, object: &Any, plan: &mut Plan) -> bool {
    let blocks = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
    if !object.metadata.owner_references.iter().any(blocks) {
        return false;
    }
    let mut object = to_value(stored);
    let owners = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten().filter_map(Value::as_object_mut) {
        owner.insert("blockOwnerDeletion".to_owned(), Value::Bool(false));
    }
    plan.update(stored, object, "");
    true
}

fn owner_of(world: &World, dependent: &StoredRef, owner: &OwnerReference) -> Owner {
    let namespace = &dependent.key.object.namespace;
    let found = world.by_uid(&owner.uid).and_then(|key| world.get(key));
    match found {
        Some(found) if found.key.object.namespace.is_empty() => standing(found),
        Some(_) if namespace.is_empty() => Owner::Unresolvable,
        Some(found) if found.key.object.namespace == *namespace => standing(found),
        Some(_) => Owner::Absent,
        None if can_be_absent(world, owner, namespace) => Owner::Absent,
        None => Owner::Unresolvable,
    }
}

fn is_solid(world: &World, dependent: &StoredRef, owner: &str) -> bool {
    world.by_uid(owner).and_then(|key| world.get(key)).is_some_and(|owner| {
        let namespace = &owner.key.object.namespace;
        let reachable = namespace.is_empty() || *namespace == dependent.key.object.namespace;
        reachable && !deletes_dependents(&owner.image.header)
    })
}

fn standing(owner: &StoredRef) -> Owner {
    if deletes_dependents(&owner.image.header) { Owner::Waiting } else { Owner::Solid }
}

/// Whether an owner that is not there can be said to be absent. Of a kind that is not served nobody
/// knows (its API may come back, its objects with it); and a cluster-scoped object cannot be owned
/// from within a namespace.
fn can_be_absent(world: &World, owner: &OwnerReference, dependent_namespace: &str) -> bool {
    let Some((group, version)) = resource::split_api_version(&owner.api_version) else {
        return false;
    };
    let namespaced = match resource::by_kind(group, version, &owner.kind) {
        Some(kind) => Some(kind.namespaced),
        None => definition::is_namespaced(world, group, version, &owner.kind),
    };
    namespaced.is_some_and(|namespaced| !dependent_namespace.is_empty() || !namespaced)
}

/// An owner in another namespace counts as absent, and its dependent's owner should know why.
fn warn_of_namespace(world: &World, object: &Any, owner: &OwnerReference, plan: &mut Plan) {
    if world.by_uid(&owner.uid).is_none() {
        return;
    }
    plan.events.push(EventDraft {
        component: "garbage-collector-controller",
        regarding: object.metadata.regarding(&object.api_version, &object.kind),
        warning: true,
        reason: "OwnerRefInvalidNamespace",
        message: format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            owner.api_version,
            owner.kind,
            object.metadata.namespace,
            owner.name,
            owner.uid,
            object.metadata.namespace,
        ),
    });
}

fn without_finalizer(stored: &StoredRef, finalizer: &str) -> Value {
    let mut object = to_value(stored);
    if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|name| name != finalizer);
        if finalizers.is_empty()
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("finalizers");
        }
    }
    object
}

/// Removes the owner references whose uid is meant.
pub(super) fn remove_owners(object: &mut Value, meant: impl Fn(&str) -> bool) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        owners.retain(|owner| !owner["uid"].as_str().is_some_and(&meant));
        if owners.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
}
