//! A data directory that is made beside the one whose place it takes. Until it is complete and on disk nothing has
//! changed; then the two change places in one step; the old one stays, under another name.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use quorate_pki::files;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::stamp;
use crate::data_dir;

/// In a directory that is being made. Who makes it holds its lock.
const UNFINISHED: &str = "unfinished";

/// What of the old directory belongs to the machine and not to the cluster's state: a node agent in the same process,
/// and the backups that were made there. Those of another cluster are never removed.
const GOES_ALONG: [&str; 2] = ["agent", super::plan::DIRECTORY];

/// A directory in the making. Dropped before it is in its place, it goes.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    path: PathBuf,
    stamp: String,
    placed: bool,
    /// No master starts on the old directory while this lives.
    _held: Option<File>,
    _marker: File,
}

impl Staging {
    /// Begins a directory that is to be at `target`. What is there must not be in use.
    pub fn begin(target: &Path) -> anyhow::Result<Self> {
        let (target, held) = claim(target)?;
        let above = parent(&target)?;
        files::create_private_dir(above)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        remove_unfinished(above, &name)?;
        let stamp = free_stamp(above, &name);
        let path = above.join(format!("{name}.new-{stamp}"));
        let what = || format!("cannot make {} beside {}", path.display(), target.display());
        fs::create_dir(&path).with_context(what)?;
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&path, mode).with_context(what)?;
        let marker = mark(&path).with_context(what)?;
        Ok(Self { target, path, stamp, placed: false, _held: held, _marker: marker })
    }

    /// Where it is made.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is to be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Puts it in its place. Gives where the old directory is now, if there was one.
    pub fn put_in_place(mut self) -> anyhow::Result<Option<PathBuf>> {
        self.complete()?;
        let swapped = self.swap()?;
        // Whatever happens now: under its name is the old directory.
        self.placed = true;
        File::open(parent(&self.target)?)?.sync_all()?;
        if !swapped {
            return Ok(None);
        }
        self.name_old().map(Some)
    }

    /// From now on it is not taken for one that was given up.
    fn complete(&self) -> anyhow::Result<()> {
        fs::remove_file(self.path.join(UNFINISHED))?;
        for item in fs::read_dir(&self.path)? {
            File::open(item?.path())?.sync_all()?;
        }
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// The one step. Whether there was an old directory, which has the new one's name then.
    fn swap(&self) -> anyhow::Result<bool> {
        let what = || format!("cannot put {} in its place", self.target.display());
        let there = self.target.exists();
        if there {
            renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::EXCHANGE)
                .map_err(std::io::Error::from)
                .with_context(|| {
                    let (target, old) = (self.target.display(), self.target.display());
                    format!(
                        "{}: this file system cannot exchange two directories. Move it aside (`mv {target} {old}.old`), \
                         and make it anew with --pki {old}.old/pki",
                        what()
                    )
                })?;
        } else {
            fs::rename(&self.path, &self.target).with_context(what)?;
        }
        Ok(there)
    }

    /// Gives the old directory its name.
    fn name_old(&self) -> anyhow::Result<PathBuf> {
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        let old = self.target.with_file_name(format!("{name}.old-{}", self.stamp));
        fs::rename(&self.path, &old).with_context(|| {
            format!("the new directory is in its place; the old one is {}", self.path.display())
        })?;
        for name in GOES_ALONG.iter().filter(|name| old.join(name).exists()) {
            fs::rename(old.join(name), self.target.join(name)).with_context(|| {
                format!(
                    "the new directory is in its place, and the old one is {}, where {name} was left: move it to {}",
                    old.display(),
                    self.target.display()
                )
            })?;
        }
        File::open(parent(&self.target)?)?.sync_all()?;
        Ok(old)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.placed {
            // Of no use, and never the old one: that has its name only after the exchange.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// The directory itself, and its lock if it is there.
fn claim(target: &Path) -> anyhow::Result<(PathBuf, Option<File>)> {
    if !target.exists() {
        return Ok((std::path::absolute(target)?, None));
    }
    let target = target.canonicalize()?;
    let above = parent(&target)?;
    if fs::metadata(&target)?.dev() != fs::metadata(above)?.dev() {
        bail!(
            "{} is a mount point, and so cannot be exchanged for another directory: give one below it with --data",
            target.display()
        );
    }
    let held = data_dir::hold(&target)?;
    Ok((target, Some(held)))
}

fn parent(target: &Path) -> anyhow::Result<&Path> {
    target.parent().with_context(|| format!("{} has no directory above it", target.display()))
}

/// This moment, told apart from others within the same second.
fn free_stamp(above: &Path, name: &str) -> String {
    let now = stamp(Timestamp::now());
    let taken = |stamp: &str| {
        ["new", "old"].iter().any(|kind| above.join(format!("{name}.{kind}-{stamp}")).exists())
    };
    let mut all = std::iter::once(now.clone()).chain((2..).map(|number| format!("{now}-{number}")));
    all.find(|stamp| !taken(stamp)).unwrap_or(now)
}

fn mark(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let marker = options.write(true).create_new(true).mode(0o600).open(path.join(UNFINISHED))?;
    flock(&marker, FlockOperation::NonBlockingLockExclusive)?;
    Ok(marker)
}

/// Removes what was begun for the same place by somebody who was ended in the middle.
fn remove_unfinished(above: &Path, name: &str) -> anyhow::Result<()> {
    let prefix = format!("{name}.new-");
    for item in fs::read_dir(above).with_context(|| above.display().to_string())? {
        let item = item?;
        let marker = item.path().join(UNFINISHED);
        if !item.file_name().to_string_lossy().starts_with(&prefix) || !marker.exists() {
            continue;
        }
        let free = flock(File::open(&marker)?, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !free {
            bail!("{} is being made just now by another process", item.path().display());
        }
        fs::remove_dir_all(item.path()).with_context(|| item.path().display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(target: &Path) -> Staging {
        let staging = Staging::begin(target).unwrap();
        fs::write(staging.path().join("who"), "new").unwrap();
        fs::write(staging.path().join("cluster.json"), "{}").unwrap();
        staging
    }

    fn old(directory: &Path) -> PathBuf {
        let target = directory.join("data");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("who"), "old").unwrap();
        fs::write(target.join("cluster.json"), "{}").unwrap();
        for name in GOES_ALONG {
            fs::create_dir(target.join(name)).unwrap();
        }
        target
    }

    fn who(directory: &Path) -> String {
        fs::read_to_string(directory.join("who")).unwrap_or_default()
    }

    fn names(directory: &Path) -> Vec<String> {
        let items = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            items.map(|item| item.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_directory_stays_under_another_name() {
        let directory = tempfile::tempdir().unwrap();
        let target = old(directory.path());
        let aside = staged(&target).put_in_place().unwrap().unwrap();
        assert_eq!((who(&target), who(&aside)), ("new".to_owned(), "old".to_owned()));
        for name in GOES_ALONG {
            assert!(target.join(name).exists() && !aside.join(name).exists(), "{name}");
        }
        assert!(!target.join(UNFINISHED).exists());
        assert_eq!(names(directory.path()).len(), 2);
    }

    #[test]
    fn a_place_where_nothing_was_needs_no_exchange() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("not/there");
        assert_eq!(staged(&target).put_in_place().unwrap(), None);
        assert_eq!(who(&target), "new");
    }

    /// Whoever is killed runs nothing more: what is left is forgotten, and looked at as the next one finds it.
    #[test]
    fn killed_at_any_point_there_is_the_old_one_or_the_new_one() {
        type Step = fn(&Staging);
        let steps: [(Step, &str); 4] = [
            (|_| {}, "old"),
            (|staging| staging.complete().unwrap(), "old"),
            (
                |staging| {
                    staging.complete().unwrap();
                    staging.swap().unwrap();
                },
                "new",
            ),
            (
                |staging| {
                    staging.complete().unwrap();
                    staging.swap().unwrap();
                    staging.name_old().unwrap();
                },
                "new",
            ),
        ];
        for (steps, there) in steps {
            let directory = tempfile::tempdir().unwrap();
            let target = old(directory.path());
            let mut staging = staged(&target);
            steps(&staging);
            // As the kernel does it: locks go, files stay.
            staging.placed = true;
            drop(staging);
            assert_eq!(who(&target), there);
            // Nothing that was somebody's is lost, whatever is tried next.
            let again = staged(&target).put_in_place().unwrap().unwrap();
            assert_eq!((who(&target).as_str(), who(&again).as_str()), ("new", there));
            let all: Vec<String> = names(directory.path())
                .iter()
                .map(|name| who(&directory.path().join(name)))
                .collect();
            assert!(all.contains(&"old".to_owned()), "{all:?}");
        }
    }

    #[test]
    fn what_fails_leaves_nothing_and_what_is_in_use_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = old(directory.path());
        drop(staged(&target));
        assert_eq!(names(directory.path()), ["data"]);
        let held = staged(&target);
        let refused = format!("{:#}", Staging::begin(&target).unwrap_err());
        assert!(refused.contains("is in use by process"), "{refused}");
        drop(held);
    }
}
