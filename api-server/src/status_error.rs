//! The one place where errors become the `Status` that a client gets.

use quorate_api::status::{GroupResource, OBJECT_MODIFIED, Status};
use quorate_state_machine::Outcome;
use quorate_store::Error as StoreError;

/// Clients ask again after this: another master, or this one when it is healed.
const ELSEWHERE_RETRY_SECONDS: u32 = 1;

/// A refused request: the `Status` to answer with. Boxed, because errors travel by value.
pub type Refusal = Box<Status>;

/// What a stage gives: its result, or the `Status` to answer with.
pub type Answer<T> = Result<T, Refusal>;

/// What the store could not do.
#[must_use]
pub fn of_store(error: &StoreError) -> Refusal {
    Box::new(match error {
        StoreError::Unavailable { .. } | StoreError::Stopped { .. } | StoreError::Deposed => {
            Status::service_unavailable(error.to_string())
        }
        // Nothing was done, so that client-go itself asks again, and finds another master.
        StoreError::Damaged { .. } | StoreError::Leaving { .. } => {
            Status::service_unavailable(error.to_string()).retry_after(ELSEWHERE_RETRY_SECONDS)
        }
        // The master's disk is full: deletes are still taken.
        StoreError::NoSpace { .. } => Status::internal_error(&error.to_string()),
        StoreError::Unknown { .. } => Status::timeout(&error.to_string(), 0),
        StoreError::Overloaded => {
            Status::too_many_requests("Too many requests, please try again later.", 1)
        }
        StoreError::FutureRevision { asked, current } => {
            Status::too_large_resource_version(asked.0, current.0)
        }
        StoreError::Expired(expired) => {
            Status::too_old_resource_version(expired.asked.0, expired.compacted.0)
        }
        StoreError::TooLarge(_) => too_large(),
    })
}

/// An object beyond what the store takes. kube-apiserver passes on what etcd says, without a reason of
/// its own.
fn too_large() -> Status {
    Status::unexplained("etcdserver: request is too large")
}

/// What an operation came to, when it did not take effect. `None`: it did.
#[must_use]
pub fn of_outcome(
    outcome: &Outcome,
    resource: GroupResource<'_>,
    namespace: &str,
    name: &str,
) -> Option<Refusal> {
    Some(Box::new(match outcome {
        Outcome::Done(_) => return None,
        Outcome::AlreadyExists(_) => Status::already_exists(resource, name),
        Outcome::NotFound => Status::not_found(resource, name),
        Outcome::Conflict(_) | Outcome::Aborted => {
            Status::conflict(resource, name, OBJECT_MODIFIED)
        }
        Outcome::OtherUid(have) => Status::delete_uid_conflict(resource, name, "", have),
        Outcome::NamespaceGone => {
            Status::not_found(GroupResource::new("", "namespaces"), namespace)
        }
        Outcome::NamespaceTerminating => Status::namespace_terminating(resource, name, namespace),
        Outcome::ClaimTaken { claim, .. } => {
            Status::conflict(resource, name, &format!("{claim} is already allocated"))
        }
        Outcome::TooLarge(_) => too_large(),
    }))
}
