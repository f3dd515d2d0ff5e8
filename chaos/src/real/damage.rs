//! Damage to the files of a master that does not run, and the undamaged files put back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use crate::limits::{CUT_BYTES_MAX, CUT_BYTES_MIN};
use crate::scenario::fault::machine::{Damage, Harm, HarmedFile};

/// Room for a full disk; masters make it anew.
const BALLAST: &str = "ballast";

/// A damaged directory, and a copy of what was in it.
#[derive(Debug)]
pub struct Damaged {
    root: PathBuf,
    copy: PathBuf,
    /// What was done, in words, or why nothing was.
    pub what: Result<String, String>,
}

impl Damaged {
    /// Copies the files of a master to `copy`, which is made, and damages them.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn make(root: &Path, copy: &Path, damage: Damage) -> anyhow::Result<Self> {
        // Of an earlier fault.
        ignore_missing(fs::remove_dir_all(copy))?;
        copy_all(root, copy).with_context(|| format!("cannot copy {}", root.display()))?;
        let what = harm(root, damage).map_err(|error| format!("{error:#}"));
        Ok(Self { root: root.to_owned(), copy: copy.to_owned(), what })
    }

    /// The files are again those that were copied aside; those of now are copied aside instead.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn go_back(self) -> anyhow::Result<Self> {
        let newer = self.copy.with_extension("newer");
        ignore_missing(fs::remove_dir_all(&newer))?;
        copy_all(&self.root, &newer)
            .with_context(|| format!("cannot copy {}", self.root.display()))?;
        self.put_back()?;
        let what = Ok("its files are as they were when this fault began".to_owned());
        Ok(Self { root: self.root, copy: newer, what })
    }

    /// Puts the undamaged files back.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn put_back(&self) -> anyhow::Result<()> {
        for found in fs::read_dir(&self.root)? {
            let path = found?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        copy_all(&self.copy, &self.root)
            .with_context(|| format!("cannot put {} back", self.root.display()))
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for found in fs::read_dir(from)? {
        let found = found?;
        let (name, target) = (found.file_name(), to.join(found.file_name()));
        if found.file_type()?.is_dir() {
            copy_all(&found.path(), &target)?;
        } else if name != BALLAST {
            fs::copy(found.path(), target)?;
        }
    }
    Ok(())
}

fn harm(root: &Path, damage: Damage) -> anyhow::Result<String> {
    let mut random = StdRng::seed_from_u64(damage.seed);
    if damage.how == Harm::Keep {
        return Ok("its files were copied aside".to_owned());
    }
    if damage.how == Harm::Wipe {
        fs::remove_dir_all(root.join("raft"))?;
        return Ok("its directory raft is gone".to_owned());
    }
    let name = match damage.file {
        HarmedFile::Log => PathBuf::from("raft/db"),
        HarmedFile::Witness => PathBuf::from("raft/synced"),
        HarmedFile::Identity => PathBuf::from("cluster.json"),
        HarmedFile::Snapshot => newest_snapshot(root)?,
    };
    let path = root.join(&name);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    // What was never written says nothing.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    anyhow::ensure!(written > 0, "{} is empty", path.display());
    let file = File::options().write(true).open(&path)?;
    if damage.how == Harm::Cut {
        let cut = random.random_range(written.min(CUT_BYTES_MIN)..=written.min(CUT_BYTES_MAX));
        file.set_len((written - cut) as u64)?;
        return Ok(format!("the last {cut} bytes of its {} are missing", name.display()));
    }
    let used: Vec<usize> = (0..written).filter(|at| bytes[*at] != 0).collect();
    let (at, bit) = (used[random.random_range(0..used.len())], random.random_range(0..8));
    file.write_all_at(&[bytes[at] ^ 1 << bit], at as u64)?;
    Ok(format!("bit {bit} of byte {at} of its {} is another", name.display()))
}

fn newest_snapshot(root: &Path) -> anyhow::Result<PathBuf> {
    let found = fs::read_dir(root.join("snapshots"))?.flatten().map(|found| found.file_name());
    let newest = found.filter(|name| name.to_string_lossy().ends_with(".snap")).max();
    newest.map(|name| Path::new("snapshots").join(name)).ok_or_else(|| {
        anyhow!("there is no snapshot yet in {}: the log is too short", root.display())
    })
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_damaged_and_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let (root, copy) = (directory.path().join("m1"), directory.path().join("copy"));
        fs::create_dir_all(root.join("raft/blobs")).unwrap();
        let log: Vec<u8> =
            (0..9000_u32).map(|at| if at < 5000 { 1 + (at % 7) as u8 } else { 0 }).collect();
        fs::write(root.join("raft/db"), &log).unwrap();
        fs::write(root.join("raft/ballast"), [0; 100]).unwrap();
        for (how, seed) in [(Harm::Flip, 1), (Harm::Cut, 2), (Harm::Wipe, 3)] {
            let damage = Damage { how, file: HarmedFile::Log, seed };
            let damaged = Damaged::make(&root, &copy, damage).unwrap();
            let left = fs::read(root.join("raft/db")).unwrap_or_default();
            let others = left.iter().zip(&log).filter(|(a, b)| a != b).count();
            match how {
                Harm::Flip => assert_eq!((left.len(), others), (9000, 1), "{:?}", damaged.what),
                Harm::Cut => assert!(left.len() < 5000 && others == 0, "{:?}", damaged.what),
                _ => assert!(!root.join("raft").exists()),
            }
            damaged.put_back().unwrap();
            assert_eq!(fs::read(root.join("raft/db")).unwrap(), log);
            assert!(root.join("raft/blobs").is_dir());
        }
        let keep = Damage { how: Harm::Keep, file: HarmedFile::Log, seed: 1 };
        let kept = Damaged::make(&root, &copy, keep).unwrap();
        fs::write(root.join("raft/db"), "newer").unwrap();
        let back = kept.go_back().unwrap();
        assert_eq!(fs::read(root.join("raft/db")).unwrap(), log, "as it was");
        back.put_back().unwrap();
        assert_eq!(fs::read(root.join("raft/db")).unwrap(), b"newer");
        fs::write(root.join("raft/db"), &log).unwrap();
        let damage = Damage { how: Harm::Flip, file: HarmedFile::Snapshot, seed: 1 };
        fs::create_dir(root.join("snapshots")).unwrap();
        let error = Damaged::make(&root, &copy, damage).unwrap().what.unwrap_err();
        assert!(error.contains("there is no snapshot yet"), "{error}");
    }
}
