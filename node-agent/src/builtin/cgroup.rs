//! Cgroups of pods, on hosts with v2 and on hosts with v1 (also hybrid): usage, OOM counters, killing and removing.
//! Limits at creation are libcontainer's work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use super::limits::{CGROUP_RETRY, CGROUP_TRIES};
use crate::runtime::LinuxResources;

const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup by its path from the hierarchy's root (`/quorate-ab/…`), on whatever hierarchies the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup(pub String);

/// Whether the host has the unified hierarchy only.
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

impl Cgroup {
    /// A child of this cgroup.
    pub fn child(&self, name: &str) -> Cgroup {
        Cgroup(format!("{}/{name}", self.0))
    }

    /// Its directories: one on v2, one per hierarchy on v1.
    fn dirs(&self) -> Vec<PathBuf> {
        let tail = self.0.trim_start_matches('/');
        if is_v2() {
            return vec![Path::new(ROOT).join(tail)];
        }
        let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
        let hierarchies = entries.flatten().map(|entry| entry.path());
        // `cpu -> cpu,cpuacct` are symlinks to a hierarchy that is listed anyway.
        hierarchies
            .filter(|path| path.is_dir() && !path.is_symlink())
            .map(|p| p.join(tail))
            .collect()
    }

    fn file(&self, v1_controller: &str, name: &str) -> PathBuf {
        let base = if is_v2() { PathBuf::from(ROOT) } else { Path::new(ROOT).join(v1_controller) };
        base.join(self.0.trim_start_matches('/')).join(name)
    }

    /// Moves the calling process in, making the cgroup.
    pub fn enter(&self) -> io::Result<()> {
        let pid = std::process::id().to_string();
        for dir in self.dirs() {
            fs::create_dir_all(&dir)?;
            copy_cpuset(&dir);
            fs::write(dir.join("cgroup.procs"), &pid)?;
        }
        Ok(())
    }

    /// All processes in it and below.
    pub fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in self.dirs() {
            collect(&dir, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills everything in it and below, but for the calling process, and waits until it is gone (bounded).
    pub fn kill(&self) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        for _ in 0..CGROUP_TRIES {
            let pids: Vec<i32> = self.processes().into_iter().filter(|pid| *pid != own).collect();
            if pids.is_empty() {
                return;
            }
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(CGROUP_RETRY);
        }
    }

    /// Removes it and everything below. Processes in it must be dead; dying ones are waited for (bounded).
    pub fn remove(&self) -> io::Result<()> {
        let mut last = Ok(());
        for dir in self.dirs() {
            for _ in 0..CGROUP_TRIES {
                last = remove_tree(&dir);
                if last.is_ok() {
                    break;
                }
                std::thread::sleep(CGROUP_RETRY);
            }
        }
        last
    }

    /// Names of the cgroups directly below.
    pub fn children(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in self.dirs() {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            names.extend(
                entries
                    .filter(|e| e.path().is_dir())
                    .filter_map(|e| e.file_name().into_string().ok()),
            );
        }
        names.sort();
        names.dedup();
        names
    }

    /// How often the kernel killed something in it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = if is_v2() { "memory.events" } else { "memory.oom_control" };
        keyed(&self.file("memory", file), "oom_kill")
    }

    /// CPU time used, nanoseconds.
    pub fn cpu_usage_ns(&self) -> u64 {
        if is_v2() {
            return keyed(&self.file("", "cpu.stat"), "usage_usec").saturating_mul(1000);
        }
        number(&self.file("cpuacct", "cpuacct.usage"))
    }

    /// Memory in use less the inactive page cache: what cAdvisor calls the working set.
    pub fn memory_working_set_bytes(&self) -> u64 {
        let (usage, key) = if is_v2() {
            ("memory.current", "inactive_file")
        } else {
            ("memory.usage_in_bytes", "total_inactive_file")
        };
        let inactive = keyed(&self.file("memory", "memory.stat"), key);
        number(&self.file("memory", usage)).saturating_sub(inactive)
    }

    /// Applies new limits; zero values stay as they are.
    pub fn update(&self, resources: &LinuxResources) -> io::Result<()> {
        let set = |controller: &str, name: &str, value: String| {
            let path = self.file(controller, name);
            fs::write(&path, value)
                .map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", path.display())))
        };
        let r = resources;
        if is_v2() {
            if r.cpu_shares > 0 {
                set("", "cpu.weight", shares_to_weight(r.cpu_shares).to_string())?;
            }
            if r.cpu_quota != 0 {
                let quota = if r.cpu_quota < 0 { "max".into() } else { r.cpu_quota.to_string() };
                set("", "cpu.max", format!("{quota} {}", r.cpu_period.max(1000)))?;
            }
            if r.memory_limit_bytes > 0 {
                set("", "memory.max", r.memory_limit_bytes.to_string())?;
            }
        } else {
            if r.cpu_shares > 0 {
                set("cpu", "cpu.shares", r.cpu_shares.to_string())?;
            }
            if r.cpu_period > 0 {
                set("cpu", "cpu.cfs_period_us", r.cpu_period.to_string())?;
            }
            if r.cpu_quota != 0 {
                set("cpu", "cpu.cfs_quota_us", r.cpu_quota.to_string())?;
            }
            if r.memory_limit_bytes > 0 {
                let mut steps = vec![("memory.limit_in_bytes", r.memory_limit_bytes)];
                let swap = "memory.memsw.limit_in_bytes";
                if r.memory_swap_limit_bytes > 0 && limits_swap() {
                    // The limit with swap may never be the lower one: it goes first on the way up and last on the way
                    // down.
                    let now = number(&self.file("memory", swap));
                    let up = u64::try_from(r.memory_limit_bytes).is_ok_and(|limit| limit > now);
                    steps.insert(usize::from(!up), (swap, r.memory_swap_limit_bytes));
                }
                for (name, bytes) in steps {
                    set("memory", name, bytes.to_string())?;
                }
            }
        }
        if !r.cpuset_cpus.is_empty() {
            set("cpuset", "cpuset.cpus", r.cpuset_cpus.clone())?;
        }
        if let Some(pids) = r.pids_limit {
            set("pids", "pids.max", if pids <= 0 { "max".into() } else { pids.to_string() })?;
        }
        Ok(())
    }
}

/// Whether cgroups made by us can have limits of this controller (`memory`, `cpu`, `pids`, …).
pub fn has_controller(name: &str) -> bool {
    if !is_v2() {
        return Path::new(ROOT).join(name).is_dir();
    }
    let enabled = fs::read_to_string(Path::new(ROOT).join("cgroup.subtree_control"));
    enabled.is_ok_and(|list| list.split_whitespace().any(|one| one == name))
}

/// Makes all controllers available to cgroups below the root, where that is ours to do. In a container (a root that is
/// somebody's child) with v2, the root's own processes stand in the way: they move to `/init`, as everybody does who
/// runs containers in containers. Tells the controllers that could not be had.
pub fn delegate() -> Vec<String> {
    if !is_v2() {
        return Vec::new();
    }
    let root = Path::new(ROOT);
    let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let missing = || -> Vec<String> {
        let names = available.split_whitespace().filter(|name| !has_controller(name));
        names.map(str::to_owned).collect()
    };
    let enable = || {
        for name in missing() {
            // What cannot be enabled is found missing afterwards.
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{name}"));
        }
    };
    enable();
    // Only a root that is no real one has a type.
    if !missing().is_empty() && root.join("cgroup.type").exists() {
        let init = root.join("init");
        let _ = fs::create_dir(&init);
        for _ in 0..CGROUP_TRIES {
            let procs = fs::read_to_string(root.join("cgroup.procs")).unwrap_or_default();
            if procs.trim().is_empty() {
                break;
            }
            for pid in procs.lines() {
                let _ = fs::write(init.join("cgroup.procs"), pid);
            }
        }
        enable();
    }
    missing()
}

/// Whether this kernel limits swap per cgroup.
pub fn limits_swap() -> bool {
    if is_v2() {
        return Path::new("/proc/swaps").exists();
    }
    Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes").exists()
}

/// The kernel's own mapping of v1 shares (2–262144) to v2 weight (1–10000), as runc's.
fn shares_to_weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

/// A new v1 cpuset has no CPUs until told, and then takes no process.
fn copy_cpuset(dir: &Path) {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|d| fs::read_to_string(d.join(name)).is_ok_and(|t| t.trim().is_empty()))
            .collect();
        for dir in missing.into_iter().rev() {
            if let Some(value) = dir.parent().and_then(|p| fs::read_to_string(p.join(name)).ok()) {
                let _ = fs::write(dir.join(name), value.trim());
            }
        }
    }
}

fn collect(dir: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), pids);
        }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

fn number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn keyed(path: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, v)| v.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_map_to_weights_at_both_ends() {
        assert_eq!([2, 1024, 262_144].map(shares_to_weight), [1, 39, 10_000]);
    }
}
