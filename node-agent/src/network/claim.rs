//! Which agents of this machine have a pod network, so that what an agent left that runs no more is told from what
//! another one uses. Each holds a lock on a file named after its tag; the kernel gives the lock up with the process.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Gone after a restart of the machine, as bridges and tables are.
const DIRECTORY: &str = "/run/quorate/networks";

/// Another agent may be looking at ours just now, and clear away what it takes for abandoned: it is tried again so
/// often, so far apart, five seconds in all.
const TRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(20);

/// Held while an agent lives.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held, not read")] Option<File>);

/// The file of a tag with its lock; `None` when somebody else has it. A file that was removed while we waited for
/// its lock is nobody's claim: that counts as taken, too.
fn lock(directory: &Path, tag: &str) -> std::io::Result<Option<File>> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(tag);
    let file = File::options().create(true).append(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let there = std::fs::metadata(&path).map(|found| found.ino()).ok();
    Ok((there == Some(file.metadata()?.ino())).then_some(file))
}

impl Claim {
    /// Says that the agent of that tag lives. Where that cannot be said (no right to write there) nobody can take
    /// anything away from it either.
    pub(super) fn take(tag: &str) -> Claim {
        Self::take_in(Path::new(DIRECTORY), tag)
    }

    fn take_in(directory: &Path, tag: &str) -> Claim {
        for _ in 0..TRIES {
            match lock(directory, tag) {
                Ok(Some(file)) => return Claim(Some(file)),
                Ok(None) => std::thread::sleep(PAUSE),
                Err(_) => return Claim(None),
            }
        }
        tracing::warn!(
            tag,
            "another agent holds the claim to this agent's network: is it running twice?"
        );
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

/// `tags` and all that ever claimed a network since the machine started.
pub(super) fn known(tags: Vec<String>) -> Vec<String> {
    known_in(Path::new(DIRECTORY), tags)
}

fn known_in(directory: &Path, mut tags: Vec<String>) -> Vec<String> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    tags.extend(files.filter_map(|file| file.file_name().into_string().ok()));
    tags.sort();
    tags.dedup();
    tags
}

impl Abandoned {
    /// The network of that tag, when its agent does not run. One at a time, and not for long: an agent that starts
    /// waits for its own.
    pub(super) fn seize(tag: &str) -> Option<Self> {
        Self::seize_in(Path::new(DIRECTORY), tag)
    }

    fn seize_in(directory: &Path, tag: &str) -> Option<Self> {
        let file = lock(directory, tag).ok()??;
        Some(Self { path: directory.join(tag), tag: tag.to_owned(), _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_waits_for_one_that_looks_and_is_not_lost_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let looked = Abandoned::seize_in(dir.path(), "one").unwrap();
        let path = dir.path().to_owned();
        let taking = std::thread::spawn(move || Claim::take_in(&path, "one"));
        // It is opened and waited for before the file goes, or is made anew after: the claim holds either way.
        std::thread::sleep(PAUSE * 3);
        looked.cleared();
        let claim = taking.join().unwrap();
        assert!(dir.path().join("one").exists());
        assert!(Abandoned::seize_in(dir.path(), "one").is_none());
        drop(claim);
        assert!(Abandoned::seize_in(dir.path(), "one").is_some());
    }

    #[test]
    fn what_nobody_holds_is_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let found = |more: &[&str]| -> Vec<String> {
            let more = more.iter().map(|tag| (*tag).to_owned()).collect();
            let seized = |tag: &String| Abandoned::seize_in(dir.path(), tag);
            known_in(dir.path(), more).iter().filter_map(seized).map(|found| found.tag).collect()
        };
        let (one, two) = (Claim::take_in(dir.path(), "one"), Claim::take_in(dir.path(), "two"));
        assert!(found(&["one"]).is_empty());
        drop(one);
        assert_eq!(found(&["three"]), ["one", "three"]);
        for tag in ["one", "three"] {
            Abandoned::seize_in(dir.path(), tag).unwrap().cleared();
        }
        drop(two);
        assert_eq!(found(&[]), ["two"]);
    }
}
