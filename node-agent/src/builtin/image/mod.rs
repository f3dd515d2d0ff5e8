//! The image store of the built-in runtime: what `docker save`, an OCI layout or a registry gave, unpacked and ready
//! to be the lower layers of an overlay.
//!
//! * On disk below one directory: `index.json` (images by id), `blobs/sha256/` (manifests and configs, by digest),
//!   `layers/<id>/` (unpacked layers, each one a lower directory) with `layers/<id>.json` beside it (written last: a
//!   layer without it does not exist), `ingest/` (work in progress, emptied at start).
//! * Several processes may use one store at once (`quorate agent images import` beside a running agent): changes of the
//!   index happen under a file lock and read the index anew.
//! * Nothing is believed that was not hashed: blobs by digest, layers by `diff_id`.
//! * Start reading at [`ImageStore`].

pub mod archive;
pub mod config;
mod disk;
pub mod pull;
pub mod reference;
mod store;
pub mod unpack;

pub use config::ImageConfig;
pub use reference::Reference;
pub use store::{ImageRecord, ImageStore, LayerRecord};

use std::path::{Path, PathBuf};

/// Why an image could not be read, pulled or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried ("cannot read", …).
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The image itself is not as it must be.
    #[error("{0}")]
    Invalid(String),
    /// Content differs from its digest.
    #[error("{what} has digest {found}, not {expected}")]
    Digest {
        /// What was hashed.
        what: String,
        /// The digest it should have.
        expected: String,
        /// The digest it has.
        found: String,
    },
    /// The registry answered no: unknown image, wrong credentials.
    #[error("{0}")]
    Refused(String),
    /// The registry could not be reached or broke down.
    #[error("{0}")]
    Unreachable(String),
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }
}

/// The message with its causes, for errors that cross into [`crate::runtime::Error`], whose texts are final.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<Error> for crate::runtime::Error {
    fn from(err: Error) -> Self {
        let text = chain(&err);
        match err {
            Error::Refused(_) | Error::Invalid(_) | Error::Digest { .. } => Self::ImagePull(text),
            Error::Unreachable(_) => Self::RegistryUnavailable(text),
            Error::Io { .. } => Self::Other(text),
        }
    }
}

/// The result of an image operation.
pub type Result<T> = std::result::Result<T, Error>;
