//! The kinds of `networking.k8s.io`.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::{AGE, Column, NAME, age, name, text};
use crate::selector::object;
use crate::tree;

/// The hosts that are shown; of more, how many.
const HOSTS_SHOWN: usize = 3;

pub(super) static INGRESS: &[Column] = &[
    NAME,
    text("Class").described(
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    text("Hosts")
        .described("Hosts that incoming requests are matched against before the ingress rule"),
    text("Address").described("Address is a list containing ingress points for the load-balancer"),
    text("Ports").described("Ports of TLS configurations that open"),
    AGE,
];
pub(super) static CLASS: &[Column] = &[
    NAME,
    text("Controller").described("Controller that is responsible for handling this class"),
    text("Parameters").described("A reference to a resource with additional parameters"),
    AGE,
];
pub(super) static POLICY: &[Column] = &[NAME, text("Pod-Selector"), AGE];
pub(super) static ADDRESS: &[Column] = &[NAME, text("ParentRef")];
pub(super) static RANGE: &[Column] = &[NAME, text("CIDRs"), AGE];

pub(super) fn ingress(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(ingress, "spec");
    let points = tree::list(tree::at(ingress, &["status", "loadBalancer"]), "ingress");
    let addresses: BTreeSet<&str> = points
        .iter()
        .map(|one| match tree::text(one, "ip") {
            "" => tree::text(one, "hostname"),
            address => address,
        })
        .filter(|address| !address.is_empty())
        .collect();
    let addresses: Vec<&str> = addresses.into_iter().collect();
    let ports = if tree::list(spec, "tls").is_empty() { "80" } else { "80, 443" };
    vec![
        json!(name(ingress)),
        json!(tree::text_opt(spec, "ingressClassName").unwrap_or("<none>")),
        json!(hosts(tree::list(spec, "rules"))),
        json!(addresses.join(",")),
        json!(ports),
        age(ingress, now),
    ]
}

fn hosts(rules: &[Value]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == HOSTS_SHOWN;
        let host = tree::text(rule, "host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => shown.join(","),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - HOSTS_SHOWN),
    }
}

pub(super) fn class(class: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(class, "spec");
    let parameters = match tree::get(spec, "parameters") {
        Value::Null => "<none>".to_owned(),
        parameters => {
            let group = tree::text_opt(parameters, "apiGroup").map(|group| format!(".{group}"));
            let kind = tree::text(parameters, "kind");
            format!("{kind}{}/{}", group.unwrap_or_default(), tree::text(parameters, "name"))
        }
    };
    vec![
        json!(name(class)),
        json!(tree::text(spec, "controller")),
        json!(parameters),
        age(class, now),
    ]
}

pub(super) fn policy(policy: &Value, now: Timestamp) -> Vec<Value> {
    let selector = tree::at(policy, &["spec", "podSelector"]);
    vec![json!(name(policy)), json!(object::format(selector)), age(policy, now)]
}

pub(super) fn address(address: &Value, _: Timestamp) -> Vec<Value> {
    let parent = tree::at(address, &["spec", "parentRef"]);
    if parent.is_null() {
        return vec![json!(name(address)), json!("<none>")];
    }
    let mut shown = tree::text(parent, "resource").to_lowercase();
    let group = tree::text(parent, "group");
    if !group.is_empty() {
        shown = format!("{shown}.{}", group.to_lowercase());
    }
    for part in [tree::text(parent, "namespace"), tree::text(parent, "name")] {
        if !part.is_empty() {
            shown = format!("{shown}/{part}");
        }
    }
    vec![json!(name(address)), json!(shown)]
}

pub(super) fn range(range: &Value, now: Timestamp) -> Vec<Value> {
    let ranges: Vec<&str> = tree::texts(tree::get(range, "spec"), "cidrs").collect();
    vec![json!(name(range)), json!(ranges.join(",")), age(range, now)]
}
