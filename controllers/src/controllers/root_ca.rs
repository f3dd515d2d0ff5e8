//! Root CA publisher: the ConfigMap `kube-root-ca.crt` in each namespace, by which pods trust the
//! API.

use quorate_state_machine::Key;
use serde_json::json;

use crate::model::to_value;
use crate::plan::{Ctx, Plan};
use crate::resources::CONFIG_MAPS;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when \
                           using internal endpoints such as the internal service IP or \
                           kubernetes.default.svc. No other usage is guaranteed across \
                           distributions of Kubernetes clusters.";

/// What is to be done for one namespace.
pub(super) fn plan(ctx: &Ctx<'_>, namespace: &Key) -> Plan {
    let mut plan = Plan::default();
    let alive =
        ctx.world.get(namespace).is_some_and(|stored| stored.image.header.deletion.is_none());
    if !alive || ctx.config.root_ca_pem.is_empty() {
        return plan;
    }
    let data = json!({ "ca.crt": ctx.config.root_ca_pem });
    let name = &namespace.object.name;
    match ctx.world.get(&CONFIG_MAPS.key(name, NAME)) {
        None => {
            plan.create(
                CONFIG_MAPS.group_resource(),
                json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": NAME,
                        "namespace": &**name,
                        "annotations": { "kubernetes.io/description": DESCRIPTION },
                    },
                    "data": data,
                }),
            );
        }
        Some(stored) => {
            let mut object = to_value(stored);
            if object["data"] != data {
                object["data"] = data;
                object["metadata"]["annotations"]["kubernetes.io/description"] = json!(DESCRIPTION);
                plan.update(stored, object, "");
            }
        }
    }
    plan
}
