//! What a runtime may answer when it cannot do as asked.

use std::time::Duration;

/// Why a runtime call failed. The pod lifecycle decides by variant: it never looks into a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox, container or image does not exist. Removing or stopping such a thing is *not* an error:
    /// implementations answer `Ok` there, as CRI asks.
    #[error("{0} not found")]
    NotFound(String),
    /// The runtime does not answer at all (socket gone, process dead, connection broken). Worth trying again.
    #[error("container runtime is unavailable: {0}")]
    Unavailable(String),
    /// The call took longer than its deadline. What happened to its effect is unknown: look before trying again.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// The request itself is wrong (a field the runtime cannot honour, a missing host path …). Trying again with the
    /// same configuration cannot help.
    #[error("{0}")]
    Invalid(String),
    /// The registry has no such image or tag, or refused the credentials. `ErrImagePull` with this message.
    #[error("{0}")]
    ImagePull(String),
    /// The registry could not be reached. `ErrImagePull`, reason `RegistryUnavailable` in events.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// The process could not be started (no such executable, no permission, bad user). `RunContainerError` or
    /// `StartError`, with this message.
    #[error("{0}")]
    Start(String),
    /// A streaming or protocol error between the agent and the runtime.
    #[error("stream to the runtime: {0}")]
    Stream(#[source] std::io::Error),
    /// The runtime has no such ability (for example attach to a container without stdin on some runtimes).
    #[error("the runtime does not support {0}")]
    Unsupported(&'static str),
    /// Everything else, in the runtime's own words.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// Whether the same call may succeed later without any change of its input.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unavailable(_)
            | Error::Timeout(_)
            | Error::ImagePull(_)
            | Error::RegistryUnavailable(_)
            | Error::Start(_)
            | Error::Stream(_)
            | Error::Other(_) => true,
            Error::NotFound(_) | Error::Invalid(_) | Error::Unsupported(_) => false,
        }
    }

    /// Whether the thing asked about does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound(_))
    }
}

/// The result of a runtime call.
pub type Result<T> = std::result::Result<T, Error>;
