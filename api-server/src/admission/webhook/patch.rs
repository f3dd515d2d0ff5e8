//! What a mutating webhook makes of an object.

use quorate_api::codec::{MediaType, decode_any};
use quorate_api::managed;
use quorate_api::status::Status;
use serde_json::Value;

use super::call::{self, Failure, Question};
use super::case;
use super::configuration::Hook;
use super::review::Verdict;
use crate::admission::{Draft, Operation};
use crate::parameters::quoted;

/// The object that an answer makes of the one that was shown; `None` when it leaves it as it is.
pub(super) fn apply(
    hook: &Hook,
    question: &Question<'_>,
    verdict: Verdict,
    warnings: &[String],
) -> Result<Option<Value>, Failure> {
    if !verdict.allowed {
        let refusal = call::refusal(&hook.name, &verdict.status, warnings.to_vec());
        return Err(Failure::Verdict(refusal));
    }
    if verdict.patch.is_empty() {
        return Ok(None);
    }
    let undecodable = |why: String| {
        Failure::call(format!("received undecodable patch in webhook response: {why}"), 503)
    };
    let patch = decode_any(MediaType::Json, &verdict.patch).map_err(undecodable)?;
    let Some(operations) = patch.as_array() else {
        return Err(undecodable("a JSON patch is a list of operations".to_owned()));
    };
    if operations.is_empty() {
        return Ok(None);
    }
    let here = |why: &str| Failure::Here(Box::new(Status::internal_error(why)));
    // A stream's options are in its URL, which nobody writes anew.
    if question.object.is_null() || question.case.operation == Operation::Connect {
        let name = quoted(&hook.name);
        return Err(here(&format!(
            "admission webhook {name} attempted to modify the object, which is not supported for this operation"
        )));
    }
    if verdict.patch_type != "JSONPatch" {
        let kind = quoted(&verdict.patch_type);
        return Err(Failure::call(format!("unsupported patch type {kind}"), 400));
    }
    let patched =
        quorate_api::patch::json(question.object, &patch).map_err(|error| here(&told(&error)))?;
    let decoded = case::decoded(question.case, question.shown_as, &patched);
    decoded.map(Some).map_err(|refusal| here(&refusal.message))
}

fn told(error: &quorate_api::patch::Error) -> String {
    match error {
        // Its own text is for clients, who get no details.
        quorate_api::patch::Error::Rejected(why) => why.clone(),
        other => other.to_string(),
    }
}

/// Owners that make no sense any more are what they were before; the client is told.
pub(super) fn restore_owners(draft: &mut Draft, before: Value) {
    let Some(why) = nonsense(managed::field(&draft.object)) else { return };
    managed::set_field(&mut draft.object, before);
    draft.warnings.push(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
         admission controller; please fix your requests: {why}"
    ));
}

fn nonsense(owners: &Value) -> Option<String> {
    owners.as_array().into_iter().flatten().find_map(|entry| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        if text("fieldsType") != "FieldsV1" {
            let kind = quoted(text("fieldsType"));
            return Some(format!("unsupported fieldsType: {kind}"));
        }
        if !matches!(text("operation"), "Apply" | "Update") {
            return Some(format!("invalid operation {}", quoted(text("operation"))));
        }
        let fields = &entry["fieldsV1"];
        (!fields.is_object() && !fields.is_null())
            .then(|| "error decoding managed fields".to_owned())
    })
}
