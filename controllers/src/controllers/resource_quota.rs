//! ResourceQuota: what is used of it, counted from what is there.
//!
//! Desired: `status.hard` as in the spec, `status.used` as the objects of the namespace count
//! (`quorate_api::quota`). Writes: both. Admission charges what is made in the same log entry; this frees what is
//! deleted or has ended, and counts what was there before the quota. View and quota are of one revision, and the write
//! names the version that was looked at: what is charged meanwhile is never lost.

use jiff::Timestamp;
use quorate_api::quota::{self, Amounts, Scope, pod::Facts};
use quorate_state_machine::{GroupResource, Key};
use serde_json::{Map, Value, json};

use crate::model::{Pod, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::Object;

/// What is to be done for one quota.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else { return plan };
    let mut object = to_value(stored);
    let hard = &object["spec"]["hard"];
    let names: Vec<String> =
        hard.as_object().into_iter().flatten().map(|(n, _)| n.clone()).collect();
    let counted = count(ctx, &key.object.namespace, &quota::scopes(&object), &names, &mut plan);
    let before = quota::amounts(&object["status"]["used"]);
    // What nobody counts stays as somebody else wrote it.
    let used: Amounts = names
        .iter()
        .filter_map(|name| {
            let amount = counted.get(name).or_else(|| before.get(name))?;
            Some((name.clone(), *amount))
        })
        .collect();
    let same_hard = quota::amounts(hard) == quota::amounts(&object["status"]["hard"]);
    if same_hard && used == before {
        return plan;
    }
    let hard = hard.clone();
    let used: Map<String, Value> =
        used.into_iter().map(|(name, amount)| (name, json!(amount.to_string()))).collect();
    object["status"] = json!({"hard": hard, "used": used});
    plan.update(stored, object, "status");
    plan
}

/// How much of each name is used; names that nothing counts for are missing.
fn count(
    ctx: &Ctx<'_>,
    namespace: &str,
    scopes: &[Scope],
    names: &[String],
    plan: &mut Plan,
) -> Amounts {
    let mut used = Amounts::new();
    let mut resources: Vec<(&str, &str)> = Vec::new();
    for name in names {
        let Some(resource) = quota::resource_of(name) else { continue };
        used.insert(name.clone(), quorate_api::quantity::Quantity::ZERO);
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    let mut add = |amounts: &Amounts| {
        for (name, amount) in amounts {
            if let Some(sum) = used.get_mut(name) {
                *sum += *amount;
            }
        }
    };
    for (group, plural) in resources {
        if (group, plural) == ("", "pods") {
            for pod in ctx.world.pods_in(namespace) {
                let facts = facts(&pod);
                if facts.in_scopes(scopes) {
                    add(facts.usage(ctx.now));
                    stops_by_itself(ctx, facts, plan);
                }
            }
            continue;
        }
        let all = ctx.world.view().resource(&GroupResource::new(group, plural));
        for stored in all.into_iter().flat_map(|all| all.range(namespace, None)) {
            let object = to_value(stored);
            if quota::in_scopes(group, plural, &object, scopes) {
                add(&quota::usage(group, plural, &object, ctx.now));
            }
        }
    }
    used
}

/// What a pod counts for is computed once for a version of it.
fn facts(pod: &Object<Pod>) -> &Facts {
    pod.object.counted.get_or_init(|| Box::new(Facts::of(&to_value(&pod.stored))))
}

fn stops_by_itself(ctx: &Ctx<'_>, facts: &Facts, plan: &mut Plan) {
    let after = facts.gone_at().and_then(|at| Timestamp::from_second(at + 1).ok());
    if let Some(at) = after.filter(|at| *at > ctx.now) {
        plan.wake_at(at, ctx.now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::resources::{PODS, RESOURCE_QUOTAS, Resource, SECRETS};
    use crate::testing::Cluster;

    const DEPLOYMENTS: Resource = Resource("apps", "deployments");

    async fn pod(cluster: &mut Cluster, name: &str, cpu: &str) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}});
        cluster.put(PODS, pod).await;
    }

    fn used(cluster: &Cluster) -> Value {
        cluster.get(RESOURCE_QUOTAS, "default", "q").unwrap()["status"]["used"].clone()
    }

    #[tokio::test]
    async fn what_is_there_is_counted_and_what_goes_is_freed() {
        let mut cluster = Cluster::new().await;
        pod(&mut cluster, "a", "500m").await;
        pod(&mut cluster, "b", "700m").await;
        let hard = json!({"pods": "5", "requests.cpu": "2", "count/pods": "9", "secrets": "3",
            "count/deployments.apps": "1", "example.com/unknown": "1"});
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}});
        cluster.put(RESOURCE_QUOTAS, quota).await;
        cluster.settle().await;
        let quota = cluster.get(RESOURCE_QUOTAS, "default", "q").unwrap();
        assert_eq!(quota["status"]["hard"], hard);
        let expected = json!({"pods": "2", "requests.cpu": "1200m", "count/pods": "2",
            "secrets": "0", "count/deployments.apps": "0"});
        assert_eq!(used(&cluster), expected);
        // One ends, one is deleted.
        cluster.edit(PODS, "default", "a", |pod| pod["status"]["phase"] = json!("Succeeded")).await;
        cluster.settle().await;
        assert_eq!(used(&cluster)["requests.cpu"], "700m");
        assert_eq!(used(&cluster)["count/pods"], "2", "it is still there");
        cluster.delete(PODS, "default", "b", Some(0), "Background").await;
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "default"}});
        cluster.put(SECRETS, secret).await;
        let deployment = crate::testing::deployment(0, "a");
        cluster.put(DEPLOYMENTS, deployment).await;
        cluster.settle().await;
        let expected = json!({"pods": "0", "requests.cpu": "0", "count/pods": "1",
            "secrets": "1", "count/deployments.apps": "1"});
        assert_eq!(used(&cluster), expected);
    }

    #[tokio::test]
    async fn a_quota_with_scopes_counts_what_is_within() {
        let mut cluster = Cluster::new().await;
        pod(&mut cluster, "a", "1").await;
        let bare = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"containers": [{"name": "a"}]}});
        cluster.put(PODS, bare).await;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": "default"},
            "spec": {"hard": {"pods": "5"}, "scopes": ["BestEffort"]}});
        cluster.put(RESOURCE_QUOTAS, quota).await;
        cluster.settle().await;
        assert_eq!(used(&cluster), json!({"pods": "1"}));
    }

    #[tokio::test]
    async fn a_pod_that_never_goes_stops_to_count() {
        let mut cluster = Cluster::new().await;
        pod(&mut cluster, "a", "1").await;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "5"}}});
        cluster.put(RESOURCE_QUOTAS, quota).await;
        cluster
            .edit(PODS, "default", "a", |pod| {
                pod["spec"]["nodeName"] = json!("n1");
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
                pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
            })
            .await;
        cluster.follow();
        let key = RESOURCE_QUOTAS.key("default", "q");
        cluster.settle_key(crate::plan::Controller::ResourceQuota, &key).await;
        assert_eq!(used(&cluster), json!({"pods": "1"}));
        let plan = cluster.plan(crate::plan::Controller::ResourceQuota, &key);
        assert_eq!(plan.wake_after, Some(std::time::Duration::from_secs(61)));
        cluster.advance(61);
        cluster.settle_key(crate::plan::Controller::ResourceQuota, &key).await;
        assert_eq!(used(&cluster), json!({"pods": "0"}));
    }
}
