//! What to do next for a pod that should run: a pure function of the desired pod, of what the runtime shows, and of
//! what the agent remembers. It is asked again after everything it ordered is done, so it never plans two steps
//! ahead.
//!
//! The rules are the kubelet's: sandbox first; init containers one after another, sidecars among them only until
//! started; main containers together; restarts by policy with a back-off; everything stopped when the main containers
//! are done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use std::time::Duration;

use super::backoff::{Backoff, go_duration, wait_until};
use super::observed::Observed;
use super::{resources, spec};
use crate::labels;
use crate::probe::Kind;
use crate::runtime::{ContainerId, ContainerState, ContainerStatus, SandboxId};

/// Exit code of a process that was killed.
const SIGKILLED: i32 = 137;

/// Why a container could not be started, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) waiting: Waiting,
    pub(crate) retry_at: Timestamp,
    /// The image it was to run; another one need not wait.
    pub(crate) image: Option<String>,
}

/// What the agent knows beyond the runtime.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Restarts, by container name.
    pub(crate) backoff: BTreeMap<String, Backoff>,
    /// Failed starts, by container name.
    pub(crate) failures: BTreeMap<String, Failure>,
    /// Containers that have passed their startup probe (or have none, and their postStart hook is through).
    pub(crate) started: BTreeSet<ContainerId>,
    /// Containers to kill, with the probe that failed.
    pub(crate) unhealthy: BTreeMap<ContainerId, Kind>,
    /// Resources that were given to a running container after its start, as [`resources::fingerprint`] writes them.
    pub(crate) resized: BTreeMap<ContainerId, String>,
    /// Resources that the runtime did not give to a running container.
    pub(crate) resize_errors: BTreeMap<ContainerId, ResizeError>,
    /// The node cannot give what the pod asks for now: its containers keep what they have.
    pub(crate) resize_refused: bool,
}

/// A resize that failed. How much of it was done is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResizeError {
    /// As [`resources::fingerprint`] writes them.
    pub(crate) wanted: String,
    /// The runtime's words.
    pub(crate) message: String,
    /// The same is not tried again before then; something else is tried at once.
    pub(crate) retry_at: Timestamp,
}

/// A container's `state.waiting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A sandbox that is dead or superseded.
    StopSandbox(SandboxId),
    /// A new sandbox; nothing else is planned until it is there.
    CreateSandbox { attempt: u32 },
    /// Start a container in the ready sandbox.
    Start { name: String, attempt: u32 },
    /// Stop a container within `grace`, with the event's message.
    Kill { id: ContainerId, name: String, message: String, grace: Duration },
    /// Give a running container what its text says now.
    Resize { id: ContainerId, name: String },
    /// Remove a container that never ran and never will.
    Remove(ContainerId),
}

/// All steps that can be taken now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// `state.waiting` of containers that do not run and will.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// Look again then at the latest.
    pub(crate) wake_at: Option<Timestamp>,
    /// Nothing will ever run again: stop what is left, the pod has ended.
    pub(crate) finished: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// What to do now.
pub(crate) fn plan(pod: &Pod, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut planner = Planner { pod, observed, memory, now, plan: Plan::default() };
    planner.run();
    planner.plan
}

struct Planner<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    memory: &'a Memory,
    now: Timestamp,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn run(&mut self) {
        if self.main_finished() || self.init_failed() {
            self.plan.finished = true;
            return;
        }
        for old in self.observed.sandboxes.iter().skip(1).filter(|sandbox| sandbox.ready) {
            self.plan.actions.push(Action::StopSandbox(old.id.clone()));
        }
        let Some(sandbox) = self.observed.ready_sandbox() else { return self.new_sandbox() };
        let initialized = self.init_containers(&sandbox.id.clone());
        if initialized {
            for container in spec::containers(self.pod) {
                self.main_container(container);
            }
        }
        for container in spec::ephemeral_containers(self.pod) {
            if self.observed.latest(&container.name).is_none() {
                self.start(&container, None);
            }
        }
    }

    /// All main containers ran, ended, and stay so.
    fn main_finished(&self) -> bool {
        let containers = spec::containers(self.pod);
        !containers.is_empty()
            && containers.iter().all(|container| match self.observed.latest(&container.name) {
                Some(status) if self.ended(status) => {
                    !spec::restarts(self.pod, container, exit_code(status))
                }
                _ => false,
            })
    }

    /// An init container failed for good.
    fn init_failed(&self) -> bool {
        !self.main_created()
            && spec::init_containers(self.pod).iter().any(|container| {
                let Some(status) = self.observed.latest(&container.name) else { return false };
                !spec::is_sidecar(container)
                    && self.ended(status)
                    && exit_code(status) != 0
                    && !init_restarts(self.pod, container, exit_code(status))
            })
    }

    /// Ended, or left behind in a sandbox that is dead.
    fn ended(&self, status: &ContainerStatus) -> bool {
        match status.container.state {
            ContainerState::Exited => true,
            ContainerState::Running | ContainerState::Unknown => {
                self.observed.ready_sandbox().is_none()
            }
            ContainerState::Created => false,
        }
    }

    fn main_created(&self) -> bool {
        let main = spec::containers(self.pod);
        main.iter().any(|container| self.observed.latest(&container.name).is_some())
    }

    fn new_sandbox(&mut self) {
        let mut attempt = 0;
        if let Some(old) = self.observed.sandbox() {
            attempt = old.attempt + 1;
            // Dead, but its network is still held.
            self.plan.actions.push(Action::StopSandbox(old.id.clone()));
        }
        self.plan.actions.push(Action::CreateSandbox { attempt });
    }

    /// Whether the main containers may start.
    fn init_containers(&mut self, sandbox: &SandboxId) -> bool {
        let init = spec::init_containers(self.pod);
        let main_created = spec::containers(self.pod).iter().any(|container| {
            let latest = self.observed.latest(&container.name);
            latest.is_some_and(|status| status.container.sandbox_id == *sandbox)
        });
        for container in init {
            let in_sandbox = self
                .observed
                .latest(&container.name)
                .filter(|status| status.container.sandbox_id == *sandbox);
            let passed = if spec::is_sidecar(container) {
                self.sidecar(container, in_sandbox)
            } else {
                main_created || self.init_container(container, in_sandbox)
            };
            if !passed && !main_created {
                return false;
            }
        }
        true
    }

    /// Whether the sidecar is started.
    fn sidecar(&mut self, container: &Container, status: Option<&'a ContainerStatus>) -> bool {
        match status.map(|status| (status, status.container.state)) {
            None => {
                self.start(container, None);
                false
            }
            Some((status, ContainerState::Running)) => {
                self.running(container, status);
                self.memory.started.contains(&status.container.id)
            }
            Some((status, _)) => {
                self.start(container, Some(status));
                false
            }
        }
    }

    /// Whether the init container has succeeded.
    fn init_container(
        &mut self,
        container: &Container,
        status: Option<&'a ContainerStatus>,
    ) -> bool {
        match status.map(|status| (status, status.container.state)) {
            None => {
                self.start(container, None);
                false
            }
            Some((_, ContainerState::Running)) => false,
            Some((status, ContainerState::Exited)) if status.exit_code == 0 => true,
            Some((status, _)) => {
                self.start(container, Some(status));
                false
            }
        }
    }

    fn main_container(&mut self, container: &Container) {
        let Some(status) = self.observed.latest(&container.name) else {
            return self.start(container, None);
        };
        match status.container.state {
            ContainerState::Running => self.running(container, status),
            ContainerState::Exited => {
                if spec::restarts(self.pod, container, status.exit_code) {
                    self.start(container, Some(status));
                }
            }
            ContainerState::Created | ContainerState::Unknown => {
                self.start(container, Some(status));
            }
        }
    }

    /// A container that runs: killed when a probe failed or when its text changed in what cannot be changed alive, and
    /// then started again at once, unless it has to wait.
    fn running(&mut self, container: &Container, status: &'a ContainerStatus) {
        let (name, id) = (&container.name, &status.container.id);
        let mut grace = spec::grace_period(self.pod);
        let mut restart = true;
        let mut fresh = true;
        let why = if spec::image_changed(container, status) {
            format!("Container {name} definition changed")
        } else if let Some(kind) = self.memory.unhealthy.get(id) {
            restart = spec::restarts(self.pod, container, SIGKILLED);
            fresh = false;
            grace = spec::probe_grace(self.pod, container, *kind);
            let probe = if *kind == Kind::Startup { "startup" } else { "liveness" };
            format!("Container {name} failed {probe} probe")
        } else if let Some(how) = self.resize(container, status) {
            if how == resources::Resize::Live {
                let (id, name) = (id.clone(), name.clone());
                return self.plan.actions.push(Action::Resize { id, name });
            }
            format!("Container {name} resize requires restart")
        } else {
            return;
        };
        let message = if restart { format!("{why}, will be restarted") } else { why };
        let (id, name) = (id.clone(), name.clone());
        let entry = self.memory.backoff.get(&name);
        let ended = self.observed.previous(&name).and_then(|previous| previous.finished_at);
        let waits = ended.is_some_and(|ended| wait_until(entry, ended, self.now).is_some());
        self.plan.actions.push(Action::Kill { id, name: name.clone(), message, grace });
        if restart && (fresh || !waits) {
            let attempt = status.container.attempt + 1;
            self.plan.actions.push(Action::Start { name, attempt });
        }
    }

    /// How the container comes to what its text says now; `None`: it has it, or cannot have it yet.
    fn resize(
        &mut self,
        container: &Container,
        status: &ContainerStatus,
    ) -> Option<resources::Resize> {
        if self.memory.resize_refused {
            return None;
        }
        let id = &status.container.id;
        let given = self.memory.resized.get(id);
        let given = given.or_else(|| status.container.annotations.get(labels::RESOURCES))?;
        let how = resources::resize(container, given);
        let Some(failed) = self.memory.resize_errors.get(id) else { return how };
        if failed.wanted == resources::fingerprint(container) && failed.retry_at > self.now {
            self.plan.wake(failed.retry_at);
            return None;
        }
        // Also back to what it had before: some of the change may have been made.
        how.or(Some(resources::Resize::Live))
    }

    fn start(&mut self, container: &Container, last: Option<&'a ContainerStatus>) {
        let name = &container.name;
        if let Some(failure) = self.memory.failures.get(name)
            && failure.retry_at > self.now
            && failure.image == container.image
        {
            self.plan.waiting.insert(name.clone(), failure.waiting.clone());
            return self.plan.wake(failure.retry_at);
        }
        let Some(last) = last else {
            // It may have run in a sandbox that is gone: that is no crash, but it counts.
            let attempt = self.observed.latest(name).map_or(0, |old| old.container.attempt + 1);
            return self.plan.actions.push(Action::Start { name: name.clone(), attempt });
        };
        let attempt = last.container.attempt + 1;
        match last.container.state {
            ContainerState::Created => {
                self.plan.actions.push(Action::Remove(last.container.id.clone()));
            }
            ContainerState::Unknown => self.plan.actions.push(Action::Kill {
                id: last.container.id.clone(),
                name: name.clone(),
                message: format!(
                    "Container {name} is in unknown state, try killing it before restart"
                ),
                grace: spec::grace_period(self.pod),
            }),
            ContainerState::Exited | ContainerState::Running => {
                let finished = last.finished_at.unwrap_or(last.container.created_at);
                let entry = self.memory.backoff.get(name);
                // Another image has not crashed yet.
                let entry = entry.filter(|_| !spec::image_changed(container, last));
                if let Some(until) = wait_until(entry, finished, self.now) {
                    let delay = entry.map(|entry| entry.delay).unwrap_or_default();
                    self.plan.waiting.insert(name.clone(), crash_loop(self.pod, name, delay));
                    return self.plan.wake(until);
                }
            }
        }
        self.plan.actions.push(Action::Start { name: name.clone(), attempt });
    }
}

/// `CrashLoopBackOff`, in the kubelet's words.
fn crash_loop(pod: &Pod, container: &str, delay: std::time::Duration) -> Waiting {
    let (delay, pod) = (go_duration(delay), spec::full_name(pod));
    Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: format!("back-off {delay} restarting failed container={container} pod={pod}"),
    }
}

/// Init containers know no "always": a success is enough.
fn init_restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    exit_code != 0 && spec::restarts(pod, container, exit_code)
}

fn exit_code(status: &ContainerStatus) -> i32 {
    match status.container.state {
        ContainerState::Exited => status.exit_code,
        // It went down with its sandbox; the runtime did not see how.
        ContainerState::Created | ContainerState::Running | ContainerState::Unknown => SIGKILLED,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
