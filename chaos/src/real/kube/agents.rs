//! Node agents on this host, each in a network namespace of its own, with the built-in container runtime; and what they
//! leave: pods outlive their agents, so ending a run ends them too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::super::masters::Masters;
use super::super::network::Network;
use super::{RUN, image};
use crate::limits::{LEFT_MAX, NODE_DISK_BYTES};

/// Between two looks at whether processes are gone.
const POLL: Duration = Duration::from_millis(20);

/// The name of an agent's node: `n1`.
#[must_use]
pub fn node(index: usize) -> String {
    format!("n{}", index + 1)
}

/// Whether this host can have agents with containers; if not, why.
///
/// # Errors
/// What is missing, in a sentence.
pub fn possible() -> Result<(), String> {
    Network::possible().map_err(|why| format!("node agents need namespaces: {why}"))?;
    if Command::new("nsenter").arg("--version").output().is_err() {
        return Err("node agents need the program nsenter: apt-get install util-linux".to_owned());
    }
    image::busybox().map(drop)
}

/// Starts the agents of a run; they register by themselves.
///
/// # Errors
/// When one cannot be started.
pub async fn start(masters: &mut Masters, directory: &Path, count: usize) -> anyhow::Result<()> {
    let archive = directory.join("image.tar");
    image::write(&archive, &image::busybox().map_err(anyhow::Error::msg)?)?;
    for index in 0..count {
        let data = std::path::absolute(directory.join(node(index)))?;
        disk(&data)?;
        masters.add_agent(&node(index), &data, &archive).await?;
    }
    Ok(())
}

/// A disk in memory for an agent: a host whose own is nearly full has no room for pods, by the rules of the kubelet.
fn disk(data: &Path) -> anyhow::Result<()> {
    let what = || format!("cannot mount a tmpfs at {}", data.display());
    fs::create_dir_all(data).with_context(what)?;
    let source = format!("quorate-chaos-{}", std::process::id());
    let options = std::ffi::CString::new(format!("size={NODE_DISK_BYTES},mode=700"))?;
    mount(source, data, "tmpfs", MountFlags::NODEV, options.as_c_str()).with_context(what)
}

/// What belongs to the agents and pods of a run's directory, on this host.
#[derive(Debug)]
pub struct Remains {
    directory: PathBuf,
    count: usize,
}

impl Remains {
    /// Of the agents that [`start`] started there.
    #[must_use]
    pub fn of(directory: &Path, count: usize) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self { directory, count }
    }

    /// Ends all processes, and removes all mounts and control groups.
    ///
    /// # Errors
    /// When processes do not end.
    fn clear(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            if begin.elapsed() > LEFT_MAX {
                bail!("{} processes of pods do not end", processes.len());
            }
            for process in processes {
                if let Some(process) = Pid::from_raw(process) {
                    let _ = kill_process(process, Signal::KILL);
                }
            }
            std::thread::sleep(POLL);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |at: &&str| Path::new(at).starts_with(&self.directory);
        let mut mounts: Vec<&str> =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(below).collect();
        // The innermost first. Disks of masters are not ours.
        mounts.reverse();
        for at in mounts.into_iter().filter(|at| self.is_agents(Path::new(at))) {
            let _ = unmount(at, UnmountFlags::DETACH);
        }
        // A process that was just killed keeps its group for a moment.
        loop {
            let groups = self.groups();
            if groups.is_empty() {
                return Ok(());
            }
            groups.iter().for_each(|group| remove(group));
            if begin.elapsed() > LEFT_MAX {
                bail!("{} control groups cannot be removed", groups.len());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Control groups of the agents' pods.
    #[must_use]
    pub fn groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
        let hierarchies: BTreeSet<PathBuf> =
            hierarchies.map(|entry| entry.path()).chain([root.to_owned()]).collect();
        let tags = (0..self.count).flat_map(|index| {
            let data = self.directory.join(node(index));
            [tag(&data), tag(&data.join("agent"))]
        });
        tags.flat_map(|tag| {
            let name = format!("quorate-{tag}");
            hierarchies.iter().map(move |at| at.join(&name)).collect::<Vec<_>>()
        })
        .filter(|group| group.is_dir())
        .collect()
    }

    fn is_agents(&self, path: &Path) -> bool {
        (0..self.count).any(|index| path.starts_with(self.directory.join(node(index))))
    }

    /// Agents, shims (they are started on a directory of an agent), and what runs in containers of this run.
    fn processes(&self) -> Vec<i32> {
        let own = format!("{RUN}={}", self.directory.display());
        all(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            let named = line.split(|byte| *byte == 0).any(|word| {
                let word = String::from_utf8_lossy(word);
                self.is_agents(Path::new(word.strip_prefix("--data=").unwrap_or(&word)))
            });
            named || environment(path).contains(&own)
        })
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if self.count > 0
            && let Err(error) = self.clear()
        {
            tracing::error!(%error, "something of the node agents is left");
        }
    }
}

/// Processes of which something is true, but for this one.
pub(super) fn all(is: impl Fn(&Path) -> bool) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        (id != own && !is_zombie(&entry.path()) && is(&entry.path())).then_some(id)
    });
    found.collect()
}

/// The environment of a process, as it was started.
pub(super) fn environment(process: &Path) -> Vec<String> {
    let bytes = fs::read(process.join("environ")).unwrap_or_default();
    let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    variables.map(|variable| String::from_utf8_lossy(variable).into_owned()).collect()
}

fn is_zombie(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'))
}

/// What an agent puts into the names of what it makes outside of its directory: FNV-1a of the path, folded.
fn tag(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash ^ (hash >> 32)) & u64::from(u32::MAX))
}

/// Removes a control group with all below it.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Gives an agent's directory the image.
///
/// # Errors
/// When the program refuses.
pub(in crate::real) async fn import(
    binary: &Path,
    data: &Path,
    archive: &Path,
) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(binary)
        .args(["agent", "images", "import"])
        .arg(format!("--data={}", data.display()))
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot start {}", binary.display()))?;
    if !output.status.success() {
        bail!("quorate agent images import: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
