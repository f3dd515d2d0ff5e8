//! What a disk may look like after the power failed: a model of files whose content and names are
//! certain only after a sync.
#![allow(unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::writer::Random;

const SECTOR: usize = 512;

/// One recorded call. Paths are relative to the recorded directory; the directory itself is "".
#[derive(Debug, Clone)]
pub enum Record {
    Open { path: String, create: bool, truncate: bool },
    Write { path: String, at: usize, data: Vec<u8> },
    Truncate { path: String, length: usize },
    Sync { path: String },
    Rename { from: String, to: String },
    Unlink { path: String },
    MakeDirectory { path: String },
}

/// Reads a recording (`shim/record.rs` has its layout).
pub fn parse(mut bytes: &[u8], root: &Path) -> Vec<Record> {
    let root = root.to_str().unwrap();
    let relative = |path: &[u8]| {
        let path = std::str::from_utf8(path).unwrap();
        path.strip_prefix(root).unwrap().trim_matches('/').to_owned()
    };
    let mut records = Vec::new();
    while let [kind, rest @ ..] = bytes {
        let number = |from: usize, length: usize| {
            let mut all = [0; 8];
            all[..length].copy_from_slice(&rest[from..from + length]);
            u64::from_le_bytes(all) as usize
        };
        let (flags, offset) = (number(0, 8), number(8, 8));
        let (path_length, data_length) = (number(16, 4), number(20, 8));
        let (path, tail) = rest[28..].split_at(path_length);
        let (data, tail) = tail.split_at(data_length);
        bytes = tail;
        let path = relative(path);
        records.push(match kind {
            b'o' => Record::Open { path, create: flags & 1 != 0, truncate: flags & 2 != 0 },
            b'w' => Record::Write { path, at: offset, data: data.to_vec() },
            b't' => Record::Truncate { path, length: offset },
            b's' => Record::Sync { path },
            b'r' => Record::Rename { from: path, to: relative(data) },
            b'u' => Record::Unlink { path },
            b'm' => Record::MakeDirectory { path },
            other => panic!("{path} was changed in a way that is not modelled: {other}"),
        });
    }
    records
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Truncate { length: usize },
}

#[derive(Debug, Clone)]
enum Naming {
    Link { path: String, file: usize },
    Directory { path: String },
    Rename { from: String, to: String },
    Unlink { path: String },
}

impl Naming {
    fn in_directory(&self, directory: &str) -> bool {
        let path = match self {
            Self::Link { path, .. } | Self::Directory { path } | Self::Unlink { path } => path,
            Self::Rename { to, .. } => to,
        };
        parent(path) == directory
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[derive(Debug, Default, Clone)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    if content.len() < at + data.len() {
        content.resize(at + data.len(), 0);
    }
    content[at..at + data.len()].copy_from_slice(data);
}

fn change(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, data } => put(content, *at, data),
        Change::Truncate { length } => content.resize(*length, 0),
    }
}

/// Names: of files (with their number) and of directories.
#[derive(Debug, Default, Clone)]
struct Names {
    files: BTreeMap<String, usize>,
    directories: Vec<String>,
}

impl Names {
    fn apply(&mut self, naming: &Naming) {
        match naming {
            Naming::Link { path, file } => drop(self.files.insert(path.clone(), *file)),
            Naming::Directory { path } => self.directories.push(path.clone()),
            Naming::Rename { from, to } => {
                if let Some(file) = self.files.remove(from) {
                    self.files.insert(to.clone(), file);
                }
            }
            Naming::Unlink { path } => drop(self.files.remove(path)),
        }
    }

    fn reachable(&self, path: &str) -> bool {
        let parent = parent(path);
        parent.is_empty()
            || (self.directories.iter().any(|known| known == parent) && self.reachable(parent))
    }
}

/// The files as the process sees them, and what of it is certain.
#[derive(Debug, Default)]
pub struct Disk {
    contents: Vec<Content>,
    live: Names,
    durable: Names,
    pending: Vec<Naming>,
}

impl Disk {
    fn name(&mut self, naming: Naming) {
        self.live.apply(&naming);
        self.pending.push(naming);
    }

    fn file(&mut self, path: &str) -> &mut Content {
        let file = *self.live.files.get(path).unwrap_or_else(|| panic!("{path} was not opened"));
        &mut self.contents[file]
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Open { path, create, truncate } => {
                if *create && !self.live.files.contains_key(path) {
                    self.contents.push(Content::default());
                    let file = self.contents.len() - 1;
                    self.name(Naming::Link { path: path.clone(), file });
                }
                if *truncate {
                    self.file(path).pending.push(Change::Truncate { length: 0 });
                }
            }
            Record::Write { path, at, data } => {
                let change = Change::Write { at: *at, data: data.clone() };
                self.file(path).pending.push(change);
            }
            Record::Truncate { path, length } => {
                self.file(path).pending.push(Change::Truncate { length: *length });
            }
            Record::Sync { path } if self.live.files.contains_key(path) => {
                let file = self.file(path);
                for pending in std::mem::take(&mut file.pending) {
                    change(&mut file.durable, &pending);
                }
            }
            Record::Sync { path } => {
                let (done, left) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|naming: &Naming| naming.in_directory(path));
                self.pending = left;
                let done: Vec<Naming> = done;
                for naming in &done {
                    self.durable.apply(naming);
                }
            }
            Record::Rename { from, to } => {
                self.name(Naming::Rename { from: from.clone(), to: to.clone() });
            }
            Record::Unlink { path } => self.name(Naming::Unlink { path: path.clone() }),
            Record::MakeDirectory { path } => {
                self.name(Naming::Directory { path: path.clone() });
            }
        }
    }

    /// A file as the process sees it.
    pub fn current(&self, path: &str) -> Vec<u8> {
        let Some(file) = self.live.files.get(path) else { return Vec::new() };
        let file = &self.contents[*file];
        let mut content = file.durable.clone();
        for pending in &file.pending {
            change(&mut content, pending);
        }
        content
    }

    /// Writes what may be left; gives how many percent of the unsynced writes survived.
    pub fn write_image(&self, into: &Path, random: &mut Random) -> u64 {
        let survives = [0, 10, 50, 90, 100][random.below(5) as usize];
        // Names change in order, like in a journal.
        let mut names = self.durable.clone();
        for naming in &self.pending[..random.below(self.pending.len() as u64 + 1) as usize] {
            names.apply(naming);
        }
        std::fs::create_dir_all(into).unwrap();
        for path in &names.directories {
            if names.reachable(path) {
                std::fs::create_dir_all(into.join(path)).unwrap();
            }
        }
        for (path, file) in &names.files {
            if names.reachable(path) {
                let content = survived(&self.contents[*file], survives, random);
                std::fs::write(into.join(path), content).unwrap();
            }
        }
        survives
    }
}

fn survived(file: &Content, percent: u64, random: &mut Random) -> Vec<u8> {
    let mut content = file.durable.clone();
    for pending in &file.pending {
        if random.below(100) >= percent {
            continue;
        }
        match pending {
            Change::Write { at, data } if random.below(3) == 0 => {
                torn(&mut content, *at, data, random);
            }
            whole @ (Change::Write { .. } | Change::Truncate { .. }) => {
                change(&mut content, whole);
            }
        }
    }
    content
}

/// Only some of the sectors that a write touches.
fn torn(content: &mut Vec<u8>, at: usize, data: &[u8], random: &mut Random) {
    let mut from = 0;
    while from < data.len() {
        let to = data.len().min(((at + from) / SECTOR + 1) * SECTOR - at);
        if random.below(2) == 0 {
            put(content, at + from, &data[from..to]);
        }
        from = to;
    }
}
