//! `ValidatingAdmissionPolicy`: asked after everything that changes a write, in upstream's order and words.

use quorate_api::policy::{Policy, Validation};
use quorate_api::status::{Cause, Details, Reason, Status};
use quorate_cel::limits::MESSAGE_BYTES_MAX;
use quorate_cel::{Budget, Error, Program, Value};
use serde_json::Value as Json;

use super::asked::Asked;
use super::{bound, conditions, is_exempt, namespace_of, params, request};
use crate::admission::{Context, Draft, Operation};
use crate::identity::Identity;
use crate::status_error::Answer;

const POLICIES: &str = "validatingadmissionpolicies";
const BINDINGS: &str = "validatingadmissionpolicybindings";
const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Something that does not hold.
struct Denied {
    message: String,
    /// "" for the reason of most.
    reason: String,
}

impl Denied {
    fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), reason: String::new() }
    }
}

/// Asks the policies that are about a write. Warnings are the draft's.
pub(in crate::admission) fn validate(
    ctx: &Context<'_>,
    by: &Identity,
    draft: &mut Draft,
) -> Answer<()> {
    let policies = bound(ctx.view, POLICIES, BINDINGS);
    if policies.is_empty() || is_exempt(draft) {
        return Ok(());
    }
    // The first that denies is told.
    let mut denied: Option<(String, Denied)> = None;
    let mut warnings = Vec::new();
    let mut deny = |by: String, what: Denied| {
        denied.get_or_insert((by, what));
    };
    for known in policies {
        let policy = &known.hook.policy;
        let Some(meant) = known.hook.about.resource(ctx.view, draft) else { continue };
        let called = format!("ValidatingAdmissionPolicy '{}'", known.name);
        let kind = match params::resource(ctx.view, policy.param_kind.as_ref()) {
            Ok(kind) => kind,
            Err(why) => {
                if policy.fails {
                    deny(called, Denied::because(format!("failed to configure policy: {why}")));
                }
                continue;
            }
        };
        let shown = Shown::of(ctx, by, draft, meant);
        for (name, binding) in known.bindings {
            if binding.about.resource(ctx.view, draft).is_none() {
                continue;
            }
            let called = format!("{called} with binding '{name}'");
            let params = match params::all(ctx.view, kind, &binding.params, &draft.namespace) {
                Ok(params) => params,
                Err(why) => {
                    if policy.fails {
                        let why = format!("failed to configure binding: {why}");
                        deny(called, Denied::because(why));
                    }
                    continue;
                }
            };
            for params in &params {
                let (broken, unnoted) = ask(ctx, by, policy, &shown, params);
                for what in broken {
                    for action in &binding.actions {
                        match action.as_str() {
                            "Warn" => warnings
                                .push(format!("Validation failed for {called}: {}", what.message)),
                            "Deny" => deny(
                                called.clone(),
                                Denied {
                                    message: what.message.clone(),
                                    reason: what.reason.clone(),
                                },
                            ),
                            // There is no audit that it could be noted in.
                            _ => {}
                        }
                    }
                }
                for why in unnoted {
                    deny(called.clone(), Denied::because(why));
                }
            }
        }
    }
    draft.warnings.extend(warnings);
    match denied {
        Some((by, what)) => Err(Box::new(refusal(draft, &by, &what))),
        None => Ok(()),
    }
}

/// A write as one policy sees it.
struct Shown {
    request: Json,
    object: Json,
    old: Json,
    namespace: Json,
}

impl Shown {
    fn of(
        ctx: &Context<'_>,
        by: &Identity,
        draft: &Draft,
        meant: &'static quorate_api::resource::ResourceDef,
    ) -> Self {
        let gone = draft.operation == Operation::Delete;
        let object = if gone { &Json::Null } else { &draft.object };
        Self {
            request: request::of(draft, meant, by),
            object: request::shown(object, draft.def, meant),
            old: request::shown(&draft.old, draft.def, meant),
            namespace: namespace_of(ctx, draft),
        }
    }
}

/// What does not hold, and which notes for the audit could not be made.
fn ask(
    ctx: &Context<'_>,
    by: &Identity,
    policy: &Policy,
    shown: &Shown,
    params: &Json,
) -> (Vec<Denied>, Vec<String>) {
    let objects = (&shown.object, &shown.old);
    let mut asked = Asked::new(&shown.request, objects, (ctx.authorizer, by));
    asked.params = params;
    match conditions::hold(&policy.conditions, &asked) {
        Ok(true) => {}
        Ok(false) => return (Vec::new(), Vec::new()),
        Err(why) if policy.fails => return (vec![Denied::because(why)], Vec::new()),
        Err(_) => return (Vec::new(), Vec::new()),
    }
    asked.namespace = &shown.namespace;
    asked.variables = &policy.variables;
    let mut budget = Budget::default();
    let mut denied = Vec::new();
    for validation in &policy.validations {
        match judged(validation, &asked, &mut budget) {
            Ok(None) => {}
            Ok(Some(what)) => denied.push(what),
            Err((why, goes_on)) => {
                if policy.fails {
                    denied.push(Denied::because(why));
                }
                if !goes_on {
                    return (denied, Vec::new());
                }
            }
        }
    }
    (denied, unnoted(policy, &asked))
}

/// A validation that does not hold; an error, with whether others are asked after it.
fn judged(
    validation: &Validation,
    asked: &Asked<'_>,
    budget: &mut Budget,
) -> Result<Option<Denied>, (String, bool)> {
    let program = match &validation.program {
        Ok(program) => program,
        Err(why) => return Err((format!("compilation error: {why}"), true)),
    };
    match program.evaluate(asked, budget) {
        Ok(Value::Bool(true)) => Ok(None),
        Ok(_) => {
            let message = message(validation, asked, budget);
            Ok(Some(Denied { message, reason: validation.reason.clone() }))
        }
        Err(Error::OutOfBudget) => Err((SPENT.to_owned(), false)),
        Err(error) => {
            let text = &validation.expression;
            Err((format!("expression '{text}' resulted in error: {error}"), true))
        }
    }
}

fn message(validation: &Validation, asked: &Asked<'_>, budget: &mut Budget) -> String {
    let computed = |program: &Program, budget: &mut Budget| match program.evaluate(asked, budget) {
        Ok(Value::String(text)) => Some(text.trim().to_owned()),
        _ => None,
    };
    if let Some(Ok(program)) = &validation.message_program
        && let Some(text) = computed(program, budget)
        && !text.is_empty()
        && text.len() <= MESSAGE_BYTES_MAX
        && !text.contains('\n')
    {
        return text;
    }
    match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.trim()),
        message => message.to_owned(),
    }
}

/// Notes for the audit are made and dropped: what goes wrong with them counts.
fn unnoted(policy: &Policy, asked: &Asked<'_>) -> Vec<String> {
    let mut budget = Budget::default();
    let mut wrong = Vec::new();
    for note in &policy.annotations {
        let why = match &note.program {
            Ok(program) => match program.evaluate(asked, &mut budget) {
                Ok(_) => continue,
                Err(error) => {
                    format!("expression '{}' resulted in error: {error}", note.expression)
                }
            },
            Err(why) => format!("compilation error: {why}"),
        };
        if policy.fails {
            wrong.push(why);
        }
    }
    wrong
}

fn refusal(draft: &Draft, by: &str, denied: &Denied) -> Status {
    let message = format!("{by} denied request: {}", denied.message);
    let mut status = Status::forbidden(draft.resource(), &draft.name, &message);
    (status.code, status.reason) = match denied.reason.as_str() {
        "Forbidden" => (403, Reason::Forbidden),
        "Unauthorized" => (401, Reason::Unauthorized),
        "RequestEntityTooLarge" => (413, Reason::RequestEntityTooLarge),
        _ => (422, Reason::Invalid),
    };
    let details = status.details.get_or_insert_with(Box::<Details>::default);
    details.causes.push(Cause { message, ..Cause::default() });
    status
}
