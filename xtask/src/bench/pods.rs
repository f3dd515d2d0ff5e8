//! Simulated nodes, and how long it takes until pods have one. The nodes are API objects that say
//! they are ready and renew their leases; nothing runs on them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::client::Client;
use super::load::{Amount, load};
use super::scenario::{Sizes, namespace};
use super::{limits, say};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Simulated nodes; they stop renewing their leases when this is dropped.
pub(crate) struct Nodes {
    heartbeats: JoinHandle<()>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

impl Nodes {
    /// Creates nodes and waits until pods may go to all of them.
    pub(crate) async fn create(client: &Client, count: usize) -> anyhow::Result<Self> {
        say(&format!("{count} simulated nodes"));
        let amount = Amount { in_flight: 16, operations: count, time: limits::NODES_READY_MAX };
        let creator = client.clone();
        let made = load(amount, move |_, number| {
            let client = creator.clone();
            async move { create_node(&client, number).await }
        })
        .await?;
        if made.done() < count {
            bail!("only {} nodes were created", made.done());
        }
        let heartbeats = tokio::spawn(heartbeats(client.clone(), count));
        let nodes = Self { heartbeats };
        let begin = Instant::now();
        loop {
            let list = client.get("/api/v1/nodes").await?;
            let items = list["items"].as_array().context("a list of nodes")?;
            let free = |node: &&Value| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
            let ready = items.iter().filter(free).count();
            if ready >= count {
                return Ok(nodes);
            }
            if begin.elapsed() > limits::NODES_READY_MAX {
                bail!("{ready} of {count} nodes are free of taints");
            }
            tokio::time::sleep(10 * limits::POLL).await;
        }
    }

    /// Creates pods without a node; time from the first create until the last one has a node.
    pub(crate) async fn bind_pods(
        &self,
        client: &Client,
        sizes: &Sizes,
    ) -> anyhow::Result<Duration> {
        namespace(client, "bench-pods").await?;
        let bound = Bound::watch(client, "bench-pods").await?;
        let begin = Instant::now();
        let amount = Amount { in_flight: 64, operations: sizes.pods, time: sizes.bound_max };
        let creator = client.clone();
        let creating = load(amount, move |_, number| {
            let client = creator.clone();
            async move {
                let mut pod = json!({
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": { "name": format!("pod-{number}") },
                });
                pod["spec"] = pod_spec();
                client.post("/api/v1/namespaces/bench-pods/pods", &pod).await?;
                Ok(())
            }
        });
        let (created, bound) = tokio::join!(creating, bound.wait_for(sizes.pods, sizes.bound_max));
        let created = created?;
        say(&format!("{} pods created at {:.0}/s", created.done(), created.rate()));
        bound?;
        Ok(begin.elapsed())
    }

    /// Creates a Deployment; time until all its pods have a node.
    pub(crate) async fn deploy(&self, client: &Client, sizes: &Sizes) -> anyhow::Result<Duration> {
        namespace(client, "bench-deployment").await?;
        let bound = Bound::watch(client, "bench-deployment").await?;
        let begin = Instant::now();
        let labels = json!({ "app": "web" });
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web" },
            "spec": {
                "replicas": sizes.replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod_spec() },
            },
        });
        client.post("/apis/apps/v1/namespaces/bench-deployment/deployments", &deployment).await?;
        bound.wait_for(sizes.replicas, sizes.bound_max).await?;
        Ok(begin.elapsed())
    }
}

fn pod_spec() -> Value {
    json!({
        "containers": [{
            "name": "main",
            "image": "registry.example/bench:1",
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
        }],
    })
}

async fn create_node(client: &Client, number: usize) -> anyhow::Result<()> {
    let name = format!("node-{number}");
    let resources = json!({
        "cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi", "pods": "110",
    });
    let now = jiff::Timestamp::now();
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Simulated", "message": "simulated",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let status = json!({
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"),
            condition("PIDPressure", "False"),
            condition("Ready", "True"),
        ],
        "addresses": [{ "type": "Hostname", "address": name }],
    });
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": status,
    });
    client.post("/api/v1/nodes", &node).await?;
    client.patch(&format!("/api/v1/nodes/{name}/status"), &json!({ "status": status })).await?;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name },
        "spec": {
            "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro_time(),
        },
    });
    client.post(LEASES, &lease).await?;
    Ok(())
}

fn micro_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Renews the leases one after the other, each once in an interval.
async fn heartbeats(client: Client, count: usize) {
    let step = limits::HEARTBEAT_INTERVAL / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let mut ticks = tokio::time::interval(step);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in (0..count).cycle() {
        ticks.tick().await;
        let renewal = json!({ "spec": { "renewTime": micro_time() } });
        if let Err(error) = client.patch(&format!("{LEASES}/node-{number}"), &renewal).await {
            say(&format!("heartbeat of node-{number}: {error:#}"));
        }
    }
}

/// A watch of a namespace's pods that remembers which of them have a node.
struct Bound {
    body: hyper::body::Incoming,
    names: HashSet<String>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Pod,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

impl Bound {
    async fn watch(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let list = client.get(&path).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().context("no revision")?;
        let path = format!("{path}?watch=true&resourceVersion={revision}");
        let response = client.send(Method::GET, &path, Bytes::new()).await?;
        if !response.status().is_success() {
            bail!("watch of pods: {}", response.status());
        }
        Ok(Self { body: response.into_body(), names: HashSet::new() })
    }

    async fn wait_for(mut self, count: usize, longest: Duration) -> anyhow::Result<()> {
        match timeout(longest, self.read_until(count)).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("{} of {count} pods have a node after {longest:?}", self.names.len()),
        }
    }

    async fn read_until(&mut self, count: usize) -> anyhow::Result<()> {
        let mut kept = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                kept.extend_from_slice(&data);
            }
            while let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                self.take(&kept.split_to(end + 1))?;
                if self.names.len() >= count {
                    return Ok(());
                }
            }
            if kept.len() > limits::WATCH_LINE_BYTES_MAX {
                bail!("a line of the watch has more than {} bytes", limits::WATCH_LINE_BYTES_MAX);
            }
        }
        bail!("the watch of pods ended")
    }

    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let event: Event = serde_json::from_slice(line)?;
        if event.r#type == "ERROR" {
            bail!("watch of pods: {}", String::from_utf8_lossy(line));
        }
        if event.object.spec.node_name.is_some_and(|node| !node.is_empty()) {
            self.names.insert(event.object.metadata.name);
        }
        Ok(())
    }
}
