//! The gRPC service itself: who may open which stream.

use std::pin::Pin;

use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::from_agent::Message as Up;
use quorate_proto::agent::node_agent_server::{NodeAgent, NodeAgentServer};
use quorate_proto::agent::{ChannelFrame, FromAgent, ToAgent};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::channel;
use super::hub::AgentHub;
use super::session::{self, Session};
use crate::authn::CertificateFacts;
use crate::identity::Identity;
use crate::limits::{AGENT_HELLO_TIMEOUT, AGENT_MESSAGE_BYTES_MAX, AGENT_OUTBOX_MESSAGES_MAX};

pub(super) type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl AgentHub {
    /// The service, for the API port.
    #[must_use]
    pub fn service(&self) -> NodeAgentServer<impl NodeAgent> {
        NodeAgentServer::new(Service { hub: self.clone() })
            .max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(AGENT_MESSAGE_BYTES_MAX)
    }
}

struct Service {
    hub: AgentHub,
}

/// The node that a request's certificate is for.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn node_of<T>(request: &Request<T>) -> Result<String, Status> {
    let identity = request.extensions().get::<Identity>();
    identity.and_then(Identity::node).map(str::to_owned).ok_or_else(|| {
        Status::permission_denied(
            "this call needs the client certificate of a node (system:node:<name>)",
        )
    })
}

pub(super) async fn first<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    match tokio::time::timeout(AGENT_HELLO_TIMEOUT, stream.message()).await {
        Ok(message) => message?.ok_or_else(|| Status::invalid_argument("the stream is empty")),
        Err(_) => Err(Status::deadline_exceeded("no first message")),
    }
}

#[tonic::async_trait]
impl NodeAgent for Service {
    type ControlStream = Out<ToAgent>;
    type ChannelStream = Out<ChannelFrame>;

    async fn control(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let node = node_of(&request)?;
        let inner = self.hub.inner.clone();
        if inner.late().is_none() || inner.stop.is_cancelled() {
            return Err(Status::unavailable("this master is starting or stopping"));
        }
        let certificate = request.extensions().get::<CertificateFacts>().cloned();
        let mut up = request.into_inner();
        let Some(Up::Hello(hello)) = first(&mut up).await?.message else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        if hello.node_name != node {
            return Err(Status::permission_denied(format!(
                "the certificate is for node {node}, not for {}",
                hello.node_name
            )));
        }
        let (out, down) = mpsc::channel(AGENT_OUTBOX_MESSAGES_MAX);
        let session = Session::new(&node, out, inner.stop.child_token(), certificate);
        inner.tasks.clone().spawn(session::serve(inner, session.into(), hello, up));
        Ok(Response::new(Box::pin(ReceiverStream::new(down))))
    }

    async fn channel(
        &self,
        request: Request<Streaming<ChannelFrame>>,
    ) -> Result<Response<Self::ChannelStream>, Status> {
        let node = node_of(&request)?;
        let mut up = request.into_inner();
        let Some(Frame::Attach(attach)) = first(&mut up).await?.frame else {
            return Err(Status::invalid_argument("the first frame must be attach"));
        };
        let (client, from_client, to_client) = channel::pair();
        let inner = self.hub.inner.clone();
        if !self.hub.inner.waiting.answer(&attach.channel_id, &node, Ok(client)) {
            return Err(Status::not_found("nobody waits for this channel"));
        }
        inner.tasks.clone().spawn(async move {
            let copied = async {
                while let Ok(Some(frame)) = up.message().await {
                    if to_client.send(frame).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = copied => {}
                // The client is gone, also when the node has nothing to say.
                () = to_client.closed() => {}
                () = inner.stop.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(from_client).map(Ok))))
    }
}
