//! Limits of the built-in runtime and what happens at each.

use std::time::Duration;

/// Largest message between agent and shim (bytes). A larger one breaks the connection.
pub const SHIM_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Connections one shim serves at once (each exec and attach holds one). Further ones wait in the socket's backlog.
pub const SHIM_CONNECTIONS_MAX: usize = 256;
/// Longest log line written whole (bytes), as containerd. A longer one is cut into parts tagged `P`.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// Read from a container's pipe at once (bytes).
pub const PIPE_READ_BYTES: usize = 32 * 1024;
/// Waiting for a shim to be ready; then it is killed and the sandbox fails.
pub const SHIM_START_TIMEOUT: Duration = Duration::from_secs(20);
/// Waiting for a shim's answer to anything that should be quick. Then the call fails as `Unavailable`.
pub const SHIM_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long output of a finished exec is still read when grandchildren hold its pipe open.
pub const EXEC_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries to empty or remove a cgroup whose processes are dying.
pub const CGROUP_RETRY: Duration = Duration::from_millis(10);
/// Tries of the above; then the cgroup is left for the next sweep.
pub const CGROUP_TRIES: u32 = 300;
/// Processes a container may have when nothing else is said.
pub const PIDS_MAX_DEFAULT: i64 = 32_768;
/// Largest seccomp profile file (bytes). A container with a larger one is refused.
pub const SECCOMP_PROFILE_BYTES_MAX: u64 = 1024 * 1024;
/// Soft limit of open files that containers begin with, as with systemd's services and containerd's default.
pub const OPEN_FILES_SOFT: u64 = 1024;
/// Size of a pod's /dev/shm (bytes), as containerd.
pub const SHM_BYTES: u64 = 64 * 1024 * 1024;
