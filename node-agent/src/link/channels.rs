//! Logs, exec, attach and port-forward: each over one more stream of the same connection, opened by us when a master
//! asks, so that flow control is per stream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::node_agent_client::NodeAgentClient;
use quorate_proto::agent::open_channel::Request;
use quorate_proto::agent::{ChannelAttach, ChannelFrame, ExecRequest, LogRequest, OpenChannel};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::limits::{
    CHANNEL_CLOSE_TIMEOUT, CHANNEL_FRAME_BYTES_MAX, CHANNEL_OPEN_TIMEOUT, LOG_STATE_INTERVAL,
    STREAM_CHUNKS_MAX,
};
use crate::logs;
use crate::pleg::Listings;
use crate::runtime::{
    AttachOptions, BoxDuplex, BoxRead, Container, ContainerId, ContainerState, ExecOptions, Result,
    SandboxId, SandboxState, Session, TerminalSize,
};
use crate::shared::Shared;

/// A `metav1.Status` that says no.
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

/// How a process ended, as kubectl wants to hear it.
fn exit_status(result: Result<i32>) -> Bytes {
    match result {
        Ok(0) => success(),
        Ok(code) => json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        })
        .to_string()
        .into(),
        Err(error) => not_executed(&error.to_string()),
    }
}

/// How a command failed that did not come to run: told at the end of its stream, as the kubelet does it.
fn not_executed(why: &str) -> Bytes {
    let prefix = "Internal error occurred: error executing command in container: ";
    // containerd says it that way itself.
    let why = why.strip_prefix(prefix).unwrap_or(why);
    failure(500, "InternalError", &format!("{prefix}{why}"))
}

/// What a request is about, once found.
enum Ready {
    Logs(PathBuf, ContainerId, LogRequest),
    Session(Session),
    Port(BoxDuplex),
    /// The stream ends with these words before it has begun.
    Over(Bytes),
}

/// Serves one request to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    client: NodeAgentClient<Channel>,
    open: OpenChannel,
) {
    let id = open.channel_id.clone();
    let prepared = tokio::time::timeout(CHANNEL_OPEN_TIMEOUT, prepare(&shared, open)).await;
    let ready = match prepared {
        Ok(Ok(ready)) => ready,
        Ok(Err(status)) => return shared.link.outbox.refuse_channel(id, status),
        Err(_) => {
            let status = failure(504, "Timeout", "the container runtime did not answer in time");
            return shared.link.outbox.refuse_channel(id, status);
        }
    };
    let Some((up, down)) = attach(client, &id).await else { return };
    match ready {
        Ready::Logs(path, container, request) => {
            stream_logs(&shared, &path, &container, &request, up, down).await;
        }
        Ready::Session(session) => stream_session(session, up, down).await,
        Ready::Port(port) => stream_port(port, up, down).await,
        Ready::Over(status) => finish(up, down, Some(status)).await,
    }
}

async fn attach(
    mut client: NodeAgentClient<Channel>,
    id: &str,
) -> Option<(mpsc::Sender<ChannelFrame>, Streaming<ChannelFrame>)> {
    let (up, receiver) = mpsc::channel(STREAM_CHUNKS_MAX);
    let hello = Frame::Attach(ChannelAttach { channel_id: id.to_owned() });
    up.send(ChannelFrame { frame: Some(hello) }).await.ok()?;
    match client.channel(ReceiverStream::new(receiver)).await {
        Ok(response) => Some((up, response.into_inner())),
        Err(status) => {
            tracing::debug!(channel = id, why = status.message(), "channel not opened");
            None
        }
    }
}

async fn prepare(shared: &Shared, open: OpenChannel) -> std::result::Result<Ready, Bytes> {
    let listings = match shared.pleg.fresh().await {
        Ok(listings) => listings,
        Err(error) => return Err(failure(500, "InternalError", &error.to_string())),
    };
    let uid = match find_uid(shared, &open) {
        Some(uid) => uid,
        None => {
            let message = format!("pod \"{}\" not found", open.pod);
            return Err(failure(404, "NotFound", &message));
        }
    };
    let listing = listings.get(&uid).cloned().unwrap_or_default();
    let internal = |error: crate::runtime::Error| failure(500, "InternalError", &error.to_string());
    match open.request {
        Some(Request::Log(request)) => {
            let (path, id) =
                find_log(shared, &listing.containers, &open.container, (&uid, &open.pod), &request)
                    .await?;
            Ok(Ready::Logs(path, id, request))
        }
        Some(Request::Exec(request)) => {
            let id = running(&listing.containers, &open.container)?;
            let options = exec_options(request);
            Ok(match shared.runtime.exec(&id, &options).await {
                Ok(session) => Ready::Session(session),
                Err(error) => Ready::Over(not_executed(&error.to_string())),
            })
        }
        Some(Request::Attach(request)) => {
            let id = running(&listing.containers, &open.container)?;
            let options = AttachOptions {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            };
            shared.runtime.attach(&id, &options).await.map(Ready::Session).map_err(internal)
        }
        Some(Request::PortForward(request)) => {
            let ready = listing.sandboxes.iter().filter(|s| s.state == SandboxState::Ready);
            let sandbox: Option<SandboxId> =
                ready.max_by_key(|s| s.metadata.attempt).map(|s| s.id.clone());
            let sandbox = sandbox.ok_or_else(|| {
                failure(400, "BadRequest", &format!("pod \"{}\" is not running", open.pod))
            })?;
            let port = u16::try_from(request.port).unwrap_or(0);
            shared.runtime.port_forward(&sandbox, port).await.map(Ready::Port).map_err(internal)
        }
        None => Err(failure(400, "BadRequest", "unknown kind of stream")),
    }
}

fn find_uid(shared: &Shared, open: &OpenChannel) -> Option<String> {
    if !open.uid.is_empty() {
        return Some(open.uid.clone());
    }
    shared.desired.read(|objects| {
        let found = objects.pods.iter().find(|(_, pod)| {
            pod.metadata.name.as_deref() == Some(&open.pod)
                && pod.metadata.namespace.as_deref() == Some(&open.namespace)
        });
        found.map(|(uid, _)| uid.clone())
    })
}

fn exec_options(request: ExecRequest) -> ExecOptions {
    ExecOptions {
        command: request.command,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    }
}

fn newest<'a>(containers: &'a [Container], name: &str) -> Vec<&'a Container> {
    let mut found: Vec<&Container> = containers.iter().filter(|c| c.name == name).collect();
    found.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    found
}

fn running(containers: &[Container], name: &str) -> std::result::Result<ContainerId, Bytes> {
    match newest(containers, name).first() {
        Some(container) if container.state == ContainerState::Running => Ok(container.id.clone()),
        _ => Err(failure(500, "InternalError", &format!("container not found (\"{name}\")"))),
    }
}

/// Why a container does not run, as its status says it now; `None`: it runs, or has ended.
fn waiting_reason(shared: &Shared, uid: &str, name: &str) -> Option<String> {
    let pod = shared.desired.pod(uid)?;
    let status = pod.status.as_ref()?;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status.name == name)?.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

async fn find_log(
    shared: &Shared,
    containers: &[Container],
    name: &str,
    (uid, pod): (&str, &str),
    request: &LogRequest,
) -> std::result::Result<(PathBuf, ContainerId), Bytes> {
    let all = newest(containers, name);
    let waiting = waiting_reason(shared, uid, name);
    let wanted = if request.previous {
        // Its predecessor, or the ended one itself while it waits for its restart.
        let skip = usize::from(waiting.is_none());
        all.iter().skip(skip).find(|c| c.state == ContainerState::Exited).copied()
    } else {
        all.first().copied()
    };
    let Some(container) = wanted else {
        let message = if request.previous {
            format!("previous terminated container \"{name}\" in pod \"{pod}\" not found")
        } else {
            let why = match waiting.as_deref() {
                Some("ErrImagePull") => "image can't be pulled",
                Some("ImagePullBackOff") => "trying and failing to pull image",
                Some(reason) => reason,
                None => "ContainerCreating",
            };
            format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {why}")
        };
        return Err(failure(400, "BadRequest", &message));
    };
    let status = shared.runtime.container_status(&container.id).await;
    let status = status.map_err(|error| failure(500, "InternalError", &error.to_string()))?;
    Ok((status.log_path, container.id.clone()))
}

fn log_options(request: &LogRequest) -> logs::Options {
    let by_age = request.since_seconds.map(|seconds| {
        let age = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        quorate_chance::now() - jiff::SignedDuration::try_from(age).unwrap_or_default()
    });
    let by_time = request.since_time.as_deref().and_then(|time| time.parse().ok());
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    logs::Options {
        since: by_time.or(by_age),
        tail_lines: number(request.tail_lines),
        limit_bytes: number(request.limit_bytes),
        timestamps: request.timestamps,
        stdout: request.stream != "Stderr",
        stderr: request.stream != "Stdout",
    }
}

/// The last frame, our end, and then the master's: a stream dropped before would be reset, and lose what is still on
/// its way.
async fn finish(
    up: mpsc::Sender<ChannelFrame>,
    mut down: Streaming<ChannelFrame>,
    status: Option<Bytes>,
) {
    let Some(status) = status else { return };
    let _ = up.send(ChannelFrame { frame: Some(Frame::Status(status)) }).await;
    drop(up);
    let rest = async { while let Ok(Some(_)) = down.message().await {} };
    let _ = tokio::time::timeout(CHANNEL_CLOSE_TIMEOUT, rest).await;
}

async fn stream_logs(
    shared: &Shared,
    path: &std::path::Path,
    container: &ContainerId,
    request: &LogRequest,
    up: mpsc::Sender<ChannelFrame>,
    mut down: Streaming<ChannelFrame>,
) {
    let copying = copy_logs(shared, path, container, request, &up);
    let hung_up = async { while let Ok(Some(_)) = down.message().await {} };
    let status = tokio::select! {
        result = copying => Some(match result {
            Ok(()) => success(),
            Err(error) => failure(500, "InternalError", &error.to_string()),
        }),
        () = hung_up => None,
    };
    finish(up, down, status).await;
}

/// As the last look at the runtime showed it: no call for each reader of a log.
fn has_ended(listings: &Listings, id: &ContainerId) -> bool {
    let all = listings.values().flat_map(|listing| &listing.containers);
    let found = all.into_iter().find(|container| container.id == *id);
    found
        .is_none_or(|found| matches!(found.state, ContainerState::Exited | ContainerState::Unknown))
}

async fn copy_logs(
    shared: &Shared,
    path: &std::path::Path,
    container: &ContainerId,
    request: &LogRequest,
    up: &mpsc::Sender<ChannelFrame>,
) -> std::io::Result<()> {
    let mut reader = logs::Reader::open(path, log_options(request))?;
    let watch = request.follow.then(|| logs::Watch::of(path));
    let mut ended = false;
    loop {
        while let Some((_, mut output)) = reader.next()? {
            while !output.is_empty() {
                let part = output.split_to(output.len().min(CHANNEL_FRAME_BYTES_MAX));
                let frame = ChannelFrame { frame: Some(Frame::Stdout(part)) };
                if up.send(frame).await.is_err() {
                    return Ok(());
                }
            }
        }
        let Some(watch) = watch.as_ref().filter(|_| !reader.full()) else { return Ok(()) };
        if reader.reopen_if_rotated()? {
            continue;
        }
        if ended {
            // Ended before the last look: what was written then has been read now.
            return Ok(());
        }
        watch.changed(LOG_STATE_INTERVAL).await;
        ended = has_ended(&shared.pleg.last(), container);
    }
}

/// Copies a process's output into frames until it ends.
async fn pump(mut from: BoxRead, up: mpsc::Sender<ChannelFrame>, make: fn(Bytes) -> Frame) {
    let mut buffer = vec![0; CHANNEL_FRAME_BYTES_MAX];
    while let Ok(got) = from.read(&mut buffer).await {
        if got == 0 {
            return;
        }
        let frame = make(Bytes::copy_from_slice(&buffer[..got]));
        if up.send(ChannelFrame { frame: Some(frame) }).await.is_err() {
            return;
        }
    }
}

async fn stream_session(
    session: Session,
    up: mpsc::Sender<ChannelFrame>,
    mut down: Streaming<ChannelFrame>,
) {
    let Session { mut stdin, stdout, stderr, resize, exit } = session;
    let output = async {
        let out = async {
            if let Some(stdout) = stdout {
                pump(stdout, up.clone(), Frame::Stdout).await;
            }
        };
        let err = async {
            if let Some(stderr) = stderr {
                pump(stderr, up.clone(), Frame::Stderr).await;
            }
        };
        let ((), (), exit) = tokio::join!(out, err, exit);
        exit
    };
    let input = async {
        while let Ok(Some(frame)) = down.message().await {
            match frame.frame {
                Some(Frame::Stdin(bytes)) => {
                    if let Some(pipe) = &mut stdin
                        && pipe.write_all(&bytes).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some(Frame::CloseStdin(_)) => {
                    if let Some(mut pipe) = stdin.take() {
                        let _ = pipe.shutdown().await;
                    }
                }
                Some(Frame::Resize(size)) => {
                    if let Some(resize) = &resize {
                        let small = |value| u16::try_from(value).unwrap_or(u16::MAX);
                        let size =
                            TerminalSize { width: small(size.width), height: small(size.height) };
                        let _ = resize.send(size).await;
                    }
                }
                Some(_) | None => {}
            }
        }
    };
    let status = tokio::select! {
        exit = output => Some(exit_status(exit)),
        // The client is gone: the process is left to its broken pipes.
        () = input => None,
    };
    finish(up, down, status).await;
}

async fn stream_port(
    port: BoxDuplex,
    up: mpsc::Sender<ChannelFrame>,
    mut down: Streaming<ChannelFrame>,
) {
    let (mut read, mut write) = tokio::io::split(port);
    let from_pod = async {
        let mut buffer = vec![0; CHANNEL_FRAME_BYTES_MAX];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) => return success(),
                Ok(got) => {
                    let frame = Frame::Stdout(Bytes::copy_from_slice(&buffer[..got]));
                    if up.send(ChannelFrame { frame: Some(frame) }).await.is_err() {
                        return success();
                    }
                }
                Err(error) => return failure(500, "InternalError", &error.to_string()),
            }
        }
    };
    let to_pod = async {
        while let Ok(Some(frame)) = down.message().await {
            match frame.frame {
                Some(Frame::Stdin(bytes)) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Some(Frame::CloseStdin(_)) => {
                    let _ = write.shutdown().await;
                }
                Some(_) | None => {}
            }
        }
    };
    let status = tokio::select! {
        status = from_pod => Some(status),
        () = to_pod => None,
    };
    finish(up, down, status).await;
}
