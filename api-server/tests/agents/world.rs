//! A master with a hub, and the shape of its pods.

use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::agents::{AgentHub, HubConfig};
use quorate_store::Store;
use quorate_store::clock::Clock;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::common::{Pki, World};
use crate::fake::Agent;

/// One master.
pub struct Master {
    pub world: World,
    pub hub: AgentHub,
    pub urls: watch::Sender<Vec<String>>,
}

impl Master {
    pub async fn start() -> Self {
        let master = Self::named("m1", Store::in_memory(), Arc::new(Pki::new())).await;
        master.world.default_account("default").await;
        master
    }

    /// One of several masters over one store.
    pub async fn named(name: &str, store: Store, pki: Arc<Pki>) -> Self {
        let (urls, masters) = watch::channel(vec!["https://one".to_owned()]);
        let hub = AgentHub::new(HubConfig {
            store: store.clone(),
            clock: Clock::system(),
            cluster_id: "cluster".to_owned(),
            master: name.to_owned(),
            masters,
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: vec!["10.43.0.10".to_owned()],
        });
        let grpc = tonic::service::Routes::new(hub.service()).add_service(hub.proxy_service());
        let world = World::start_with(store, pki, Some(grpc), Some(hub.streams())).await;
        hub.ready(world.server.admit(), world.server.token_issuer());
        Self { world, hub, urls }
    }

    /// A running pod `p` with container `c` on node `n1`, whose agent is connected.
    pub async fn with_pod() -> (Self, Agent) {
        let master = Self::start().await;
        let agent = master.node("n1").await;
        master.pod("p", "n1").await;
        master.running("p").await;
        (master, agent)
    }

    /// A node whose agent is connected to this master, and known to it: the stream is answered
    /// before the node is registered.
    pub async fn node(&self, name: &str) -> Agent {
        let agent = Agent::connect(&self.world, name).await.unwrap();
        eventually("the node is there", async || self.hub.holds(name)).await;
        agent
    }

    pub async fn pod(&self, name: &str, node: &str) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        if !node.is_empty() {
            pod["spec"]["nodeName"] = node.into();
        }
        self.world.create("/api/v1/namespaces/default/pods", pod).await
    }

    pub async fn running(&self, name: &str) {
        let path = format!("/api/v1/namespaces/default/pods/{name}/status");
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }]}});
        let (code, answer) = self.world.call("PATCH", &path, status).await;
        assert_eq!(code, 200, "{answer:#}");
    }

    pub async fn get_pod(&self, name: &str) -> (u16, Value) {
        let (code, pod) = self.world.get(&format!("/api/v1/namespaces/default/pods/{name}")).await;
        (code.as_u16(), pod)
    }
}

/// Waits, for ten seconds at most, until something is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "did not come to pass: {what}");
}
