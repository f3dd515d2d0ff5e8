//! `/api`, `/apis`, `/openapi/v2`, `/openapi/v3`: documents that the object model makes, with ETags and 304.

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HOST, HeaderValue, IF_NONE_MATCH, LOCATION,
    VARY,
};
use http::{HeaderMap, Response, StatusCode};
use quorate_api::custom::documents::Documents;
use quorate_api::discovery::{self, Aggregated};
use quorate_api::document::Document;
use quorate_api::status::Status;
use quorate_api::{openapi, resource};

use crate::pipeline::Call;
use crate::reply::{self, Body};
use crate::server::Shared;

/// The document of a path, or `None`.
pub(crate) fn answer(shared: &Shared, call: &Call) -> Option<Response<Body>> {
    let published = shared.published.of(&shared.store.view());
    let custom = published.as_deref().map(|(_, documents)| documents);
    let path = call.parts.uri.path();
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let headers = &call.parts.headers;
    match words.as_slice() {
        [] => Some(paths(custom)),
        ["api"] => Some(root(headers, true, None)),
        ["apis"] => Some(root(headers, false, custom)),
        ["api", version] => Some(plain(headers, discovery::resource_list("", version)?)),
        ["apis", group] => {
            let value = discovery::api_group(group).or_else(|| custom?.group(group))?;
            Some(reply::json(200, discovery::ordered(&value)))
        }
        ["apis", group, version] if !group.is_empty() => {
            let own = || custom?.resource_list(group, version);
            Some(plain(headers, discovery::resource_list(group, version).or_else(own)?))
        }
        ["openapi", "v2"] => Some(openapi_v2(headers, custom)),
        ["openapi", "v3"] => Some(index(headers, custom)),
        ["openapi", "v3", ..] => {
            let path = words[2..].join("/");
            let document = openapi::document(&path).or_else(|| custom?.openapi(&path))?;
            openapi_document(call, &path, document)
        }
        _ => None,
    }
}

/// `/`: what there is.
fn paths(custom: Option<&Documents>) -> Response<Body> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/apis"].map(str::to_owned).to_vec();
    for group in resource::groups() {
        if group.name.is_empty() {
            paths.extend(group.versions.iter().map(|version| format!("/api/{version}")));
            continue;
        }
        paths.push(format!("/apis/{}", group.name));
        paths
            .extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    paths.extend(custom.map(Documents::paths).unwrap_or_default());
    for path in [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ] {
        paths.push(path.to_owned());
    }
    paths.sort_unstable();
    reply::json(200, format!("{:#}", serde_json::json!({ "paths": paths })))
}

/// `/api` or `/apis`: aggregated for those who ask for it.
fn root(headers: &HeaderMap, core: bool, custom: Option<&Documents>) -> Response<Body> {
    let wanted = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .find_map(|media| {
            let legacy = matches!(media.split(';').next(), Some("application/json" | "*/*"))
                && !media.contains("as=");
            match Aggregated::from_media_type(media) {
                Some(version) => Some(Some(version)),
                None if legacy => Some(None),
                None => None,
            }
        })
        .flatten();
    let mut response = match wanted {
        Some(version) => {
            let document = match custom {
                Some(custom) => custom.aggregated(version),
                None => discovery::aggregated(version, core),
            };
            tagged(headers, document, version.content_type())
        }
        None if core => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            reply::json(200, discovery::ordered(&discovery::api_versions(host)))
        }
        None => {
            let list = match custom {
                Some(custom) => custom.group_list(),
                None => discovery::api_group_list(),
            };
            plain(headers, list)
        }
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn plain(headers: &HeaderMap, document: &Document) -> Response<Body> {
    tagged(headers, document, "application/json")
}

fn tagged(headers: &HeaderMap, document: &Document, content_type: &str) -> Response<Body> {
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| document.matches(value));
    let mut response = if known {
        let mut response = Response::new(reply::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        reply::bytes(200, content_type, document.body.clone())
    };
    if let Ok(etag) = HeaderValue::from_str(&document.etag()) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
    response
}

fn index(headers: &HeaderMap, custom: Option<&Documents>) -> Response<Body> {
    let document = match custom {
        Some(custom) => custom.index(),
        None => openapi::index(),
    };
    let mut response = tagged(headers, document, "text/plain; charset=utf-8");
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

/// Whether the client takes JSON, beside what else.
fn takes_json(headers: &HeaderMap) -> bool {
    let mut said = false;
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for media in values.flat_map(|value| value.split(',')) {
        said = true;
        let name = media.split(';').next().unwrap_or_default().trim();
        if matches!(name, "application/json" | "application/*" | "*/*") {
            return true;
        }
    }
    !said
}

/// What `/openapi/v2` as protobuf is called in answers.
const V2_BINARY: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What kubectl asks for, and nothing else. No answer can be called so: `@` may not be in a media type.
const V2_BINARY_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// `/openapi/v2`, in the first form that the client names.
fn openapi_v2(headers: &HeaderMap, custom: Option<&Documents>) -> Response<Body> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let names = values
        .flat_map(|value| value.split(','))
        .map(|clause| clause.split(';').next().unwrap_or_default().trim());
    let mut form = None;
    for name in names {
        form = match name {
            "application/json" | "application/*" | "*/*" => Some(None),
            V2_BINARY | V2_BINARY_ASKED => Some(Some(V2_BINARY)),
            _ => None,
        };
        if form.is_some() {
            break;
        }
    }
    let mut response = match form {
        Some(Some(media)) => {
            let document = match custom {
                Some(custom) => &custom.v2().1,
                None => openapi::v2_binary(),
            };
            tagged(headers, document, media)
        }
        None if !takes_json(headers) => {
            return reply::status(&Status::not_acceptable(&["application/json", V2_BINARY]));
        }
        None | Some(None) => {
            let document = match custom {
                Some(custom) => &custom.v2().0,
                None => openapi::v2(),
            };
            plain(headers, document)
        }
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// One document of `/openapi/v3`; with its hash in the URL it may be kept for ever.
fn openapi_document(call: &Call, path: &str, document: &Document) -> Option<Response<Body>> {
    let headers = &call.parts.headers;
    if !takes_json(headers) {
        // Its protobuf form is not made.
        return Some(reply::status(&Status::not_acceptable(&["application/json"])));
    }
    match call.query.get("hash") {
        None | Some("") => Some(plain(headers, document)),
        Some(hash) if hash == document.hash => {
            let mut response = plain(headers, document);
            let kept = HeaderValue::from_static("public, immutable");
            response.headers_mut().insert(CACHE_CONTROL, kept);
            response
                .headers_mut()
                .insert(EXPIRES, HeaderValue::from_static("Fri, 31 Dec 2100 23:59:59 GMT"));
            Some(response)
        }
        Some(_) => {
            let mut response = Response::new(reply::empty());
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let location = format!("/openapi/v3/{path}?hash={}", document.hash);
            response.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).ok()?);
            Some(response)
        }
    }
}
