//! `portforward`: connections to a pod's ports, over SPDY (plain or inside a WebSocket), or over
//! WebSocket channels as `kube` and older clients have it (the kubelet's `portforward`).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::Response;
use quorate_api::status::Status;
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::open_channel::Request;
use quorate_proto::agent::{ChannelFrame, PortForwardRequest};
use quorate_spdy::{Connection, Role, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::command::stdin_frames;
use super::target::Target;
use super::upgrade::{self, Socket, Wanted};
use super::ws_command::{self, Codec};
use super::{Duplex, Streams, dial, log, spdy_command, tunnel};
use crate::agents::{AgentHub, Channel};
use crate::limits::{
    CHANNEL_FRAMES_MAX, FORWARDS_MAX, PORTS_MAX, STREAM_CREATION_TIMEOUT, TUNNEL_BUFFER_BYTES,
    WEBSOCKET_PING_INTERVAL,
};
use crate::parameters::Query;
use crate::reply::Body;
use crate::status_error::Answer;

/// The protocol's name on SPDY, and, with the prefix, for SPDY inside a WebSocket.
const PROTOCOL: &str = "portforward.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";

/// How a WebSocket carries it.
#[derive(Debug, Clone, Copy)]
enum Carrier {
    Tunnel,
    Channels(Codec),
}

/// Answers a `portforward`.
pub(super) async fn serve(
    streams: &Streams,
    query: &Query,
    pod: &serde_json::Value,
    mut http: http::Request<Body>,
) -> Answer<Response<Body>> {
    let wanted = Wanted::of(http.headers())?;
    let forward = Forward { hub: streams.hub.clone(), target: Target::pod(pod).bound()? };
    match wanted {
        Wanted::Spdy { offers } => {
            upgrade::negotiate(&offers, &[(PROTOCOL, ())])?;
            let upgrade = upgrade::pending(&mut http)?;
            streams.spawn(move |end| async move {
                let Some(io) = upgrade::connection(upgrade).await else { return };
                forward.spdy(upgrade::guarded(io, end.clone()), end).await;
            });
            Ok(upgrade::spdy_answer(PROTOCOL))
        }
        Wanted::WebSocket { key, offers } => {
            let (carrier, name) = carrier(&offers)?;
            let ports = match carrier {
                Carrier::Tunnel => Vec::new(),
                Carrier::Channels(_) => ports(query)?,
            };
            let upgrade = upgrade::pending(&mut http)?;
            streams.spawn(move |end| async move {
                let Some(io) = upgrade::connection(upgrade).await else { return };
                let socket = upgrade::websocket(io).await;
                match carrier {
                    Carrier::Tunnel => {
                        let (io, pump) = tunnel::open(socket, end.clone());
                        // The pump ends once the other half is dropped.
                        tokio::join!(pump, forward.spdy(io, end));
                    }
                    Carrier::Channels(codec) => forward.channels(socket, codec, ports, end).await,
                }
            });
            Ok(upgrade::websocket_answer(&key, name))
        }
    }
}

/// A connection to a port of a pod. It ends when either side closes it, or this master stops.
pub(super) async fn connect(
    streams: &Streams,
    pod: &serde_json::Value,
    port: u16,
) -> Result<Box<dyn Duplex>, String> {
    let target = Target::pod(pod).bound().map_err(|refusal| refusal.message.clone())?;
    let forward = Forward { hub: streams.hub.clone(), target };
    let Channel { to_node, from_node } = forward.open(port).await?;
    let (near, far) = tokio::io::duplex(TUNNEL_BUFFER_BYTES);
    streams.spawn(move |end| async move {
        let (read, mut write) = tokio::io::split(far);
        tokio::select! {
            // How it ended the other side learns from what it reads.
            _ = from_pod(from_node, &mut write) => {}
            () = spdy_command::send_stdin(read, &to_node) => {}
            () = end.cancelled() => {}
        }
        let _ = write.shutdown().await;
    });
    Ok(Box::new(near))
}

fn carrier(offers: &[String]) -> Answer<(Carrier, &'static str)> {
    let channels = |name: &'static str| {
        Codec::negotiate(&[name.to_owned()]).map(|codec| (name, (Carrier::Channels(codec), name)))
    };
    if offers.is_empty() {
        return Ok((Carrier::Channels(Codec::negotiate(&[])?), ""));
    }
    let known = [
        (TUNNELLED, (Carrier::Tunnel, TUNNELLED)),
        channels("v4.channel.k8s.io")?,
        channels("v4.base64.channel.k8s.io")?,
    ];
    upgrade::negotiate(offers, &known)
}

/// The ports of a request over channels: `ports=80&ports=81` or `ports=80,81`.
fn ports(query: &Query) -> Answer<Vec<u16>> {
    let bad = |message: String| Box::new(Status::bad_request(message));
    let given: Vec<&str> =
        query.all("ports").flat_map(|ports| ports.split(',')).filter(|p| !p.is_empty()).collect();
    if given.is_empty() {
        return Err(bad("query parameter \"ports\" is required".to_owned()));
    }
    if given.len() > PORTS_MAX {
        return Err(bad(format!("at most {PORTS_MAX} ports can be forwarded at a time")));
    }
    given
        .into_iter()
        .map(|port| {
            let number = port.parse().ok().filter(|port| *port > 0);
            number
                .ok_or_else(|| bad(format!("port {port:?} must be between 1 and 65535, inclusive")))
        })
        .collect()
}

/// Where to.
#[derive(Clone)]
struct Forward {
    hub: AgentHub,
    target: Target,
}

/// The two streams of a connection, until both are there.
struct Half {
    error: Option<Stream>,
    data: Option<Stream>,
    since: Instant,
}

impl Forward {
    async fn open(&self, port: u16) -> Result<Channel, String> {
        let request = Request::PortForward(PortForwardRequest { port: port.into() });
        let opened = dial::open(&self.hub, &self.target.node, self.target.open(request)).await;
        opened.map_err(|error| self.failed(port, &dial::status_of(&error).message))
    }

    /// The kubelet's words.
    fn failed(&self, port: u16, why: &str) -> String {
        let Target { pod, uid, namespace, .. } = &self.target;
        format!("error forwarding port {port} to pod {pod}_{namespace}, uid {uid}: {why}")
    }

    /// Serves connections over SPDY until the client goes or this master stops.
    async fn spdy<IO>(self, io: IO, end: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (connection, mut incoming) = Connection::start(io, Role::Server);
        let mut halves: BTreeMap<String, Half> = BTreeMap::new();
        let mut forwards = JoinSet::new();
        let mut sweep = tokio::time::interval(STREAM_CREATION_TIMEOUT);
        loop {
            let stream = tokio::select! {
                // A client with many connections waits until some of them have ended.
                stream = incoming.recv(), if forwards.len() < FORWARDS_MAX => stream,
                Some(_) = forwards.join_next() => continue,
                _ = sweep.tick() => {
                    halves.retain(|_, half| half.since.elapsed() < STREAM_CREATION_TIMEOUT);
                    continue;
                }
                () = end.cancelled() => break,
            };
            let Some(stream) = stream else { break };
            let Some((port, data, error)) = pair(&mut halves, stream) else { continue };
            forwards.spawn(self.clone().connection(port, data, error));
        }
        // Dropping the set ends what is still going on.
        spdy_command::go_away(&connection).await;
    }

    /// One connection to the pod.
    async fn connection(self, port: u16, data: Stream, mut error: Stream) {
        let Stream { read, mut write, .. } = data;
        let result = match self.open(port).await {
            Ok(Channel { to_node, from_node }) => {
                let up = async {
                    spdy_command::send_stdin(read, &to_node).await;
                    // The pod may still have something to say.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    result = from_pod(from_node, &mut write) => {
                        result.map_err(|why| self.failed(port, &why))
                    }
                    () = up => Ok(()),
                }
            }
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            let _ = error.write.write_all(why.as_bytes()).await;
        }
        // The client waits for the end of both.
        let _ = error.write.shutdown().await;
        let _ = write.shutdown().await;
    }

    /// Serves fixed ports over WebSocket channels: two each, for data and for its error.
    async fn channels(self, socket: Socket, codec: Codec, ports: Vec<u16>, end: CancellationToken) {
        let (mut sink, mut source) = socket.split();
        for (index, port) in (0u8..).zip(&ports) {
            for channel in [2 * index, 2 * index + 1] {
                if sink.send(codec.message(channel, &port.to_le_bytes())).await.is_err() {
                    return;
                }
            }
        }
        let (out, mut outgoing) = mpsc::channel::<(u8, Bytes)>(CHANNEL_FRAMES_MAX);
        let mut forwards = JoinSet::new();
        let mut inputs = Vec::new();
        for (index, port) in (0u8..).zip(ports) {
            let (input, inputs_of_port) = mpsc::channel(CHANNEL_FRAMES_MAX);
            inputs.push(input);
            forwards.spawn(self.clone().port(port, 2 * index, inputs_of_port, out.clone()));
        }
        drop(out);
        let read = async {
            while let Some(Ok(message)) = source.next().await {
                let data = match message {
                    Message::Binary(data) => data,
                    Message::Text(text) => Bytes::from(text),
                    Message::Close(_) => return,
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                };
                if let Some((channel, data)) = codec.read(data)
                    && channel % 2 == 0
                    && let Some(input) = inputs.get(usize::from(channel / 2))
                {
                    // A port that has ended takes no more.
                    let _ = input.send(data).await;
                }
            }
        };
        let written = async {
            let mut ping = tokio::time::interval(WEBSOCKET_PING_INTERVAL);
            loop {
                let message = tokio::select! {
                    next = outgoing.recv() => match next {
                        Some((channel, data)) => codec.message(channel, &data),
                        None => return true,
                    },
                    _ = ping.tick() => Message::Ping(Bytes::new()),
                };
                if sink.send(message).await.is_err() {
                    return false;
                }
            }
        };
        let all_ended = tokio::select! {
            biased;
            () = end.cancelled() => false,
            all_ended = written => all_ended,
            () = read => false,
        };
        if end.is_cancelled() {
            return ws_command::go_away(&mut sink).await;
        }
        if all_ended {
            tokio::select! {
                () = ws_command::finish(sink, source, None) => {}
                () = end.cancelled() => {}
            }
        }
    }

    /// One port of a WebSocket.
    async fn port(
        self,
        port: u16,
        channel: u8,
        mut input: mpsc::Receiver<Bytes>,
        out: mpsc::Sender<(u8, Bytes)>,
    ) {
        let result = match self.open(port).await {
            Ok(Channel { to_node, mut from_node }) => {
                let up = async {
                    while let Some(data) = input.recv().await {
                        for frame in stdin_frames(data) {
                            let frame = ChannelFrame { frame: Some(frame) };
                            let _ = to_node.send(frame).await;
                        }
                    }
                };
                let down = async {
                    while let Some(frame) = from_node.recv().await {
                        match frame.frame {
                            Some(Frame::Stdout(data)) => {
                                if out.send((channel, data)).await.is_err() {
                                    return Ok(());
                                }
                            }
                            Some(Frame::Status(status)) => return ended(&status),
                            Some(_) | None => {}
                        }
                    }
                    Err(LOST.to_owned())
                };
                tokio::select! {
                    result = down => result.map_err(|why| self.failed(port, &why)),
                    () = up => Ok(()),
                }
            }
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            let _ = out.send((channel + 1, why.into())).await;
        }
    }
}

const LOST: &str = "the connection to the node was lost";

fn ended(status: &[u8]) -> Result<(), String> {
    if log::is_success(status) { Ok(()) } else { Err(dial::message_of(status)) }
}

/// To the end of the pod's side; an error is for the client to read.
async fn from_pod(
    mut from_node: mpsc::Receiver<ChannelFrame>,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), String> {
    while let Some(frame) = from_node.recv().await {
        match frame.frame {
            Some(Frame::Stdout(data)) => {
                if to.write_all(&data).await.is_err() {
                    return Ok(());
                }
            }
            Some(Frame::Status(status)) => return ended(&status),
            Some(_) | None => {}
        }
    }
    Err(LOST.to_owned())
}

/// Adds a stream to its other half; gives (port, data, error) when both are there. Streams that make
/// no sense are dropped. Clients before 1.7 name no request: their error stream comes right before
/// its data stream.
fn pair(halves: &mut BTreeMap<String, Half>, stream: Stream) -> Option<(u16, Stream, Stream)> {
    let is_data = match stream.header("streamtype")? {
        "data" => true,
        "error" => false,
        _ => return None,
    };
    let request = match stream.header("requestid") {
        Some(request) if !request.is_empty() => request.to_owned(),
        _ if is_data => format!("stream {}", stream.id.checked_sub(2)?),
        _ => format!("stream {}", stream.id),
    };
    let fresh = || Half { error: None, data: None, since: Instant::now() };
    let half = halves.entry(request.clone()).or_insert_with(fresh);
    let place = if is_data { &mut half.data } else { &mut half.error };
    *place = Some(stream);
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let Half { error, data, .. } = halves.remove(&request)?;
    let (error, data) = (error?, data?);
    let port = data.header("port")?.parse().ok().filter(|port| *port > 0)?;
    Some((port, data, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_both_spellings() {
        let ports = |text: &str| ports(&Query::of(&format!("/x?{text}").parse().unwrap()));
        assert_eq!(ports("ports=80&ports=81").unwrap(), [80, 81]);
        assert_eq!(ports("ports=80,81").unwrap(), [80, 81]);
        for bad in ["", "ports=", "ports=0", "ports=65536", "ports=http"] {
            assert_eq!(ports(bad).unwrap_err().code, 400, "{bad}");
        }
        let many: Vec<String> = (1..=PORTS_MAX + 1).map(|port| port.to_string()).collect();
        assert_eq!(ports(&format!("ports={}", many.join(","))).unwrap_err().code, 400);
    }

    #[test]
    fn websockets_carry_spdy_or_channels() {
        let offers =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let chosen = |names: &[&str]| carrier(&offers(names)).map(|(_, name)| name);
        assert_eq!(chosen(&[TUNNELLED]).unwrap(), TUNNELLED);
        let kube = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
        assert_eq!(chosen(&kube).unwrap(), "v4.channel.k8s.io");
        assert_eq!(chosen(&[]).unwrap(), "");
        assert_eq!(chosen(&["other"]).unwrap_err().code, 403);
    }
}
