//! Files with keys: mode 0600 from the first byte, written beside and renamed, synced.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use crate::error::Error;

/// Creates a directory (and those above it) that only its owner may enter. After it returns, the names of those that
/// it made survive a power loss.
///
/// # Errors
/// [`Error::File`].
pub fn create_private_dir(path: &Path) -> Result<(), Error> {
    let create = || {
        let missing =
            path.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists());
        let missing = missing.count();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for made in path.ancestors().take(missing) {
            let above = made.parent().filter(|above| !above.as_os_str().is_empty());
            File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        }
        Ok(())
    };
    create().map_err(|source| Error::File {
        action: "create directory",
        path: path.to_owned(),
        source,
    })
}

/// Replaces a file with `content`, readable by its owner only, who stays its owner. After it returns, the content
/// survives a power loss; if it fails, the old content is untouched.
///
/// # Errors
/// [`Error::File`].
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_with_mode(path, content, 0o600)
}

/// As [`write_private`], with another mode for the new file.
///
/// # Errors
/// [`Error::File`].
pub fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let error = |source| Error::File { action: "write", path: path.to_owned(), source };
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.{:016x}.tmp", rand::random::<u64>()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        keep_owner(&file, path)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| {
        // The old file is as it was; what was written beside it is of no use.
        drop(fs::remove_file(&beside));
        error(source)
    })
}

/// Gives a new file to the owner of the one that it replaces: root who edits a user's file must not take it away.
fn keep_owner(file: &File, replaced: &Path) -> std::io::Result<()> {
    let Ok(old) = fs::metadata(replaced) else { return Ok(()) };
    let new = file.metadata()?;
    if new.uid() != 0 || (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid()))
}

/// Removes a file; that there is none is no error.
///
/// # Errors
/// [`Error::File`].
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what [`write_private`] left beside files of a directory when it was ended in between: it may be a key. Only
/// while nobody writes there.
///
/// # Errors
/// [`Error::File`].
pub fn remove_leftovers(directory: &Path) -> Result<(), Error> {
    let error = |source| Error::File { action: "list", path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads a text file.
///
/// # Errors
/// [`Error::File`].
pub fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_file_is_private_and_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn what_was_left_beside_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        write_private(&directory.path().join("key"), b"one").unwrap();
        fs::write(directory.path().join(".key.0123456789abcdef.tmp"), b"half").unwrap();
        remove_leftovers(directory.path()).unwrap();
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(read(&directory.path().join("key")).unwrap(), "one");
    }

    #[test]
    fn a_users_file_stays_the_users() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        write_private(&path, b"one").unwrap();
        if std::os::unix::fs::chown(&path, Some(65534), Some(65534)).is_err() {
            eprintln!("SKIPPED: only root gives files away");
            return;
        }
        write_private(&path, b"two").unwrap();
        let kept = fs::metadata(&path).unwrap();
        assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o777), (65534, 65534, 0o600));
    }

    #[test]
    fn a_failed_write_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/key");
        let error = write_private(&path, b"x").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
    }
}
