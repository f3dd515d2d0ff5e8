//! What is on disk about a sandbox and its containers. The agent writes the records before it asks a shim for
//! anything, the shim writes statuses; whoever comes later reads both.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::image::ImageConfig;
use crate::runtime::{ContainerConfig, ContainerState, PodSandboxConfig};

/// `sandbox.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id, also its directory's name.
    pub id: String,
    /// As asked for.
    pub config: PodSandboxConfig,
    /// When.
    pub created_at: Timestamp,
    /// Its cgroup, from the hierarchy's root.
    pub cgroup: String,
    /// Its addresses; empty with host network.
    pub ips: Vec<IpAddr>,
    /// It was stopped; its shim is gone on purpose.
    pub stopped: bool,
}

/// `container.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id, also its directory's name.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// As asked for.
    pub config: ContainerConfig,
    /// Its image's id.
    pub image_id: String,
    /// `repo@sha256:…` when known, else the id.
    pub image_ref: String,
    /// A tag of the image, for people.
    pub image_name: String,
    /// What it inherits from the image.
    pub image_config: ImageConfig,
    /// Directory of the image's unpacked layers.
    pub layers_dir: PathBuf,
    /// The layers' directories in it, lowest first.
    pub layers: Vec<String>,
    /// When.
    pub created_at: Timestamp,
    /// Absolute log file.
    pub log_path: PathBuf,
}

/// `status.json`, written by the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusRecord {
    /// Where it is.
    pub state: ContainerState,
    /// Its first process, on the host.
    pub pid: i32,
    /// When that started.
    pub started_at: Option<Timestamp>,
    /// When that ended.
    pub finished_at: Option<Timestamp>,
    /// 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Words to it.
    pub message: String,
}

impl Default for StatusRecord {
    fn default() -> Self {
        StatusRecord {
            state: ContainerState::Created,
            pid: 0,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
        }
    }
}

/// `shim.json`: which process is the shim. The start time guards against a reused pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// Its pid.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl ShimRecord {
    /// The record of a living process.
    pub fn of(pid: i32) -> Option<ShimRecord> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(ShimRecord { pid, start_time: fields.get(19)?.parse().ok()? })
    }

    /// Whether that very process lives.
    pub fn is_alive(&self) -> bool {
        ShimRecord::of(self.pid).as_ref() == Some(self)
    }
}

/// Reads a record; `None` when there is none or it is not whole.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a record beside and renames it: readers see the old or the new one.
pub fn write<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    fs::rename(&beside, path)
}

/// The paths of one sandbox's directory.
#[derive(Debug, Clone)]
pub struct SandboxDir(pub PathBuf);

impl SandboxDir {
    /// `sandbox.json`.
    pub fn record(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }
    /// `shim.json`.
    pub fn shim(&self) -> PathBuf {
        self.0.join("shim.json")
    }
    /// The shim's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }
    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    /// One container.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }
    /// libcontainer's own state.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}
