//! Validating admission policies: what does not fit the types of what they are about is told in their status.
//!
//! Desired: the status says which generation was looked at, and what is wrong with its expressions when the types of
//! objects are known. Nothing depends on it: policies are asked as they are. Writes: `status.observedGeneration` and
//! `status.typeChecking`.

use quorate_api::custom::{Definition, definition_name};
use quorate_api::policy::typing;
use quorate_api::resource::{self, ResourceDef};
use quorate_cel::Type;
use quorate_state_machine::Key;
use serde_json::{Value, json};

use crate::model::to_value;
use crate::plan::{Ctx, Plan};
use crate::resources::DEFINITIONS;
use crate::world::World;

/// What is to be done for one policy.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else { return plan };
    let mut policy = to_value(stored);
    let generation = policy["metadata"]["generation"].clone();
    if policy["status"]["observedGeneration"] == generation {
        return plan;
    }
    let mut kinds: Vec<&'static ResourceDef> = typing::named(&policy)
        .iter()
        .filter_map(|(group, version, plural)| lookup(ctx.world, group, version, plural))
        .collect();
    kinds.truncate(typing::KINDS_MAX);
    let mut kinds: Vec<(String, Type)> =
        kinds.into_iter().map(|def| (typing::shown(def), typing::of(def))).collect();
    kinds.sort_by(|a, b| a.0.cmp(&b.0));
    let warnings = typing::warnings(&policy, &kinds, params(&policy));
    let mut checking = json!({});
    if !warnings.is_empty() {
        checking["expressionWarnings"] = Value::from(warnings);
    }
    policy["status"]["observedGeneration"] = generation;
    policy["status"]["typeChecking"] = checking;
    plan.update(stored, policy, "status");
    plan
}

fn lookup(world: &World, group: &str, version: &str, plural: &str) -> Option<&'static ResourceDef> {
    if let Some(def) = resource::lookup(group, version, plural) {
        return Some(def);
    }
    let stored = world.get(&DEFINITIONS.key("", &definition_name(group, plural)))?;
    Definition::of(&to_value(stored)).version(version)
}

/// The type of parameters of a built-in kind.
fn params(policy: &Value) -> Option<Type> {
    let kind = &policy["spec"]["paramKind"];
    let (version, name) = (kind["apiVersion"].as_str()?, kind["kind"].as_str()?);
    let def =
        resource::all().iter().find(|def| def.api_version() == version && def.kind() == name)?;
    Some(typing::of(def))
}
