//! The data directory (design, section 9): claimed by one process at a time, recognised as ours,
//! with room to work in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quorate_pki::files;
use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};

use crate::settings::Network;

/// A process does not start in a new directory with less free space than this: with less, a master
/// would refuse to write from the beginning.
pub const FREE_BYTES_NEW: u64 = 192 * 1024 * 1024;

/// Nor in one that it has used before, the ballast included: what runs then takes deletes only, which
/// is the way back to a disk with room.
const FREE_BYTES_MIN: u64 = 48 * 1024 * 1024;

/// A directory that another process holds is asked for so often, with this pause; then it is refused.
const LOCK_TRIES: u32 = 5;

/// See [`LOCK_TRIES`].
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

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
    /// What all masters agree on.
    #[serde(default)]
    pub network: Network,
    /// Its log was made: from then on this master has voted and acknowledged, and is nobody without it.
    #[serde(default)]
    pub has_log: bool,
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
        create(path)?;
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
        // Keys and what Secrets say are below: whoever made the directory, others stay outside.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot make {} private to its owner", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// For `quorate agent`: a master's directory is not taken over.
    pub fn refuse_masters(&self) -> anyhow::Result<()> {
        let Some(cluster) = self.cluster()? else { return Ok(()) };
        bail!(
            "{} belongs to master {:?}: give the agent a directory of its own with --data",
            self.path.display(),
            cluster.name
        )
    }

    /// For `quorate server` and `quorate dev`: what is an agent's, or was a master's and is not
    /// whole, is not taken over.
    pub fn refuse_agents(&self) -> anyhow::Result<()> {
        if self.cluster()?.is_some() {
            return Ok(());
        }
        let path = self.path.display();
        if self.pki().join("node.crt").exists() {
            bail!(
                "{path} belongs to a node agent: give the master a directory of its own with --data"
            );
        }
        let log = self.path.join("raft");
        if fs::read_dir(&log).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!(
                "{path} holds a master's log but no {CLUSTER_FILE}, which says whose it is: put that \
                 file back, or give another directory with --data"
            );
        }
        Ok(())
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

    /// A master without its log has forgotten whom it voted for and what it acknowledged: were it to start with an
    /// empty one, it could vote again for somebody else, or, the first of its cluster, found that cluster once more.
    pub fn refuse_lost_log(&self, cluster: &ClusterFile) -> anyhow::Result<()> {
        let log = self.path.join("raft");
        if !cluster.has_log || log.join("synced").exists() {
            return Ok(());
        }
        let gone = if log.exists() {
            format!("{} is missing, so its log is not whole", log.join("synced").display())
        } else {
            format!("its log in {} is gone", log.display())
        };
        bail!(
            "{} belongs to master {:?}, but {gone}, and without it this master must not vote again. Put the log back. \
             Or give it up: where other masters live, join a new one from an empty directory under another name with \
             `quorate server --join URL --token T --data DIR --name NAME`; where it was the only one, what it stored \
             is lost with its log, and an empty --data directory starts a new cluster",
            self.path.display(),
            cluster.name,
        )
    }

    /// A join that came to nothing leaves nothing: this master never voted, and nobody has heard of it. The same
    /// command can be run again.
    pub fn forget_join(&self, mut cluster: ClusterFile) -> anyhow::Result<()> {
        // In this order it can be ended at any point, and begin again.
        cluster.has_log = false;
        self.save_cluster(&cluster)?;
        for gone in [self.path.join("raft"), self.path.join("snapshots")] {
            match fs::remove_dir_all(&gone) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot delete {}", gone.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let file = self.path.join(CLUSTER_FILE);
        fs::remove_file(&file).with_context(|| format!("cannot delete {}", file.display()))
    }

    /// Keeps who this master is.
    pub fn save_cluster(&self, cluster: &ClusterFile) -> anyhow::Result<()> {
        write_cluster(&self.path, cluster)
    }
}

/// Writes `cluster.json` of a directory that nobody uses.
pub fn write_cluster(path: &Path, cluster: &ClusterFile) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(cluster)?;
    text.push('\n');
    files::write_private(&path.join(CLUSTER_FILE), text.as_bytes())?;
    Ok(())
}

/// Keeps a directory from being used as long as what this gives lives; refused when it is in use, or somebody else's.
pub fn hold(path: &Path) -> anyhow::Result<File> {
    refuse_foreign(path)?;
    lock(path)
}

/// Whether a process holds the directory now.
pub fn is_held(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join(LOCK_FILE)) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// Reads `cluster.json` of a directory that need not be claimed.
pub fn read_cluster(path: &Path) -> anyhow::Result<Option<ClusterFile>> {
    let file = path.join(CLUSTER_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let damaged = || format!("{} is damaged", file.display());
    // The version first: what a newer one writes need not decode here.
    let form: serde_json::Value = serde_json::from_str(&text).with_context(damaged)?;
    if let Some(version) = form["version"].as_u64().filter(|version| *version > 1) {
        bail!(
            "{} was written by a newer Quorate (form {version}): use that version",
            file.display()
        );
    }
    serde_json::from_value(form).map(Some).with_context(damaged)
}

/// The directory, and those above it that are missing, for their owner only.
fn create(path: &Path) -> anyhow::Result<()> {
    let refused = || format!("cannot use {} as data directory", path.display());
    files::create_private_dir(path).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        anyhow::anyhow!("{}: {}", refused(), source.unwrap_or_else(|| error.to_string()))
    })
}

/// A directory with other things in it is not taken over: it may be somebody's home.
fn refuse_foreign(path: &Path) -> anyhow::Result<()> {
    const OURS: [&str; 8] =
        [CLUSTER_FILE, LOCK_FILE, "pki", "raft", "snapshots", "backups", "agent", "lost+found"];
    let entries = fs::read_dir(path)
        .with_context(|| format!("cannot read the data directory {}", path.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    // These two nobody else writes; the rest are names that others may use as well.
    if names.iter().any(|name| name == CLUSTER_FILE || name == LOCK_FILE) {
        return Ok(());
    }
    match names.iter().find(|name| !OURS.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => bail!(
            "{} is not a Quorate data directory: it holds {name:?}. \
             Give an empty or new directory with --data",
            path.display()
        ),
    }
}

/// Whether the lock is ours now. Tried for a moment: somebody may just be asking whether it is held.
fn claim_lock(lock: &File) -> bool {
    (0..LOCK_TRIES).any(|number| {
        if number > 0 {
            std::thread::sleep(LOCK_PAUSE);
        }
        flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let mut lock = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .with_context(|| format!("cannot write to the data directory {}", path.display()))?;
    if !claim_lock(&lock) {
        let mut holder = String::new();
        lock.read_to_string(&mut holder)?;
        bail!(
            "{} is in use by {}. Stop it first, or give another directory with --data",
            path.display(),
            if holder.trim().is_empty() { "another process" } else { holder.trim() },
        );
    }
    let since = jiff::Timestamp::now().round(jiff::Unit::Second)?;
    let mut write = || -> io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "process {} since {since} ({})", std::process::id(), command_line())
    };
    write().with_context(|| format!("cannot write to the data directory {}", path.display()))?;
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
        assert!(is_held(&path));
        drop(held);
        assert!(!is_held(&path));
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
    fn names_that_others_use_as_well_do_not_make_a_directory_ours() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("agent")).unwrap();
        drop(DataDir::claim(directory.path()).unwrap());
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("backups")).unwrap();
        fs::write(directory.path().join("photos.zip"), "").unwrap();
        assert!(error(directory.path()).contains("it holds \"photos.zip\""));
    }

    #[test]
    fn a_log_without_its_owner_and_an_agents_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::claim(directory.path()).unwrap();
        data.refuse_agents().unwrap();
        fs::create_dir_all(directory.path().join("raft/db")).unwrap();
        let text = data.refuse_agents().unwrap_err().to_string();
        assert!(text.contains("holds a master's log but no cluster.json"), "{text}");
        fs::create_dir(data.pki()).unwrap();
        fs::write(data.pki().join("node.crt"), "").unwrap();
        let text = data.refuse_agents().unwrap_err().to_string();
        assert!(text.contains("belongs to a node agent"), "{text}");
    }

    #[test]
    fn a_newer_versions_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CLUSTER_FILE), r#"{"version": 2, "else": []}"#).unwrap();
        let text = read_cluster(directory.path()).unwrap_err().to_string();
        assert!(text.ends_with("written by a newer Quorate (form 2): use that version"), "{text}");
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
        let mut cluster = ClusterFile {
            version: 1,
            cluster_id: "c".to_owned(),
            node_id: 7,
            name: "a".to_owned(),
            peer_address: "h:6444".to_owned(),
            api_address: "h:6443".to_owned(),
            network: Network::default(),
            has_log: false,
        };
        data.save_cluster(&cluster).unwrap();
        assert_eq!(data.cluster().unwrap(), Some(cluster.clone()));
        // Before there ever was a log there is none to miss.
        data.refuse_lost_log(&cluster).unwrap();
        cluster.has_log = true;
        let text = data.refuse_lost_log(&cluster).unwrap_err().to_string();
        assert!(text.contains("its log in") && text.contains("is gone"), "{text}");
        fs::create_dir(directory.path().join("raft")).unwrap();
        fs::write(directory.path().join("raft/synced"), "").unwrap();
        data.refuse_lost_log(&cluster).unwrap();
    }
}
