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
use crate::admission::{self, Admitted, Draft, Operation};
use crate::limits::CONFLICT_RETRIES_MAX;
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
    let meta = &object["metadata"];
    let name = model::text(&meta["name"]);
    if name != request.target.name {
        return Err(Box::new(Status::bad_request(if name.is_empty() {
            "name must be provided".to_owned()
        } else {
            format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.target.name
            )
        })));
    }
    let namespace = request.target.namespace_of(request.def);
    create::check_namespace(model::text(&meta["namespace"]), &namespace)?;
    // A body may leave the namespace to the path, as in Kubernetes.
    if !namespace.is_empty() {
        crate::stamp::metadata(&mut object).insert("namespace".to_owned(), Value::from(namespace));
    }
    let expected = expected(&object)?;
    if expected.is_none() && !model::allows_unconditional_update(request.def) {
        return Err(must_be_specified(&request));
    }
    let make = |_: &Value| Ok((object.clone(), warnings.clone()));
    match change(&request, expected, options, make).await {
        Err(refusal)
            if refusal.code == 404
                && request.sub.is_none()
                && expected.is_none()
                && model::allows_create_on_update(request.def) =>
        {
            let mut object = object.clone();
            crate::stamp::metadata(&mut object).remove("resourceVersion");
            let draft = create::draft(&request, object, warnings.clone())?;
            create::run_draft(&request, draft, options).await
        }
        other => other,
    }
}

fn must_be_specified(request: &Request) -> Refusal {
    let kind = GroupResource::new(request.def.group(), request.def.kind());
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

/// Changes the object and gives its new version.
pub(super) async fn change_value(
    request: &Request,
    expected: Option<Revision>,
    options: WriteOptions,
    make: impl Fn(&Value) -> Answer<(Value, Vec<String>)>,
) -> Answer<Value> {
    let (changed, _) = perform(request, expected, options, make).await?;
    match changed {
        Changed::Stored(stored) => model::tree(request.def, &stored),
        Changed::Tree(object) => Ok(object),
    }
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
    let (mut conflicts, mut allocations) = (0, 0);
    loop {
        let old = model::tree(request.def, &stored)?;
        let (object, warnings) = make(&old)?;
        let wanted = self::expected(&object)?.or(expected);
        check_identity(request, &object, &stored)?;
        if wanted.is_some_and(|revision| revision != stored.revision) {
            stored = newer(request, wanted).await?;
            continue;
        }
        let draft = draft(request, object, old, warnings);
        let admitted = admit(request, draft.clone(), &stored)?;
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
    Err(Box::new(Status::uid_conflict(request.resource(), &request.target.name, uid, stored.uid())))
}

fn draft(request: &Request, object: Value, old: Value, warnings: Vec<String>) -> Draft {
    Draft {
        def: request.def,
        sub: request.sub.map_or("", |sub| sub.name),
        operation: Operation::Update,
        namespace: request.target.namespace_of(request.def),
        name: request.target.name.clone(),
        object,
        old,
        warnings,
    }
}

fn admit(request: &Request, draft: Draft, stored: &StoredRef) -> Answer<Admitted> {
    let shared = &request.shared;
    let view = shared.store.view();
    let ctx = shared.context(&view);
    admission::update(&ctx, &request.permitted, draft, stored)
}
