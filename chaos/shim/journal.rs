//! Which descriptors and files are looked at, and what of them is not synced.

use core::ffi::{c_char, c_int};
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use crate::clock::{REALTIME, Time, true_clock};
use crate::control::{Lock, PATH_MAX, Text, asked, beside, bytes_of, count, root, slot};
use crate::kernel::{AT_FDCWD, O_APPEND, O_CLOEXEC, O_CREAT, O_RDWR, O_WRONLY, number};

/// Descriptors that are looked at. Files with greater ones are as if they were on disk at once.
pub(crate) const FDS_MAX: usize = 1 << 16;
/// Files that are journaled. Further ones are as if they were on disk at once.
pub(crate) const FILES_MAX: usize = 1 << 13;
/// Bytes of one journal. There the kernel has written back by itself.
pub(crate) const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are copied at once.
pub(crate) const CHUNK: usize = 16 << 10;

/// Of each descriptor: 0, or one of these and the number of the file.
pub(crate) static FDS: [AtomicU32; FDS_MAX] = [const { AtomicU32::new(0) }; FDS_MAX];
pub(crate) const OURS: u32 = 1 << 31;
pub(crate) const DIRECTORY: u32 = 1 << 30;
pub(crate) const APPENDS: u32 = 1 << 29;
pub(crate) const FILE: u32 = APPENDS - 1;

pub(crate) struct File {
    inode: AtomicU64,
    pub(crate) lock: Lock,
    /// Journal, and the file itself for reading; 0 until they are needed.
    journal: AtomicI32,
    pub(crate) reader: AtomicI32,
    length: AtomicU64,
}

pub(crate) static FILES: [File; FILES_MAX] = [const {
    File {
        inode: AtomicU64::new(0),
        lock: Lock::new(),
        journal: AtomicI32::new(0),
        reader: AtomicI32::new(0),
        length: AtomicU64::new(0),
    }
}; FILES_MAX];
pub(crate) static FILES_LOCK: Lock = Lock::new();
pub(crate) static NAMES_LOCK: Lock = Lock::new();

pub(crate) struct Stat([u64; 32]);

impl Stat {
    pub(crate) fn of(fd: c_int) -> Option<Self> {
        let mut stat = Self([0; 32]);
        (kernel!(FSTAT, fd, stat.0.as_mut_ptr()) == 0).then_some(stat)
    }

    pub(crate) fn at(at: c_int, path: *const c_char) -> Option<Self> {
        let mut stat = Self([0; 32]);
        (kernel!(NEWFSTATAT, at, path, stat.0.as_mut_ptr(), 0) == 0).then_some(stat)
    }

    pub(crate) fn inode(&self) -> u64 {
        self.0[1]
    }

    pub(crate) fn size(&self) -> u64 {
        self.0[number::STAT_SIZE / 2]
    }

    pub(crate) fn kind(&self) -> u64 {
        let words = number::STAT_MODE;
        let (at, shift) = (words / 2, words % 2 * 32);
        (self.0[at] >> shift) & 0o170_000
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == 0o040_000
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind() == 0o100_000
    }
}

/// The number of a file, by its inode; 0 when there are too many.
pub(crate) fn number_of(inode: u64) -> u32 {
    let _held = FILES_LOCK.hold();
    let first = (inode.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize;
    for step in 0..FILES_MAX - 1 {
        let at = 1 + (first + step) % (FILES_MAX - 1);
        let found = FILES[at].inode.load(Relaxed);
        if found == inode {
            return at as u32;
        }
        if found == 0 {
            FILES[at].inode.store(inode, Relaxed);
            return at as u32;
        }
    }
    count(slot::UNTRACKED);
    0
}

pub(crate) fn entry(fd: c_int) -> u32 {
    match FDS.get(fd as usize) {
        Some(entry) if fd >= 0 => entry.load(Relaxed),
        _ => 0,
    }
}

pub(crate) fn set_entry(fd: c_int, value: u32) {
    if let Some(entry) = FDS.get(fd as usize)
        && fd >= 0
    {
        entry.store(value, Relaxed);
    }
}

/// The whole path, when it is below the directory that goes wrong.
pub(crate) fn resolve(at: c_int, path: *const c_char) -> Option<Text> {
    let given = bytes_of(path);
    let mut text = Text::new();
    if given.first() != Some(&b'/') {
        if at == AT_FDCWD {
            let length = kernel!(GETCWD, text.bytes.as_mut_ptr(), PATH_MAX / 2);
            // With the end.
            text.length = usize::try_from(length).unwrap_or(1).saturating_sub(1);
        } else {
            text = path_of(at)?;
        }
        text.push(b"/");
    }
    text.push(given);
    is_below(text.get()).then_some(text)
}

pub(crate) fn is_below(path: &[u8]) -> bool {
    let root = root();
    !root.is_empty() && path.starts_with(root) && matches!(path.get(root.len()), None | Some(b'/'))
}

pub(crate) fn path_of(fd: c_int) -> Option<Text> {
    let (mut link, mut text) = (Text::new(), Text::new());
    link.push(b"/proc/self/fd/");
    link.push_number(fd as u64);
    let length =
        kernel!(READLINKAT, AT_FDCWD, link.pointer(), text.bytes.as_mut_ptr(), PATH_MAX - 1);
    text.length = usize::try_from(length).ok()?;
    text.bytes[text.length] = 0;
    Some(text)
}

pub(crate) fn write_all(fd: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let written = kernel!(WRITE, fd, bytes.as_ptr(), bytes.len());
        if written <= 0 {
            return false;
        }
        bytes = &bytes[written as usize..];
    }
    true
}

/// Whether the program sees this path as on a disk that goes wrong.
pub(crate) fn is_ours() -> bool {
    !root().is_empty()
}

pub(crate) fn journals() -> bool {
    asked(slot::JOURNALS) != 0
}

// === journals ===

impl File {
    /// Descriptors for the journal and for reading; `None` when there is no room for them.
    pub(crate) fn open(&self, fd: c_int) -> Option<(c_int, c_int)> {
        if self.journal.load(Relaxed) == 0 {
            let mut path = beside(b"/journal/");
            path.push_number(self.inode.load(Relaxed));
            let flags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC;
            let journal = kernel!(OPENAT, AT_FDCWD, path.pointer(), flags, 0o600) as c_int;
            let size = Stat::of(journal)?.size();
            self.length.store(size, Relaxed);
            self.journal.store(journal, Relaxed);
        }
        if self.reader.load(Relaxed) == 0 {
            // The program's own descriptor may be for writing only.
            let mut path = Text::new();
            path.push(b"/proc/self/fd/");
            path.push_number(fd as u64);
            let reader = kernel!(OPENAT, AT_FDCWD, path.pointer(), O_CLOEXEC, 0) as c_int;
            if reader < 0 {
                return None;
            }
            self.reader.store(reader, Relaxed);
        }
        Some((self.journal.load(Relaxed), self.reader.load(Relaxed)))
    }

    /// Remembers what a write or a truncation is about to replace. Under the lock.
    pub(crate) fn remember(&self, fd: c_int, kind: u64, at: u64, now: u64) {
        let Some((journal, reader)) = self.open(fd) else { return };
        let Some(stat) = Stat::of(reader) else { return };
        let before = stat.size();
        let (from, to) = match kind {
            1 => (at, (at + now).min(before)),
            _ => (now, before),
        };
        let mut left = to.saturating_sub(from);
        if self.length.load(Relaxed) + left > JOURNAL_BYTES_MAX {
            self.forget();
        }
        let head = [kind, at, before, now, left];
        let mut bytes = [0_u8; 40];
        for (place, word) in head.iter().enumerate() {
            bytes[place * 8..place * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        if !write_all(journal, &bytes) {
            return;
        }
        self.length.fetch_add(40 + left, Relaxed);
        let (mut chunk, mut place) = ([0_u8; CHUNK], from);
        while left > 0 {
            let part = (left as usize).min(CHUNK);
            let count = kernel!(PREAD, reader, chunk.as_mut_ptr(), part, place);
            // Nobody else shortens it: it is locked. Should it be, the record must be whole all the same.
            let count = if count <= 0 { part } else { count as usize };
            if !write_all(journal, &chunk[..count]) {
                return;
            }
            left -= count as u64;
            place += count as u64;
        }
        count(slot::JOURNALED);
    }

    /// All of it is on disk. Under the lock.
    pub(crate) fn forget(&self) {
        let journal = self.journal.load(Relaxed);
        if journal > 0 {
            kernel!(FTRUNCATE, journal, 0);
        } else {
            // Of an earlier life of the process.
            let mut path = beside(b"/journal/");
            path.push_number(self.inode.load(Relaxed));
            kernel!(UNLINKAT, AT_FDCWD, path.pointer(), 0);
        }
        self.length.store(0, Relaxed);
    }
}

pub(crate) fn file_of(entry: u32) -> Option<&'static File> {
    let number = entry & FILE;
    (number > 0 && entry & DIRECTORY == 0).then(|| &FILES[number as usize])
}

/// Remembers a change of names. Under the lock of names.
pub(crate) fn name(kind: u8, grave: u64, inode: u64, path: &[u8], second: &[u8]) {
    if kind != b's' && path.len() == root().len() {
        // Its name is in a directory whose syncs are not seen.
        return;
    }
    static JOURNAL: AtomicI32 = AtomicI32::new(0);
    let mut journal = JOURNAL.load(Relaxed);
    if journal == 0 {
        let flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
        journal = kernel!(OPENAT, AT_FDCWD, beside(b"/names").pointer(), flags, 0o600) as c_int;
        if journal < 0 {
            return;
        }
        JOURNAL.store(journal, Relaxed);
    }
    let head = [u64::from(kind), grave, inode, path.len() as u64, second.len() as u64];
    let mut bytes = [0_u8; 40 + 2 * PATH_MAX];
    for (place, word) in head.iter().enumerate() {
        bytes[place * 8..place * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes[40..40 + path.len()].copy_from_slice(path);
    bytes[40 + path.len()..40 + path.len() + second.len()].copy_from_slice(second);
    write_all(journal, &bytes[..40 + path.len() + second.len()]);
}

/// Keeps a file whose name is about to go; its number, 0 when it cannot be kept (or is not there).
pub(crate) fn bury(at: c_int, path: *const c_char) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if NEXT.load(Relaxed) == 0 {
        // Not a number of an earlier life of the process.
        let mut now = Time { seconds: 0, nanoseconds: 0 };
        true_clock(REALTIME, &mut now);
        NEXT.store(now.total() as u64, Relaxed);
    }
    let grave = NEXT.fetch_add(1, Relaxed);
    let mut to = beside(b"/graves/");
    to.push_number(grave);
    if kernel!(LINKAT, at, path, AT_FDCWD, to.pointer(), 0) == 0 { grave } else { 0 }
}
