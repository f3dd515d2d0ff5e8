//! The directory of snapshots: the newest two, made so that each is complete or not there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// How often another state has taken the place of this master's.
    generation: AtomicU64,
    /// Held while a file takes its place.
    placing: Mutex<()>,
}

/// Why a snapshot was not made.
#[derive(Debug)]
pub(crate) enum NotMade {
    /// The state that it shows was replaced meanwhile by that of another master, or is damaged.
    Outdated(io::Error),
    Io(io::Error),
}

impl NotMade {
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Outdated(error) | Self::Io(error) => error,
        }
    }
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
        let (files, placing) = (Mutex::new(files), Mutex::new(()));
        let generation = AtomicU64::new(0);
        Ok(Self { directory: path.to_owned(), cluster_id, files, generation, placing })
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
            let _placing = self.placing();
            // One that was replaced meanwhile is gone, or good.
            if !file.path.exists() || file::verify(&file.path, &self.cluster_id).is_ok() {
                continue;
            }
            let mut known = self.files();
            if !known.iter().any(|other| other.path == file.path) {
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

    fn placing(&self) -> MutexGuard<'_, ()> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which state this master has: another one whenever that of another master takes its place.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Encodes a state, of that generation, into a new file. Blocks for as long as that takes.
    pub(crate) fn create(
        &self,
        header: &SnapshotHeader,
        state: SnapshotWriter,
        generation: u64,
    ) -> Result<SnapshotFile, NotMade> {
        let path = self.directory.join(file::name(header.last_log_id.map(Into::into)));
        let temporary = path.with_extension("tmp");
        points::pass(Point::SnapshotBeforeWrite);
        let made = file::write(&temporary, header, state).map_err(|error| {
            let damaged = error.kind() == io::ErrorKind::InvalidData;
            if damaged { NotMade::Outdated(error) } else { NotMade::Io(error) }
        });
        let _placing = self.placing();
        let made = made.and_then(|()| {
            let other = || NotMade::Outdated(io::Error::other("another state has taken its place"));
            if self.generation() == generation { Ok(()) } else { Err(other()) }
        });
        if let Err(error) = made {
            drop(fs::remove_file(&temporary));
            return Err(error);
        }
        self.place(&temporary, SNAPSHOTS_KEPT).map_err(NotMade::Io)
    }

    /// Checks a complete file and makes it the newest. Blocks.
    pub(crate) fn install(&self, from: &Path) -> io::Result<SnapshotFile> {
        let _placing = self.placing();
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.place(from, SNAPSHOTS_KEPT)
    }

    /// The same of one that takes the place of a damaged state: those before it may show that, and are removed; none
    /// that is being made counts any more. Blocks.
    pub(crate) fn replace(&self, from: &Path) -> io::Result<SnapshotFile> {
        let _placing = self.placing();
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.place(from, 1)
    }

    /// The newest `kept` stay.
    fn place(&self, from: &Path, kept: usize) -> io::Result<SnapshotFile> {
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
            let excess = files.len().saturating_sub(kept);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::codec::{DiskLogId, DiskMembership};

    fn header(index: u64) -> SnapshotHeader {
        SnapshotHeader {
            cluster_id: "c".into(),
            last_log_id: Some(DiskLogId { term: 2, node: 1, index }),
            membership_log_id: None,
            membership: DiskMembership { configs: Vec::new(), members: BTreeMap::new() },
            state_bytes: 4,
        }
    }

    fn state(text: &'static str) -> SnapshotWriter {
        Box::new(move |out| out.write_all(text.as_bytes()))
    }

    fn indexes(store: &SnapshotStore) -> Vec<Option<u64>> {
        store.files().iter().map(SnapshotFile::last_index).collect()
    }

    #[test]
    fn what_was_made_of_a_damaged_state_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path(), "c", None).unwrap();
        let before = store.generation();
        store.create(&header(30), state("bad1"), before).unwrap();
        store.create(&header(40), state("bad2"), before).unwrap();
        // One of the damaged state is on its way when the healed one comes, of the same index.
        file::write(&store.healing(), &header(40), state("good")).unwrap();
        store.replace(&store.healing()).unwrap();
        assert_eq!(indexes(&store), [Some(40)]);
        let late = store.create(&header(40), state("bad3"), before);
        assert!(matches!(late, Err(NotMade::Outdated(_))), "{late:?}");
        let text = std::io::read_to_string(store.current().unwrap().read_state().unwrap());
        assert_eq!(text.unwrap(), "good");
        assert!(store.set_damaged_aside().unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of the others");
        store.create(&header(50), state("new1"), store.generation()).unwrap();
        assert_eq!(indexes(&store), [Some(40), Some(50)]);
    }

    #[test]
    fn a_state_that_is_damaged_says_so_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path(), "c", None).unwrap();
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a bit has flipped");
        let made = store.create(&header(30), Box::new(move |_| Err(bad())), store.generation());
        assert!(matches!(made, Err(NotMade::Outdated(_))), "{made:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
