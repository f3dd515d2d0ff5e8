//! The seam to whatever runs containers, shaped like CRI (Kubernetes' `runtime.v1`) but in our own types: the agent's
//! lifecycle knows this trait only.
//!
//! Rules that every implementation keeps:
//! * Idempotent ends: stopping or removing what does not exist is `Ok`.
//! * Labels, annotations and exit codes survive the agent and, where its processes survive, the runtime: after a
//!   restart `list_*` shows everything that runs.
//! * Dropping a future abandons waiting, not the work: the agent looks again before it repeats anything.
//! * Container logs are files in the CRI log format at
//!   `<log_directory>/<log_path>`, by the agent's convention
//!   `<data>/agent/pods/<namespace>_<name>_<uid>/<container>/<attempt>.log`.

pub mod container;
pub mod error;
pub mod image;
pub mod sandbox;
pub mod stream;

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;

pub use container::{
    Container, ContainerConfig, ContainerId, ContainerState, ContainerStats, ContainerStatus,
    Device, LinuxResources, Mount, NamespaceMode, NamespaceModes, Propagation, SecurityContext,
    SecurityProfile, SelinuxOptions,
};
pub use error::{Error, Result};
pub use image::{Image, RegistryAuth};
pub use sandbox::{
    DnsConfig, PodSandboxConfig, PortMapping, Protocol, Sandbox, SandboxId, SandboxMetadata,
    SandboxState, SandboxStatus,
};
pub use stream::{
    AttachOptions, BoxDuplex, BoxRead, BoxWrite, Duplex, ExecOptions, ExecOutput, Session,
    TerminalSize,
};

/// What runs, by name and version. `status.nodeInfo.containerRuntimeVersion` is `<name>://<version>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `containerd`, `cri-o`, `quorate`.
    pub name: String,
    /// Its own version.
    pub version: String,
}

/// Whether the runtime can take pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// It can run containers.
    pub runtime_ready: bool,
    /// It can give pods a network (before that only host-network pods start).
    pub network_ready: bool,
    /// Human words to whichever is false.
    pub message: String,
}

/// A container runtime.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version.
    async fn version(&self) -> Result<RuntimeVersion>;

    /// Whether it is ready. Cheap: asked every few seconds.
    async fn status(&self) -> Result<RuntimeStatus>;

    /// Tells the pod CIDRs of this node once known, and when they change. New sandboxes use them.
    async fn update_pod_cidrs(&self, cidrs: &[String]) -> Result<()>;

    /// Makes the sandbox, with its network, and starts it. Fails with nothing left behind, or with a listed
    /// `NotReady` sandbox.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<SandboxId>;

    /// Kills all its containers at once and releases its network. Idempotent.
    async fn stop_pod_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// Removes it and its containers with all their files but the logs. Stops it first if need be. Idempotent.
    async fn remove_pod_sandbox(&self, id: &SandboxId) -> Result<()>;

    /// All sandboxes, in any state.
    async fn list_pod_sandboxes(&self) -> Result<Vec<Sandbox>>;

    /// One sandbox, with its addresses.
    async fn pod_sandbox_status(&self, id: &SandboxId) -> Result<SandboxStatus>;

    /// Makes a container in a ready sandbox; does not start it. `sandbox` is the configuration the sandbox was made
    /// with.
    async fn create_container(
        &self,
        id: &SandboxId,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<ContainerId>;

    /// Starts a created container. [`Error::Start`] when the process cannot be started; the container is then
    /// `Exited` (code 128) or still `Created`.
    async fn start_container(&self, id: &ContainerId) -> Result<()>;

    /// Sends the stop signal, waits up to `grace` for the end, then kills. Returns when the process is gone.
    /// Idempotent.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Removes a container and its writable layer, not its log. Kills it first if need be. Idempotent.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;

    /// All containers, in any state.
    async fn list_containers(&self) -> Result<Vec<Container>>;

    /// One container in full.
    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus>;

    /// Applies new limits to a running container.
    async fn update_container_resources(
        &self,
        id: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()>;

    /// Opens the log file anew, after it was renamed by rotation.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()>;

    /// Runs a command in a running container to its end, or kills it at `timeout` ([`Error::Timeout`]).
    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput>;

    /// Runs a command in a running container with its streams.
    async fn exec(&self, id: &ContainerId, options: &ExecOptions) -> Result<Session>;

    /// Joins the streams of a running container's own process.
    async fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Result<Session>;

    /// Connects to a TCP port inside the pod (its loopback, as the kubelet does).
    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<BoxDuplex>;

    /// Something of the runtime's containers changed: a hint to look, so that an end is seen at once. A stream that
    /// ends is asked for again later. The default never says anything.
    fn watch(&self) -> BoxStream<'static, ()> {
        futures::stream::pending().boxed()
    }

    /// Pulls an image and returns its id. The same image pulled again is cheap.
    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String>;

    /// The image by reference or id, when it is here.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;

    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>>;

    /// Removes an image by reference or id. Idempotent.
    async fn remove_image(&self, image: &str) -> Result<()>;

    /// Usage of all running containers.
    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>>;

    /// Bytes that images take, and the directory whose file system holds them.
    async fn image_fs(&self) -> Result<(u64, std::path::PathBuf)>;
}
