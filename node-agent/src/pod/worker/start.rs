//! Carrying out a plan: sandboxes, images, containers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::Worker;
use crate::events::Kind;
use crate::images::{PullPolicy, credentials, normalize, policy};
use crate::limits::{PULL_ERROR_SHOWN, RESIZE_RETRY, SYNC_RETRY};
use crate::paths::write_atomically;
use crate::pod::backoff::{after, go_millis, raise};
use crate::pod::config::{self, ContainerInputs, NodeFacts};
use crate::pod::observed::Observed;
use crate::pod::plan::{Action, Failure, Plan, ResizeError, Waiting};
use crate::pod::{hooks, resources, spec};
use crate::runtime::{ContainerId, ContainerState, Error, Image, PodSandboxConfig, Result};
use crate::volume;

/// Why a container did not start: `state.waiting`, and how long to wait.
struct NotStarted {
    waiting: Waiting,
    retry_after: Duration,
}

fn not_started(reason: &str, message: impl Into<String>) -> NotStarted {
    let waiting = Waiting { reason: reason.to_owned(), message: message.into() };
    NotStarted { waiting, retry_after: SYNC_RETRY * 5 }
}

/// The running container that an ephemeral one wants to look into.
fn pid_target(
    pod: &Pod,
    observed: &Observed,
    name: &str,
) -> std::result::Result<Option<ContainerId>, String> {
    let Some(target) = spec::target_of(pod, name) else { return Ok(None) };
    let running =
        observed.latest(target).filter(|status| status.container.state == ContainerState::Running);
    match running {
        Some(status) => Ok(Some(status.container.id.clone())),
        None => Err(format!("unable to find target container {target}")),
    }
}

impl Worker {
    /// All steps of a plan, in order. One container's trouble does not stop the others.
    pub(super) async fn execute(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<()> {
        let runtime = self.shared.runtime.clone();
        for action in &plan.actions {
            match action {
                Action::StopSandbox(id) => {
                    if observed.sandboxes.iter().any(|s| s.id == *id && !s.ready)
                        && matches!(plan.actions.last(), Some(Action::CreateSandbox { .. }))
                    {
                        let text = "Pod sandbox changed, it will be killed and re-created.";
                        self.shared.events.pod(pod, None, Kind::Normal, "SandboxChanged", text);
                    }
                    runtime.stop_pod_sandbox(id).await?;
                }
                Action::CreateSandbox { attempt } => self.create_sandbox(pod, *attempt).await?,
                Action::Remove(id) => runtime.remove_container(id).await?,
                Action::Kill { id, name, message, grace } => {
                    self.shared.events.pod(pod, Some(name), Kind::Normal, "Killing", message);
                    self.stop_one(pod, observed, id, name, *grace).await?;
                    self.memory.unhealthy.remove(id);
                }
                Action::Resize { id, name } => self.resize(pod, id, name).await,
                Action::Start { name, attempt } => {
                    self.start(pod, observed, name, *attempt).await?;
                }
            }
        }
        Ok(())
    }

    /// New limits for a running container. What the runtime refuses is said, and tried again after a
    /// while, or when the text changes again.
    async fn resize(&mut self, pod: &Pod, id: &ContainerId, name: &str) {
        let Some(container) = spec::find_container(pod, name) else { return };
        let memory = self.shared.machine.memory_bytes;
        let wanted = resources::container(pod, &container, memory);
        if let Err(error) = self.shared.runtime.update_container_resources(id, &wanted).await {
            let text = format!("Error: resizing container {name}: {error}");
            self.tell(pod, Some(name), "ResizeError", &text);
            let retry_at = after(quorate_chance::now(), RESIZE_RETRY);
            let wanted = resources::fingerprint(&container);
            let failed = ResizeError { wanted, message: text, retry_at };
            self.memory.resize_errors.insert(id.clone(), failed);
            return;
        }
        self.memory.resize_errors.remove(id);
        self.memory.resized.insert(id.clone(), resources::fingerprint(&container));
    }

    fn with_node<T>(&self, f: impl FnOnce(&NodeFacts<'_>) -> T) -> T {
        let shared = &self.shared;
        let (domain, dns) = shared.cluster();
        f(&NodeFacts {
            node_name: &shared.config.node_name,
            paths: &shared.paths,
            cluster_domain: &domain,
            cluster_dns: &dns,
            host_dns: &shared.host_dns,
            memory_bytes: shared.machine.memory_bytes,
        })
    }

    fn sandbox_config(&self, pod: &Pod, attempt: u32) -> PodSandboxConfig {
        self.with_node(|node| config::sandbox(pod, attempt, node))
    }

    async fn create_sandbox(&mut self, pod: &Pod, attempt: u32) -> Result<()> {
        if spec::spec(pod).and_then(|spec| spec.host_users) == Some(false) {
            // Never ignored: the pod's author relies on it.
            let text = "Failed to create pod sandbox: user namespaces (hostUsers: false) are not \
                supported on this node";
            self.tell(pod, None, "FailedCreatePodSandBox", text);
            return Err(Error::Unsupported("user namespaces (hostUsers: false)"));
        }
        let config = self.sandbox_config(pod, attempt);
        std::fs::create_dir_all(&config.log_directory).map_err(Error::Stream)?;
        if let Err(error) = self.shared.runtime.run_pod_sandbox(&config).await {
            let text = format!("Failed to create pod sandbox: {error}");
            self.tell(pod, None, "FailedCreatePodSandBox", &text);
            return Err(error);
        }
        // A fresh sandbox: what failed before is tried anew.
        self.memory.failures.clear();
        Ok(())
    }

    async fn start(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        name: &str,
        attempt: u32,
    ) -> Result<()> {
        let Some(container) = spec::find_container(pod, name) else { return Ok(()) };
        if self.memory.failures.get(name).is_some_and(|failure| failure.image != container.image) {
            self.image_backoff.remove(name);
        }
        match self.try_start(pod, observed, &container, attempt).await {
            Ok(()) => {
                self.memory.failures.remove(name);
                self.image_backoff.remove(name);
            }
            Err(failure) => {
                let retry_at = after(quorate_chance::now(), failure.retry_after);
                let image = container.image.clone();
                let failure = Failure { waiting: failure.waiting, retry_at, image };
                self.memory.failures.insert(name.to_owned(), failure);
            }
        }
        Ok(())
    }

    async fn try_start(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        container: &Container,
        attempt: u32,
    ) -> std::result::Result<(), NotStarted> {
        let Some(sandbox) = observed.ready_sandbox().cloned() else {
            return Err(not_started("ContainerCreating", ""));
        };
        let image = self.ensure_image(pod, container).await?;
        let attempt = self.attempt(pod, &container.name, attempt);
        let volumes = self.volumes.clone().unwrap_or_default();
        self.write_hosts(pod, observed)
            .map_err(|e| not_started("CreateContainerError", e.to_string()))?;
        let pid_target = pid_target(pod, observed, &container.name)
            .map_err(|text| not_started("CreateContainerConfigError", text))?;
        let config = self.with_sources(pod, observed, |shared, sources| {
            let mounts =
                volume::container_mounts(&shared.paths, sources, container, attempt, &volumes)?;
            self.with_node(|node| {
                config::container(ContainerInputs {
                    container,
                    attempt,
                    image: &image,
                    mounts,
                    sources,
                    node,
                    pid_target,
                })
            })
        });
        let config = config.map_err(|error| {
            let text = format!("Error: {error}");
            self.tell(pod, Some(&container.name), "Failed", &text);
            not_started("CreateContainerConfigError", error.0)
        })?;
        let sandbox_config = self.sandbox_config(pod, sandbox.attempt);
        let runtime = self.shared.runtime.clone();
        let logs = sandbox_config.log_directory.join(&container.name);
        let _ = std::fs::create_dir_all(logs);
        let created = runtime.create_container(&sandbox.id, &config, &sandbox_config).await;
        let id = created.map_err(|error| {
            self.tell(pod, Some(&container.name), "Failed", &format!("Error: {error}"));
            not_started("CreateContainerError", error.to_string())
        })?;
        let name = container.name.as_str();
        self.event(pod, name, "Created", "Container created");
        if attempt > 0 {
            let now = quorate_chance::now();
            let ended = observed.latest(name).and_then(|latest| latest.finished_at).unwrap_or(now);
            let same = observed.latest(name).is_none_or(|l| !spec::image_changed(container, l));
            let entry = raise(self.memory.backoff.get(name).filter(|_| same), ended, now);
            self.memory.backoff.insert(name.to_owned(), entry);
        }
        if let Err(error) = runtime.start_container(&id).await {
            let text = format!("Error: {error}");
            self.shared.events.pod(pod, Some(name), Kind::Warning, "Failed", &text);
            return Err(not_started("RunContainerError", error.to_string()));
        }
        self.event(pod, name, "Started", "Container started");
        self.post_start(pod, observed, container, &id).await?;
        if container.startup_probe.is_none() {
            self.memory.started.insert(id);
        }
        self.prune(observed, name).await;
        Ok(())
    }

    fn event(&self, pod: &Pod, container: &str, reason: &str, message: &str) {
        self.shared.events.pod(pod, Some(container), Kind::Normal, reason, message);
    }

    /// The runtime may have forgotten earlier attempts; their logs have not.
    fn attempt(&self, pod: &Pod, name: &str, planned: u32) -> u32 {
        if planned > 0 {
            return planned;
        }
        let (namespace, pod_name) = (spec::namespace(pod), spec::name(pod));
        let dir = self.shared.paths.pod_logs(namespace, pod_name, &self.uid).join(name);
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let numbers = files.filter_map(|file| {
            file.file_name().to_str()?.strip_suffix(".log")?.parse::<u32>().ok()
        });
        numbers.max().map_or(0, |last| last + 1)
    }

    fn write_hosts(&self, pod: &Pod, observed: &Observed) -> std::io::Result<()> {
        let (domain, _) = self.shared.cluster();
        let sandbox = observed.ready_sandbox();
        let ips: Vec<String> =
            sandbox.map(|s| s.ips.iter().map(ToString::to_string).collect()).unwrap_or_default();
        let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let text = config::etc_hosts(pod, &ips, &domain, &host);
        let path = self.shared.paths.etc_hosts(&self.uid);
        // The file is mounted: its inode must stay while a container has it.
        if path.exists() {
            return std::fs::write(&path, text);
        }
        write_atomically(&path, text.as_bytes(), 0o644)
    }

    async fn post_start(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        container: &Container,
        id: &ContainerId,
    ) -> std::result::Result<(), NotStarted> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let (runtime, ip) = (self.shared.runtime.clone(), self.pod_ip(pod, observed));
        // A hook may take as long as it likes; the pod's end cancels it.
        let limit = Duration::from_secs(3600);
        let ran = hooks::run(hook, runtime.as_ref(), id, container, ip, limit).await;
        let Err(message) = ran else { return Ok(()) };
        let name = container.name.as_str();
        let event = "FailedPostStartHook";
        self.shared.events.pod(pod, Some(name), Kind::Warning, event, "PostStartHook failed");
        self.event(pod, name, "Killing", "FailedPostStartHook");
        let _ = runtime.stop_container(id, spec::grace_period(pod)).await;
        Err(not_started("PostStartHookError", message))
    }

    /// The newest and the one before are enough for status and `logs --previous`.
    async fn prune(&mut self, observed: &Observed, name: &str) {
        let old = observed.containers.iter().filter(|status| status.container.name == name).skip(1);
        for status in old {
            if let Err(error) = self.shared.runtime.remove_container(&status.container.id).await {
                tracing::debug!(pod = %self.uid, %error, "old container stays");
            }
        }
    }

    async fn ensure_image(
        &mut self,
        pod: &Pod,
        container: &Container,
    ) -> std::result::Result<Image, NotStarted> {
        let wanted = container.image.clone().unwrap_or_default();
        let name = container.name.clone();
        let full = normalize(&wanted).map_err(|error| {
            self.tell(pod, Some(&name), "InspectFailed", &error);
            self.tell(pod, Some(&name), "Failed", "Error: InvalidImageName");
            not_started("InvalidImageName", error)
        })?;
        let present = self.shared.puller.present(&full).await.map_err(|error| {
            let text = format!("Failed to inspect image \"{wanted}\": {error}");
            self.tell(pod, Some(&name), "InspectFailed", &text);
            self.tell(pod, Some(&name), "Failed", "Error: ImageInspectError");
            not_started("ImageInspectError", text)
        })?;
        match (policy(container), present) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(image)) => {
                let text = format!(
                    "Container image \"{wanted}\" already present on machine and can be accessed by the pod"
                );
                self.event(pod, &name, "Pulled", &text);
                return Ok(image);
            }
            (PullPolicy::Never, None) => {
                let text = format!(
                    "Container image \"{wanted}\" is not present with pull policy of Never"
                );
                self.tell(pod, Some(&name), "ErrImageNeverPull", &text);
                self.tell(pod, Some(&name), "Failed", "Error: ErrImageNeverPull");
                return Err(not_started("ErrImageNeverPull", text));
            }
            (PullPolicy::Always, present) => {
                return self.pull(pod, &name, &wanted, &full, present).await;
            }
            (PullPolicy::IfNotPresent, None) => {}
        }
        self.pull(pod, &name, &wanted, &full, None).await
    }

    /// Pulls. When no registry can be reached at all, `present` (the image as it is on the machine)
    /// has to do, with a warning: a machine without a registry runs what was imported, and a registry's
    /// outage does not keep pods from starting (docs/decisions/0004).
    async fn pull(
        &mut self,
        pod: &Pod,
        name: &str,
        wanted: &str,
        full: &str,
        present: Option<Image>,
    ) -> std::result::Result<Image, NotStarted> {
        self.event(pod, name, "Pulling", &format!("Pulling image \"{wanted}\""));
        let auths = credentials(full, &self.shared.pull_secrets(pod));
        match self.shared.puller.pull(full, &auths).await {
            Ok(pulled) => {
                let text = format!(
                    "Successfully pulled image \"{wanted}\" in {} ({} including waiting). Image size: {} bytes.",
                    go_millis(pulled.took),
                    go_millis(pulled.waited),
                    pulled.image.size_bytes
                );
                self.event(pod, name, "Pulled", &text);
                Ok(pulled.image)
            }
            Err(Error::RegistryUnavailable(why)) if present.is_some() => {
                let text = format!(
                    "The registry of image \"{wanted}\" cannot be reached, the image that is present on \
                     the machine is used: {why}"
                );
                self.shared.events.pod(
                    pod,
                    Some(name),
                    Kind::Warning,
                    "RegistryUnavailable",
                    &text,
                );
                present.ok_or_else(|| not_started("ErrImagePull", why))
            }
            Err(error) => {
                let text = format!("Failed to pull image \"{wanted}\": {error}");
                let reason = "ErrImagePull";
                let warn = |text: &str| {
                    self.shared.events.pod(pod, Some(name), Kind::Warning, "Failed", text);
                };
                warn(&text);
                warn(&format!("Error: {reason}"));
                let now = quorate_chance::now();
                let entry = raise(self.image_backoff.get(name), now, now);
                self.image_backoff.insert(name.to_owned(), entry);
                Err(NotStarted {
                    retry_after: entry.delay,
                    ..not_started(reason, error.to_string())
                })
            }
        }
    }

    /// `ErrImagePull` becomes `ImagePullBackOff` after a moment; when that is.
    pub(super) fn shown_until(&mut self) -> Option<Timestamp> {
        let now = quorate_chance::now();
        let pod = self.pod.clone()?;
        let mut next: Option<Timestamp> = None;
        let mut announce = Vec::new();
        for (name, failure) in &mut self.memory.failures {
            if failure.waiting.reason != "ErrImagePull" {
                continue;
            }
            let Some(entry) = self.image_backoff.get(name) else { continue };
            let turn = after(entry.updated, PULL_ERROR_SHOWN);
            if turn > now {
                next = Some(next.map_or(turn, |old| old.min(turn)));
                continue;
            }
            let image = spec::find_container(&pod, name).and_then(|c| c.image).unwrap_or_default();
            let cause = &failure.waiting;
            let message =
                format!("Back-off pulling image \"{image}\": {}: {}", cause.reason, cause.message);
            announce.push((name.clone(), message.clone()));
            failure.waiting = Waiting { reason: "ImagePullBackOff".to_owned(), message };
            next = Some(now);
        }
        for (name, message) in announce {
            let short = message.split("\": ").next().unwrap_or_default().to_owned() + "\"";
            self.event(&pod, &name, "BackOff", &short);
            let text = "Error: ImagePullBackOff";
            self.shared.events.pod(&pod, Some(&name), Kind::Warning, "Failed", text);
        }
        next
    }
}
