//! Less of a processor for a master: a quota of its control group (version 1 or 2) where one can be made, else it is
//! stopped and woken in turn.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

/// Names of control groups begin with it; the process id of the run follows.
const PREFIX: &str = "quorate-chaos-";

/// In which a quota holds.
const PERIOD: Duration = Duration::from_millis(100);

/// What takes processor time away.
#[derive(Debug)]
pub struct Processors {
    way: Way,
    /// Who has how much now, of which process.
    now: BTreeMap<usize, (u32, u8)>,
}

#[derive(Debug)]
enum Way {
    /// The directory of the run's groups, and which version.
    Groups(PathBuf, Version),
    Signals(BTreeMap<usize, Strobe>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Stops a process and wakes it, until it is dropped.
#[derive(Debug)]
struct Strobe {
    process: Pid,
    task: JoinHandle<()>,
    stops: Arc<AtomicU64>,
}

impl Drop for Strobe {
    fn drop(&mut self) {
        self.task.abort();
        let _ = kill_process(self.process, Signal::CONT);
    }
}

impl Default for Processors {
    fn default() -> Self {
        let groups = [
            ("/sys/fs/cgroup/cpu", Version::One, "cpu.cfs_quota_us"),
            ("/sys/fs/cgroup", Version::Two, "cpu.max"),
        ];
        let way = groups.into_iter().find_map(|(root, version, file)| {
            let root = Path::new(root);
            sweep(root);
            let own = root.join(format!("{PREFIX}{}", std::process::id()));
            fs::create_dir(&own).ok()?;
            let is_ours = own.join(file).exists()
                && (version == Version::One
                    || fs::write(own.join("cgroup.subtree_control"), "+cpu").is_ok());
            if is_ours {
                return Some(Way::Groups(own, version));
            }
            let _ = fs::remove_dir(own);
            None
        });
        Self { way: way.unwrap_or_else(|| Way::Signals(BTreeMap::new())), now: BTreeMap::new() }
    }
}

impl Processors {
    /// From now on these masters (with their processes) have this many percent of a processor, and all others what they
    /// can get.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn set(&mut self, wanted: BTreeMap<usize, (u32, u8)>) -> anyhow::Result<()> {
        let changed = |master: &&usize| self.now.get(*master) != wanted.get(*master);
        let freed: Vec<usize> = self.now.keys().filter(changed).copied().collect();
        for master in freed {
            match &mut self.way {
                Way::Groups(root, version) => quota(&group(root, master), *version, None)?,
                Way::Signals(strobes) => drop(strobes.remove(&master)),
            }
            self.now.remove(&master);
        }
        for (master, (process, percent)) in wanted {
            if self.now.contains_key(&master) {
                continue;
            }
            match &mut self.way {
                Way::Groups(root, version) => {
                    let group = group(root, master);
                    fs::create_dir_all(&group)?;
                    quota(&group, *version, Some(percent))?;
                    fs::write(group.join("cgroup.procs"), process.to_string())
                        .with_context(|| format!("cannot move {process} to {}", group.display()))?;
                }
                Way::Signals(strobes) => {
                    strobes.insert(master, Strobe::new(process, percent)?);
                }
            }
            self.now.insert(master, (process, percent));
        }
        Ok(())
    }

    /// Who is held back now, and how, as the host shows it.
    #[must_use]
    pub fn shown(&self, master: usize) -> Option<String> {
        let (process, percent) = self.now.get(&master)?;
        match &self.way {
            Way::Groups(root, _) => {
                let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
                let name = group(root, master);
                let name = name.strip_prefix(root.parent()?).ok()?.to_str()?;
                groups.contains(name).then(|| format!("{percent} % of a processor by {name}"))
            }
            Way::Signals(strobes) => {
                let strobe = strobes.get(&master).filter(|strobe| !strobe.task.is_finished());
                strobe.map(|_| format!("{percent} % of a processor by signals"))
            }
        }
    }

    /// How often these masters had to wait, so far.
    #[must_use]
    pub fn met<'a>(&self, masters: impl Iterator<Item = &'a usize>) -> u64 {
        masters
            .map(|master| match &self.way {
                Way::Groups(root, _) => {
                    let stat = fs::read_to_string(group(root, *master).join("cpu.stat"));
                    let stat = stat.unwrap_or_default();
                    let count = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
                    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
                }
                Way::Signals(strobes) => {
                    strobes.get(master).map_or(0, |strobe| strobe.stops.load(Ordering::Relaxed))
                }
            })
            .sum()
    }
}

impl Drop for Processors {
    fn drop(&mut self) {
        let Way::Groups(root, _) = &self.way else { return };
        remove(root);
    }
}

impl Strobe {
    fn new(process: u32, percent: u8) -> anyhow::Result<Self> {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw).context("no process")?;
        let stops = Arc::new(AtomicU64::new(0));
        let (counted, awake) = (stops.clone(), PERIOD * u32::from(percent) / 100);
        let task = tokio::spawn(async move {
            while kill_process(process, Signal::STOP).is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PERIOD.saturating_sub(awake)).await;
                if kill_process(process, Signal::CONT).is_err() {
                    return;
                }
                tokio::time::sleep(awake).await;
            }
        });
        Ok(Self { process, task, stops })
    }
}

fn group(root: &Path, master: usize) -> PathBuf {
    root.join(format!("m{}", master + 1))
}

fn quota(group: &Path, version: Version, percent: Option<u8>) -> anyhow::Result<()> {
    let period = PERIOD.as_micros();
    let quota = percent.map(|percent| period * u128::from(percent) / 100);
    let (file, text) = match (version, quota) {
        (Version::One, Some(quota)) => {
            fs::write(group.join("cpu.cfs_period_us"), period.to_string())?;
            ("cpu.cfs_quota_us", quota.to_string())
        }
        (Version::One, None) => ("cpu.cfs_quota_us", "-1".to_owned()),
        (Version::Two, Some(quota)) => ("cpu.max", format!("{quota} {period}")),
        (Version::Two, None) => ("cpu.max", "max".to_owned()),
    };
    fs::write(group.join(file), text)
        .with_context(|| format!("cannot set {file} of {}", group.display()))
}

/// A group without processes, and those in it.
fn remove(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let _ = fs::remove_dir(root);
}

/// Removes what runs whose process is gone have left.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if owner.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A process that never rests has to wait, and then no more.
    async fn holds_back(mut processors: Processors) {
        let mut busy = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        processors.set([(0, (busy.id(), 20))].into()).unwrap();
        assert!(processors.shown(0).is_some());
        let begin = std::time::Instant::now();
        while processors.met([0].iter()) < 3 {
            assert!(begin.elapsed() < Duration::from_secs(30), "it never waits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        processors.set(BTreeMap::new()).unwrap();
        assert_eq!(processors.shown(0), None);
        busy.kill().unwrap();
        busy.wait().unwrap();
    }

    #[tokio::test]
    async fn by_signals() {
        let way = Way::Signals(BTreeMap::new());
        holds_back(Processors { way, now: BTreeMap::new() }).await;
    }

    #[tokio::test]
    async fn by_whatever_this_host_has() {
        let processors = Processors::default();
        let root = match &processors.way {
            Way::Groups(root, _) => Some(root.clone()),
            Way::Signals(_) => None,
        };
        holds_back(processors).await;
        if let Some(root) = root {
            assert!(!root.exists(), "{} is left", root.display());
        }
    }
}
