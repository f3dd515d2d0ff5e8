//! Everything that runs only on the leader, in order.
//!
//! One task follows the leadership. When this master begins to lead (its own first entry is applied,
//! so its view holds all that was committed before), the roles below start; when it no longer does,
//! they stop and are joined before anything of a later leadership starts. Each writes through a
//! [`LeaderStore`], which refuses writes once the leadership it was made for has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::admit::ControllerAdmit;
use quorate_api_server::agents::AgentHub;
use quorate_api_server::bootstrap;
use quorate_controllers::{Controllers, ControllersConfig, ControllersMetrics, NodeLiveness};
use quorate_points::{self as points, Point};
use quorate_scheduler::{Config as SchedulerConfig, Parts, Scheduler, Seed};
use quorate_store::{Clock, LeaderStore, Leadership, Masters, Recorder, Store};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handover::{HandedOver, look_after_fitness};
use super::living::Living;
use super::membership::{MembershipRules, look_after_members};
use super::{news, objects};

/// Bootstrap objects that could not be written are tried again after this.
const BOOTSTRAP_RETRY: Duration = Duration::from_millis(200);

/// Roles that ended though the leadership has not are started again after this.
const ROLES_RETRY: Duration = Duration::from_millis(200);

/// So long a master that stops waits for what it was doing as leader; then that is broken off, as by a crash: a write
/// that no majority takes has no end.
const ROLES_END_MAX: Duration = Duration::from_secs(2);

/// What the roles need.
pub(crate) struct Roles {
    /// Where pods of this host reach the API, beside the masters' own addresses.
    pub(crate) pod_facing: Option<SocketAddr>,
    pub(crate) store: Store,
    pub(crate) masters: Masters,
    pub(crate) membership: MembershipRules,
    pub(crate) handed: HandedOver,
    pub(crate) admit: Arc<ControllerAdmit>,
    pub(crate) hub: AgentHub,
    pub(crate) clock: Clock,
    pub(crate) controllers: ControllersConfig,
    pub(crate) controllers_metrics: ControllersMetrics,
    pub(crate) scheduler_metrics: quorate_scheduler::Metrics,
}

/// Follows the leadership until `stop`.
pub(crate) async fn follow(roles: Roles, stop: CancellationToken) {
    let mut leadership = roles.store.leadership();
    loop {
        let leads = matches!(*leadership.borrow_and_update(), Leadership::Leader { .. });
        let lead = if leads { roles.store.lead() } else { None };
        if let Some(lead) = lead {
            let term = lead.term();
            tracing::info!(term, "this master leads");
            points::pass(Point::LeaderRoles);
            run(&roles, lead, &mut leadership, &stop).await;
            if stop.is_cancelled() {
                return;
            }
            // Looked at anew, not waited for: this master may lead in a later term by now, and that
            // change may have been seen already.
            if roles.store.lead().is_some_and(|lead| lead.term() == term) {
                tracing::warn!(term, "roles of the leader have ended; they start again");
                tokio::time::sleep(ROLES_RETRY).await;
            } else {
                tracing::info!(term, "this master no longer leads");
            }
            continue;
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Runs all roles under one leadership; returns when it has ended and everything is joined.
async fn run(
    roles: &Roles,
    lead: LeaderStore,
    leadership: &mut watch::Receiver<Leadership>,
    stop: &CancellationToken,
) {
    let ended = CancellationToken::new();
    // 1. What every cluster has (namespaces, roles, the `kubernetes` Service): controllers and
    //    clients rely on it.
    let living = Living::new(roles.masters.clone(), roles.pod_facing);
    let bootstrap =
        tokio::spawn(bootstrap(roles.admit.clone(), living, lead.clone(), ended.clone()));
    // 2. The scheduler and its events.
    let clock = roles.clock.clone();
    let recorder = Recorder::new(clock.clone());
    let mut events = tokio::spawn({
        let (recorder, lead, admit) = (recorder.clone(), lead.clone(), roles.admit.clone());
        async move { recorder.run(&lead, &*admit, "system:kube-scheduler").await }
    });
    let parts = Parts { clock: clock.clone(), recorder, metrics: roles.scheduler_metrics.clone() };
    let seed = Seed(quorate_chance::number());
    let mut scheduler = Scheduler::start(lead.clone(), SchedulerConfig::new(seed), parts);
    // 3. The controllers.
    let mut controllers = Controllers::start(
        lead.clone(),
        roles.admit.clone(),
        roles.controllers.clone(),
        clock,
        Arc::new(HubLiveness { hub: roles.hub.clone(), began: Instant::now() }),
        roles.controllers_metrics.clone(),
    );
    // 4. Learners that have caught up become voters, and those that never will are let go.
    let masters = roles.masters.clone();
    let membership = tokio::spawn(look_after_members(masters, roles.membership, ended.clone()));
    // 5. A leader that is not fit to lead lets another.
    let fitness = tokio::spawn(look_after_fitness(
        roles.masters.clone(),
        roles.handed.clone(),
        ended.clone(),
    ));
    // 6. What happens to the masters is told as events.
    let news =
        news::tell(roles.masters.clone(), lead.clone(), roles.admit.clone(), roles.clock.clone());
    let news = tokio::spawn(news::until(ended.clone(), news));
    // 7. And they are objects of the API.
    let objects = objects::keep(
        roles.masters.clone(),
        lead.clone(),
        roles.admit.clone(),
        roles.clock.clone(),
    );
    let objects = tokio::spawn(news::until(ended.clone(), objects));

    let (mut scheduler_ended, mut events_ended) = (false, false);
    while lead.holds() && !stop.is_cancelled() {
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { break },
            () = stop.cancelled() => {}
            () = controllers.ended() => break,
            _ = scheduler.ended() => {
                scheduler_ended = true;
                break;
            }
            _ = &mut events => {
                events_ended = true;
                break;
            }
        }
    }
    // Backwards: nothing is left that could act for this leadership.
    ended.cancel();
    controllers.stop().await;
    if !scheduler_ended {
        scheduler.stop().await;
    }
    events.abort();
    join([bootstrap, membership, fitness, news, objects], stop).await;
    if !events_ended {
        drop(events.await);
    }
}

/// Waits for the ends of these; when this master stops, no longer than [`ROLES_END_MAX`].
async fn join<const N: usize>(tasks: [JoinHandle<()>; N], stop: &CancellationToken) {
    let handles = tasks.each_ref().map(JoinHandle::abort_handle);
    let stop = stop.clone();
    let breaks_off = tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(ROLES_END_MAX).await;
        tracing::info!("what this leader was writing is broken off: it stops");
        handles.iter().for_each(AbortHandle::abort);
    });
    for task in tasks {
        drop(task.await);
    }
    breaks_off.abort();
}

/// Writes the beginnings, then keeps what the leader owes.
async fn bootstrap(
    admit: Arc<ControllerAdmit>,
    mut living: Living,
    lead: LeaderStore,
    ended: CancellationToken,
) {
    while let Err(error) = bootstrap::bootstrap(&lead, &admit).await {
        if !lead.holds() || ended.is_cancelled() {
            return;
        }
        let error = anyhow::Error::from(error);
        tracing::warn!("the beginnings of the cluster could not be written: {error:#}");
        tokio::select! {
            () = tokio::time::sleep(BOOTSTRAP_RETRY) => {}
            () = ended.cancelled() => return,
        }
    }
    // Names are resolved here, where nothing else waits for them.
    let (told, masters) = watch::channel(living.now().await);
    tokio::join!(
        living.follow(told, ended.clone()),
        bootstrap::duties(lead, admit, masters, ended),
    );
}

/// The agents' heartbeats, as the node lifecycle controller wants them: only what was heard since
/// this leadership began counts, so that a new leader gives every node a full grace period.
struct HubLiveness {
    hub: AgentHub,
    began: Instant,
}

impl NodeLiveness for HubLiveness {
    fn silent_for(&self, node: &str) -> Option<Duration> {
        self.hub.liveness().age(node).filter(|age| *age <= self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stops_waits_for_no_write_that_nobody_takes() {
        let stuck = || tokio::spawn(std::future::pending::<()>());
        let stop = CancellationToken::new();
        let long = Duration::from_secs(3_600);
        let tasks = [stuck(), tokio::spawn(async {})];
        let waits = tokio::time::timeout(long, join(tasks, &stop)).await;
        assert!(waits.is_err(), "a leadership that was lost ends in order");
        stop.cancel();
        let begin = Instant::now();
        join([stuck(), stuck()], &stop).await;
        assert_eq!(begin.elapsed().as_secs(), ROLES_END_MAX.as_secs());
        let begin = Instant::now();
        join([tokio::spawn(async {})], &stop).await;
        assert_eq!(begin.elapsed().as_secs(), 0);
    }
}
