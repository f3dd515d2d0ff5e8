//! A directory for one test, and with it everything that the test starts: processes, containers, mounts, network
//! namespaces, bridges, nftables, cgroups. When the test ends, however it ends, all of it goes. What an aborted run
//! left (nobody holds the lock of its directory any more) goes when the next test starts.
//!
//! Nothing is ended by name: a process belongs to a directory when its command line or its root file system names it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// All directories of the tests begin like this.
const PREFIX: &str = "quorate-e2e-";
/// The file in each whose lock says that its test is alive.
const OWNER: &str = "owner.lock";
/// How long it may take until all that belongs to a directory is gone.
const CLEANING: Duration = Duration::from_secs(30);

/// A directory of one test.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _owned: File,
}

impl Scratch {
    /// Makes one, after cleaning up what aborted tests have left.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        // Locked before it has its name, so that nobody takes it for abandoned.
        let fresh = path.join("owner.new");
        let owned = File::create(&fresh).unwrap();
        owned.lock().unwrap();
        fs::rename(&fresh, path.join(OWNER)).unwrap();
        Self { path, _owned: owned }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let left = clean(&self.path);
        if !left.is_empty() {
            let complaint = format!("{} left behind: {left:#?}", self.path.display());
            if std::thread::panicking() {
                eprintln!("{complaint}");
            } else {
                panic!("{complaint}");
            }
        }
    }
}

/// Cleans the directories of tests that are no more.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(owner) = File::open(entry.path().join(OWNER)) else { continue };
        if owner.try_lock().is_ok() {
            eprintln!("cleaning up after an aborted test: {}", entry.path().display());
            let left = clean(&entry.path());
            if !left.is_empty() {
                eprintln!("{} left behind: {left:#?}", entry.path().display());
            }
        }
    }
}

/// Ends and removes all that belongs to the directory, and the directory. Gives what could not be removed.
fn clean(directory: &Path) -> Vec<String> {
    let mut bridges = bridges(directory);
    let tags = tags(directory);
    bridges.extend(tags.iter().map(|tag| format!("qbr{tag}")));
    let mut cgroups: BTreeSet<PathBuf> = tags.iter().flat_map(|tag| cgroups_named(tag)).collect();
    let mut namespaces = BTreeSet::new();
    let began = Instant::now();
    loop {
        let processes = processes_of(directory);
        for process in &processes {
            namespaces.extend(fs::metadata(process.join("ns/net")).map(|ns| ns.ino()).ok());
            cgroups.extend(cgroups_of(process));
            let pid = process.file_name().unwrap_or_default();
            quiet(Command::new("kill").arg("-9").arg(pid));
        }
        if processes.is_empty() || began.elapsed() > CLEANING {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for mount in mounts_under(directory) {
        quiet(Command::new("umount").arg("-l").arg(&mount));
    }
    for bridge in &bridges {
        forget_network(bridge);
    }
    let own = fs::metadata("/proc/self/ns/net").map(|ns| ns.ino()).ok();
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let inode = fs::metadata(entry.path()).map(|ns| ns.ino()).ok();
        if inode != own && inode.is_some_and(|inode| namespaces.contains(&inode)) {
            unpin(&entry.path());
        }
    }
    for cgroup in cgroups.iter().rev() {
        remove_cgroup(cgroup);
    }
    while fs::remove_dir_all(directory).is_err() && directory.exists() && began.elapsed() < CLEANING
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut left: Vec<String> = mounts_under(directory);
    left.extend(processes_of(directory).iter().map(|process| command_line(process)));
    left.extend(directory.exists().then(|| directory.display().to_string()));
    left
}

/// `/proc/PID` of what was started with the directory on its command line, or runs from a root in it.
fn processes_of(directory: &Path) -> Vec<PathBuf> {
    let marker = format!("{}/", directory.display());
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let belongs = |process: &Path| {
        if command_line(process).contains(&marker) {
            return true;
        }
        // Only in a mount namespace of its own: everybody else sees the directory's mounts as well.
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else { return false };
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        Some(namespace) != own
            && mounts
                .lines()
                .any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&marker))
    };
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.bytes().all(|byte| byte.is_ascii_digit()) && *name != *own
        })
        .map(|entry| entry.path())
        .filter(|process| belongs(process) && !is_zombie(process))
        .collect()
}

fn command_line(process: &Path) -> String {
    let bytes = fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// A child of ours that nobody has waited for yet, or one of a process that does not care.
fn is_zombie(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

/// The cgroups of a process that are not also ours, on v2 and in each hierarchy of v1.
fn cgroups_of(process: &Path) -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    text.lines()
        .filter(|line| !own.lines().any(|ours| ours == *line))
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let hierarchy = match controllers.trim_start_matches("name=") {
                "" if root.join("unified").exists() => root.join("unified"),
                "" => root.to_owned(),
                controllers => root.join(controllers),
            };
            Some(hierarchy.join(path))
        })
        .collect()
}

/// Removes an empty cgroup, and those above it that are empty with it, but for those that others share.
fn remove_cgroup(cgroup: &Path) {
    const SHARED: &[&str] = &["k8s.io", "kubepods", "besteffort", "burstable"];
    for cgroup in cgroup.ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup/")) {
        let shared = |name: &std::ffi::OsStr| SHARED.iter().any(|shared| name == *shared);
        if cgroup.file_name().is_none_or(shared) || fs::remove_dir(cgroup).is_err() {
            return;
        }
    }
}

/// Mount points in the directory, the innermost first.
fn mounts_under(directory: &Path) -> Vec<String> {
    let marker = format!("{}/", directory.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut points: Vec<String> =
        points.filter(|point| point.starts_with(&marker)).map(str::to_owned).collect();
    points.reverse();
    points
}

/// What the node agents with their data in the directory put into the names of what they make outside of it: FNV-1a of
/// the path, folded.
fn tags(directory: &Path) -> Vec<String> {
    let tag = |path: &Path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:08x}", (hash ^ (hash >> 32)) & u64::from(u32::MAX))
    };
    let Ok(directory) = directory.canonicalize() else { return Vec::new() };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let agents = entries.map(|entry| entry.path()).filter(|data| data.join("agent").is_dir());
    agents.flat_map(|data| [tag(&data), tag(&data.join("agent"))]).collect()
}

/// The cgroup of an agent's pods, on v2 and in each hierarchy of v1.
fn cgroups_named(tag: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([root.to_owned()]).map(|path| path.join(format!("quorate-{tag}")));
    all.filter(|path| path.is_dir()).collect()
}

/// The bridges that the CNI configurations in the directory name.
fn bridges(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory.join("cni")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let parts = text.split("\"bridge\":").skip(1);
        let quoted = parts.filter_map(|part| part.trim_start().strip_prefix('"'));
        found.extend(quoted.filter_map(|part| part.split('"').next()).map(str::to_owned));
    }
    found
}

/// Removes a bridge with the addresses, namespaces and rules that go with it.
pub fn forget_network(bridge: &str) {
    // What libcni remembers of each sandbox on it.
    let results = fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten();
    let results: Vec<(PathBuf, Option<String>)> = results
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let namespace =
                text.split("\"sandbox\":\"").nth(1).and_then(|rest| rest.split('"').next());
            (entry.path(), namespace.map(str::to_owned))
        })
        .collect();
    let named = |path: &Path, name: &str| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
    };
    let ours: BTreeSet<&String> = results
        .iter()
        .filter(|(path, _)| named(path, &format!("{bridge}-")))
        .filter_map(|(_, namespace)| namespace.as_ref())
        .collect();
    for (path, namespace) in &results {
        if namespace.as_ref().is_some_and(|namespace| ours.contains(namespace)) {
            unpin(Path::new(namespace.as_deref().unwrap_or_default()));
            let _ = fs::remove_file(path);
        } else if named(path, "cni-loopback-")
            && namespace.as_ref().is_some_and(|namespace| !Path::new(namespace).exists())
        {
            // Of a sandbox that is no more.
            let _ = fs::remove_file(path);
        }
    }
    let _ = fs::remove_dir_all(Path::new("/var/lib/cni/networks").join(bridge));
    quiet(Command::new("ip").args(["link", "delete", bridge]));
    // The agent that made the bridge named its rules alike.
    if let Some(tag) = bridge.strip_prefix("qbr") {
        quiet(Command::new("nft").args(["delete", "table", "ip", &format!("quorate-{tag}")]));
    }
}

fn unpin(namespace: &Path) {
    quiet(Command::new("umount").arg("-l").arg(namespace));
    let _ = fs::remove_file(namespace);
}

/// Runs it; whether it succeeds does not matter here, only what is left in the end.
fn quiet(command: &mut Command) {
    drop(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status());
}
