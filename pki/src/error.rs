//! What can be wrong with keys, certificates and tokens.

use std::io;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// "read", "write", ….
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or key does not parse, or cannot be made.
    #[error("{what}")]
    Certificate {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate is not what it should be.
    #[error("{0}")]
    Refused(String),
    /// A token does not have the form of a join token.
    #[error(
        "not a join token: {0}. `quorate token create` on a master prints one, \
         of the form abcdef.0123456789abcdef.<sha256 of the cluster CA>"
    )]
    Token(&'static str),
}

impl Error {
    pub(crate) fn certificate(what: impl Into<String>) -> impl FnOnce(rcgen::Error) -> Self {
        let what = what.into();
        move |source| Self::Certificate { what, source }
    }
}
