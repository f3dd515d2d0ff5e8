//! Unpacks one layer's tar into a directory that serves as an overlay's lower directory.
//!
//! Every name is resolved by the kernel below the layer's root (`openat2` with `RESOLVE_IN_ROOT`), so neither `..` nor
//! an absolute symlink of a hostile layer leads out of it. Whiteouts become overlayfs' own: a character device 0/0 for
//! a deleted name, the attribute `trusted.overlay.opaque` for an emptied directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::{Error, Result};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
const PAX_ATTRIBUTE: &str = "SCHILY.xattr.";

/// Unpacks `tar` into the existing, empty directory `root`. Returns the bytes of its files.
pub fn unpack(tar: impl Read, root: &Path) -> Result<u64> {
    let root_fd = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|err| Error::io("cannot open", root)(err.into()))?;
    let mut unpacker = Unpacker { root: root_fd, parent: None, dir_times: Vec::new(), bytes: 0 };
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().map_err(|err| Error::Invalid(format!("bad layer: {err}")))?;
    for entry in entries {
        let mut entry = entry.map_err(|err| Error::Invalid(format!("bad layer: {err}")))?;
        let name = entry.path_bytes().into_owned();
        unpacker.entry(&mut entry).map_err(|err| {
            let name = String::from_utf8_lossy(&name);
            if err.kind() == io::ErrorKind::InvalidData {
                Error::Invalid(format!("bad layer: {name}: {err}"))
            } else {
                Error::io("cannot unpack layer entry to", &root.join(name.trim_start_matches('/')))(
                    err,
                )
            }
        })?;
    }
    unpacker.finish().map_err(Error::io("cannot set times below", root))?;
    Ok(unpacker.bytes)
}

struct Unpacker {
    root: OwnedFd,
    /// The directory of the last entry: entries of one directory follow each other.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directory times, set at the end because entries change them.
    dir_times: Vec<(PathBuf, Timestamps)>,
    bytes: u64,
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// The names of a path, without `/` and `.`; `..` is refused.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid("the path leads out of the layer"));
            }
        }
    }
    Ok(out)
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let path = clean(Path::new(OsStr::from_bytes(&entry.path_bytes())))?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            let root = self.root.try_clone()?;
            return self.dir_metadata(entry, &root, path);
        };
        let parent = self.parent_of(&path)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return whiteout(&parent, name.as_bytes());
        }
        self.replace(kind, &parent, &name)?;
        match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(err) => return Err(err.into()),
                }
                let dir = open_dir(&parent, Path::new(&name))?;
                self.dir_metadata(entry, &dir, path)
            }
            EntryType::Symlink => self.symlink(entry, &parent, &name),
            EntryType::Link => self.hard_link(entry, &parent, &name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => node(entry, &parent, &name),
            _ => self.file(entry, &parent, &name),
        }
    }

    fn parent_of(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let dir = path.parent().unwrap_or_else(|| Path::new(""));
        if let Some((cached, fd)) = &self.parent
            && cached == dir
        {
            return fd.try_clone();
        }
        let fd = ensure_dir(&self.root, dir)?;
        self.parent = Some((dir.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    /// Removes what has the name already, unless a directory stays a directory.
    fn replace(&mut self, kind: EntryType, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(err) => return Err(err.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
        }
        if kind == EntryType::Directory {
            return Ok(());
        }
        self.parent = None;
        std::fs::remove_dir_all(proc_path(parent).join(name))
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        let attributes = attributes(entry)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        self.bytes += io::copy(entry, &mut file)?;
        own(entry.header(), &file, &attributes)?;
        Ok(rustix::fs::futimens(&file, &times(entry.header()))?)
    }

    fn dir_metadata<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        dir: &OwnedFd,
        path: PathBuf,
    ) -> io::Result<()> {
        let attributes = attributes(entry)?;
        own(entry.header(), dir, &attributes)?;
        self.dir_times.push((path, times(entry.header())));
        Ok(())
    }

    fn symlink<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        let target = entry.link_name_bytes().ok_or_else(|| invalid("symlink without a target"))?;
        rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
        let (uid, gid) = owner(entry.header())?;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let times = times(entry.header());
        Ok(rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn hard_link<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        let target =
            entry.link_name_bytes().ok_or_else(|| invalid("hard link without a target"))?;
        let target = clean(Path::new(OsStr::from_bytes(&target)))?;
        let target_name = target.file_name().ok_or_else(|| invalid("hard link to the root"))?;
        let target_dir = open_dir(&self.root, target.parent().unwrap_or_else(|| Path::new("")))
            .map_err(|_| invalid("hard link to a file that is not in the layer"))?;
        match rustix::fs::linkat(&target_dir, target_name, parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(invalid("hard link to a file that is not in the layer")),
            other => Ok(other?),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        for (path, times) in self.dir_times.iter().rev() {
            // A directory may have been replaced by something else later in the layer.
            if let Ok(dir) = open_dir(&self.root, path) {
                rustix::fs::futimens(&dir, times)?;
            }
        }
        Ok(())
    }
}

/// Opens a directory below `root`, whatever symlinks say.
fn open_dir(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Opens a directory below `root`, making it and its parents (0755) where missing.
fn ensure_dir(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    match open_dir(root, path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) if err.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {
            return Err(invalid("a parent is not a directory"));
        }
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(invalid("no such parent"));
    };
    let parent = ensure_dir(root, parent)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open_dir(root, path),
        Err(err) => Err(err.into()),
    }
}

fn whiteout(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    if name == OPAQUE {
        return set_attribute(parent, OsStr::new(OPAQUE_ATTRIBUTE), b"y");
    }
    if name.starts_with(AUFS) {
        return Ok(());
    }
    let hidden = OsStr::from_bytes(&name[WHITEOUT.len()..]);
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(invalid("whiteout without a name"));
    }
    match rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        // The layer itself adds the name: then nothing below it shows anyway.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

fn node<R: Read>(entry: &mut tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let major = header.device_major()?.unwrap_or(0);
    let minor = header.device_minor()?.unwrap_or(0);
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(parent, name, kind, Mode::empty(), device)?;
    let (uid, gid) = owner(header)?;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(parent, name, mode(header)?, AtFlags::empty())?;
    Ok(rustix::fs::utimensat(parent, name, &times(header), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Owner first, then mode (a change of owner clears set-id bits) and attributes (it clears capabilities, too).
fn own(header: &tar::Header, fd: impl AsFd, attributes: &[(OsString, Vec<u8>)]) -> io::Result<()> {
    let (uid, gid) = owner(header)?;
    rustix::fs::fchown(&fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&fd, mode(header)?)?;
    for (name, value) in attributes {
        match set_attribute(&fd, name, value) {
            Ok(()) => {}
            // Attributes are kept where the file system and our rights allow it.
            Err(err) => tracing::debug!(?name, %err, "layer attribute not kept"),
        }
    }
    Ok(())
}

fn set_attribute(fd: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?)
}

/// Extended attributes of the entry; those of overlayfs itself are not for images to set.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut out = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Some(name) = extension.key().ok().and_then(|k| k.strip_prefix(PAX_ATTRIBUTE))
            else {
                continue;
            };
            if !name.starts_with("trusted.overlay.") && !name.starts_with("user.overlay.") {
                out.push((OsString::from(name), extension.value_bytes().to_owned()));
            }
        }
    }
    Ok(out)
}

fn owner(header: &tar::Header) -> io::Result<(rustix::fs::Uid, rustix::fs::Gid)> {
    let id = |id: u64| u32::try_from(id).map_err(|_| invalid("owner out of range"));
    // Some writers leave the fields empty; that reads as zero everywhere.
    let blank = |field: &[u8]| field.iter().all(|b| matches!(b, 0 | b' '));
    let uid = if blank(&header.as_old().uid) { 0 } else { id(header.uid()?)? };
    let gid = if blank(&header.as_old().gid) { 0 } else { id(header.gid()?)? };
    if uid == u32::MAX || gid == u32::MAX {
        return Err(invalid("owner out of range"));
    }
    Ok((rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid)))
}

fn mode(header: &tar::Header) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(header.mode()? & 0o7777))
}

fn times(header: &tar::Header) -> Timestamps {
    let seconds = header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests;
