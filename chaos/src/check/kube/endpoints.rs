//! `EndpointSlices` tell what is: the ready addresses of a Service are those of its ready pods, each once.
//!
//! Source: the endpoint slice controller of Kubernetes; a Service that leads to a pod that is gone is what users see
//! first.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{at_the_end, is_going, is_ready, name};
use crate::real::kube::Evidence;
use crate::real::kube::ending::Last;
use crate::report::Check;

const NAME: &str = "endpoints";

/// The label that tells a slice's Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// Fails for each Service whose addresses are others.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    at_the_end(NAME, evidence, |last| {
        let (services, slices) = (last.services.len(), last.slices.len());
        (format!("{services} Services, {slices} EndpointSlices"), wrong(last))
    })
}

/// What differs.
#[must_use]
pub fn wrong(last: &Last) -> Vec<String> {
    let mut wrong = Vec::new();
    for service in &last.services {
        let (own, selector) = (name(service), service["spec"]["selector"].as_object());
        // The masters' own Service has no selector.
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { continue };
        let selected = |pod: &&Value| {
            let labels = &pod["metadata"]["labels"];
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
        for pod in last.pods.iter().filter(selected).filter(|pod| is_ready(pod) && !is_going(pod)) {
            if let Some(address) = pod["status"]["podIP"].as_str() {
                *expected.entry(address).or_default() += 1;
            }
        }
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let slices = last.slices.iter().filter(|slice| slice["metadata"]["labels"][SERVICE] == own);
        for endpoint in slices.filter_map(|slice| slice["endpoints"].as_array()).flatten() {
            if endpoint["conditions"]["ready"] != false {
                let addresses = endpoint["addresses"].as_array().into_iter().flatten();
                for address in addresses.filter_map(Value::as_str) {
                    *found.entry(address).or_default() += 1;
                }
            }
        }
        if found != expected {
            let words = |all: &BTreeMap<&str, usize>| {
                let all: Vec<String> = all
                    .iter()
                    .map(|(address, count)| match count {
                        1 => (*address).to_owned(),
                        _ => format!("{address} {count} times"),
                    })
                    .collect();
                if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
            };
            let (found, expected) = (words(&found), words(&expected));
            wrong.push(format!("{own} leads to {found}; ready are {expected}"));
        }
    }
    wrong
}
