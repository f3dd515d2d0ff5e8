//! Which agents of this machine have a pod network, so that what an agent left that runs no more is told from what
//! another one uses. Each holds a lock on a file named after its tag; the kernel gives the lock up with the process.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Gone after a restart of the machine, as bridges and tables are.
const DIRECTORY: &str = "/run/quorate/networks";

/// Another agent may be looking at ours just now: it is tried again so often, so far apart.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Held while an agent lives.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held, not read")] Option<File>);

fn open(directory: &Path, tag: &str) -> std::io::Result<File> {
    std::fs::create_dir_all(directory)?;
    File::options().create(true).append(true).open(directory.join(tag))
}

impl Claim {
    /// Says that the agent of that tag lives. Where that cannot be said (no right to write there) nobody can take
    /// anything away from it either.
    pub(super) fn take(tag: &str) -> Claim {
        Self::take_in(Path::new(DIRECTORY), tag)
    }

    fn take_in(directory: &Path, tag: &str) -> Claim {
        for _ in 0..TRIES {
            let Ok(file) = open(directory, tag) else { return Claim(None) };
            match file.try_lock() {
                Ok(()) => return Claim(Some(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(_)) => return Claim(None),
            }
        }
        // Somebody of this very process holds it.
        Claim(None)
    }
}

/// The network of an agent that does not run. Nobody else takes it while this is held.
#[derive(Debug)]
pub(super) struct Abandoned {
    pub(super) tag: String,
    path: PathBuf,
    _file: File,
}

impl Abandoned {
    /// Nothing is left of it.
    pub(super) fn cleared(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Those of `tags` and of all that ever claimed a network since the machine started whose agent does not run.
pub(super) fn abandoned(tags: Vec<String>) -> Vec<Abandoned> {
    abandoned_in(Path::new(DIRECTORY), tags)
}

fn abandoned_in(directory: &Path, mut tags: Vec<String>) -> Vec<Abandoned> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    tags.extend(files.filter_map(|file| file.file_name().into_string().ok()));
    tags.sort();
    tags.dedup();
    let free = tags.into_iter().filter_map(|tag| {
        let file = open(directory, &tag).ok()?;
        file.try_lock().ok()?;
        Some(Abandoned { path: directory.join(&tag), tag, _file: file })
    });
    free.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let found = |more: &[&str]| -> Vec<String> {
            let more = more.iter().map(|tag| (*tag).to_owned()).collect();
            abandoned_in(dir.path(), more).into_iter().map(|found| found.tag).collect()
        };
        let (one, two) = (Claim::take_in(dir.path(), "one"), Claim::take_in(dir.path(), "two"));
        assert!(found(&["one"]).is_empty());
        drop(one);
        assert_eq!(found(&["three"]), ["one", "three"]);
        for cleared in abandoned_in(dir.path(), Vec::new()) {
            cleared.cleared();
        }
        drop(two);
        assert_eq!(found(&[]), ["two"]);
    }
}
