//! Channels between masters: a client talks to this master, the node's stream is on another one.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::master_proxy_client::MasterProxyClient;
use quorate_proto::agent::master_proxy_server::{MasterProxy, MasterProxyServer};
use quorate_proto::agent::proxy_frame::Frame as Proxied;
use quorate_proto::agent::{ChannelFrame, OpenChannel, ProxyFrame, ProxyOpen};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::channel::{self, Channel, ChannelError};
use super::hub::{AgentHub, Inner};
use super::service::{Out, first};
use crate::identity::{Identity, MASTERS};
use crate::limits::{CHANNEL_FRAMES_MAX, CHANNEL_MESSAGE_BYTES_MAX, CHANNEL_OPEN_TIMEOUT};

/// Connects to other masters. Given by the binary, which knows their addresses and has a certificate
/// that they accept.
#[async_trait]
pub trait MasterDialer: Send + Sync + 'static {
    /// A connection to the API port of the named master, with a client certificate in group
    /// `system:masters`. May be shared by many calls.
    ///
    /// # Errors
    /// Why there is none, for people.
    async fn dial(&self, master: &str) -> Result<tonic::transport::Channel, String>;
}

impl AgentHub {
    /// The masters' service among themselves, for the API port.
    #[must_use]
    pub fn proxy_service(&self) -> MasterProxyServer<impl MasterProxy> {
        MasterProxyServer::new(Service { hub: self.clone() })
            .max_decoding_message_size(CHANNEL_MESSAGE_BYTES_MAX)
    }

    /// Opens a channel to a node whose stream is on another master.
    ///
    /// # Errors
    /// [`ChannelError`]; [`ChannelError::NotConnected`] also when that master is not reached, or does
    /// not have the node any more.
    pub async fn open_through(
        &self,
        master: &str,
        node: &str,
        request: OpenChannel,
    ) -> Result<Channel, ChannelError> {
        let not_connected = || ChannelError::NotConnected(node.to_owned());
        let dialer = self.dialer().ok_or_else(not_connected)?;
        let call = async {
            let connection = dialer.dial(master).await.map_err(|why| {
                tracing::warn!(master, node, %why, "cannot reach the master of a node");
                not_connected()
            })?;
            let open = ProxyOpen { node_name: node.to_owned(), request: Some(request) };
            let (up, down) = mpsc::channel(CHANNEL_FRAMES_MAX);
            let opened = up.try_send(ProxyFrame { frame: Some(Proxied::Open(open)) });
            opened.map_err(|_| not_connected())?;
            let answer = MasterProxyClient::new(connection)
                .max_decoding_message_size(CHANNEL_MESSAGE_BYTES_MAX)
                .proxy(ReceiverStream::new(down))
                .await;
            match answer {
                Ok(response) => Ok((up, response.into_inner())),
                Err(status) => Err(error_of(&status, node)),
            }
        };
        let called = tokio::time::timeout(CHANNEL_OPEN_TIMEOUT, call).await;
        let (up, from_master) =
            called.unwrap_or_else(|_| Err(ChannelError::Timeout(node.to_owned())))?;
        let (client, mut from_client, to_client) = channel::pair();
        let inner = self.inner.clone();
        inner.tasks.clone().spawn(async move {
            let forwarded = async {
                while let Some(frame) = from_client.recv().await {
                    let frame = ProxyFrame { frame: Some(Proxied::Channel(frame)) };
                    if up.send(frame).await.is_err() {
                        return;
                    }
                }
            };
            relay(&inner, forwarded, from_master, to_client).await;
        });
        Ok(client)
    }
}

/// Carries frames both ways until either side ends.
async fn relay(
    inner: &Arc<Inner>,
    forwarded: impl std::future::Future<Output = ()>,
    mut from: Streaming<ChannelFrame>,
    to: mpsc::Sender<ChannelFrame>,
) {
    let backward = async {
        while let Ok(Some(frame)) = from.message().await {
            let last = matches!(frame.frame, Some(Frame::Status(_)));
            if to.send(frame).await.is_err() || last {
                return;
            }
        }
    };
    tokio::select! {
        () = backward => {}
        () = forwarded => {}
        () = to.closed() => {}
        () = inner.stop.cancelled() => {}
    }
}

struct Service {
    hub: AgentHub,
}

#[tonic::async_trait]
impl MasterProxy for Service {
    type ProxyStream = Out<ChannelFrame>;

    async fn proxy(
        &self,
        request: Request<Streaming<ProxyFrame>>,
    ) -> Result<Response<Self::ProxyStream>, Status> {
        let identity = request.extensions().get::<Identity>();
        if !identity.is_some_and(|identity| identity.is_in(MASTERS)) {
            return Err(Status::permission_denied(
                "this call needs a client certificate in group system:masters",
            ));
        }
        let mut up = request.into_inner();
        let Some(Proxied::Open(ProxyOpen { node_name, request: Some(open) })) =
            first(&mut up).await?.frame
        else {
            return Err(Status::invalid_argument("the first frame must be open"));
        };
        let opened = self.hub.open(&node_name, open).await;
        let Channel { to_node, mut from_node } = opened.map_err(|error| status_of(&error))?;
        let (out, down) = mpsc::channel(CHANNEL_FRAMES_MAX);
        let inner = self.hub.inner.clone();
        inner.tasks.clone().spawn(async move {
            let backward = async {
                while let Some(frame) = from_node.recv().await {
                    if out.send(frame).await.is_err() {
                        return;
                    }
                }
            };
            let gone = out.clone();
            let forward = async {
                while let Ok(Some(frame)) = up.message().await {
                    let Some(Proxied::Channel(frame)) = frame.frame else { continue };
                    // A process that has ended takes no more; its output tells.
                    let _ = to_node.send(frame).await;
                }
            };
            tokio::select! {
                () = backward => {}
                // The other master ends its side when its client is gone.
                () = forward => {}
                () = gone.closed() => {}
                () = inner.stop.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(down).map(Ok))))
    }
}

fn status_of(error: &ChannelError) -> Status {
    let text = error.to_string();
    match error {
        ChannelError::NotConnected(_) => Status::unavailable(text),
        ChannelError::Timeout(_) => Status::deadline_exceeded(text),
        ChannelError::Overloaded => Status::resource_exhausted(text),
        ChannelError::Refused(status) => {
            Status::with_details(Code::FailedPrecondition, text, Bytes::from(status.clone()))
        }
    }
}

fn error_of(status: &Status, node: &str) -> ChannelError {
    match status.code() {
        Code::FailedPrecondition => ChannelError::Refused(status.details().to_vec()),
        Code::DeadlineExceeded => ChannelError::Timeout(node.to_owned()),
        Code::ResourceExhausted => ChannelError::Overloaded,
        other => {
            tracing::debug!(node, code = ?other, why = status.message(), "not proxied");
            ChannelError::NotConnected(node.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_way_through_another_master() {
        for error in [
            ChannelError::NotConnected("n".to_owned()),
            ChannelError::Timeout("n".to_owned()),
            ChannelError::Overloaded,
            ChannelError::Refused(b"{}".to_vec()),
        ] {
            assert_eq!(error_of(&status_of(&error), "n"), error);
        }
    }
}
