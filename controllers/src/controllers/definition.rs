//! Definitions of custom kinds: accepts their names, and empties those that are being deleted.
//!
//! Desired: no two definitions of a group have a name in common; one whose names are accepted is established (and from
//! then on served). Of a definition that is being deleted no objects are left before it goes. Writes: the status of
//! definitions, deletions of their objects, at last the finalizer.

use std::collections::BTreeSet;

use quorate_api::custom::{FINALIZER, definition_name};
use quorate_api::resource;
use quorate_state_machine::{GroupResource, Key};
use serde_json::{Value, json};

use crate::limits::NAMESPACE_DELETIONS_MAX;
use crate::model::to_value;
use crate::plan::{Controller, Ctx, Plan, WorkKey};
use crate::resources::DEFINITIONS;
use crate::world::{Changed, World};

/// Wakes a definition that changed and the others of its group, which may now have its names, or no longer; and one
/// that waits for an object that went.
pub(crate) fn wakes(world: &World, change: &Changed, wake: &mut dyn FnMut(WorkKey)) {
    if DEFINITIONS.is(&change.key.resource) {
        wake(WorkKey::new(Controller::Definition, change.key.clone()));
        let group = change.key.object.name.split_once('.').map_or("", |(_, group)| group);
        for other in in_group(world, group).filter(|other| **other != change.key) {
            wake(WorkKey::new(Controller::Definition, other.clone()));
        }
        return;
    }
    let resource = &change.key.resource;
    if change.new.is_none() && resource.group.contains('.') {
        let key = DEFINITIONS.key("", &definition_name(&resource.group, &resource.resource));
        if world.get(&key).is_some_and(|found| found.image.header.deletion.is_some()) {
            wake(WorkKey::new(Controller::Definition, key));
        }
    }
}

/// The definitions of a group, by their names.
fn in_group<'a>(world: &'a World, group: &'a str) -> impl Iterator<Item = &'a Key> {
    let all = world.resource(DEFINITIONS).into_iter().flat_map(|found| found.iter());
    all.map(|stored| &stored.key)
        .filter(move |key| key.object.name.split_once('.').is_some_and(|(_, own)| own == group))
}

/// Whether a kind is one that a definition serves, and if so whether its objects live in namespaces.
pub(super) fn is_namespaced(world: &World, group: &str, version: &str, kind: &str) -> Option<bool> {
    in_group(world, group).filter_map(|key| world.get(key)).find_map(|stored| {
        let definition = to_value(stored);
        let spec = &definition["spec"];
        let served = |one: &Value| one["name"] == version && one["served"] == true;
        let versions = spec["versions"].as_array()?;
        (spec["names"]["kind"] == kind && versions.iter().any(served))
            .then(|| spec["scope"] == "Namespaced")
    })
}

/// What is to be done for one definition.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else {
        return plan;
    };
    let object = to_value(stored);
    if stored.image.header.deletion.is_none() {
        let mut named = object.clone();
        names(ctx, key, &mut named);
        if named != object {
            plan.update(stored, named, "status");
        }
        return plan;
    }
    if !stored.image.header.finalizers.iter().any(|name| name == FINALIZER) {
        return plan;
    }
    let mut object = object;
    if empty(ctx, &object, &mut plan) {
        let (reason, message) = ("InstanceDeletionCompleted", "removed all instances");
        put(&mut object["status"], ("Terminating", false, reason, message), ctx);
        if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|name| name != FINALIZER);
        }
        plan.update(stored, object, "");
        return plan;
    }
    let before = object["status"].clone();
    let (reason, message) =
        ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
    put(&mut object["status"], ("Terminating", true, reason, message), ctx);
    if object["status"] != before {
        plan.update(stored, object, "status");
    }
    plan
}

/// Deletes the objects that are not being deleted yet; whether there are none.
fn empty(ctx: &Ctx<'_>, definition: &Value, plan: &mut Plan) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &definition["spec"];
    let resource = GroupResource::new(&text(&spec["group"]), &text(&spec["names"]["plural"]));
    let Some(objects) = ctx.world.view().resource(&resource) else { return true };
    let mut none = true;
    for object in objects.iter() {
        none = false;
        let waits = object.image.header.deletion.is_some();
        if !waits && plan.steps.len() < NAMESPACE_DELETIONS_MAX {
            plan.delete(object);
        }
    }
    none
}

/// Names that others of the group have: of resources, and of kinds.
fn taken(ctx: &Ctx<'_>, own: &Key, group: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    let built_in = resource::all().iter().filter(|def| def.group() == group);
    for def in built_in {
        resources.extend([def.plural, def.singular].map(str::to_owned));
        resources.extend(def.short_names.iter().map(|name| (*name).to_owned()));
        kinds.extend([def.kind().to_owned(), def.list_kind()]);
    }
    for stored in
        in_group(ctx.world, group).filter(|key| *key != own).filter_map(|key| ctx.world.get(key))
    {
        let other = to_value(stored);
        let names = &other["status"]["acceptedNames"];
        let text = |name: &str| names[name].as_str().unwrap_or_default().to_owned();
        resources.extend([text("plural"), text("singular")]);
        let short = names["shortNames"].as_array().into_iter().flatten();
        resources.extend(short.filter_map(|name| name.as_str().map(str::to_owned)));
        kinds.extend([text("kind"), text("listKind")]);
    }
    resources.remove("");
    kinds.remove("");
    (resources, kinds)
}

/// Accepts the names that nobody else has, and says so.
fn names(ctx: &Ctx<'_>, key: &Key, object: &mut Value) {
    let wanted = object["spec"]["names"].clone();
    let group = object["spec"]["group"].as_str().unwrap_or_default();
    let (resources, kinds) = taken(ctx, key, group);
    let mut accepted = object["status"]["acceptedNames"].clone();
    let mut conflict: Option<(&'static str, String)> = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    let each = [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ];
    for (name, taken, reason) in each {
        let text = wanted[name].as_str().unwrap_or_default();
        if taken.contains(text) {
            conflict = Some((reason, in_use(text)));
        } else if !text.is_empty() {
            accepted[name] = json!(text);
        }
    }
    let short: Vec<&str> =
        wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let in_conflict: Vec<String> =
        short.iter().filter(|name| resources.contains(**name)).map(|name| in_use(name)).collect();
    if in_conflict.is_empty() {
        copy(&wanted, &mut accepted, "shortNames");
    } else {
        let all = in_conflict.join(", ");
        let message = if in_conflict.len() == 1 { all } else { format!("[{all}]") };
        conflict = Some(("ShortNamesConflict", message));
    }
    copy(&wanted, &mut accepted, "categories");
    let status = &mut object["status"];
    status["acceptedNames"] = accepted;
    let established = holds(status, "Established");
    match &conflict {
        None => {
            put(status, ("NamesAccepted", true, "NoConflicts", "no conflicts found"), ctx);
            let message = "the initial names have been accepted";
            put(status, ("Established", true, "InitialNamesAccepted", message), ctx);
        }
        Some((reason, message)) => {
            put(status, ("NamesAccepted", false, reason, message), ctx);
            if !established {
                let message = "not all names are accepted";
                put(status, ("Established", false, "NotAccepted", message), ctx);
            }
        }
    }
}

fn copy(from: &Value, to: &mut Value, name: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(name).filter(|value| !value.is_null()) {
        Some(value) => map.insert(name.to_owned(), value.clone()),
        None => map.remove(name),
    };
}

fn holds(status: &Value, kind: &str) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == kind && one["status"] == "True")
}

fn put(
    status: &mut Value,
    (kind, value, reason, message): (&str, bool, &str, &str),
    ctx: &Ctx<'_>,
) {
    let value = if value { "True" } else { "False" };
    let now = quorate_store::clock::format_time(ctx.now);
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(condition) => {
            if condition["status"] != value {
                condition["lastTransitionTime"] = json!(now);
                condition["reason"] = json!(reason);
                condition["message"] = json!(message);
            } else if value == "False" || kind == "Terminating" {
                condition["reason"] = json!(reason);
                condition["message"] = json!(message);
            }
            condition["status"] = json!(value);
        }
        None => conditions.push(json!({
            "type": kind,
            "status": value,
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        })),
    }
}
