//! Streams into containers: exec and attach.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::client::{Call, call};
use super::limits::{EXEC_DRAIN_TIMEOUT, SHIM_ANSWER_TIMEOUT};
use super::record::SandboxDir;
use super::shim::protocol::{Reply, Request, Streams};
use super::terminal::Terminal;
use crate::limits::{EXEC_SYNC_OUTPUT_BYTES_MAX, RESIZE_EVENTS_MAX};
use crate::runtime::{
    AttachOptions, Error, ExecOptions, ExecOutput, Result, Session, TerminalSize,
};

/// The agent's ends of the pipes whose other ends a shim gets.
#[derive(Default)]
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    given: Vec<OwnedFd>,
}

impl Pipes {
    fn new(streams: Streams) -> io::Result<Pipes> {
        let mut pipes = Pipes::default();
        if streams.stdin {
            let (sender, receiver) = pipe::pipe()?;
            pipes.given.push(receiver.into_blocking_fd()?);
            pipes.stdin = Some(sender);
        }
        let mut output = |wanted: bool| -> io::Result<Option<pipe::Receiver>> {
            if !wanted {
                return Ok(None);
            }
            let (sender, receiver) = pipe::pipe()?;
            pipes.given.push(sender.into_blocking_fd()?);
            Ok(Some(receiver))
        };
        let (stdout, stderr) = (output(streams.stdout)?, output(streams.stderr)?);
        Ok(Pipes { stdout, stderr, ..pipes })
    }
}

/// Waits for the process's end.
async fn exit(mut call: Call) -> Result<i32> {
    match call.answer().await? {
        (Reply::Exited { code }, _) => Ok(code),
        (reply, _) => Err(Error::Other(format!("unexpected answer of the shim: {reply:?}"))),
    }
}

/// Sends a request that is answered `Started` first.
async fn started(
    dir: &SandboxDir,
    request: Request,
    fds: &[OwnedFd],
) -> Result<(Call, Option<OwnedFd>)> {
    let work = async {
        let mut call = Call::send(dir, request, fds).await?;
        let (_, fd) = call.answer().await?;
        Ok((call, fd))
    };
    let limit = SHIM_ANSWER_TIMEOUT;
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::Timeout(limit)))
}

/// Runs a command with its streams.
pub(super) async fn exec(dir: &SandboxDir, id: &str, options: &ExecOptions) -> Result<Session> {
    let streams = if options.tty {
        Streams::default()
    } else {
        Streams { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr }
    };
    let pipes = Pipes::new(streams).map_err(Error::Stream)?;
    let request = Request::Exec {
        container: id.to_owned(),
        command: options.command.clone(),
        tty: options.tty,
        streams,
        timeout_ms: None,
    };
    let (call, master) = started(dir, request, &pipes.given).await?;
    if !options.tty {
        return Ok(piped(pipes, exit(call).boxed()));
    }
    let master = master.ok_or_else(|| Error::Other("no terminal came".into()))?;
    let Terminal { reader, writer, size: ends } = Terminal::new(master).map_err(Error::Stream)?;
    let (sizes, mut changes) = mpsc::channel::<TerminalSize>(RESIZE_EVENTS_MAX);
    tokio::spawn(async move {
        while let Some(size) = changes.recv().await {
            ends.set(size);
        }
    });
    Ok(Session {
        stdin: options.stdin.then(|| Box::new(writer) as _),
        stdout: options.stdout.then(|| Box::new(reader) as _),
        stderr: None,
        resize: Some(sizes),
        exit: exit(call).boxed(),
    })
}

fn piped(pipes: Pipes, exit: futures::future::BoxFuture<'static, Result<i32>>) -> Session {
    Session {
        stdin: pipes.stdin.map(|stream| Box::new(stream) as _),
        stdout: pipes.stdout.map(|stream| Box::new(stream) as _),
        stderr: pipes.stderr.map(|stream| Box::new(stream) as _),
        resize: None,
        exit,
    }
}

/// Joins the streams of the container's own process.
pub(super) async fn attach(dir: &SandboxDir, id: &str, options: &AttachOptions) -> Result<Session> {
    let streams = Streams {
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr && !options.tty,
    };
    let pipes = Pipes::new(streams).map_err(Error::Stream)?;
    let request = Request::Attach { container: id.to_owned(), streams };
    let (call_under_way, _) = started(dir, request, &pipes.given).await?;
    // The container's end ends the streams; its exit code is not theirs.
    let exit = exit(call_under_way).map(|end| end.map(|_| 0)).boxed();
    let mut session = piped(pipes, exit);
    if options.tty {
        let (sizes, mut changes) = mpsc::channel::<TerminalSize>(RESIZE_EVENTS_MAX);
        let (dir, id) = (dir.clone(), id.to_owned());
        tokio::spawn(async move {
            while let Some(TerminalSize { width, height }) = changes.recv().await {
                let request = Request::Resize { container: id.clone(), width, height };
                // The container may be gone: then there is nothing to resize.
                let _ = call(&dir, request, SHIM_ANSWER_TIMEOUT).await;
            }
        });
        session.resize = Some(sizes);
    }
    Ok(session)
}

/// Runs a command to its end; the shim kills it at `timeout`, also when this agent is gone by then.
pub(super) async fn exec_sync(
    dir: &SandboxDir,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Result<ExecOutput> {
    let streams = Streams { stdin: false, stdout: true, stderr: true };
    let mut pipes = Pipes::new(streams).map_err(Error::Stream)?;
    let limit = Some(timeout).filter(|timeout| !timeout.is_zero());
    let request = Request::Exec {
        container: id.to_owned(),
        command: command.to_vec(),
        tty: false,
        streams,
        timeout_ms: limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
    };
    let (call, _) = started(dir, request, &pipes.given).await?;
    pipes.given.clear();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (pipes.stdout.take(), pipes.stderr.take());
    let code = {
        let reading = async { tokio::join!(collect(out, &mut stdout), collect(err, &mut stderr)) };
        tokio::pin!(reading);
        let exit = exit(call);
        tokio::pin!(exit);
        let code = tokio::select! {
            code = &mut exit => {
                let _ = tokio::time::timeout(EXEC_DRAIN_TIMEOUT, &mut reading).await;
                code
            }
            _ = &mut reading => exit.await,
        };
        match code {
            Err(Error::Timeout(_)) => return Err(Error::Timeout(timeout)),
            other => other?,
        }
    };
    Ok(ExecOutput { stdout, stderr, exit_code: code })
}

/// Reads to the end, keeping the first [`EXEC_SYNC_OUTPUT_BYTES_MAX`] bytes.
async fn collect(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0_u8; 16 * 1024];
    while let Ok(count) = stream.read(&mut chunk).await {
        if count == 0 {
            return;
        }
        let room = EXEC_SYNC_OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
}
