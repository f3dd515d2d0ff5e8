//! A bucket for a test: as much of S3 as backups need, in this process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub const KEY_ID: &str = "AKIAQUORATE";
pub const SECRET: &str = "a-secret-of-the-test";

#[derive(Default)]
struct Content {
    objects: BTreeMap<String, Vec<u8>>,
    /// Parts of uploads that are under way.
    parts: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    refused: usize,
}

/// See the module. Serves for as long as the runtime runs.
#[derive(Clone)]
pub struct Bucket {
    pub endpoint: String,
    content: Arc<Mutex<Content>>,
}

impl Bucket {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let content = Arc::new(Mutex::new(Content::default()));
        let served = content.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = service_fn(move |request| answer(served.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { endpoint, content }
    }

    /// What a process needs to use it.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "nowhere-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    pub fn names(&self) -> Vec<String> {
        self.content.lock().unwrap().objects.keys().cloned().collect()
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.content.lock().unwrap().objects.insert(name.to_owned(), bytes);
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.content.lock().unwrap().objects[name].clone()
    }

    /// Requests that were not signed with the key.
    pub fn refused(&self) -> usize {
        self.content.lock().unwrap().refused
    }
}

fn reply(code: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(code).header("etag", "\"x\"").body(Full::new(body.into())).unwrap()
}

fn query_of(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.replace("%2F", "/"))
    };
    text.split('&').map(pair).collect()
}

async fn answer(
    content: Arc<Mutex<Content>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut content = content.lock().unwrap();
    let signed = format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/");
    if !header("authorization").is_some_and(|text| text.starts_with(&signed)) {
        content.refused += 1;
        return Ok(reply(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"));
    }
    let path = head.uri.path().trim_start_matches('/').to_owned();
    let (_, name) = path.split_once('/').unwrap_or((&path, ""));
    let query = query_of(head.uri.query().unwrap_or_default());
    Ok(match (&head.method, query.get("uploadId")) {
        (&Method::GET, _) if query.contains_key("list-type") => list(&content, &query),
        (&Method::HEAD, _) => match content.objects.get(name) {
            None => reply(StatusCode::NOT_FOUND, ""),
            Some(bytes) => Response::builder()
                .header("etag", "\"x\"")
                .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
                .header("content-length", bytes.len())
                .body(Full::new(Bytes::new()))
                .unwrap(),
        },
        (&Method::GET, _) => match content.objects.get(name) {
            None => reply(StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>"),
            Some(bytes) => range(bytes, header("range")),
        },
        (&Method::POST, None) if query.contains_key("delete") => delete(&mut content, &body),
        (&Method::POST, None) => {
            content.parts.insert(name.to_owned(), BTreeMap::new());
            let id = "<UploadId>u1</UploadId>";
            reply(
                StatusCode::OK,
                format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"),
            )
        }
        (&Method::PUT, Some(_)) => {
            let number = query["partNumber"].parse().unwrap();
            content.parts.get_mut(name).unwrap().insert(number, body.to_vec());
            reply(StatusCode::OK, "")
        }
        (&Method::POST, Some(_)) => {
            let parts = content.parts.remove(name).unwrap();
            let whole = parts.into_values().flatten().collect();
            content.objects.insert(name.to_owned(), whole);
            let done = "<ETag>\"x\"</ETag>";
            reply(
                StatusCode::OK,
                format!("<CompleteMultipartUploadResult>{done}</CompleteMultipartUploadResult>"),
            )
        }
        (&Method::PUT, None) => {
            content.objects.insert(name.to_owned(), body.to_vec());
            reply(StatusCode::OK, "")
        }
        (&Method::DELETE, _) => {
            content.objects.remove(name);
            reply(StatusCode::NO_CONTENT, "")
        }
        _ => reply(StatusCode::METHOD_NOT_ALLOWED, ""),
    })
}

/// Several in one request.
fn delete(content: &mut Content, body: &[u8]) -> Response<Full<Bytes>> {
    let text = String::from_utf8_lossy(body).into_owned();
    let names = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    let gone: String = names
        .map(|(name, _)| {
            content.objects.remove(name);
            format!("<Deleted><Key>{name}</Key></Deleted>")
        })
        .collect();
    reply(StatusCode::OK, format!("<DeleteResult>{gone}</DeleteResult>"))
}

fn list(content: &Content, query: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let inside = content
        .objects
        .iter()
        .filter(|(name, _)| name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/')));
    let row = |(name, bytes): (&String, &Vec<u8>)| {
        format!(
            "<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"x\"</ETag><Size>{}</Size></Contents>",
            bytes.len()
        )
    };
    let rows: String = inside.map(row).collect();
    reply(
        StatusCode::OK,
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"),
    )
}

fn range(bytes: &[u8], asked: Option<&str>) -> Response<Full<Bytes>> {
    let asked = asked.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let (from, to) = match asked {
        Some((from, to)) => {
            (from.parse().unwrap(), to.parse::<usize>().unwrap_or(usize::MAX).min(bytes.len() - 1))
        }
        None => (0, bytes.len().saturating_sub(1)),
    };
    let part = bytes[from..=to].to_vec();
    let code = if asked.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Response::builder()
        .status(code)
        .header("etag", "\"x\"")
        .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("content-range", format!("bytes {from}-{to}/{}", bytes.len()))
        .header("content-length", part.len())
        .body(Full::new(part.into()))
        .unwrap()
}
