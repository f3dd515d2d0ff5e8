//! The end of a pod: containers asked to go and then made to, the last status, removal, the last word.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{Step, Worker};
use crate::events::Kind;
use crate::labels;
use crate::limits::SYNC_RETRY;
use crate::link::Acked;
use crate::pod::backoff::after;
use crate::pod::observed::Observed;
use crate::pod::plan::Plan;
use crate::pod::{hooks, spec};
use crate::runtime::{ContainerId, Result};
use crate::volume;

/// Every container gets this long at least, whatever its pod says.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// Evicted pods get no more, whatever they ask for.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

impl Worker {
    /// One round for a pod that should end, or has.
    pub(super) async fn stop(
        &mut self,
        pod: &Arc<Pod>,
        observed: Observed,
        removed: bool,
    ) -> Result<Step> {
        if observed.alive().next().is_some() && observed.ready_sandbox().is_some() {
            self.report(pod, &observed, &Plan::default(), false);
            let evicted = self.ended.as_ref().is_some_and(|ended| ended.reason == "Evicted");
            let grace = if evicted { EVICTION_GRACE } else { spec::grace_period(pod) };
            let (shared, uid, wake) = (self.shared.clone(), self.uid.clone(), self.wake.clone());
            let shortened = async {
                loop {
                    wake.notified().await;
                    let now = shared.desired.pod(&uid).map(|pod| spec::grace_period(&pod));
                    if now.is_some_and(|now| now < grace) {
                        return;
                    }
                }
            };
            tokio::select! {
                result = self.kill_all(pod, &observed, grace) => result?,
                () = shortened => {}
            }
            return Ok(Step::Again);
        }
        for sandbox in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
            self.shared.runtime.stop_pod_sandbox(&sandbox.id).await?;
        }
        if observed.sandboxes.iter().any(|sandbox| sandbox.ready) {
            return Ok(Step::Again);
        }
        self.report(pod, &observed, &Plan::default(), true);
        self.finalized = true;
        self.shared.probers.forget(&self.uid, std::iter::empty());
        volume::tear_down(&self.shared.paths, &self.uid).unwrap_or_else(|error| {
            tracing::warn!(pod = %self.uid, %error, "volumes stay for now");
        });
        if !removed && !spec::is_deleted(pod) {
            // Its containers stay for `kubectl logs` until it is deleted.
            return Ok(self.later());
        }
        self.remove(pod, &observed, removed).await
    }

    async fn remove(&mut self, pod: &Pod, observed: &Observed, removed: bool) -> Result<Step> {
        let acked = self.shared.link.outbox.acked(&self.uid);
        if !removed && !self.gone_reported && acked == Acked::Waiting {
            // The final status first: who watches wants to see how it ended.
            return Ok(Step::At(after(quorate_chance::now(), SYNC_RETRY)));
        }
        let runtime = &self.shared.runtime;
        for status in &observed.containers {
            runtime.remove_container(&status.container.id).await?;
        }
        for sandbox in &observed.sandboxes {
            runtime.remove_pod_sandbox(&sandbox.id).await?;
        }
        let logs = self.shared.paths.pod_logs(spec::namespace(pod), spec::name(pod), &self.uid);
        let _ = std::fs::remove_dir_all(logs);
        if removed || acked == Acked::Gone {
            return Ok(Step::Done);
        }
        if !self.gone_reported {
            self.gone_reported = true;
            self.shared.link.outbox.report(self.key(pod), None);
        }
        Ok(self.later())
    }

    /// Main containers at once, then sidecars in reverse order with what is left of the time.
    async fn kill_all(&self, pod: &Arc<Pod>, observed: &Observed, grace: Duration) -> Result<()> {
        let deadline = Instant::now() + grace;
        let sidecars: Vec<&str> = spec::init_containers(pod)
            .iter()
            .filter(|container| spec::is_sidecar(container))
            .map(|container| container.name.as_str())
            .collect();
        let is_sidecar = |name: &str| sidecars.contains(&name);
        let alive: Vec<(&ContainerId, &str)> = observed
            .alive()
            .map(|status| (&status.container.id, status.container.name.as_str()))
            .collect();
        for (_, name) in &alive {
            let text = format!("Stopping container {name}");
            self.shared.events.pod(pod, Some(name), Kind::Normal, "Killing", &text);
        }
        let main = alive.iter().filter(|(_, name)| !is_sidecar(name));
        let results =
            join_all(main.map(|(id, name)| self.stop_one(pod, observed, id, name, grace))).await;
        results.into_iter().collect::<Result<Vec<()>>>()?;
        for sidecar in sidecars.iter().rev() {
            for (id, name) in alive.iter().filter(|(_, name)| name == sidecar) {
                let left = deadline.saturating_duration_since(Instant::now());
                self.stop_one(pod, observed, id, name, left).await?;
            }
        }
        Ok(())
    }

    /// The preStop hook and the stop signal share the grace period.
    pub(super) async fn stop_one(
        &self,
        pod: &Arc<Pod>,
        observed: &Observed,
        id: &ContainerId,
        name: &str,
        grace: Duration,
    ) -> Result<()> {
        let began = Instant::now();
        let runtime = &self.shared.runtime;
        let container = spec::find_container(pod, name);
        let hook = container.as_ref().and_then(|container| {
            container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref())
        });
        if let (Some(hook), Some(container)) = (hook, &container)
            && grace > Duration::ZERO
        {
            let ip = self.pod_ip(pod, observed);
            let run = hooks::run(hook, runtime.as_ref(), id, container, ip, grace);
            match tokio::time::timeout(grace, run).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    let (reason, text) = ("FailedPreStopHook", "PreStopHook failed");
                    self.shared.events.pod(pod, Some(name), Kind::Warning, reason, text);
                }
                Err(_) => {
                    tracing::info!(pod = %self.uid, container = name, "preStop hook took all its time")
                }
            }
        }
        let left = grace.saturating_sub(began.elapsed()).max(GRACE_MIN);
        runtime.stop_container(id, left).await
    }

    /// Something of ours that no master knows any more, and of which we have no object either.
    pub(super) async fn remove_orphan(&mut self, observed: &Observed) -> Result<Step> {
        let runtime = &self.shared.runtime;
        let listings = self.shared.pleg.last();
        let sandboxes = listings.get(&self.uid).map(|listing| listing.sandboxes.as_slice());
        let grace = sandboxes
            .unwrap_or(&[])
            .iter()
            .find_map(|sandbox| sandbox.annotations.get(labels::GRACE_PERIOD)?.parse().ok())
            .map_or(Duration::from_secs(30), Duration::from_secs);
        let stops = observed.alive().map(|s| runtime.stop_container(&s.container.id, grace));
        join_all(stops).await.into_iter().collect::<Result<Vec<()>>>()?;
        for sandbox in &observed.sandboxes {
            runtime.stop_pod_sandbox(&sandbox.id).await?;
            runtime.remove_pod_sandbox(&sandbox.id).await?;
        }
        for sandbox in sandboxes.unwrap_or(&[]) {
            let of = &sandbox.metadata;
            let logs = self.shared.paths.pod_logs(&of.namespace, &of.name, &self.uid);
            let _ = std::fs::remove_dir_all(logs);
        }
        if let Err(error) = volume::tear_down(&self.shared.paths, &self.uid) {
            tracing::warn!(pod = %self.uid, %error, "volumes of an orphan stay for now");
            return Ok(self.later());
        }
        tracing::info!(pod = %self.uid, "orphaned pod removed");
        Ok(Step::Done)
    }
}
