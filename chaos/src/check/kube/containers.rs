//! What the API says runs, runs, once; and nothing else does.
//!
//! Source: `reliability.md` section 8, (12): "no pod running on two nodes"; and what users ask of a node that lost its
//! masters: containers of deleted pods are gone. The host is asked, not the runtime: processes with a pod's uid in
//! their environment, by process namespace.

use std::collections::BTreeSet;

use super::{at_the_end, name, uid};
use crate::real::kube::Evidence;
use crate::real::kube::ending::Last;
use crate::report::Check;

pub(super) const NAME: &str = "containers";

/// Fails for each pod that does not run as the API says.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    at_the_end(NAME, evidence, |last| {
        let count: usize = last.containers.values().sum();
        (format!("{count} containers on this host, {} pods", last.pods.len()), wrong(last))
    })
}

/// What differs.
#[must_use]
pub fn wrong(last: &Last) -> Vec<String> {
    let mut wrong = Vec::new();
    let known: BTreeSet<&str> = last.pods.iter().map(uid).collect();
    for pod in last.pods.iter().filter(|pod| pod["status"]["phase"] == "Running") {
        match last.containers.get(uid(pod)) {
            Some(1) => {}
            None => wrong.push(format!("pod {} is Running, and none of it runs", name(pod))),
            Some(count) => wrong.push(format!("pod {} runs {count} times", name(pod))),
        }
    }
    for uid in last.containers.keys().filter(|uid| !known.contains(uid.as_str())) {
        wrong.push(format!("a container of pod {uid} runs, and there is no such pod"));
    }
    wrong
}
