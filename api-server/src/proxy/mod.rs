//! The subresource `proxy` of pods and services: HTTP to what runs in the cluster, through any master.
//!
//! Follows upstream's `UpgradeAwareHandler` and `proxyutil.Transport` (`apimachinery/pkg/util/proxy`) and the
//! `ResourceLocation` of pods and services: the same names (`[https:]NAME[:PORT]`), redirects, headers and texts. Pods
//! are reached as [`crate::dial`] does it. Nodes have no HTTP server of a kubelet: their `proxy` says so.

mod rewrite;
mod tls;

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, LOCATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request as HttpRequest, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use quorate_api::status::Status;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::dial::{Dialer, Pipe, endpoints_of};
use crate::limits::{PROXY_PAGE_BYTES_MAX, UPGRADE_TIMEOUT};
use crate::model::{self, text};
use crate::parameters::quoted;
use crate::reply::{self, Body, BoxError};
use crate::status_error::Answer;
use crate::verb::{Request, pass};
use rewrite::Links;

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Headers that are about one connection (RFC 9110, section 7.6.1).
const OF_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What only the API server may allow to other origins.
const OF_ORIGINS: [HeaderName; 4] = [
    http::header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    http::header::ACCESS_CONTROL_ALLOW_HEADERS,
    http::header::ACCESS_CONTROL_ALLOW_METHODS,
    http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Answers a request to a `proxy` subresource.
pub(crate) async fn run(mut request: Request) -> Answer<Response<Body>> {
    pass::connect(&request).await?;
    let path = request.parts.uri.path().to_owned();
    let (prefix, rest) = split(&path, request.def.namespaced);
    if rest.is_empty() && matches!(request.parts.method, Method::GET | Method::HEAD) {
        return Ok(redirect(&request.parts.uri));
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    let plural = request.def.plural;
    let id = request.target.name.clone();
    let kind = plural.trim_end_matches('s');
    let invalid =
        || Box::new(Status::bad_request(format!("invalid {kind} request {}", quoted(&id))));
    let (is_tls, name, port) = named(&id).ok_or_else(invalid)?;
    name.clone_into(&mut request.target.name);
    let stored = request.current(true).await?;
    if plural == "nodes" {
        let message = format!(
            "error trying to reach service: the agent of node {} serves no kubelet API",
            quoted(name)
        );
        return Err(Box::new(Status::service_unavailable(message)));
    }
    let object = model::tree(request.def, &stored)?;
    let shared = request.shared.clone();
    let dialer = Dialer { store: shared.store.clone(), streams: shared.streams.clone() };
    let (pipe, host) = match plural {
        "pods" => to_pod(&dialer, &object, port, is_tls).await?,
        _ => to_service(&dialer, &object, port).await?,
    };
    let (_, incoming) = request.into_http();
    let front = host_of(&incoming);
    let front = front.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let links = Links { prefix: prefix.to_owned(), backend: host.clone(), front };
    let carried = carry(pipe, (is_tls, &host), incoming, (&links, rest), &shared.stop).await;
    carried.map_err(|why| {
        Box::new(Status::service_unavailable(format!("error trying to reach service: {why}")))
    })
}

/// `[SCHEME:]NAME[:PORT]`: whether it is `https`, name and port.
fn named(id: &str) -> Option<(bool, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let known = matches!(scheme, "" | "http" | "https");
    (known && !name.is_empty()).then_some((scheme == "https", name, port))
}

/// The path up to the subresource, and what comes after it, both as they were written.
fn split(path: &str, namespaced: bool) -> (&str, &str) {
    // `/api/v1/namespaces/NS/pods/NAME/proxy` or `/api/v1/nodes/NAME/proxy`.
    let segments = if namespaced { 7 } else { 5 };
    let start = path.len() - path.trim_start_matches('/').len();
    let end =
        path[start..].match_indices('/').nth(segments - 1).map_or(path.len(), |(at, _)| start + at);
    path.split_at(end)
}

/// Pages have links that are relative to them.
fn redirect(uri: &Uri) -> Response<Body> {
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let mut response = Response::new(reply::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn unreachable(why: &str) -> Box<Status> {
    Box::new(Status::service_unavailable(format!("error trying to reach service: {why}")))
}

/// A pod's port; the first that a container names, when none is asked for.
async fn to_pod(dialer: &Dialer, pod: &Value, port: &str, is_tls: bool) -> Answer<(Pipe, String)> {
    let address = text(&pod["status"]["podIP"]);
    if address.is_empty() {
        return Err(Box::new(Status::bad_request("address not allowed".to_owned())));
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.filter_map(|one| one["ports"][0]["containerPort"].as_u64());
    let number = match (port, ports.next()) {
        ("", Some(first)) => u16::try_from(first).ok(),
        ("", None) => Some(if is_tls { 443 } else { 80 }),
        (port, _) => port.parse().ok(),
    };
    let unknown = || unreachable(&format!("dial tcp: lookup tcp/{port}: unknown port"));
    let number = number.ok_or_else(unknown)?;
    let pipe = dialer.pod(Some(pod), address, number).await.map_err(|why| unreachable(&why))?;
    Ok((pipe, format!("{address}:{number}")))
}

/// One of a service's endpoints, at the port with that name or number.
async fn to_service(dialer: &Dialer, service: &Value, port: &str) -> Answer<(Pipe, String)> {
    let meta = &service["metadata"];
    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = match port.parse::<u64>() {
        Ok(number) => {
            let found = ports.find(|one| one["port"] == number);
            let missing = || {
                let message =
                    format!("no service port {number} found for service {}", quoted(name));
                Box::new(Status::service_unavailable(message))
            };
            text(&found.ok_or_else(missing)?["name"])
        }
        Err(_) => port,
    };
    let view = dialer.store.view();
    let endpoints = endpoints_of(&view, (namespace, name), port);
    if endpoints.is_empty() {
        let message = format!("no endpoints available for service {}", quoted(name));
        return Err(Box::new(Status::service_unavailable(message)));
    }
    let opened = dialer.any_of(&view, (namespace, name), endpoints).await;
    opened.map_err(|why| unreachable(&why))
}

fn host_of<B>(request: &HttpRequest<B>) -> Option<HeaderValue> {
    let named = || HeaderValue::from_str(request.uri().authority()?.as_str()).ok();
    request.headers().get(HOST).cloned().or_else(named)
}

/// One exchange over a new connection, which ends with it.
async fn carry(
    pipe: Pipe,
    (is_tls, host): (bool, &str),
    mut incoming: HttpRequest<Body>,
    (links, rest): (&Links, &str),
    stop: &CancellationToken,
) -> Result<Response<Body>, String> {
    let upgrade = incoming.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| incoming.headers().contains_key(UPGRADE));
    let request = outgoing(incoming, (links, rest), upgrade.is_some())?;
    let answer = if is_tls {
        exchange(tls::client(pipe, host).await?, request, stop).await?
    } else {
        exchange(pipe, request, stop).await?
    };
    let (mut parts, body) = answer.into_parts();
    parts.version = Version::default();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let from_pod = parts.extensions.remove::<OnUpgrade>();
        let (Some(client), Some(pod)) = (upgrade, from_pod) else {
            return Err("it switched protocols without being asked to".to_owned());
        };
        tokio::spawn(join(client, pod, stop.clone()));
        return Ok(Response::from_parts(parts, reply::empty()));
    }
    strip(&mut parts.headers, false);
    for name in OF_ORIGINS {
        parts.headers.remove(name);
    }
    if let Some(location) = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        let rewritten = links.rewritten(location).and_then(|to| HeaderValue::from_str(&to).ok());
        if let Some(rewritten) = rewritten {
            parts.headers.insert(LOCATION, rewritten);
        }
    } else if is_page(&parts.headers) {
        return page(parts, body, links).await;
    }
    let body = body.map_err(|error| -> BoxError { Box::new(error) }).boxed_unsync();
    Ok(Response::from_parts(parts, body))
}

/// What the pod is sent: all but what is the API server's own business.
fn outgoing(
    incoming: HttpRequest<Body>,
    (links, rest): (&Links, &str),
    upgrades: bool,
) -> Result<HttpRequest<Body>, String> {
    let host = host_of(&incoming);
    let (mut parts, body) = incoming.into_parts();
    let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let target = format!("{rest}{query}");
    parts.uri = target.parse().map_err(|_| format!("{target:?} is no path"))?;
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::default();
    let headers = &mut parts.headers;
    strip(headers, upgrades);
    headers.remove(AUTHORIZATION);
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| is_own(name.as_str())).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if let Ok(uri) = HeaderValue::from_str(&format!("{}{rest}", links.prefix)) {
        headers.insert(FORWARDED_URI, uri);
    }
    Ok(HttpRequest::from_parts(parts, body))
}

/// Says to the API server who somebody is: nobody else may see it.
fn is_own(name: &str) -> bool {
    name.starts_with("impersonate-") || name.starts_with("x-remote-")
}

fn strip(headers: &mut HeaderMap, upgrades: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_CONNECTION.into_iter().chain(named) {
        if !upgrades || (name != UPGRADE && name != CONNECTION) {
            headers.remove(name);
        }
    }
}

async fn exchange<IO>(
    io: IO,
    request: HttpRequest<Body>,
    stop: &CancellationToken,
) -> Result<Response<Incoming>, String>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| told(&e))?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            // Whoever reads the answer learns of an error there.
            _ = connection.with_upgrades() => {}
            () = stop.cancelled() => {}
        }
    });
    sender.send_request(request).await.map_err(|error| told(&error))
}

fn told(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".to_owned() } else { chain(error) }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Carries bytes both ways, once both sides have changed their protocol.
async fn join(client: OnUpgrade, pod: OnUpgrade, stop: CancellationToken) {
    let both = async { tokio::join!(client, pod) };
    let Ok((Ok(client), Ok(pod))) = tokio::time::timeout(UPGRADE_TIMEOUT, both).await else {
        return;
    };
    let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
    tokio::select! {
        // How it ends both see for themselves.
        _ = tokio::io::copy_bidirectional(&mut client, &mut pod) => {}
        () = stop.cancelled() => {}
    }
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    kind.eq_ignore_ascii_case("text/html") && matches!(encoding, None | Some(b"gzip"))
}

/// A page whose links lead through the API server.
async fn page(
    mut parts: http::response::Parts,
    body: Incoming,
    links: &Links,
) -> Result<Response<Body>, String> {
    let limit = PROXY_PAGE_BYTES_MAX;
    let too_large = || format!("the page is larger than {} MiB", limit >> 20);
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        match error.downcast_ref::<http_body_util::LengthLimitError>() {
            Some(_) => too_large(),
            None => chain(error.as_ref()),
        }
    })?;
    let mut bytes = body.to_bytes().to_vec();
    if parts.headers.remove(CONTENT_ENCODING).is_some() {
        let mut plain = Vec::new();
        let mut decoder =
            std::io::Read::take(flate2::read::MultiGzDecoder::new(&bytes[..]), limit as u64 + 1);
        std::io::Read::read_to_end(&mut decoder, &mut plain).map_err(|error| error.to_string())?;
        if plain.len() > limit {
            return Err(too_large());
        }
        bytes = plain;
    }
    parts.headers.remove(CONTENT_LENGTH);
    let links = Arc::new(links.clone());
    let rewritten = tokio::task::spawn_blocking(move || links.page(&bytes));
    let rewritten = rewritten.await.map_err(|_| "its page was not read".to_owned())??;
    Ok(Response::from_parts(parts, reply::full(rewritten)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_schemes_and_ports() {
        assert_eq!(named("p"), Some((false, "p", "")));
        assert_eq!(named("p:80"), Some((false, "p", "80")));
        assert_eq!(named("https:p:"), Some((true, "p", "")));
        assert_eq!(named("http:p:web"), Some((false, "p", "web")));
        for bad in ["", ":80", "ftp:p:80", "https::1", "a:b:c:d"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_split_as_they_were_written() {
        let prefix = "/api/v1/namespaces/n/pods/https:p:443/proxy";
        for rest in ["", "/", "/a%2Fb//c/", "/proxy/proxy"] {
            assert_eq!(split(&format!("{prefix}{rest}"), true), (prefix, rest));
        }
        assert_eq!(split("/api/v1/nodes/n/proxy/x", false), ("/api/v1/nodes/n/proxy", "/x"));
    }

    #[test]
    fn what_is_the_api_servers_own_goes_no_further() {
        let incoming = HttpRequest::builder()
            .uri("https://api:6443/api/v1/namespaces/n/pods/p/proxy/a?b=c")
            .header("authorization", "Bearer secret")
            .header("impersonate-user", "somebody")
            .header("connection", "keep-alive, x-one")
            .header("x-one", "1")
            .header("x-two", "2")
            .body(reply::empty())
            .unwrap();
        let links = Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            front: "api:6443".to_owned(),
        };
        let sent = outgoing(incoming, (&links, "/a"), false).unwrap();
        assert_eq!(sent.uri(), "/a?b=c");
        let mut names: Vec<&str> = sent.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-forwarded-uri", "x-two"]);
        assert_eq!(sent.headers()[FORWARDED_URI], "/api/v1/namespaces/n/pods/p/proxy/a");
        assert_eq!(sent.headers()[HOST], "api:6443");
    }
}
