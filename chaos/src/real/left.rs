//! What a run has left on the host: it is looked for by listing, after everything was taken back and ended.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::limits::LEFT_MAX;

/// Where control groups are made.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"];

/// What is left of this process's run in a directory, and which of these control groups, once nothing is, or after
/// [`LEFT_MAX`].
pub async fn look(directory: &Path, groups: &[PathBuf]) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let mut left = list(directory, std::process::id());
        let groups = groups.iter().filter(|group| group.exists());
        left.extend(groups.map(|group| format!("the control group {}", group.display())));
        if left.is_empty() || begin.elapsed() > LEFT_MAX {
            return left;
        }
        tokio::time::sleep(super::POLL).await;
    }
}

fn list(directory: &Path, run: u32) -> Vec<String> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let directory = directory.to_string_lossy();
    let mut left = processes(&directory, run);
    let said = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    let links = said(&["-o", "link"]);
    let links = links.lines().filter_map(|line| line.split([' ', '@', ':']).nth(2));
    left.extend(links.filter(|name| is_ours(name, run)).map(|name| format!("the link {name}")));
    let namespaces = said(&["netns", "list"]);
    let namespaces = namespaces.lines().filter_map(|line| line.split_whitespace().next());
    let namespaces = namespaces.filter(|name| is_ours(name, run));
    left.extend(namespaces.map(|name| format!("the network namespace {name}")));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let (source, rest) = line.split_once(' ')?;
        let at = rest.split(' ').next()?;
        let own = source == format!("quorate-chaos-{run}") || is_below(at, &directory);
        own.then(|| format!("the mount {at}"))
    });
    left.extend(mounts);
    let groups = GROUPS.map(|root| Path::new(root).join(format!("quorate-chaos-{run}")));
    let groups = groups.iter().filter(|group| group.exists());
    left.extend(groups.map(|group| format!("the control group {}", group.display())));
    left
}

/// Processes that were started on the run's directory.
fn processes(directory: &str, run: u32) -> Vec<String> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let found = all.flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let shim = line.split(|byte| *byte == 0).any(|word| word == b"shim");
        let data = line.split(|byte| *byte == 0).find_map(|word| {
            let word = String::from_utf8_lossy(word).into_owned();
            let path = match word.strip_prefix("--data=") {
                Some(data) => std::path::absolute(data).ok()?.to_string_lossy().into_owned(),
                None if shim => word,
                None => return None,
            };
            is_below(&path, directory).then_some(path)
        })?;
        (id != run).then(|| format!("process {id}, on {data}"))
    });
    found.collect()
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a link or namespace has a name of this run: `qc4711`, `qc4711v0`, `qc4711n2`.
fn is_ours(name: &str, run: u32) -> bool {
    let rest = name.strip_prefix(&format!("qc{run}"));
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn only_this_run_is_looked_at() {
        assert!(is_ours("qc47", 47) && is_ours("qc47n2", 47) && is_ours("qc47v0", 47));
        assert!(!is_ours("qc471", 47) && !is_ours("qc471n1", 47) && !is_ours("eth0", 47));
        assert!(is_below("/a/run/m1", "/a/run") && !is_below("/a/run2/m1", "/a/run"));
    }

    #[test]
    fn a_process_that_was_left_is_seen() {
        let directory = format!("/nowhere/quorate-left-{}", std::process::id());
        let run = u32::MAX;
        assert_eq!(list(Path::new(&directory), run), Vec::<String>::new());
        let mut process = Command::new("sh")
            .args(["-c", "read line", "sh", &format!("--data={directory}/m1")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        let mut seen = Vec::new();
        while seen.is_empty() && begin.elapsed() < LEFT_MAX {
            seen = list(Path::new(&directory), run);
        }
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(
            seen[0].contains(&format!("process {}, on {directory}/m1", process.id())),
            "{seen:?}"
        );
    }
}
