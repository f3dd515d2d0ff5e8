//! A runtime that runs nothing, for tests and for the simulated world of chaos: containers live and end as their
//! command says, at once, and everything that is asked of it is remembered in order.
//!
//! Commands: `run` lives until it is stopped (then ends with 0), `exit CODE [TERMINATION-MESSAGE] [LOG-LINE]` ends at
//! once. `exec` of `flag NAME…` succeeds while one of those flags is set; being stopped sets `NAME-stopped`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::runtime::{
    AttachOptions, BoxDuplex, Container, ContainerConfig, ContainerId, ContainerState,
    ContainerStats, ContainerStatus, Error, ExecOptions, ExecOutput, Image, LinuxResources,
    PodSandboxConfig, RegistryAuth, Result, Runtime, RuntimeStatus, RuntimeVersion, Sandbox,
    SandboxId, SandboxState, SandboxStatus, Session,
};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;

/// A CPU quota that the runtime refuses to write, µs.
const REFUSED_QUOTA: i64 = 33_300;

struct PretendedSandbox {
    config: PodSandboxConfig,
    address: Ipv4Addr,
    ready: bool,
}

struct PretendedContainer {
    sandbox: SandboxId,
    config: ContainerConfig,
    log: PathBuf,
    state: ContainerState,
    exit_code: i32,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    created: Timestamp,
}

#[derive(Default)]
struct State {
    next: u32,
    /// Addresses of sandboxes: this one for the first, then the following ones; `None`: loopback for all.
    addresses: Option<Ipv4Addr>,
    sandboxes: BTreeMap<String, PretendedSandbox>,
    containers: BTreeMap<String, PretendedContainer>,
    images: BTreeMap<String, Image>,
    flags: BTreeSet<String>,
    calls: Vec<String>,
}

/// Cloneable; clones are one runtime, so that it outlives an agent.
#[derive(Clone)]
pub struct Pretend {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Pretend {
    fn default() -> Self {
        let pretend = Pretend { state: Arc::default(), changed: Arc::new(watch::Sender::new(0)) };
        pretend.add_image("docker.io/library/busybox:test");
        pretend
    }
}

impl std::fmt::Debug for Pretend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pretend").finish_non_exhaustive()
    }
}

impl Pretend {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives sandboxes addresses from there on instead of loopback.
    pub fn addresses_from(&self, first: Ipv4Addr) {
        self.with(|state| state.addresses = Some(first));
    }

    /// Pods of which a container runs, by uid, and how many do.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, usize> {
        self.with(|state| {
            let mut running = BTreeMap::new();
            for container in state.containers.values() {
                if container.state == ContainerState::Running
                    && let Some(sandbox) = state.sandboxes.get(&container.sandbox.0)
                {
                    *running.entry(sandbox.config.metadata.uid.clone()).or_default() += 1;
                }
            }
            running
        })
    }

    /// The machine goes off at a time: nothing runs any more.
    pub fn reboot(&self, at: Timestamp) {
        self.with(|state| {
            for container in state.containers.values_mut() {
                if container.state == ContainerState::Running {
                    end_at(container, 255, at);
                }
            }
            state.sandboxes.values_mut().for_each(|sandbox| sandbox.ready = false);
        });
        self.tell();
    }

    /// An image that is there.
    pub fn add_image(&self, name: &str) {
        let image = Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.to_owned()],
            ..Image::default()
        };
        self.with(|state| state.images.insert(name.to_owned(), image));
    }

    /// A flag that `exec` looks for.
    pub fn set(&self, flag: &str) {
        self.with(|state| state.flags.insert(flag.to_owned()));
    }

    /// Takes a flag away.
    pub fn clear(&self, flag: &str) {
        self.with(|state| state.flags.remove(flag));
    }

    /// What was asked for, in order: `start a`, `stop a 30`, `exec a flag x`, `update a`, `pull image`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.with(|state| state.calls.clone())
    }

    /// The configuration of the newest container of that name.
    #[must_use]
    pub fn config(&self, name: &str) -> Option<ContainerConfig> {
        self.with(|state| {
            let of = state.containers.values().filter(|container| container.config.name == name);
            of.max_by_key(|container| container.config.attempt).map(|c| c.config.clone())
        })
    }

    /// Ends every running container of that name.
    pub fn kill(&self, name: &str, exit_code: i32) {
        self.with(|state| {
            for container in state.containers.values_mut() {
                if container.config.name == name && container.state == ContainerState::Running {
                    end(container, exit_code);
                }
            }
        });
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

fn end(container: &mut PretendedContainer, exit_code: i32) {
    end_at(container, exit_code, quorate_chance::now());
}

fn end_at(container: &mut PretendedContainer, exit_code: i32, at: Timestamp) {
    container.state = ContainerState::Exited;
    container.exit_code = exit_code;
    container.finished = Some(at);
}

/// Does what an ending command says.
fn perform(container: &mut PretendedContainer) {
    let command = container.config.command.clone();
    let word = |index: usize| command.get(index).cloned().unwrap_or_default();
    if word(0) != "exit" {
        return;
    }
    if let Some(mount) =
        container.config.mounts.iter().find(|m| m.container_path.starts_with("/dev/term"))
    {
        // A message that cannot be left is none.
        let _ = std::fs::write(&mount.host_path, word(2));
    }
    if !word(3).is_empty() {
        let line = format!("2026-01-01T00:00:00Z stdout F {}\n", word(3));
        let directory = container.log.parent().map(std::fs::create_dir_all);
        // Nor is a line.
        let _ = directory.map(|_| std::fs::write(&container.log, line));
    }
    end(container, word(1).parse().unwrap_or_default());
}

fn listed(id: &str, container: &PretendedContainer) -> Container {
    Container {
        id: ContainerId(id.to_owned()),
        sandbox_id: container.sandbox.clone(),
        name: container.config.name.clone(),
        attempt: container.config.attempt,
        image_ref: container.config.image.clone(),
        state: container.state,
        created_at: container.created,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
    }
}

fn sandbox(id: &str, sandbox: &PretendedSandbox) -> Sandbox {
    Sandbox {
        id: SandboxId(id.to_owned()),
        metadata: sandbox.config.metadata.clone(),
        state: if sandbox.ready { SandboxState::Ready } else { SandboxState::NotReady },
        created_at: Timestamp::UNIX_EPOCH,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
    }
}

#[async_trait]
impl Runtime for Pretend {
    async fn version(&self) -> Result<RuntimeVersion> {
        Ok(RuntimeVersion { name: "pretend".into(), version: "1".into() })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        Ok(RuntimeStatus { runtime_ready: true, network_ready: true, message: String::new() })
    }

    async fn update_pod_cidrs(&self, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<SandboxId> {
        Ok(self.with(|state| {
            state.next += 1;
            let id = format!("sandbox-{}", state.next);
            let address = match state.addresses {
                Some(first) => Ipv4Addr::from_bits(first.to_bits().saturating_add(state.next)),
                None => Ipv4Addr::LOCALHOST,
            };
            let sandbox = PretendedSandbox { config: config.clone(), address, ready: true };
            state.sandboxes.insert(id.clone(), sandbox);
            SandboxId(id)
        }))
    }

    async fn stop_pod_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.with(|state| {
            for container in state.containers.values_mut() {
                if container.sandbox == *id && container.state == ContainerState::Running {
                    end(container, 137);
                }
            }
            if let Some(sandbox) = state.sandboxes.get_mut(&id.0) {
                sandbox.ready = false;
            }
        });
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.with(|state| {
            state.sandboxes.remove(&id.0);
            state.containers.retain(|_, container| container.sandbox != *id);
        });
        Ok(())
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<Sandbox>> {
        Ok(self.with(|state| state.sandboxes.iter().map(|(id, s)| sandbox(id, s)).collect()))
    }

    async fn pod_sandbox_status(&self, id: &SandboxId) -> Result<SandboxStatus> {
        self.with(|state| {
            let found =
                state.sandboxes.get(&id.0).ok_or_else(|| Error::NotFound(id.to_string()))?;
            Ok(SandboxStatus {
                sandbox: sandbox(&id.0, found),
                ips: vec![IpAddr::V4(found.address)],
                network_namespace: None,
            })
        })
    }

    async fn create_container(
        &self,
        id: &SandboxId,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<ContainerId> {
        Ok(self.with(|state| {
            state.next += 1;
            let container = PretendedContainer {
                sandbox: id.clone(),
                config: config.clone(),
                log: sandbox.log_directory.join(&config.log_path),
                state: ContainerState::Created,
                exit_code: 0,
                started: None,
                finished: None,
                created: quorate_chance::now(),
            };
            let id = format!("container-{}", state.next);
            state.containers.insert(id.clone(), container);
            ContainerId(id)
        }))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        self.with(|state| {
            let container =
                state.containers.get_mut(&id.0).ok_or_else(|| Error::NotFound(id.to_string()))?;
            state.calls.push(format!("start {}", container.config.name));
            container.state = ContainerState::Running;
            container.started = Some(quorate_chance::now());
            perform(container);
            Ok::<(), Error>(())
        })?;
        self.tell();
        Ok(())
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        self.with(|state| {
            if let Some(container) = state.containers.get_mut(&id.0) {
                let name = &container.config.name;
                state.flags.insert(format!("{name}-stopped"));
                state.calls.push(format!("stop {name} {}", grace.as_secs_f64().ceil()));
                if container.state == ContainerState::Running {
                    end(container, 0);
                }
            }
        });
        self.tell();
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.with(|state| state.containers.remove(&id.0));
        Ok(())
    }

    async fn list_containers(&self) -> Result<Vec<Container>> {
        Ok(self.with(|state| state.containers.iter().map(|(id, c)| listed(id, c)).collect()))
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.with(|state| {
            let found =
                state.containers.get(&id.0).ok_or_else(|| Error::NotFound(id.to_string()))?;
            Ok(ContainerStatus {
                container: listed(&id.0, found),
                started_at: found.started,
                finished_at: found.finished,
                exit_code: found.exit_code,
                reason: String::new(),
                message: String::new(),
                image: found.config.user_image.clone(),
                image_id: found.config.image.clone(),
                log_path: found.log.clone(),
            })
        })
    }

    async fn update_container_resources(
        &self,
        id: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()> {
        self.with(|state| {
            let name = state.containers.get(&id.0).map(|c| c.config.name.clone());
            state.calls.push(format!(
                "update {} {}",
                name.unwrap_or_default(),
                resources.cpu_quota
            ));
        });
        if resources.cpu_quota == REFUSED_QUOTA {
            return Err(Error::Unsupported("this quota"));
        }
        Ok(())
    }

    async fn reopen_log(&self, _: &ContainerId) -> Result<()> {
        Ok(())
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        _: Duration,
    ) -> Result<ExecOutput> {
        self.with(|state| {
            let name = state.containers.get(&id.0).map(|c| c.config.name.clone());
            let name = name.ok_or_else(|| Error::NotFound(id.to_string()))?;
            let good = command.iter().skip(1).any(|flag| state.flags.contains(flag));
            state.calls.push(format!("exec {name} {}", command.join(" ")));
            Ok(ExecOutput { exit_code: i32::from(!good), ..ExecOutput::default() })
        })
    }

    async fn exec(&self, _: &ContainerId, _: &ExecOptions) -> Result<Session> {
        Err(Error::Unsupported("exec"))
    }

    async fn attach(&self, _: &ContainerId, _: &AttachOptions) -> Result<Session> {
        Err(Error::Unsupported("attach"))
    }

    async fn port_forward(&self, _: &SandboxId, _: u16) -> Result<BoxDuplex> {
        Err(Error::Unsupported("port-forward"))
    }

    fn watch(&self) -> BoxStream<'static, ()> {
        let changed = self.changed.subscribe();
        futures::stream::unfold(changed, |mut changed| async move {
            changed.changed().await.ok()?;
            Some(((), changed))
        })
        .boxed()
    }

    async fn pull_image(&self, image: &str, _: Option<&RegistryAuth>) -> Result<String> {
        self.with(|state| {
            state.calls.push(format!("pull {image}"));
            let found = state.images.get(image).map(|image| image.id.clone());
            found.ok_or_else(|| Error::ImagePull(format!("{image}: not found")))
        })
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self.with(|state| {
            state
                .images
                .values()
                .find(|i| i.id == image || i.repo_tags.iter().any(|tag| tag == image))
                .cloned()
        }))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.with(|state| state.images.values().cloned().collect()))
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        self.with(|state| state.images.retain(|_, i| i.id != image));
        Ok(())
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>> {
        Ok(Vec::new())
    }

    async fn image_fs(&self) -> Result<(u64, PathBuf)> {
        Err(Error::Unsupported("image file systems"))
    }
}
