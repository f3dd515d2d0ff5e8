//! A client of one master: HTTP/1.1 with the admin's certificate, no retries, and an honest word on
//! what is not known.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::kubeconfig::{Credentials, Identity};
use crate::limits::{
    ANSWER_BYTES_MAX, CALL_MAX, CONNECT_MAX, PROBE_AFTER, PROBES, WATCH_QUIET_MAX,
};

/// Hands each event of a watch to `take`, until the watch ends or `stop` is set.
///
/// # Errors
/// When nothing comes for [`WATCH_QUIET_MAX`], something is no event, or `take` says so.
pub async fn events(
    response: Response<Incoming>,
    stop: &AtomicBool,
    mut take: impl FnMut(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut body = response.into_body();
    let mut line = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let frame = timeout(WATCH_QUIET_MAX, body.frame()).await.context("quiet")?;
        let Some(frame) = frame else { return Ok(()) };
        let Ok(data) = frame?.into_data() else { continue };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.ends_with(b"\n") {
                take(&serde_json::from_slice(&line)?)?;
                line.clear();
            }
        }
    }
    Ok(())
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The body; null when it was no JSON.
    pub body: Value,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The request was not sent: it had no effect.
    NotSent(anyhow::Error),
    /// It may have been carried out.
    Unknown(anyhow::Error),
}

/// A connection to one master.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    master: SocketAddr,
    /// What it was opened with.
    identity: Arc<Identity>,
    user: Arc<Credentials>,
    acts_as: Option<&'static str>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When there is no connection within [`CONNECT_MAX`].
    pub async fn open(master: SocketAddr, user: &Arc<Credentials>) -> anyhow::Result<Self> {
        let identity = user.now();
        let connecting = async {
            let tcp = TcpStream::connect(master).await?;
            tcp.set_nodelay(true)?;
            probe(&tcp)?;
            let name = ServerName::from(master.ip());
            let tls = tokio_rustls::TlsConnector::from(identity.tls.clone());
            let stream = tls.connect(name, tcp).await.map_err(anyhow::Error::from);
            let stream = stream.inspect_err(|error| note_distrust(user, master, error))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the sender, or when the master closes.
            tokio::spawn(connection);
            let (identity, user) = (identity.clone(), user.clone());
            anyhow::Ok(Self { sender, master, identity, user, acts_as: None })
        };
        timeout(CONNECT_MAX, connecting).await.context("no connection in time")?
    }

    /// The same, on which requests are those of another user, whom this one may impersonate.
    #[must_use]
    pub fn of(self, user: &'static str) -> Self {
        Self { acts_as: Some(user), ..self }
    }

    /// Sends a request and reads the whole answer. The body of a PATCH is a merge patch.
    ///
    /// # Errors
    /// When there is none within [`CALL_MAX`]. The connection is of no use then.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, NoAnswer> {
        let media = media(&method);
        self.call_as(method, path, body, media).await
    }

    /// Sends a JSON patch, as [`Connection::call`].
    ///
    /// # Errors
    /// As there.
    pub async fn json_patch(
        &mut self,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, NoAnswer> {
        self.call_as(Method::PATCH, path, body, "application/json-patch+json").await
    }

    async fn call_as(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        media: &str,
    ) -> Result<Answer, NoAnswer> {
        let Some(_calling) = self.user.call(&self.identity) else {
            return Err(NoAnswer::NotSent(anyhow::anyhow!("there is another kubeconfig now")));
        };
        if let Err(error) = self.sender.ready().await {
            let error = error.into();
            note_distrust(&self.user, self.master, &error);
            return Err(NoAnswer::NotSent(error));
        }
        let calling = async {
            let response = self.send_as(method, path, body, media).await?;
            let code = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let bytes = body.collect().await.map_err(|err| anyhow::anyhow!(err))?.to_bytes();
            anyhow::Ok(Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_default() })
        };
        match timeout(CALL_MAX, calling).await {
            Ok(Ok(answer)) => {
                if answer.code == 401 {
                    self.user.distrusted(self.master, format!("401: {}", answer.body));
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                note_distrust(&self.user, self.master, &error);
                Err(NoAnswer::Unknown(error))
            }
            Err(_) => Err(NoAnswer::Unknown(anyhow::anyhow!("no answer in {CALL_MAX:?}"))),
        }
    }

    /// Sends a request; the answer's body is the caller's to read.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let media = media(&method);
        self.sender.ready().await?;
        self.send_as(method, path, body, media).await
    }

    async fn send_as(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        media: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let mut request = Request::builder();
        if let Some(bearer) = &self.identity.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        if let Some(user) = self.acts_as {
            request = request.header("impersonate-user", user);
        }
        let request = request
            .method(method)
            .uri(path)
            .header("host", self.master.to_string())
            .header("content-type", media)
            .header("accept", "application/json")
            .header("user-agent", "quorate-chaos")
            .body(Full::new(Bytes::from(bytes)))?;
        Ok(self.sender.send_request(request).await?)
    }
}

/// Notes an error that says that one side does not believe the other.
pub(super) fn note_distrust(user: &Credentials, master: SocketAddr, error: &anyhow::Error) {
    let of_trust = |error: &rustls::Error| match error {
        rustls::Error::InvalidCertificate(_) => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied
        ),
        _ => false,
    };
    let in_io = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        io.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(of_trust)
    };
    if error
        .chain()
        .any(|cause| in_io(cause) || cause.downcast_ref::<rustls::Error>().is_some_and(of_trust))
    {
        user.distrusted(master, format!("{error:#}"));
    }
}

/// Whoever only listens notices too when nothing gets through any more. A process that hangs makes no difference: the
/// kernel answers for it.
fn probe(tcp: &TcpStream) -> anyhow::Result<()> {
    sockopt::set_tcp_keepidle(tcp, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(tcp, PROBE_AFTER)?;
    sockopt::set_tcp_keepcnt(tcp, PROBES)?;
    Ok(sockopt::set_socket_keepalive(tcp, true)?)
}

fn media(method: &Method) -> &'static str {
    match *method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    }
}
