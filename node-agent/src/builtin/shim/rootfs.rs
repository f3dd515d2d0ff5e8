//! A container's root: an overlay of its image's layers, or a copy of them where overlayfs refuses (its own upper
//! directory on an overlay, as in a container).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::builtin::record::ContainerRecord;

/// Makes `dir/rootfs` the container's root.
pub(super) fn prepare(record: &ContainerRecord, dir: &Path) -> io::Result<()> {
    for name in ["rootfs", "upper", "work"] {
        fs::create_dir_all(dir.join(name))?;
    }
    let lower: Vec<&str> = record.layers.iter().rev().map(String::as_str).collect();
    let (upper, work, target) = (dir.join("upper"), dir.join("work"), dir.join("rootfs"));
    if !lower.is_empty() {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            escape(&upper)?,
            escape(&work)?
        );
        // Names relative to the layers' directory keep the options within their page.
        let back = std::env::current_dir()?;
        std::env::set_current_dir(&record.layers_dir)?;
        let flags = MsFlags::empty();
        let mounted =
            mount(Some("overlay"), &target, Some("overlay"), flags, Some(options.as_str()));
        std::env::set_current_dir(back)?;
        match mounted {
            Ok(()) => return Ok(()),
            Err(nix::Error::EINVAL | nix::Error::ENODEV | nix::Error::EOPNOTSUPP) => {}
            Err(err) => return Err(err.into()),
        }
    }
    for layer in &record.layers {
        apply(&record.layers_dir.join(layer), &upper)?;
    }
    // pivot_root wants a mount point.
    mount(Some(&upper), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Commas and colons mean something in overlay's options.
fn escape(path: &Path) -> io::Result<String> {
    let text = path.to_str().ok_or_else(|| io::Error::other("data directory is not UTF-8"))?;
    Ok(text.replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:"))
}

/// Copies one layer over `to`, honouring whiteouts.
fn apply(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let mut value = [0_u8; 1];
    if rustix::fs::lgetxattr(from, "trusted.overlay.opaque", &mut value[..]).is_ok() {
        for entry in fs::read_dir(to)? {
            remove(&entry?.path())?;
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let meta = fs::symlink_metadata(&source)?;
        if kind.is_char_device() && meta.rdev() == 0 {
            remove(&target)?;
        } else if kind.is_dir() {
            if !fs::symlink_metadata(&target).is_ok_and(|m| m.is_dir()) {
                remove(&target)?;
                fs::create_dir(&target)?;
            }
            apply(&source, &target)?;
        } else {
            remove(&target)?;
            copy_file(&source, &target, &meta)?;
        }
    }
    metadata(from, to, &meta)
}

fn copy_file(source: &Path, target: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let kind = meta.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        fs::copy(source, target)?;
    } else {
        let kind = FileType::from_raw_mode(meta.mode());
        rustix::fs::mknodat(CWD, target, kind, Mode::empty(), meta.rdev())?;
    }
    metadata(source, target, meta)
}

fn metadata(source: &Path, target: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    rustix::fs::chownat(CWD, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !meta.file_type().is_symlink() {
        rustix::fs::chmodat(
            CWD,
            target,
            Mode::from_raw_mode(meta.mode() & 0o7777),
            AtFlags::empty(),
        )?;
    }
    let mut names = [0_u8; 4096];
    let count = rustix::fs::llistxattr(source, &mut names[..]).unwrap_or(0);
    for name in names[..count].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0_u8; 65_536];
        if name.as_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        if let Ok(length) = rustix::fs::lgetxattr(source, name, &mut value[..]) {
            let _ = rustix::fs::lsetxattr(target, name, &value[..length], XattrFlags::empty());
        }
    }
    let time = |s, n| Timespec { tv_sec: s, tv_nsec: n };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn remove(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(err) => Err(err),
    };
    match gone {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Whether the node would be a device; overlay whiteouts never are.
#[cfg(test)]
fn is_whiteout(meta: &fs::Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_copied_over_each_other_hide_what_they_delete() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED layers_copied_over_each_other: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("one/d")).unwrap();
        fs::create_dir_all(path("two")).unwrap();
        fs::create_dir(path("out")).unwrap();
        for file in ["one/gone", "one/kept", "one/d/old", "two/new"] {
            fs::write(path(file), file).unwrap();
        }
        let kind = FileType::CharacterDevice;
        rustix::fs::mknodat(CWD, path("two/gone"), kind, Mode::empty(), 0).unwrap();
        assert!(is_whiteout(&fs::symlink_metadata(path("two/gone")).unwrap()));
        fs::create_dir(path("two/d")).unwrap();
        let opaque = "trusted.overlay.opaque";
        rustix::fs::lsetxattr(path("two/d"), opaque, b"y", XattrFlags::empty()).unwrap();
        apply(&path("one"), &path("out")).unwrap();
        apply(&path("two"), &path("out")).unwrap();
        let exists = ["gone", "kept", "d/old", "d", "new"].map(|n| path("out").join(n).exists());
        assert_eq!(exists, [false, true, false, true, true]);
    }
}
