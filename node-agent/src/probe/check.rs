//! One probe of one moment: exec, HTTP, TCP, gRPC.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use tokio::net::TcpStream;

use crate::limits::{PROBE_BODY_BYTES_MAX, PROBE_REDIRECTS_MAX};
use crate::pod::env::resolve_port;
use crate::runtime::{ContainerId, Error, Runtime};

/// How probes introduce themselves.
const AGENT: &str = "kube-probe/1.36";

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Good.
    Success,
    /// Good, with something to be said about it.
    Warning(String),
    /// Bad, and why.
    Failure(String),
    /// It could not even be asked: counts as nothing good, and is told as an error.
    Unknown(String),
}

impl Outcome {
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self, Outcome::Success | Outcome::Warning(_))
    }

    /// How an event says it: its reason, the verb, the rest.
    pub(crate) fn complaint(&self) -> Option<(&'static str, &'static str, &str)> {
        match self {
            Outcome::Success => None,
            Outcome::Warning(text) => Some(("ProbeWarning", "warning", text)),
            Outcome::Failure(text) => Some(("Unhealthy", "failed", text)),
            Outcome::Unknown(text) => Some(("Unhealthy", "errored", text)),
        }
    }
}

/// Whom to ask.
pub(crate) struct Target<'a> {
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) container_id: &'a ContainerId,
    pub(crate) container: &'a Container,
    pub(crate) ip: Option<IpAddr>,
}

/// Asks once.
pub(crate) async fn run(probe: &Probe, target: &Target<'_>, timeout: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return exec_probe(target, &command, timeout).await;
    }
    let asking = async {
        if let Some(http) = &probe.http_get {
            return http_get(http, target).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            return tcp_probe(tcp.host.as_deref(), &tcp.port, target).await;
        }
        if let Some(grpc) = &probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            return grpc_probe(grpc.port, &service, target).await;
        }
        Outcome::Unknown("missing probe handler".to_owned())
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(timed_out(probe, target)),
    }
}

/// What Go says of a question that was not answered in time.
fn timed_out(probe: &Probe, target: &Target<'_>) -> String {
    let ip = target.ip.map(|ip| ip.to_string()).unwrap_or_default();
    if let Some(http) = &probe.http_get {
        let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        return match Address::of(http, target) {
            Ok(address) => format!("Get \"{}\": {why}", address.url(&address.path)),
            Err(error) => error,
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or(ip);
        let port = resolve_port(&tcp.port, target.container).unwrap_or(0);
        return format!("dial tcp {host}:{port}: i/o timeout");
    }
    let port = probe.grpc.as_ref().map_or(0, |grpc| grpc.port);
    format!(
        "timeout: failed to connect service \"{ip}:{port}\" within the probe's timeout: context deadline exceeded"
    )
}

async fn exec_probe(target: &Target<'_>, command: &[String], timeout: Duration) -> Outcome {
    match target.runtime.exec_sync(target.container_id, command, timeout).await {
        Ok(output) if output.exit_code == 0 => Outcome::Success,
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            Outcome::Failure(String::from_utf8_lossy(&all).into_owned())
        }
        Err(Error::Timeout(_)) => {
            let command = command.join(" ");
            Outcome::Failure(format!(
                "command timed out: \"{command}\" timed out after {}s",
                timeout.as_secs()
            ))
        }
        Err(error) => Outcome::Unknown(format!("rpc error: {error}")),
    }
}

fn host(own: Option<&str>, target: &Target<'_>) -> Option<String> {
    own.filter(|host| !host.is_empty())
        .map(str::to_owned)
        .or_else(|| target.ip.map(|ip| ip.to_string()))
}

async fn tcp_probe(
    own: Option<&str>,
    port: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
    target: &Target<'_>,
) -> Outcome {
    let port = match resolve_port(port, target.container) {
        Ok(port) => port,
        Err(error) => return Outcome::Unknown(error.0),
    };
    let Some(host) = host(own, target) else { return Outcome::Unknown("no pod IP".to_owned()) };
    match TcpStream::connect((host.as_str(), port)).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(format!("dial tcp {host}:{port}: {}", words(&error))),
    }
}

/// A connection error as Go says it.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}

/// Where an HTTP GET goes.
struct Address {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

impl Address {
    fn of(action: &HTTPGetAction, target: &Target<'_>) -> Result<Self, String> {
        let port = resolve_port(&action.port, target.container).map_err(|error| error.0)?;
        let host = host(action.host.as_deref(), target).ok_or("no pod IP")?;
        let path = action.path.clone().unwrap_or_default();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let https = action.scheme.as_deref() == Some("HTTPS");
        Ok(Address { https, host, port, path })
    }

    fn authority(&self) -> String {
        let Address { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority())
    }

    /// The same server at another place, when a redirect stays there; `None`: it leads elsewhere.
    fn redirected(&self, location: &str) -> Option<Address> {
        let same = |path: String| Address { host: self.host.clone(), path, ..*self };
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(same(location.to_owned()));
        }
        let with_scheme = location.starts_with("//").then(|| format!("http:{location}"));
        let uri = with_scheme.as_deref().unwrap_or(location).parse::<http::Uri>().ok();
        let uri = uri.filter(|uri| uri.scheme().is_some());
        let Some((name, uri)) = uri.as_ref().and_then(|uri| Some((uri.host()?, uri))) else {
            // Relative to the directory of the page.
            let base = self.path.rsplit_once('/').map_or("", |(base, _)| base);
            return Some(same(format!("{base}/{location}")));
        };
        let name = name.trim_matches(['[', ']']);
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        (name == self.host).then(|| Address { https, host: self.host.clone(), port, path })
    }
}

/// An answer's status, its `Location`, and the beginning of its body.
struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

/// An HTTP GET, for probes and lifecycle hooks. 200–399 is success; redirects on the same host are followed, others end
/// the probe with a warning.
pub(crate) async fn http_get(action: &HTTPGetAction, target: &Target<'_>) -> Outcome {
    let mut address = match Address::of(action, target) {
        Ok(address) => address,
        Err(error) => return Outcome::Unknown(error),
    };
    for _ in 0..=PROBE_REDIRECTS_MAX {
        let url = address.url(&address.path);
        let answer = match request(action, &address).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Failure(format!("Get \"{url}\": {error}")),
        };
        match answer.status {
            300..400 => {
                let Some(location) = &answer.location else { return Outcome::Success };
                match address.redirected(location) {
                    Some(next) => address = next,
                    None => {
                        let body = answer.body;
                        return Outcome::Warning(format!(
                            "Probe terminated redirects, Response body: {body}"
                        ));
                    }
                }
            }
            200..300 => return Outcome::Success,
            status => {
                return Outcome::Failure(format!("HTTP probe failed with statuscode: {status}"));
            }
        }
    }
    let url = address.url(&address.path);
    Outcome::Failure(format!("Get \"{url}\": stopped after {PROBE_REDIRECTS_MAX} redirects"))
}

async fn request(action: &HTTPGetAction, address: &Address) -> Result<Answer, String> {
    let Address { https, host, port, path } = address;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|error| format!("dial tcp {}: {}", address.authority(), words(&error)))?;
    let mut request = http::Request::get(path.as_str()).header("Connection", "close");
    let headers = action.http_headers.as_deref().unwrap_or(&[]);
    let own = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let authority = address.authority();
    let defaults = [("Host", authority.as_str()), ("User-Agent", AGENT), ("Accept", "*/*")];
    for (name, value) in defaults.into_iter().filter(|(name, _)| !own(name)) {
        request = request.header(name, value);
    }
    for header in headers {
        // An empty value takes the default away.
        if !header.value.is_empty() {
            request = request.header(&header.name, &header.value);
        }
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    if !https {
        return send(stream, request).await;
    }
    let name = rustls_pki_types::ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(any_certificate()?);
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    send(stream, request).await
}

async fn send<IO>(io: IO, request: http::Request<Empty<bytes::Bytes>>) -> Result<Answer, String>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let result = match answer {
        Ok(response) => {
            let status = response.status().as_u16();
            let location = response.headers().get("location");
            let location = location.and_then(|text| text.to_str().ok()).map(str::to_owned);
            // The body is read as the kubelet does, so that servers do not log broken pipes.
            let body = http_body_util::Limited::new(response.into_body(), PROBE_BODY_BYTES_MAX);
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Ok(Answer { status, location, body: String::from_utf8_lossy(&body).into_owned() })
        }
        Err(error) => Err(error.to_string()),
    };
    driver.abort();
    result
}

/// Probes do not check certificates, as with the kubelet: the pod is asked by its address.
fn any_certificate() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    Ok(Arc::new(
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    ))
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `grpc.health.v1.Health/Check`.
async fn grpc_probe(port: i32, service: &str, target: &Target<'_>) -> Outcome {
    let Some(ip) = target.ip else { return Outcome::Unknown("no pod IP".to_owned()) };
    let Ok(port) = u16::try_from(port) else {
        return Outcome::Unknown(format!("invalid port number: {port}"));
    };
    let address = SocketAddr::new(ip, port);
    let endpoint = match tonic::transport::Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let Ok(channel) = endpoint.connect().await else {
        return Outcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within 1s"
        ));
    };
    let mut client = tonic::client::Grpc::new(channel);
    if client.ready().await.is_err() {
        return Outcome::Failure(format!("failed to connect service \"{address}\""));
    }
    let codec = tonic_prost::ProstCodec::<HealthRequest, HealthReply>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthRequest { service: service.to_owned() });
    match client.unary(request, path, codec).await {
        Ok(reply) if reply.get_ref().status == 1 => Outcome::Success,
        Ok(reply) => Outcome::Failure(format!(
            "service unhealthy (responded with \"{}\")",
            if reply.get_ref().status == 2 { "NOT_SERVING" } else { "UNKNOWN" }
        )),
        Err(status) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health)"
                .to_owned(),
        ),
        Err(status) => Outcome::Failure(format!("error: health rpc probe failed: {status}")),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthReply {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_their_host_or_end() {
        let at = |host: &str| Address {
            https: false,
            host: host.to_owned(),
            port: 8080,
            path: "/a/b".to_owned(),
        };
        for (host, location, expected) in [
            ("10.0.0.1", "/healthz", Some("http://10.0.0.1:8080/healthz")),
            ("10.0.0.1", "c?x=1", Some("http://10.0.0.1:8080/a/c?x=1")),
            ("10.0.0.1", "http://10.0.0.1:81/x", Some("http://10.0.0.1:81/x")),
            ("10.0.0.1", "https://10.0.0.1/x", Some("https://10.0.0.1:443/x")),
            ("fd00::1", "http://[fd00::1]:81/x", Some("http://[fd00::1]:81/x")),
            ("10.0.0.1", "http://0.0.0.0/", None),
            ("10.0.0.1", "//other/x", None),
        ] {
            let got = at(host).redirected(location).map(|next| next.url(&next.path));
            assert_eq!(got.as_deref(), expected, "{location}");
        }
    }
}
