//! `MutatingAdmissionPolicy`: changes a write after the plugins that change it, in the order of names.

use quorate_api::policy::{Mutation, Policy};
use quorate_api::status::{Cause, Details, Reason, Status};
use quorate_api::{managed, patch};
use quorate_cel::{Budget, Error, Program, value};
use serde_json::Value;

use super::asked::Asked;
use super::hook::Binding;
use super::{Bound, bound, conditions, is_exempt, namespace_of, params, request};
use crate::admission::{Context, Draft, Operation};
use crate::identity::Identity;
use crate::model;
use crate::status_error::Answer;

const POLICIES: &str = "mutatingadmissionpolicies";
const BINDINGS: &str = "mutatingadmissionpolicybindings";

/// Has the policies that are about a write change it; whether one did.
pub(in crate::admission) fn mutate(
    ctx: &Context<'_>,
    by: &Identity,
    draft: &mut Draft,
) -> Answer<bool> {
    let policies = bound(ctx.view, POLICIES, BINDINGS);
    if policies.is_empty() || is_exempt(draft) || draft.operation == Operation::Delete {
        return Ok(false);
    }
    let before = draft.object.clone();
    let mut after_each: Vec<Value> = Vec::new();
    for known in &policies {
        run(ctx, by, draft, known)?;
        after_each.push(draft.object.clone());
    }
    // Once more for those that want to see what was changed after them.
    for (known, seen) in policies.iter().zip(after_each) {
        if known.hook.policy.reinvoked && seen != draft.object {
            run(ctx, by, draft, known)?;
        }
    }
    Ok(draft.object != before)
}

/// Why a policy could not do its work.
type Why = String;

fn run(ctx: &Context<'_>, by: &Identity, draft: &mut Draft, known: &Bound<'_>) -> Answer<()> {
    let policy = &known.hook.policy;
    if known.hook.about.resource(ctx.view, draft).is_none() {
        return Ok(());
    }
    let kind = match params::resource(ctx.view, policy.param_kind.as_ref()) {
        Ok(kind) => kind,
        Err(why) => {
            let why = format!("failed to configure policy: {why}");
            return failed(draft, policy, &format!("policy \"{}\"", known.name), &why);
        }
    };
    for (name, binding) in &known.bindings {
        let called = format!("policy '{}' with binding '{name}'", known.name);
        if binding.about.resource(ctx.view, draft).is_none() {
            continue;
        }
        let found = params::all(ctx.view, kind, &binding.params, &draft.namespace);
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let why = format!("failed to configure binding: {why}");
                failed(draft, policy, &called, &why)?;
                continue;
            }
        };
        for params in &found {
            if let Err(why) = change(ctx, by, draft, (policy, binding), params) {
                failed(draft, policy, &called, &why)?;
            }
        }
    }
    Ok(())
}

fn change(
    ctx: &Context<'_>,
    by: &Identity,
    draft: &mut Draft,
    (policy, _): (&Policy, &Binding),
    params: &Value,
) -> Result<(), Why> {
    let asked_of = request::of(draft, draft.def, by);
    let namespace = namespace_of(ctx, draft);
    let old = request::shown(&draft.old, draft.def, draft.def);
    for (at, mutation) in policy.mutations.iter().enumerate() {
        let object = request::shown(&draft.object, draft.def, draft.def);
        let mut asked = Asked::new(&asked_of, (&object, &old), (ctx.authorizer, by));
        asked.params = params;
        if at == 0 && !conditions::hold(&policy.conditions, &asked)? {
            return Ok(());
        }
        asked.namespace = &namespace;
        asked.variables = &policy.variables;
        let changed = mutated(draft, mutation, &object, &asked)?;
        draft.object = changed;
        model::apply_defaults(draft.def, &mut draft.object);
    }
    Ok(())
}

fn mutated(
    draft: &Draft,
    mutation: &Mutation,
    object: &Value,
    asked: &Asked<'_>,
) -> Result<Value, Why> {
    let program = mutation.program.as_ref().map_err(|why| format!("compilation error: {why}"))?;
    let part = evaluated(program, asked)?;
    let changed = if mutation.is_patch {
        let patch = with_values(part);
        patch::json(object, &patch).map_err(|error| match error {
            patch::Error::Rejected(why) => format!("JSON Patch: {why}"),
            other => format!("JSON Patch: {other}"),
        })?
    } else {
        managed::overlay(object, &part, model::managed_target(draft.def))?
    };
    // It has to fit: no field that the kind does not have, no value of another type.
    let mut warnings = Vec::new();
    let validation = quorate_api::codec::FieldValidation::Strict;
    let mut fits = model::decode_tree(&changed, draft.def.target(), validation, &mut warnings)
        .map_err(|status| status.message)?;
    // What a mutation may not touch.
    for name in ["name", "namespace", "uid"] {
        let was = &object["metadata"][name];
        if fits["metadata"][name] != *was {
            return Err(format!("metadata.{name} may not be changed by a mutation"));
        }
    }
    managed::set_field(&mut fits, managed::field(object).clone());
    Ok(fits)
}

fn evaluated(program: &Program, asked: &Asked<'_>) -> Result<Value, Why> {
    let mut budget = Budget::default();
    let made = program.evaluate(asked, &mut budget).map_err(|error| match error {
        Error::OutOfBudget => "running out of cost budget".to_owned(),
        error => format!("expression resulted in error: {error}"),
    })?;
    value::to_json(&made)
}

/// `add` and the like without a value put null there.
fn with_values(mut patch: Value) -> Value {
    for operation in patch.as_array_mut().into_iter().flatten() {
        let takes = matches!(operation["op"].as_str(), Some("add" | "replace" | "test"));
        if let Some(operation) = operation.as_object_mut()
            && takes
        {
            operation.entry("value").or_insert(Value::Null);
        }
    }
    patch
}

/// A refusal, unless the policy says that what goes wrong with it does not count.
fn failed(draft: &Draft, policy: &Policy, called: &str, why: &str) -> Answer<()> {
    if !policy.fails {
        return Ok(());
    }
    let message = format!("{called} denied request: {why}");
    let mut status = Status::forbidden(draft.resource(), &draft.name, "");
    status.message.clone_from(&message);
    (status.code, status.reason) = (403, Reason::Invalid);
    let details = status.details.get_or_insert_with(Box::<Details>::default);
    details.causes.push(Cause { message, ..Cause::default() });
    Err(Box::new(status))
}
