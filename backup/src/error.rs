//! What can be wrong with a backup. A source is never repeated in `Display`; which file it is says the caller.

use std::io;

use crate::header::FORMAT;

/// Why a backup cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not begin like one.
    #[error("it is not a backup")]
    Foreign,
    /// It was written by a version that this one does not know.
    #[error("it is of format {0}, this version knows up to {FORMAT}: use a newer quorate")]
    Newer(u32),
    /// It is not as it was written.
    #[error("it is damaged: {0}. Use another backup")]
    Damaged(String),
    /// The disk said no.
    #[error("it cannot be read or written")]
    Io(#[from] io::Error),
    /// The header cannot be written.
    #[error("its header cannot be written: {0}")]
    Header(String),
    /// The keys in it do not open.
    #[error("{0}")]
    Keys(String),
}

/// A file that does not say what it should.
pub(crate) fn damaged(problem: impl Into<String>) -> Error {
    Error::Damaged(problem.into())
}
