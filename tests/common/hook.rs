//! A webhook for a test: a TLS server in this process that does what the path of a call says.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One call: the path, and the `request` of its review.
pub type Call = (String, Value);

/// See the module. Serves for as long as the runtime runs.
#[derive(Clone)]
pub struct Hook {
    pub port: u16,
    /// For `caBundle`.
    pub bundle: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Hook {
    /// Listens on all addresses, with a certificate for some names that an authority has signed.
    pub async fn start(names: &[&str], addresses: &[IpAddr]) -> Self {
        let (mut authority, root) = (CertificateParams::default(), KeyPair::generate().unwrap());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let bundle = authority.self_signed(&root).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority, root);
        let certificate = params(names, addresses).signed_by(&key, &issuer).unwrap();
        Self::serve(&certificate, &key, &bundle).await
    }

    /// The same with a certificate of its own making, as `openssl req -x509` makes one.
    pub async fn start_self_signed(names: &[&str], addresses: &[IpAddr]) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(names, addresses);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self::serve(&certificate, &key, &certificate.pem()).await
    }

    async fn serve(certificate: &Certificate, key: &KeyPair, bundle: &str) -> Self {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let noted = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, acceptor) = (noted.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| serve(noted.clone(), request));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, bundle: STANDARD.encode(bundle), calls }
    }

    /// A webhook of a configuration that is asked about something and does something.
    pub fn webhook(&self, name: &str, does: &str, rule: Value) -> Value {
        let url = format!("https://127.0.0.1:{}/{does}", self.port);
        json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": self.bundle}, "rules": [rule]})
    }

    /// The calls since the last look.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

fn params(names: &[&str], addresses: &[IpAddr]) -> CertificateParams {
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut params = CertificateParams::new(names).unwrap();
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params
}

async fn serve(
    noted: Arc<Mutex<Vec<Call>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/');
    let escapes = [("%20", " "), ("%22", "\""), ("%7B", "{"), ("%7D", "}")];
    let path = escapes.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = review["request"].clone();
    noted.lock().unwrap().push((path.clone(), asked.clone()));
    if path == "slow" {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let mut response = Response::new(Full::default());
    if path == "broken" {
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        *response.body_mut() = Full::new(Bytes::from_static(b"out of order"));
        return Ok(response);
    }
    let answer = answer(&path, &asked);
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer});
    *response.body_mut() = Full::new(Bytes::from(review.to_string()));
    Ok(response)
}

/// What the paths do.
fn answer(path: &str, asked: &Value) -> Value {
    let mut answer = json!({"uid": asked["uid"], "allowed": true});
    let mut patch = |operations: Value| {
        answer["patchType"] = json!("JSONPatch");
        answer["patch"] = json!(STANDARD.encode(operations.to_string()));
    };
    let (does, what) = path.split_once('/').unwrap_or((path, ""));
    match does {
        // Adds a label whose value says how often it was asked.
        "label" => {
            let labels = &asked["object"]["metadata"]["labels"];
            let times = labels[what].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            let path = format!("/metadata/labels/{what}");
            let value = (times + 1).to_string();
            if labels.is_object() {
                patch(json!([{"op": "add", "path": path, "value": value}]));
            } else {
                patch(json!([{"op": "add", "path": "/metadata/labels", "value": {what: value}}]));
            }
        }
        // Sets what is at a path, once.
        "set" => {
            let (pointer, value) = what.split_once('=').unwrap();
            let pointer = format!("/{pointer}");
            let value: Value = serde_json::from_str(value).unwrap();
            if asked["object"].pointer(&pointer) != Some(&value) {
                patch(json!([{"op": "add", "path": pointer, "value": value}]));
            }
        }
        "nonsense" => answer["patch"] = json!(STANDARD.encode("nonsense")),
        "misfit" => patch(json!([{"op": "remove", "path": "/not/there"}])),
        _ => {}
    }
    match does {
        "deny" => {
            answer["allowed"] = json!(false);
            answer["status"] = json!({"code": 403, "message": format!("because of {what}")});
        }
        "warn" => answer["warnings"] = json!([format!("beware of {what}")]),
        "stranger" => answer["uid"] = json!("somebody"),
        "nonsense" => answer["patchType"] = json!("JSONPatch"),
        _ => {}
    }
    answer
}
