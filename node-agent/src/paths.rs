//! Where the agent keeps what: one place for every path below `<data>/agent`.

use std::path::{Path, PathBuf};

/// The agent's directories.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Below the process's data directory.
    pub fn new(data: &Path) -> Self {
        Paths { root: data.join("agent") }
    }

    /// `<data>/agent`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `<data>/agent/pods`: the logs of all pods.
    pub fn logs(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// `<data>/agent/pods/<namespace>_<name>_<uid>`.
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs().join(format!("{namespace}_{name}_{uid}"))
    }

    /// `<data>/agent/state`: checkpoints.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// `<data>/agent/volumes`: everything mounted into pods, by uid.
    pub fn pods_data(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Files of one pod: `etc-hosts`, volumes, termination logs.
    pub fn pod_data(&self, uid: &str) -> PathBuf {
        self.pods_data().join(uid)
    }

    /// The pod's `/etc/hosts`.
    pub fn etc_hosts(&self, uid: &str) -> PathBuf {
        self.pod_data(uid).join("etc-hosts")
    }

    /// One volume of a pod.
    pub fn volume(&self, uid: &str, kind: &str, name: &str) -> PathBuf {
        self.pod_data(uid).join("volumes").join(kind).join(name)
    }

    /// What a container writes to `terminationMessagePath`.
    pub fn termination_log(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_data(uid).join("containers").join(container).join(format!("{attempt}.termination"))
    }
}

/// `<container>/<attempt>.log`, relative to the pod's log directory.
pub(crate) fn container_log(container: &str, attempt: u32) -> PathBuf {
    PathBuf::from(container).join(format!("{attempt}.log"))
}

/// Writes a file so that after a crash it holds the old or the new content: beside, sync, rename, sync directory.
pub(crate) fn write_atomically(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.new"));
    let _ = std::fs::remove_file(&beside);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(parent)?.sync_all()
}
