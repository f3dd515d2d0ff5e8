//! A node agent as small as it gets: it speaks the whole protocol, and its containers are processes
//! of this machine.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::from_agent::Message as Up;
use quorate_proto::agent::node_agent_client::NodeAgentClient;
use quorate_proto::agent::open_channel::Request;
use quorate_proto::agent::to_agent::Message as Down;
use quorate_proto::agent::{
    ChannelAttach, ChannelFrame, ChannelRefused, ExecRequest, FromAgent, Heartbeat, Hello,
    LogRequest, ObjectChange, OpenChannel,
};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::common::{World, tls};

type Client = NodeAgentClient<Channel>;

/// A connection to a master's API port, with a client certificate.
pub async fn dial(world: &World, user: &str, groups: &[&str]) -> Channel {
    dial_at(world, world.address, user, groups).await
}

pub async fn dial_at(world: &World, address: SocketAddr, user: &str, groups: &[&str]) -> Channel {
    let pair = world.pki.client(user, groups);
    let mut config = tls(&world.pki, Some(&pair));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
            std::io::Result::Ok(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://localhost")
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(64 << 20)
        .executor(hyper_util::rt::TokioExecutor::new())
        .connect_with_connector(connect)
        .await
        .unwrap()
}

/// A way to the master that can be cut: aborting the task closes all connections.
pub async fn wire(world: &World) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (listener.local_addr().unwrap(), world.address);
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, task)
}

/// What the fake's container prints, and whether it has ended.
#[derive(Clone, Default)]
pub struct Output {
    pub lines: Vec<String>,
    pub ended: bool,
}

/// A connected agent.
pub struct Agent {
    pub up: mpsc::Sender<FromAgent>,
    messages: mpsc::Receiver<Down>,
    pub output: Arc<watch::Sender<Output>>,
    /// Bytes that masters have taken from its channels.
    pub taken: Arc<AtomicU64>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn hello(node: &str, resume: u64) -> Hello {
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node, "labels": {"kubernetes.io/hostname": node}},
        "status": {"capacity": {"cpu": "2", "memory": "1Gi", "pods": "110"}},
    });
    Hello {
        node_name: node.to_owned(),
        agent_version: "test".to_owned(),
        instance: "one".to_owned(),
        resume_revision: resume,
        node: object.to_string().into(),
        pod_uids: Vec::new(),
    }
}

impl Agent {
    /// Connects as the node, and reads what it is told up to the first Synced.
    pub async fn connect(world: &World, node: &str) -> Result<Self, tonic::Status> {
        Self::connect_as(world, &format!("system:node:{node}"), hello(node, 0)).await
    }

    pub async fn connect_as(
        world: &World,
        user: &str,
        hello: Hello,
    ) -> Result<Self, tonic::Status> {
        Self::connect_at(world, world.address, user, hello).await
    }

    pub async fn connect_at(
        world: &World,
        address: SocketAddr,
        user: &str,
        hello: Hello,
    ) -> Result<Self, tonic::Status> {
        let channel = dial_at(world, address, user, &["system:nodes"]).await;
        let mut client = NodeAgentClient::new(channel);
        let (up, outgoing) = mpsc::channel(64);
        up.try_send(FromAgent { message: Some(Up::Hello(hello)) }).unwrap();
        let down = client.control(ReceiverStream::new(outgoing)).await?.into_inner();
        let (told, messages) = mpsc::channel(1024);
        let output = Arc::new(watch::Sender::new(Output::default()));
        let taken = Arc::new(AtomicU64::new(0));
        let runtime =
            Runtime { client, up: up.clone(), output: output.clone(), taken: taken.clone() };
        let task = tokio::spawn(runtime.run(down, told));
        Ok(Self { up, messages, output, taken, task })
    }

    pub async fn say(&self, message: Up) {
        self.up.send(FromAgent { message: Some(message) }).await.unwrap();
    }

    /// The next message; `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<Down> {
        tokio::time::timeout(Duration::from_secs(10), self.messages.recv())
            .await
            .expect("a message within ten seconds")
    }

    /// Changes up to the next Synced, as "+name" or "-name", with its revision.
    pub async fn changes(&mut self) -> (Vec<String>, u64) {
        let (changes, revision) = self.raw_changes().await;
        let sign = |change: &ObjectChange| if change.deleted { '-' } else { '+' };
        (
            changes.iter().map(|change| format!("{}{}", sign(change), change.name)).collect(),
            revision,
        )
    }

    pub async fn raw_changes(&mut self) -> (Vec<ObjectChange>, u64) {
        let mut changes = Vec::new();
        loop {
            match self.next().await.expect("the stream goes on") {
                Down::Change(change) => changes.push(change),
                Down::Synced(synced) => return (changes, synced.revision),
                _ => {}
            }
        }
    }

    /// Reads until a change of this name has come.
    pub async fn until(&mut self, name: &str) -> ObjectChange {
        loop {
            if let Down::Change(change) = self.next().await.expect("the stream goes on")
                && change.name == name
            {
                return change;
            }
        }
    }

    pub fn print(&self, line: &str) {
        self.output.send_modify(|output| output.lines.push(line.to_owned()));
    }

    pub fn end_container(&self) {
        self.output.send_modify(|output| output.ended = true);
    }
}

#[derive(Clone)]
struct Runtime {
    client: Client,
    up: mpsc::Sender<FromAgent>,
    output: Arc<watch::Sender<Output>>,
    taken: Arc<AtomicU64>,
}

fn failure(code: u16, reason: &str, message: &str) -> Bytes {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
    .to_string()
    .into()
}

fn success() -> Bytes {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        .to_string()
        .into()
}

fn exit_status(code: i32) -> Bytes {
    if code == 0 {
        return success();
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
    .to_string()
    .into()
}

impl Runtime {
    async fn run(
        self,
        mut down: Streaming<quorate_proto::agent::ToAgent>,
        told: mpsc::Sender<Down>,
    ) {
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        let mut sequence = 0;
        loop {
            let message = tokio::select! {
                message = down.message() => message,
                _ = beat.tick() => {
                    sequence += 1;
                    let beat = Up::Heartbeat(Heartbeat { sequence });
                    let _ = self.up.try_send(FromAgent { message: Some(beat) });
                    continue;
                }
            };
            let Ok(Some(message)) = message else { return };
            match message.message {
                Some(Down::OpenChannel(open)) => {
                    tokio::spawn(self.clone().channel(open));
                }
                Some(Down::HeartbeatAck(_)) | None => {}
                Some(other) => told.send(other).await.unwrap_or(()),
            }
        }
    }

    async fn refuse(&self, id: &str, status: Bytes) {
        let refused = ChannelRefused { channel_id: id.to_owned(), status };
        let message = Some(Up::ChannelRefused(refused));
        let _ = self.up.send(FromAgent { message }).await;
    }

    async fn channel(mut self, open: OpenChannel) {
        let id = open.channel_id.clone();
        let refused = match &open.request {
            Some(Request::Log(log)) if log.previous => Some(failure(
                400,
                "BadRequest",
                "previous terminated container \"c\" in pod \"p\" not found",
            )),
            Some(Request::Exec(exec)) if exec.command[0] == "refuse" => {
                Some(failure(500, "InternalError", "container not found (\"c\")"))
            }
            Some(Request::PortForward(port)) if port.port == 9 => {
                Some(failure(500, "InternalError", "connection refused"))
            }
            _ => None,
        };
        if let Some(status) = refused {
            return self.refuse(&id, status).await;
        }
        let (up, outgoing) = mpsc::channel(4);
        let attach = Frame::Attach(ChannelAttach { channel_id: id });
        up.try_send(ChannelFrame { frame: Some(attach) }).unwrap();
        let Ok(answer) = self.client.channel(ReceiverStream::new(outgoing)).await else { return };
        let mut io = Io { up, down: answer.into_inner(), taken: self.taken };
        match open.request {
            Some(Request::Log(log)) => io.log(&log, self.output.subscribe()).await,
            Some(Request::Exec(exec)) => io.exec(exec).await,
            Some(Request::Attach(_) | Request::PortForward(_)) => io.echo().await,
            None => {}
        }
        // Dropping the stream would reset it, with what is still on its way up.
        drop(io.up);
        while let Ok(Some(_)) = io.down.message().await {}
    }
}

struct Io {
    up: mpsc::Sender<ChannelFrame>,
    down: Streaming<ChannelFrame>,
    taken: Arc<AtomicU64>,
}

async fn send(up: &mpsc::Sender<ChannelFrame>, taken: &AtomicU64, frame: Frame) -> bool {
    let size = match &frame {
        Frame::Stdout(data) | Frame::Stderr(data) => data.len() as u64,
        _ => 0,
    };
    let sent = up.send(ChannelFrame { frame: Some(frame) }).await.is_ok();
    taken.fetch_add(size, Ordering::SeqCst);
    sent
}

impl Io {
    async fn send(&self, frame: Frame) -> bool {
        send(&self.up, &self.taken, frame).await
    }

    async fn log(&mut self, request: &LogRequest, mut output: watch::Receiver<Output>) {
        let tail = request.tail_lines.map(|tail| usize::try_from(tail).unwrap());
        let mut from = 0;
        if let Some(tail) = tail {
            from = output.borrow().lines.len().saturating_sub(tail);
        }
        loop {
            let Output { lines, ended } = output.borrow_and_update().clone();
            for line in &lines[from..] {
                let time = if request.timestamps { "2026-01-01T00:00:00.000000000Z " } else { "" };
                if !self.send(Frame::Stdout(format!("{time}{line}\n").into())).await {
                    return;
                }
            }
            from = lines.len();
            if ended || !request.follow {
                self.send(Frame::Status(success())).await;
                return;
            }
            tokio::select! {
                changed = output.changed() => if changed.is_err() { return },
                _ = self.down.message() => return,
            }
        }
    }

    /// Gives back what it gets, until there is no more; says when its terminal changes.
    async fn echo(&mut self) {
        while let Ok(Some(frame)) = self.down.message().await {
            match frame.frame {
                Some(Frame::Stdin(data)) => {
                    self.send(Frame::Stdout(data)).await;
                }
                Some(Frame::CloseStdin(_)) => {
                    self.send(Frame::Status(success())).await;
                    return;
                }
                _ => {}
            }
        }
    }

    async fn exec(&mut self, exec: ExecRequest) {
        let Self { up, down, taken } = self;
        let mut command = if exec.tty {
            let mut command = tokio::process::Command::new("script");
            command.args(["-qefc", &exec.command.join(" "), "/dev/null"]);
            command
        } else {
            let mut command = tokio::process::Command::new(&exec.command[0]);
            command.args(&exec.command[1..]);
            command
        };
        let mut child = command
            .stdin(if exec.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take();
        let out = pump(child.stdout.take().unwrap(), up, taken, Frame::Stdout);
        let err = pump(child.stderr.take().unwrap(), up, taken, Frame::Stderr);
        let output = async {
            tokio::join!(out, err);
            child.wait().await.unwrap().code().unwrap_or(-1)
        };
        let input = async {
            while let Ok(Some(frame)) = down.message().await {
                match frame.frame {
                    Some(Frame::Stdin(data)) => {
                        if let Some(pipe) = &mut stdin
                            && pipe.write_all(&data).await.is_err()
                        {
                            stdin = None;
                        }
                    }
                    Some(Frame::CloseStdin(_)) => stdin = None,
                    Some(Frame::Resize(size)) => {
                        let text = format!("[{}x{}]", size.width, size.height);
                        send(up, taken, Frame::Stdout(text.into())).await;
                    }
                    _ => {}
                }
            }
        };
        tokio::select! {
            code = output => {
                send(up, taken, Frame::Status(exit_status(code))).await;
            }
            () = input => {}
        }
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    up: &mpsc::Sender<ChannelFrame>,
    taken: &AtomicU64,
    make: fn(Bytes) -> Frame,
) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(got @ 1..) = from.read(&mut buffer).await {
        if !send(up, taken, make(Bytes::copy_from_slice(&buffer[..got]))).await {
            return;
        }
    }
}

/// The text of a `Status`.
pub fn message_of(status: &[u8]) -> String {
    let status: Value = serde_json::from_slice(status).unwrap();
    status["message"].as_str().unwrap_or_default().to_owned()
}
