//! Answers: JSON bodies, `Status`, compression, warnings.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue,
    RETRY_AFTER, VARY,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use quorate_api::status::Status;

use crate::limits::{GZIP_BYTES_MIN, WARNING_CHARS_MAX, WARNINGS_CHARS_MAX, WARNINGS_MAX};

/// What any layer's body error becomes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bodies of requests and answers.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An empty body.
pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// An answer of one piece.
pub(crate) fn bytes(code: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code_of(code);
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// A JSON answer.
pub(crate) fn json(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    bytes(code, "application/json", body)
}

/// A JSON answer in pieces, each made when the connection has room for it.
pub(crate) fn json_pieces(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = pieces.map(|piece| Ok(http_body::Frame::data(piece)));
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Bytes as they come.
pub(crate) fn stream(bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Response<Body> {
    let frames = bytes.map(|bytes| match bytes {
        Ok(bytes) => Ok(http_body::Frame::data(bytes)),
        Err(error) => Err(BoxError::from(error)),
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A plain text answer.
pub(crate) fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", body);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// A `Status` as the answer.
pub(crate) fn status(status: &Status) -> Response<Body> {
    status_as(status, false)
}

/// A `Status` as the answer, for people when it is for them.
pub(crate) fn status_as(status: &Status, pretty: bool) -> Response<Body> {
    let code = if status.code == 0 { 200 } else { status.code };
    let laid_out = pretty.then(|| serde_json::to_vec_pretty(status).ok()).flatten();
    let body = laid_out.unwrap_or_else(|| status.to_json());
    let mut response = json(code, body);
    warn(response.headers_mut(), &status.aside.warnings);
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn code_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Adds `Warning: 299 - "text"` headers, within their limits: when all are too much each is cut, and then the last ones
/// are left out (apiserver's recorder).
pub(crate) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    for warning in warnings {
        if !warning.is_empty() && !seen.contains(&warning.as_str()) && seen.len() < WARNINGS_MAX {
            seen.push(warning);
        }
    }
    let chars = |text: &str| text.chars().count();
    let too_much = seen.iter().map(|text| chars(text)).sum::<usize>() > WARNINGS_CHARS_MAX;
    let limit = if too_much { WARNING_CHARS_MAX } else { usize::MAX };
    let mut written = 0;
    for warning in seen {
        if written >= WARNINGS_CHARS_MAX {
            return;
        }
        written += chars(warning).min(limit);
        let mut text = String::with_capacity(warning.len() + 10);
        for c in warning.chars().take(limit) {
            match c {
                '"' | '\\' => {
                    text.push('\\');
                    text.push(c);
                }
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            headers.append(http::header::WARNING, value);
        }
    }
}

/// Whether the client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|one| one.trim().split(';').next().is_some_and(|name| name == "gzip"))
    })
}

/// What every answer carries; and compression, when it pays and the client takes it.
pub(crate) async fn finish(mut response: Response<Body>, gzip: bool) -> Response<Body> {
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    if !gzip || headers.contains_key(CONTENT_ENCODING) {
        return response;
    }
    let size = http_body::Body::size_hint(response.body()).exact();
    if size.is_none_or(|size| usize::try_from(size).is_ok_and(|size| size <= GZIP_BYTES_MIN)) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return status(&Status::internal_error("the answer's body was lost"));
    };
    // Seconds of CPU for large lists: not on a thread that serves others.
    let packed = tokio::task::spawn_blocking(move || compress(&body)).await;
    match packed {
        Ok(Ok(packed)) => {
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            parts.headers.remove(CONTENT_LENGTH);
            Response::from_parts(parts, full(packed))
        }
        Ok(Err(_)) | Err(_) => status(&Status::internal_error("the answer was not compressed")),
    }
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let out = Vec::with_capacity(bytes.len() / 8);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_cut_only_when_all_are_too_much() {
        let sent = |warnings: &[String]| {
            let mut headers = HeaderMap::new();
            warn(&mut headers, warnings);
            let all = headers.get_all(http::header::WARNING).iter();
            all.map(HeaderValue::len).collect::<Vec<_>>()
        };
        let around = "299 - \"\"".len();
        let (long, short) = ("x".repeat(1000), "y".to_owned());
        assert_eq!(sent(&[long.clone(), short, long.clone()]), [1000 + around, 1 + around]);
        let many: Vec<String> = (0..40).map(|number| format!("{number:02}{long}")).collect();
        assert_eq!(
            sent(&many),
            [WARNING_CHARS_MAX + around; WARNINGS_CHARS_MAX / WARNING_CHARS_MAX]
        );
        assert_eq!(sent(&[String::new()]), [0; 0]);
    }
}
