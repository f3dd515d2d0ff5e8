//! The OCI runtime specification of a container, from its record.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use seccompiler::BpfProgram;
use serde_json::{Value, json};

use super::seccomp;
use super::user::User;
use crate::builtin::cgroup;
use crate::builtin::limits::PIDS_MAX_DEFAULT;
use crate::builtin::record::{ContainerRecord, SandboxDir, SandboxRecord};
use crate::runtime::{
    LinuxResources, NamespaceMode, Propagation, SecurityContext, SecurityProfile,
};

const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// containerd's default set.
const CAPABILITIES_DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// By number, as in linux/capability.h.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container is made of, gathered.
pub(super) struct Parts<'a> {
    pub(super) dir: &'a SandboxDir,
    pub(super) sandbox: &'a SandboxRecord,
    pub(super) record: &'a ContainerRecord,
    pub(super) user: &'a User,
    pub(super) rootfs: &'a Path,
    /// A process of the PID namespace that it joins; `None`: it has its own, or the host's.
    pub(super) joins: Option<i32>,
}

/// What cannot be honoured, in words; `None` when everything can.
pub(super) fn refusal(security: &SecurityContext) -> Option<String> {
    if matches!(security.apparmor, SecurityProfile::Localhost(_)) && !security.privileged {
        return Some("AppArmor profiles are not supported by the built-in runtime".into());
    }
    if security.selinux.is_some() {
        return Some("SELinux labels are not supported by the built-in runtime".into());
    }
    None
}

/// The specification of the container, and the filters that its processes get beside it. The error is for people.
pub(super) fn build(parts: &Parts<'_>) -> Result<(Value, Vec<BpfProgram>), String> {
    let security = &parts.record.config.security;
    if let Some(why) = refusal(security) {
        return Err(why);
    }
    let capabilities = capabilities(security)?;
    let filters = seccomp::filters(security, &capabilities)?;
    let (masked, readonly) = if security.privileged {
        (Vec::new(), Vec::new())
    } else {
        (security.masked_paths.clone(), security.readonly_paths.clone())
    };
    let id = &parts.record.id;
    let mut linux = json!({
        "namespaces": namespaces(parts),
        "resources": resources(parts)?,
        "cgroupsPath": format!("{}/{id}", parts.sandbox.cgroup),
        "maskedPaths": masked,
        "readonlyPaths": readonly,
        "devices": devices(parts)?,
    });
    if parts.record.config.mounts.iter().any(|m| m.propagation == Propagation::HostToContainer) {
        linux["rootfsPropagation"] = "rslave".into();
    }
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": process(parts, capabilities)?,
        "root": {"path": parts.rootfs, "readonly": security.readonly_rootfs},
        "mounts": mounts(parts)?,
        "linux": linux,
    });
    Ok((spec, filters))
}

/// The specification of the process that holds a shared PID namespace.
pub(super) fn pause(sandbox: &SandboxRecord, rootfs: &Path) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 65535, "gid": 65535}, "args": ["/pause"], "env": [PATH_DEFAULT], "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []},
        },
        "root": {"path": rootfs, "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            "cgroupsPath": format!("{}/pause", sandbox.cgroup),
        },
    })
}

/// A further process in the container: its own, with another command.
pub(super) fn exec_process(container: &Value, command: &[String], tty: bool) -> Value {
    let mut process = container["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = tty.into();
    process
}

fn process(parts: &Parts<'_>, bounding: Vec<String>) -> Result<Value, String> {
    let config = &parts.record.config;
    let args = parts.record.image_config.command(&config.command, &config.args);
    if args.is_empty() {
        return Err("no command specified".into());
    }
    let working_dir = [&config.working_dir, &parts.record.image_config.working_dir];
    let cwd = working_dir.into_iter().find(|dir| !dir.is_empty()).map_or("/", String::as_str);
    let mut until_execution = bounding.clone();
    let admin = "CAP_SYS_ADMIN".to_owned();
    if seccomp::needs_admin(&config.security) && !bounding.contains(&admin) {
        until_execution.push(admin);
    }
    let mut process = json!({
        "terminal": config.tty,
        "user": {"uid": parts.user.uid, "gid": parts.user.gid, "additionalGids": parts.user.groups},
        "args": args,
        "env": environment(parts),
        "cwd": cwd,
        "capabilities": {
            "bounding": bounding, "effective": until_execution, "permitted": until_execution,
            "inheritable": [], "ambient": [],
        },
    });
    if config.security.no_new_privs && !config.security.privileged {
        process["noNewPrivileges"] = true.into();
    }
    Ok(process)
}

/// The image's, then the pod's over it, each name once.
fn environment(parts: &Parts<'_>) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some(entry) => value.clone_into(&mut entry.1),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    if let Some((name, value)) = PATH_DEFAULT.split_once('=') {
        set(name, value);
    }
    set("HOSTNAME", &parts.sandbox.config.hostname);
    if parts.record.config.tty {
        set("TERM", "xterm");
    }
    for (name, value) in parts.record.image_config.env.iter().filter_map(|e| e.split_once('=')) {
        set(name, value);
    }
    for (name, value) in &parts.record.config.env {
        set(name, value);
    }
    env.retain(|(name, value)| name != "HOSTNAME" || !value.is_empty());
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Default plus added less dropped; only what this host can give. On v2 hosts no device filter is loaded, so `MKNOD`
/// must be asked for there: with it a container could open the host's disks.
fn capabilities(security: &SecurityContext) -> Result<Vec<String>, String> {
    let bare = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    let add: Vec<String> = security.add_capabilities.iter().map(bare).collect();
    let drop: Vec<String> = security.drop_capabilities.iter().map(bare).collect();
    if let Some(unknown) =
        add.iter().chain(&drop).find(|n| *n != "ALL" && !CAPABILITIES.contains(&n.as_str()))
    {
        return Err(format!("unknown capability \"CAP_{unknown}\""));
    }
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let all = security.privileged || has(&add, "ALL");
    let bounding = bounding_set();
    let wanted = CAPABILITIES.iter().enumerate().filter(|(number, name)| {
        let base = all
            || (!has(&drop, "ALL")
                && CAPABILITIES_DEFAULT.contains(name)
                && (**name != "MKNOD" || !cgroup::is_v2()));
        let kept = security.privileged || ((base || has(&add, name)) && !has(&drop, name));
        kept && bounding & (1 << number) != 0
    });
    Ok(wanted.map(|(_, name)| format!("CAP_{name}")).collect())
}

fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn namespaces(parts: &Parts<'_>) -> Vec<Value> {
    // Network, IPC and UTS are the shim's own and simply inherited.
    let mut list = vec![json!({"type": "mount"})];
    match (parts.record.config.security.namespaces.pid, parts.joins) {
        (NamespaceMode::Node, _) => {}
        (_, Some(pid)) => list.push(json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")})),
        (_, None) => list.push(json!({"type": "pid"})),
    }
    if cgroup::is_v2() && !parts.record.config.security.privileged {
        list.push(json!({"type": "cgroup"}));
    }
    list
}

fn resources(parts: &Parts<'_>) -> Result<Value, String> {
    let config = &parts.record.config;
    let r: &LinuxResources = &config.resources;
    let wanted = [
        ("memory", r.memory_limit_bytes > 0),
        ("cpu", r.cpu_quota > 0),
        ("cpuset", !r.cpuset_cpus.is_empty() || !r.cpuset_mems.is_empty()),
        ("pids", r.pids_limit.is_some()),
        ("hugetlb", !r.hugepage_limits.is_empty()),
    ];
    let missing = wanted.iter().find(|(name, wanted)| *wanted && !cgroup::has_controller(name));
    if let Some((name, _)) = missing {
        return Err(format!(
            "limits of {name} cannot be set: the host has no cgroup controller \"{name}\" for us"
        ));
    }
    let mut out = json!({});
    if cgroup::has_controller("pids") {
        out["pids"] = json!({"limit": r.pids_limit.unwrap_or(PIDS_MAX_DEFAULT)});
    }
    let has_cpu = cgroup::has_controller("cpu");
    let mut set = |group: &str, name: &str, value: Value| out[group][name] = value;
    if r.memory_limit_bytes > 0 {
        set("memory", "limit", r.memory_limit_bytes.into());
    }
    if r.memory_swap_limit_bytes > 0 && cgroup::limits_swap() {
        set("memory", "swap", r.memory_swap_limit_bytes.into());
    }
    for (name, value) in
        [("shares", r.cpu_shares), ("quota", r.cpu_quota), ("period", r.cpu_period)]
    {
        // A share is a wish, without the controller nobody can grant it.
        if value != 0 && has_cpu {
            set("cpu", name, value.into());
        }
    }
    for (name, value) in [("cpus", &r.cpuset_cpus), ("mems", &r.cpuset_mems)] {
        if !value.is_empty() {
            set("cpu", name, value.as_str().into());
        }
    }
    if !r.hugepage_limits.is_empty() {
        let limits = r.hugepage_limits.iter().map(|(s, l)| json!({"pageSize": s, "limit": l}));
        out["hugepageLimits"] = limits.collect();
    }
    if !r.unified.is_empty() && cgroup::is_v2() {
        out["unified"] = json!(r.unified);
    }
    let mut rules = vec![json!({"allow": config.security.privileged, "access": "rwm"})];
    if !config.security.privileged {
        for kind in ["c", "b"] {
            rules.push(json!({"allow": true, "type": kind, "access": "m"}));
        }
        for device in &config.devices {
            let (kind, major, minor) = device_numbers(Path::new(&device.host_path))?;
            rules.push(json!({"allow": true, "type": kind, "major": major, "minor": minor,
                "access": if device.permissions.is_empty() { "rwm" } else { &device.permissions }}));
        }
    }
    out["devices"] = rules.into();
    Ok(out)
}

fn device_numbers(path: &Path) -> Result<(&'static str, u32, u32), String> {
    let meta = fs::metadata(path).map_err(|err| format!("device {}: {err}", path.display()))?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(format!("{} is not a device", path.display())),
    };
    Ok((kind, rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
}

fn devices(parts: &Parts<'_>) -> Result<Vec<Value>, String> {
    let mut list = Vec::new();
    let mut add = |host: &Path, container: &str| -> Result<(), String> {
        let (kind, major, minor) = device_numbers(host)?;
        let meta = fs::metadata(host).map_err(|err| err.to_string())?;
        list.push(json!({"path": container, "type": kind, "major": major, "minor": minor,
            "fileMode": meta.mode() & 0o777, "uid": meta.uid(), "gid": meta.gid()}));
        Ok(())
    };
    for device in &parts.record.config.devices {
        add(Path::new(&device.host_path), &device.container_path)?;
    }
    if parts.record.config.security.privileged {
        // The standard ones and the terminal's come with libcontainer.
        const STANDARD: &[&str] =
            &["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];
        for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_device =
                entry.file_type().is_ok_and(|k| k.is_char_device() || k.is_block_device());
            if is_device && !STANDARD.contains(&name.as_str()) {
                add(&entry.path(), &format!("/dev/{name}"))?;
            }
        }
    }
    Ok(list)
}

fn mounts(parts: &Parts<'_>) -> Result<Vec<Value>, String> {
    let config = &parts.record.config;
    let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
    let sys = if config.security.privileged { "rw" } else { "ro" };
    let mut list = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys]),
    ];
    if cgroup::is_v2() {
        list.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", sys],
        ));
    }
    let host_ipc = config.security.namespaces.ipc == NamespaceMode::Node;
    let shm = if host_ipc { "/dev/shm".into() } else { parts.dir.0.join("shm") };
    let bind = |to: &str, from: &Path, options: &[&str]| json!({"destination": to, "type": "bind", "source": from, "options": options});
    list.push(bind("/dev/shm", &shm, &["rbind", "rprivate", "rw"]));
    for name in ["resolv.conf", "hostname"] {
        let file = parts.dir.0.join(name);
        if file.exists() {
            let access = if config.security.readonly_rootfs { "ro" } else { "rw" };
            list.push(bind(&format!("/etc/{name}"), &file, &["rbind", "rprivate", access]));
        }
    }
    let mut own: Vec<_> = config.mounts.iter().collect();
    own.sort_by_key(|m| Path::new(&m.container_path).components().count());
    for entry in own {
        if !entry.host_path.exists() {
            return Err(format!("mount source {} does not exist", entry.host_path.display()));
        }
        let propagation = match entry.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => {
                return Err(
                    "mountPropagation Bidirectional is not supported by the built-in runtime"
                        .into(),
                );
            }
        };
        let target = entry.container_path.trim_end_matches('/');
        list.retain(|known| known["destination"] != target);
        let access = if entry.readonly { "ro" } else { "rw" };
        list.push(bind(target, &entry.host_path, &["rbind", propagation, access]));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_add_and_drop_as_in_kubernetes() {
        let caps = |add: &[&str], drop: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
            capabilities(&SecurityContext {
                add_capabilities: own(add),
                drop_capabilities: own(drop),
                ..SecurityContext::default()
            })
        };
        assert!(caps(&[], &["ALL"]).unwrap().is_empty());
        assert_eq!(caps(&["net_bind_service"], &["ALL"]).unwrap(), ["CAP_NET_BIND_SERVICE"]);
        assert!(!caps(&[], &["CHOWN"]).unwrap().contains(&"CAP_CHOWN".to_owned()));
        assert!(caps(&[], &[]).unwrap().contains(&"CAP_KILL".to_owned()));
        assert_eq!(caps(&["NOPE"], &[]).unwrap_err(), "unknown capability \"CAP_NOPE\"");
    }

    #[test]
    fn a_profile_that_cannot_be_applied_is_refused() {
        let mut security = SecurityContext::default();
        assert_eq!(refusal(&security), None);
        security.apparmor = SecurityProfile::Localhost("x".into());
        assert!(refusal(&security).unwrap().contains("AppArmor"));
    }
}
