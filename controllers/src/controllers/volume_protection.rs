//! Claims that pods use, and volumes that claims use, stay until they are no longer used.
//!
//! Desired: the finalizer `kubernetes.io/pvc-protection` on each claim, and `kubernetes.io/pv-protection` on each
//! volume, but for those that are being deleted and that nobody uses. Writes: these finalizers. New ones have them
//! from admission.

use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;
use serde_json::{Value, json};

use crate::model::to_value;
use crate::plan::{Ctx, Plan};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// What is to be done for one claim.
pub(super) fn plan_claim(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    if let Some(stored) = ctx.world.get(key) {
        protect(stored, CLAIM, || is_claimed(ctx, stored), &mut plan);
    }
    plan
}

/// What is to be done for one volume.
pub(super) fn plan_volume(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    if let Some(stored) = ctx.world.get(key) {
        protect(stored, VOLUME, || to_value(stored)["status"]["phase"] == "Bound", &mut plan);
    }
    plan
}

fn protect(stored: &StoredRef, finalizer: &str, used: impl Fn() -> bool, plan: &mut Plan) {
    let header = &stored.image.header;
    let protected = header.finalizers.iter().any(|one| one == finalizer);
    let going = header.deletion.is_some();
    if protected != going || (going && used()) {
        return;
    }
    let mut object = to_value(stored);
    let mut names = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if going {
        names.retain(|one| one != finalizer);
    } else {
        names.push(json!(finalizer));
    }
    if names.is_empty() {
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove("finalizers");
        }
    } else {
        object["metadata"]["finalizers"] = Value::Array(names);
    }
    plan.update(stored, object, "");
}

/// Whether a pod that is on a node names the claim. Nodes start no pod with a claim that is being deleted.
fn is_claimed(ctx: &Ctx<'_>, claim: &StoredRef) -> bool {
    let name = &*claim.key.object.name;
    let pods = ctx.world.pods_in(&claim.key.object.namespace);
    pods.iter().filter(|pod| !pod.object.spec.node_name.is_empty()).any(|pod| {
        let object = to_value(&pod.stored);
        let meta = &pod.object.metadata;
        let owns = claim.image.header.owners.contains(&meta.uid);
        object["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| {
            let own = volume["name"].as_str().unwrap_or_default();
            volume["persistentVolumeClaim"]["claimName"] == *name
                || (!volume["ephemeral"].is_null()
                    && owns
                    && !pod.object.ended()
                    && format!("{}-{own}", meta.name) == *name)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::resources::{CLAIMS, PODS, VOLUMES};
    use crate::testing::Cluster;

    fn finalizers(object: &Value) -> Value {
        object["metadata"]["finalizers"].clone()
    }

    #[tokio::test]
    async fn a_claim_stays_while_a_pod_on_a_node_uses_it() {
        let mut cluster = Cluster::new().await;
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "namespace": "default"}});
        cluster.put(CLAIMS, claim).await;
        cluster.put_node("n1", json!({})).await;
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": "n1", "containers": [],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
        cluster.put(PODS, pod).await;
        cluster.settle().await;
        let found = cluster.get(CLAIMS, "default", "c").unwrap();
        assert_eq!(finalizers(&found), json!(["kubernetes.io/pvc-protection"]));
        cluster.delete(CLAIMS, "default", "c", None, "Background").await;
        cluster.settle().await;
        assert!(cluster.get(CLAIMS, "default", "c").is_some(), "the pod uses it");
        cluster.delete(PODS, "default", "p", Some(0), "Background").await;
        cluster.settle().await;
        assert!(cluster.get(CLAIMS, "default", "c").is_none());
    }

    #[tokio::test]
    async fn a_volume_stays_while_it_is_bound() {
        let mut cluster = Cluster::new().await;
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "v"}, "status": {"phase": "Bound"}});
        cluster.put(VOLUMES, volume).await;
        cluster.settle().await;
        cluster.delete(VOLUMES, "", "v", None, "Background").await;
        cluster.settle().await;
        let found = cluster.get(VOLUMES, "", "v").unwrap();
        assert_eq!(finalizers(&found), json!(["kubernetes.io/pv-protection"]));
        cluster.edit(VOLUMES, "", "v", |v| v["status"]["phase"] = json!("Released")).await;
        cluster.settle().await;
        assert!(cluster.get(VOLUMES, "", "v").is_none());
    }
}
