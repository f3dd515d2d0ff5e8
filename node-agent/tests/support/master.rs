//! A master that speaks the agent's protocol and remembers what it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate_proto::agent::node_agent_server::{NodeAgent, NodeAgentServer};
use quorate_proto::agent::*;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

type Down = mpsc::Sender<Result<ToAgent, Status>>;
type ChannelEnds = (mpsc::Sender<Result<ChannelFrame, Status>>, Streaming<ChannelFrame>);
type Waiter = oneshot::Sender<Result<ChannelEnds, Value>>;

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(i32, String, String), ObjectChange>,
    statuses: BTreeMap<String, Value>,
    history: Vec<(String, Value)>,
    gone: BTreeSet<String>,
    events: Vec<Value>,
    node: Value,
    hellos: Vec<Hello>,
    down: Option<Down>,
    channels: BTreeMap<String, Waiter>,
}

/// Cloneable; clones share what they know, so that several can play one cluster.
#[derive(Clone, Default)]
pub struct Master {
    state: Arc<Mutex<State>>,
}

/// One listening master; dropping it kills it.
pub struct Listening {
    pub url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Master {
    pub async fn listen(&self) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = NodeAgentServer::new(self.clone());
        // Its own runtime, so that its end closes every connection at once, as a killed process would.
        let (stop, stopped) = oneshot::channel::<()>();
        let std_listener = listener.into_std().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(std_listener).unwrap();
                let server = tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! { _ = server => {}, _ = stopped => {} }
            });
            runtime.shutdown_background();
        });
        let task = tokio::spawn(async move {
            let _stop = stop;
            std::future::pending::<()>().await;
        });
        Listening { url, task }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }

    async fn send(&self, message: to_agent::Message) {
        let down = self.with(|state| state.down.clone());
        if let Some(down) = down {
            let _ = down.send(Ok(ToAgent { message: Some(message) })).await;
        }
    }

    /// Creates or updates an object.
    pub async fn apply(&self, kind: ObjectKind, mut object: Value) {
        let change = self.with(|state| {
            state.revision += 1;
            let text =
                |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
            object["metadata"]["resourceVersion"] = state.revision.to_string().into();
            let change = ObjectChange {
                kind: kind.into(),
                deleted: false,
                namespace: namespace.clone(),
                name: name.clone(),
                uid,
                revision: state.revision,
                object: object.to_string().into(),
            };
            state.objects.insert((kind.into(), namespace, name), change.clone());
            change
        });
        self.send(to_agent::Message::Change(change)).await;
    }

    /// Removes an object, as after its last finalizer.
    pub async fn remove(&self, kind: ObjectKind, namespace: &str, name: &str) {
        let key = (kind.into(), namespace.to_owned(), name.to_owned());
        let change = self.with(|state| {
            state.revision += 1;
            let old = state.objects.remove(&key).unwrap();
            ObjectChange {
                deleted: true,
                object: Default::default(),
                revision: state.revision,
                ..old
            }
        });
        self.send(to_agent::Message::Change(change)).await;
    }

    /// Marks a pod for deletion.
    pub async fn delete_pod(&self, namespace: &str, name: &str, grace: i64) {
        let key = (ObjectKind::Pod.into(), namespace.to_owned(), name.to_owned());
        let object = self.with(|state| state.objects[&key].object.clone());
        let mut object: Value = serde_json::from_slice(&object).unwrap();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.apply(ObjectKind::Pod, object).await;
    }

    pub fn status(&self, uid: &str) -> Value {
        self.with(|state| state.statuses.get(uid).cloned().unwrap_or_default())
    }

    /// A status arrives; the object has it from then on, as with a real master.
    fn report(&self, uid: String, value: Value) {
        self.with(|state| {
            state.history.push((uid.clone(), value.clone()));
            state.statuses.insert(uid, value);
        });
    }

    /// All statuses of a pod, oldest first.
    #[allow(dead_code, reason = "not every test looks back")]
    pub fn history(&self, uid: &str) -> Vec<Value> {
        self.with(|state| {
            let of = state.history.iter().filter(|(owner, _)| owner == uid);
            of.map(|(_, status)| status.clone()).collect()
        })
    }

    pub fn is_gone(&self, uid: &str) -> bool {
        self.with(|state| state.gone.contains(uid))
    }

    pub fn hellos(&self) -> Vec<Hello> {
        self.with(|state| state.hellos.clone())
    }

    /// `Reason: message` of all events about an object.
    pub fn events(&self, name: &str) -> Vec<String> {
        let text =
            |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        self.with(|state| {
            let of = state.events.iter().filter(|event| event["involvedObject"]["name"] == name);
            of.map(|event| format!("{}: {}", text(event, "reason"), text(event, "message")))
                .collect()
        })
    }

    /// Opens a channel, and gives its two ends or the refusal.
    pub async fn open(
        &self,
        pod: &Value,
        container: &str,
        request: open_channel::Request,
    ) -> Result<ChannelEnds, Value> {
        let (waiter, waiting) = oneshot::channel();
        let id = self.with(|state| {
            state.revision += 1;
            let id = format!("channel-{}", state.revision);
            state.channels.insert(id.clone(), waiter);
            id
        });
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
        let open = OpenChannel {
            channel_id: id,
            namespace: text("namespace"),
            pod: text("name"),
            uid: text("uid"),
            container: container.to_owned(),
            request: Some(request),
        };
        self.send(to_agent::Message::OpenChannel(open)).await;
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap()
    }

    /// Reads a channel to its end: stdout, stderr, status.
    pub async fn read(&self, ends: ChannelEnds) -> (String, String, Value) {
        let (_up, mut frames) = ends;
        let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), Value::Null);
        while let Some(frame) = frames.next().await {
            match frame.unwrap().frame {
                Some(channel_frame::Frame::Stdout(bytes)) => out.extend_from_slice(&bytes),
                Some(channel_frame::Frame::Stderr(bytes)) => err.extend_from_slice(&bytes),
                Some(channel_frame::Frame::Status(bytes)) => {
                    status = serde_json::from_slice(&bytes).unwrap();
                }
                _ => {}
            }
        }
        (
            String::from_utf8_lossy(&out).into_owned(),
            String::from_utf8_lossy(&err).into_owned(),
            status,
        )
    }

    async fn greet(&self, hello: Hello, down: Down) {
        let (messages, full) = self.with(|state| {
            let full = hello.resume_revision == 0;
            state.node = serde_json::from_slice(&hello.node).unwrap();
            let since = hello.resume_revision;
            state.hellos.push(hello);
            state.down = Some(down);
            let all = state.objects.values().filter(|change| change.revision > since);
            let mut messages: Vec<_> = all.cloned().map(to_agent::Message::Change).collect();
            messages.push(to_agent::Message::Synced(Synced { revision: state.revision }));
            (messages, full)
        });
        let welcome = Welcome {
            cluster_id: "test".into(),
            master_name: "m".into(),
            heartbeat_interval_ms: 500,
            full_sync: full,
            masters: Vec::new(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: vec!["10.96.0.10".into()],
            credentials_mark: 0,
        };
        self.send(to_agent::Message::Welcome(welcome)).await;
        for message in messages {
            self.send(message).await;
        }
    }

    async fn hear(&self, message: from_agent::Message) {
        let ack = |id, gone| to_agent::Message::Ack(StatusAck { id, gone, ..Default::default() });
        match message {
            from_agent::Message::PodStatus(status) => {
                let value = serde_json::from_slice(&status.status).unwrap();
                self.report(status.uid, value);
                self.send(ack(status.id, false)).await;
            }
            from_agent::Message::PodGone(gone) => {
                self.with(|state| state.gone.insert(gone.uid));
                self.send(ack(gone.id, true)).await;
                self.remove(ObjectKind::Pod, &gone.namespace, &gone.name).await;
            }
            from_agent::Message::Event(event) => {
                let event = serde_json::from_slice(&event.event).unwrap();
                self.with(|state| state.events.push(event));
            }
            from_agent::Message::NodeStatus(status) => {
                let status: Value = serde_json::from_slice(&status.status).unwrap();
                self.with(|state| state.node["status"] = status);
            }
            from_agent::Message::Heartbeat(beat) => {
                let ack = HeartbeatAck { sequence: beat.sequence };
                self.send(to_agent::Message::HeartbeatAck(ack)).await;
            }
            from_agent::Message::TokenRequest(request) => {
                let token = format!("token of {}", request.service_account);
                let expiration = "2099-01-01T00:00:00Z".to_owned();
                let reply = TokenReply { id: request.id, token, expiration, ..Default::default() };
                self.send(to_agent::Message::TokenReply(reply)).await;
            }
            from_agent::Message::ChannelRefused(refused) => {
                let waiter = self.with(|state| state.channels.remove(&refused.channel_id));
                if let Some(waiter) = waiter {
                    let _ = waiter.send(Err(serde_json::from_slice(&refused.status).unwrap()));
                }
            }
            from_agent::Message::Hello(_) => {}
        }
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeAgent for Master {
    type ControlStream = BoxStream<ToAgent>;
    type ChannelStream = BoxStream<ChannelFrame>;

    async fn control(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let mut up = request.into_inner();
        let (down, receiver) = mpsc::channel(256);
        let master = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = up.next().await {
                match message.message {
                    Some(from_agent::Message::Hello(hello)) => {
                        master.greet(hello, down.clone()).await
                    }
                    Some(message) => master.hear(message).await,
                    None => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn channel(
        &self,
        request: Request<Streaming<ChannelFrame>>,
    ) -> Result<Response<Self::ChannelStream>, Status> {
        let mut up = request.into_inner();
        let (down, receiver) = mpsc::channel(16);
        let master = self.clone();
        tokio::spawn(async move {
            let Some(Ok(ChannelFrame { frame: Some(channel_frame::Frame::Attach(attach)) })) =
                up.next().await
            else {
                return;
            };
            let waiter = master.with(|state| state.channels.remove(&attach.channel_id));
            if let Some(waiter) = waiter {
                let _ = waiter.send(Ok((down, up)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Waits until the predicate holds, or panics with what it last saw.
pub async fn wait_until<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> (bool, T),
) {
    let began = Instant::now();
    loop {
        let (good, seen) = look();
        if good {
            return;
        }
        assert!(
            began.elapsed() < limit,
            "{what} did not happen in {limit:?}; last seen: {seen:#?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
