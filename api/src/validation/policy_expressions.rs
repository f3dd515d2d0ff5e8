//! Expressions of admission policies, when they are written: they compile, and yield what they must.

use serde_json::Value;

use super::Errors;
use crate::field::{Error, Path};
use crate::policy::env::Names;
use crate::policy::{self, Compiled, Policy};
use crate::tree;

/// An expression that does not compile, at its place.
fn told(said: &Value, compiled: &Compiled, path: &Path<'_>, errors: &mut Errors) {
    let text = said.as_str().unwrap_or_default().trim();
    // What is missing is told as such.
    if let Err(why) = compiled
        && !text.is_empty()
    {
        errors.push(Error::invalid(path, text, why));
    }
}

/// The expressions of a list, each with the field that it is in.
fn each<'a>(
    spec: &Value,
    (list, field): (&str, &str),
    compiled: impl Iterator<Item = &'a Compiled>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let path = path.child(list);
    for (at, (said, compiled)) in tree::list(spec, list).iter().zip(compiled).enumerate() {
        told(tree::get(said, field), compiled, &path.index(at).child(field), errors);
    }
}

/// The conditions of a match, of whatever has some: `names` is what they may name beside the request.
pub(super) fn conditions(holder: &Value, names: Names, path: &Path<'_>, errors: &mut Errors) {
    let list = "matchConditions";
    let compiled = policy::conditions(tree::get(holder, list), names);
    let programs = compiled.iter().map(|one| &one.program);
    each(holder, (list, "expression"), programs, path, errors);
}

/// All expressions of a policy. Those of a spec that is what it was are not complained about.
pub(super) fn policy(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    const SPEC: Path<'static> = Path::new("spec");
    let spec = tree::get(object, "spec");
    if old.is_some_and(|old| tree::same(tree::get(old, "spec"), spec)) {
        return;
    }
    let compiled = Policy::of(object);
    let names = Names { params: compiled.param_kind.is_some(), authorizer: true };
    conditions(spec, names, &SPEC, errors);
    let programs = compiled.variables.iter().map(|one| &one.program);
    each(spec, ("variables", "expression"), programs, &SPEC, errors);
    let path = SPEC.child("validations");
    let validations = tree::list(spec, "validations").iter().zip(&compiled.validations);
    for (at, (said, validation)) in validations.enumerate() {
        let path = path.index(at);
        let own = tree::get(said, "expression");
        told(own, &validation.program, &path.child("expression"), errors);
        if let Some(program) = &validation.message_program {
            let name = "messageExpression";
            told(tree::get(said, name), program, &path.child(name), errors);
        }
    }
    let programs = compiled.annotations.iter().map(|one| &one.program);
    each(spec, ("auditAnnotations", "valueExpression"), programs, &SPEC, errors);
    let path = SPEC.child("mutations");
    let mutations = tree::list(spec, "mutations").iter().zip(&compiled.mutations);
    for (at, (said, mutation)) in mutations.enumerate() {
        let place = if mutation.is_patch { "jsonPatch" } else { "applyConfiguration" };
        let path = path.index(at);
        let path = path.child(place);
        let own = tree::get(tree::get(said, place), "expression");
        told(own, &mutation.program, &path.child("expression"), errors);
    }
}
