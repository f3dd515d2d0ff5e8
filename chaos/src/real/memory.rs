//! Less memory for a master: a control group (version 1 or 2) that gives it a little more than it has. When that is
//! used up, the kernel ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Names of control groups begin with it; the process id of the run and the number of the master follow.
const PREFIX: &str = "quorate-chaos-";

/// Where groups are made, the file of the limit, the file that counts how often it was met, and what that calls it.
const WAYS: [(&str, &str, &str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.failcnt", ""),
    ("/sys/fs/cgroup", "memory.max", "memory.events", "max "),
];

/// Files of a group that count whom the kernel ended in it.
const ENDED: [&str; 2] = ["memory.oom_control", "memory.events"];

type Way = (&'static str, &'static str, &'static str, &'static str);

/// What takes memory away. Groups go with this value.
#[derive(Debug, Default)]
pub struct Memories {
    way: Option<Way>,
    /// Whose process gets how many MiB more.
    now: BTreeMap<usize, (u32, u32)>,
    /// How often the limit was met in groups that are gone.
    met: BTreeMap<usize, u64>,
    /// Whom the kernel ended in groups that are gone.
    ended: BTreeSet<usize>,
}

impl Memories {
    /// Whether this host can do that.
    ///
    /// # Errors
    /// Why not.
    pub fn possible() -> Result<(), String> {
        let probe = || {
            let way = way()?;
            let group = group(way, usize::MAX);
            fs::create_dir(&group).ok()?;
            let can = group.join(way.1).exists();
            let gone = fs::remove_dir(&group).is_ok();
            (can && gone).then_some(())
        };
        let why = "limits of memory need root and control groups with memory that can be written";
        probe().ok_or_else(|| why.to_owned())
    }

    /// From now on these masters (with their processes) get so many MiB beside what they have, and all others what they
    /// want.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn set(&mut self, wanted: &BTreeMap<usize, (u32, u32)>) -> anyhow::Result<()> {
        let changed = |master: &&usize| self.now.get(*master) != wanted.get(*master);
        for master in self.now.keys().filter(changed).copied().collect::<Vec<usize>>() {
            self.free(master)?;
        }
        for (master, (process, mib)) in wanted {
            if self.now.contains_key(master) {
                continue;
            }
            let way = way().context("there are no control groups of memory")?;
            self.way = Some(way);
            let group = group(way, *master);
            fs::create_dir_all(&group)?;
            // What it has stays where it was counted: only what is new counts here.
            let bytes = u64::from(*mib) << 20;
            fs::write(group.join(way.1), bytes.to_string())
                .with_context(|| format!("cannot limit {}", group.display()))?;
            fs::write(group.join("cgroup.procs"), process.to_string())
                .with_context(|| format!("cannot move {process} to {}", group.display()))?;
            self.now.insert(*master, (*process, *mib));
        }
        Ok(())
    }

    /// Its process, if it still lives, goes back to where it came from.
    fn free(&mut self, master: usize) -> anyhow::Result<()> {
        let Some((process, _)) = self.now.remove(&master) else { return Ok(()) };
        let Some(way) = self.way else { return Ok(()) };
        let group = group(way, master);
        let met = count(way, &group);
        *self.met.entry(master).or_default() += met;
        let unlimited = if way.0.ends_with("memory") { "-1" } else { "max" };
        fs::write(group.join(way.1), unlimited)?;
        // It may not be gone yet: that is seen by who asks for it.
        if ENDED.iter().any(|file| number(&group.join(file), "oom_kill ") > 0) {
            self.ended.insert(master);
        }
        let back = Path::new(way.0).join("cgroup.procs");
        if Path::new(&format!("/proc/{process}")).exists()
            && let Err(error) = fs::write(&back, process.to_string())
            && Path::new(&format!("/proc/{process}/exe")).exists()
        {
            return Err(error).with_context(|| format!("cannot move {process} back"));
        }
        // A process that was just ended keeps its group for a moment.
        for _ in 0..100 {
            if fs::remove_dir(&group).is_ok() || !group.exists() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        anyhow::bail!("the control group {} cannot be removed", group.display())
    }

    /// Whether the kernel has ended the process of a master whose limit is gone; tells it once.
    pub fn was_ended(&mut self, master: usize) -> bool {
        self.ended.remove(&master)
    }

    /// The group of who is limited now, as the kernel shows it.
    #[must_use]
    pub fn shown(&self, master: usize) -> Option<String> {
        let (process, _) = self.now.get(&master)?;
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
        let group = group(self.way?, master);
        let name = group.file_name()?.to_str()?;
        groups.contains(name).then(|| name.to_owned())
    }

    /// How often these masters wanted more than they got, so far.
    #[must_use]
    pub fn met<'a>(&self, masters: impl Iterator<Item = &'a usize>) -> u64 {
        let now = |master: &usize| {
            let way = self.way.filter(|_| self.now.contains_key(master))?;
            Some(count(way, &group(way, *master)))
        };
        let before = |master: &usize| self.met.get(master).copied().unwrap_or(0);
        masters.map(|master| before(master) + now(master).unwrap_or(0)).sum()
    }
}

impl Drop for Memories {
    fn drop(&mut self) {
        for master in self.now.keys().copied().collect::<Vec<usize>>() {
            if let Err(error) = self.free(master) {
                tracing::warn!(%error, "a control group is left");
            }
        }
    }
}

fn way() -> Option<Way> {
    WAYS.into_iter().find(|(root, ..)| {
        let root = Path::new(root);
        let one = root.join("memory.limit_in_bytes").exists();
        let controllers = fs::read_to_string(root.join("cgroup.subtree_control"));
        one || controllers.is_ok_and(|all| all.split_whitespace().any(|name| name == "memory"))
    })
}

fn group(way: Way, master: usize) -> PathBuf {
    Path::new(way.0).join(format!("{PREFIX}{}-memory-{master}", std::process::id()))
}

fn count((_, _, file, word): Way, group: &Path) -> u64 {
    number(&group.join(file), word)
}

/// The number behind a word, or 0.
fn number(file: &Path, word: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
