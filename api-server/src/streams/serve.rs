//! [`PodStreams`] over the node agents' streams: which subresource is answered where.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use quorate_api::status::Status;
use tokio_util::sync::CancellationToken;

use super::{Duplex, PodStreams, StreamRequest, command, forward, log, upgrade};
use crate::agents::AgentHub;
use crate::parameters::Query;
use crate::reply::{self, Body};
use crate::status_error::Answer;

/// See the module.
pub(super) struct Streams {
    pub(super) hub: AgentHub,
}

impl AgentHub {
    /// Answers `log`, `exec`, `attach` and `portforward` of pods on any node that is connected to any
    /// master.
    #[must_use]
    pub fn streams(&self) -> Arc<dyn PodStreams> {
        Arc::new(Streams { hub: self.clone() })
    }
}

impl Streams {
    /// Runs what goes on after an upgrade. Its token is cancelled when this master stops, and when the
    /// work is done, for what it may have left behind.
    pub(super) fn spawn<F>(&self, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let end = self.hub.end_token();
        let work = work(end.clone());
        self.hub.tasks().spawn(async move {
            let _guard = end.drop_guard();
            work.await;
        });
    }

    async fn answer(&self, request: StreamRequest) -> Answer<Response<Body>> {
        let StreamRequest { subresource, pod, request, .. } = request;
        let query = Query::of(request.uri());
        match subresource.as_str() {
            "log" => log::serve(self, &query, &pod).await,
            "exec" | "attach" => command::serve(self, &subresource, &query, &pod, request).await,
            "portforward" => forward::serve(self, &query, &pod, request).await,
            _ => Err(Box::new(Status::resource_not_found())),
        }
    }
}

#[async_trait]
impl PodStreams for Streams {
    async fn serve(&self, request: StreamRequest) -> Response<Body> {
        let asked = upgrade::asked(request.request.headers());
        let mut response =
            self.answer(request).await.unwrap_or_else(|status| reply::status(&status));
        if asked && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // What follows on the connection may be meant for the protocol that was refused.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn connect(&self, pod: &serde_json::Value, port: u16) -> Result<Box<dyn Duplex>, String> {
        forward::connect(self, pod, port).await
    }
}
