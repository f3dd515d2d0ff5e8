//! [`CriRuntime`]: the runtime trait over a CRI socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use super::wire::image_service_client::ImageServiceClient;
use super::wire::runtime_service_client::RuntimeServiceClient;
use super::{convert, events, streaming, wire};
use crate::limits::{
    CRI_CALL_TIMEOUT, CRI_MESSAGE_BYTES_MAX, EXEC_SYNC_OUTPUT_BYTES_MAX, IMAGE_PULL_TIMEOUT,
};
use crate::runtime::{
    AttachOptions, BoxDuplex, Container, ContainerConfig, ContainerId, ContainerStats,
    ContainerStatus, Error, ExecOptions, ExecOutput, Image, LinuxResources, PodSandboxConfig,
    RegistryAuth, Result, Runtime, RuntimeStatus, RuntimeVersion, Sandbox, SandboxId,
    SandboxStatus, Session,
};

/// Where CRI runtimes listen by default, in the order they are tried.
pub const DEFAULT_SOCKETS: [&str; 3] =
    ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/var/run/crio/crio.sock"];

/// A container runtime behind a CRI v1 socket (containerd 1.6 and later, CRI-O). Connections are made when needed and
/// again after the runtime restarted.
#[derive(Debug, Clone)]
pub struct CriRuntime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
    socket: PathBuf,
    /// The image of the runtime's own sandbox containers, once asked.
    sandbox_image: Arc<OnceCell<Option<String>>>,
}

impl CriRuntime {
    /// A client of the socket; nothing is connected yet. Must be called within a tokio runtime.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        let socket = socket.as_ref().to_owned();
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is a formality: the connector decides.
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        CriRuntime {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(CRI_MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(CRI_MESSAGE_BYTES_MAX),
            channel,
            socket,
            sandbox_image: Arc::default(),
        }
    }

    /// Runtimes that do not mark their sandbox image as pinned (containerd before 1.7) name it in their configuration.
    async fn ask_sandbox_image(&self) -> Option<String> {
        let request = wire::StatusRequest { verbose: true };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().status(request)).await.ok()?;
        let config: serde_json::Value = serde_json::from_str(answer.info.get("config")?).ok()?;
        let name = config.get("sandboxImage")?.as_str()?;
        crate::images::normalize(name).ok()
    }

    /// The socket this client speaks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn failed(status: Status) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => Error::NotFound(message),
        Code::Unavailable => Error::Unavailable(message),
        Code::DeadlineExceeded => Error::Timeout(Duration::ZERO),
        Code::InvalidArgument => Error::Invalid(message),
        Code::Unimplemented => Error::Unsupported("this call"),
        Code::Unknown if message.contains("not found") && message.contains("no such") => {
            Error::NotFound(message)
        }
        _ => Error::Other(message),
    }
}

/// Runs a call with a deadline, and gives its answer without the envelope.
async fn call<T>(
    limit: Duration,
    future: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(status)),
        Err(_) => Err(Error::Timeout(limit)),
    }
}

fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    }
}

fn image_spec(image: &str) -> wire::ImageSpec {
    wire::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
        ..Default::default()
    }
}

/// Seconds, rounded up: CRI counts in whole ones, and 0 would mean "at once" or "for ever".
fn seconds(duration: Duration) -> i64 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// The kubelet's classes of pull errors, by the runtime's words.
fn pull_failed(status: Status) -> Error {
    let message = status.message().to_owned();
    if status.code() == Code::Unavailable {
        return Error::Unavailable(message);
    }
    let unreachable = ["no such host", "connection refused", "i/o timeout", "dial tcp"];
    if unreachable.iter().any(|words| message.contains(words)) {
        return Error::RegistryUnavailable(message);
    }
    Error::ImagePull(message)
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn version(&self) -> Result<RuntimeVersion> {
        let request = wire::VersionRequest { version: "v1".to_owned() };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().version(request)).await?;
        Ok(RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        let request = wire::StatusRequest { verbose: false };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().status(request)).await?;
        let mut status = RuntimeStatus::default();
        for condition in answer.status.unwrap_or_default().conditions {
            match condition.r#type.as_str() {
                "RuntimeReady" => status.runtime_ready = condition.status,
                "NetworkReady" => status.network_ready = condition.status,
                _ => continue,
            }
            if !condition.status {
                status.message = format!(
                    "container runtime network not ready: {}={} reason:{} message:{}",
                    condition.r#type, condition.status, condition.reason, condition.message
                );
            }
        }
        Ok(status)
    }

    async fn update_pod_cidrs(&self, cidrs: &[String]) -> Result<()> {
        let network_config = Some(wire::NetworkConfig { pod_cidr: cidrs.join(",") });
        let request = wire::UpdateRuntimeConfigRequest {
            runtime_config: Some(wire::RuntimeConfig { network_config }),
        };
        call(CRI_CALL_TIMEOUT, self.runtime.clone().update_runtime_config(request)).await?;
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<SandboxId> {
        let request = wire::RunPodSandboxRequest {
            config: Some(convert::sandbox_config(config)),
            runtime_handler: config.runtime_handler.clone(),
        };
        let limit = CRI_CALL_TIMEOUT * 2;
        let answer = call(limit, self.runtime.clone().run_pod_sandbox(request)).await?;
        Ok(SandboxId(answer.pod_sandbox_id))
    }

    async fn stop_pod_sandbox(&self, id: &SandboxId) -> Result<()> {
        let request = wire::StopPodSandboxRequest { pod_sandbox_id: id.0.clone() };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().stop_pod_sandbox(request)).await;
        ignore_missing(answer.map(|_| ()))
    }

    async fn remove_pod_sandbox(&self, id: &SandboxId) -> Result<()> {
        let request = wire::RemovePodSandboxRequest { pod_sandbox_id: id.0.clone() };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().remove_pod_sandbox(request)).await;
        ignore_missing(answer.map(|_| ()))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<Sandbox>> {
        let request = wire::ListPodSandboxRequest {};
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().list_pod_sandbox(request)).await?;
        Ok(answer.items.into_iter().map(convert::sandbox).collect())
    }

    async fn pod_sandbox_status(&self, id: &SandboxId) -> Result<SandboxStatus> {
        let request =
            wire::PodSandboxStatusRequest { pod_sandbox_id: id.0.clone(), verbose: false };
        let answer =
            call(CRI_CALL_TIMEOUT, self.runtime.clone().pod_sandbox_status(request)).await?;
        let status = answer.status.ok_or_else(|| Error::NotFound(format!("sandbox {id}")))?;
        Ok(convert::sandbox_status(status))
    }

    async fn create_container(
        &self,
        id: &SandboxId,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<ContainerId> {
        if config.security.strict_groups {
            // Runtimes that do not know the field would ignore it in silence.
            return Err(Error::Invalid(
                "supplementalGroupsPolicy Strict is not supported with this container runtime"
                    .into(),
            ));
        }
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: id.0.clone(),
            config: Some(convert::container_config(config)),
            sandbox_config: Some(convert::sandbox_config(sandbox)),
        };
        let mut client = self.runtime.clone();
        let creating = Box::pin(client.create_container(request));
        let answer = call(CRI_CALL_TIMEOUT, creating).await?;
        Ok(ContainerId(answer.container_id))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let request = wire::StartContainerRequest { container_id: id.0.clone() };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().start_container(request)).await;
        match answer {
            Ok(_) => Ok(()),
            Err(Error::Other(message)) => Err(Error::Start(message)),
            Err(other) => Err(other),
        }
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let timeout = seconds(grace);
        let request = wire::StopContainerRequest { container_id: id.0.clone(), timeout };
        let limit = CRI_CALL_TIMEOUT + grace;
        let answer = call(limit, self.runtime.clone().stop_container(request)).await;
        ignore_missing(answer.map(|_| ()))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let request = wire::RemoveContainerRequest { container_id: id.0.clone() };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().remove_container(request)).await;
        ignore_missing(answer.map(|_| ()))
    }

    async fn list_containers(&self) -> Result<Vec<Container>> {
        let request = wire::ListContainersRequest {};
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().list_containers(request)).await?;
        Ok(answer.containers.into_iter().map(convert::container).collect())
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let request = wire::ContainerStatusRequest { container_id: id.0.clone(), verbose: false };
        let answer = call(CRI_CALL_TIMEOUT, self.runtime.clone().container_status(request)).await?;
        let status = answer.status.ok_or_else(|| Error::NotFound(format!("container {id}")))?;
        // CRI does not tell the sandbox here; the listing does.
        Ok(convert::container_status(status, SandboxId(String::new())))
    }

    async fn update_container_resources(
        &self,
        id: &ContainerId,
        resources: &LinuxResources,
    ) -> Result<()> {
        let request = wire::UpdateContainerResourcesRequest {
            container_id: id.0.clone(),
            linux: Some(convert::resources(resources)),
        };
        call(CRI_CALL_TIMEOUT, self.runtime.clone().update_container_resources(request)).await?;
        Ok(())
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let request = wire::ReopenContainerLogRequest { container_id: id.0.clone() };
        call(CRI_CALL_TIMEOUT, self.runtime.clone().reopen_container_log(request)).await?;
        Ok(())
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput> {
        let request = wire::ExecSyncRequest {
            container_id: id.0.clone(),
            cmd: command.to_vec(),
            timeout: seconds(timeout),
        };
        let limit = timeout + CRI_CALL_TIMEOUT;
        let answer = call(limit, self.runtime.clone().exec_sync(request)).await;
        match answer {
            Ok(mut answer) => {
                answer.stdout.truncate(EXEC_SYNC_OUTPUT_BYTES_MAX);
                answer.stderr.truncate(EXEC_SYNC_OUTPUT_BYTES_MAX);
                let exit_code = answer.exit_code;
                Ok(ExecOutput { stdout: answer.stdout, stderr: answer.stderr, exit_code })
            }
            Err(Error::Timeout(_)) => Err(Error::Timeout(timeout)),
            // containerd answers "… timed out: context deadline exceeded" with code Unknown.
            Err(Error::Other(message)) if message.contains("deadline exceeded") => {
                Err(Error::Timeout(timeout))
            }
            Err(other) => Err(other),
        }
    }

    async fn exec(&self, id: &ContainerId, options: &ExecOptions) -> Result<Session> {
        let stderr = options.stderr && !options.tty;
        let request = wire::ExecRequest {
            container_id: id.0.clone(),
            cmd: options.command.clone(),
            tty: options.tty,
            stdin: options.stdin,
            stdout: options.stdout,
            stderr,
        };
        let url = call(CRI_CALL_TIMEOUT, self.runtime.clone().exec(request)).await?.url;
        let streams = streaming::Streams {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr,
            tty: options.tty,
        };
        streaming::session(&url, streams).await
    }

    async fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Result<Session> {
        let stderr = options.stderr && !options.tty;
        let request = wire::AttachRequest {
            container_id: id.0.clone(),
            stdin: options.stdin,
            tty: options.tty,
            stdout: options.stdout,
            stderr,
        };
        let url = call(CRI_CALL_TIMEOUT, self.runtime.clone().attach(request)).await?.url;
        let streams = streaming::Streams {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr,
            tty: options.tty,
        };
        streaming::session(&url, streams).await
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<BoxDuplex> {
        let request =
            wire::PortForwardRequest { pod_sandbox_id: id.0.clone(), port: vec![i32::from(port)] };
        let url = call(CRI_CALL_TIMEOUT, self.runtime.clone().port_forward(request)).await?.url;
        streaming::port_forward(&url, port).await
    }

    fn watch(&self) -> BoxStream<'static, ()> {
        events::watch(self.runtime.clone(), self.channel.clone())
    }

    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String> {
        let request = wire::PullImageRequest {
            image: Some(image_spec(image)),
            auth: auth.map(convert::auth),
            sandbox_config: None,
        };
        let pull = self.images.clone();
        let mut pull = pull;
        match tokio::time::timeout(IMAGE_PULL_TIMEOUT, pull.pull_image(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().image_ref),
            Ok(Err(status)) => Err(pull_failed(status)),
            Err(_) => Err(Error::Timeout(IMAGE_PULL_TIMEOUT)),
        }
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let request = wire::ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        let answer = call(CRI_CALL_TIMEOUT, self.images.clone().image_status(request)).await?;
        Ok(answer.image.map(convert::image))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        let request = wire::ListImagesRequest { filter: None };
        let answer = call(CRI_CALL_TIMEOUT, self.images.clone().list_images(request)).await?;
        let mut images: Vec<Image> = answer.images.into_iter().map(convert::image).collect();
        let sandbox = self.sandbox_image.get_or_init(|| self.ask_sandbox_image()).await;
        if let Some(sandbox) = sandbox {
            for image in &mut images {
                let names = [&image.repo_tags, &image.repo_digests];
                image.pinned |= names.into_iter().flatten().any(|name| name == sandbox);
            }
        }
        Ok(images)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let request = wire::RemoveImageRequest { image: Some(image_spec(image)) };
        let answer = call(CRI_CALL_TIMEOUT, self.images.clone().remove_image(request)).await;
        ignore_missing(answer.map(|_| ()))
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>> {
        let request = wire::ListContainerStatsRequest {};
        let answer =
            call(CRI_CALL_TIMEOUT, self.runtime.clone().list_container_stats(request)).await?;
        Ok(answer.stats.into_iter().map(convert::stats).collect())
    }

    async fn image_fs(&self) -> Result<(u64, PathBuf)> {
        let request = wire::ImageFsInfoRequest {};
        let answer = call(CRI_CALL_TIMEOUT, self.images.clone().image_fs_info(request)).await?;
        let used = answer.image_filesystems.into_iter().next().unwrap_or_default();
        let bytes = used.used_bytes.map_or(0, |bytes| bytes.value);
        let path = used.fs_id.map(|id| id.mountpoint).unwrap_or_default();
        Ok((bytes, path.into()))
    }
}
