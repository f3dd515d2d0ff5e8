//! Admission policies: expressions that judge writes (`ValidatingAdmissionPolicy`) or change them
//! (`MutatingAdmissionPolicy`), where a binding says so.
//!
//! Policies and bindings are read from the view that the write is decided on, so one counts for every write that begins
//! after it was answered. Without bindings this costs a look at an empty part of the view. What they are compiled to
//! hangs on their stored versions ([`Hook`]). Start reading at [`validate`]; [`Conditions`] are for webhooks too.

mod asked;
mod authorizer;
mod conditions;
mod hook;
mod matching;
mod mutating;
mod params;
mod request;
mod validating;

use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Key, ResourceView, View};
use serde_json::Value;

use super::{Context, Draft};
use crate::model;

pub(crate) use conditions::Conditions;
pub(crate) use hook::Hook;
use hook::{Binding, GROUP, PolicyHook};
pub(super) use mutating::mutate;
pub(super) use validating::validate;

/// A policy that is bound, with its bindings, by their names.
struct Bound<'a> {
    name: &'a str,
    hook: &'a PolicyHook,
    bindings: Vec<(&'a str, &'a Binding)>,
}

/// The policies that are bound, in the order of their names.
fn bound<'a>(view: &'a View, policies: &str, bindings: &str) -> Vec<Bound<'a>> {
    let bindings = view.resource(&GroupResource::new(GROUP, bindings));
    let Some(bindings) = bindings.filter(|all| all.iter().next().is_some()) else {
        return Vec::new();
    };
    let mut found: Vec<Bound<'a>> = Vec::new();
    for (name, binding) in sorted(bindings) {
        let Some(Hook::Binding(binding)) = model::hook(binding) else { continue };
        if let Some(known) = found.iter_mut().find(|known| known.name == binding.policy) {
            known.bindings.push((name, binding));
            continue;
        }
        let key = Key::new(GROUP, policies, "", &binding.policy);
        let Some(stored) = view.get(&key) else { continue };
        // A policy that goes is asked no more when it is gone.
        let Some(Hook::Policy(hook)) = model::hook(stored) else { continue };
        found.push(Bound { name: &stored.key.object.name, hook, bindings: vec![(name, binding)] });
    }
    found.sort_by_key(|bound| bound.name);
    found
}

fn sorted(all: &ResourceView) -> Vec<(&str, &StoredRef)> {
    let mut all: Vec<(&str, &StoredRef)> =
        all.iter().map(|stored| (&*stored.key.object.name, stored)).collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

/// Policies are asked about everything but themselves: nobody may lock the way back.
fn is_exempt(draft: &Draft) -> bool {
    draft.def.group() == GROUP
        || (matches!(draft.def.group(), "authentication.k8s.io" | "authorization.k8s.io"))
}

/// A namespace as it is; `None` when there is none.
fn namespace(view: &View, name: &str) -> Option<Value> {
    let stored = view.get(&Key::new("", "namespaces", "", name))?;
    serde_json::from_slice(&stored.image.bytes).ok()
}

/// The namespace that a write is in; null for what is in none, and for namespaces.
fn namespace_of(ctx: &Context<'_>, draft: &Draft) -> Value {
    let is_namespace = draft.def.group().is_empty() && draft.def.plural == "namespaces";
    if draft.namespace.is_empty() || is_namespace {
        return Value::Null;
    }
    namespace(ctx.view, &draft.namespace).unwrap_or_default()
}

#[cfg(test)]
mod tests;
