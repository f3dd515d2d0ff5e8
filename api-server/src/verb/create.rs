//! POST: a new object.

use http::Response;
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::Outcome;
use quorate_state_machine::object::Stored;
use serde_json::Value;

use super::{Request, WriteOptions};
use crate::admission::{self, Draft, Operation, Ownership};
use crate::limits::{CHARGE_RETRIES_MAX, GENERATED_NAMES_MAX};
use crate::reply::{self, Body};
use crate::stamp::propose;
use crate::status_error::{self, Answer, Refusal};
use crate::{custom, model, service_address};

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    request.check_form()?;
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let body = request.body().await?;
    let content_type = request.content_type().to_owned();
    let mut warnings = Vec::new();
    let mut object = model::decode(
        &content_type,
        &body,
        request.def.target(),
        options.validation,
        &mut warnings,
    )?;
    warnings.extend(crate::stamp::distinct_owners(&mut object));
    let draft = draft(&request, object, warnings)?;
    run_draft(&request, draft, options).await
}

/// The new object as a draft: name and namespace of body and path agree.
pub(super) fn draft(request: &Request, object: Value, warnings: Vec<String>) -> Answer<Draft> {
    let meta = &object["metadata"];
    if !model::text(&meta["resourceVersion"]).is_empty() {
        return Err(Box::new(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        )));
    }
    let namespace = request.target.namespace_of(request.def);
    check_namespace(model::text(&meta["namespace"]), &namespace)?;
    let name = model::text(&meta["name"]).to_owned();
    Ok(Draft {
        def: request.def,
        sub: "",
        operation: Operation::Create,
        namespace,
        name,
        object,
        old: Value::Null,
        warnings,
        ownership: Ownership::Track(request.field_manager()),
        asked: request.asked(false),
    })
}

pub(super) fn check_namespace(in_body: &str, in_path: &str) -> Answer<()> {
    if in_body.is_empty() || in_body == in_path {
        return Ok(());
    }
    // A namespace in an object that has none is dropped later, as upstream drops it.
    if in_path.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    )))
}

/// Admits and proposes; tries again what only chance was against.
pub(super) async fn run_draft(
    request: &Request,
    mut draft: Draft,
    options: WriteOptions,
) -> Answer<Response<Body>> {
    draft.asked.dry_run = options.dry_run;
    let shared = &request.shared;
    let generated = draft.name.is_empty();
    let mut view = shared.store.view();
    let (mut names, mut allocations, mut charges, mut fresh) = (0, 0, 0, false);
    let mut turn = None;
    loop {
        custom::refuse_if_terminating(&view, request.def)?;
        if turn.is_none() && admission::has_quotas(&view, draft.def, &draft.namespace) {
            turn = Some(shared.turns.wait(&shared.store, &draft.namespace).await?);
            view = shared.store.view();
        }
        let ctx = shared.context(&view);
        let admitted = match admission::create(&ctx, &request.permitted, draft.clone()).await {
            Ok(admitted) => admitted,
            // Namespace, account or class may be on other masters already.
            Err(refusal)
                if !fresh && !refusal.aside.settled && matches!(refusal.code, 403 | 404) =>
            {
                fresh = true;
                view = shared.newest().await?;
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let name = model::text(&admitted.object()["metadata"]["name"]).to_owned();
        let warnings = admitted.warnings().to_vec();
        if options.dry_run {
            return dry_run(request, &draft, &admitted, &name, &warnings).await;
        }
        let image = admitted.image().cloned();
        let (Some(image), Some(command)) = (image, admitted.into_command()) else {
            return Err(Box::new(Status::internal_error("a create came to nothing")));
        };
        let outcome = propose(&shared.store, command).await?;
        match outcome {
            Outcome::Done(revision) => {
                turn.into_iter().for_each(|turn| turn.done(revision));
                let stored = Stored::new(key(request, &draft.namespace, &name), revision, image);
                let mut response = request.show_stored(201, &stored)?;
                reply::warn(response.headers_mut(), &warnings);
                return Ok(response);
            }
            Outcome::AlreadyExists(_) if generated && names + 1 < GENERATED_NAMES_MAX => {
                names += 1;
            }
            Outcome::AlreadyExists(_) => return Err(taken(request, &draft, &name).await?),
            Outcome::ClaimTaken { claim, .. } => {
                service_address::lost(&draft, &claim, &mut allocations)?;
            }
            Outcome::NamespaceGone if !fresh => {}
            // Another master has charged the same quota.
            Outcome::Aborted if charges < CHARGE_RETRIES_MAX => charges += 1,
            Outcome::NamespaceGone => {
                let namespaces = GroupResource::new("", "namespaces");
                return Err(Box::new(Status::not_found(namespaces, &draft.namespace)));
            }
            other => {
                return Err(status_error::of_outcome(
                    &other,
                    request.resource(),
                    &draft.namespace,
                    &name,
                )
                .unwrap_or_else(|| Box::new(Status::internal_error("unexpected outcome"))));
            }
        }
        fresh = true;
        view = shared.newest().await?;
    }
}

/// The name is taken. Upstream blames the generator also when the client named the object and gave
/// a `generateName` beside it.
async fn taken(request: &Request, draft: &Draft, name: &str) -> Answer<Refusal> {
    let view = request.shared.newest().await?;
    let there = view.get(&key(request, &draft.namespace, name));
    let status = if model::text(&draft.object["metadata"]["generateName"]).is_empty() {
        Status::already_exists(request.resource(), name)
    } else {
        Status::generate_name_conflict(request.resource(), name)
    };
    let going = there.is_some_and(|stored| stored.image.header.deletion.is_some());
    Ok(Box::new(if going { status.of_deleted() } else { status }))
}

fn key(request: &Request, namespace: &str, name: &str) -> quorate_state_machine::Key {
    quorate_state_machine::Key {
        resource: request.storage(),
        object: quorate_state_machine::ObjectKey::new(namespace, name),
    }
}

async fn dry_run(
    request: &Request,
    draft: &Draft,
    admitted: &admission::Admitted,
    name: &str,
    warnings: &[String],
) -> Answer<Response<Body>> {
    let view = request.shared.newest().await?;
    if view.get(&key(request, &draft.namespace, name)).is_some() {
        return Err(taken(request, draft, name).await?);
    }
    let mut response = request.show(201, admitted.object().clone())?;
    reply::warn(response.headers_mut(), warnings);
    Ok(response)
}
