//! Calls to a master's API that show the bare answer.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, Request};
use kube::client::Body;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A client of one master.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

impl Api {
    /// As the kubeconfig says, but to `url`.
    pub async fn new(kubeconfig: &Path, url: &str) -> Self {
        Self::with_retries(kubeconfig, url, true).await
    }

    /// The same, that shows a 429 or 503, too, instead of asking again by itself.
    pub async fn without_retries(kubeconfig: &Path, url: &str) -> Self {
        Self::with_retries(kubeconfig, url, false).await
    }

    async fn with_retries(kubeconfig: &Path, url: &str, retries: bool) -> Self {
        let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
        config.cluster_url = url.parse().unwrap();
        config.default_retry = retries;
        Self { client: kube::Client::try_from(config).unwrap() }
    }

    /// The status code and the answer; an error when there was none.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Value), String> {
        let content_type = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Body::from(body))
            .unwrap();
        let response = self.client.send(request).await.map_err(|error| format!("{error:?}"))?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await;
        let bytes = bytes.map_err(|error| format!("{error:?}"))?;
        Ok((code, serde_json::from_slice(&bytes).map_err(|error| error.to_string())?))
    }

    /// An answer's body as it is.
    pub async fn text(&self, path: &str) -> String {
        self.client.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Result<(u16, Value), String> {
        self.call(Method::GET, path, Vec::new()).await
    }
}

/// TLS as a kubeconfig's first user.
pub fn as_first_user(kubeconfig: &str) -> rustls::ClientConfig {
    let config: Value = serde_saphyr::from_str(kubeconfig).unwrap();
    let pem = |value: &Value| BASE64.decode(value.as_str().unwrap()).unwrap();
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&pem(&cluster["certificate-authority-data"]));
    roots.add(authority.unwrap()).unwrap();
    let certificate = CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"]));
    let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.unwrap()], key)
        .unwrap()
}

/// A connection with a POST whose body never comes, as the kubeconfig's first user.
pub async fn without_end(kubeconfig: &Path, address: &str, path: &str) -> TlsStream<TcpStream> {
    let tls = as_first_user(&std::fs::read_to_string(kubeconfig).unwrap());
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}
