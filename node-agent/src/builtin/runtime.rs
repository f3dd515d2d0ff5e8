//! The [`Runtime`] of machines without another one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::bell::Bell;
use super::cgroup::Cgroup;
use super::client::call;
use super::image::{self, ImageRecord, ImageStore, Reference};
use super::limits::SHIM_ANSWER_TIMEOUT;
use super::record::{self, ContainerRecord, SandboxDir, SandboxRecord, ShimRecord, StatusRecord};
use super::shim::protocol::Request;
use super::{sandbox, session, shim};
use crate::network::PodNetwork;
use crate::runtime::{
    AttachOptions, BoxDuplex, Container, ContainerConfig, ContainerId, ContainerState,
    ContainerStats, ContainerStatus, Error, ExecOptions, ExecOutput, Image, LinuxResources,
    NamespaceMode, PodSandboxConfig, RegistryAuth, Result, Runtime, RuntimeStatus, RuntimeVersion,
    Sandbox, SandboxId, SandboxState, SandboxStatus, Session,
};

/// What the built-in runtime needs to know.
#[derive(Debug, Clone)]
pub struct BuiltinConfig {
    /// `DATA/agent`: images, sandboxes and addresses live below it.
    pub agent_dir: PathBuf,
    /// Program and first arguments of a shim; the sandbox's directory is appended. Normally this program and
    /// `shim`: see [`BuiltinConfig::new`].
    pub shim_command: Vec<OsString>,
    /// Registries (`host:port`) without TLS, besides those on the loopback.
    pub plain_http_registries: BTreeSet<String>,
}

impl BuiltinConfig {
    /// The usual configuration: shims are this very program.
    pub fn new(agent_dir: &Path) -> BuiltinConfig {
        BuiltinConfig {
            agent_dir: agent_dir.to_owned(),
            shim_command: vec!["/proc/self/exe".into(), shim::SUBCOMMAND.into()],
            plain_http_registries: BTreeSet::new(),
        }
    }
}

/// The built-in runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BuiltinRuntime {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: BuiltinConfig,
    pub(super) sandboxes_dir: PathBuf,
    /// Cgroup of all sandboxes of this agent.
    pub(super) cgroup: Cgroup,
    images: ImageStore,
    pub(super) network: PodNetwork,
    pub(super) bell: Bell,
    known: Mutex<Known>,
}

/// What is on disk, too; kept to answer listings without reading it all.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) sandboxes: BTreeMap<String, SandboxRecord>,
    pub(super) containers: BTreeMap<String, ContainerRecord>,
    /// Sandboxes that are being stopped: that their shims end is no news.
    pub(super) stopping: BTreeSet<String>,
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |err| Error::Other(format!("{what}: {err}"))
}

impl BuiltinRuntime {
    /// Opens the runtime: adopts the sandboxes whose shims live and clears away what the others left.
    pub async fn open(config: BuiltinConfig) -> Result<BuiltinRuntime> {
        let sandboxes_dir = config.agent_dir.join("sandboxes");
        fs::create_dir_all(&sandboxes_dir)
            .map_err(io_error("cannot make the sandboxes' directory"))?;
        let sandboxes_dir = sandboxes_dir.canonicalize().map_err(io_error("cannot find it"))?;
        let agent_dir = config.agent_dir.canonicalize().map_err(io_error("cannot find it"))?;
        let missing = super::cgroup::delegate();
        if !missing.is_empty() {
            let controllers = missing.join(", ");
            tracing::warn!(%controllers, "cgroup controllers are not to be had: limits that need them are refused");
        }
        let images = ImageStore::open(&agent_dir.join("images")).map_err(Error::from)?;
        let network = PodNetwork::new(&agent_dir, &agent_dir.join("network"))
            .map_err(|err| Error::Other(image::chain(&err)))?;
        let cgroup = Cgroup(format!("/quorate-{}", crate::network::agent_tag(&agent_dir)));
        let known = Mutex::default();
        let bell = Bell::new();
        let inner = Inner { config, sandboxes_dir, cgroup, images, network, bell, known };
        let runtime = BuiltinRuntime { inner: Arc::new(inner) };
        sandbox::load_and_sweep(&runtime).await?;
        Ok(runtime)
    }

    /// The image store.
    pub fn images(&self) -> &ImageStore {
        &self.inner.images
    }

    /// The pod network, for services and for CNI's absence.
    pub fn network(&self) -> &PodNetwork {
        &self.inner.network
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // The maps are whole after any panic: each change is one call.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dir(&self, sandbox: &str) -> SandboxDir {
        SandboxDir(self.inner.sandboxes_dir.join(sandbox))
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<SandboxRecord> {
        let known = self.known().sandboxes.get(id).cloned();
        known.ok_or_else(|| Error::NotFound(format!("sandbox {id}")))
    }

    pub(super) fn container(&self, id: &ContainerId) -> Result<(ContainerRecord, SandboxDir)> {
        let known = self.known().containers.get(&id.0).cloned();
        let record = known.ok_or_else(|| Error::NotFound(format!("container {id}")))?;
        let dir = self.dir(&record.sandbox_id);
        Ok((record, dir))
    }

    fn status_of(&self, record: &ContainerRecord) -> StatusRecord {
        let dir = self.dir(&record.sandbox_id).container(&record.id);
        record::read(&dir.join("status.json")).unwrap_or_default()
    }

    fn line(&self, record: &ContainerRecord, status: &StatusRecord) -> Container {
        Container {
            id: ContainerId(record.id.clone()),
            sandbox_id: SandboxId(record.sandbox_id.clone()),
            name: record.config.name.clone(),
            attempt: record.config.attempt,
            image_ref: record.image_id.clone(),
            state: status.state,
            created_at: record.created_at,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }
    }

    /// Directory names of the layers that containers stand on.
    fn used_layers(&self) -> BTreeSet<String> {
        self.known().containers.values().flat_map(|c| c.layers.iter().cloned()).collect()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImageStore) -> image::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.inner.images.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(Error::from),
            Err(err) => Err(Error::Other(err.to_string())),
        }
    }

    async fn find_image(&self, image: &str) -> Result<Option<ImageRecord>> {
        let name = image.to_owned();
        self.blocking(move |store| store.find(&name)).await
    }
}

fn image_of(record: ImageRecord) -> Image {
    let user = record.config.user_part().to_owned();
    let uid = user.parse::<i64>().ok();
    Image {
        size_bytes: record.size_bytes(),
        id: record.id,
        repo_tags: record.tags.into_iter().collect(),
        repo_digests: record.digests.into_iter().collect(),
        uid,
        username: if uid.is_some() { String::new() } else { user },
        pinned: false,
    }
}

fn sandbox_line(record: &SandboxRecord, alive: bool) -> Sandbox {
    Sandbox {
        id: SandboxId(record.id.clone()),
        metadata: record.config.metadata.clone(),
        state: if alive { SandboxState::Ready } else { SandboxState::NotReady },
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
    }
}

/// Bytes of the files below a directory.
fn tree_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => tree_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[async_trait]
impl Runtime for BuiltinRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(RuntimeVersion { name: "quorate".into(), version })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        let not_ready = self.inner.network.not_ready().await;
        let network_ready = not_ready.is_none();
        Ok(RuntimeStatus {
            runtime_ready: true,
            network_ready,
            message: not_ready.unwrap_or_default(),
        })
    }

    async fn update_pod_cidrs(&self, cidrs: &[String]) -> Result<()> {
        self.inner.network.clear_abandoned(None).await;
        let set = self.inner.network.set_cidrs(cidrs).await;
        set.map_err(|err| Error::Other(image::chain(&err)))
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<SandboxId> {
        sandbox::run(self, config).await
    }

    async fn stop_pod_sandbox(&self, id: &SandboxId) -> Result<()> {
        sandbox::stop(self, &id.0).await
    }

    async fn remove_pod_sandbox(&self, id: &SandboxId) -> Result<()> {
        sandbox::remove(self, &id.0).await
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<Sandbox>> {
        let records: Vec<SandboxRecord> = self.known().sandboxes.values().cloned().collect();
        let mut list = Vec::new();
        for record in records {
            let alive = sandbox::check(self, &record).await;
            list.push(sandbox_line(&record, alive));
        }
        Ok(list)
    }

    async fn pod_sandbox_status(&self, id: &SandboxId) -> Result<SandboxStatus> {
        let record = self.sandbox(&id.0)?;
        let alive = sandbox::check(self, &record).await;
        let shim: Option<ShimRecord> = record::read(&self.dir(&id.0).shim());
        let own = record.config.security.namespaces.network != NamespaceMode::Node;
        let namespace =
            shim.filter(|_| alive && own).map(|s| format!("/proc/{}/ns/net", s.pid).into());
        let ips = if alive { record.ips.clone() } else { Vec::new() };
        Ok(SandboxStatus {
            sandbox: sandbox_line(&record, alive),
            ips,
            network_namespace: namespace,
        })
    }

    async fn create_container(
        &self,
        id: &SandboxId,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<ContainerId> {
        self.sandbox(&id.0)?;
        let image = self.find_image(&config.image).await?;
        let image = image.ok_or_else(|| Error::NotFound(format!("image {}", config.image)))?;
        let container = uuid::Uuid::new_v4().simple().to_string();
        let record = ContainerRecord {
            id: container.clone(),
            sandbox_id: id.0.clone(),
            config: config.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            image_name: image.tags.first().unwrap_or(&config.user_image).clone(),
            image_id: image.id,
            image_config: image.config,
            layers_dir: self.inner.images.layers_dir(),
            layers: image.layers.iter().map(|layer| layer.dir_name().to_owned()).collect(),
            created_at: quorate_chance::now(),
            log_path: if config.log_path.as_os_str().is_empty() {
                PathBuf::new()
            } else {
                sandbox.log_directory.join(&config.log_path)
            },
        };
        let dir = self.dir(&id.0);
        let own = dir.container(&container);
        fs::create_dir_all(&own).map_err(io_error("cannot make the container's directory"))?;
        record::write(&own.join("container.json"), &record).map_err(io_error("cannot write"))?;
        // Entered first: the layers are in use from now on.
        self.known().containers.insert(container.clone(), record);
        self.inner.bell.follow_container(&own);
        let request = Request::Create { container: container.clone() };
        if let Err(err) = call(&dir, request, SHIM_ANSWER_TIMEOUT).await {
            let request = Request::Remove { container: container.clone() };
            let _ = call(&dir, request, SHIM_ANSWER_TIMEOUT).await;
            let _ = fs::remove_dir_all(&own);
            self.known().containers.remove(&container);
            return Err(err);
        }
        Ok(ContainerId(container))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let (_, dir) = self.container(id)?;
        let request = Request::Start { container: id.0.clone() };
        call(&dir, request, SHIM_ANSWER_TIMEOUT).await.map(drop)
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let Ok((record, dir)) = self.container(id) else { return Ok(()) };
        let names = [&record.config.stop_signal, &record.image_config.stop_signal];
        let signal = names.into_iter().find(|name| !name.is_empty());
        let request = Request::Stop {
            container: id.0.clone(),
            signal: signal.map_or_else(|| "SIGTERM".into(), Clone::clone),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        match call(&dir, request, grace + SHIM_ANSWER_TIMEOUT).await {
            // A shim that is gone takes its containers with it.
            Err(Error::Unavailable(_)) => {
                let sandbox = self.sandbox(&record.sandbox_id);
                if let Ok(sandbox) = sandbox
                    && sandbox::check(self, &sandbox).await
                {
                    return Err(Error::Unavailable("the pod's shim does not answer".into()));
                }
                Ok(())
            }
            other => other.map(drop),
        }
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let Ok((record, dir)) = self.container(id) else { return Ok(()) };
        self.stop_container(id, Duration::ZERO).await?;
        let request = Request::Remove { container: id.0.clone() };
        match call(&dir, request, SHIM_ANSWER_TIMEOUT).await {
            Err(Error::Unavailable(_)) | Ok(_) => {}
            Err(err) => return Err(err),
        }
        sandbox::remove_tree(&dir.container(&record.id))?;
        self.known().containers.remove(&id.0);
        Ok(())
    }

    async fn list_containers(&self) -> Result<Vec<Container>> {
        let records: Vec<ContainerRecord> = self.known().containers.values().cloned().collect();
        self.list_pod_sandboxes().await?;
        Ok(records.iter().map(|record| self.line(record, &self.status_of(record))).collect())
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let (record, _) = self.container(id)?;
        if let Ok(sandbox) = self.sandbox(&record.sandbox_id) {
            sandbox::check(self, &sandbox).await;
        }
        let status = self.status_of(&record);
        Ok(ContainerStatus {
            container: self.line(&record, &status),
            started_at: status.started_at,
            finished_at: status.finished_at,
            exit_code: status.exit_code,
            reason: status.reason,
            message: status.message,
            image: record.image_name,
            image_id: record.image_ref,
            log_path: record.log_path,
        })
    }

    async fn update_container_resources(
        &self,
        id: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()> {
        let (record, _) = self.container(id)?;
        let sandbox = self.sandbox(&record.sandbox_id)?;
        let cgroup = Cgroup(sandbox.cgroup).child(&record.id);
        cgroup.update(resources).map_err(io_error("cannot set limits"))
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let (_, dir) = self.container(id)?;
        let request = Request::ReopenLog { container: id.0.clone() };
        call(&dir, request, SHIM_ANSWER_TIMEOUT).await.map(drop)
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput> {
        let (_, dir) = self.container(id)?;
        session::exec_sync(&dir, &id.0, command, timeout).await
    }

    async fn exec(&self, id: &ContainerId, options: &ExecOptions) -> Result<Session> {
        let (_, dir) = self.container(id)?;
        session::exec(&dir, &id.0, options).await
    }

    async fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Result<Session> {
        let (_, dir) = self.container(id)?;
        session::attach(&dir, &id.0, options).await
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<BoxDuplex> {
        self.sandbox(&id.0)?;
        let request = Request::Connect { port };
        let socket = call(&self.dir(&id.0), request, SHIM_ANSWER_TIMEOUT).await?;
        let socket = socket.ok_or_else(|| Error::Other("no socket came".into()))?;
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true).map_err(Error::Stream)?;
        Ok(Box::new(tokio::net::TcpStream::from_std(stream).map_err(Error::Stream)?))
    }

    fn watch(&self) -> BoxStream<'static, ()> {
        self.inner.bell.rings()
    }

    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String> {
        let reference = Reference::parse(image).map_err(|err| Error::Invalid(err.to_string()))?;
        let plain = &self.inner.config.plain_http_registries;
        let pulled = image::pull::pull(&self.inner.images, &reference, auth, plain).await;
        Ok(pulled.map_err(Error::from)?.id)
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self.find_image(image).await?.map(image_of))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        let images = self.blocking(ImageStore::list).await?;
        Ok(images.into_iter().map(image_of).collect())
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let (name, used) = (image.to_owned(), self.used_layers());
        self.blocking(move |store| store.remove(&name, &used)).await
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>> {
        let known: Vec<(ContainerRecord, String)> = {
            let known = self.known();
            let cgroup =
                |c: &ContainerRecord| known.sandboxes.get(&c.sandbox_id).map(|s| s.cgroup.clone());
            known.containers.values().filter_map(|c| Some((c.clone(), cgroup(c)?))).collect()
        };
        let mut list = Vec::new();
        for (record, cgroup) in known {
            if self.status_of(&record).state != ContainerState::Running {
                continue;
            }
            let cgroup = Cgroup(cgroup).child(&record.id);
            let upper = self.dir(&record.sandbox_id).container(&record.id).join("upper");
            list.push(ContainerStats {
                id: Some(ContainerId(record.id)),
                labels: record.config.labels,
                cpu_usage_ns: cgroup.cpu_usage_ns(),
                memory_working_set_bytes: cgroup.memory_working_set_bytes(),
                rootfs_used_bytes: tree_bytes(&upper),
            });
        }
        Ok(list)
    }

    async fn image_fs(&self) -> Result<(u64, PathBuf)> {
        let used = self.blocking(ImageStore::used_bytes).await?;
        Ok((used, self.inner.images.root().to_owned()))
    }
}

/// The addresses of a pod as the network gave them.
pub(super) fn addresses(address: Option<IpAddr>) -> Vec<IpAddr> {
    address.into_iter().collect()
}
