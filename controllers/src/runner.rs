//! The one loop that runs all controllers: wake, follow, plan, carry out, look again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use quorate_mutants::{self as mutants, Mutant};
use quorate_store::{Clock, Error, Published};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::batch::{Carried, Executor, Job, Outside};
use crate::config::ControllersConfig;
use crate::limits::{
    BATCH_TIMEOUT, BATCHES_IN_FLIGHT_MAX, COMPACTION_PERIOD, KEYS_PER_TURN_MAX, OUTSIDE_KEYS_MAX,
    PAUSE_NOTICED, PAUSE_WATCH, PROPOSAL_OPS_MAX,
};
use crate::liveness::NodeLiveness;
use crate::metrics::ControllersMetrics;
use crate::plan::{Controller, Ctx, Plan, WorkKey};
use crate::queue::{Finish, Queue};
use crate::world::World;
use crate::{compactor::Compactor, controllers, wake};

/// The next one that comes; never returns when none can.
async fn next_root_ca(changes: &mut Option<watch::Receiver<String>>) -> String {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return changes.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// Longest sleep when nothing is to be done.
const IDLE: Duration = Duration::from_secs(3600);

/// See the module.
pub(crate) struct Runner {
    pub(crate) executor: Executor,
    pub(crate) config: ControllersConfig,
    pub(crate) clock: Clock,
    pub(crate) liveness: Arc<dyn NodeLiveness>,
    pub(crate) metrics: ControllersMetrics,
    world: World,
    queue: Queue,
    in_flight: JoinSet<(Vec<WorkKey>, Option<Carried>)>,
    /// Keys that wait for somebody outside.
    outside: JoinSet<(Vec<WorkKey>, Option<Carried>)>,
    watching_since: Instant,
    looked_at: Instant,
}

impl Runner {
    pub(crate) fn new(
        executor: Executor,
        config: ControllersConfig,
        clock: Clock,
        liveness: Arc<dyn NodeLiveness>,
        metrics: ControllersMetrics,
    ) -> Self {
        let now = Instant::now();
        Self {
            executor,
            config,
            clock,
            liveness,
            metrics,
            world: World::default(),
            queue: Queue::default(),
            in_flight: JoinSet::new(),
            outside: JoinSet::new(),
            watching_since: now,
            looked_at: now,
        }
    }

    /// Runs until it is stopped or the leadership ends; everything it started is joined then.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Option<Error> {
        let ended = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => None,
            error = self.turns() => Some(error),
        };
        self.in_flight.shutdown().await;
        self.outside.shutdown().await;
        ended
    }

    async fn turns(&mut self) -> Error {
        let mut published = self.executor.store.published();
        let start = Instant::now();
        let mut resync =
            interval_at(start + self.config.min_resync_period, self.config.min_resync_period);
        let mut pause_watch = interval_at(start, PAUSE_WATCH);
        let mut compaction = interval_at(start + COMPACTION_PERIOD, COMPACTION_PERIOD);
        for ticks in [&mut resync, &mut pause_watch, &mut compaction] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut compactor = Compactor::default();
        let mut root_ca = self.config.root_ca_changes.clone();
        if let Some(changes) = &mut root_ca {
            self.config.root_ca_pem.clone_from(&changes.borrow_and_update());
        }
        loop {
            published.borrow_and_update();
            self.follow();
            self.dispatch();
            let more = self.queue.ready() > 0 && self.in_flight.len() < BATCHES_IN_FLIGHT_MAX;
            let timer = self.queue.next_timer().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                // Other tasks get their turn also when there is always something to do.
                () = tokio::task::yield_now(), if more => {}
                changed = wait_change(&mut published) => if let Err(error) = changed {
                    return error;
                },
                Some(done) = self.in_flight.join_next(), if !self.in_flight.is_empty() => {
                    if let Some(fatal) = self.take_done(done) {
                        return fatal;
                    }
                }
                Some(done) = self.outside.join_next(), if !self.outside.is_empty() => {
                    if let Some(fatal) = self.take_done(done) {
                        return fatal;
                    }
                }
                () = sleep_until(timer), if !more && self.in_flight.len() < BATCHES_IN_FLIGHT_MAX => {}
                pem = next_root_ca(&mut root_ca) => self.take_root_ca(pem),
                _ = resync.tick() => self.resync(),
                _ = pause_watch.tick() => self.notice_pause(),
                _ = compaction.tick() => {
                    let now = Instant::now();
                    if let Some(fatal) = compactor.run(&self.executor.store, &self.config, now).await {
                        return fatal;
                    }
                }
            }
        }
    }

    fn follow(&mut self) {
        let view = self.executor.store.view();
        if view.revision() == self.world.view().revision() {
            return;
        }
        let now = Instant::now();
        let forgets = self.world.view().revision().0 == 0 && mutants::is(Mutant::LeaderForgets);
        let changes = self.world.follow(view, self.clock.now(), now);
        if forgets {
            return;
        }
        let queue = &mut self.queue;
        wake::wakes(&self.world, &changes, &mut |key| queue.wake(key, now));
        self.metrics.set_ready(self.queue.ready());
    }

    /// Plans what is due, within what may be on its way at once.
    fn dispatch(&mut self) {
        let mut planned = 0;
        while self.in_flight.len() < BATCHES_IN_FLIGHT_MAX && planned < KEYS_PER_TURN_MAX {
            let mut jobs = Vec::new();
            let mut steps = 0;
            while steps < PROPOSAL_OPS_MAX && planned < KEYS_PER_TURN_MAX {
                let now = Instant::now();
                let Some(due) = self.queue.pop(now) else {
                    break;
                };
                planned += 1;
                let Some(plan) = self.plan(&due.key, now) else {
                    let defect = Finish::Failed("the plan panicked".to_owned());
                    self.metrics.failed(due.key.controller);
                    self.queue.finish(&due.key, defect, None, now);
                    continue;
                };
                if plan.steps.is_empty() && plan.events.is_empty() {
                    let done = Finish::Done { wrote: false };
                    self.queue.finish(&due.key, done, plan.wake_after, now);
                    continue;
                }
                if due.by_resync && !plan.steps.is_empty() {
                    tracing::warn!(key = ?due.key, "only the resync found this");
                    self.metrics.repaired_by_resync(due.key.controller);
                }
                steps += plan.steps.len();
                jobs.push(Job { key: due.key, plan });
            }
            if jobs.is_empty() {
                break;
            }
            self.spawn(jobs);
        }
    }

    /// `None` when the plan panicked: a defect that one object brings out must not stop the
    /// controllers of all others, on every leader in turn. Plans only read, so nothing is left half
    /// done.
    fn plan(&self, key: &WorkKey, now: Instant) -> Option<Plan> {
        let watching_for = now.saturating_duration_since(self.watching_since);
        let silence = match key.controller {
            Controller::NodeLifecycle => self.silence(&key.key.object.name, now),
            _ => Duration::ZERO,
        };
        let ctx = Ctx {
            world: &self.world,
            config: &self.config,
            now: self.clock.now(),
            failure: self.queue.failure(key),
            silence,
            watching_for,
        };
        self.metrics.planned(key.controller);
        let plan = AssertUnwindSafe(|| controllers::plan(key.controller, &ctx, &key.key));
        let plan = catch_unwind(plan);
        if plan.is_err() {
            tracing::error!(?key, "plan panicked: this is a defect, please report it");
        }
        plan.ok()
    }

    /// How long ago anything was heard of a node, by whoever heard it last.
    fn silence(&self, node: &str, now: Instant) -> Duration {
        let told = self.liveness.silent_for(node);
        let seen = self.world.silence(node, now);
        told.into_iter().chain(seen).min().unwrap_or(Duration::MAX)
    }

    fn spawn(&mut self, jobs: Vec<Job>) {
        let executor = self.executor.clone();
        let view = self.world.view().clone();
        let keys: Vec<WorkKey> = jobs.iter().map(|job| job.key.clone()).collect();
        self.in_flight.spawn(async move {
            let carried = timeout(BATCH_TIMEOUT, Box::pin(executor.carry_out(view, jobs))).await;
            (keys, carried.ok())
        });
    }

    /// Takes the end of a batch; the error when nothing more can be written.
    fn take_done(
        &mut self,
        done: Result<(Vec<WorkKey>, Option<Carried>), tokio::task::JoinError>,
    ) -> Option<Error> {
        let now = Instant::now();
        match done {
            Ok((_, Some(carried))) => {
                for key in carried.keys {
                    let controller = key.key.controller;
                    self.metrics.wrote(controller, key.wrote);
                    match &key.finish {
                        Finish::Done { .. } => {}
                        Finish::Conflict => self.metrics.conflict(controller),
                        Finish::Failed(_) => self.metrics.failed(controller),
                    }
                    self.queue.finish(&key.key, key.finish, key.wake_after, now);
                }
                carried.outside.into_iter().for_each(|outside| self.spawn_outside(outside, now));
                carried.fatal
            }
            Ok((keys, None)) => {
                for key in keys {
                    let late = Finish::Failed("not decided in time".to_owned());
                    self.queue.finish(&key, late, None, now);
                }
                None
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Lets a key go on by itself.
    fn spawn_outside(&mut self, outside: Outside, now: Instant) {
        let Outside { key, rest } = outside;
        if self.outside.len() >= OUTSIDE_KEYS_MAX {
            self.metrics.failed(key.controller);
            let many = Finish::Failed("too many writes wait for webhooks".to_owned());
            return self.queue.finish(&key, many, None, now);
        }
        self.outside.spawn(async move { (vec![key], timeout(BATCH_TIMEOUT, rest).await.ok()) });
    }

    /// The API's authorities have changed: everybody who trusts them is told.
    fn take_root_ca(&mut self, pem: String) {
        self.config.root_ca_pem = pem;
        let (now, queue) = (Instant::now(), &mut self.queue);
        wake::root_ca(&self.world, &mut |key| queue.wake(key, now));
    }

    fn resync(&mut self) {
        let now = Instant::now();
        self.queue.sweep(now);
        let queue = &mut self.queue;
        wake::all(&self.world, &mut |key| queue.resync(key, now));
    }

    /// A leader that was paused gives all nodes a full new grace period.
    fn notice_pause(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.looked_at) > PAUSE_WATCH + PAUSE_NOTICED {
            tracing::warn!("this master was paused: all nodes get a new grace period");
            self.watching_since = now;
        }
        self.looked_at = now;
    }
}

async fn wait_change(published: &mut watch::Receiver<Published>) -> Result<(), Error> {
    published
        .changed()
        .await
        .map_err(|_| Error::Stopped { reason: "the store is closed".to_owned() })
}

#[cfg(test)]
mod tests;
