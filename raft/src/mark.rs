//! Marks in a master's directory: it must not start again, and why. Written once, never taken away by this crate.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use quorate_mutants::{self as mutants, Mutant};

use crate::error::StartError;
use crate::log::directory;

/// Why a directory is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Its files are of an earlier time.
    WentBack,
    /// The others have removed the master.
    Removed,
}

impl Mark {
    const ALL: [Self; 2] = [Self::WentBack, Self::Removed];

    fn file(self) -> &'static str {
        match self {
            Self::WentBack => "went-back",
            Self::Removed => "removed",
        }
    }

    fn refusal(self, problem: String) -> StartError {
        match self {
            Self::WentBack => StartError::WentBack { problem },
            Self::Removed => StartError::Removed { problem },
        }
    }

    /// Marks a directory, whole or not at all, so that it stays marked after a power loss. Blocks for a moment.
    pub(crate) fn set(self, directory: &Path, problem: &str) -> io::Result<()> {
        let path = directory.join(self.file());
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(problem.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        directory::sync(directory)
    }

    /// Refuses a directory that is marked.
    pub(crate) fn refuse_any(directory: &Path) -> Result<(), StartError> {
        for mark in Self::ALL {
            if mark == Self::Removed && mutants::is(Mutant::RemovedReturns) {
                continue;
            }
            let path = directory.join(mark.file());
            match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StartError::Io { path, action: "read", source }),
                Ok(problem) => return Err(mark.refusal(problem.trim().to_owned())),
            }
        }
        Ok(())
    }
}
