//! After the faults: all comes to rest, and what there is then, on the API and on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::agents::{all, environment};
use super::{Evidence, POD_UID, RUN, Shared, change};
use crate::check::kube;
use crate::limits::CONVERGED_MAX;
use crate::real::client::Connection;
use crate::real::workload::{self, lock};

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);

/// What there is at a moment. Whole objects, as the API told them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Deployments.
    pub deployments: Vec<Value>,
    /// `ReplicaSets`.
    pub replicasets: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
    /// Services.
    pub services: Vec<Value>,
    /// `EndpointSlices`.
    pub slices: Vec<Value>,
    /// Nodes.
    pub nodes: Vec<Value>,
    /// Uids of pods whose containers run on this host, by how many there are; none when the nodes were there.
    pub containers: BTreeMap<String, usize>,
}

/// Waits until nothing of it is wrong, or for [`CONVERGED_MAX`], and keeps what there is then.
pub async fn wait(
    run: &workload::Shared,
    kube: &Shared,
    (directory, nodes): (&Path, usize),
    stop: &CancellationToken,
) -> Evidence {
    let mut evidence = Evidence {
        lacks: None,
        nodes: kube.nodes.clone(),
        wanted: lock(&kube.wanted).clone(),
        done: lock(&kube.done).clone(),
        surprises: lock(&kube.surprises).clone(),
        bindings: lock(&kube.bindings).values().cloned().collect(),
        converged: None,
        last: None,
    };
    let begin = Instant::now();
    while evidence.converged.is_none() && begin.elapsed() < CONVERGED_MAX {
        for master in 0..run.apis.len() {
            if let Ok(mut last) = look(run, master).await {
                match kube.nodes {
                    None => last.containers = containers(directory),
                    Some(_) => last.nodes.iter_mut().for_each(shorten),
                }
                evidence.last = Some(last);
                break;
            }
        }
        if let Some(last) = &evidence.last
            && kube::restless(last, &evidence, nodes).is_empty()
        {
            evidence.converged = Some(begin.elapsed());
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            // Asked to hurry: what there is now is no state of rest.
            () = stop.cancelled() => {
                evidence.last = None;
                break;
            }
        }
    }
    evidence
}

/// What a node of somebody else's says beside its name and conditions is nobody's business.
fn shorten(node: &mut Value) {
    let (name, conditions) = (&node["metadata"]["name"], &node["status"]["conditions"]);
    *node = json!({"metadata": {"name": name}, "status": {"conditions": conditions}});
}

async fn look(run: &workload::Shared, master: usize) -> anyhow::Result<Last> {
    let mut connection = Connection::open(run.apis[master], &run.tls).await?;
    let mut lists = Lists::default();
    for (path, list) in paths(&run.namespace).iter().zip(&mut lists) {
        *list = match connection.call(Method::GET, path, None).await {
            Ok(mut answer) if answer.code == 200 => items(&mut answer.body),
            other => anyhow::bail!("{path}: {other:?}"),
        };
    }
    Ok(Last::of(lists))
}

/// One of each of [`paths`].
pub type Lists = [Vec<Value>; 6];

/// Where all that [`Last`] has is listed.
#[must_use]
pub fn paths(namespace: &str) -> [String; 6] {
    [
        change::deployments(namespace),
        format!("/apis/apps/v1/namespaces/{namespace}/replicasets"),
        change::pods(namespace),
        change::services(namespace),
        format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
        "/api/v1/nodes".to_owned(),
    ]
}

/// The objects of a list.
#[must_use]
pub fn items(list: &mut Value) -> Vec<Value> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

impl Last {
    /// What was listed at the [`paths`], and no containers.
    #[must_use]
    pub fn of([deployments, replicasets, pods, services, slices, nodes]: Lists) -> Self {
        let containers = BTreeMap::new();
        Self { deployments, replicasets, pods, services, slices, nodes, containers }
    }
}

/// Containers of this run that run on this host, whatever anybody says of them. What a container starts has its
/// environment too, so a container is what leads its own process namespace.
fn containers(directory: &Path) -> BTreeMap<String, usize> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let run = format!("{RUN}={}", directory.display());
    let mut namespaces: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for process in all(|path| environment(path).contains(&run)) {
        use std::os::unix::fs::MetadataExt as _;
        let path = Path::new("/proc").join(process.to_string());
        let own = environment(&path);
        let uid = own.iter().find_map(|v| v.strip_prefix(POD_UID)?.strip_prefix('='));
        let namespace = std::fs::metadata(path.join("ns/pid"));
        if let (Some(uid), Ok(namespace)) = (uid, namespace) {
            namespaces.entry(uid.to_owned()).or_default().insert(namespace.ino());
        }
    }
    namespaces.into_iter().map(|(uid, all)| (uid, all.len())).collect()
}
