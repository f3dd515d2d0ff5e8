//! How a write that does not come over HTTP becomes an operation.
//!
//! Controllers and scheduler make whole objects; before one is proposed it needs what every write
//! needs: defaults, validation, admission (a pod made by a ReplicaSet gets its service account's token
//! volume like any other), uid and time, canonical bytes. The API server has all that and implements
//! [`Admit`]; the binary hands it to the controllers, which so need not know the API server.

use std::sync::Arc;

use async_trait::async_trait;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Op, View};

/// A write as its maker thinks of it.
#[derive(Debug, Clone)]
pub enum Write {
    /// A new object. `metadata.namespace`, `name` (or `generateName`) are in it.
    Create {
        /// Which resource.
        resource: GroupResource,
        /// The whole object with apiVersion and kind.
        object: serde_json::Value,
    },
    /// A new version of what is stored.
    Update {
        /// The exact version that the new one was computed from.
        stored: StoredRef,
        /// The whole object.
        object: serde_json::Value,
        /// "" for the object itself, or "status", or "finalize" (a namespace's `spec.finalizers`).
        /// An update that leaves a deleted object without anything to wait for is its deletion.
        subresource: &'static str,
    },
    /// The object is to go: at once, or by its finalizers and grace period, as the API would do it.
    Delete {
        /// The exact version that was looked at; its uid and revision become preconditions.
        stored: StoredRef,
        /// Seconds; `None` for the kind's default.
        grace_period_seconds: Option<i64>,
        /// "Background", "Foreground" or "Orphan".
        propagation: &'static str,
    },
}

/// Why a write was refused: the `Status` that a client would have got.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refused {
    /// Machine-readable reason, such as `Invalid` or `Forbidden`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// HTTP code.
    pub code: u16,
}

/// Turns writes into operations. Implemented by the API server.
#[async_trait]
pub trait Admit: Send + Sync + 'static {
    /// The operation that the write comes to, or `None` when it would change nothing. For the masters' own records, and
    /// what they note for nodes: no webhook is asked, so that this never waits for anybody.
    ///
    /// # Errors
    /// [`Refused`] when validation or admission refuses the write.
    async fn admit(
        &self,
        view: &Arc<View>,
        user: &str,
        write: Write,
    ) -> Result<Option<Op>, Refused>;

    /// All operations that the write comes to, to be proposed as one transaction: beside its own those that charge it
    /// to quotas. Empty when it would change nothing. Webhooks are asked about it, which may take long. Who needs
    /// neither asks [`Admit::admit`].
    ///
    /// # Errors
    /// As [`Admit::admit`].
    async fn admit_whole(
        &self,
        view: &Arc<View>,
        user: &str,
        write: Write,
    ) -> Result<Vec<Op>, Refused> {
        Ok(self.admit(view, user, write).await?.into_iter().collect())
    }
}
