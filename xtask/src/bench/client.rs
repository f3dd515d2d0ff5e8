//! A lean HTTP/2 client with the admin's certificate: a few connections, no retries, no decoding
//! that a row does not need, so that what is measured is the masters and not the generator.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::limits;

/// Reads the CA, certificate and key that a kubeconfig embeds.
pub(crate) fn tls(kubeconfig: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let text = std::fs::read_to_string(kubeconfig)
        .with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config: Value = serde_saphyr::from_str(&text).context("the kubeconfig is not YAML")?;
    let pem = |part: &Value, field: &str| -> anyhow::Result<Vec<u8>> {
        let text = part[field].as_str().with_context(|| format!("kubeconfig: no {field}"))?;
        Ok(base64::engine::general_purpose::STANDARD.decode(text.trim())?)
    };
    let ca = pem(&config["clusters"][0]["cluster"], "certificate-authority-data")?;
    let user = &config["users"][0]["user"];
    let (chain, key) = (pem(user, "client-certificate-data")?, pem(user, "client-key-data")?);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&ca) {
        roots.add(certificate?)?;
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Connections to one master.
#[derive(Clone)]
pub(crate) struct Client {
    senders: Arc<[http2::SendRequest<Full<Bytes>>]>,
    next: Arc<AtomicUsize>,
    port: u16,
}

impl Client {
    /// Opens that many connections to a master of this machine.
    pub(crate) async fn connect(
        port: u16,
        tls: &Arc<ClientConfig>,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let mut senders = Vec::with_capacity(connections);
        for _ in 0..connections {
            let sender = timeout(limits::CONNECT_MAX, connection(port, tls))
                .await
                .context("connecting took too long")??;
            senders.push(sender);
        }
        Ok(Self { senders: senders.into(), next: Arc::default(), port })
    }

    /// Sends a request and gives the answer's head, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let media = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://127.0.0.1:{}{path}", self.port))
            .header("content-type", media)
            .header("accept", "application/json")
            .header("user-agent", "quorate-bench")
            .body(Full::new(body))?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len();
        let mut sender = self.senders[turn].clone();
        timeout(limits::REQUEST_MAX, sender.send_request(request))
            .await
            .with_context(|| format!("{path}: no answer in {:?}", limits::REQUEST_MAX))?
            .with_context(|| path.to_owned())
    }

    /// Sends a request and gives the body of a 2xx answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let response = self.send(method.clone(), path, body).await?;
        let status = response.status();
        let body = timeout(limits::REQUEST_MAX, response.into_body().collect())
            .await
            .with_context(|| format!("{path}: the answer did not end"))?
            .with_context(|| path.to_owned())?
            .to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let text: String = text.chars().take(300).collect();
            bail!("{method} {path}: {status}: {text}");
        }
        Ok(body)
    }

    /// GET, decoded.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let body = self.call(Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&body).with_context(|| format!("{path}: not JSON"))
    }

    /// POST of a value.
    pub(crate) async fn post(&self, path: &str, value: &Value) -> anyhow::Result<Bytes> {
        self.call(Method::POST, path, serde_json::to_vec(value)?.into()).await
    }

    /// Merge patch.
    pub(crate) async fn patch(&self, path: &str, value: &Value) -> anyhow::Result<Bytes> {
        self.call(Method::PATCH, path, serde_json::to_vec(value)?.into()).await
    }
}

async fn connection(
    port: u16,
    tls: &Arc<ClientConfig>,
) -> anyhow::Result<http2::SendRequest<Full<Bytes>>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, tcp).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with its last sender; an error shows up in the request that meets it.
    tokio::spawn(connection);
    Ok(sender)
}
