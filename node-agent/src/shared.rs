//! What every part of the agent holds on to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};

use crate::config::Config;
use crate::desired::Desired;
use crate::events::Recorder;
use crate::eviction::Evictions;
use crate::images::Puller;
use crate::link::Link;
use crate::paths::Paths;
use crate::pleg::Pleg;
use crate::pod::spec;
use crate::probe::Probers;
use crate::runtime::{DnsConfig, Runtime, RuntimeVersion};
use crate::volume::tokens::TokenCache;

/// The node, as measured at the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) host_ips: Vec<String>,
    pub(crate) memory_bytes: i64,
    /// Thousandths of CPU, bytes of memory, bytes of storage.
    pub(crate) allocatable: (i64, i64, i64),
}

/// The agent's inside.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) paths: Paths,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) version: RuntimeVersion,
    pub(crate) desired: Arc<Desired>,
    pub(crate) link: Arc<Link>,
    pub(crate) pleg: Pleg,
    pub(crate) puller: Puller,
    pub(crate) probers: Probers,
    pub(crate) tokens: TokenCache,
    pub(crate) events: Recorder,
    pub(crate) evictions: Evictions,
    pub(crate) machine: Machine,
    pub(crate) host_dns: DnsConfig,
    /// Uids of pods that have a worker.
    pub(crate) workers: Mutex<BTreeMap<String, Arc<tokio::sync::Notify>>>,
}

impl Shared {
    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.desired.read(|objects| objects.config_maps.get(&key).cloned())
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.desired.read(|objects| objects.secrets.get(&key).cloned())
    }

    /// Services that a pod's containers get variables of.
    pub(crate) fn services_for(&self, pod: &Pod) -> Vec<Arc<Service>> {
        let wanted: BTreeSet<&str> = BTreeSet::from([spec::namespace(pod), "default"]);
        self.desired.read(|objects| {
            let services = objects.services.iter();
            let ours = services.filter(|((namespace, _), _)| wanted.contains(namespace.as_str()));
            ours.map(|(_, service)| service.clone()).collect()
        })
    }

    /// The pod's image pull secrets that are known.
    pub(crate) fn pull_secrets(&self, pod: &Pod) -> Vec<Arc<Secret>> {
        let references = spec::spec(pod).and_then(|spec| spec.image_pull_secrets.as_deref());
        let names = references.unwrap_or(&[]).iter().map(|reference| &reference.name);
        names.filter_map(|name| self.secret(spec::namespace(pod), name)).collect()
    }

    pub(crate) fn cluster(&self) -> (String, Vec<String>) {
        self.desired.read(|objects| {
            let domain = objects.cluster_domain.clone();
            let domain = if domain.is_empty() { "cluster.local".to_owned() } else { domain };
            (domain, objects.cluster_dns.clone())
        })
    }
}
