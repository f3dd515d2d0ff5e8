//! The directory of snapshots: the newest two, made so that each is complete or not there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_points::{self as points, Point};

use super::file::{self, SnapshotFile};
use crate::codec::SnapshotHeader;
use crate::error::{Corruption, StartError};
use crate::limits::SNAPSHOTS_KEPT;
use crate::log::directory;
use crate::machine::SnapshotWriter;

/// The snapshots of one master.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    directory: PathBuf,
    cluster_id: String,
    /// Oldest first.
    files: Mutex<Vec<SnapshotFile>>,
}

impl SnapshotStore {
    /// Opens the directory and checks what is in it. Blocks: reads every file.
    ///
    /// `purged` is the last index the log no longer has. A damaged newest file is passed over
    /// (and set aside as `.damaged`) when the log still reaches the one before.
    pub(crate) fn open(
        path: &Path,
        cluster_id: &str,
        purged: Option<u64>,
    ) -> Result<Self, StartError> {
        let io = |source| StartError::Io { path: path.to_owned(), action: "read", source };
        directory::create(path)?;
        let mut paths = Vec::new();
        for item in fs::read_dir(path).map_err(io)? {
            let path = item.map_err(io)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("snap") => paths.push(path),
                // Of a process that was stopped in the middle; nothing refers to it.
                Some("tmp") => fs::remove_file(&path).map_err(io)?,
                _ => {}
            }
        }
        paths.sort();
        let (mut files, mut damaged): (Vec<SnapshotFile>, Vec<Corruption>) = Default::default();
        for path in paths {
            match file::verify(&path, cluster_id) {
                Ok(file) => files.push(file),
                Err(error) => damaged.push(error),
            }
        }
        let reached = files.last().and_then(SnapshotFile::last_index);
        if purged.is_some() && reached < purged {
            return Err(damaged.pop().map_or_else(
                || {
                    StartError::Corrupt(Corruption {
                        path: path.to_owned(),
                        record: format!("the snapshot at or after index {}", purged.unwrap_or(0)),
                        problem: "it is missing, and the log before it is purged".to_owned(),
                    })
                },
                StartError::Corrupt,
            ));
        }
        for error in damaged {
            tracing::warn!(%error, "passing over a damaged snapshot; the one before is used");
            fs::rename(&error.path, error.path.with_extension("damaged")).map_err(io)?;
        }
        let cluster_id = cluster_id.to_owned();
        Ok(Self { directory: path.to_owned(), cluster_id, files: Mutex::new(files) })
    }

    fn files(&self) -> MutexGuard<'_, Vec<SnapshotFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest.
    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        self.files().last().cloned()
    }

    /// The log may be purged up to here: the oldest one that is kept, when there are enough.
    pub(crate) fn purgeable(&self) -> Option<u64> {
        let files = self.files();
        (files.len() >= SNAPSHOTS_KEPT).then(|| files.first().and_then(SnapshotFile::last_index))?
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Where a snapshot that comes in from a leader is collected.
    pub(crate) fn incoming(&self, index: u64, term: u64, checksum: u32) -> PathBuf {
        self.directory.join(format!("{index:020}-{term:020}-{checksum:08x}.partial"))
    }

    /// Where a state is collected that this master asked another one for. Left over, it is removed at the next start.
    pub(crate) fn healing(&self) -> PathBuf {
        self.directory.join("healing.tmp")
    }

    /// Reads all files again; those that are damaged are renamed to `.damaged` and count no more. Blocks.
    pub(crate) fn set_damaged_aside(&self) -> io::Result<Vec<Corruption>> {
        let files = self.files().clone();
        let mut damaged = Vec::new();
        for file in files {
            let Err(error) = file::verify(&file.path, &self.cluster_id) else { continue };
            // What cannot be read now may be good: no file descriptors, a disk that is away for a moment.
            match File::open(&file.path).and_then(|mut whole| io::copy(&mut whole, &mut io::sink()))
            {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            let mut known = self.files();
            // One that was replaced meanwhile is gone, not damaged.
            if !known.iter().any(|other| other.path == file.path) || !file.path.exists() {
                continue;
            }
            fs::rename(&file.path, file.path.with_extension("damaged"))?;
            known.retain(|other| other.path != file.path);
            damaged.push(error);
        }
        Ok(damaged)
    }

    /// Removes what is left of incoming snapshots other than `keep`.
    pub(crate) fn forget_incoming(&self, keep: Option<&Path>) -> io::Result<()> {
        for item in fs::read_dir(&self.directory)? {
            let path = item?.path();
            let partial = path.extension().is_some_and(|extension| extension == "partial");
            if partial && Some(path.as_path()) != keep {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Encodes a state into a new file. Blocks for as long as that takes.
    pub(crate) fn create(
        &self,
        header: &SnapshotHeader,
        state: SnapshotWriter,
    ) -> io::Result<SnapshotFile> {
        let path = self.directory.join(file::name(header.last_log_id.map(Into::into)));
        let temporary = path.with_extension("tmp");
        points::pass(Point::SnapshotBeforeWrite);
        if let Err(error) = file::write(&temporary, header, state) {
            drop(fs::remove_file(&temporary));
            return Err(error);
        }
        self.install(&temporary)
    }

    /// Checks a complete file and makes it the newest. Blocks.
    pub(crate) fn install(&self, from: &Path) -> io::Result<SnapshotFile> {
        let checked = file::verify(from, &self.cluster_id)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let path = self.directory.join(file::name(checked.last_log_id()));
        if path != from {
            File::open(from)?.sync_all()?;
            points::pass(Point::SnapshotBeforeRename);
            fs::rename(from, &path)?;
            points::pass(Point::SnapshotAfterRename);
            directory::sync(&self.directory)?;
        }
        let installed = checked.renamed(path.clone());
        let gone: Vec<SnapshotFile> = {
            let mut files = self.files();
            files.retain(|file| file.path != path);
            files.push(installed.clone());
            files.sort_by_key(SnapshotFile::last_log_id);
            let excess = files.len().saturating_sub(SNAPSHOTS_KEPT);
            files.drain(..excess).collect()
        };
        for file in gone {
            points::pass(Point::SnapshotBeforeRemoval);
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(installed)
    }
}
