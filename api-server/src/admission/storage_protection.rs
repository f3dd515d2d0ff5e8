//! StorageObjectInUseProtection: new claims and volumes have the finalizers by which they stay while they are used.

use serde_json::{Value, json};

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::status_error::Answer;

pub(super) struct StorageProtection;

impl Plugin for StorageProtection {
    fn mutate(&self, _: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if draft.operation != Operation::Create || !draft.sub.is_empty() {
            return Ok(());
        }
        let finalizer = if draft.is("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else if draft.is("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else {
            return Ok(());
        };
        let names = &mut draft.object["metadata"]["finalizers"];
        if !names.is_array() {
            *names = json!([]);
        }
        if let Some(names) = names.as_array_mut().filter(|names| !names.contains(&json!(finalizer)))
        {
            names.push(Value::from(finalizer));
        }
        Ok(())
    }
}
