//! One agent for one test: its own data directory, bridge and addresses, and an image made of this machine's busybox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_node_agent::builtin::image::archive;
use quorate_node_agent::builtin::{BuiltinConfig, BuiltinRuntime};
use quorate_node_agent::runtime::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, NamespaceMode, PodSandboxConfig,
    Runtime, SandboxId, SandboxMetadata, SecurityContext,
};
use sha2::{Digest, Sha256};

pub(crate) const BUSYBOX: &str = "/bin/busybox";
pub(crate) const IMAGE: &str = "docker.io/library/busybox:test";

/// One agent with its own data directory, bridge and addresses.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: BuiltinRuntime,
    pub(crate) cidr: String,
}

pub(crate) fn can_run(test: &str) -> bool {
    if rustix::process::geteuid().is_root() && Path::new(BUSYBOX).exists() {
        return true;
    }
    eprintln!("SKIPPED {test}: needs root and {BUSYBOX}");
    false
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, body: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(body.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    tar.append_data(&mut header, path, body).unwrap();
}

/// What `docker save` would write.
pub(crate) fn image_archive(dir: &Path) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "bin/busybox", &std::fs::read(BUSYBOX).unwrap(), 0o755);
    for name in [
        "sh", "sleep", "cat", "echo", "id", "ping", "stty", "dd", "nc", "ls", "touch", "hostname",
        "ps", "grep", "unshare", "mkdir", "mount", "mknod", "yes", "head", "netstat", "chown",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        header.set_mode(0o755);
        layer.append_link(&mut header, format!("bin/{name}"), "bin/busybox").unwrap();
    }
    add(&mut layer, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n", 0o644);
    add(&mut layer, "etc/group", b"root:x:0:\nweb:x:34:\nmore:x:77:web\n", 0o644);
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    })
    .to_string();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["busybox:test"], "Layers": ["l/layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, "config.json", config.as_bytes(), 0o644);
    add(&mut archive, "l/layer.tar", &layer, 0o644);
    add(&mut archive, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    let path = dir.join("image.tar");
    std::fs::write(&path, archive.into_inner().unwrap()).unwrap();
    path
}

impl World {
    pub(crate) async fn new(number: u8) -> World {
        let dir = tempfile::tempdir().unwrap();
        let runtime = World::open(dir.path()).await;
        let path = image_archive(dir.path());
        archive::import(runtime.images(), &path, None).unwrap();
        let cidr = World::take_cidr(&runtime, number).await;
        World { dir, runtime, cidr }
    }

    /// The first range that nobody has: other runs of these tests may be under way on this machine.
    pub(crate) async fn take_cidr(runtime: &BuiltinRuntime, number: u8) -> String {
        for try_ in 0..200_u32 {
            // 10.64 to 10.127: from 10.150 on the tests of whole clusters clear away what is not theirs.
            let block = (std::process::id().wrapping_mul(31) + try_) % 64 + 64;
            let cidr = format!("10.{block}.{number}.0/24");
            match runtime.update_pod_cidrs(std::slice::from_ref(&cidr)).await {
                Ok(()) => return cidr,
                Err(err) => assert!(err.to_string().contains("is in use"), "{err}"),
            }
        }
        panic!("no free range for the pods");
    }

    /// The host's address on the pods' bridge.
    pub(crate) fn gateway(&self) -> String {
        self.cidr.replace(".0/24", ".1")
    }

    pub(crate) async fn open(dir: &Path) -> BuiltinRuntime {
        let config = BuiltinConfig {
            shim_command: vec![env!("CARGO_BIN_EXE_quorate-shim-for-tests").into()],
            ..BuiltinConfig::new(&dir.join("agent"))
        };
        std::fs::create_dir_all(&config.agent_dir).unwrap();
        BuiltinRuntime::open(config).await.unwrap()
    }

    /// The agent dies, another one comes.
    pub(crate) async fn restart(self) -> World {
        let World { dir, runtime, cidr } = self;
        // The dead hold no claim to their network.
        drop(runtime);
        let runtime = World::open(dir.path()).await;
        runtime.update_pod_cidrs(std::slice::from_ref(&cidr)).await.unwrap();
        World { dir, runtime, cidr }
    }

    pub(crate) fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: SandboxMetadata {
                name: name.into(),
                namespace: "default".into(),
                uid: name.into(),
                attempt: 0,
            },
            hostname: name.into(),
            log_directory: self.dir.path().join("logs").join(name),
            labels: BTreeMap::from([("app".into(), name.into())]),
            ..PodSandboxConfig::default()
        }
    }

    pub(crate) fn shell(script: &str) -> ContainerConfig {
        ContainerConfig {
            name: "main".into(),
            image: IMAGE.into(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: "main/0.log".into(),
            security: SecurityContext {
                namespaces: quorate_node_agent::runtime::NamespaceModes {
                    pid: NamespaceMode::Container,
                    ..Default::default()
                },
                ..SecurityContext::default()
            },
            ..ContainerConfig::default()
        }
    }

    pub(crate) async fn sandbox(&self, config: &PodSandboxConfig) -> SandboxId {
        let mut config = config.clone();
        if config.security.namespaces.pid == NamespaceMode::Pod
            && !config.annotations.contains_key("shared")
        {
            config.security.namespaces.pid = NamespaceMode::Container;
        }
        self.runtime.run_pod_sandbox(&config).await.unwrap()
    }

    /// Makes a pod with one running container.
    pub(crate) async fn run(
        &self,
        name: &str,
        config: &ContainerConfig,
    ) -> (SandboxId, ContainerId) {
        let pod = self.pod(name);
        let sandbox = self.sandbox(&pod).await;
        let container = self.runtime.create_container(&sandbox, config, &pod).await.unwrap();
        self.runtime.start_container(&container).await.unwrap();
        (sandbox, container)
    }

    pub(crate) async fn ended(&self, id: &ContainerId) -> ContainerStatus {
        for _ in 0..600 {
            let status = self.runtime.container_status(id).await.unwrap();
            if status.container.state == ContainerState::Exited {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("container {id} did not end");
    }

    /// Returns once the container's log has a line that begins so: its script has come that far. Lines of stdout and of
    /// stderr come in any order.
    pub(crate) async fn said(&self, id: &ContainerId, line: &str) -> String {
        let mut log = Vec::new();
        for _ in 0..600 {
            let status = self.runtime.container_status(id).await.unwrap();
            log = World::log(&status);
            if let Some(said) = log.iter().find(|said| said.starts_with(line)) {
                return said.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("container {id} did not say {line:?}, but {log:?}");
    }

    /// The container's log without times: `stdout F line`.
    pub(crate) fn log(status: &ContainerStatus) -> Vec<String> {
        let text = std::fs::read_to_string(&status.log_path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub(crate) async fn output(
        &self,
        name: &str,
        config: &ContainerConfig,
    ) -> (ContainerStatus, Vec<String>) {
        let (_, container) = self.run(name, config).await;
        let status = self.ended(&container).await;
        let log = World::log(&status);
        (status, log)
    }

    pub(crate) async fn sh(&self, id: &ContainerId, script: &str) -> (i32, String) {
        let command = ["sh", "-c", script].map(str::to_owned);
        let output = self.runtime.exec_sync(id, &command, Duration::from_secs(20)).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.exit_code, String::from_utf8(text).unwrap())
    }

    /// Removes all pods and shows that nothing is left on the host.
    pub(crate) async fn finish(self) {
        for sandbox in self.runtime.list_pod_sandboxes().await.unwrap() {
            self.runtime.stop_pod_sandbox(&sandbox.id).await.unwrap();
            self.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
        }
        assert!(self.runtime.list_containers().await.unwrap().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.path().display().to_string();
        assert!(!mounts.contains(&dir), "a mount leaked:\n{mounts}");
        let bridge = self.runtime.network().bridge();
        let ports = std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).unwrap().count();
        assert_eq!(ports, 0, "a veth leaked");
        let tag = bridge.trim_start_matches("qbr").to_owned();
        for root in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let left = std::fs::read_dir(format!("{root}/quorate-{tag}")).into_iter().flatten();
            let left: Vec<_> = left.flatten().filter(|entry| entry.path().is_dir()).collect();
            assert!(left.is_empty(), "a cgroup leaked: {left:?}");
        }
        self.runtime.network().teardown().await.unwrap();
        for root in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(root.path().join(format!("quorate-{tag}")));
        }
    }
}
