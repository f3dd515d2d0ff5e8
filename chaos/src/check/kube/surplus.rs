//! Controllers act once: at the end there is no pod and no `ReplicaSet` more than is asked for.
//!
//! Source: `reliability.md` section 1.4 (a controller that acts after it stalled) and section 8, (12) and (14): what a
//! controller made twice around a change of leader, or what the garbage collector forgot, is there at the end.

use super::{app, at_the_end, is_going, name, owner, uid};
use crate::real::kube::Evidence;
use crate::real::kube::ending::Last;
use crate::report::Check;

const NAME: &str = "surplus";

/// Fails for each object too many.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    at_the_end(NAME, evidence, |last| {
        let (pods, sets) = (last.pods.len(), last.replicasets.len());
        (format!("{pods} pods, {sets} ReplicaSets at the end"), wrong(last))
    })
}

/// What is too much.
#[must_use]
pub fn wrong(last: &Last) -> Vec<String> {
    let mut wrong = Vec::new();
    for pod in &last.pods {
        let own = name(pod);
        let set = last.replicasets.iter().find(|set| Some(uid(set)) == owner(pod));
        match set {
            _ if is_going(pod) => {
                wrong.push(format!("pod {own} is being deleted, and still there"))
            }
            None => wrong.push(format!("pod {own} belongs to nobody")),
            Some(_) => {}
        }
    }
    for set in &last.replicasets {
        let (own, wanted) = (name(set), set["spec"]["replicas"].as_u64().unwrap_or(0));
        if !last.deployments.iter().any(|deployment| Some(uid(deployment)) == owner(set)) {
            wrong.push(format!("ReplicaSet {own} belongs to nobody"));
        }
        let pods = last.pods.iter().filter(|pod| owner(pod) == Some(uid(set))).count();
        if pods as u64 != wanted {
            wrong.push(format!("ReplicaSet {own} has {pods} pods, {wanted} are asked for"));
        }
    }
    for deployment in &last.deployments {
        let own = name(deployment);
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(0);
        let pods = last.pods.iter().filter(|pod| app(pod) == own).count();
        if pods as u64 != wanted {
            wrong.push(format!("{own} has {pods} pods, {wanted} are asked for"));
        }
        let sets = last.replicasets.iter().filter(|set| owner(set) == Some(uid(deployment)));
        let live = sets.filter(|set| set["spec"]["replicas"].as_u64().unwrap_or(0) > 0).count();
        if live > 1 {
            wrong.push(format!("{own} has {live} ReplicaSets with pods"));
        }
    }
    wrong
}
