//! The data directory (design, section 9): claimed by one process at a time, recognised as ours,
//! with room to work in.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quorate_pki::files;
use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};

/// A process does not start in a new directory with less free space than this: with less, a master
/// would refuse to write from the beginning.
const FREE_BYTES_NEW: u64 = 192 * 1024 * 1024;

/// Nor in one that it has used before, the ballast included: what runs then takes deletes only, which
/// is the way back to a disk with room.
const FREE_BYTES_MIN: u64 = 48 * 1024 * 1024;

const CLUSTER_FILE: &str = "cluster.json";
const LOCK_FILE: &str = "quorate.lock";

/// What `cluster.json` says: which cluster, and who this master is in it. No secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFile {
    /// Version of this file's form.
    pub version: u32,
    /// Drawn at the first start.
    pub cluster_id: String,
    /// This master's Raft node id.
    pub node_id: u64,
    /// This master's name.
    pub name: String,
    /// `host:port` of its peer listener, as the others reach it.
    pub peer_address: String,
    /// `host:port` of its API, as clients reach it.
    pub api_address: String,
}

/// A claimed data directory. Dropping it gives up the claim.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be and claims it for this process.
    pub fn claim(path: &Path) -> anyhow::Result<Self> {
        files::create_private_dir(path)
            .with_context(|| format!("cannot use {} as data directory", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("{}", path.display()))?;
        refuse_foreign(&path)?;
        let lock = lock(&path)?;
        let space = statvfs(&path)
            .with_context(|| format!("cannot ask how full the disk of {} is", path.display()))?;
        let used = path.join("raft").exists() || path.join("agent").exists();
        let needed = if used { FREE_BYTES_MIN } else { FREE_BYTES_NEW };
        let ballast = fs::metadata(path.join("raft/ballast")).map_or(0, |meta| meta.len());
        let free = space.f_bavail * space.f_frsize + ballast;
        if free < needed {
            bail!(
                "the disk of {} is full: {} MiB free, {} MiB are needed. Free some space and start again",
                path.display(),
                free >> 20,
                needed >> 20,
            );
        }
        Ok(Self { path, _lock: lock })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where certificates and keys are.
    pub fn pki(&self) -> PathBuf {
        self.path.join("pki")
    }

    /// Where the node agent keeps what it owns.
    pub fn agent(&self) -> PathBuf {
        self.path.join("agent")
    }

    /// Who this master is; `None` in a fresh directory.
    pub fn cluster(&self) -> anyhow::Result<Option<ClusterFile>> {
        read_cluster(&self.path)
    }

    /// Keeps who this master is.
    pub fn save_cluster(&self, cluster: &ClusterFile) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(cluster)?;
        text.push('\n');
        files::write_private(&self.path.join(CLUSTER_FILE), text.as_bytes())?;
        Ok(())
    }
}

/// Reads `cluster.json` of a directory that need not be claimed.
pub fn read_cluster(path: &Path) -> anyhow::Result<Option<ClusterFile>> {
    let file = path.join(CLUSTER_FILE);
    if !file.exists() {
        return Ok(None);
    }
    let cluster: ClusterFile = serde_json::from_str(&files::read(&file)?)
        .with_context(|| format!("{} is damaged", file.display()))?;
    if cluster.version != 1 {
        bail!(
            "{} was written by a newer Quorate (form {}): use that version",
            file.display(),
            cluster.version
        );
    }
    Ok(Some(cluster))
}

/// A directory with other things in it is not taken over: it may be somebody's home.
fn refuse_foreign(path: &Path) -> anyhow::Result<()> {
    const OURS: [&str; 7] =
        [CLUSTER_FILE, LOCK_FILE, "pki", "raft", "snapshots", "backups", "agent"];
    let entries = fs::read_dir(path)
        .with_context(|| format!("cannot read the data directory {}", path.display()))?;
    let mut foreign = None;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if OURS.contains(&name.as_str()) {
            return Ok(());
        }
        foreign.get_or_insert(name);
    }
    match foreign {
        None => Ok(()),
        Some(name) if name == "lost+found" => Ok(()),
        Some(name) => bail!(
            "{} is not a Quorate data directory: it holds {name:?}. \
             Give an empty or new directory with --data",
            path.display()
        ),
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let mut lock = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .with_context(|| format!("cannot write to the data directory {}", path.display()))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        lock.read_to_string(&mut holder)?;
        bail!(
            "{} is in use by {}. Stop it first, or give another directory with --data",
            path.display(),
            if holder.trim().is_empty() { "another process" } else { holder.trim() },
        );
    }
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "process {} ({})", std::process::id(), command_line())?;
    Ok(lock)
}

/// The command as it was typed, without what follows a `--token`.
fn command_line() -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for word in std::env::args() {
        if hide {
            words.push("***".to_owned());
            hide = false;
            continue;
        }
        hide = word == "--token";
        words.push(if word.starts_with("--token=") { "--token=***".to_owned() } else { word });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &Path) -> String {
        format!("{:#}", DataDir::claim(path).unwrap_err())
    }

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let held = DataDir::claim(&path).unwrap();
        let text = error(&path);
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(held);
        DataDir::claim(&path).unwrap();
    }

    #[test]
    fn a_foreign_directory_is_refused_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
        let text = error(directory.path());
        assert!(
            text.contains("is not a Quorate data directory: it holds \"thesis.txt\""),
            "{text}"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(error(&path).starts_with("cannot use "), "{}", error(&path));
    }

    #[test]
    fn the_cluster_file_survives() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::claim(directory.path()).unwrap();
        assert_eq!(data.cluster().unwrap(), None);
        let cluster = ClusterFile {
            version: 1,
            cluster_id: "c".to_owned(),
            node_id: 7,
            name: "a".to_owned(),
            peer_address: "h:6444".to_owned(),
            api_address: "h:6443".to_owned(),
        };
        data.save_cluster(&cluster).unwrap();
        assert_eq!(data.cluster().unwrap(), Some(cluster));
    }
}
