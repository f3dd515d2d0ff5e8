//! Composition: starts the parts in order, and stops them so that pods go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::NodeStatus;
use quorate_proto::agent::OpenChannel;
use quorate_proto::agent::node_agent_client::NodeAgentClient;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use crate::config::Config;
use crate::desired::Desired;
use crate::events::{Kind, Recorder};
use crate::images::Puller;
use crate::limits::{
    CHECKPOINT_INTERVAL, LOG_ROTATE_INTERVAL, NODE_STATUS_INTERVAL, NODE_STATUS_RESEND,
    RELIST_INTERVAL, RUNTIME_EVENTS_PAUSE, RUNTIME_EVENTS_RETRY,
};
use crate::link::{self, Hooks, Link, channels};
use crate::network::cni;
use crate::node::Usage;
use crate::paths::Paths;
use crate::pleg::Pleg;
use crate::pod::config::parse_resolv_conf;
use crate::pod::worker::Worker;
use crate::probe::Probers;
use crate::runtime::{self, Runtime};
use crate::shared::{Machine, Shared};
use crate::thresholds::Threshold;
use crate::volume::tokens::TokenCache;
use crate::{checkpoint, eviction, image_gc, logs, node, services};

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("agent directory {path}")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The runtime does not answer.
    #[error("container runtime")]
    Runtime(#[source] runtime::Error),
}

/// A running agent. Dropping it without [`Agent::shutdown`] leaves its tasks to the tokio runtime.
pub struct Agent {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Agent {
    /// Starts the agent: adopts what runs, then dials the masters. Returns as soon as the runtime has answered; masters
    /// need not be there.
    pub async fn start(config: Config, runtime: Arc<dyn Runtime>) -> Result<Agent, StartError> {
        let paths = Paths::new(&config.data_dir);
        for path in [paths.logs(), paths.state(), paths.pods_data()] {
            std::fs::create_dir_all(&path)
                .map_err(|source| StartError::Directory { path, source })?;
        }
        let version = runtime.version().await.map_err(StartError::Runtime)?;
        let config = Arc::new(config);
        let usage = usage(&config, &paths);
        let machine = Machine {
            host_ips: node::host_ips(&config),
            memory_bytes: i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX),
            allocatable: usage.allocatable(&config.thresholds),
        };
        let desired = Arc::new(Desired::default());
        if let Some(objects) = checkpoint::load(&paths, &config.node_name) {
            tracing::info!(pods = objects.pods.len(), "pods of the last run are taken over");
            desired.restore(objects);
        }
        let link = Arc::new(Link::new());
        let events = Recorder::new(link.clone(), config.node_name.clone());
        let resolv = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
        let shared = Arc::new(Shared {
            paths,
            version,
            pleg: Pleg::new(runtime.clone(), config.node_name.clone()),
            puller: Puller::new(runtime.clone()),
            probers: Probers::new(runtime.clone(), desired.clone(), events.clone()),
            tokens: TokenCache::default(),
            evictions: eviction::Evictions::default(),
            host_dns: parse_resolv_conf(&resolv),
            workers: Mutex::new(BTreeMap::new()),
            runtime,
            machine,
            desired,
            link,
            events,
            config,
        });
        let agent = Agent { shared, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        agent.spawn_all();
        Ok(agent)
    }

    fn spawn_all(&self) {
        let shared = &self.shared;
        shared.events.node(Kind::Normal, "Starting", "Starting kubelet.");
        let hooks = Arc::new(NodeHooks {
            shared: shared.clone(),
            tasks: self.tasks.clone(),
            status: Mutex::new(NodeStatus::default()),
        });
        self.spawn(keep_node_status(shared.clone(), hooks.clone()));
        self.spawn(keep_workers(shared.clone(), self.tasks.clone(), self.stop.clone()));
        self.spawn(relist(shared.clone()));
        self.spawn(keep_checkpoint(shared.clone()));
        self.spawn(rotate_logs(shared.clone()));
        self.spawn(eviction::keep(shared.clone()));
        // Where a full disk is no concern, it is not emptied either.
        if shared.config.thresholds.disk != Threshold::NONE {
            self.spawn(image_gc::keep(shared.clone()));
        }
        if let Some(network) = shared.config.network.clone() {
            self.spawn(services::keep(shared.clone(), network));
        }
        let (config, desired, link) =
            (shared.config.clone(), shared.desired.clone(), shared.link.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            hooks.ready().await;
            link::run(config, desired, link, hooks, stop).await;
        });
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = future => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// The master this agent speaks to now.
    pub fn connected_master(&self) -> Option<String> {
        self.shared.link.connected()
    }

    /// Stops the agent. Pods keep running; the next agent on this data directory adopts them.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        save_checkpoint(&self.shared);
    }
}

fn usage(config: &Config, paths: &Paths) -> Usage {
    config.usage.clone().unwrap_or_else(|| node::measure(paths.root()))
}

/// A worker for each pod that is wanted or still there, and wake-ups to them.
async fn keep_workers(shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let wake = shared.desired.next_wake().await;
        let (mut uids, synced): (BTreeSet<String>, bool) =
            shared.desired.read(|objects| (objects.pods.keys().cloned().collect(), objects.synced));
        if synced {
            // What runs and is not wanted needs somebody to end it.
            uids.extend(shared.pleg.last().keys().cloned());
        }
        let mut workers = shared.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for uid in &uids {
            if workers.contains_key(uid) {
                continue;
            }
            let notify = Arc::new(Notify::new());
            workers.insert(uid.clone(), notify.clone());
            let worker = Worker::new(shared.clone(), uid.clone(), notify);
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = worker.run() => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        for (uid, notify) in workers.iter() {
            if wake.all || wake.uids.contains(uid) {
                notify.notify_one();
            }
        }
    }
}

/// Looks at the runtime every second, and as soon as it says that something happened.
async fn relist(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(RELIST_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut events = shared.runtime.watch();
    let mut ended: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            event = events.next(), if ended.is_none() => match event {
                // What else happens in this moment is seen by the same look.
                Some(()) => tokio::time::sleep(RUNTIME_EVENTS_PAUSE).await,
                None => ended = Some(Instant::now()),
            },
        }
        if ended.is_none() {
            while events.next().now_or_never().flatten().is_some() {}
        }
        if ended.is_some_and(|ended| ended.elapsed() >= RUNTIME_EVENTS_RETRY) {
            events = shared.runtime.watch();
            ended = None;
        }
        match shared.pleg.changes().await {
            Ok(changed) => {
                for uid in changed {
                    shared.desired.wake(&uid);
                }
            }
            Err(error) => tracing::debug!(%error, "runtime cannot be listed"),
        }
    }
}

async fn keep_checkpoint(shared: Arc<Shared>) {
    let mut saved: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut ticks = tokio::time::interval(CHECKPOINT_INTERVAL);
    loop {
        ticks.tick().await;
        let versions = shared.desired.read(|objects| {
            let pods = objects
                .pods
                .iter()
                .map(|(uid, pod)| (uid.clone(), pod.metadata.resource_version.clone()));
            let maps = objects.config_maps.iter().map(|((namespace, name), map)| {
                (format!("{namespace}/{name}"), map.metadata.resource_version.clone())
            });
            let secrets = objects.secrets.iter().map(|((namespace, name), secret)| {
                (format!("{namespace}/{name} secret"), secret.metadata.resource_version.clone())
            });
            let all = pods.chain(maps).chain(secrets);
            objects.synced.then(|| all.collect::<BTreeMap<_, _>>())
        });
        if let Some(versions) = versions.filter(|versions| *versions != saved) {
            save_checkpoint(&shared);
            saved = versions;
        }
    }
}

fn save_checkpoint(shared: &Shared) {
    let objects = shared.desired.read(Clone::clone);
    if !objects.synced {
        // Nothing new was heard: the old one stands.
        return;
    }
    if let Err(error) = checkpoint::save(&shared.paths, &shared.config.node_name, &objects) {
        tracing::warn!(%error, "checkpoint not written");
    }
}

async fn rotate_logs(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOG_ROTATE_INTERVAL);
    loop {
        ticks.tick().await;
        let mut files = Vec::new();
        for listing in shared.pleg.last().values() {
            let paths: BTreeMap<_, _> = listing
                .sandboxes
                .iter()
                .map(|sandbox| {
                    let of = &sandbox.metadata;
                    let dir = shared.paths.pod_logs(&of.namespace, &of.name, &of.uid);
                    (sandbox.id.clone(), dir)
                })
                .collect();
            for container in &listing.containers {
                if let Some(dir) = paths.get(&container.sandbox_id) {
                    let log = crate::paths::container_log(&container.name, container.attempt);
                    files.push((container.id.clone(), dir.join(log)));
                }
            }
        }
        logs::rotate_all(shared.runtime.as_ref(), &files).await;
    }
}

/// Measures the node and tells the masters what changed.
async fn keep_node_status(shared: Arc<Shared>, hooks: Arc<NodeHooks>) {
    let mut ticks = tokio::time::interval(NODE_STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sent: Option<Instant> = None;
    let mut cidrs: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tokio::time::sleep(RELIST_INTERVAL) => {
                // The pod CIDR should not wait for the next measurement.
                if tell_cidrs(&shared, &mut cidrs).await { ticks.reset_immediately(); }
                continue;
            }
        }
        tell_cidrs(&shared, &mut cidrs).await;
        let runtime = shared.runtime.status().await;
        let images = shared.runtime.list_images().await.unwrap_or_default();
        let usage = usage(&shared.config, &shared.paths);
        let previous = hooks.current();
        let error = runtime.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let status = node::status(&node::Inputs {
            config: &shared.config,
            host_ips: &shared.machine.host_ips,
            usage: &usage,
            version: &shared.version,
            runtime: runtime.as_ref().map_err(|_| error.as_str()),
            images: &images,
            previous: previous.conditions.is_some().then_some(&previous),
            now: quorate_chance::now(),
        });
        let due = sent.is_none_or(|sent| sent.elapsed() >= NODE_STATUS_RESEND);
        if due || node::changed(&previous, &status) {
            shared.link.outbox.node_status(node::json(&status).into());
            sent = Some(Instant::now());
        }
        hooks.set(status);
    }
}

async fn tell_cidrs(shared: &Shared, known: &mut Vec<String>) -> bool {
    let spec = shared.desired.read(|objects| objects.node.as_ref().and_then(|n| n.spec.clone()));
    let Some(spec) = spec else { return false };
    let cidrs = spec.pod_cidrs.unwrap_or_else(|| spec.pod_cidr.into_iter().collect());
    if cidrs.is_empty() || cidrs == *known {
        return false;
    }
    match shared.runtime.update_pod_cidrs(&cidrs).await {
        Ok(()) => {
            write_cni(shared, &cidrs).await;
            *known = cidrs;
            true
        }
        Err(error) => {
            tracing::warn!(%error, "runtime did not take the pod CIDRs");
            false
        }
    }
}

/// The network of a CRI runtime's pods, where nobody else has configured one.
async fn write_cni(shared: &Shared, cidrs: &[String]) {
    let config = &shared.config;
    let (Some(directory), Some(network)) = (&config.cni_conf_dir, &config.network) else { return };
    let bridge = network.bridge();
    network.clear_abandoned(Some(directory)).await;
    if let Some(other) = cni::others_in(directory, &bridge) {
        tracing::info!(%other, "pods use the network that is configured already");
        return;
    }
    match cni::write_config(directory, &bridge, &bridge, cidrs) {
        Ok(path) => tracing::info!(path = %path.display(), "network of the pods configured"),
        Err(error) => tracing::warn!(%error, "network of the pods cannot be configured"),
    }
    // The plugin takes the bridge as it finds it. Made here, it routes what services need, like the built-in one's.
    if let Err(error) = network.set_cidrs(cidrs).await {
        let error = crate::builtin::image::chain(&error);
        tracing::warn!(%error, "bridge of the pods cannot be made ready");
    }
}

struct NodeHooks {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    status: Mutex<NodeStatus>,
}

impl NodeHooks {
    fn current(&self) -> NodeStatus {
        self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set(&self, status: NodeStatus) {
        *self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = status;
    }

    /// The first measurement: masters should not be told of a node without capacity.
    async fn ready(&self) {
        while self.current().conditions.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Hooks for NodeHooks {
    fn node(&self) -> Vec<u8> {
        node::json(&node::object(&self.shared.config, self.current()))
    }

    fn pod_uids(&self) -> Vec<String> {
        let workers = self.shared.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut uids: BTreeSet<String> = workers.keys().cloned().collect();
        drop(workers);
        uids.extend(self.shared.pleg.last().keys().cloned());
        uids.into_iter().collect()
    }

    fn open_channel(&self, client: NodeAgentClient<Channel>, request: OpenChannel) {
        self.tasks.spawn(channels::serve(self.shared.clone(), client, request));
    }
}
