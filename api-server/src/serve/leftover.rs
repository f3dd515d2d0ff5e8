//! What is left of a request's body when its handler has answered without reading it.
//!
//! A refusal (401, 403, 404, 415, …) is made from the head alone, while a client still sends. Closing on it then
//! makes the client see a broken connection instead of the refusal; so what is left is read and thrown away, within
//! limits, while the answer goes out, as Go's server does.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::limits::{REFUSED_BODY_BYTES_MAX, REFUSED_BODY_TIMEOUT};
use crate::reply::BoxError;

/// A body that is read to its end, whoever drops it.
#[derive(Debug)]
pub(super) struct ReadToEnd {
    inner: Option<Incoming>,
}

impl ReadToEnd {
    pub(super) fn new(body: Incoming) -> Self {
        Self { inner: Some(body) }
    }
}

impl Body for ReadToEnd {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        polled.map_err(|error| -> BoxError { Box::new(error) })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for ReadToEnd {
    fn drop(&mut self) {
        let Some(body) = self.inner.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(drain(body));
        }
    }
}

async fn drain(mut body: Incoming) {
    let rest = async {
        let mut left = REFUSED_BODY_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(less) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                return;
            };
            left = less;
        }
    };
    // Whether it ended or not: the connection knows what to do with a body that nobody reads.
    let _ = tokio::time::timeout(REFUSED_BODY_TIMEOUT, rest).await;
}
