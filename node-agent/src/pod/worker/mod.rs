//! The life of one pod on this node: wake, observe, plan, execute, report, again. Level-triggered: a wake-up carries
//! nothing, everything is looked at anew, so that a lost or doubled wake-up does no harm.
//!
//! * `start`: sandboxes and containers.
//! * `stop`: graceful ends, removal, the last report.

mod start;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodStatus};
use tokio::sync::Notify;

use super::backoff::{Backoff, after};
use super::observed::{Observed, SandboxView};
use super::plan::{Memory, Plan, plan};
use super::status::{BY_KUBELET, Ended, Inputs, REJECTED, generate};
use super::{admission, resources, spec};
use crate::events::Kind;
use crate::limits::{
    RESYNC_INTERVAL, SYNC_RETRY, SYNC_RETRY_MAX, TERMINATION_LOG_BYTES_MAX,
    TERMINATION_LOG_LINES_MAX, TERMINATION_MESSAGE_BYTES_MAX, TOLD_MAX,
};
use crate::link::{Acked, PodKey};
use crate::pod::env::Sources;
use crate::runtime::{ContainerId, ContainerState, ContainerStatus, Result, SandboxState};
use crate::shared::Shared;
use crate::volume::{self, VolumePaths};
use crate::{labels, logs};

/// Conditions that the agent writes; others belong to others.
const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// When to look again.
enum Step {
    Again,
    At(Timestamp),
    Done,
}

/// One pod's worker.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    uid: String,
    wake: Arc<Notify>,
    /// The pod as last wanted; stays when its object is gone.
    pod: Option<Arc<Pod>>,
    memory: Memory,
    image_backoff: BTreeMap<String, Backoff>,
    status: PodStatus,
    reported: Option<PodStatus>,
    ended: Option<Ended>,
    resize_refused: Option<String>,
    /// The final status is made, and what it is made from may go.
    finalized: bool,
    gone_reported: bool,
    volumes: Option<VolumePaths>,
    ended_containers: BTreeMap<ContainerId, ContainerStatus>,
    told: BTreeSet<(String, String)>,
    retry: Duration,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, uid: String, wake: Arc<Notify>) -> Self {
        Worker {
            shared,
            uid,
            wake,
            pod: None,
            memory: Memory::default(),
            image_backoff: BTreeMap::new(),
            status: PodStatus::default(),
            reported: None,
            ended: None,
            resize_refused: None,
            finalized: false,
            gone_reported: false,
            volumes: None,
            ended_containers: BTreeMap::new(),
            told: BTreeSet::new(),
            retry: SYNC_RETRY,
        }
    }

    /// Runs until nothing of the pod is left and no master wants it.
    pub(crate) async fn run(mut self) {
        loop {
            let now = quorate_chance::now();
            let at = match Box::pin(self.step()).await {
                Ok(Step::Done) => break,
                Ok(Step::Again) => {
                    self.retry = SYNC_RETRY;
                    continue;
                }
                Ok(Step::At(at)) => {
                    self.retry = SYNC_RETRY;
                    at
                }
                Err(error) => {
                    tracing::warn!(pod = %self.uid, %error, "pod is tried again");
                    let at = after(now, self.retry);
                    self.retry = (self.retry * 2).min(SYNC_RETRY_MAX);
                    at
                }
            };
            let wait =
                Duration::try_from(at.duration_since(quorate_chance::now())).unwrap_or_default();
            let _ = tokio::time::timeout(wait.min(RESYNC_INTERVAL), self.wake.notified()).await;
        }
        let ids = self.ended_containers.keys().cloned();
        self.shared.probers.forget(&self.uid, ids.chain(self.memory.started.iter().cloned()));
        self.shared.tokens.forget(&self.uid);
        self.shared.evictions.forget(&self.uid);
        self.shared.link.outbox.forget(&self.uid);
        let mut workers =
            self.shared.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        workers.remove(&self.uid);
    }

    async fn step(&mut self) -> Result<Step> {
        let wanted = self.shared.desired.pod(&self.uid);
        let synced = self.shared.desired.read(|objects| objects.synced);
        let gone = self.shared.link.outbox.acked(&self.uid) == Acked::Gone;
        let removed = (wanted.is_none() && synced) || (gone && self.gone_reported);
        if let Some(pod) = wanted {
            if self.pod.is_none() {
                self.status = pod.status.clone().unwrap_or_default();
                self.adopt_probes();
            }
            self.pod = Some(pod);
        }
        let observed = self.observe().await?;
        let Some(pod) = self.pod.clone() else {
            return if removed { self.remove_orphan(&observed).await } else { Ok(self.later()) };
        };
        self.remember(&pod, &observed);
        self.check_deadline(&pod);
        self.check_eviction(&pod);
        let settled = matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if removed || spec::is_deleted(&pod) || self.ended.is_some() || settled {
            return self.stop(&pod, observed, removed).await;
        }
        self.sync(&pod, observed).await
    }

    fn later(&self) -> Step {
        Step::At(after(quorate_chance::now(), RESYNC_INTERVAL))
    }

    /// What the runtime has of the pod now.
    async fn observe(&mut self) -> Result<Observed> {
        let listings = self.shared.pleg.fresh().await?;
        let Some(listing) = listings.get(&self.uid) else { return Ok(Observed::default()) };
        let mut observed = Observed::default();
        for sandbox in &listing.sandboxes {
            let ready = sandbox.state == SandboxState::Ready;
            let mut ips = Vec::new();
            if ready {
                let status = self.shared.runtime.pod_sandbox_status(&sandbox.id).await?;
                ips = status.ips;
            }
            let attempt = sandbox.metadata.attempt;
            observed.sandboxes.push(SandboxView { id: sandbox.id.clone(), attempt, ready, ips });
        }
        for container in &listing.containers {
            if let Some(known) = self.ended_containers.get(&container.id) {
                observed.containers.push(known.clone());
                continue;
            }
            let mut status = match self.shared.runtime.container_status(&container.id).await {
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            status.container.sandbox_id = container.sandbox_id.clone();
            if status.container.state == ContainerState::Exited {
                // It will never change again.
                self.ended_containers.insert(container.id.clone(), status.clone());
            }
            observed.containers.push(status);
        }
        self.ended_containers
            .retain(|id, _| listing.containers.iter().any(|container| container.id == *id));
        observed.sort();
        Ok(observed)
    }

    /// Takes in what probes say, and what runs without having been started by this process.
    fn remember(&mut self, pod: &Arc<Pod>, observed: &Observed) {
        let running: Vec<(Container, ContainerStatus)> = observed
            .alive()
            .filter(|status| status.container.state == ContainerState::Running)
            .filter_map(|status| {
                Some((spec::find_container(pod, &status.container.name)?, status.clone()))
            })
            .collect();
        for (container, status) in &running {
            let id = &status.container.id;
            let results = self.shared.probers.results(id);
            if container.startup_probe.is_none() || results.started == Some(true) {
                self.memory.started.insert(id.clone());
            }
            match results.failed {
                Some(kind) => self.memory.unhealthy.insert(id.clone(), kind),
                None => self.memory.unhealthy.remove(id),
            };
        }
        let ids: BTreeSet<&ContainerId> =
            observed.containers.iter().map(|s| &s.container.id).collect();
        self.memory.started.retain(|id| ids.contains(id));
        self.memory.unhealthy.retain(|id, _| ids.contains(id));
        self.memory.resized.retain(|id, _| ids.contains(id));
        self.memory.resize_errors.retain(|id, _| ids.contains(id));
        let ending = spec::is_deleted(pod) || self.ended.is_some();
        self.shared.probers.sync(pod, &running, self.pod_ip(pod, observed), ending);
    }

    fn pod_ip(&self, pod: &Pod, observed: &Observed) -> Option<IpAddr> {
        if spec::host_network(pod) {
            return self.shared.machine.host_ips.first().and_then(|ip| ip.parse().ok());
        }
        observed.sandbox().and_then(|sandbox| sandbox.ips.first().copied())
    }

    fn check_deadline(&mut self, pod: &Pod) {
        let started = self.status.start_time.as_ref().map(|time| time.0);
        let Some(deadline) = spec::deadline(pod, started) else { return };
        if self.ended.is_none() && quorate_chance::now() >= deadline && !self.finalized {
            let message = "Pod was active on the node longer than the specified deadline";
            self.ended =
                Some(Ended { reason: "DeadlineExceeded".to_owned(), message: message.to_owned() });
            self.shared.events.pod(pod, None, Kind::Normal, "DeadlineExceeded", message);
        }
    }

    /// What the masters know of its running containers, until their probes have been asked again.
    fn adopt_probes(&self) {
        let lists = [&self.status.init_container_statuses, &self.status.container_statuses];
        for status in lists.into_iter().flatten().flatten() {
            let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
            let id = status.container_id.as_deref().and_then(|id| id.split_once("://"));
            if let Some((_, id)) = id.filter(|_| running) {
                let started = status.started == Some(true);
                self.shared.probers.adopt(&ContainerId(id.to_owned()), started, status.ready);
            }
        }
    }

    /// The node has decided to end the pod.
    fn check_eviction(&mut self, pod: &Pod) {
        let Some(ended) = self.shared.evictions.of(&self.uid) else { return };
        if self.ended.is_none() && !self.finalized {
            self.shared.events.pod(pod, None, Kind::Warning, &ended.reason, &ended.message);
            self.ended = Some(ended);
        }
    }

    /// What this node does not run at all: says so, and the pod has failed.
    fn rejected(&mut self, pod: &Pod, observed: &Observed) -> bool {
        if !observed.sandboxes.is_empty() {
            return false;
        }
        let Some((reason, message)) = admission::refuse(pod) else { return false };
        self.tell(pod, None, reason, &message);
        let message = format!("{REJECTED}{message}");
        self.ended = Some(Ended { reason: reason.to_owned(), message });
        true
    }

    /// Whether the node can give what the running containers' text asks for now.
    fn check_resize(&mut self, pod: &Pod, observed: &Observed) {
        let differs = observed.alive().any(|status| {
            let given = self.memory.resized.get(&status.container.id);
            let given = given.or_else(|| status.container.annotations.get(labels::RESOURCES));
            let container = spec::find_container(pod, &status.container.name);
            given.zip(container).is_some_and(|(given, c)| resources::resize(&c, given).is_some())
        });
        let allocatable = self.shared.machine.allocatable;
        self.resize_refused = differs.then(|| resources::infeasible(pod, allocatable)).flatten();
        self.memory.resize_refused = self.resize_refused.is_some();
    }

    /// One round for a pod that should run.
    async fn sync(&mut self, pod: &Arc<Pod>, observed: Observed) -> Result<Step> {
        if self.rejected(pod, &observed) {
            return Ok(Step::Again);
        }
        let (tokens, refresh) = self.shared.tokens.collect(pod, &self.shared).await;
        let volumes = self.with_sources(pod, &observed, |shared, sources| {
            volume::set_up(&shared.paths, sources, &tokens)
        });
        match volumes {
            Ok(paths) => self.volumes = Some(paths),
            Err(error)
                if observed.ready_sandbox().is_none()
                    || self.volumes.is_none() && observed.containers.is_empty() =>
            {
                self.tell(pod, None, "FailedMount", &error.to_string());
                self.report(pod, &observed, &Plan::default(), false);
                // What is missing may come any moment, and then wakes us.
                return Ok(Step::At(after(quorate_chance::now(), SYNC_RETRY * 5)));
            }
            // Running containers keep what they have.
            Err(error) => tracing::debug!(pod = %self.uid, %error, "volume not refreshed"),
        }
        self.check_resize(pod, &observed);
        let now = quorate_chance::now();
        let plan = plan(pod, &observed, &self.memory, now);
        self.announce_waiting(pod, &plan);
        self.report(pod, &observed, &plan, false);
        if plan.finished {
            return self.stop(pod, observed, false).await;
        }
        if !plan.actions.is_empty() {
            let (shared, uid, wake) = (self.shared.clone(), self.uid.clone(), self.wake.clone());
            let outcome = tokio::select! {
                outcome = self.execute(pod, &observed, &plan) => outcome,
                () = unwanted(&shared, &uid, &wake) => Ok(()),
            };
            outcome?;
            return Ok(Step::Again);
        }
        let started = self.status.start_time.as_ref().map(|time| time.0);
        let times = [plan.wake_at, refresh, spec::deadline(pod, started), self.shown_until()];
        let next = times.into_iter().flatten().min();
        Ok(next.map_or_else(|| self.later(), Step::At))
    }

    /// Calls `f` with everything a pod's text may refer to.
    fn with_sources<T>(
        &self,
        pod: &Pod,
        observed: &Observed,
        f: impl FnOnce(&Shared, &Sources<'_>) -> T,
    ) -> T {
        let shared = &self.shared;
        let namespace = spec::namespace(pod);
        let services = shared.services_for(pod);
        let ips = observed.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let sources = Sources {
            pod,
            config_map: &|name| shared.config_map(namespace, name),
            secret: &|name| shared.secret(namespace, name),
            services: &services,
            pod_ips: &ips,
            host_ips: &shared.machine.host_ips,
            allocatable: shared.machine.allocatable,
        };
        f(shared, &sources)
    }

    /// A warning, once for each text.
    fn tell(&mut self, pod: &Pod, container: Option<&str>, reason: &str, message: &str) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if self.told.insert((reason.to_owned(), message.to_owned())) {
            self.shared.events.pod(pod, container, Kind::Warning, reason, message);
        }
    }

    /// `BackOff` events of crash loops, once for each wait.
    fn announce_waiting(&mut self, pod: &Pod, plan: &Plan) {
        for (name, waiting) in &plan.waiting {
            if waiting.reason == "CrashLoopBackOff" {
                let key = ("BackOff".to_owned(), format!("{name} {}", waiting.message));
                if self.told.insert(key) {
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}",
                        spec::full_name(pod)
                    );
                    self.shared.events.pod(pod, Some(name), Kind::Warning, "BackOff", &text);
                }
            }
        }
    }

    /// Makes the status and hands it to the outbox when it is news.
    fn report(&mut self, pod: &Pod, observed: &Observed, plan: &Plan, terminal: bool) {
        if self.finalized {
            return;
        }
        let mut previous = self.status.clone();
        let theirs = pod.status.as_ref().and_then(|status| status.conditions.clone());
        let conditions = previous.conditions.get_or_insert_default();
        conditions.retain(|condition| OWN_CONDITIONS.contains(&condition.type_.as_str()));
        conditions.extend(
            theirs
                .into_iter()
                .flatten()
                .filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str()))
                .filter(|condition| !condition.type_.starts_with("PodResize")),
        );
        let probers = &self.shared.probers;
        let ready = |status: &ContainerStatus| {
            let container = spec::find_container(pod, &status.container.name);
            let probed = container.is_some_and(|container| container.readiness_probe.is_some());
            !probed || probers.results(&status.container.id).ready == Some(true)
        };
        let status = generate(&Inputs {
            pod,
            observed,
            plan,
            memory: &self.memory,
            ready: &ready,
            message: &termination_message,
            previous: &previous,
            runtime_name: &self.shared.version.name,
            host_ips: &self.shared.machine.host_ips,
            ended: self.ended.as_ref(),
            resize_refused: self.resize_refused.as_deref(),
            terminal,
            now: quorate_chance::now(),
        });
        self.status = status.clone();
        let said = PodStatus { conditions: own_conditions(&status), ..status };
        if self.reported.as_ref() == Some(&said) {
            return;
        }
        if let Ok(bytes) = serde_json::to_vec(&said) {
            self.shared.link.outbox.report(self.key(pod), Some(bytes.into()));
        }
        self.reported = Some(said);
    }

    fn key(&self, pod: &Pod) -> PodKey {
        PodKey {
            namespace: spec::namespace(pod).to_owned(),
            name: spec::name(pod).to_owned(),
            uid: self.uid.clone(),
        }
    }
}

/// The conditions that are the agent's to set. Those of others may have changed since it heard of them: it does not
/// repeat them.
fn own_conditions(status: &PodStatus) -> Option<Vec<PodCondition>> {
    let own = |condition: &&PodCondition| {
        OWN_CONDITIONS.contains(&condition.type_.as_str())
            || condition.type_.starts_with("PodResize")
            || condition.reason.as_deref() == Some(BY_KUBELET)
    };
    Some(status.conditions.iter().flatten().filter(own).cloned().collect())
}

/// Resolves when the pod is to be stopped while it is still being started.
async fn unwanted(shared: &Shared, uid: &str, wake: &Notify) {
    loop {
        wake.notified().await;
        let synced = shared.desired.read(|objects| objects.synced);
        match shared.desired.pod(uid) {
            None if synced => return,
            Some(pod) if spec::is_deleted(&pod) => return,
            _ => {}
        }
    }
}

/// What a container left in its termination log, or the end of its log.
fn termination_message(status: &ContainerStatus) -> Option<String> {
    use std::io::{Read, Seek};
    let annotations = &status.container.annotations;
    let file = std::fs::File::open(annotations.get(labels::TERMINATION_LOG)?).ok();
    let mut bytes = Vec::new();
    if let Some(mut file) = file {
        let size = file.metadata().map_or(0, |meta| meta.len());
        // Of a long one the end counts.
        let from = size.saturating_sub(TERMINATION_MESSAGE_BYTES_MAX);
        let _ = file.seek(std::io::SeekFrom::Start(from));
        let _ = file.take(TERMINATION_MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
    }
    let policy = annotations.get(labels::TERMINATION_POLICY).map(String::as_str);
    if bytes.is_empty() && status.exit_code != 0 && policy == Some("FallbackToLogsOnError") {
        let (lines, size) = (TERMINATION_LOG_LINES_MAX, TERMINATION_LOG_BYTES_MAX);
        bytes = logs::tail(&status.log_path, lines, size).unwrap_or_default();
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_others_are_not_repeated() {
        let status: PodStatus = serde_json::from_value(serde_json::json!({"conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "example.com/gate", "status": "False"},
            {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
            {"type": "PodResizePending", "status": "True"},
            {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"},
        ]}))
        .unwrap();
        let told: Vec<String> = own_conditions(&status)
            .into_iter()
            .flatten()
            .map(|condition| condition.type_)
            .collect();
        assert_eq!(told, ["Ready", "PodResizePending", "DisruptionTarget"]);
    }
}
