//! Exec, attach and port-forward over the runtime's streaming server. CRI answers these calls with a URL; there the
//! client upgrades to SPDY/3.1 and opens one stream for each of error, stdin, stdout, stderr and resize
//! (`v4.channel.k8s.io`), or error and data (`portforward.k8s.io`). containerd 1.6 speaks nothing else there.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use quorate_spdy::{Connection, Role, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::limits::{RESIZE_EVENTS_MAX, STATUS_BYTES_MAX, STREAMING_CONNECT_TIMEOUT};
use crate::runtime::{BoxDuplex, Error, Result, Session, TerminalSize};

/// Which streams a session has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Upgrades at `url`, within a deadline.
async fn connect(url: &str, protocol: &str) -> Result<Connection> {
    tokio::time::timeout(STREAMING_CONNECT_TIMEOUT, upgrade(url, protocol))
        .await
        .map_err(|_| Error::Timeout(STREAMING_CONNECT_TIMEOUT))?
}

async fn upgrade(url: &str, protocol: &str) -> Result<Connection> {
    let broken = |what: &str| Error::Other(format!("streaming server at {url}: {what}"));
    let uri: http::Uri = url.parse().map_err(|_| broken("not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(Error::Unsupported("a streaming server with TLS"));
    }
    let authority = uri.authority().ok_or_else(|| broken("no address"))?;
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map_err(Error::Stream)?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error.to_string()))?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header("Host", authority.as_str())
        .header("Connection", "Upgrade")
        .header("Upgrade", "SPDY/3.1")
        .header("X-Stream-Protocol-Version", protocol)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| broken(&error.to_string()))?;
    let response =
        sender.send_request(request).await.map_err(|error| broken(&error.to_string()))?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(broken(&format!("answered {}", response.status())));
    }
    let upgraded =
        hyper::upgrade::on(response).await.map_err(|error| broken(&error.to_string()))?;
    Ok(Connection::start(TokioIo::new(upgraded), Role::Client).0)
}

async fn open(connection: &Connection, headers: &[(&str, &str)], fin: bool) -> Result<Stream> {
    let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    connection.open(headers, fin).await.map_err(|error| Error::Stream(std::io::Error::other(error)))
}

/// A session at an exec or attach URL.
pub(super) async fn session(url: &str, streams: Streams) -> Result<Session> {
    let connection = connect(url, "v4.channel.k8s.io").await?;
    let kind = |kind| [("streamtype", kind)];
    // The order is the one the server expects.
    let error = open(&connection, &kind("error"), false).await?;
    let mut stdin = None;
    if streams.stdin {
        stdin = Some(open(&connection, &kind("stdin"), false).await?);
    }
    let mut stdout = None;
    if streams.stdout {
        stdout = Some(open(&connection, &kind("stdout"), false).await?);
    }
    let mut stderr = None;
    if streams.stderr && !streams.tty {
        stderr = Some(open(&connection, &kind("stderr"), false).await?);
    }
    let mut resize = None;
    if streams.tty {
        let stream = open(&connection, &kind("resize"), false).await?;
        let (tx, rx) = mpsc::channel(RESIZE_EVENTS_MAX);
        tokio::spawn(send_sizes(stream, rx));
        resize = Some(tx);
    }
    Ok(Session {
        stdin: stdin.map(|stream| Box::new(stream.write) as _),
        stdout: stdout.map(|stream| Box::new(stream.read) as _),
        stderr: stderr.map(|stream| Box::new(stream.read) as _),
        resize,
        exit: exit_code(error, connection).boxed(),
    })
}

async fn send_sizes(mut stream: Stream, mut sizes: mpsc::Receiver<TerminalSize>) {
    while let Some(size) = sizes.recv().await {
        let line = format!("{{\"Width\":{},\"Height\":{}}}\n", size.width, size.height);
        if stream.write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The error stream carries one `metav1.Status` at the end; nothing at all means success, too.
async fn exit_code(error: Stream, connection: Connection) -> Result<i32> {
    let mut text = Vec::new();
    let limit = u64::try_from(STATUS_BYTES_MAX).unwrap_or(u64::MAX);
    error.read.take(limit).read_to_end(&mut text).await.map_err(Error::Stream)?;
    drop(connection);
    parse_exit(&text)
}

fn parse_exit(text: &[u8]) -> Result<i32> {
    if text.is_empty() {
        return Ok(0);
    }
    let plain = || Error::Other(String::from_utf8_lossy(text).trim().to_owned());
    let status: serde_json::Value = serde_json::from_slice(text).map_err(|_| plain())?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode")
        .and_then(|cause| cause["message"].as_str()?.parse().ok());
    match (status["reason"].as_str(), code) {
        (Some("NonZeroExitCode"), Some(code)) => Ok(code),
        _ => Err(Error::Other(status["message"].as_str().unwrap_or("unknown error").to_owned())),
    }
}

/// A connection to one port, at a port-forward URL.
pub(super) async fn port_forward(url: &str, port: u16) -> Result<BoxDuplex> {
    let connection = connect(url, "portforward.k8s.io").await?;
    let port = port.to_string();
    let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", "0")];
    let error = open(&connection, &headers("error"), true).await?;
    let data = open(&connection, &headers("data"), false).await?;
    let (failed, failure) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut text = String::new();
        let limit = u64::try_from(STATUS_BYTES_MAX).unwrap_or(u64::MAX);
        let _ = error.read.take(limit).read_to_string(&mut text).await;
        if !text.is_empty() {
            let _ = failed.send(text);
        }
    });
    Ok(Box::new(Forwarded { data, failure, connection: Some(connection) }))
}

/// The data stream; its end is an error when the error stream said why.
struct Forwarded {
    data: Stream,
    failure: tokio::sync::oneshot::Receiver<String>,
    connection: Option<Connection>,
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = std::task::ready!(Pin::new(&mut self.data.read).poll_read(cx, buf));
        if buf.filled().len() == before
            && let Ok(text) = self.failure.try_recv()
        {
            self.connection = None;
            return Poll::Ready(Err(std::io::Error::other(text)));
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.data.write).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.data.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.data.write).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_exit;

    #[test]
    fn the_error_stream_tells_how_it_ended() {
        let failed = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with exit code 3",
            "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(parse_exit(b"").unwrap(), 0);
        assert_eq!(parse_exit(br#"{"metadata":{},"status":"Success"}"#).unwrap(), 0);
        assert_eq!(parse_exit(failed).unwrap(), 3);
        let internal = br#"{"status":"Failure","reason":"InternalError","message":"no such file"}"#;
        assert_eq!(parse_exit(internal).unwrap_err().to_string(), "no such file");
        assert_eq!(
            parse_exit(b"container not running").unwrap_err().to_string(),
            "container not running"
        );
    }
}
