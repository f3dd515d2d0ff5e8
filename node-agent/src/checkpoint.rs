//! What survives the agent: the pods it was told to run, with the ConfigMaps, services and node they need, so
//! that after
//! a crash it goes on without any master. Secrets are not written to disk: a container that needs one waits for a
//! master, a running one does not notice.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};

use crate::desired::Objects;
use crate::paths::{Paths, write_atomically};

/// Version of the file; another one is ignored (the next sync brings everything).
const VERSION: u32 = 1;

#[derive(serde::Serialize, serde::Deserialize)]
struct File {
    version: u32,
    node_name: String,
    cluster_domain: String,
    cluster_dns: Vec<String>,
    node: Option<Node>,
    pods: Vec<Pod>,
    config_maps: Vec<ConfigMap>,
    services: Vec<Service>,
}

/// Writes the checkpoint, atomically.
pub(crate) fn save(paths: &Paths, node_name: &str, objects: &Objects) -> std::io::Result<()> {
    let file = File {
        version: VERSION,
        node_name: node_name.to_owned(),
        cluster_domain: objects.cluster_domain.clone(),
        cluster_dns: objects.cluster_dns.clone(),
        node: objects.node.as_deref().cloned(),
        pods: objects.pods.values().map(|pod| (**pod).clone()).collect(),
        config_maps: objects.config_maps.values().map(|map| (**map).clone()).collect(),
        services: objects.services.values().map(|service| (**service).clone()).collect(),
    };
    let bytes = serde_json::to_vec(&file).map_err(std::io::Error::other)?;
    write_atomically(&paths.state().join("desired.json"), &bytes, 0o600)
}

/// Reads the checkpoint back; nothing when there is none, or one of another node or version.
pub(crate) fn load(paths: &Paths, node_name: &str) -> Option<Objects> {
    let bytes = std::fs::read(paths.state().join("desired.json")).ok()?;
    let file: File = serde_json::from_slice(&bytes).ok()?;
    if file.version != VERSION || file.node_name != node_name {
        return None;
    }
    let key = |namespace: Option<String>, name: Option<String>| {
        (namespace.unwrap_or_default(), name.unwrap_or_default())
    };
    let mut objects = Objects {
        cluster_domain: file.cluster_domain,
        cluster_dns: file.cluster_dns,
        node: file.node.map(Arc::new),
        ..Objects::default()
    };
    for pod in file.pods {
        objects.pods.insert(pod.metadata.uid.clone().unwrap_or_default(), Arc::new(pod));
    }
    for map in file.config_maps {
        let key = key(map.metadata.namespace.clone(), map.metadata.name.clone());
        objects.config_maps.insert(key, Arc::new(map));
    }
    for service in file.services {
        let key = key(service.metadata.namespace.clone(), service.metadata.name.clone());
        objects.services.insert(key, Arc::new(service));
    }
    Some(objects)
}
