//! Power loss: what a killed process had written and not synced is undone, in part, by chance.
//!
//! The library in the process (`shim/shim.rs`, which has the layout of the journals) remembers what each change
//! replaced until it is synced. Of the changes of each file any may be lost, and writes may be torn at sectors; names
//! change in order, as in a file system's journal, and are certain once their directory is synced. The model is that
//! of `raft/tests/common/disk.rs`, which rebuilds disks from recordings.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::AddAssign;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use crate::limits::NAMES_BYTES_MAX;

/// The directory of files' journals, beside a master's directory.
pub(super) const JOURNAL: &str = "journal";
/// The directory of files whose names went.
pub(super) const GRAVES: &str = "graves";
const NAMES: &str = "names";

const SECTOR: u64 = 512;
const HEAD: usize = 40;

/// What a power loss took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes of files that were not synced.
    pub unsynced: u64,
    /// Of these, gone.
    pub undone: u64,
    /// Of these, there in part.
    pub torn: u64,
    /// Changes of names that are gone.
    pub names: u64,
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.unsynced += other.unsynced;
        self.undone += other.undone;
        self.torn += other.torn;
        self.names += other.names;
    }
}

/// A change of a file that is not synced, and what was there before.
struct Change<'a> {
    /// Its kind: else it is a truncation.
    is_write: bool,
    at: u64,
    length_before: u64,
    /// Of the write; or of the file after the truncation.
    length: u64,
    before: &'a [u8],
}

/// What a change made of a file.
enum Made {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A change of names that is not certain.
struct Naming {
    kind: u8,
    grave: u64,
    inode: u64,
    path: PathBuf,
    to: PathBuf,
}

/// Undoes what `seed` chooses of what is not synced below `root`; after that nothing is unsynced there.
///
/// Nobody may use the directory meanwhile.
///
/// # Errors
/// When a file cannot be changed, or a journal is damaged.
pub(super) fn lose(root: &Path, beside: &Path, seed: u64) -> anyhow::Result<Lost> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut lost = Lost::default();
    let mut files = HashMap::new();
    for directory in [root, &beside.join(GRAVES)] {
        find_files(directory, &mut files)?;
    }
    let mut journals: Vec<PathBuf> = Vec::new();
    for found in fs::read_dir(beside.join(JOURNAL))? {
        journals.push(found?.path());
    }
    // The order of a directory is not always the same.
    journals.sort_unstable();
    for journal in journals {
        let name = journal.file_name().unwrap_or_default().to_string_lossy();
        let file = name.parse().ok().and_then(|inode: u64| files.get(&inode));
        if let Some(path) = file {
            let bytes = fs::read(&journal)?;
            let what = || format!("{} after {}", path.display(), journal.display());
            lost += lose_content(path, &bytes, &mut random).with_context(what)?;
        }
        fs::remove_file(&journal)?;
    }
    lost.names = lose_names(beside, &mut random).context("names")?;
    for found in fs::read_dir(beside.join(GRAVES))? {
        fs::remove_file(found?.path())?;
    }
    Ok(lost)
}

/// As if all had been synced.
pub(super) fn forget(beside: &Path) -> anyhow::Result<()> {
    for directory in [JOURNAL, GRAVES] {
        for found in fs::read_dir(beside.join(directory))? {
            fs::remove_file(found?.path())?;
        }
    }
    ignore_missing(fs::remove_file(beside.join(NAMES))).context("names")
}

fn find_files(directory: &Path, into: &mut HashMap<u64, PathBuf>) -> io::Result<()> {
    for found in fs::read_dir(directory)? {
        let found = found?;
        let kind = found.file_type()?;
        if kind.is_dir() {
            find_files(&found.path(), into)?;
        } else if kind.is_file() {
            into.entry(found.metadata()?.ino()).or_insert_with(|| found.path());
        }
    }
    Ok(())
}

fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let word = bytes.get(index * 8..index * 8 + 8)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// A last record that is not whole is none: what it announced was not carried out.
fn changes(mut bytes: &[u8]) -> anyhow::Result<Vec<Change<'_>>> {
    let mut changes = Vec::new();
    while bytes.len() >= HEAD {
        let field = |index| word(bytes, index).context("cut off");
        let (kind, at, length_before) = (field(0)?, field(1)?, field(2)?);
        let (length, count) = (field(3)?, usize::try_from(field(4)?)?);
        if !matches!(kind, 1 | 2) {
            bail!("the journal is damaged: a change of kind {kind}");
        }
        let Some(before) = bytes[HEAD..].get(..count) else { break };
        changes.push(Change { is_write: kind == 1, at, length_before, length, before });
        bytes = &bytes[HEAD + count..];
    }
    Ok(changes)
}

fn lose_content(path: &Path, journal: &[u8], random: &mut StdRng) -> anyhow::Result<Lost> {
    let file = File::options().read(true).write(true).open(path)?;
    let changes = changes(journal)?;
    let mut made = Vec::new();
    for change in changes.iter().rev() {
        let now = file.metadata()?.len();
        if change.is_write {
            // Less than all of it when the process was killed in the middle.
            let length = change.length.min(now.saturating_sub(change.at));
            let mut bytes = vec![0; usize::try_from(length)?];
            file.read_exact_at(&mut bytes, change.at)?;
            made.push(Made::Write(change.at, bytes));
            file.write_all_at(change.before, change.at)?;
            file.set_len(change.length_before)?;
        } else {
            made.push(Made::Length(now));
            file.set_len(change.length_before)?;
            file.write_all_at(change.before, change.length)?;
        }
    }
    let percent = [0, 10, 50, 90, 100][random.random_range(0..5)];
    let mut lost = Lost { unsynced: made.len() as u64, ..Lost::default() };
    for change in made.iter().rev() {
        if random.random_range(0..100) >= percent {
            lost.undone += 1;
            continue;
        }
        match change {
            Made::Write(at, bytes) if random.random_range(0..3) == 0 => {
                lost.torn += 1;
                write_torn(&file, *at, bytes, random)?;
            }
            Made::Write(at, bytes) => file.write_all_at(bytes, *at)?,
            Made::Length(length) => file.set_len(*length)?,
        }
    }
    Ok(lost)
}

/// Only some of the sectors that a write touches.
fn write_torn(file: &File, at: u64, bytes: &[u8], random: &mut StdRng) -> anyhow::Result<()> {
    let mut from = 0;
    while from < bytes.len() {
        let sector_end = ((at + from as u64) / SECTOR + 1) * SECTOR - at;
        let to = bytes.len().min(usize::try_from(sector_end)?);
        if random.random() {
            file.write_all_at(&bytes[from..to], at + from as u64)?;
        }
        from = to;
    }
    Ok(())
}

/// Changes of names whose directory was not synced after them, in order.
fn pending(mut bytes: &[u8]) -> anyhow::Result<Vec<Naming>> {
    let mut pending: Vec<Naming> = Vec::new();
    while bytes.len() >= HEAD {
        let field = |index| word(bytes, index).context("cut off");
        let (grave, inode) = (field(1)?, field(2)?);
        let (path, to) = (usize::try_from(field(3)?)?, usize::try_from(field(4)?)?);
        let Some(text) = bytes[HEAD..].get(..path + to) else { break };
        let (first, second) = text.split_at(path);
        let as_path = |bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        let (kind, first, second) = (bytes[0], as_path(first), as_path(second));
        match kind {
            b's' => pending.retain(|naming| {
                let path = if naming.kind == b'r' { &naming.to } else { &naming.path };
                path.parent() != Some(&first)
            }),
            b'c' | b'm' | b'r' | b'u' | b'd' => {
                pending.push(Naming { kind, grave, inode, path: first, to: second });
            }
            other => bail!("the journal is damaged: a change of kind {other}"),
        }
        bytes = &bytes[HEAD + path + to..];
    }
    Ok(pending)
}

fn lose_names(beside: &Path, random: &mut StdRng) -> anyhow::Result<u64> {
    let journal = beside.join(NAMES);
    let mut bytes = Vec::new();
    match File::open(&journal) {
        Ok(file) => file.take(NAMES_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let pending = pending(&bytes)?;
    let kept = random.random_range(0..=pending.len());
    for naming in pending[kept..].iter().rev() {
        undo(naming, &beside.join(GRAVES)).with_context(|| naming.path.display().to_string())?;
    }
    fs::remove_file(&journal)?;
    Ok((pending.len() - kept) as u64)
}

/// As if the name had not been changed. What has gone since, or belongs to another file by now, stays as it is.
fn undo(naming: &Naming, graves: &Path) -> io::Result<()> {
    let Naming { kind, grave, inode, path, to } = naming;
    let dig_up = |name: &Path| match grave {
        0 => Ok(()),
        _ => ignore_missing(fs::rename(graves.join(grave.to_string()), name)),
    };
    match kind {
        b'c' => match fs::symlink_metadata(path) {
            Ok(found) if found.ino() == *inode => fs::remove_file(path),
            _ => Ok(()),
        },
        b'm' => ignore_missing(fs::remove_dir_all(path)),
        b'd' => match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => ignore_missing(done),
        },
        b'r' => {
            ignore_missing(fs::rename(to, path))?;
            dig_up(to)
        }
        _ if path.exists() => Ok(()),
        _ => dig_up(path),
    }
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
