//! A small file beside the engine that remembers how far the log was known to be on disk.
//!
//! An ordered store that meets a damaged tail may take it for a torn write and cut it off. That
//! would silently lose acknowledged entries or bring back an old vote. So after each sync the
//! number of the group commit and the vote are written here, in place and without a sync of its
//! own: after a power loss the witness may be older than the log, never newer, because what it
//! names was synced before. A log behind its witness is damaged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::codec::DiskVote;

pub(crate) const FILE_NAME: &str = "synced";
const MAGIC: &[u8; 8] = b"QRSYNC01";
/// One sector at most, so that it is written whole or not at all.
const LENGTH: usize = 37;

/// What was on disk for sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Synced {
    pub(crate) sequence: u64,
    pub(crate) vote: Option<DiskVote>,
}

#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
}

/// What `open` found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitnessError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

impl Witness {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join(FILE_NAME)
    }

    /// Opens the file, or makes it when `fresh` says that there is no log yet.
    pub(crate) fn open(directory: &Path, fresh: bool) -> Result<(Self, Synced), WitnessError> {
        let path = Self::path(directory);
        let file =
            OpenOptions::new().read(true).write(true).create(fresh).truncate(false).open(&path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(WitnessError::Damaged("the file is missing".to_owned()));
            }
            file => file?,
        };
        let witness = Self { file };
        if fresh {
            witness.write(Synced::default())?;
            witness.file.set_len(LENGTH as u64)?;
            witness.file.sync_all()?;
            return Ok((witness, Synced::default()));
        }
        let mut bytes = [0; LENGTH];
        witness.file.read_exact_at(&mut bytes, 0).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                WitnessError::Damaged("the file is cut off".to_owned())
            } else {
                error.into()
            }
        })?;
        let synced = decode(&bytes)
            .ok_or_else(|| WitnessError::Damaged("the checksum does not match".to_owned()))?;
        Ok((witness, synced))
    }

    /// For the first record, which nothing may precede.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Remembers; only after the sync of what is remembered.
    pub(crate) fn write(&self, synced: Synced) -> io::Result<()> {
        self.file.write_all_at(&encode(synced), 0)
    }
}

fn encode(synced: Synced) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&synced.sequence.to_le_bytes());
    if let Some(vote) = synced.vote {
        bytes[16] = if vote.committed { 2 } else { 1 };
        bytes[17..25].copy_from_slice(&vote.term.to_le_bytes());
        bytes[25..33].copy_from_slice(&vote.node.to_le_bytes());
    }
    let checksum = crc32fast::hash(&bytes[..33]);
    bytes[33..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Option<Synced> {
    let number = |from: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(number)
    };
    if !bytes.starts_with(MAGIC) || crc32fast::hash(&bytes[..33]).to_le_bytes() != bytes[33..] {
        return None;
    }
    let vote = match bytes[16] {
        0 => None,
        flag @ (1 | 2) => {
            Some(DiskVote { term: number(17), node: number(25), committed: flag == 2 })
        }
        _ => return None,
    };
    Some(Synced { sequence: number(8), vote })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_notices_every_flipped_bit() {
        let vote = Some(DiskVote { term: 7, node: 3, committed: true });
        let synced = Synced { sequence: 12, vote };
        let bytes = encode(synced);
        assert_eq!(decode(&bytes), Some(synced));
        for bit in 0..LENGTH * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_missing_or_short_file_is_damage_unless_the_log_is_new() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Witness::open(dir.path(), false), Err(WitnessError::Damaged(_))));
        let (witness, synced) = Witness::open(dir.path(), true).unwrap();
        assert_eq!(synced, Synced::default());
        witness.write(Synced { sequence: 3, vote: None }).unwrap();
        drop(witness);
        let (_, synced) = Witness::open(dir.path(), false).unwrap();
        assert_eq!(synced.sequence, 3);
        File::options().write(true).open(Witness::path(dir.path())).unwrap().set_len(20).unwrap();
        assert!(matches!(Witness::open(dir.path(), false), Err(WitnessError::Damaged(_))));
    }
}
