//! ResourceQuota: what is made is charged to the quotas of its namespace, in the log entry that makes it.
//!
//! The write and the new `status.used` of each quota that it counts for are one transaction, and each part names the
//! version that it was computed from. So however many masters create at the same time, a quota is never exceeded:
//! whoever comes second is refused by the state machine, and computes anew. The controller counts anew what is there,
//! also at an exact version, and so frees what is deleted.
//!
//! A master that has not heard of a new quota yet charges nothing to it. What came so is counted all the same, as with
//! Kubernetes.

use quorate_api::quota::{self, Attempt};
use quorate_api::resource::ResourceDef;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Op, View};
use serde_json::Value;

use super::{Context, Draft, Operation};
use crate::model;
use crate::status_error::Answer;

/// Whether what is made of a resource in a namespace may be charged to a quota.
pub(crate) fn has_quotas(view: &View, def: &ResourceDef, namespace: &str) -> bool {
    let counts = |quota: &Value| {
        let names = quota["status"]["hard"].as_object().into_iter().flatten();
        names.into_iter().any(|(name, _)| quota::tracks(def.group(), def.plural, name))
    };
    !namespace.is_empty()
        && stored(view, namespace)
            .filter_map(|stored| serde_json::from_slice(&stored.image.bytes).ok())
            .any(|quota| counts(&quota))
}

fn stored<'a>(view: &'a View, namespace: &'a str) -> impl Iterator<Item = &'a StoredRef> {
    let all = view.resource(&GroupResource::new("", "resourcequotas"));
    all.into_iter().flat_map(move |all| all.range(namespace, None))
}

/// Which writes count: whatever is made, and changes of what can count for more afterwards.
fn counts(draft: &Draft) -> bool {
    match (draft.operation, draft.sub) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => {
            draft.is("", "services") || draft.is("", "persistentvolumeclaims")
        }
        (Operation::Update, "status") => draft.is("", "persistentvolumeclaims"),
        (Operation::Update, "resize") => draft.is("", "pods"),
        _ => false,
    }
}

/// The writes that charge a draft to the quotas of its namespace. 403 when it does not fit.
pub(super) fn charge(ctx: &Context<'_>, draft: &Draft) -> Answer<Vec<Op>> {
    if draft.namespace.is_empty() || !counts(draft) {
        return Ok(Vec::new());
    }
    let stored: Vec<&StoredRef> = stored(ctx.view, &draft.namespace).collect();
    if stored.is_empty() {
        return Ok(Vec::new());
    }
    let Some(def) = model::owner_of(&stored[0].key.resource) else { return Ok(Vec::new()) };
    let mut quotas = Vec::with_capacity(stored.len());
    for one in &stored {
        quotas.push(model::tree(def, one)?);
    }
    let attempt = Attempt {
        group: draft.def.group(),
        plural: draft.def.plural,
        object: &draft.object,
        old: (!draft.old.is_null()).then_some(&draft.old),
        now: ctx.now,
    };
    let changes = quota::charge(&quotas, &attempt).map_err(|why| draft.forbidden(&why))?;
    let mut ops = Vec::new();
    for ((stored, mut object), used) in stored.into_iter().zip(quotas).zip(changes) {
        if used.is_empty() {
            continue;
        }
        for (name, amount) in used {
            object["status"]["used"][name] = Value::String(amount.to_string());
        }
        crate::stamp::metadata(&mut object).remove("resourceVersion");
        let image = model::image(def, &object, stored.image.header.claims.clone())?;
        ops.push(Op::Update { key: stored.key.clone(), expect: stored.revision, image });
    }
    Ok(ops)
}
