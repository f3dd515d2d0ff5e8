//! ReplicationController: a ReplicaSet with another selector and without a count of pods that are terminating.

use quorate_state_machine::Key;

use super::replica_set::{self, Kind};
use crate::plan::{Ctx, Plan};

const REPLICATION_CONTROLLER: Kind = Kind {
    api_version: "v1",
    kind: "ReplicationController",
    component: "replication-controller",
    tells_terminating: false,
};

/// What is to be done for one ReplicationController.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    match ctx.world.replication_controllers.get(&key.object) {
        Some(found) => {
            replica_set::plan_for(ctx, &REPLICATION_CONTROLLER, &found.object.0, &found.stored)
        }
        None => Plan::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::resources::{PODS, REPLICATION_CONTROLLERS};
    use crate::testing::{Cluster, text};

    fn controller(replicas: i32) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ReplicationController",
            "metadata": { "name": "rc", "namespace": "default" },
            "spec": {
                "replicas": replicas,
                "selector": { "app": "web" },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "c" }] },
                },
            },
            "status": { "replicas": 0 },
        })
    }

    #[tokio::test]
    async fn it_keeps_its_number_of_pods_and_adopts() {
        let mut cluster = Cluster::new().await;
        cluster
            .put(
                PODS,
                json!({"apiVersion": "v1", "kind": "Pod", "spec": {},
                "metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "web"}}}),
            )
            .await;
        cluster.put(REPLICATION_CONTROLLERS, controller(3)).await;
        cluster.settle().await;
        let pods = cluster.list(PODS);
        assert_eq!(pods.len(), 3, "one was there");
        for pod in &pods {
            let owner = &pod["metadata"]["ownerReferences"][0];
            assert_eq!(
                (text(&owner["apiVersion"]), text(&owner["kind"])),
                ("v1".into(), "ReplicationController".into())
            );
        }
        cluster.run_pods(3).await;
        cluster.settle().await;
        let found = cluster.get(REPLICATION_CONTROLLERS, "default", "rc").unwrap();
        let expected = json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3, "observedGeneration": 1});
        assert_eq!(found["status"], expected);
        cluster
            .edit(REPLICATION_CONTROLLERS, "default", "rc", |rc| rc["spec"]["replicas"] = json!(1))
            .await;
        cluster.settle().await;
        cluster.run_pods(0).await;
        cluster.settle().await;
        assert_eq!(cluster.list(PODS).len(), 1);
        cluster.delete(REPLICATION_CONTROLLERS, "default", "rc", None, "Background").await;
        cluster.settle().await;
        cluster.run_pods(0).await;
        cluster.settle().await;
        assert!(cluster.list(PODS).is_empty(), "they go with it");
    }
}
