//! One life of the control stream: hello, then whatever either side has to say, until it breaks.

use std::sync::Arc;
use std::time::Duration;

use quorate_proto::agent::node_agent_client::NodeAgentClient;
use quorate_proto::agent::{
    FromAgent, Heartbeat, Hello, OpenChannel, ToAgent, from_agent, to_agent,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::renewal::Renewing;
use super::{Dialer, Link, known};
use crate::config::Config;
use crate::desired::Desired;
use crate::limits::{
    CONNECT_TIMEOUT, CONTROL_MESSAGE_BYTES_MAX, CONTROL_MESSAGES_MAX, HEARTBEAT_SILENCE_MAX,
};
use crate::paths::Paths;

/// What the rest of the agent adds to a session.
pub(crate) trait Hooks: Send + Sync {
    /// The node as it should be created, JSON.
    fn node(&self) -> Vec<u8>;
    /// Pods that run here or still have to be reported.
    fn pod_uids(&self) -> Vec<String>;
    /// Serves a channel over the same connection.
    fn open_channel(&self, client: NodeAgentClient<Channel>, request: OpenChannel);
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) established: bool,
    pub(crate) masters: Option<Vec<String>>,
    pub(crate) why: String,
}

impl Outcome {
    fn failed(why: impl ToString) -> Self {
        Outcome { established: false, masters: None, why: why.to_string() }
    }
}

/// Runs one stream to its end.
pub(crate) async fn run(
    dialer: &Dialer,
    url: &str,
    instance: &str,
    config: &Config,
    desired: &Desired,
    link: &Link,
    hooks: &Arc<dyn Hooks>,
) -> Outcome {
    let channel = match dialer.connect(url).await {
        Ok(channel) => channel,
        Err(error) => return Outcome::failed(error),
    };
    let mut client = NodeAgentClient::new(channel.clone())
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
    let (up, receiver) = mpsc::channel(CONTROL_MESSAGES_MAX);
    let hello = Hello {
        node_name: config.node_name.clone(),
        agent_version: crate::version().to_owned(),
        instance: instance.to_owned(),
        resume_revision: desired.read(|objects| if objects.synced { objects.revision } else { 0 }),
        node: hooks.node().into(),
        pod_uids: hooks.pod_uids(),
    };
    let hello = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
    if up.send(hello).await.is_err() {
        return Outcome::failed("closed");
    }
    let opening = client.control(ReceiverStream::new(receiver));
    let down = match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Outcome::failed(status.message()),
        Err(_) => return Outcome::failed("no answer to the greeting"),
    };
    let mut session = Session {
        desired,
        link,
        config,
        hooks,
        client,
        up,
        url,
        outcome: Outcome::failed("ended before its greeting"),
        heartbeat: HEARTBEAT_SILENCE_MAX / 3,
        sequence: 0,
        heard: Instant::now(),
        renewing: Renewing::new(config.renewal.clone()),
        channel,
    };
    let why = session.serve(down, dialer).await;
    Outcome { why, ..session.outcome }
}

struct Session<'a> {
    desired: &'a Desired,
    link: &'a Link,
    config: &'a Config,
    hooks: &'a Arc<dyn Hooks>,
    client: NodeAgentClient<Channel>,
    up: mpsc::Sender<FromAgent>,
    url: &'a str,
    outcome: Outcome,
    heartbeat: Duration,
    sequence: u64,
    heard: Instant,
    renewing: Renewing,
    channel: Channel,
}

impl Session<'_> {
    async fn serve(&mut self, mut down: Streaming<ToAgent>, dialer: &Dialer) -> String {
        let mut beat = Instant::now() + self.heartbeat;
        loop {
            let established = self.outcome.established;
            let silent = self.heard + HEARTBEAT_SILENCE_MAX.max(self.heartbeat * 3);
            tokio::select! {
                message = down.message() => match message {
                    Ok(Some(message)) => {
                        self.heard = Instant::now();
                        self.receive(message);
                        beat = beat.min(Instant::now() + self.heartbeat);
                    }
                    Ok(None) => return "closed by the master".to_owned(),
                    Err(status) => return status.message().to_owned(),
                },
                tls = self.renewing.renewed(&self.channel), if established => {
                    dialer.renew(tls);
                    // What is served over the connection goes on over it; the stream has to show the new one.
                    return "the node has a new certificate".to_owned();
                }
                permit = reserve(established, &self.up, self.link) => {
                    let Some((permit, message)) = permit else { return "closed".to_owned() };
                    permit.send(message);
                }
                () = tokio::time::sleep_until(beat) => {
                    beat = Instant::now() + self.heartbeat;
                    self.sequence += 1;
                    let heartbeat = Heartbeat { sequence: self.sequence };
                    let message = from_agent::Message::Heartbeat(heartbeat);
                    // A full queue means that the stream is busy or stuck: silence will tell.
                    let _ = self.up.try_send(FromAgent { message: Some(message) });
                }
                () = tokio::time::sleep_until(silent) => return "master went silent".to_owned(),
            }
        }
    }

    fn tell_masters(&mut self, urls: Vec<String>) {
        known::keep(&Paths::new(&self.config.data_dir), &urls);
        self.outcome.masters = Some(urls);
    }

    fn receive(&mut self, message: ToAgent) {
        match message.message {
            Some(to_agent::Message::Welcome(welcome)) => {
                tracing::info!(master = %welcome.master_name, full = welcome.full_sync, "connected");
                self.outcome.established = true;
                if welcome.heartbeat_interval_ms > 0 {
                    self.heartbeat = Duration::from_millis(welcome.heartbeat_interval_ms.into());
                }
                self.tell_masters(welcome.masters);
                self.renewing.told(welcome.credentials_mark);
                let (domain, dns) = (welcome.cluster_domain, welcome.cluster_dns);
                self.desired.begin(welcome.full_sync, domain, dns);
                self.link.set_connected(Some(self.url.to_owned()));
            }
            Some(to_agent::Message::Change(change)) => {
                if let Err(error) = self.desired.apply(&change) {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "change skipped");
                }
            }
            Some(to_agent::Message::Synced(synced)) => self.desired.synced(synced.revision),
            Some(to_agent::Message::Ack(ack)) => {
                if let Some(uid) = self.link.outbox.ack(&ack, Instant::now()) {
                    self.desired.wake(&uid);
                }
            }
            Some(to_agent::Message::TokenReply(reply)) => self.link.outbox.token_reply(reply),
            Some(to_agent::Message::OpenChannel(request)) => {
                self.hooks.open_channel(self.client.clone(), request);
            }
            Some(to_agent::Message::Masters(masters)) => self.tell_masters(masters.urls),
            Some(to_agent::Message::Credentials(credentials)) => {
                self.renewing.told(credentials.mark);
            }
            Some(to_agent::Message::HeartbeatAck(_)) | None => {}
        }
    }
}

/// First room, then the message: so nothing is taken from the outbox and lost.
async fn reserve(
    established: bool,
    up: &mpsc::Sender<FromAgent>,
    link: &Link,
) -> Option<(mpsc::OwnedPermit<FromAgent>, FromAgent)> {
    if !established {
        // Nothing but the greeting before the welcome.
        return std::future::pending().await;
    }
    let permit = up.clone().reserve_owned().await.ok()?;
    Some((permit, link.outbox.next().await))
}
