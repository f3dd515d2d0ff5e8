//! `Create`: a new object.
//!
//! Precondition: no object of this name; in a namespace, that namespace exists with the uid that the
//! proposer saw and is not being deleted (Kubernetes' NamespaceLifecycle, decided here so that it
//! cannot race with the namespace's deletion); no other object holds one of its claims. Effect: the
//! object is there. Changes: one `Created`.

use super::{Outcome, change, refuse_image};
use crate::history::ChangeKind;
use crate::names::{GroupResource, Key, ObjectKey};
use crate::object::Image;
use crate::view::View;

pub(super) fn run(view: &mut View, key: &Key, image: &Image, namespace: Option<&str>) -> Outcome {
    if let Some(uid) = namespace
        && let Some(refusal) = refuse_namespace(view, &key.object, uid)
    {
        return refusal;
    }
    if let Some(existing) = view.get(key) {
        return Outcome::AlreadyExists(existing.revision);
    }
    if let Some(refusal) = refuse_image(view, key, image) {
        return refusal;
    }
    change(view, key, ChangeKind::Created, Some(image))
}

fn refuse_namespace(view: &View, object: &ObjectKey, uid: &str) -> Option<Outcome> {
    let namespace = Key {
        resource: GroupResource::namespaces(),
        object: ObjectKey { namespace: "".into(), name: object.namespace.clone() },
    };
    match view.get(&namespace) {
        Some(found) if found.uid() != uid => Some(Outcome::NamespaceGone),
        Some(found) if found.image.header.deletion.is_some() => Some(Outcome::NamespaceTerminating),
        Some(_) => None,
        None => Some(Outcome::NamespaceGone),
    }
}
