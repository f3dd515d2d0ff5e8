//! A byte stream inside a WebSocket's binary messages: how kubectl carries SPDY for port-forward.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::upgrade::Socket;
use super::ws_command;
use crate::limits::{TUNNEL_BUFFER_BYTES, WEBSOCKET_PING_INTERVAL};

/// The byte stream, and the work that carries it, to be awaited beside its use.
pub(super) fn open(
    socket: Socket,
    end: CancellationToken,
) -> (DuplexStream, impl Future<Output = ()> + Send) {
    let (near, far) = tokio::io::duplex(TUNNEL_BUFFER_BYTES);
    (near, pump(socket, far, end))
}

async fn pump(socket: Socket, far: DuplexStream, end: CancellationToken) {
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    let from_client = async {
        while let Some(Ok(message)) = source.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if write.write_all(&data).await.is_err() {
                break;
            }
        }
        // The other side reads the end, finishes, and drops its half.
        let _ = write.shutdown().await;
        std::future::pending::<()>().await;
    };
    let to_client = async {
        let mut ping = tokio::time::interval(WEBSOCKET_PING_INTERVAL);
        ping.tick().await;
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(TUNNEL_BUFFER_BYTES);
            let message = tokio::select! {
                got = read.read_buf(&mut buffer) => match got {
                    Ok(1..) => Message::Binary(buffer.split().freeze()),
                    Ok(0) | Err(_) => return true,
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return false;
            }
        }
    };
    let ended = tokio::select! {
        biased;
        () = end.cancelled() => false,
        ended = to_client => ended,
        () = from_client => false,
    };
    if end.is_cancelled() {
        return ws_command::go_away(&mut sink).await;
    }
    if ended {
        tokio::select! {
            () = ws_command::finish(sink, source, None) => {}
            () = end.cancelled() => {}
        }
    }
}
