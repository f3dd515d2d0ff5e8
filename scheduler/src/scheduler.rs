//! The loop: follow the store, decide a batch, propose it, look at each outcome.

use std::sync::Arc;
use std::time::Duration;

use quorate_state_machine::{Op, Outcome};
use quorate_store::{Clock, Error, EventDraft, LeaderStore, Published, Recorder, Regarding};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bind;
use crate::decide::{Decision, Profile, Seed, Unschedulable};
use crate::follow::{Follower, Seen};
use crate::framework::Rejection;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_PODS_MAX, BATCH_TIME_MAX, LEADERSHIP_CHECK, WRITE_RETRY_INITIAL,
    WRITE_RETRY_MAX,
};
use crate::metrics::Metrics;
use crate::pod::{PodInfo, ScheduledCondition};
use crate::queue::{Attempt, Queue};
use crate::view::{Change, ClusterView};

/// The name that pods give which name no scheduler.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// What a scheduler is told.
#[derive(Debug)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are placed, others are left alone.
    pub name: &'static str,
    /// The plugins.
    pub profile: Profile,
    /// Decides among equal nodes. Anything will do; a fixed one makes runs repeatable.
    pub seed: Seed,
}

impl Config {
    /// The default scheduler.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { name: DEFAULT_SCHEDULER, profile: Profile::default(), seed }
    }
}

/// What a scheduler needs beside the store.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Wall time, for conditions.
    pub clock: Clock,
    /// Takes `Scheduled` and `FailedScheduling`.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Metrics,
}

/// Why a scheduler is at its end.
#[derive(Debug)]
pub enum Ended {
    /// It was told to stop.
    Asked,
    /// Its leadership ended.
    Deposed,
    /// The store stopped.
    Store(Error),
    /// Its task panicked.
    Panicked,
}

/// A running scheduler, under one leadership.
#[derive(Debug)]
pub struct Scheduler {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Ended>,
}

impl Scheduler {
    /// Starts scheduling under the leadership of `store`, from its newest view.
    #[must_use]
    pub fn start(store: LeaderStore, config: Config, parts: Parts) -> Self {
        let (stop, stopped) = oneshot::channel();
        let worker = Worker::new(store, config, parts);
        Self { stop, task: tokio::spawn(worker.run(stopped)) }
    }

    /// Stops and waits until nothing of it runs any more. A proposal that is under way may still
    /// take effect, under the leadership that it was made for.
    pub async fn stop(self) -> Ended {
        drop(self.stop);
        self.task.await.unwrap_or(Ended::Panicked)
    }

    /// Waits until it ends by itself: with its leadership, or with the store.
    pub async fn ended(&mut self) -> Ended {
        (&mut self.task).await.unwrap_or(Ended::Panicked)
    }
}

/// The scheduler's state; the task owns it.
#[derive(Debug)]
struct Worker {
    store: LeaderStore,
    config: Config,
    parts: Parts,
    follower: Follower,
    cluster: ClusterView,
    queue: Queue,
    seed: Seed,
    /// What could help pods and was not looked at yet.
    changes: Vec<Change>,
    /// Pods with gates whose condition does not say so yet.
    gated: Vec<Arc<PodInfo>>,
    write_retry: Duration,
}

/// One pod's part of a batch.
#[derive(Debug)]
struct Planned {
    attempt: Attempt,
    began: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Bind {
        node: Arc<str>,
        ops: Vec<Op>,
    },
    /// Without an operation when the condition says it already.
    Refuse {
        why: Box<Unschedulable>,
        op: Option<Op>,
    },
    Gate {
        op: Op,
    },
}

impl Worker {
    fn new(store: LeaderStore, config: Config, parts: Parts) -> Self {
        Self {
            store,
            seed: config.seed,
            config,
            parts,
            follower: Follower::default(),
            cluster: ClusterView::default(),
            queue: Queue::default(),
            changes: Vec::new(),
            gated: Vec::new(),
            write_retry: WRITE_RETRY_INITIAL,
        }
    }

    async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Ended {
        tracing::info!(term = self.store.term(), "scheduler starts");
        let mut published = self.store.published();
        let ended = tokio::select! {
            _ = &mut stop => Ended::Asked,
            ended = self.work(&mut published) => ended,
        };
        self.parts.metrics.sizes(crate::queue::Sizes::default());
        tracing::info!(?ended, "scheduler ends");
        ended
    }

    async fn work(&mut self, published: &mut watch::Receiver<Published>) -> Ended {
        loop {
            if !self.store.holds() {
                return Ended::Deposed;
            }
            published.borrow_and_update();
            self.follow();
            let batch = self.plan();
            self.parts.metrics.sizes(self.queue.sizes());
            if batch.is_empty() && self.queue.sizes().active == 0 {
                let now = Instant::now();
                let check = now + LEADERSHIP_CHECK;
                let wake = self.queue.next().map_or(check, |next| next.min(check));
                tokio::select! {
                    changed = published.changed() => if changed.is_err() {
                        return Ended::Store(Error::Stopped { reason: "the store is closed".into() });
                    },
                    () = tokio::time::sleep_until(wake) => {}
                }
                continue;
            }
            match self.carry_out(batch).await {
                Ok(()) => self.write_retry = WRITE_RETRY_INITIAL,
                Err(Error::Deposed) => return Ended::Deposed,
                Err(error @ Error::Stopped { .. }) => return Ended::Store(error),
                Err(error) => {
                    tracing::warn!(%error, "binds were not decided; they are planned again");
                    tokio::time::sleep(self.write_retry).await;
                    self.write_retry = (self.write_retry * 2).min(WRITE_RETRY_MAX);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes over what the store says, and wakes whom it could help.
    fn follow(&mut self) {
        let view = self.store.view();
        let followed = self.follower.follow(&view, &mut self.cluster);
        self.changes.extend(followed.changes);
        let now = Instant::now();
        let before = self.queue.sizes().active;
        for seen in followed.pods {
            match seen {
                Seen::Pending(pod) if self.is_mine(&pod) => {
                    if !pod.gates.is_empty() {
                        self.gated.push(pod.clone());
                    }
                    self.queue.put(&self.config.profile, pod, now);
                }
                Seen::Pending(pod) => self.queue.remove(&pod.key),
                Seen::Settled(key) => self.queue.remove(&key),
            }
        }
        let added = self.queue.sizes().active.saturating_sub(before);
        self.parts.metrics.incoming("PodAdd", added);
        let (profile, cluster) = (&self.config.profile, &self.cluster);
        let woken = self.queue.wake(profile, cluster, &mut self.changes, now);
        self.changes.clear();
        self.parts.metrics.incoming("ClusterChange", woken);
        self.parts.metrics.incoming("UnschedulableTimeout", self.queue.flush(now));
    }

    fn is_mine(&self, pod: &PodInfo) -> bool {
        let name = &pod.scheduler_name;
        *name == self.config.name || (name.is_empty() && self.config.name == DEFAULT_SCHEDULER)
    }

    /// Decides pods against one view that evolves with each decision.
    fn plan(&mut self) -> Vec<Planned> {
        let began = Instant::now();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for pod in std::mem::take(&mut self.gated) {
            batch.extend(self.plan_gate(pod, began));
        }
        while batch.len() < BATCH_PODS_MAX && bytes < BATCH_BYTES_MAX {
            let now = Instant::now();
            if now.duration_since(began) >= BATCH_TIME_MAX {
                break;
            }
            let Some(attempt) = self.queue.pop(now) else {
                break;
            };
            let key = attempt.pod.key.clone();
            match self.plan_one(attempt, now) {
                Ok(planned) => {
                    bytes += planned.what.weight();
                    batch.push(planned);
                }
                Err(error) => {
                    tracing::error!(pod = %key, %error, "pod cannot be placed");
                    self.parts.metrics.attempt(self.config.name, "error", 0.0);
                    self.queue.again(&key, false, now);
                }
            }
        }
        batch
    }

    fn plan_one(&mut self, attempt: Attempt, began: Instant) -> Result<Planned, PlanError> {
        let pod = attempt.pod.clone();
        let stored = self.follower.stored(&pod).cloned().ok_or(PlanError::Overtaken)?;
        let seed = Seed(self.seed.draw());
        let now = self.parts.clock.now();
        match self.config.profile.decide(&self.cluster, &pod, seed) {
            Decision::Bind { node, .. } => {
                let mut ops = vec![bind::bind(&stored, &node, now)?];
                self.cluster.assume(pod.clone(), node.clone());
                match self.reserve(&pod, &node) {
                    Ok(more) => ops.extend(more),
                    Err(rejection) => {
                        self.release(&pod, &node);
                        return Err(PlanError::Reserve(rejection.reasons.join(", ")));
                    }
                }
                Ok(Planned { attempt, began, what: What::Bind { node, ops } })
            }
            Decision::Unschedulable(why) => {
                let nominated = why.nominated.as_deref();
                let told = says(pod.scheduled.as_ref(), bind::UNSCHEDULABLE, &why.message);
                let op = if told && nominated.is_none() {
                    None
                } else {
                    let reason = bind::UNSCHEDULABLE;
                    Some(bind::refuse(&stored, reason, &why.message, nominated, now)?)
                };
                Ok(Planned { attempt, began, what: What::Refuse { why, op } })
            }
        }
    }

    /// The condition of a pod that waits for its gates, when it does not say so yet.
    fn plan_gate(&mut self, pod: Arc<PodInfo>, began: Instant) -> Option<Planned> {
        if says(pod.scheduled.as_ref(), bind::SCHEDULING_GATED, bind::GATED_MESSAGE) {
            return None;
        }
        let stored = self.follower.stored(&pod)?;
        let now = self.parts.clock.now();
        let op =
            bind::refuse(stored, bind::SCHEDULING_GATED, bind::GATED_MESSAGE, None, now).ok()?;
        let attempt = Attempt { pod, number: 0, first: began };
        Some(Planned { attempt, began, what: What::Gate { op } })
    }

    /// Proposes a batch and settles each of its pods.
    async fn carry_out(&mut self, batch: Vec<Planned>) -> Result<(), Error> {
        let mut batch = batch;
        let mut ops = Vec::with_capacity(batch.len());
        for planned in &mut batch {
            ops.extend(planned.what.take_single());
        }
        self.parts.metrics.batch.observe(to_f64(ops.len()));
        let written = if ops.is_empty() { Ok(Vec::new()) } else { self.store.write(ops).await };
        let (outcomes, mut failure) = match written {
            Ok(outcomes) => (outcomes, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut outcomes = outcomes.into_iter();
        for planned in batch {
            let outcome = if planned.what.is_several() && failure.is_none() {
                match self.store.transact(planned.what.several()).await {
                    Ok(all) => all.into_iter().find(|o| o.done().is_none()).or(Some(ALL_DONE)),
                    Err(error) => {
                        failure = Some(error);
                        None
                    }
                }
            } else if planned.what.is_silent() {
                Some(ALL_DONE)
            } else {
                // Empty when the write failed: nobody knows.
                outcomes.next()
            };
            self.settle(planned, outcome);
        }
        failure.map_or(Ok(()), Err)
    }

    /// What one pod's operation came to; `None` when nobody knows.
    fn settle(&mut self, planned: Planned, outcome: Option<Outcome>) {
        let Planned { attempt, began, what } = planned;
        let (pod, now) = (&attempt.pod, Instant::now());
        let done = matches!(outcome, Some(Outcome::Done(_)));
        // Somebody else's write of the pod came first (or nobody knows): it is looked at afresh. Two
        // binds of one revision cannot both take effect.
        let overtaken = matches!(
            outcome,
            None | Some(Outcome::Conflict(_) | Outcome::NotFound | Outcome::OtherUid(_))
        );
        let seconds = now.duration_since(began).as_secs_f64();
        match what {
            What::Bind { node, .. } if done => {
                self.queue.remove(&pod.key);
                let metrics = &self.parts.metrics;
                metrics.attempt(self.config.name, "scheduled", seconds);
                metrics.pod_attempts.observe(f64::from(attempt.number));
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.tell(pod, false, "Scheduled", message);
            }
            What::Bind { node, .. } => {
                if !overtaken {
                    tracing::error!(pod = %pod.key, ?outcome, "bind was refused");
                }
                self.parts.metrics.conflicts.inc();
                self.release(pod, &node);
                self.queue.again(&pod.key, overtaken, now);
            }
            What::Refuse { why, .. } if done || !overtaken => {
                self.parts.metrics.attempt(self.config.name, "unschedulable", seconds);
                let Unschedulable { message, plugins, .. } = *why;
                self.queue.refused(&pod.key, plugins, now);
                self.tell(pod, true, "FailedScheduling", message);
            }
            What::Refuse { .. } => self.queue.again(&pod.key, true, now),
            // A newer version of the pod comes through the mirror; when nobody knows, it is asked for again.
            What::Gate { .. } if outcome.is_none() => self.gated.push(pod.clone()),
            What::Gate { .. } => {}
        }
    }

    /// Takes what the pod needs beyond the node; the operations that belong to it.
    fn reserve(&mut self, pod: &PodInfo, node: &str) -> Result<Vec<Op>, Rejection> {
        let mut ops = Vec::new();
        for plugin in self.config.profile.plugins() {
            plugin.reserve(&mut self.cluster, pod, node)?;
            ops.extend(plugin.bind(&self.cluster, pod, node));
        }
        Ok(ops)
    }

    /// Undoes what a bind that did not come true had taken.
    fn release(&mut self, pod: &PodInfo, node: &str) {
        for plugin in self.config.profile.plugins() {
            plugin.unreserve(&mut self.cluster, pod, node);
        }
        self.changes.extend(self.cluster.forget(&pod.key));
    }

    fn tell(&self, pod: &PodInfo, warning: bool, reason: &'static str, message: String) {
        self.parts.recorder.record(EventDraft {
            component: self.config.name,
            regarding: Regarding {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                namespace: pod.key.namespace.to_string(),
                name: pod.key.name.to_string(),
                uid: pod.uid.to_string(),
            },
            warning,
            reason,
            message,
        });
    }
}

/// All operations of a pod took effect, or none was needed.
const ALL_DONE: Outcome = Outcome::Done(quorate_state_machine::Revision(0));

/// Why there is no plan for a pod.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error("it was overtaken by a newer version")]
    Overtaken,
    #[error("no operation can be made")]
    Operation(#[from] bind::Error),
    #[error("what it needs is not to be had: {0}")]
    Reserve(String),
}

impl What {
    fn weight(&self) -> usize {
        match self {
            Self::Bind { ops, .. } => ops.iter().map(Op::weight).sum(),
            Self::Refuse { op, .. } => op.as_ref().map_or(0, Op::weight),
            Self::Gate { op } => op.weight(),
        }
    }

    /// The operation of a pod that has one only: it travels with those of other pods.
    fn take_single(&mut self) -> Option<Op> {
        match self {
            Self::Bind { ops, .. } if ops.len() == 1 => ops.first().cloned(),
            Self::Bind { .. } => None,
            Self::Refuse { op, .. } => op.clone(),
            Self::Gate { op } => Some(op.clone()),
        }
    }

    /// Whether it needs several operations, which must take effect together.
    fn is_several(&self) -> bool {
        matches!(self, Self::Bind { ops, .. } if ops.len() > 1)
    }

    fn several(&self) -> Vec<Op> {
        match self {
            Self::Bind { ops, .. } => ops.clone(),
            Self::Refuse { .. } | Self::Gate { .. } => Vec::new(),
        }
    }

    fn is_silent(&self) -> bool {
        matches!(self, Self::Refuse { op: None, .. })
    }
}

fn says(condition: Option<&ScheduledCondition>, reason: &str, message: &str) -> bool {
    condition.is_some_and(|condition| {
        condition.status == "False" && condition.reason == reason && condition.message == message
    })
}

#[allow(clippy::cast_precision_loss)] // sizes of batches
fn to_f64(count: usize) -> f64 {
    count as f64
}
