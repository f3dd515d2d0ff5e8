//! A small HTTPS client for the command line: JSON to and from a master's API, gRPC for joins.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quorate_pki::ring::Circle;
use quorate_pki::{Certified, KeyRing, Subject, files};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::data_dir;
use crate::kubeconfig::{self, named, pem};

/// A call ends after this, with an error. Longer than a master works on one (34 s for a request, 35 s
/// until a node has opened a channel), so that its own reason arrives. The body of an answered stream
/// is not bounded by it.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// Establishing a connection ends after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The port of a URL that names none.
const HTTPS_PORT: u16 = 443;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Certificates for one call live as short as this many days' worth of the normal ones allows.
const LOCAL_ADMIN: &str = "quorate:local-admin";

/// A master answered, and not with what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Refused {
    status: http::StatusCode,
    message: String,
}

impl Refused {
    /// Whether the same may succeed in a moment: between two leaders, at a master that starts.
    pub fn is_of_the_moment(&self) -> bool {
        [http::StatusCode::SERVICE_UNAVAILABLE, http::StatusCode::GATEWAY_TIMEOUT]
            .contains(&self.status)
    }
}

/// A way to a master's API.
#[derive(Debug, Clone)]
pub struct ApiClient {
    server: Uri,
    /// By what name the server proves itself, when that is not the host in its URL.
    server_name: Option<String>,
    tls: Arc<ClientConfig>,
    /// `Authorization` header, when the user has a token instead of a certificate.
    bearer: Option<String>,
    /// The cluster's CA, when this machine is a master's and so knows it for certain.
    cluster_ca_pem: Option<String>,
}

impl ApiClient {
    /// To the master whose data directory is on this machine, as its administrator.
    pub fn of_data_dir(data: &Path, server: Option<&str>) -> anyhow::Result<Self> {
        let cluster = data_dir::read_cluster(data)?
            .with_context(|| format!("{} is not the data directory of a master", data.display()))?;
        let ring = KeyRing::load(&data.join("pki"))?;
        let subject =
            Subject::Client { name: LOCAL_ADMIN.to_owned(), group: "system:masters".to_owned() };
        let client = ring.keys().cluster.issue(&subject, jiff::Timestamp::now())?;
        let own = format!("https://{}", cluster.api_address);
        let ca_pem = &ring.bundle_pem(Circle::Cluster);
        let mut all = Self::new(server.unwrap_or(&own), ca_pem, Some(&client))?;
        all.cluster_ca_pem = Some(ca_pem.clone());
        Ok(all)
    }

    /// As kubeconfig files say, in the named context or the current one.
    pub fn of_kubeconfig(
        files: &[PathBuf],
        context: Option<&str>,
        server: Option<&str>,
    ) -> anyhow::Result<Self> {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let what = || format!("kubeconfig {}", names.join(", "));
        if !files.iter().any(|file| file.exists()) {
            bail!("{} does not exist: give --data DIR, or --kubeconfig FILE", what());
        }
        let config = kubeconfig::load(files)?;
        let name = context.map_or_else(|| config["current-context"].clone(), Value::from);
        if name.is_null() {
            bail!("{} has no current context: give one with --context", what());
        }
        Self::of_context(&config, &name, server).with_context(what)
    }

    fn of_context(config: &Value, name: &Value, server: Option<&str>) -> anyhow::Result<Self> {
        let context = named(config, "contexts", name)?["context"].clone();
        let cluster = named(config, "clusters", &context["cluster"])?["cluster"].clone();
        let user = named(config, "users", &context["user"])?["user"].clone();
        let bearer = match (user["token"].as_str(), user["tokenFile"].as_str()) {
            (Some(token), _) => Some(token.to_owned()),
            (None, Some(file)) => Some(files::read(Path::new(file))?.trim().to_owned()),
            (None, None) => None,
        };
        let client = match pem(&user, "client-certificate")? {
            Some(certificate_pem) => Some(Certified {
                certificate_pem,
                key_pem: pem(&user, "client-key")?.context("its user has no client-key-data")?,
            }),
            None if bearer.is_some() => None,
            None => bail!("its user has neither a client certificate nor a token"),
        };
        let own = cluster["server"].as_str().context("its cluster has no server")?;
        let ca_pem = pem(&cluster, "certificate-authority")?
            .context("its cluster has no certificate-authority-data")?;
        let mut all = Self::new(server.unwrap_or(own), &ca_pem, client.as_ref())?;
        all.server_name = cluster["tls-server-name"].as_str().map(str::to_owned);
        all.bearer = bearer.map(|token| format!("Bearer {token}"));
        Ok(all)
    }

    fn new(server: &str, ca_pem: &str, client: Option<&Certified>) -> anyhow::Result<Self> {
        let tls = Arc::new(crate::tls::client_config(ca_pem, client)?);
        let server = parse_url(server)?;
        Ok(Self { server, server_name: None, tls, bearer: None, cluster_ca_pem: None })
    }

    /// The same, to another master.
    pub fn at(&self, server: &str) -> anyhow::Result<Self> {
        Ok(Self { server: parse_url(server)?, ..self.clone() })
    }

    /// The same, of servers that prove themselves by this name, wherever they are.
    pub fn named(self, server_name: &str) -> Self {
        Self { server_name: Some(server_name.to_owned()), ..self }
    }

    /// The master that is asked.
    pub fn server(&self) -> String {
        self.server.to_string().trim_end_matches('/').to_owned()
    }

    /// Where it is, as `host:port`.
    pub fn address(&self) -> anyhow::Result<String> {
        let host = self.server.host().context("the URL names no host")?;
        Ok(format!("{host}:{}", self.server.port_u16().unwrap_or(HTTPS_PORT)))
    }

    /// The cluster's CA, as far as known without asking.
    pub fn cluster_ca_pem(&self) -> Option<&str> {
        self.cluster_ca_pem.as_deref()
    }

    /// One call. An error answer becomes an error with the `Status`' message.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        self.call_within(CALL_TIMEOUT, method, path, body).await
    }

    /// As [`ApiClient::call`], with less patience.
    pub async fn call_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let what = || format!("{method} {}{path}", self.server());
        let call = self.send(method.clone(), path, body);
        match tokio::time::timeout(patience, call).await {
            Ok(result) => result.with_context(what),
            Err(_) => bail!("{}: no answer within {} s", what(), patience.as_secs()),
        }
    }

    /// Takes an answer of any length, as it comes.
    pub async fn download(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        to: &mut impl std::io::Write,
    ) -> anyhow::Result<()> {
        let what = || format!("{method} {}{path}", self.server());
        let asked = tokio::time::timeout(CALL_TIMEOUT, self.ask(method.clone(), path, Some(body)));
        let Ok(response) = asked.await else {
            bail!("{}: no answer within {} s", what(), CALL_TIMEOUT.as_secs());
        };
        let response = response.with_context(what)?;
        if !response.status().is_success() {
            read_json(response).await.with_context(what)?;
            bail!("{}: there is nothing to take", what());
        }
        let mut answer = response.into_body();
        loop {
            match tokio::time::timeout(CALL_TIMEOUT, answer.frame()).await {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => {
                    let frame = frame.with_context(|| format!("{}: it broke off", what()))?;
                    if let Ok(bytes) = frame.into_data() {
                        to.write_all(&bytes)?;
                    }
                }
                Err(_) => {
                    bail!("{}: nothing came for {} s", what(), CALL_TIMEOUT.as_secs());
                }
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        read_json(self.ask(method, path, body).await?).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let name = self.server_name.as_deref();
        let stream = connect(&self.server, name, self.tls.clone()).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let host = self.server.authority().map(ToString::to_string).unwrap_or_default();
        let content = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder();
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        let request = request
            .method(method)
            .uri(path)
            .header("host", host)
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("user-agent", concat!("quorate/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(content)))?;
        Ok(sender.send_request(request).await?)
    }
}

/// The document of an answer. An error answer becomes an error with the `Status`' message.
async fn read_json(response: Response<Incoming>) -> anyhow::Result<Value> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let bytes = body.collect().await.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if !status.is_success() {
        let message = value["message"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), str::to_owned);
        return Err(Refused { status, message }.into());
    }
    Ok(value)
}

fn parse_url(server: &str) -> anyhow::Result<Uri> {
    let uri: Uri = server.parse().ok().with_context(|| format!("{server:?} is not a URL"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none() {
        bail!("{server:?}: give a URL such as https://10.0.0.1:6443");
    }
    Ok(uri)
}

/// A TLS connection to a master.
async fn connect(
    server: &Uri,
    server_name: Option<&str>,
    tls: Arc<ClientConfig>,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = server.host().context("the URL names no host")?;
    let port = server.port_u16().unwrap_or(HTTPS_PORT);
    let plain = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let connecting = async {
        let stream = TcpStream::connect((plain.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let name = server_name.unwrap_or(&plain).to_owned();
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        TlsConnector::from(tls).connect(name, stream).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error).with_context(|| format!("cannot connect to {host}:{port}")),
        Err(_) => bail!("cannot connect to {host}:{port} within {} s", CONNECT_TIMEOUT.as_secs()),
    }
}

/// A gRPC channel to a master's API port.
pub async fn grpc_channel(server: &str, tls: ClientConfig) -> anyhow::Result<Channel> {
    let uri = parse_url(server)?;
    let mut tls = tls;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = Arc::new(tls);
    let target = uri.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (target, tls) = (target.clone(), tls.clone());
        async move {
            let stream = connect(&target, None, tls).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The connector does TLS itself; the channel must not try to.
    let endpoint = Endpoint::from_shared(server.replacen("https://", "http://", 1))?
        .timeout(CALL_TIMEOUT)
        // Proxied streams of slow clients must not hold up the others of the connection.
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(64 << 20)
        .executor(TokioExecutor::new());
    Ok(endpoint.connect_with_connector(connector).await?)
}
