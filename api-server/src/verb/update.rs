//! PUT: a whole new version, of the object or of a subresource.

use std::sync::Arc;

use http::Response;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, OBJECT_MODIFIED, Status};
use quorate_state_machine::object::{Stored, StoredRef};
use quorate_state_machine::{Outcome, Revision};
use quorate_store::Consistency;
use serde_json::Value;

use super::{Request, WriteOptions, create};
use crate::admission::{self, Admitted, Draft, Operation, Ownership};
use crate::limits::{CHARGE_RETRIES_MAX, CONFLICT_RETRIES_MAX};
use crate::reply::{self, Body};
use crate::stamp::propose;
use crate::status_error::{self, Answer, Refusal};
use crate::{model, service_address};

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    request.check_form()?;
    let options = WriteOptions::of(&request.query, "UpdateOptions")?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let target = request.sub.map_or_else(|| request.def.target(), |sub| sub.target());
    let mut warnings = Vec::new();
    let mut object = model::decode(&media, &body, target, options.validation, &mut warnings)?;
    check_name(&request, &object)?;
    let namespace = request.target.namespace_of(request.def);
    let own = model::text(&object["metadata"]["namespace"]);
    create::check_namespace(own, &namespace)?;
    // A body may leave the namespace to the path, as in Kubernetes.
    let meta = crate::stamp::metadata(&mut object);
    if namespace.is_empty() {
        meta.remove("namespace");
    } else {
        meta.insert("namespace".to_owned(), Value::from(namespace));
    }
    warnings.extend(crate::stamp::distinct_owners(&mut object));
    let expected = expected(&object)?;
    let make = |_: &Value| {
        if expected.is_none() && !model::allows_unconditional_update(request.def) {
            return Err(must_be_specified(&request));
        }
        Ok((object.clone(), warnings.clone()))
    };
    match change(&request, expected, options, make).await {
        Err(refusal)
            if refusal.code == 404
                && request.sub.is_none()
                && model::allows_create_on_update(request.def) =>
        {
            create_instead(&request, object.clone(), warnings.clone(), options).await
        }
        other => other,
    }
}

/// The body is about the object that the path names.
pub(super) fn check_name(request: &Request, object: &Value) -> Answer<()> {
    let (name, wanted) = (model::text(&object["metadata"]["name"]), &request.target.name);
    if name == wanted {
        return Ok(());
    }
    Err(Box::new(Status::bad_request(if name.is_empty() {
        format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be \
             provided"
        )
    } else {
        format!("the name of the object ({name}) does not match the name on the URL ({wanted})")
    })))
}

/// A PUT of what is not there, for kinds that may be made that way: whatever version the body
/// names, but not another object than the one with its uid; and only for who may create.
async fn create_instead(
    request: &Request,
    mut object: Value,
    warnings: Vec<String>,
    options: WriteOptions,
) -> Answer<Response<Body>> {
    let uid = model::text(&object["metadata"]["uid"]);
    if !uid.is_empty() {
        return Err(uid_conflict(request, uid, ""));
    }
    request.may_create()?;
    crate::stamp::metadata(&mut object).remove("resourceVersion");
    let draft = create::draft(request, object, warnings)?;
    create::run_draft(request, draft, options).await
}

fn must_be_specified(request: &Request) -> Refusal {
    // Upstream names the resource here, where a kind would be expected.
    let kind = request.resource();
    let path = Path::new("metadata");
    let error =
        Error::invalid(&path.child("resourceVersion"), 0, "must be specified for an update");
    Box::new(Status::invalid(kind, &request.target.name, &[error]))
}

/// The resourceVersion that a body names; `None` for none or "0".
pub(super) fn expected(object: &Value) -> Answer<Option<Revision>> {
    match model::text(&object["metadata"]["resourceVersion"]) {
        "" | "0" => Ok(None),
        text => text.parse().map(|revision| Some(Revision(revision))).map_err(|_| {
            let path = Path::new("metadata");
            let error = Error::invalid(
                &path.child("resourceVersion"),
                text,
                format!(
                    "strconv.ParseUint: parsing {}: invalid syntax",
                    crate::parameters::quoted(text)
                ),
            );
            Box::new(Status::invalid(GroupResource::new("", ""), "", &[error]))
        }),
    }
}

/// What a change came to.
enum Changed {
    Stored(Arc<Stored>),
    Tree(Value),
}

/// Changes the object and answers with its new version.
pub(super) async fn change(
    request: &Request,
    expected: Option<Revision>,
    options: WriteOptions,
    make: impl Fn(&Value) -> Answer<(Value, Vec<String>)>,
) -> Answer<Response<Body>> {
    let (changed, warnings) = perform(request, expected, options, make).await?;
    let mut response = match changed {
        Changed::Stored(stored) => request.show_stored(200, &stored)?,
        Changed::Tree(object) => request.show(200, object)?,
    };
    reply::warn(response.headers_mut(), &warnings);
    Ok(response)
}

/// Changes the object and gives its new version, with what the client should be told.
pub(super) async fn change_value(
    request: &Request,
    expected: Option<Revision>,
    options: WriteOptions,
    make: impl Fn(&Value) -> Answer<(Value, Vec<String>)>,
) -> Answer<(Value, Vec<String>)> {
    let (changed, warnings) = perform(request, expected, options, make).await?;
    let object = match changed {
        Changed::Stored(stored) => model::tree(request.def, &stored)?,
        Changed::Tree(object) => object,
    };
    Ok((object, warnings))
}

/// Computes a new version from the current one, admits and proposes it; computes it anew when
/// another write came between and the client named no version.
async fn perform(
    request: &Request,
    expected: Option<Revision>,
    options: WriteOptions,
    make: impl Fn(&Value) -> Answer<(Value, Vec<String>)>,
) -> Answer<(Changed, Vec<String>)> {
    if let Some(revision) = expected {
        // The client may have seen more than this master has.
        let read = request.shared.store.read(Consistency::AtLeast(revision)).await;
        read.map_err(|error| status_error::of_store(&error))?;
    }
    let mut stored = request.current(false).await?;
    let (mut conflicts, mut allocations, mut charges) = (0, 0, 0);
    loop {
        let old = model::tree(request.def, &stored)?;
        let (object, warnings) = make(&old)?;
        let wanted = self::expected(&object)?.or(expected);
        check_identity(request, &object, &stored)?;
        if wanted.is_some_and(|revision| revision != stored.revision) {
            stored = newer(request, wanted).await?;
            continue;
        }
        let draft = draft(request, (object, old), warnings, options);
        let admitted = admit(request, draft.clone(), &stored).await?;
        let warnings = admitted.warnings().to_vec();
        if options.dry_run || admitted.is_no_change() {
            let newest = request.current(true).await?;
            if !options.dry_run && newest.revision != stored.revision {
                stored = newest;
                continue;
            }
            let changed = if admitted.is_no_change() {
                Changed::Stored(stored)
            } else {
                Changed::Tree(at(admitted.object().clone(), stored.revision))
            };
            return Ok((changed, warnings));
        }
        let image = admitted.image().cloned();
        let removed = admitted.object().clone();
        let Some(command) = admitted.into_command() else {
            return Err(Box::new(Status::internal_error("an update came to nothing")));
        };
        match propose(&request.shared.store, command).await? {
            Outcome::Done(revision) => {
                let changed = match image {
                    Some(image) => {
                        Changed::Stored(Arc::new(Stored::new(request.key(), revision, image)))
                    }
                    None => Changed::Tree(at(removed, revision)),
                };
                return Ok((changed, warnings));
            }
            Outcome::Conflict(_) if wanted.is_none() && conflicts < CONFLICT_RETRIES_MAX => {
                conflicts += 1;
            }
            Outcome::Conflict(_) => return Err(conflict(request)),
            // Another write has charged the same quota.
            Outcome::Aborted if charges < CHARGE_RETRIES_MAX => charges += 1,
            Outcome::ClaimTaken { claim, .. } => {
                service_address::lost(&draft, &claim, &mut allocations)?;
            }
            other => {
                return Err(status_error::of_outcome(
                    &other,
                    request.resource(),
                    &request.target.namespace,
                    &request.target.name,
                )
                .unwrap_or_else(|| Box::new(Status::internal_error("unexpected outcome"))));
            }
        }
        stored = request.current(true).await?;
    }
}

/// The version that the client has seen and this master had not; 409 when it is the past.
async fn newer(request: &Request, wanted: Option<Revision>) -> Answer<StoredRef> {
    let newest = request.current(true).await?;
    if wanted == Some(newest.revision) { Ok(newest) } else { Err(conflict(request)) }
}

/// The object at a revision.
pub(super) fn at(mut object: Value, revision: Revision) -> Value {
    crate::stamp::metadata(&mut object)
        .insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    object
}

fn conflict(request: &Request) -> Refusal {
    Box::new(Status::conflict(request.resource(), &request.target.name, OBJECT_MODIFIED))
}

/// A body that names a uid is about that very object.
fn check_identity(request: &Request, object: &Value, stored: &StoredRef) -> Answer<()> {
    let uid = model::text(&object["metadata"]["uid"]);
    if uid.is_empty() || uid == stored.uid() {
        return Ok(());
    }
    Err(uid_conflict(request, uid, stored.uid()))
}

fn uid_conflict(request: &Request, want: &str, have: &str) -> Refusal {
    let (name, key) = (&request.target.name, request.registry_key());
    Box::new(Status::uid_conflict(request.resource(), (name, &key), want, have))
}

fn draft(
    request: &Request,
    (object, old): (Value, Value),
    warnings: Vec<String>,
    options: WriteOptions,
) -> Draft {
    Draft {
        def: request.def,
        sub: request.sub.map_or("", |sub| sub.name),
        operation: Operation::Update,
        namespace: request.target.namespace_of(request.def),
        name: request.target.name.clone(),
        object,
        old,
        warnings,
        ownership: if options.applied {
            Ownership::Computed
        } else {
            Ownership::Track(request.field_manager())
        },
        asked: request.asked(options.dry_run),
    }
}

async fn admit(request: &Request, draft: Draft, stored: &StoredRef) -> Answer<Admitted> {
    let shared = &request.shared;
    let view = shared.store.view();
    let ctx = shared.context(&view);
    admission::update(&ctx, &request.permitted, draft, stored).await
}
