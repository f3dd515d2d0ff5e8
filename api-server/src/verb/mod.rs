//! Verbs: one file each. Here: which file answers which request.

mod apply;
mod create;
mod delete;
mod delete_collection;
mod evict;
pub(crate) mod fanout;
mod get;
mod list;
mod list_options;
mod options;
pub(crate) mod pass;
mod patch;
mod pod;
mod render;
mod scale;
mod update;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body_util::BodyExt as _;
use quorate_api::resource::{ResourceDef, Storage, SubresourceDef, Verb};
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;
use quorate_store::Consistency;

use crate::admission::{Asked, Options};
use crate::authz::Permitted;
use crate::custom;
use crate::limits::{FIELD_MANAGER_BYTES_MAX, REQUEST_BODY_BYTES_MAX};
use crate::parameters::Query;
use crate::pipeline::Call;
use crate::proxy;
use crate::reply::{self, Body};
use crate::request_info::ResourceTarget;
use crate::review;
use crate::server::Shared;
use crate::status_error::{self, Answer};
use crate::streams::BodySocket;

pub(crate) use delete::{DeleteOptions, DeletePlan, plan as plan_delete};
pub(crate) use options::WriteOptions;
pub(crate) use scale::{scale_of, scaled};

/// A permitted request for a resource that is served.
pub(crate) struct Request {
    pub(crate) shared: Arc<Shared>,
    pub(crate) permitted: Permitted,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    pub(crate) def: &'static ResourceDef,
    pub(crate) sub: Option<&'static SubresourceDef>,
    pub(crate) target: ResourceTarget,
    /// Behind a lock only because bodies are not `Sync` and requests are shared by reference.
    body: Mutex<Option<Body>>,
}

impl Request {
    /// Name of the resource for `Status` texts.
    pub(crate) fn resource(&self) -> GroupResource<'static> {
        GroupResource::new(self.def.group(), self.def.plural)
    }

    /// Where objects of the resource are kept.
    pub(crate) fn storage(&self) -> quorate_state_machine::GroupResource {
        crate::model::storage(self.def)
    }

    /// Where the named object is kept.
    pub(crate) fn key(&self) -> Key {
        Key {
            resource: self.storage(),
            object: quorate_state_machine::ObjectKey::new(
                &self.target.namespace_of(self.def),
                &self.target.name,
            ),
        }
    }

    /// Where upstream keeps the named object, for its error texts.
    pub(crate) fn registry_key(&self) -> String {
        let place = match (self.def.group(), self.def.plural) {
            ("", "nodes") => "minions",
            ("", "services") => "services/specs",
            ("", "endpoints") => "services/endpoints",
            (_, plural) => plural,
        };
        let namespace = self.target.namespace_of(self.def);
        let (name, slash) = (&self.target.name, if namespace.is_empty() { "" } else { "/" });
        format!("/registry/{place}/{namespace}{slash}{name}")
    }

    /// Whose the fields become that the request changes: what it says, or the client program.
    pub(crate) fn field_manager(&self) -> String {
        let named = self.query.text("fieldManager");
        if !named.is_empty() {
            return named.to_owned();
        }
        let agent = self.parts.headers.get(http::header::USER_AGENT);
        let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let program = agent.as_deref().and_then(|agent| agent.split('/').next()).unwrap_or("");
        let mut name = String::new();
        for c in program.chars().filter(|c| !c.is_control()) {
            if name.len() + c.len_utf8() > FIELD_MANAGER_BYTES_MAX {
                break;
            }
            name.push(c);
        }
        if name.is_empty() { "unknown".to_owned() } else { name }
    }

    /// What webhooks are told of it beside its objects.
    pub(crate) fn asked(&self, dry_run: bool) -> Asked {
        let text = |name: &str| self.query.text(name).to_owned();
        let (manager, validation) = (text("fieldManager"), text("fieldValidation"));
        Asked { dry_run, options: Options::Write { manager, validation }, silent: false }
    }

    /// Whether the client may create the object that it wanted to change and that is not there.
    pub(crate) fn may_create(&self) -> Answer<()> {
        let attributes = crate::authz::Attributes {
            verb: "create".to_owned(),
            group: self.target.group.clone(),
            resource: self.target.resource.clone(),
            subresource: self.target.subresource.clone(),
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            path: None,
        };
        self.shared.authorizer.check(self.permitted.identity(), &attributes)
    }

    pub(crate) fn not_found(&self) -> status_error::Refusal {
        Box::new(Status::not_found(self.resource(), &self.target.name))
    }

    /// The media type of the body, "" when it is not said.
    pub(crate) fn content_type(&self) -> &str {
        let value = self.parts.headers.get(http::header::CONTENT_TYPE);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The request as it came in, for streams that take its upgrade.
    pub(crate) fn into_http(mut self) -> (Permitted, http::Request<Body>) {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let body = body.unwrap_or_else(crate::reply::empty);
        (self.permitted, http::Request::from_parts(self.parts, body))
    }

    /// The whole body.
    pub(crate) async fn body(&mut self) -> Answer<Bytes> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = body else { return Ok(Bytes::new()) };
        read(body).await
    }

    /// The object as this master has it; asks the leader before it says that there is none.
    pub(crate) async fn current(&self, fresh: bool) -> Answer<StoredRef> {
        let key = self.key();
        if !fresh && let Some(stored) = self.shared.store.view().get(&key) {
            return Ok(stored.clone());
        }
        let view = self
            .shared
            .store
            .read(Consistency::Linearizable)
            .await
            .map_err(|error| status_error::of_store(&error))?;
        view.get(&key).cloned().ok_or_else(|| self.not_found())
    }
}

/// All of a body, up to its limit. What is left of a larger one is read by whoever drops it
/// (`serve/leftover.rs`), so that its client sees why it was refused.
pub(crate) async fn read(mut body: Body) -> Answer<Bytes> {
    let too_large = || Box::new(Status::body_too_large(REQUEST_BODY_BYTES_MAX));
    if http_body::Body::size_hint(&body).lower() > REQUEST_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut out: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Status::bad_request(format!("the request's body was not received: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > REQUEST_BODY_BYTES_MAX {
            return Err(too_large());
        }
        out.push(data);
    }
    Ok(if out.len() == 1 { out.swap_remove(0) } else { out.concat().into() })
}

impl ResourceTarget {
    /// Namespace of the object in the store: "" for cluster-scoped ones, whose path may name one
    /// (`namespaces/NAME`).
    pub(crate) fn namespace_of(&self, def: &ResourceDef) -> String {
        if def.namespaced { self.namespace.clone() } else { String::new() }
    }
}

/// Finds the handler of a permitted request, and runs it.
pub(crate) async fn dispatch(shared: Arc<Shared>, call: Call) -> Answer<Response<Body>> {
    let Call { permitted, query, mut parts, body } = call;
    let Some(target) = permitted.info().resource().cloned() else {
        return Err(Box::new(Status::resource_not_found()));
    };
    let not_found = || Box::new(Status::resource_not_found());
    let def = custom::find(&shared, &target).await.ok_or_else(not_found)?;
    let sub = match target.subresource.as_str() {
        "" => None,
        name => Some(def.subresource(name).ok_or_else(not_found)?),
    };
    let scope_matches = if def.namespaced {
        !(target.named || target.watched.is_some()) || !target.namespace.is_empty()
    } else {
        target.namespace.is_empty() || def.plural == "namespaces"
    };
    let has_paths = sub.is_some_and(|sub| sub.name == "proxy");
    if !scope_matches || !(target.rest.is_empty() || has_paths) {
        return Err(not_found());
    }
    let verb = permitted.info().verb();
    let log = sub.is_some_and(|sub| sub.name == "log");
    let socket = if verb == "watch" || log { BodySocket::of(&mut parts, log)? } else { None };
    let stop = shared.stop.clone();
    let body = Mutex::new(Some(body));
    let request = Request { shared, permitted, query, parts, def, sub, target, body };
    // Large futures live on the heap, so that a request costs only its own verb's.
    let mut answer = match sub {
        Some(sub) => Box::pin(subresource(request, sub, verb)).await,
        None if def.storage == Storage::Virtual => Box::pin(virtual_create(request, verb)).await,
        None => Box::pin(main(request, verb)).await,
    };
    let deprecated = match def.custom {
        Some(custom) => custom.deprecation.as_deref(),
        None => quorate_api::warnings::deprecated(def.group(), def.version(), def.kind()),
    };
    if let Some(warning) = deprecated {
        if socket.is_none() {
            answer = answer.or_else(|refusal| Ok(reply::status(&refusal)));
        }
        if let Ok(response) = &mut answer {
            reply::warn(response.headers_mut(), &[warning.to_owned()]);
        }
    }
    match socket {
        Some(socket) => Ok(socket.carry(answer?, &stop)),
        None => answer,
    }
}

async fn main(request: Request, verb: &str) -> Answer<Response<Body>> {
    let (wanted, named) = match verb {
        "get" => (Verb::Get, true),
        "list" => (Verb::List, false),
        "watch" => (Verb::Watch, false),
        "create" => (Verb::Create, false),
        "update" => (Verb::Update, true),
        "patch" => (Verb::Patch, true),
        "delete" => (Verb::Delete, true),
        "deletecollection" => (Verb::DeleteCollection, false),
        _ => return Err(Box::new(Status::method_not_allowed())),
    };
    let in_all_namespaces = request.def.namespaced && request.target.namespace.is_empty();
    let writes_collection = matches!(wanted, Verb::Create | Verb::DeleteCollection);
    if !request.def.has(wanted)
        || request.target.named != named
        || (in_all_namespaces && writes_collection)
    {
        return Err(Box::new(Status::method_not_allowed()));
    }
    match wanted {
        Verb::Get => get::run(request).await,
        Verb::List => list::run(request).await,
        Verb::Watch => watch::run(request).await,
        Verb::Create => create::run(request).await,
        Verb::Update => update::run(request).await,
        Verb::Patch => patch::run(request).await,
        Verb::Delete => delete::run(request).await,
        Verb::DeleteCollection => delete_collection::run(request).await,
    }
}

async fn virtual_create(request: Request, verb: &str) -> Answer<Response<Body>> {
    if verb != "create" || (request.def.namespaced && request.target.namespace.is_empty()) {
        return Err(Box::new(Status::method_not_allowed()));
    }
    if request.def.kind() == "Binding" {
        return pod::binding(request).await;
    }
    review::run(request).await
}

async fn subresource(
    request: Request,
    sub: &'static SubresourceDef,
    verb: &str,
) -> Answer<Response<Body>> {
    if sub.name == "proxy" {
        return proxy::run(request).await;
    }
    let wanted = match verb {
        "get" => Verb::Get,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        _ => return Err(Box::new(Status::method_not_allowed())),
    };
    if !sub.verbs.contains(&wanted) {
        return Err(Box::new(Status::method_not_allowed()));
    }
    match (sub.name, wanted) {
        ("log" | "exec" | "attach" | "portforward", _) => pod::stream(request).await,
        ("binding", Verb::Create) => pod::binding(request).await,
        ("eviction", Verb::Create) => evict::run(request).await,
        ("token", Verb::Create) => review::token_request(request).await,
        ("scale", Verb::Get) => scale::get(request).await,
        ("scale", Verb::Update) => scale::update(request).await,
        ("scale", Verb::Patch) => scale::patch(request).await,
        (_, Verb::Get) => get::run(request).await,
        (_, Verb::Update) => update::run(request).await,
        (_, Verb::Patch) => patch::run(request).await,
        _ => Err(Box::new(Status::method_not_allowed())),
    }
}
