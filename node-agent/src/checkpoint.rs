//! What survives the agent: the pods it was told to run, with the ConfigMaps, services and node they need, so
//! that after
//! a crash it goes on without any master. Secrets never reach a disk: they are kept in memory of the machine (a tmpfs),
//! so they survive the agent and not the machine's restart. After that, while no master answers, a container that needs
//! one waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};

use crate::desired::Objects;
use crate::paths::{Paths, write_atomically};

/// Version of the file; another one is ignored (the next sync brings everything).
const VERSION: u32 = 1;
/// What `statfs` says of a tmpfs.
const TMPFS_MAGIC: i128 = 0x0102_1994;

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
    write_atomically(&paths.state().join("desired.json"), &bytes, 0o600)?;
    save_secrets(paths, objects)
}

/// Where secrets may be kept; `None`: this machine has no file system in memory.
fn secrets_file(paths: &Paths) -> Option<PathBuf> {
    let bases = ["/run", "/dev/shm"].map(Path::new);
    let base = bases.into_iter().find(|base| {
        rustix::fs::statfs(*base).is_ok_and(|found| i128::from(found.f_type) == TMPFS_MAGIC)
    })?;
    // One directory for each agent of the machine.
    let root = paths.root().canonicalize().ok()?;
    let name: String = root.to_string_lossy().replace(['/', '.'], "-");
    Some(base.join("quorate").join(name).join("secrets.json"))
}

fn save_secrets(paths: &Paths, objects: &Objects) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(file) = secrets_file(paths) else { return Ok(()) };
    if objects.secrets.is_empty() {
        return match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    if let Some(dir) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let secrets: Vec<&Secret> = objects.secrets.values().map(|secret| &**secret).collect();
    let bytes = serde_json::to_vec(&secrets).map_err(std::io::Error::other)?;
    write_atomically(&file, &bytes, 0o600)
}

/// The secrets of the last run; a file that somebody else could have written does not count.
fn load_secrets(paths: &Paths) -> Vec<Secret> {
    use std::os::unix::fs::MetadataExt;
    let Some(file) = secrets_file(paths) else { return Vec::new() };
    let ours = std::fs::symlink_metadata(&file)
        .is_ok_and(|meta| meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw());
    let bytes = ours.then(|| std::fs::read(&file).ok()).flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
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
    for secret in load_secrets(paths) {
        let key = key(secret.metadata.namespace.clone(), secret.metadata.name.clone());
        objects.secrets.insert(key, Arc::new(secret));
    }
    for service in file.services {
        let key = key(service.metadata.namespace.clone(), service.metadata.name.clone());
        objects.services.insert(key, Arc::new(service));
    }
    Some(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_the_agent_and_are_on_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        std::fs::create_dir_all(paths.state()).unwrap();
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "ns", "name": "s"}, "data": {"k": "c2hoaA=="}
        }))
        .unwrap();
        let mut objects = Objects::default();
        objects.secrets.insert(("ns".to_owned(), "s".to_owned()), Arc::new(secret));
        save(&paths, "n", &objects).unwrap();
        let disk = std::fs::read_to_string(paths.state().join("desired.json")).unwrap();
        assert!(!disk.contains("c2hoaA=="));
        let loaded = load(&paths, "n").unwrap();
        match secrets_file(&paths) {
            Some(file) => {
                assert_eq!(loaded.secrets, objects.secrets);
                save(&paths, "n", &Objects::default()).unwrap();
                assert!(!file.exists(), "nothing is left of what is no longer needed");
                let _ = file.parent().map(std::fs::remove_dir);
            }
            None => assert!(loaded.secrets.is_empty()),
        }
    }
}
