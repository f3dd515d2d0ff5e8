//! PATCH as server-side apply: a configuration is merged into the object, which is made when it is
//! not there; fields have owners.

use http::Response;
use quorate_api::codec::{decode_value, yaml};
use quorate_api::managed::{self, Conflict, Error};
use quorate_api::status::{Cause, Status};
use serde_json::Value;

use quorate_api::codec::FieldValidation;

use super::{Request, WriteOptions, create, patch, update};
use crate::admission::Ownership;
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::model;
use crate::reply::Body;
use crate::status_error::{Answer, Refusal};

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of_apply(&request.query)?;
    let body = request.body().await?;
    let (config, warnings) = read(&body, options.validation)?;
    let mut tries = 0;
    loop {
        match change(&request, &config, &warnings, options).await {
            Err(refusal) if refusal.code == 404 && request.sub.is_none() => {}
            other => return other,
        }
        match make(&request, &config, &warnings, options).await {
            // Somebody else was faster.
            Err(refusal) if is_taken(&refusal) && tries < CONFLICT_RETRIES_MAX => tries += 1,
            other => return other,
        }
    }
}

fn is_taken(refusal: &Refusal) -> bool {
    refusal.reason == quorate_api::status::Reason::AlreadyExists
}

/// The configuration, and the warnings about it.
pub(super) fn read(body: &[u8], validation: FieldValidation) -> Answer<(Value, Vec<String>)> {
    let bad = |why: String| Box::new(Status::bad_request(why));
    let text = String::from_utf8_lossy(body);
    let converted =
        yaml::to_json(&text).map_err(|why| bad(format!("error decoding YAML: {why}")))?;
    let config: Value = serde_json::from_slice(&converted.json)
        .map_err(|why| bad(format!("error decoding YAML: {why}")))?;
    if !config.is_object() {
        return Err(bad(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: \
                        cannot unmarshal the configuration into Go value of type \
                        map[string]interface {}"
                .to_owned(),
        ));
    }
    let mut warnings = Vec::new();
    if !converted.duplicates.is_empty() {
        let list = converted.duplicates.join("\n  ");
        let why = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {list}");
        match validation {
            FieldValidation::Strict => {
                return Err(bad(format!("error strict decoding YAML: {why}")));
            }
            FieldValidation::Warn => warnings.push(why),
            FieldValidation::Ignore => {}
        }
    }
    Ok((config, warnings))
}

/// The object with the configuration applied, decoded, and with its owners.
fn applied(request: &Request, live: Option<&Value>, config: &Value) -> Answer<Value> {
    let manager = request.field_manager();
    let now = crate::clock::rfc3339(request.shared.clock.now());
    let subresource = request.sub.map_or("", |sub| sub.name);
    let writer = managed::Writer { manager: &manager, subresource, now: &now };
    let force = request.query.flag("force");
    let target = model::managed_target(request.def);
    let merged = managed::apply(live, config, target, writer, force).map_err(refusal)?;
    let decoded = decode_value(&merged, request.def.target())
        .map_err(|error| Status::unclassified(error.cause()))?;
    Ok(decoded.value)
}

pub(super) fn refusal(error: Error) -> Refusal {
    let message = error.to_string();
    Box::new(match error {
        Error::Malformed(_) => Status::bad_request(message),
        Error::DoesNotFit(_) => Status::unclassified(message),
        Error::Conflicts(conflicts) => {
            let cause = |Conflict { manager, field }: Conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {manager}"),
                field,
            };
            Status::apply_conflict(conflicts.into_iter().map(cause).collect(), message)
        }
    })
}

async fn change(
    request: &Request,
    config: &Value,
    warnings: &[String],
    options: WriteOptions,
) -> Answer<Response<Body>> {
    let make = |old: &Value| {
        let mut object = applied(request, Some(old), config)?;
        patch::check_names(old, &object)?;
        let mut warnings = warnings.to_vec();
        warnings.extend(crate::stamp::distinct_owners(&mut object));
        if config["metadata"]["resourceVersion"].is_null() {
            // The version came from the current object: the client did not ask for it.
            crate::stamp::metadata(&mut object).remove("resourceVersion");
        }
        Ok((object, warnings))
    };
    update::change(request, None, options, make).await
}

async fn make(
    request: &Request,
    config: &Value,
    warnings: &[String],
    options: WriteOptions,
) -> Answer<Response<Body>> {
    let object = applied(request, None, config)?;
    let (meta, name) = (&object["metadata"], &request.target.name);
    let uid = model::text(&meta["uid"]);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was \
             found"
        );
        return Err(Box::new(Status::conflict(request.resource(), name, &why)));
    }
    update::check_name(request, &object)?;
    request.may_create()?;
    let mut draft = create::draft(request, object, warnings.to_vec())?;
    draft.ownership = Ownership::Computed;
    create::run_draft(request, draft, options).await
}
