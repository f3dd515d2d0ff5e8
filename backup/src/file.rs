//! Backups on a disk: for their owner only, whole under their name or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::Error;
use crate::header::Header;
use crate::limits::COPY_BYTES;
use crate::read::{Backup, read_end, read_header};

/// How all their names end.
pub const EXTENSION: &str = "backup";

/// How the name of a file ends that is being written.
const UNFINISHED: &str = "part";

/// The name for a backup: files of one kind stand in the order of their time.
#[must_use]
pub fn name(kind: &str, made_at: Timestamp) -> String {
    format!("{kind}-{}.{EXTENSION}", made_at.strftime("%Y%m%dT%H%M%SZ"))
}

/// A file that is being written beside its name. Dropped before it is finished, it goes.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    beside: PathBuf,
    out: Option<BufWriter<File>>,
}

impl Draft {
    /// Begins one.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!("{name}.{UNFINISHED}"));
        // What somebody else has put there would keep his mode, and may be a link to elsewhere.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        let out = Some(BufWriter::with_capacity(COPY_BYTES, file));
        Ok(Self { path: path.to_owned(), beside, out })
    }

    /// Checks all that was written, and gives the file its name: nothing that is not whole ever has it. Blocks.
    ///
    /// # Errors
    /// [`Error`]: nothing has the name then, or what had it before.
    pub fn finish(mut self) -> Result<Backup<File>, Error> {
        if let Some(out) = self.out.as_mut() {
            out.flush()?;
            out.get_ref().sync_all()?;
        }
        let backup = Backup::check(File::open(&self.beside)?)?;
        fs::rename(&self.beside, &self.path)?;
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        self.out = None;
        Ok(backup)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.as_mut() {
            Some(out) => out.write(bytes),
            None => Err(io::Error::other("the file is finished")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.out.is_some() {
            // Of no use; what failed is what counts.
            drop(fs::remove_file(&self.beside));
        }
    }
}

/// Reads and checks a file. Blocks.
///
/// # Errors
/// [`Error`].
pub fn open(path: &Path) -> Result<Backup<File>, Error> {
    Backup::check(File::open(path)?)
}

/// One file of a directory.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it says of itself, or why that cannot be read.
    pub header: Result<Header, Error>,
}

/// The backups of a directory, oldest first. Only what they say of themselves is read, and whether they are cut off.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<Listed>> {
    let mut all = Vec::new();
    for item in fs::read_dir(directory)? {
        let item = item?;
        let path = item.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let file = File::open(&path);
        let bytes = file.as_ref().ok().and_then(|file| file.metadata().ok());
        all.push(Listed {
            name: item.file_name().to_string_lossy().into_owned(),
            bytes: bytes.map_or(0, |meta| meta.len()),
            header: file.map_err(Error::from).and_then(|mut file| {
                let header = read_header(&mut file)?;
                read_end(&mut file)?;
                Ok(header)
            }),
        });
    }
    sort(&mut all);
    Ok(all)
}

/// The oldest first.
pub fn sort(all: &mut [Listed]) {
    let made_at = |one: &Listed| one.header.as_ref().ok().map(|header| header.made_at);
    all.sort_by(|a, b| (made_at(a), &a.name).cmp(&(made_at(b), &b.name)));
}

/// Which of the files of a kind have to go so that the newest `keep` of one master of a cluster stay. Others' are not
/// touched, nor what cannot be read. One that says it is made after `now` counts as the oldest: a clock was wrong.
#[must_use]
pub fn surplus(
    all: &[Listed],
    kind: &str,
    own: (&str, &str),
    (keep, now): (usize, Timestamp),
) -> Vec<String> {
    let prefix = format!("{kind}-");
    let is_own = |one: &&Listed| {
        one.name.starts_with(&prefix)
            && one.header.as_ref().is_ok_and(|header| {
                (header.cluster_id.as_str(), header.made_by.name.as_str()) == own
            })
    };
    let is_late = |one: &&Listed| one.header.as_ref().is_ok_and(|header| header.made_at > now);
    let (late, past): (Vec<&Listed>, Vec<&Listed>) = all.iter().filter(is_own).partition(is_late);
    let names: Vec<String> = late.into_iter().chain(past).map(|one| one.name.clone()).collect();
    names[..names.len().saturating_sub(keep)].to_vec()
}

fn is_of(path: &Path, kind: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&format!("{kind}-"))
}

/// Removes what writers have left that were ended in the middle. Only the one writer of a directory may call it.
///
/// # Errors
/// When the directory cannot be read, or a file not be removed.
pub fn remove_unfinished(directory: &Path, kind: &str) -> io::Result<()> {
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let unfinished = path.extension().is_some_and(|extension| extension == UNFINISHED);
        let whole = name.map(|name| name.len());
        let own = format!("{kind}-00000000T000000Z.{EXTENSION}.{UNFINISHED}").len();
        if unfinished && is_of(&path, kind) && whole == Some(own) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::header::{FORMAT, Maker, Network};

    fn header(master: &str, second: u32) -> Header {
        let text = String::new;
        Header {
            format: FORMAT,
            cluster_id: "c1".to_owned(),
            made_at: format!("2026-03-01T12:00:{second:02}Z").parse().unwrap(),
            made_by: Maker { name: master.to_owned(), node_id: 1, version: text() },
            revision: 1,
            index: 1,
            term: 1,
            level: 1,
            state_hash: text(),
            objects: 0,
            network: Network { service_cidr: text(), cluster_cidr: text(), cluster_domain: text() },
            authority: text(),
            keys: None,
        }
    }

    fn save(directory: &Path, kind: &str, header: &Header) {
        let kind = format!("{kind}-{}", header.made_by.name);
        let path = directory.join(name(&kind, header.made_at));
        let mut draft = Draft::begin(&path).unwrap();
        crate::write(&mut draft, header, |out| out.write_all(b"state")).unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    fn now() -> Timestamp {
        "2026-03-01T13:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_a_wrong_clock_has_made_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let late = Header { made_at: "2030-01-01T00:00:00Z".parse().unwrap(), ..header("m1", 0) };
        for header in [&late, &header("m1", 1), &header("m1", 2)] {
            save(path, "scheduled", header);
        }
        let all = list(path).unwrap();
        let gone = surplus(&all, "scheduled-m1", ("c1", "m1"), (2, now()));
        assert_eq!(gone, ["scheduled-m1-20300101T000000Z.backup"]);
    }

    #[test]
    fn what_somebody_has_put_there_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (theirs, path) = (directory.path().join("theirs"), directory.path().join("x.backup"));
        fs::write(&theirs, "theirs").unwrap();
        std::os::unix::fs::symlink(&theirs, directory.path().join("x.backup.part")).unwrap();
        let mut draft = Draft::begin(&path).unwrap();
        crate::write(&mut draft, &header("m1", 1), |out| out.write_all(b"state")).unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_newest_of_ones_own_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for second in [4, 1, 3, 2] {
            save(path, "scheduled", &header("m1", second));
        }
        save(path, "scheduled", &header("m2", 0));
        save(path, "saved", &header("m1", 0));
        save(path, "scheduled", &Header { cluster_id: "c2".to_owned(), ..header("m1", 0) });
        fs::write(path.join("scheduled-m1-x.backup"), "no backup").unwrap();
        let all = list(path).unwrap();
        assert_eq!(all.len(), 8);
        assert_eq!(
            surplus(&all, "scheduled-m1", ("c1", "m1"), (2, now())),
            ["scheduled-m1-20260301T120001Z.backup", "scheduled-m1-20260301T120002Z.backup"]
        );
        assert!(surplus(&all, "scheduled-m1", ("c1", "m1"), (4, now())).is_empty());
        assert!(surplus(&all, "scheduled-m3", ("c1", "m3"), (0, now())).is_empty());
    }

    #[test]
    fn what_is_not_whole_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduled-20260301T120000Z.backup");
        let mut draft = Draft::begin(&path).unwrap();
        draft.write_all(b"QRBACK01 and no more").unwrap();
        assert!(draft.finish().is_err());
        let mut draft = Draft::begin(&path).unwrap();
        draft.write_all(b"a writer that was killed").unwrap();
        std::mem::forget(draft);
        assert_eq!(list(directory.path()).unwrap().len(), 0);
        remove_unfinished(directory.path(), "scheduled").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
