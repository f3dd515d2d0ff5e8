//! Liveness, readiness and startup probes: one task per probe of a running container.

mod check;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use rand::RngExt as _;
use tokio::task::AbortHandle;

pub(crate) use check::{Outcome, Target, http_get, run as check};
use verdict::{Counter, Verdict};

use crate::desired::Desired;
use crate::events::{Kind as EventKind, Recorder};
use crate::pod::backoff::after;
use crate::pod::spec;
use crate::runtime::{ContainerId, ContainerStatus, Runtime};

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }
}

/// What the probes of one container say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) started: Option<bool>,
    pub(crate) ready: Option<bool>,
    /// The probe because of which it should be killed.
    pub(crate) failed: Option<Kind>,
}

type Key = (ContainerId, Kind);

#[derive(Default)]
struct State {
    results: BTreeMap<ContainerId, Results>,
    tasks: BTreeMap<String, BTreeMap<Key, AbortHandle>>,
}

/// All probes of the node.
pub(crate) struct Probers {
    state: Arc<Mutex<State>>,
    runtime: Arc<dyn Runtime>,
    desired: Arc<Desired>,
    events: Recorder,
}

fn with<T>(state: &Mutex<State>, f: impl FnOnce(&mut State) -> T) -> T {
    f(&mut state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Probers {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, desired: Arc<Desired>, events: Recorder) -> Self {
        Probers { state: Arc::default(), runtime, desired, events }
    }

    pub(crate) fn results(&self, id: &ContainerId) -> Results {
        with(&self.state, |state| state.results.get(id).cloned().unwrap_or_default())
    }

    /// What the masters were told of a container before this process began counts until its probes say otherwise: an
    /// agent's restart makes nobody unready.
    pub(crate) fn adopt(&self, id: &ContainerId, started: bool, ready: bool) {
        with(&self.state, |state| {
            let results = state.results.entry(id.clone()).or_default();
            results.started =
                if started { results.started.or(Some(true)) } else { results.started };
            results.ready = if ready { results.ready.or(Some(true)) } else { results.ready };
        });
    }

    /// Starts the probes of running containers, ends those of others. `ending`: the pod is being stopped, only
    /// readiness counts.
    pub(crate) fn sync(
        &self,
        pod: &Arc<Pod>,
        running: &[(Container, ContainerStatus)],
        ip: Option<IpAddr>,
        ending: bool,
    ) {
        let mut wanted: BTreeSet<Key> = BTreeSet::new();
        for (container, status) in running {
            let id = &status.container.id;
            let results = self.results(id);
            let started = container.startup_probe.is_none() || results.started == Some(true);
            let probes = [
                (Kind::Startup, &container.startup_probe, results.started != Some(true) && !ending),
                (Kind::Readiness, &container.readiness_probe, started),
                (Kind::Liveness, &container.liveness_probe, started && !ending),
            ];
            for (kind, probe, active) in probes {
                let Some(probe) = probe.as_ref().filter(|_| active) else { continue };
                wanted.insert((id.clone(), kind));
                self.start(pod, container, status, ip, (kind, probe));
            }
        }
        let uid = spec::uid(pod);
        with(&self.state, |state| {
            let tasks = state.tasks.entry(uid.to_owned()).or_default();
            tasks.retain(|key, task| {
                let keep = wanted.contains(key);
                if !keep {
                    task.abort();
                }
                keep
            });
            if tasks.is_empty() {
                state.tasks.remove(uid);
            }
        });
    }

    /// Ends everything of a pod.
    pub(crate) fn forget(&self, uid: &str, containers: impl Iterator<Item = ContainerId>) {
        with(&self.state, |state| {
            for task in state.tasks.remove(uid).unwrap_or_default().values() {
                task.abort();
            }
            for id in containers {
                state.results.remove(&id);
            }
        });
    }

    fn start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        status: &ContainerStatus,
        ip: Option<IpAddr>,
        (kind, probe): (Kind, &Probe),
    ) {
        let key = (status.container.id.clone(), kind);
        let uid = spec::uid(pod).to_owned();
        let exists = with(&self.state, |state| {
            state.tasks.get(&uid).is_some_and(|tasks| tasks.contains_key(&key))
        });
        if exists {
            return;
        }
        let task = Task {
            state: self.state.clone(),
            runtime: self.runtime.clone(),
            desired: self.desired.clone(),
            events: self.events.clone(),
            pod: pod.clone(),
            container: container.clone(),
            status: status.clone(),
            ip,
            kind,
            probe: probe.clone(),
        };
        let handle = tokio::spawn(task.run()).abort_handle();
        with(&self.state, |state| state.tasks.entry(uid).or_default().insert(key, handle));
    }
}

struct Task {
    state: Arc<Mutex<State>>,
    runtime: Arc<dyn Runtime>,
    desired: Arc<Desired>,
    events: Recorder,
    pod: Arc<Pod>,
    container: Container,
    status: ContainerStatus,
    ip: Option<IpAddr>,
    kind: Kind,
    probe: Probe,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let value = value.and_then(|value| u64::try_from(value).ok());
    Duration::from_secs(value.unwrap_or(default))
}

impl Task {
    async fn run(self) {
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        let started = self.status.started_at.unwrap_or(self.status.container.created_at);
        let first = after(started, delay).duration_since(quorate_chance::now());
        // After the agent's restart old containers are probed at random moments of the period, not all at once.
        let wait = Duration::try_from(first)
            .unwrap_or_else(|_| period.mul_f64(quorate_chance::rng().random::<f64>()));
        let fresh = started.duration_since(quorate_chance::now()).unsigned_abs() < period;
        tokio::time::sleep(if first.is_negative() && fresh { Duration::ZERO } else { wait }).await;
        let ready = with(&self.state, |state| {
            let results = state.results.get(&self.status.container.id);
            results.and_then(|results| results.ready) == Some(true)
        });
        let mut counter = Counter::new(self.kind, &self.probe, ready);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.once().await;
            if let Some((reason, word, text)) = outcome.complaint() {
                let message = format!("{} probe {word}: {text}", self.kind.name());
                let name = Some(self.container.name.as_str());
                self.events.pod(&self.pod, name, EventKind::Warning, reason, &message);
            }
            if let Some(verdict) = counter.count(outcome.succeeded()) {
                self.publish(verdict);
                // A container that is to be killed is not asked again, nor one that has started.
                if self.kind != Kind::Readiness
                    && (self.kind == Kind::Startup || verdict == Verdict::Failure)
                {
                    return std::future::pending().await;
                }
            }
        }
    }

    async fn once(&self) -> Outcome {
        let timeout = seconds(self.probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let target = Target {
            runtime: self.runtime.as_ref(),
            container_id: &self.status.container.id,
            container: &self.container,
            ip: self.ip,
        };
        check(&self.probe, &target, timeout).await
    }

    fn publish(&self, verdict: Verdict) {
        let good = verdict == Verdict::Success;
        with(&self.state, |state| {
            let results = state.results.entry(self.status.container.id.clone()).or_default();
            match self.kind {
                Kind::Readiness => results.ready = Some(good),
                Kind::Startup => {
                    results.started = Some(good);
                    if !good {
                        results.failed = Some(Kind::Startup);
                    }
                }
                Kind::Liveness => {
                    results.failed = (!good).then_some(Kind::Liveness);
                }
            }
        });
        self.desired.wake(spec::uid(&self.pod));
    }
}
