//! Pods that use more local storage than they may are ended: `emptyDir` volumes with a size limit, containers with a
//! limit of ephemeral storage. The kubelet's words and order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::labels;
use crate::limits::EVICTION_INTERVAL;
use crate::pod::status::Ended;
use crate::pod::{resources, spec};
use crate::shared::Shared;

/// Pods the node has decided to end, by uid.
#[derive(Default)]
pub(crate) struct Evictions {
    ended: Mutex<BTreeMap<String, Ended>>,
}

impl Evictions {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<String, Ended>) -> T) -> T {
        f(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the pod is to end, when it is.
    pub(crate) fn of(&self, uid: &str) -> Option<Ended> {
        self.with(|ended| ended.get(uid).cloned())
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.with(|ended| ended.remove(uid));
    }

    fn add(&self, uid: &str, message: String) {
        let ended = Ended { reason: "Evicted".to_owned(), message };
        self.with(|all| all.insert(uid.to_owned(), ended));
    }
}

/// Bytes of one pod's containers by name: writable layer and logs.
type Used = BTreeMap<String, u64>;

/// Looks at all pods that have such limits, again and again.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVICTION_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let pods: Vec<Arc<Pod>> = shared.desired.read(|objects| {
            let limited = objects.pods.values().filter(|pod| is_limited(pod));
            limited.filter(|pod| !spec::is_deleted(pod) && !ended(pod)).cloned().collect()
        });
        let mut layers: BTreeMap<String, Used> = BTreeMap::new();
        if pods.iter().any(|pod| spec::containers(pod).iter().any(|c| storage_limit(c).is_some())) {
            for stats in shared.runtime.list_container_stats().await.unwrap_or_default() {
                let label = |name: &str| stats.labels.get(name).cloned().unwrap_or_default();
                let of_pod = layers.entry(label(labels::POD_UID)).or_default();
                *of_pod.entry(label(labels::CONTAINER_NAME)).or_default() +=
                    stats.rootfs_used_bytes;
            }
        }
        for pod in pods {
            let uid = spec::uid(&pod).to_owned();
            let used = layers.remove(&uid).unwrap_or_default();
            let inside = shared.clone();
            let looking = move || exceeded(&inside, &pod, used);
            // Walking directories blocks.
            let message = tokio::task::spawn_blocking(looking).await.ok().flatten();
            if let Some(message) = message {
                shared.evictions.add(&uid, message);
                shared.desired.wake(&uid);
            }
        }
    }
}

fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn storage_limit(container: &Container) -> Option<i64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get("ephemeral-storage").map(resources::value)
}

/// Disk-backed `emptyDir` volumes with a limit: name, limit as written, bytes.
fn limited_volumes(pod: &Pod) -> Vec<(&str, &str, i64)> {
    let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or(&[]);
    let limit = |volume: &'_ k8s_openapi::api::core::v1::Volume| -> Option<i64> {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref().map(resources::value)?;
        (limit > 0).then_some(limit)
    };
    volumes
        .iter()
        .filter_map(|volume| {
            let bytes = limit(volume)?;
            let text = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
            Some((volume.name.as_str(), text.0.as_str(), bytes))
        })
        .collect()
}

fn is_limited(pod: &Pod) -> bool {
    !limited_volumes(pod).is_empty()
        || spec::containers(pod).iter().any(|container| storage_limit(container).is_some())
}

/// The message when the pod uses more than it may.
fn exceeded(shared: &Shared, pod: &Pod, layers: Used) -> Option<String> {
    let uid = spec::uid(pod);
    let volume = |name: &str| shared.paths.volume(uid, "empty-dir", name);
    let volumes: BTreeMap<String, u64> = limited_volumes(pod)
        .iter()
        .map(|(name, _, _)| ((*name).to_owned(), disk_usage(&volume(name))))
        .collect();
    let logs = shared.paths.pod_logs(spec::namespace(pod), spec::name(pod), uid);
    let mut used = layers;
    for container in spec::containers(pod).iter().filter(|c| storage_limit(c).is_some()) {
        *used.entry(container.name.clone()).or_default() += disk_usage(&logs.join(&container.name));
    }
    judge(pod, &volumes, &used)
}

/// Pure.
fn judge(pod: &Pod, volumes: &BTreeMap<String, u64>, used: &Used) -> Option<String> {
    let above = |used: u64, limit: i64| i64::try_from(used).unwrap_or(i64::MAX) > limit;
    for (name, text, limit) in limited_volumes(pod) {
        if above(volumes.get(name).copied().unwrap_or(0), limit) {
            return Some(format!(
                "Usage of EmptyDir volume \"{name}\" exceeds the limit \"{text}\". "
            ));
        }
    }
    for container in spec::containers(pod) {
        let Some(limit) = storage_limit(container) else { continue };
        if above(used.get(&container.name).copied().unwrap_or(0), limit) {
            let limits = container.resources.as_ref().and_then(|of| of.limits.as_ref());
            let text = limits.and_then(|limits| limits.get("ephemeral-storage"));
            let text = text.map(|text| text.0.as_str()).unwrap_or_default();
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit \"{text}\". ",
                container.name
            ));
        }
    }
    None
}

/// Bytes below a directory as the disk has them. What vanishes meanwhile does not count.
fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    let mut todo: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks() * 512;
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_of_local_storage_are_kept() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": "1Mi"}}},
                {"name": "b"}
            ],
            "volumes": [
                {"name": "v", "emptyDir": {"sizeLimit": "10Mi"}},
                {"name": "free", "emptyDir": {}}
            ]
        }}))
        .unwrap();
        let map = |list: &[(&str, u64)]| -> BTreeMap<String, u64> {
            list.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()
        };
        assert!(is_limited(&pod));
        assert_eq!(
            judge(&pod, &map(&[("v", 10 << 20)]), &map(&[("a", 1 << 20), ("b", 1 << 40)])),
            None
        );
        assert_eq!(
            judge(&pod, &map(&[("v", (10 << 20) + 1)]), &map(&[])).as_deref(),
            Some("Usage of EmptyDir volume \"v\" exceeds the limit \"10Mi\". ")
        );
        assert_eq!(
            judge(&pod, &map(&[]), &map(&[("a", (1 << 20) + 1)])).as_deref(),
            Some("Container a exceeded its local ephemeral storage limit \"1Mi\". ")
        );
    }

    #[test]
    fn a_directory_is_measured_with_everything_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![1; 1 << 20]).unwrap();
        let used = disk_usage(dir.path());
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
        assert_eq!(disk_usage(&dir.path().join("missing")), 0);
    }
}
