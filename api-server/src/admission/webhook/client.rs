//! The way to a webhook: TLS with its authority, HTTP/1.1, connections that are kept.
//!
//! HTTP/1.1 only, as upstream: one HTTP/2 connection would send everything to one of several backends.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quorate_api::codec::{MediaType, decode_any};
use serde_json::Value;
use tokio::time::Instant;

use super::trust;
pub(super) use crate::dial::Dialer;
use crate::dial::{Pipe, Service};
use crate::limits::{
    WEBHOOK_ERROR_CHARS_MAX, WEBHOOK_IDLE_CONNECTIONS_MAX, WEBHOOK_IDLE_TIMEOUT,
    WEBHOOK_RESPONSE_BYTES_MAX,
};
use crate::model::text;
use crate::parameters::quoted;

/// Where a webhook is and whom to believe: a `clientConfig`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    url: String,
    service: Option<Service>,
    /// PEM; empty: whom this machine believes.
    bundle: Vec<u8>,
}

impl Target {
    pub(super) fn of(config: &Value) -> Self {
        let bundle = STANDARD.decode(text(&config["caBundle"])).unwrap_or_default();
        let service = &config["service"];
        if service.is_null() {
            return Self { url: escaped(text(&config["url"])), service: None, bundle };
        }
        let (namespace, name) = (text(&service["namespace"]), text(&service["name"]));
        let port = service["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or(443);
        let path = text(&service["path"]).trim_start_matches('/');
        Self {
            url: format!("https://{name}.{namespace}.svc:{port}/{path}"),
            service: Some(Service { namespace: namespace.to_owned(), name: name.to_owned(), port }),
            bundle,
        }
    }
}

type Connections = Http<HttpsConnector<Reach>, Full<Bytes>>;

/// The connections to one target.
pub(super) struct Client {
    target: Target,
    dialer: Arc<Dialer>,
    connections: OnceLock<Result<Connections, String>>,
}

/// Why a call gave no review.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallError {
    /// In Go's words, as far as they are known.
    pub(super) message: String,
    /// What metrics count it as.
    pub(super) code: u16,
}

impl CallError {
    fn unreached(why: impl std::fmt::Display) -> Self {
        Self { message: format!("failed to call webhook: {why}"), code: 503 }
    }
}

impl Client {
    pub(super) fn new(target: &Target, dialer: &Arc<Dialer>) -> Self {
        Self { target: target.clone(), dialer: dialer.clone(), connections: OnceLock::new() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Certificates are read when the first call needs them.
    fn connections(&self) -> Result<&Connections, String> {
        let made = self.connections.get_or_init(|| {
            let tls = trust::config(&self.target.bundle)?;
            let reach = Reach { service: self.target.service.clone(), dialer: self.dialer.clone() };
            let https = HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_only()
                .enable_http1()
                .wrap_connector(reach);
            Ok(Http::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(WEBHOOK_IDLE_TIMEOUT)
                .pool_max_idle_per_host(WEBHOOK_IDLE_CONNECTIONS_MAX)
                .build(https))
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// Sends a review; gives the document that comes back.
    pub(super) async fn post(
        &self,
        body: Vec<u8>,
        timeout: std::time::Duration,
    ) -> Result<Value, CallError> {
        let no_client = |why: String| CallError { message: why, code: 500 };
        let connections = self.connections().map_err(no_client)?;
        let url = with_timeout(&self.target.url, timeout);
        let uri: Uri =
            url.parse().map_err(|why| CallError::unreached(format!("parse {url}: {why}")))?;
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(body)))
            .map_err(CallError::unreached)?;
        let failed = |why: String| CallError::unreached(format!("Post {}: {why}", quoted(&url)));
        let until = Instant::now() + timeout;
        let late = || failed("context deadline exceeded".to_owned());
        let answered = tokio::time::timeout_at(until, connections.request(request)).await;
        let response = answered.map_err(|_| late())?.map_err(|why| failed(innermost(&why)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, WEBHOOK_RESPONSE_BYTES_MAX).collect();
        let read = tokio::time::timeout_at(until, body).await;
        let read = read.map_err(|_| late())?.map_err(|why| {
            let too_large = why.is::<http_body_util::LengthLimitError>();
            CallError::unreached(if too_large {
                format!("the response is larger than {WEBHOOK_RESPONSE_BYTES_MAX} bytes")
            } else {
                format!("unexpected error when reading response body: {why}")
            })
        })?;
        let bytes = read.to_bytes();
        let code = head.status.as_u16();
        if !(200..=206).contains(&code) {
            let why = unexpected(code, &head.headers, &bytes);
            return Err(CallError { code, ..CallError::unreached(why) });
        }
        decode_any(MediaType::Json, &bytes).map_err(|why| {
            let why = format!("couldn't get version/kind; json parse error: {why}");
            CallError::unreached(why)
        })
    }
}

/// What an address may not have as it is, escaped as Go does it.
fn escaped(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Webhooks are told how long they have.
fn with_timeout(url: &str, timeout: std::time::Duration) -> String {
    let slash = match url.split_once("://") {
        Some((_, rest)) if !rest.contains('/') => "/",
        _ => "",
    };
    format!("{url}{slash}?timeout={}s", timeout.as_secs())
}

/// What client-go makes of an answer that is no success.
fn unexpected(code: u16, headers: &http::HeaderMap, body: &[u8]) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_text = kind.is_empty() || kind.starts_with("text/");
    let told = || -> String {
        let body = String::from_utf8_lossy(body);
        let body: String = body.trim().chars().take(WEBHOOK_ERROR_CHARS_MAX).collect();
        if is_text && !body.is_empty() { body } else { "unknown".to_owned() }
    };
    let fixed = match code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 => return told(),
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        406 | 415 => return told(),
        409 => "the server reported a conflict",
        410 => "the server no longer provides the requested resource",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        500.. => {
            let told = quoted(&told());
            return format!(
                "an error on the server ({told}) has prevented the request from succeeding"
            );
        }
        _ => {
            return format!(
                "the server responded with the status code {code} but did not return more information"
            );
        }
    };
    fixed.to_owned()
}

/// The cause behind all wrappings.
fn innermost(error: &hyper_util::client::legacy::Error) -> String {
    let mut at: &(dyn std::error::Error + 'static) = error;
    loop {
        let inner = at.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        at = match inner {
            Some(inner) => inner,
            None => match at.source() {
                Some(source) => source,
                None => break,
            },
        };
    }
    match at.downcast_ref::<rustls::Error>() {
        Some(error) => trust::told(error),
        None => at.to_string(),
    }
}

/// Opens connections for hyper.
#[derive(Clone)]
pub(super) struct Reach {
    service: Option<Service>,
    dialer: Arc<Dialer>,
}

impl tower::Service<Uri> for Reach {
    type Response = TokioIo<Pipe>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let reach = self.clone();
        Box::pin(async move {
            let pipe = match &reach.service {
                Some(service) => reach.dialer.service(service).await,
                None => {
                    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                    reach.dialer.host(host, uri.port_u16().unwrap_or(443)).await
                }
            };
            pipe.map(TokioIo::new).map_err(std::io::Error::other)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn services_have_an_address_by_name() {
        let service =
            json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "/a/b"}});
        let target = Target::of(&service);
        assert_eq!(target.url, "https://s.n.svc:8443/a/b");
        let seconds = Duration::from_secs(7);
        assert_eq!(with_timeout(&target.url, seconds), "https://s.n.svc:8443/a/b?timeout=7s");
        let url = Target::of(&json!({"url": "https://h:1"})).url;
        assert_eq!(with_timeout(&url, seconds), "https://h:1/?timeout=7s");
        let odd = Target::of(&json!({"url": "https://h/a b/{ü}%20"})).url;
        assert_eq!(odd, "https://h/a%20b/%7B%C3%BC%7D%20");
    }

    #[test]
    fn refused_calls_are_told_as_client_go_tells_them() {
        let mut headers = http::HeaderMap::new();
        let told = unexpected(500, &headers, b" broken\n");
        assert_eq!(
            told,
            "an error on the server (\"broken\") has prevented the request from succeeding"
        );
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let told = unexpected(500, &headers, b"{}");
        assert_eq!(
            told,
            "an error on the server (\"unknown\") has prevented the request from succeeding"
        );
        assert_eq!(
            unexpected(404, &headers, b""),
            "the server could not find the requested resource"
        );
    }
}
