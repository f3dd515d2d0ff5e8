//! The stages of a request, in order: info → who → (as whom) → slot → may they → answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use quorate_api::status::Status;
use quorate_state_machine::View;
use tokio::time::Instant;

use crate::authn::impersonate;
use crate::authz::Permitted;
use crate::config::Answered;
use crate::identity::Identity;
use crate::limits::REQUEST_TIMEOUT;
use crate::metrics::{LongRunningLabels, RequestLabels};
use crate::parameters::Query;
use crate::reply::{self, Body, BoxError};
use crate::request_info::RequestInfo;
use crate::serve::Peer;
use crate::server::Shared;
use crate::status_error::{Answer, of_store};
use crate::{discovery, health, negotiate, verb, version};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A permitted request on its way to its handler.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) permitted: Permitted,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
}

impl Shared {
    /// Answers one request. Boxed: connections need not know what it is made of.
    pub(crate) fn answer(
        self: Arc<Self>,
        peer: Peer,
        request: Request<Body>,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self.answer_inner(peer, request))
    }

    async fn answer_inner(self: Arc<Self>, peer: Peer, request: Request<Body>) -> Response<Body> {
        if is_grpc(&request) {
            return self.answer_grpc(&peer, request).await;
        }
        let started = Instant::now();
        let gzip = reply::takes_gzip(request.headers());
        let audit = audit_id(&request);
        let (parts, body) = request.into_parts();
        let keeps_alive = parts.version == Version::HTTP_11;
        let head = parts.method == Method::HEAD;
        let query = Query::of(&parts.uri);
        let pretty = negotiate::pretty(&parts.headers, query.get("pretty"));
        let info = Arc::new(RequestInfo::of(&parts, &query));
        let long_running = info.long_running().then(|| LongRunning::enter(&self, &info));
        let dry_run = query.text("dryRun").to_owned();
        let timeout = query.timeout();
        let stages: BoxFuture<'static, Answer<Response<Body>>> =
            Box::pin(self.clone().stages(peer, info.clone(), query, parts, body));
        let stages = AssertUnwindSafe(stages).catch_unwind();
        let outcome = match timeout {
            _ if long_running.is_some() => stages.await,
            Err(refusal) => Ok(Err(refusal)),
            Ok(asked) => {
                let limit = asked.unwrap_or(REQUEST_TIMEOUT).min(REQUEST_TIMEOUT);
                tokio::time::timeout(limit, stages).await.unwrap_or_else(|_| {
                    Ok(Err(Box::new(Status::timeout(
                        "request did not complete within the allotted timeout",
                        0,
                    ))))
                })
            }
        };
        let response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => reply::status_as(&refusal, pretty),
            Err(_) => {
                tracing::error!(path = info.path(), "a request handler panicked");
                reply::status(&Status::internal_error(
                    "This request caused apiserver to panic. Look in the logs for details.",
                ))
            }
        };
        let mut response = match long_running {
            // Never compressed: events must not wait for a block to fill.
            Some(guard) => {
                let response = reply::finish(response, false).await;
                response.map(|body| guard.hold(body))
            }
            None => {
                let code = response.status().as_u16();
                let labels = labels(&self.store.view(), &info, code, dry_run);
                self.metrics.finished(&labels, started.elapsed());
                reply::finish(response, gzip).await
            }
        };
        response.headers_mut().insert(AUDIT_ID, audit);
        if head {
            // HTTP/1.1 leaves it out by itself, on HTTP/2 it would be an error.
            response = without_body(response);
        }
        if keeps_alive && response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so this connection carries no further request. Go's
            // server says so, too.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn stages(
        self: Arc<Self>,
        peer: Peer,
        info: Arc<RequestInfo>,
        query: Query,
        parts: Parts,
        body: Body,
    ) -> Answer<Response<Body>> {
        let identity = self.authenticator.identify(&peer.shown, &parts.headers).await?;
        let identity = impersonate(&self.authorizer, identity, &parts.headers)?;
        let _slot = self.in_flight.enter(&info, &identity)?;
        let permitted = self.authorizer.permit(info.clone(), identity)?;
        let call = Call { permitted, query, parts, body };
        if info.resource().is_some() {
            // Much of what follows looks at the newest view without asking first.
            self.store.in_service().map_err(|error| of_store(&error))?;
            verb::dispatch(self, call).await
        } else {
            self.answer_path(call).await
        }
    }

    /// Everything that is no resource.
    async fn answer_path(&self, call: Call) -> Answer<Response<Body>> {
        let path = call.parts.uri.path().to_owned();
        if let Some(response) = health::answer(self, &path, &call.query).await {
            return Ok(response);
        }
        let action = self.actions.as_ref().filter(|_| call.parts.method == Method::POST);
        if let Some(action) = action.and_then(|of| of(path.trim_end_matches('/'))) {
            return Ok(match action(verb::read(call.body).await?).await? {
                Answered::Document(document) => pretty_json(&document),
                Answered::Stream(bytes) => reply::stream(bytes),
            });
        }
        if !matches!(call.parts.method, Method::GET | Method::HEAD) {
            return Err(Box::new(Status::method_not_allowed()));
        }
        match path.trim_end_matches('/') {
            "/version" => Ok(pretty_json(&version::document(&self.facts))),
            "/metrics" => {
                let accept = call.parts.headers.get(http::header::ACCEPT);
                let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
                let (content_type, text) = self.metrics.answer(accept, self.in_flight.current());
                Ok(reply::bytes(200, content_type, text))
            }
            "/.well-known/openid-configuration" => Ok(self.openid_configuration()),
            "/openid/v1/jwks" => {
                let body = self.authenticator.jwks().to_string();
                Ok(cached(reply::bytes(200, "application/jwk-set+json", body)))
            }
            other if let Some(document) = self.documents.as_ref().and_then(|of| of(other)) => {
                Ok(pretty_json(&document))
            }
            _ => {
                discovery::answer(self, &call).ok_or_else(|| Box::new(Status::resource_not_found()))
            }
        }
    }

    fn openid_configuration(&self) -> Response<Body> {
        let issuer = self.authenticator.issuer();
        let document = serde_json::json!({
            "issuer": issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": self.authenticator.algorithms(),
        });
        cached(reply::json(200, document.to_string()))
    }

    async fn answer_grpc(&self, peer: &Peer, request: Request<Body>) -> Response<Body> {
        let Some(routes) = &self.grpc else {
            return reply::status(&Status::unsupported_media_type(&["application/json"]));
        };
        let mut request = request;
        // Joins have no certificate yet; the services look at the extension.
        match peer.shown.at(self.clock.now()) {
            Ok(Some(identity)) => {
                request.extensions_mut().insert::<Identity>(identity);
                if let Some(facts) = peer.shown.facts() {
                    request.extensions_mut().insert(facts.clone());
                }
            }
            Ok(None) => {}
            Err(()) => return reply::status(&Status::unauthorized()),
        }
        if let Some(address) = peer.address {
            request.extensions_mut().insert(address);
        }
        match tower::ServiceExt::oneshot(routes.clone(), for_tonic(request)).await {
            Ok(response) => response
                .map(|body| body.map_err(|status| -> BoxError { Box::new(status) }).boxed_unsync()),
            Err(never) => match never {},
        }
    }
}

/// Outside the future: its error type must not be part of what crosses an await.
fn for_tonic(request: Request<Body>) -> Request<tonic::body::Body> {
    request.map(tonic::body::Body::new)
}

pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer to a HEAD: its headers tell how long the body is that a GET would get.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    let told = response.headers().contains_key(CONTENT_LENGTH)
        || response.status() == StatusCode::NOT_MODIFIED;
    if !told && let Some(size) = http_body::Body::size_hint(response.body()).exact() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    response.map(|_| reply::empty())
}

fn audit_id(request: &Request<Body>) -> HeaderValue {
    request.headers().get(AUDIT_ID).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&quorate_chance::uuid())
            .unwrap_or(HeaderValue::from_static("unknown"))
    })
}

fn pretty_json(document: &serde_json::Value) -> Response<Body> {
    reply::json(200, format!("{document:#}"))
}

fn cached(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn labels(view: &View, info: &RequestInfo, code: u16, dry_run: String) -> RequestLabels {
    let target = info.resource().cloned().unwrap_or_default();
    // What was asked for is free text: only names that are served may become labels.
    let (group, version, plural) = (&target.group, &target.version, &target.resource);
    let known = quorate_api::resource::lookup(group, version, plural)
        .or_else(|| crate::custom::lookup(view, group, version, plural));
    let only = |text: String| if known.is_some() { text } else { String::new() };
    RequestLabels {
        verb: metric_verb(info).to_owned(),
        group: only(target.group.clone()),
        version: only(target.version.clone()),
        resource: only(target.resource.clone()),
        subresource: known
            .and_then(|def| def.subresource(&target.subresource))
            .map(|sub| sub.name.to_owned())
            .unwrap_or_default(),
        scope: scope(info).to_owned(),
        component: "apiserver".to_owned(),
        code: code.to_string(),
        dry_run: if dry_run == "All" { dry_run } else { String::new() },
    }
}

fn metric_verb(info: &RequestInfo) -> &'static str {
    match info.verb() {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "list" => "LIST",
        "watch" => "WATCH",
        "get" => "GET",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match info.resource() {
        None => "",
        Some(target) if target.named || info.verb() == "create" => "resource",
        Some(target) if !target.namespace.is_empty() => "namespace",
        Some(_) => "cluster",
    }
}

/// Counts a watch or stream for as long as its body lives.
struct LongRunning {
    shared: Arc<Shared>,
    labels: LongRunningLabels,
}

impl LongRunning {
    fn enter(shared: &Arc<Shared>, info: &RequestInfo) -> Self {
        let known = labels(&shared.store.view(), info, 0, String::new());
        let labels = LongRunningLabels {
            verb: known.verb,
            group: known.group,
            version: known.version,
            resource: known.resource,
            subresource: known.subresource,
            scope: known.scope,
            component: known.component,
        };
        shared.metrics.long_running.get_or_create(&labels).inc();
        Self { shared: shared.clone(), labels }
    }

    fn hold(self, body: Body) -> Body {
        let guard = self;
        body.map_frame(move |frame| {
            let _ = &guard;
            frame
        })
        .boxed_unsync()
    }
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.shared.metrics.long_running.get_or_create(&self.labels).dec();
    }
}
