//! Connections of a master to others: to hosts, to pods, and to the pods behind services.
//!
//! Upstream dials a service's cluster IP and leaves the rest to the node's proxy. A master here need not be a node, so
//! that neither cluster IPs nor pods' addresses mean anything on its machine. It chooses one of the service's ready
//! endpoints itself, and goes to a pod through the stream of the pod's node, as port-forward does, which works from
//! every master. Endpoints that are no pods, and pods that are not reached that way, are dialled at their address.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use quorate_state_machine::{GroupResource, Key, View};
use quorate_store::Store;
use rand::seq::SliceRandom as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::{DIAL_TIMEOUT, ENDPOINTS_TRIED_MAX};
use crate::model::text;
use crate::parameters::quoted;
use crate::streams::{Duplex, PodStreams};

/// What connections are made with.
pub(crate) struct Dialer {
    pub(crate) store: Store,
    pub(crate) streams: Option<Arc<dyn PodStreams>>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Where a service may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    address: String,
    port: u16,
    /// Name of the pod behind it; "" when it is none.
    pod: String,
}

/// What becomes of a service.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Host(String, u16),
    Endpoints(Vec<Endpoint>),
}

impl Dialer {
    /// A connection to a host, by name or address.
    pub(crate) async fn host(&self, host: &str, port: u16) -> Result<Pipe, String> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|_| format!("dial tcp: lookup {host}: no such host"))?;
        let mut last = format!("dial tcp: lookup {host}: no such host");
        for address in found {
            match tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Only a matter of latency.
                    let _ = stream.set_nodelay(true);
                    return Ok(Pipe::new(stream));
                }
                Ok(Err(error)) => last = format!("dial tcp {address}: connect: {}", words(&error)),
                Err(_) => last = format!("dial tcp {address}: i/o timeout"),
            }
        }
        Err(last)
    }

    /// A connection to whoever answers for a service.
    pub(crate) async fn service(&self, service: &Service) -> Result<Pipe, String> {
        let view = self.store.view();
        match resolve(&view, service)? {
            Place::Host(host, port) => self.host(&host, port).await,
            Place::Endpoints(endpoints) => {
                let Service { namespace, name, .. } = service;
                Ok(self.any_of(&view, (namespace, name), endpoints).await?.0)
            }
        }
    }

    /// A connection to one of a service's endpoints, and its address.
    pub(crate) async fn any_of(
        &self,
        view: &View,
        (namespace, service): (&str, &str),
        mut endpoints: Vec<Endpoint>,
    ) -> Result<(Pipe, String), String> {
        endpoints.shuffle(&mut quorate_chance::rng());
        let mut last = format!("no endpoints available for service {}", quoted(service));
        for endpoint in endpoints.iter().take(ENDPOINTS_TRIED_MAX) {
            let Endpoint { address, port, pod } = endpoint;
            let pod = view.get(&Key::new("", "pods", namespace, pod));
            let pod = pod.and_then(|pod| serde_json::from_slice::<Value>(&pod.image.bytes).ok());
            match self.pod(pod.as_ref(), address, *port).await {
                Ok(pipe) => return Ok((pipe, format!("{address}:{port}"))),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// A connection to a port of a pod, through its node or at its address.
    pub(crate) async fn pod(
        &self,
        pod: Option<&Value>,
        address: &str,
        port: u16,
    ) -> Result<Pipe, String> {
        let mut through = String::new();
        if let (Some(streams), Some(pod)) = (&self.streams, pod) {
            match streams.connect(pod, port).await {
                Ok(stream) => return Ok(Pipe(stream)),
                Err(why) => through = format!("; {why}"),
            }
        }
        self.host(address, port).await.map_err(|why| format!("{why}{through}"))
    }
}

/// Go's words for what the system says.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Where a service is, in upstream's words when it is nowhere.
fn resolve(view: &View, service: &Service) -> Result<Place, String> {
    let Service { namespace, name, port } = service;
    let stored = view.get(&Key::new("", "services", namespace, name));
    let stored = stored.ok_or_else(|| format!("service {} not found", quoted(name)))?;
    let object: Value = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
    let spec = &object["spec"];
    if spec["type"] == "ExternalName" {
        return Ok(Place::Host(text(&spec["externalName"]).to_owned(), *port));
    }
    if spec["clusterIP"] == "None" {
        return Err("cannot route to service with ClusterIP \"None\"".to_owned());
    }
    let mut ports = spec["ports"].as_array().into_iter().flatten();
    let Some(of_service) = ports.find(|one| one["port"] == *port) else {
        return Err(format!("no service port {port} found for service {}", quoted(name)));
    };
    Ok(Place::Endpoints(endpoints_of(view, (namespace, name), text(&of_service["name"]))))
}

/// The ready endpoints of a service, at the port with a name.
pub(crate) fn endpoints_of(
    view: &View,
    (namespace, service): (&str, &str),
    port: &str,
) -> Vec<Endpoint> {
    let slices = view.resource(&GroupResource::new("discovery.k8s.io", "endpointslices"));
    let slices = slices.into_iter().flat_map(|all| all.range(namespace, None));
    let mut found = Vec::new();
    for slice in slices {
        let labels = &slice.image.header.labels;
        if !labels
            .iter()
            .any(|(key, value)| key == "kubernetes.io/service-name" && value == service)
        {
            continue;
        }
        let slice: Value = serde_json::from_slice(&slice.image.bytes).unwrap_or_default();
        found.extend(endpoints(&slice, port));
    }
    found
}

/// The ready endpoints of a slice, at the port with a name.
fn endpoints(slice: &Value, port: &str) -> Vec<Endpoint> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.find(|one| text(&one["name"]) == port);
    let port = port.and_then(|one| u16::try_from(one["port"].as_u64()?).ok());
    let Some(port) = port else { return Vec::new() };
    let all = slice["endpoints"].as_array().into_iter().flatten();
    let ready = all.filter(|one| one["conditions"]["ready"] != false);
    let endpoint = |one: &Value| {
        let address = one["addresses"].as_array()?.first()?.as_str()?;
        address.parse::<IpAddr>().ok()?;
        let target = &one["targetRef"];
        let pod = if target["kind"] == "Pod" { text(&target["name"]) } else { "" };
        Some(Endpoint { address: address.to_owned(), port, pod: pod.to_owned() })
    };
    ready.filter_map(endpoint).collect()
}

/// A connection, whatever carries it.
pub(crate) struct Pipe(Box<dyn Duplex>);

impl Pipe {
    fn new(stream: impl Duplex + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(ctx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_endpoints_of_the_named_port() {
        let slice = json!({
            "ports": [{"name": "metrics", "port": 1}, {"name": "hook", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true},
                    "targetRef": {"kind": "Pod", "name": "p"}, "nodeName": "n"},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["192.0.2.1"]},
            ],
        });
        let found = endpoints(&slice, "hook");
        let expected = [("10.0.0.1", "p"), ("192.0.2.1", "")];
        let expected = expected.map(|(address, pod)| Endpoint {
            address: address.to_owned(),
            port: 8443,
            pod: pod.to_owned(),
        });
        assert_eq!(found, expected);
        assert!(endpoints(&slice, "").is_empty());
    }

    #[tokio::test]
    async fn services_that_are_not_there_are_told_as_upstream() {
        let view = Store::in_memory().view();
        let service = Service { namespace: "n".to_owned(), name: "s".to_owned(), port: 443 };
        assert_eq!(resolve(&view, &service).unwrap_err(), "service \"s\" not found");
    }
}
