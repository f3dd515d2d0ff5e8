//! Whether the files of the log's store are still what it wrote: it reads what its cache no longer holds, and nothing
//! else, so that a bit that flips on the disk would be noticed at the next start only, when the log is unreadable.
//!
//! The form is that of sled 0.34 (`pagecache/logger.rs`): a file of segments; each begins with a header of 20 bytes
//! (checksum, log sequence number, highest stable number) and goes on with messages, each with a checksum over all of
//! it and the number of its segment. A segment that is full ends with a padding message, or with less room than a
//! header takes. The newest segment ends anywhere, and what follows are zeros or what an earlier use of the segment
//! left. So a message that cannot be read is damage when a good one of the same segment comes after it, or when the
//! segment is not the newest.
//!
//! The store writes meanwhile: what looks damaged must do so every time that it is looked at again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Advice;

use super::sled_engine::{SNAPSHOT_PREFIX, UNFINISHED_SUFFIX, is_whole};
use crate::limits::{ENGINE_SEGMENT_BYTES, EXAMINE_PAUSE, EXAMINE_TRIES};

/// Bytes of a segment's header.
const SEGMENT_HEADER: usize = 20;
/// A message's header has at most so many; where less is left of a segment none begins.
const MESSAGE_HEADER_MAX: usize = 32;
/// Kind of the padding message.
const CAP: u8 = 2;
/// The last of the kinds; 0 is none.
const KIND_MAX: u8 = 11;

/// Reads the files of a store again, past its caches.
pub struct Examiner {
    directory: std::path::PathBuf,
    /// The store's settings, as they were when it was opened.
    settings: Vec<u8>,
}

impl Examiner {
    pub(crate) fn new(directory: &Path, settings: Vec<u8>) -> Self {
        Self { directory: directory.to_owned(), settings }
    }

    /// Reads all files of the store again. Gives the first that is damaged, and what is wrong. Blocks.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn examine(&self) -> io::Result<Option<(String, String)>> {
        let found = |name: &str, problem: &str| Ok(Some((name.to_owned(), problem.to_owned())));
        if fs::read(self.directory.join("conf"))? != self.settings {
            return found("conf", "its settings are not those that it was opened with");
        }
        for item in fs::read_dir(&self.directory)? {
            let item = item?;
            let name = item.file_name().to_string_lossy().into_owned();
            if !name.starts_with(SNAPSHOT_PREFIX) || name.ends_with(UNFINISHED_SUFFIX) {
                continue;
            }
            match fs::read(item.path()) {
                Ok(bytes) if !is_whole(&bytes) => {
                    return found(&name, "its checksum is not that of its content");
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let problem = examine_log(&File::open(self.directory.join("db"))?)?;
        Ok(problem.map(|problem| ("db".to_owned(), problem)))
    }
}

fn examine_log(file: &File) -> io::Result<Option<String>> {
    // What is read is to come from the disk, not from memory. A file system that cannot do that does not matter.
    if let Err(error) = rustix::fs::fadvise(file, 0, None, Advice::DontNeed) {
        tracing::debug!(%error, "the log is looked at as it is in memory");
    }
    let mut newest = 0;
    let mut doubts = Vec::new();
    let segments = file.metadata()?.len().div_ceil(ENGINE_SEGMENT_BYTES as u64);
    for number in 0..segments {
        let look = look(&read(file, number)?);
        newest = newest.max(look.lsn().unwrap_or_default());
        // Any may turn out not to be the newest.
        if look.doubt(u64::MAX).is_some() {
            doubts.push((number, look));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for (number, mut seen) in doubts {
        let mut problem = seen.doubt(newest);
        for _ in 0..EXAMINE_TRIES {
            if problem.is_none() {
                break;
            }
            std::thread::sleep(EXAMINE_PAUSE);
            let again = look(&read(file, number)?);
            newest = newest.max(again.lsn().unwrap_or_default());
            // Another place: it is being written.
            problem = if again == seen { again.doubt(newest) } else { None };
            seen = again;
        }
        if let Some(problem) = problem {
            let offset = number * ENGINE_SEGMENT_BYTES as u64;
            return Ok(Some(format!("{problem} of the segment at {offset}")));
        }
    }
    Ok(None)
}

fn read(file: &File, number: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; ENGINE_SEGMENT_BYTES];
    let (mut at, from) = (0, number * ENGINE_SEGMENT_BYTES as u64);
    while at < bytes.len() {
        match file.read_at(&mut bytes[at..], from + at as u64)? {
            0 => break,
            count => at += count,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// What a segment looks like.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Nothing was written there since it was cleared.
    Unused,
    /// All of it can be read.
    Whole { lsn: u64 },
    /// It ends here: only the newest may.
    Ends { lsn: u64, at: usize },
    /// What is here cannot be read, and what follows can.
    Damaged { lsn: u64, at: usize },
    /// Its header cannot be read.
    Headless,
}

impl Look {
    fn lsn(&self) -> Option<u64> {
        match self {
            Self::Whole { lsn } | Self::Ends { lsn, .. } | Self::Damaged { lsn, .. } => Some(*lsn),
            Self::Unused | Self::Headless => None,
        }
    }

    /// What may be wrong, when the newest segment begins at `newest`.
    fn doubt(&self, newest: u64) -> Option<String> {
        match self {
            Self::Unused | Self::Whole { .. } => None,
            Self::Ends { lsn, at } => (*lsn < newest).then(|| format!("what follows byte {at}")),
            Self::Damaged { at, .. } => Some(format!("the message at byte {at}")),
            Self::Headless => Some("the header".to_owned()),
        }
    }
}

fn look(segment: &[u8]) -> Look {
    let Some((header, _)) = segment.split_first_chunk::<SEGMENT_HEADER>() else {
        return Look::Unused;
    };
    if header.iter().all(|byte| *byte == 0) {
        return Look::Unused;
    }
    let (checksum, numbers) = header.split_at(4);
    if (crc32fast::hash(numbers) ^ u32::MAX).to_le_bytes() != checksum {
        return Look::Headless;
    }
    let lsn = number(&numbers[..8]) ^ (u64::MAX >> 1);
    let own = lsn / ENGINE_SEGMENT_BYTES as u64;
    let mut at = SEGMENT_HEADER;
    while at + MESSAGE_HEADER_MAX <= ENGINE_SEGMENT_BYTES {
        match message(&segment[at.min(segment.len())..], own) {
            Some((CAP, _)) => return Look::Whole { lsn },
            Some((_, length)) => at += length,
            None => {
                let later =
                    (at + 1..segment.len()).any(|at| message(&segment[at..], own).is_some());
                return if later { Look::Damaged { lsn, at } } else { Look::Ends { lsn, at } };
            }
        }
    }
    Look::Whole { lsn }
}

/// Kind and length of the message at the beginning, when it is a good one of this segment.
fn message(bytes: &[u8], segment: u64) -> Option<(u8, usize)> {
    let (checksum, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first()?;
    if *kind == 0 || *kind > KIND_MAX {
        return None;
    }
    let (length, rest) = packed(rest)?;
    let (of, rest) = packed(rest)?;
    if of != segment {
        return None;
    }
    let (_page, rest) = packed(rest)?;
    let header = bytes.len() - rest.len();
    let body = rest.get(..usize::try_from(length).ok()?)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&bytes[4..header]);
    let sum = hasher.finalize() ^ u32::MAX;
    (sum == u32::from_le_bytes(*checksum)).then_some((*kind, header + body.len()))
}

/// A number in one to nine bytes: small ones as they are, larger ones in two or three, or with their length.
fn packed(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = u64::from(*first);
    match first {
        0..=240 => Some((first, rest)),
        241..=248 => {
            let (second, rest) = rest.split_first()?;
            Some((240 + 256 * (first - 241) + u64::from(*second), rest))
        }
        249 => {
            let ([second, third], rest) = rest.split_first_chunk::<2>()?;
            Some((2288 + 256 * u64::from(*second) + u64::from(*third), rest))
        }
        _ => {
            let length = usize::try_from(first - 247).ok()?;
            let (of, rest) = rest.split_at_checked(length)?;
            Some((number(of), rest))
        }
    }
}

/// At most eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
