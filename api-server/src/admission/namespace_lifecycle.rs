//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going away, and
//! some namespaces never go. The state machine decides the same once more, by the namespace's uid.

use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::{Key, View};

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::status_error::Answer;

/// Namespaces that are never deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn mutate(&self, ctx: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if draft.operation != Operation::Create || draft.namespace.is_empty() {
            return Ok(());
        }
        let namespaces = GroupResource::new("", "namespaces");
        match ctx.view.get(&Key::new("", "namespaces", "", &draft.namespace)) {
            None => Err(Box::new(Status::not_found(namespaces, &draft.namespace))),
            Some(found) if found.image.header.deletion.is_some() => Err(Box::new(
                Status::namespace_terminating(draft.resource(), &draft.name, &draft.namespace),
            )),
            Some(_) => Ok(()),
        }
    }

    fn validate(&self, _: &Context<'_>, _: &Identity, draft: &Draft) -> Answer<()> {
        if draft.operation == Operation::Delete
            && draft.is("", "namespaces")
            && IMMORTAL.contains(&draft.name.as_str())
        {
            return Err(draft.forbidden("this namespace may not be deleted"));
        }
        Ok(())
    }
}

/// uid of a namespace as this master knows it; an unknown one gets "", which the state machine
/// refuses. `None` for cluster-scoped objects.
pub(super) fn uid(view: &View, namespace: &str) -> Option<String> {
    (!namespace.is_empty()).then(|| {
        view.get(&Key::new("", "namespaces", "", namespace))
            .map(|found| found.uid().to_owned())
            .unwrap_or_default()
    })
}
