//! A small disk for a test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own for a test. `None` where that is not allowed.
pub struct SmallDisk {
    path: PathBuf,
    made: Option<tempfile::TempDir>,
}

impl SmallDisk {
    pub fn mount(mebibytes: u64) -> Option<Self> {
        let made = tempfile::tempdir().unwrap();
        let mut disk = Self::mount_at(made.path(), mebibytes)?;
        disk.made = Some(made);
        Some(disk)
    }

    /// The same, at a directory that is there.
    pub fn mount_at(path: &Path, mebibytes: u64) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no file system can be mounted here");
            return None;
        }
        Some(Self { path: path.to_owned(), made: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// MiB that are free.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.path).unwrap();
        (stat.f_bavail * stat.f_frsize) >> 20
    }

    /// Takes or gives back space until about so many MiB are free; all that was taken with `u64::MAX`.
    pub fn leave(&self, mebibytes: u64) {
        let path = self.path.join("filler");
        drop(std::fs::remove_file(&path));
        if mebibytes == u64::MAX {
            return;
        }
        let take = self.free().saturating_sub(mebibytes) << 20;
        let file = std::fs::File::create(path).unwrap();
        if take > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, take).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.path).status());
    }
}
