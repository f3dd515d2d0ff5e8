//! Layers, good and hostile. As root only where owners and whiteouts matter.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;

enum Item<'a> {
    Dir(&'a str),
    File(&'a str, &'a [u8], u32),
    Symlink(&'a str, &'a str),
    Link(&'a str, &'a str),
}

/// A tar whose names are written raw, so that it may hold what `tar::Builder` refuses.
fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let (name, kind, link, body, mode): (_, _, _, &[u8], _) = match item {
            Item::Dir(name) => (name, EntryType::Directory, None, b"", 0o755),
            Item::File(name, body, mode) => (name, EntryType::Regular, None, *body, *mode),
            Item::Symlink(name, to) => (name, EntryType::Symlink, Some(*to), b"", 0o777),
            Item::Link(name, to) => (name, EntryType::Link, Some(*to), b"", 0o644),
        };
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_mode(mode);
        header.set_uid(if rustix::process::geteuid().is_root() { 1234 } else { 0 });
        header.set_gid(0);
        header.set_mtime(1_000_000);
        if !rustix::process::geteuid().is_root() {
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
        }
        header.set_cksum();
        builder.append(&header, body).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(items: &[Item<'_>]) -> (tempfile::TempDir, Result<u64>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let result = unpack(&tar_of(items)[..], &dir.path().join("root"));
    (dir, result)
}

#[test]
fn keeps_modes_links_times_and_missing_parents() {
    let (dir, result) = unpacked(&[
        Item::Dir("bin/"),
        Item::File("bin/su", b"x", 0o4755),
        Item::Link("bin/hard", "bin/su"),
        Item::Symlink("sh", "/bin/su"),
        Item::File("./deep/er/file", b"hello", 0o600),
    ]);
    assert_eq!(result.unwrap(), 6);
    let root = dir.path().join("root");
    let su = root.join("bin/su").metadata().unwrap();
    assert_eq!(su.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(su.ino(), root.join("bin/hard").metadata().unwrap().ino());
    assert_eq!(root.join("bin").metadata().unwrap().mtime(), 1_000_000);
    assert_eq!(root.join("sh").read_link().unwrap(), Path::new("/bin/su"));
    assert_eq!(std::fs::read(root.join("deep/er/file")).unwrap(), b"hello");
    if rustix::process::geteuid().is_root() {
        assert_eq!(su.uid(), 1234);
    }
}

#[test]
fn nothing_leaves_the_root() {
    let cases: &[&[Item<'_>]] = &[
        &[Item::File("../escape", b"x", 0o644)],
        &[Item::File("a/../../escape", b"x", 0o644)],
        &[Item::Link("hard", "../outside")],
    ];
    for items in cases {
        let (dir, result) = unpacked(items);
        assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
        assert!(!dir.path().join("escape").exists());
    }
    // Symlinks that point out are followed inside, as the container would see them.
    let (dir, result) = unpacked(&[
        Item::Dir("etc"),
        Item::Symlink("up", "../../.."),
        Item::Symlink("abs", "/etc"),
        Item::File("up/one", b"1", 0o644),
        Item::File("abs/two", b"2", 0o644),
    ]);
    result.unwrap();
    assert!(!dir.path().join("one").exists());
    assert!(dir.path().join("root/one").exists());
    assert!(dir.path().join("root/etc/two").exists());
    assert!(!Path::new("/etc/two").exists());
    // An absolute path means the layer's root.
    let (dir, result) = unpacked(&[Item::File("/abs", b"x", 0o644)]);
    result.unwrap();
    assert!(dir.path().join("root/abs").exists());
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let (dir, result) = unpacked(&[
        Item::File("a/b", b"1", 0o644),
        Item::Symlink("link", "/target"),
        Item::File("link", b"file", 0o644),
        Item::File("a", b"now a file", 0o644),
    ]);
    result.unwrap();
    let root = dir.path().join("root");
    assert_eq!(std::fs::read(root.join("link")).unwrap(), b"file");
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"now a file");
}

#[test]
fn whiteouts_become_overlays_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED whiteouts_become_overlays_own: needs root");
        return;
    }
    let (dir, result) = unpacked(&[
        Item::File("etc/.wh.gone", b"", 0o644),
        Item::File("opt/.wh..wh..opq", b"", 0o644),
    ]);
    result.unwrap();
    let root = dir.path().join("root");
    let gone = root.join("etc/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    let mut value = [0_u8; 8];
    let count = rustix::fs::getxattr(root.join("opt"), OPAQUE_ATTRIBUTE, &mut value[..]).unwrap();
    assert_eq!(&value[..count], b"y");
}
