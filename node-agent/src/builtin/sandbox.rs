//! The life of a sandbox, seen from the agent: its directory, its shim, its address, its cgroup.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;

use super::cgroup::Cgroup;
use super::client::call;
use super::image;
use super::limits::{SHIM_ANSWER_TIMEOUT, SHIM_START_TIMEOUT};
use super::record::{self, ContainerRecord, SandboxDir, SandboxRecord, ShimRecord, StatusRecord};
use super::runtime::{BuiltinRuntime, addresses};
use super::shim::protocol::Request;
use crate::runtime::{ContainerState, Error, NamespaceMode, PodSandboxConfig, Result, SandboxId};

fn other(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |err| Error::Other(format!("{what}: {err}"))
}

/// Makes a sandbox. What fails leaves nothing behind.
pub(super) async fn run(runtime: &BuiltinRuntime, config: &PodSandboxConfig) -> Result<SandboxId> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let dir = runtime.dir(&id);
    let parent = match config.cgroup_parent.trim_end_matches('/') {
        "" => runtime.inner.cgroup.clone(),
        parent => Cgroup(format!("/{}", parent.trim_start_matches('/'))),
    };
    let mut record = SandboxRecord {
        id: id.clone(),
        config: config.clone(),
        created_at: quorate_chance::now(),
        cgroup: parent.child(&id).0,
        ips: Vec::new(),
        stopped: false,
    };
    let made = make(runtime, &dir, &mut record).await;
    if let Err(err) = made {
        clear(runtime, &record).await;
        let _ = fs::remove_dir_all(&dir.0);
        return Err(err);
    }
    runtime.known().sandboxes.insert(id.clone(), record);
    Ok(SandboxId(id))
}

async fn make(
    runtime: &BuiltinRuntime,
    dir: &SandboxDir,
    record: &mut SandboxRecord,
) -> Result<()> {
    fs::create_dir_all(&dir.0).map_err(other("cannot make the sandbox's directory"))?;
    let config = &record.config;
    let resolv = match config.dns.to_resolv_conf() {
        text if text.is_empty() => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        text => text,
    };
    let own_network = config.security.namespaces.network != NamespaceMode::Node;
    let hostname = if own_network && !config.hostname.is_empty() {
        config.hostname.clone()
    } else {
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
    };
    fs::write(dir.0.join("resolv.conf"), resolv).map_err(other("cannot write resolv.conf"))?;
    fs::write(dir.0.join("hostname"), format!("{}\n", hostname.trim_end()))
        .map_err(other("cannot write hostname"))?;
    record::write(&dir.record(), record).map_err(other("cannot write sandbox.json"))?;
    let pid = start_shim(runtime, dir).await?;
    runtime.inner.bell.follow_shim(pid);
    if own_network {
        let ports = &record.config.port_mappings;
        let attached = runtime.inner.network.attach(&record.id, pid, ports).await;
        let address =
            attached.map_err(|err| Error::Other(format!("pod network: {}", image::chain(&err))))?;
        record.ips = addresses(Some(address));
        record::write(&dir.record(), record).map_err(other("cannot write sandbox.json"))?;
    }
    Ok(())
}

/// Starts the shim and waits until it is ready. Gives its pid.
async fn start_shim(runtime: &BuiltinRuntime, dir: &SandboxDir) -> Result<i32> {
    let log = File::options().create(true).append(true).open(dir.0.join("shim.log"));
    let log = log.map_err(other("cannot open shim.log"))?;
    let [program, args @ ..] = &runtime.inner.config.shim_command[..] else {
        return Err(Error::Invalid("no shim command".into()));
    };
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .arg(&dir.0)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(other("cannot start the shim"))?;
    let mut stdout = child.stdout.take().ok_or_else(|| Error::Other("no stdout".into()))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    let mut said = Vec::new();
    let ready = async {
        while said.last() != Some(&b'\n') {
            let mut chunk = [0_u8; 1024];
            match stdout.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(count) => said.extend_from_slice(&chunk[..count]),
            }
        }
    };
    let in_time = tokio::time::timeout(SHIM_START_TIMEOUT, ready).await.is_ok();
    if said == b"ready\n" {
        // It is reaped here while this agent lives, by the init process later.
        tokio::spawn(async move { child.wait().await });
        return Ok(pid);
    }
    let _ = child.kill().await;
    let text = String::from_utf8_lossy(&said).trim().to_owned();
    Err(match (in_time, text.is_empty()) {
        (false, _) => Error::Timeout(SHIM_START_TIMEOUT),
        (true, true) => {
            let log = fs::read_to_string(dir.0.join("shim.log")).unwrap_or_default();
            Error::Other(format!("the shim ended: {}", log.trim()))
        }
        (true, false) => Error::Other(format!("the shim: {text}")),
    })
}

fn alive(dir: &SandboxDir) -> bool {
    record::read::<ShimRecord>(&dir.shim()).is_some_and(|shim| shim.is_alive())
}

/// Whether the sandbox lives. When its shim died by itself, what is left of it is cleared away first.
pub(super) async fn check(runtime: &BuiltinRuntime, record: &SandboxRecord) -> bool {
    if record.stopped {
        return false;
    }
    // One that is being stopped is buried by whoever stops it.
    if alive(&runtime.dir(&record.id)) || runtime.known().stopping.contains(&record.id) {
        return true;
    }
    // It may have been stopped from beginning to end meanwhile.
    if runtime.sandbox(&record.id).map_or(true, |now| now.stopped) {
        return false;
    }
    tracing::warn!(sandbox = %record.id, "the pod's shim ended unexpectedly");
    bury(runtime, record).await;
    false
}

/// Stops a sandbox. Idempotent.
pub(super) async fn stop(runtime: &BuiltinRuntime, id: &str) -> Result<()> {
    let Ok(record) = runtime.sandbox(id) else { return Ok(()) };
    let dir = runtime.dir(id);
    let _stopping = Stopping::begin(runtime, id);
    if !record.stopped && alive(&dir) {
        let asked = call(&dir, Request::Shutdown, SHIM_ANSWER_TIMEOUT).await;
        if let Err(err) = asked {
            tracing::warn!(sandbox = id, %err, "the pod's shim is killed");
        }
    }
    bury(runtime, &record).await;
    Ok(())
}

/// While it is held the sandbox is known to be on its way out.
struct Stopping<'a>(&'a BuiltinRuntime, &'a str);

impl<'a> Stopping<'a> {
    fn begin(runtime: &'a BuiltinRuntime, id: &'a str) -> Self {
        runtime.known().stopping.insert(id.to_owned());
        Self(runtime, id)
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.known().stopping.remove(self.1);
    }
}

/// Clears everything of a sandbox but its files, and writes down that its containers ended.
async fn bury(runtime: &BuiltinRuntime, record: &SandboxRecord) {
    clear(runtime, record).await;
    let dir = runtime.dir(&record.id);
    for entry in fs::read_dir(dir.containers()).into_iter().flatten().flatten() {
        let path = entry.path().join("status.json");
        let status: StatusRecord = record::read(&path).unwrap_or_default();
        if status.state == ContainerState::Running {
            let ended = StatusRecord {
                state: ContainerState::Exited,
                finished_at: Some(quorate_chance::now()),
                exit_code: 137,
                reason: "Error".into(),
                message: "the process ended with the pod's shim".into(),
                ..status
            };
            let _ = record::write(&path, &ended);
        }
    }
    let stopped = SandboxRecord { stopped: true, ..record.clone() };
    if let Err(err) = record::write(&dir.record(), &stopped) {
        tracing::warn!(sandbox = %record.id, %err, "cannot write sandbox.json");
    }
    if let Some(known) = runtime.known().sandboxes.get_mut(&record.id) {
        known.stopped = true;
    }
}

/// Ends the shim and every process, gives back cgroup and address. Mounts and namespaces go with the processes.
async fn clear(runtime: &BuiltinRuntime, record: &SandboxRecord) {
    let dir = runtime.dir(&record.id);
    if let Some(shim) = record::read::<ShimRecord>(&dir.shim())
        && shim.is_alive()
        && let Some(pid) = Pid::from_raw(shim.pid)
    {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let cgroup = Cgroup(record.cgroup.clone());
    let cleared = tokio::task::spawn_blocking(move || {
        cgroup.kill();
        cgroup.remove()
    });
    match cleared.await {
        Ok(Ok(())) => {}
        Ok(Err(err)) => {
            tracing::warn!(sandbox = %record.id, %err, "cannot remove the pod's cgroup")
        }
        Err(err) => tracing::warn!(sandbox = %record.id, %err, "cannot remove the pod's cgroup"),
    }
    if let Err(err) = runtime.inner.network.detach(&record.id).await {
        let err = image::chain(&err);
        tracing::warn!(sandbox = %record.id, %err, "cannot take back the pod's address");
    }
}

/// Removes a sandbox with all its files but the logs. Idempotent.
pub(super) async fn remove(runtime: &BuiltinRuntime, id: &str) -> Result<()> {
    stop(runtime, id).await?;
    remove_tree(&runtime.dir(id).0)?;
    let mut known = runtime.known();
    known.sandboxes.remove(id);
    known.containers.retain(|_, container| container.sandbox_id != id);
    Ok(())
}

/// Removes a directory tree that may not exist.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::Other(format!("cannot remove {}: {err}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Reads what is on disk, adopts what lives, clears what does not.
pub(super) async fn load_and_sweep(runtime: &BuiltinRuntime) -> Result<()> {
    let entries =
        fs::read_dir(&runtime.inner.sandboxes_dir).map_err(other("cannot list sandboxes"))?;
    for entry in entries.flatten() {
        let dir = SandboxDir(entry.path());
        let Some(record) = record::read::<SandboxRecord>(&dir.record()) else {
            remove_tree(&dir.0)?;
            continue;
        };
        let mut containers = Vec::new();
        for entry in fs::read_dir(dir.containers()).into_iter().flatten().flatten() {
            match record::read::<ContainerRecord>(&entry.path().join("container.json")) {
                Some(container) => containers.push(container),
                None => remove_tree(&entry.path())?,
            }
        }
        let mut known = runtime.known();
        known.containers.extend(containers.into_iter().map(|c| (c.id.clone(), c)));
        known.sandboxes.insert(record.id.clone(), record);
    }
    let records: Vec<SandboxRecord> = runtime.known().sandboxes.values().cloned().collect();
    let mut living = Vec::new();
    for record in records {
        let own_network = record.config.security.namespaces.network != NamespaceMode::Node;
        let half_made = own_network && record.ips.is_empty();
        if half_made || !check(runtime, &record).await {
            if half_made && !record.stopped {
                bury(runtime, &record).await;
            }
            continue;
        }
        if let Some(IpAddr::V4(address)) = record.ips.first() {
            runtime.inner.network.adopt(&record.id, *address, &record.config.port_mappings).await;
        }
        let dir = runtime.dir(&record.id);
        if let Some(shim) = record::read::<ShimRecord>(&dir.shim()) {
            runtime.inner.bell.follow_shim(shim.pid);
        }
        for entry in fs::read_dir(dir.containers()).into_iter().flatten().flatten() {
            runtime.inner.bell.follow_container(&entry.path());
        }
        living.push(record.id);
    }
    for name in runtime.inner.cgroup.children() {
        if !living.contains(&name) {
            let cgroup = runtime.inner.cgroup.child(&name);
            cgroup.kill();
            let _ = cgroup.remove();
        }
    }
    let swept = runtime.inner.network.sweep(&living).await;
    swept.map_err(|err| Error::Other(image::chain(&err)))
}
