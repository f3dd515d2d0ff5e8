//! Priority: a pod's number and preemption policy follow from the name of its class.

use quorate_state_machine::{GroupResource, Key};
use serde_json::{Value, json};

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::model::text;
use crate::status_error::Answer;

const GROUP: &str = "scheduling.k8s.io";

pub(super) struct Priority;

impl Plugin for Priority {
    fn mutate(&self, ctx: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if !draft.is("", "pods") || !draft.sub.is_empty() || !draft.object["spec"].is_object() {
            return Ok(());
        }
        match draft.operation {
            Operation::Create => set(ctx, draft),
            Operation::Update => {
                for field in ["priority", "preemptionPolicy"] {
                    if draft.object["spec"][field].is_null() && !draft.old["spec"][field].is_null()
                    {
                        draft.object["spec"][field] = draft.old["spec"][field].clone();
                    }
                }
                Ok(())
            }
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    fn validate(&self, ctx: &Context<'_>, _: &Identity, draft: &Draft) -> Answer<()> {
        if draft.operation == Operation::Delete
            || !draft.is(GROUP, "priorityclasses")
            || draft.object["globalDefault"] != true
        {
            return Ok(());
        }
        let classes = ctx.view.resource(&GroupResource::new(GROUP, "priorityclasses"));
        for class in classes.into_iter().flat_map(|classes| classes.iter()) {
            let other: Value = serde_json::from_slice(&class.image.bytes).unwrap_or_default();
            if other["globalDefault"] == true && *class.key.object.name != *draft.name {
                return Err(draft.forbidden(&format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    class.key.object.name
                )));
            }
        }
        Ok(())
    }
}

fn set(ctx: &Context<'_>, draft: &mut Draft) -> Answer<()> {
    let name = text(&draft.object["spec"]["priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        global_default(ctx)
    } else {
        let key = Key::new(GROUP, "priorityclasses", "", &name);
        let Some(stored) = ctx.view.get(&key) else {
            return Err(draft.forbidden(&format!("no PriorityClass with name {name} was found")));
        };
        Some(serde_json::from_slice(&stored.image.bytes).unwrap_or_default())
    };
    let class: Value = class.unwrap_or(Value::Null);
    let value = class["value"].as_i64().unwrap_or(0);
    let policy = match text(&class["preemptionPolicy"]) {
        "" => "PreemptLowerPriority",
        other => other,
    };
    let spec = &mut draft.object["spec"];
    if let Some(given) = spec["priority"].as_i64()
        && given != value
    {
        return Err(draft.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let given = text(&spec["preemptionPolicy"]).to_owned();
    if !given.is_empty() && given != policy {
        return Err(draft.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    if name.is_empty() && !text(&class["metadata"]["name"]).is_empty() {
        spec["priorityClassName"] = class["metadata"]["name"].clone();
    }
    spec["priority"] = json!(value);
    spec["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// The class with `globalDefault`, the lowest one if there should be several.
fn global_default(ctx: &Context<'_>) -> Option<Value> {
    ctx.view
        .resource(&GroupResource::new(GROUP, "priorityclasses"))?
        .iter()
        .filter_map(|stored| serde_json::from_slice::<Value>(&stored.image.bytes).ok())
        .filter(|class| class["globalDefault"] == true)
        .min_by_key(|class| class["value"].as_i64().unwrap_or(0))
}
