//! Service account: a `default` one in each namespace that is not being deleted.

use quorate_state_machine::Key;
use serde_json::json;

use crate::plan::{Ctx, Plan};
use crate::resources::SERVICE_ACCOUNTS;

/// What is to be done for one namespace.
pub(super) fn plan(ctx: &Ctx<'_>, namespace: &Key) -> Plan {
    let mut plan = Plan::default();
    let alive =
        |key: &Key| ctx.world.get(key).is_some_and(|stored| stored.image.header.deletion.is_none());
    let name = &namespace.object.name;
    if alive(namespace) && ctx.world.get(&SERVICE_ACCOUNTS.key(name, "default")).is_none() {
        plan.create(
            SERVICE_ACCOUNTS.group_resource(),
            json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": { "name": "default", "namespace": &**name },
            }),
        );
    }
    plan
}
