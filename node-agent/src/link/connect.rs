//! Addresses of the masters and TLS to them.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::config::{Config, Tls};
use crate::limits::{CONNECT_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};

/// Why a master cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} is no URL of a master")]
    Url(String),
    #[error("certificates cannot be used: {0}")]
    Tls(String),
    #[error("connecting failed: {0}")]
    Connect(String),
}

/// Dials the masters, one after another.
pub(crate) struct Dialer {
    urls: Vec<String>,
    next: usize,
    tls: Mutex<Option<Tls>>,
    dial: Option<Arc<dyn Dial>>,
}

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects to masters in a world without sockets: the simulated one.
pub trait Dial: std::fmt::Debug + Send + Sync + 'static {
    /// A connection to a master, over which both sides know each other already.
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, std::io::Result<Box<dyn Io>>>;
}

impl Dialer {
    pub(crate) fn new(config: &Config) -> Self {
        // Agents spread over the masters.
        let next = quorate_chance::rng().random_range(0..config.masters.len().max(1));
        let (tls, dial) = (Mutex::new(config.tls.clone()), config.dial.clone());
        Dialer { urls: config.masters.clone(), next, tls, dial }
    }

    pub(crate) fn len(&self) -> usize {
        self.urls.len()
    }

    /// The next master to try.
    pub(crate) fn next_url(&mut self) -> String {
        let url = self.urls.get(self.next % self.urls.len().max(1)).cloned().unwrap_or_default();
        self.next = self.next.wrapping_add(1);
        url
    }

    /// The masters as a master told them. An empty list is no news.
    pub(crate) fn update(&mut self, urls: Vec<String>) {
        if !urls.is_empty() && urls != self.urls {
            self.next %= urls.len();
            self.urls = urls;
        }
    }

    /// Connections that begin from now on have this certificate.
    pub(crate) fn renew(&self, tls: Tls) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// An HTTP/2 connection with keep-alive, so that a silent master is noticed.
    pub(crate) async fn connect(&self, url: &str) -> Result<Channel, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::Url(url.to_owned()))?;
        let host = uri.host().ok_or_else(|| Error::Url(url.to_owned()))?.to_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let dial = self.dial.clone();
        let tls = match &dial {
            None if secure => Some(self.client_config()?),
            _ => None,
        };
        let connector = tower::service_fn(move |_: Uri| {
            let (host, tls, dial) = (host.clone(), tls.clone(), dial.clone());
            async move {
                let io = match dial {
                    Some(dial) => dial.dial(&host, port).await,
                    None => open(host, port, tls).await,
                };
                io.map(TokioIo::new)
            }
        });
        // tonic must not do TLS itself: the connector has.
        let plain = format!("http://{}", uri.authority().map_or("master", |a| a.as_str()));
        let endpoint = Endpoint::from_shared(plain)
            .map_err(|_| Error::Url(url.to_owned()))?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            // As many streams as a master allows cannot fill the connection: processes that do not read
            // their input must not hold up the control stream.
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(64 << 20);
        let connecting = endpoint.connect_with_connector(connector);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(Error::Connect(chain(&error))),
            Err(_) => Err(Error::Connect(format!("timed out after {CONNECT_TIMEOUT:?}"))),
        }
    }

    fn client_config(&self) -> Result<Arc<rustls::ClientConfig>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tls = tls.ok_or_else(|| Error::Tls("none given".to_owned()))?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(tls.ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
        }
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(tls.certificate_pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(|e| failed(&e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.map_err(|e| failed(&e))?, key)
            .map_err(|e| failed(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

async fn open(
    host: String,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> std::io::Result<Box<dyn Io>> {
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?))
}

/// An error with its causes, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
