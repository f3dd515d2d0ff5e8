//! Containers: configuration, state and usage.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use super::sandbox::SandboxId;

/// Names a container within its runtime. Never reused.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ContainerId(pub String);

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything a runtime needs to make a container.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// The container's name in its pod.
    pub name: String,
    /// How often a container of this name ran in this pod before: the `n` of `<container>/<n>.log`.
    pub attempt: u32,
    /// What to run: an image id or reference as [`super::Runtime::pull_image`] or `image_status` gave it.
    pub image: String,
    /// The image as the pod's author wrote it.
    pub user_image: String,
    /// Overrides the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Overrides the image's cmd when not empty (or dropped when only `command` is set).
    pub args: Vec<String>,
    /// Overrides the image's working directory when not empty.
    pub working_dir: String,
    /// Environment in order; on top of the image's.
    pub env: Vec<(String, String)>,
    /// Bind mounts in order.
    pub mounts: Vec<Mount>,
    /// Host devices.
    pub devices: Vec<Device>,
    /// Must persist: the agent adopts its containers by them.
    pub labels: BTreeMap<String, String>,
    /// Must persist.
    pub annotations: BTreeMap<String, String>,
    /// Log file relative to the sandbox's `log_directory`, in the CRI log format
    /// (`<RFC 3339 nano> <stdout|stderr> <F|P> <line>`). The runtime appends, and opens it anew on `reopen_log`.
    pub log_path: PathBuf,
    /// Keep stdin open for `attach`.
    pub stdin: bool,
    /// Close stdin when the first `attach` that had it ends.
    pub stdin_once: bool,
    /// Give the process a terminal. stdout and stderr are then one.
    pub tty: bool,
    /// Limits.
    pub resources: LinuxResources,
    /// User, capabilities, namespaces, profiles.
    pub security: SecurityContext,
    /// Signal that asks the process to end, by name (`SIGTERM`); empty: the image's, else SIGTERM.
    pub stop_signal: String,
}

/// A bind mount. The host path exists already (the agent makes it).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Path in the container; the runtime makes the mount point.
    pub container_path: String,
    /// Path on the host.
    pub host_path: PathBuf,
    /// Mount read-only.
    pub readonly: bool,
    /// How mounts travel between host and container.
    pub propagation: Propagation,
}

/// Mount propagation, as `mountPropagation` of the pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Propagation {
    /// `None`: rprivate.
    #[default]
    Private,
    /// `HostToContainer`: rslave.
    HostToContainer,
    /// `Bidirectional`: rshared.
    Bidirectional,
}

/// A device of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// Path in the container.
    pub container_path: String,
    /// Path on the host.
    pub host_path: String,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// Cgroup settings; 0 (or `None`) means "not set".
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    /// CFS period, microseconds.
    pub cpu_period: i64,
    /// CFS quota, microseconds per period.
    pub cpu_quota: i64,
    /// CPU shares (cgroup v1 scale, 2–262144).
    pub cpu_shares: i64,
    /// Memory limit, bytes.
    pub memory_limit_bytes: i64,
    /// Memory plus swap, bytes. Equal to the memory limit: no swap.
    pub memory_swap_limit_bytes: i64,
    /// -1000 (never) to 1000 (first).
    pub oom_score_adj: i64,
    /// CPUs as in cpuset(7).
    pub cpuset_cpus: String,
    /// Memory nodes as in cpuset(7).
    pub cpuset_mems: String,
    /// Page size ("2MB") to limit in bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// Most processes and threads; `None` for the runtime's default.
    pub pids_limit: Option<i64>,
    /// Raw cgroup v2 keys.
    pub unified: BTreeMap<String, String>,
}

/// Who and what a process may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SecurityContext {
    /// All capabilities, all devices, no masked paths, no seccomp.
    pub privileged: bool,
    /// Numeric user; `None`: see `run_as_username`, else the image's.
    pub run_as_user: Option<i64>,
    /// Numeric primary group; only with a user.
    pub run_as_group: Option<i64>,
    /// User by name, looked up in the container's `/etc/passwd`.
    pub run_as_username: String,
    /// Further groups (`supplementalGroups`, `fsGroup`).
    pub supplemental_groups: Vec<i64>,
    /// Only these groups, not those that the image's `/etc/group` adds (`supplementalGroupsPolicy: Strict`).
    pub strict_groups: bool,
    /// Mount the root file system read-only.
    pub readonly_rootfs: bool,
    /// Set `no_new_privs` (`allowPrivilegeEscalation: false`).
    pub no_new_privs: bool,
    /// Capabilities to add to the runtime's default set, without `CAP_`; `ALL` means all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop from it; `ALL` means all (then `add` counts).
    pub drop_capabilities: Vec<String>,
    /// Namespaces shared with the pod or the host.
    pub namespaces: NamespaceModes,
    /// The running container of the same pod whose PID namespace is joined (`kubectl debug --target`), in place of
    /// `namespaces.pid`.
    pub pid_target: Option<ContainerId>,
    /// Paths hidden in the container.
    pub masked_paths: Vec<String>,
    /// Paths made read-only in the container.
    pub readonly_paths: Vec<String>,
    /// System call filter. What cannot be applied must fail the call, never be ignored.
    pub seccomp: SecurityProfile,
    /// AppArmor profile. Same rule.
    pub apparmor: SecurityProfile,
    /// SELinux label (`user`, `role`, `type`, `level`), when the pod gives one.
    pub selinux: Option<SelinuxOptions>,
}

/// An SELinux label.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SelinuxOptions {
    /// User part.
    pub user: String,
    /// Role part.
    pub role: String,
    /// Type part.
    pub type_: String,
    /// Level part.
    pub level: String,
}

/// A seccomp or AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SecurityProfile {
    /// No filter (Kubernetes' default without `securityContext.seccompProfile`).
    #[default]
    Unconfined,
    /// The runtime's own default profile.
    RuntimeDefault,
    /// A profile of the host: a file path for seccomp, a loaded profile's name for AppArmor.
    Localhost(String),
}

/// Which namespaces a pod's containers share, and with whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NamespaceModes {
    /// Network: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// PID: `Container` (default), `Pod` (`shareProcessNamespace`) or `Node`.
    pub pid: NamespaceMode,
    /// IPC: `Pod` or `Node`.
    pub ipc: NamespaceMode,
}

/// One namespace's sharing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NamespaceMode {
    /// All containers of the pod share it.
    #[default]
    Pod,
    /// Each container has its own.
    Container,
    /// The host's.
    Node,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited,
    /// The runtime does not know (its shim is gone).
    Unknown,
}

/// One line of a container listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox_id: SandboxId,
    /// Name in the pod.
    pub name: String,
    /// Attempt, as given.
    pub attempt: u32,
    /// The image it was made from, resolved.
    pub image_ref: String,
    /// Where it is.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// As given to `create_container`.
    pub labels: BTreeMap<String, String>,
    /// As given to `create_container`.
    pub annotations: BTreeMap<String, String>,
}

/// A container in full.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    /// The listing's line.
    pub container: Container,
    /// When its process started; `None` before.
    pub started_at: Option<Timestamp>,
    /// When its process ended; `None` before.
    pub finished_at: Option<Timestamp>,
    /// Exit code (128 + signal when a signal ended it). Only with `Exited`.
    pub exit_code: i32,
    /// The runtime's word for the end: `Completed`, `Error`, `OOMKilled`, `StartError`, or empty.
    pub reason: String,
    /// Human words to `reason`.
    pub message: String,
    /// The image as the user knows it (a tag), for `status.image`.
    pub image: String,
    /// The image's digest reference (`repo@sha256:…`) or id, for `status.imageID`.
    pub image_id: String,
    /// Absolute log file.
    pub log_path: PathBuf,
}

/// What a container uses now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// Which container.
    pub id: Option<ContainerId>,
    /// Its name and labels, as given.
    pub labels: BTreeMap<String, String>,
    /// CPU time used since its start, nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory that cannot be reclaimed at once, bytes.
    pub memory_working_set_bytes: u64,
    /// Bytes in its writable layer.
    pub rootfs_used_bytes: u64,
}
