//! A directory whose files change all at once: they are links into `..data`, which is a link to a dated
//! directory, and a
//! rename of that link is the change. Programs that watch mounted ConfigMaps know this layout from the kubelet.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// One file of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEntry {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    /// Its user; `None`: the agent's.
    pub(crate) owner: Option<u32>,
}

/// A volume as an earlier run left it.
pub(crate) struct Held(pub(crate) PathBuf);

impl Held {
    /// The file of that path, when there is one.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        check(path).ok()?;
        std::fs::read_to_string(self.0.join(path)).ok()
    }
}

/// Relative paths and their files.
pub(crate) type Payload = BTreeMap<String, FileEntry>;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the directory hold exactly `payload`. `finish` does the rest to everything new, before anybody sees it. Says
/// whether anything changed.
pub(crate) fn write(
    dir: &Path,
    payload: &Payload,
    finish: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    for path in payload.keys() {
        check(path)?;
    }
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    let old = std::fs::read_link(dir.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| same(&dir.join(old), payload)) {
        return Ok(false);
    }
    let version = new_version(dir)?;
    for (path, entry) in payload {
        let file = dir.join(&version).join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, &entry.content)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(entry.mode))?;
        if let Some(owner) = entry.owner {
            std::os::unix::fs::chown(&file, Some(owner), None)?;
        }
    }
    finish(&dir.join(&version))?;
    let _ = std::fs::remove_file(dir.join(DATA_NEW));
    symlink(&version, dir.join(DATA_NEW))?;
    std::fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;
    link_visible(dir, payload)?;
    if old.is_none() {
        finish(dir)?;
    }
    if let Some(old) = old.filter(|old| old.components().count() == 1) {
        let _ = std::fs::remove_dir_all(dir.join(old));
    }
    Ok(true)
}

/// Keys must stay inside, and not hide the machinery.
fn check(path: &str) -> io::Result<()> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside || path.starts_with("..") {
        let text = format!("invalid path {path:?} in volume");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// A directory of its own for each version, named as the kubelet names it: `..<time>.<random>`.
fn new_version(dir: &Path) -> io::Result<PathBuf> {
    let time = quorate_chance::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let version = PathBuf::from(format!("..{time}.{}", quorate_chance::number()));
    std::fs::DirBuilder::new().mode(0o755).create(dir.join(&version))?;
    Ok(version)
}

fn same(current: &Path, payload: &Payload) -> bool {
    let mut files = Vec::new();
    if list(current, Path::new(""), &mut files).is_err() || files.len() != payload.len() {
        return false;
    }
    files.iter().all(|file| {
        let Some(entry) = payload.get(&*file.to_string_lossy()) else { return false };
        let path = current.join(file);
        let mode = path.metadata().map(|meta| meta.permissions().mode() & 0o777);
        // Group bits are added by fsGroup later: only the owner's are ours alone.
        let mode_same = mode.is_ok_and(|mode| mode & 0o707 == entry.mode & 0o707);
        mode_same && std::fs::read(&path).is_ok_and(|content| content == entry.content)
    })
}

fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The first parts of all paths, as links into `..data`; what is no longer there goes.
fn link_visible(dir: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let names: std::collections::BTreeSet<String> = payload.keys().map(|p| first(p)).collect();
    for name in &names {
        let link = dir.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(&name) && entry.file_type()?.is_symlink() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let entry =
            |text: &str| FileEntry { content: text.as_bytes().to_vec(), mode: 0o644, owner: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), entry(text))).collect()
    }

    fn visible(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_volume_follows_its_source() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("volume");
        assert!(write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), &|_| Ok(())).unwrap());
        assert_eq!(visible(&dir), ["a", "sub"]);
        assert_eq!(std::fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        let first = std::fs::read_link(dir.join(DATA)).unwrap();
        assert!(
            !write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), &|_| Ok(())).unwrap(),
            "unchanged"
        );
        assert!(write(&dir, &payload(&[("a", "new"), ("c", "3")]), &|_| Ok(())).unwrap());
        assert_eq!(visible(&dir), ["a", "c"]);
        assert_eq!(std::fs::read_to_string(dir.join("a")).unwrap(), "new");
        assert!(!dir.join(first).exists(), "the old version is gone");
    }

    #[test]
    fn paths_cannot_leave() {
        let temp = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/passwd", "a/../../b", "", "..data", "..x"] {
            assert!(write(temp.path(), &payload(&[(path, "x")]), &|_| Ok(())).is_err(), "{path}");
        }
    }
}
