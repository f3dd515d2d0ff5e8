//! Disks of a limited size, one for each master: tmpfs mounts that can be filled.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::limits::{DISK_BYTES, DISK_FULL_BYTES, DISK_INODES, DISK_INODES_FULL};

/// Sources of mounts begin with it; the process id of the run follows.
const PREFIX: &str = "quorate-chaos-";
const FILLER: &str = "quorate-chaos-filler";

/// A directory of empty files.
const FILES: &str = "quorate-chaos-files";

/// Less cannot be taken from a tmpfs.
const BLOCK_BYTES: u64 = 4096;

/// Times that a disk is filled until it stays full: its owner writes and deletes meanwhile.
const FILLS_MAX: usize = 16;

/// All disks of a run; unmounted with this value. What is on them is gone then.
#[derive(Debug)]
pub struct Disks {
    mounts: Vec<PathBuf>,
}

impl Disks {
    /// Whether this host can have them; if not, why.
    ///
    /// # Errors
    /// What is missing, in a sentence.
    pub fn possible() -> Result<(), String> {
        match rustix::process::geteuid().is_root() {
            true => Ok(()),
            false => Err("disks of a limited size need root".into()),
        }
    }

    /// Mounts a disk at each directory, which is made; removes what an aborted run left.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn make(directories: &[PathBuf]) -> anyhow::Result<Self> {
        sweep();
        let mut disks = Self { mounts: Vec::new() };
        for directory in directories {
            let what = || format!("cannot mount a tmpfs at {}", directory.display());
            std::fs::create_dir_all(directory).with_context(what)?;
            let source = format!("{PREFIX}{}", std::process::id());
            let options = format!("size={DISK_BYTES},nr_inodes={DISK_INODES},mode=700");
            let options = std::ffi::CString::new(options)?;
            mount(source, directory, "tmpfs", MountFlags::NODEV, options.as_c_str())
                .with_context(what)?;
            disks.mounts.push(directory.clone());
        }
        Ok(disks)
    }

    /// Leaves no room on a master's disk.
    ///
    /// # Errors
    /// When it cannot be filled.
    pub fn fill(&self, master: usize) -> anyhow::Result<()> {
        let path = self.mounts[master].join(FILLER);
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        for _ in 0..FILLS_MAX {
            let free = self.free(master)?;
            if free == 0 {
                break;
            }
            grow(&file, free)?;
        }
        Ok(())
    }

    /// Gives the room back, if it was taken.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn empty(&self, master: usize) -> anyhow::Result<()> {
        let path = self.mounts[master].join(FILLER);
        gone(std::fs::remove_file(&path), &path)
    }

    /// Leaves no room for another file on a master's disk.
    ///
    /// # Errors
    /// When it cannot be filled.
    pub fn fill_inodes(&self, master: usize) -> anyhow::Result<()> {
        use std::io::ErrorKind;
        let files = self.mounts[master].join(FILES);
        match std::fs::create_dir(&files) {
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        for number in 0..DISK_INODES {
            match OpenOptions::new().create(true).append(true).open(files.join(number.to_string()))
            {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the room for files back, if it was taken.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn empty_inodes(&self, master: usize) -> anyhow::Result<()> {
        let files = self.mounts[master].join(FILES);
        gone(std::fs::remove_dir_all(&files), &files)
    }

    /// Files for which there is room, and whether that counts as none, and is our doing.
    ///
    /// # Errors
    /// When the mount is gone.
    pub fn inodes(&self, master: usize) -> anyhow::Result<(u64, bool)> {
        let free = statvfs(&self.mounts[master])?.f_favail;
        Ok((free, free < DISK_INODES_FULL && self.mounts[master].join(FILES).exists()))
    }

    /// Bytes that are free.
    ///
    /// # Errors
    /// When the mount is gone.
    pub fn free(&self, master: usize) -> anyhow::Result<u64> {
        let found = statvfs(&self.mounts[master])?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Whether a disk counts as full, and whether that is our doing.
    ///
    /// # Errors
    /// When the mount is gone.
    pub fn is_full(&self, master: usize) -> anyhow::Result<bool> {
        let filled = self.mounts[master].join(FILLER).exists();
        Ok(filled && self.free(master)? < DISK_FULL_BYTES)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for mount in &self.mounts {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
    }
}

/// Done, or there was nothing to remove.
fn gone(removed: std::io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn grow(file: &File, mut bytes: u64) -> anyhow::Result<()> {
    while bytes >= BLOCK_BYTES {
        let length = file.metadata()?.len();
        match fallocate(file, FallocateFlags::empty(), length, bytes) {
            Ok(()) => return Ok(()),
            // Its owner was faster: what is free now is less.
            Err(rustix::io::Errno::NOSPC) => bytes /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Unmounts what runs whose process is gone have left.
fn sweep() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (source, at) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let owner = source.strip_prefix(PREFIX).and_then(|id| id.parse::<u32>().ok());
        if owner.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            let _ = unmount(at, UnmountFlags::DETACH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_filled_and_emptied() {
        if Disks::possible().is_err() {
            return;
        }
        let directory = std::env::temp_dir().join(format!("quorate-disk-{}", std::process::id()));
        let Ok(disks) = Disks::make(std::slice::from_ref(&directory)) else {
            return; // root of a container that may not mount
        };
        assert!(!disks.is_full(0).unwrap());
        disks.fill(0).unwrap();
        assert!(disks.is_full(0).unwrap());
        let error = std::fs::write(directory.join("more"), [0; 9000]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        disks.empty(0).unwrap();
        assert!(!disks.is_full(0).unwrap());
        drop(disks);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "it is unmounted");
        std::fs::remove_dir(&directory).unwrap();
    }
}
