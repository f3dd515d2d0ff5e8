//! A small disk for a test.

use std::path::Path;
use std::process::Command;

/// A file system of its own for a test. `None` where that is not allowed.
pub struct SmallDisk {
    path: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount(mebibytes: u64) -> Option<Self> {
        let path = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path.path()).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no file system can be mounted here");
            return None;
        }
        Some(Self { path })
    }

    pub fn path(&self) -> &Path {
        self.path.path()
    }

    /// MiB that are free.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path.path()).unwrap();
        (stat.f_bavail * stat.f_frsize) >> 20
    }

    /// Takes or gives back space until about so many MiB are free.
    pub fn leave(&self, mebibytes: u64) {
        let path = self.path.path().join("filler");
        drop(std::fs::remove_file(&path));
        let take = self.free().saturating_sub(mebibytes) << 20;
        let file = std::fs::File::create(path).unwrap();
        if take > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, take).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path.path()).status());
    }
}
