//! A real API server on port 0 over an in-memory store, with certificates made for the test, and
//! ways to talk to it: raw HTTPS requests, the `kube` client, kubectl.
// Shared by test binaries, each of which uses a part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use quorate_api_server::streams::PodStreams;
use quorate_api_server::{
    ApiConfig, ApiServer, ClusterFacts, ServiceAccountKeys, SystemClock, TlsMaterial, bootstrap,
};
use quorate_store::Store;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::Value;

type Https = hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>;

/// The certificates of a test cluster.
pub struct Pki {
    pub ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        Self { ca_pem: ca.pem(), issuer: Issuer::new(params, key) }
    }

    pub fn serving(&self) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn client(&self, name: &str, groups: &[&str]) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server with bootstrap objects, and an administrator.
pub struct World {
    pub store: Store,
    pub server: ApiServer,
    pub address: SocketAddr,
    pub pki: Arc<Pki>,
    pub admin: (String, String),
    client: Client<Https, Full<Bytes>>,
    pub dir: tempfile::TempDir,
    /// Signs tokens of service accounts.
    pub account_keys: ServiceAccountKeys,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(Store::in_memory(), Arc::new(Pki::new()), None, None).await
    }

    /// A server over a given store, one of several masters perhaps, with gRPC services and streams.
    pub async fn start_with(
        store: Store,
        pki: Arc<Pki>,
        grpc: Option<tonic::service::Routes>,
        streams: Option<Arc<dyn PodStreams>>,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (certificate_chain_pem, private_key_pem) = pki.serving();
        let account_keys = ServiceAccountKeys {
            signing_key_pem: KeyPair::generate().unwrap().serialize_pem(),
            also_accepted_pem: Vec::new(),
        };
        let server = ApiServer::start(ApiConfig {
            store: store.clone(),
            listeners: vec![listener],
            tls: Some(TlsMaterial {
                certificate_chain_pem,
                private_key_pem,
                client_ca_pem: pki.ca_pem.clone(),
            }),
            keys: account_keys.clone(),
            facts: ClusterFacts::default(),
            clock: Arc::new(SystemClock),
            grpc,
            extras: quorate_api_server::Extras::default(),
            streams,
        })
        .unwrap();
        let leader = store.lead().unwrap();
        bootstrap::bootstrap(&leader, &server.admit()).await.unwrap();
        let address = server.addresses()[0];
        let admin = pki.client("admin", &["system:masters"]);
        let client = https(&pki, Some(&admin));
        let dir = tempfile::tempdir().unwrap();
        Self { store, server, address, pki, admin, client, dir, account_keys }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// A client with a certificate of its own, or none.
    pub fn client_as(&self, who: Option<(&str, &[&str])>) -> Client<Https, Full<Bytes>> {
        let pair = who.map(|(name, groups)| self.pki.client(name, groups));
        https(&self.pki, pair.as_ref())
    }

    /// A client with any certificate.
    pub fn client_with(&self, pair: &(String, String)) -> Client<Https, Full<Bytes>> {
        https(&self.pki, Some(pair))
    }

    /// Sends one request as the administrator.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        self.send_with(&self.client, method, path, headers, body).await
    }

    pub async fn send_with(
        &self,
        client: &Client<Https, Full<Bytes>>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    /// Sends JSON, gets JSON.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let response = self.send(method, path, &[("content-type", content_type)], body).await;
        let code = response.status();
        (code, json_of(response).await)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call("GET", path, Value::Null).await
    }

    /// Creates an object and gives it back as it was made.
    pub async fn create(&self, path: &str, object: Value) -> Value {
        let (code, made) = self.call("POST", path, object).await;
        assert_eq!(code, 201, "{made:#}");
        made
    }

    /// Service account `default` of a namespace, which a controller makes in production.
    pub async fn default_account(&self, namespace: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let account = serde_json::json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
        });
        self.create(&path, account).await;
    }

    /// A kubeconfig for the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        let write = |name: &str, text: &str| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.crt", &self.pki.ca_pem);
        let certificate = write("admin.crt", &self.admin.0);
        let key = write("admin.key", &self.admin.1);
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://localhost:{}", self.address.port()),
                "certificate-authority": ca,
            }}],
            "users": [{"name": "admin", "user": {
                "client-certificate": certificate, "client-key": key,
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        write("kubeconfig", &text.to_string())
    }

    /// The `kube` client.
    pub async fn kube(&self) -> kube::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = kube::config::Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// Runs kubectl; gives (exit code, stdout, stderr).
    pub async fn kubectl(&self, arguments: &[&str]) -> (i32, String, String) {
        self.kubectl_with(arguments, "").await
    }

    pub async fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> (i32, String, String) {
        use tokio::io::AsyncWriteExt as _;
        let kubeconfig = self.kubeconfig();
        let cache = self.dir.path().join("cache");
        let mut child = tokio::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(cache)
            .args(arguments)
            .env("HOME", self.dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin.as_bytes()).await.unwrap();
        drop(pipe);
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let output = output.expect("kubectl ends within a minute").unwrap();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Runs kubectl, which must succeed, and gives its output.
    pub async fn kubectl_ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.kubectl(arguments).await;
        assert_eq!(code, 0, "kubectl {arguments:?}\n{out}\n{err}");
        out
    }
}

/// Whether kubectl is there; says so when it is not.
pub fn has_kubectl() -> bool {
    let there =
        std::process::Command::new("kubectl").arg("version").arg("--client").output().is_ok();
    if !there {
        eprintln!("SKIPPED: kubectl is not installed, this test has shown nothing");
    }
    there
}

pub async fn bytes_of(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub async fn json_of(response: Response<Incoming>) -> Value {
    let bytes = bytes_of(response).await;
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&bytes)))
}

/// TLS that trusts the test's CA, with a client certificate or none.
pub fn tls(pki: &Pki, pair: Option<&(String, String)>) -> rustls::ClientConfig {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match pair {
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    }
}

fn https(pki: &Pki, pair: Option<&(String, String)>) -> Client<Https, Full<Bytes>> {
    let config = tls(pki, pair);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_all_versions()
        .build();
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Lines of a watch, one event each.
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    pub fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event, within ten seconds; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame())
                .await
                .expect("an event within ten seconds")?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next event as (type, name).
    pub async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
