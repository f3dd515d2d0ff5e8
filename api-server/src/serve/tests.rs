//! Connections that say nothing, little, or who they are not; against a paused clock, so that deadlines cost nothing.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::TlsMaterial;
use crate::{ApiConfig, ApiServer, ClusterFacts, Extras, ServiceAccountKeys, SystemClock};

type Pair = (String, String);

/// A CA, and what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a-ca");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, host: Option<&str>, change: impl Fn(&mut CertificateParams)) -> Pair {
        let hosts: Vec<String> = host.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, "jane");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server without sockets.
struct World {
    authority: Authority,
    shared: Arc<Shared>,
    tls: Tls,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        let (certificate_chain_pem, private_key_pem) = authority.issue(Some("localhost"), |_| {});
        let material = TlsMaterial {
            certificate_chain_pem,
            private_key_pem,
            client_ca_pem: authority.pem.clone(),
        };
        let server = ApiServer::start(ApiConfig {
            store: quorate_store::Store::in_memory(),
            listeners: Vec::new(),
            tls: None,
            keys: ServiceAccountKeys {
                signing_key_pem: KeyPair::generate().unwrap().serialize_pem(),
                also_accepted_pem: Vec::new(),
            },
            facts: ClusterFacts::default(),
            clock: Arc::new(SystemClock),
            grpc: None,
            extras: Extras::default(),
            streams: None,
        })
        .unwrap();
        let tls = Tls::new(&material).unwrap();
        Self { authority, shared: server.shared, tls }
    }

    /// A connection after its handshake, with a client certificate or none.
    async fn connect(&self, protocol: &str, pair: Option<&Pair>) -> TlsStream<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let stop = CancellationToken::new();
        tokio::spawn(serve(
            theirs,
            address,
            self.tls.clone(),
            self.shared.clone(),
            Ends::with(stop),
        ));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, ours).await.unwrap()
    }
}

/// Waits until the other side closes; gives what it said before, and how long that took.
async fn until_closed(stream: &mut TlsStream<DuplexStream>) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut said = Vec::new();
    let limit = Duration::from_secs(600);
    let end = tokio::time::timeout(limit, stream.read_to_end(&mut said)).await;
    // Whether it says goodbye or not.
    let _ = end.expect("the connection is closed");
    (said, began.elapsed())
}

fn about(took: Duration, limit: Duration) {
    let off = took.abs_diff(limit);
    assert!(off < Duration::from_secs(1), "closed after {took:?}, not {limit:?}");
}

/// The answer to a request, without its end: the connection stays open.
async fn ask(stream: &mut TlsStream<DuplexStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_after_the_handshake_is_let_go() {
    let world = World::new();
    for protocol in ["http/1.1", "h2"] {
        let mut stream = world.connect(protocol, None).await;
        let (_, took) = until_closed(&mut stream).await;
        about(took, HEADER_READ_TIMEOUT);
    }
    // A preface is no request.
    let mut stream = world.connect("h2", None).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let (_, took) = until_closed(&mut stream).await;
    about(took, HEADER_READ_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_head_byte_by_byte_is_let_go() {
    let world = World::new();
    let mut stream = world.connect("http/1.1", None).await;
    let began = Instant::now();
    let head = format!("GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: {}", "a".repeat(1000));
    let mut sent = 0;
    for byte in head.bytes() {
        if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(sent < 40, "{sent} bytes were taken");
    assert!(began.elapsed() < HEADER_READ_TIMEOUT + Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_request_for_a_while() {
    let world = World::new();
    let mut stream = world.connect("http/1.1", None).await;
    let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..2 {
        assert!(ask(&mut stream, request).await.starts_with("HTTP/1.1 403 "));
        tokio::time::sleep(CONNECTION_IDLE_TIMEOUT - Duration::from_secs(5)).await;
    }
    assert!(ask(&mut stream, request).await.starts_with("HTTP/1.1 403 "));
    let (_, took) = until_closed(&mut stream).await;
    about(took, CONNECTION_IDLE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_proves_nothing_is_401() {
    let world = World::new();
    let request = |more: &str| format!("GET /nothing HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let good = world.authority.issue(None, |_| {});
    let old = world.authority.issue(None, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let foreign = Authority::new().issue(None, |_| {});
    for (pair, code, user) in [
        (Some(&good), "403", "User \\\"jane\\\""),
        (Some(&old), "401", "Unauthorized"),
        (Some(&foreign), "401", "Unauthorized"),
        (None, "403", "User \\\"system:anonymous\\\""),
    ] {
        let mut stream = world.connect("http/1.1", pair).await;
        let answer = ask(&mut stream, &request("")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
        assert!(answer.contains(user), "{answer}");
    }
    let mut stream = world.connect("http/1.1", Some(&foreign)).await;
    let answer = ask(&mut stream, &request("Authorization: Bearer wrong\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_and_believed_changes_under_open_connections() {
    let (world, other) = (World::new(), Authority::new());
    let (old, new) = (world.authority.issue(None, |_| {}), other.issue(None, |_| {}));
    let (certificate_chain_pem, private_key_pem) = world.authority.issue(Some("localhost"), |_| {});
    let material = |client_ca_pem: String| TlsMaterial {
        certificate_chain_pem: certificate_chain_pem.clone(),
        private_key_pem: private_key_pem.clone(),
        client_ca_pem,
    };
    let both = format!("{}{}", world.authority.pem, other.pem);
    let shown = |stream: &TlsStream<DuplexStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (jane, nobody) = ("User \\\"jane\\\"", "HTTP/1.1 401 ");
    let mut first = world.connect("http/1.1", Some(&old)).await;
    assert!(ask(&mut first, request).await.contains(jane));

    world.tls.renew(&material(both.clone())).unwrap();
    assert!(ask(&mut first, request).await.contains(jane), "nothing has changed for it");
    let mut second = world.connect("http/1.1", Some(&new)).await;
    assert!(ask(&mut second, request).await.contains(jane));
    assert_ne!(shown(&first), shown(&second));

    // Nothing is changed by what cannot be used.
    assert!(world.tls.renew(&material("nonsense".to_owned())).is_err());
    assert!(ask(&mut first, request).await.contains(jane));

    world.tls.renew(&material(other.pem.clone())).unwrap();
    assert!(ask(&mut first, request).await.starts_with(nobody), "its authority is gone");
    assert!(ask(&mut second, request).await.contains(jane));
    let mut third = world.connect("http/1.1", Some(&old)).await;
    assert!(ask(&mut third, request).await.starts_with(nobody));
}
