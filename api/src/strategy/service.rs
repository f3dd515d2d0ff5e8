//! Services: linked and allocated fields when a client leaves them out or changes the type.
//! Allocation itself is the API server's.

use serde_json::{Value, json};

use crate::tree;

/// A service starts without a load balancer.
pub(crate) fn create_service(object: &mut Value) {
    tree::set(object, "status", json!({"loadBalancer": {}}));
    if let Some(spec) = tree::existing_mut(object, "spec") {
        let ip = tree::text(spec, "clusterIP").to_owned();
        if !ip.is_empty() && tree::list(spec, "clusterIPs").is_empty() {
            tree::set(spec, "clusterIPs", json!([ip]));
        }
    }
}

/// Fields that only make sense for the old type go when the type changes and the client did not
/// touch them.
pub(crate) fn update_service(new: &mut Value, old: &Value) {
    super::kinds::keep_status(new, old);
    // A load balancer goes later, but who is no longer asked for it need not see that.
    if kind(tree::get(new, "spec")) != "LoadBalancer"
        && let Some(status) = tree::existing_mut(new, "status")
    {
        tree::set(status, "loadBalancer", json!({}));
    }
    let old = tree::get(old, "spec");
    let Some(spec) = tree::existing_mut(new, "spec") else { return };
    link_cluster_ips(spec, old);
    keep_allocated(spec, old);
    drop_type_dependent(spec, old);
}

/// `clusterIP` is the first of `clusterIPs`; a client may know only one of them.
fn link_cluster_ips(spec: &mut Value, old: &Value) {
    let (ip, ips) = ("clusterIP", "clusterIPs");
    let one = tree::text(spec, ip).to_owned();
    let same_one = one == tree::text(old, ip);
    if tree::list(spec, ips).is_empty() && same_one {
        tree::copy(old, spec, ips);
    }
    if !same_one && tree::list(spec, ips) == tree::list(old, ips) {
        if one.is_empty() {
            tree::remove(spec, ips);
        } else {
            tree::set(spec, ips, json!([one]));
        }
    }
}

/// What was allocated stays when a client leaves it out.
fn keep_allocated(spec: &mut Value, old: &Value) {
    let with_ip = |spec: &Value| matches!(kind(spec), "ClusterIP" | "NodePort" | "LoadBalancer");
    if with_ip(spec) && with_ip(old) {
        if tree::text(spec, "clusterIP").is_empty() {
            tree::copy(old, spec, "clusterIP");
        }
        let same = tree::text(spec, "clusterIP") == tree::text(old, "clusterIP");
        if tree::list(spec, "clusterIPs").is_empty() && same {
            tree::copy(old, spec, "clusterIPs");
        }
        for name in ["ipFamilies", "ipFamilyPolicy"] {
            if same && tree::is_empty(tree::get(spec, name)) {
                tree::copy(old, spec, name);
            }
        }
    }
    if has_node_ports(kind(spec)) && has_node_ports(kind(old)) {
        keep_node_ports(spec, old);
    }
    if is_local(spec) && is_local(old) {
        let number = tree::int(old, "healthCheckNodePort");
        tree::default_int(spec, "healthCheckNodePort", number);
    }
}

/// Ports without a node port get the one that the port of this name had, if no other took it.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let used = |spec: &Value| -> Vec<i64> {
        tree::list(spec, "ports").iter().map(|p| tree::int(p, "nodePort")).collect()
    };
    let before = used(old);
    let mut taken: Vec<i64> = used(spec).into_iter().filter(|n| before.contains(n)).collect();
    for port in tree::items_mut(spec, "ports") {
        let name = tree::text(port, "name");
        let was = tree::list(old, "ports").iter().find(|p| tree::text(p, "name") == name);
        let number = was.map_or(0, |p| tree::int(p, "nodePort"));
        let missing = tree::int(port, "nodePort") == 0;
        if missing && number != 0 && !taken.contains(&number) {
            tree::set(port, "nodePort", number);
            taken.push(number);
        }
    }
}

fn kind(spec: &Value) -> &str {
    tree::text(spec, "type")
}

fn has_node_ports(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

fn is_local(spec: &Value) -> bool {
    kind(spec) == "LoadBalancer" && tree::text(spec, "externalTrafficPolicy") == "Local"
}

fn drop_type_dependent(spec: &mut Value, old: &Value) {
    let (kind, was) = (kind(spec).to_owned(), kind(old).to_owned());
    let needs = |kind: &str, field: &str| match field {
        "clusterIP" | "clusterIPs" | "ipFamilies" | "ipFamilyPolicy" => kind != "ExternalName",
        "allocateLoadBalancerNodePorts" | "loadBalancerClass" => kind == "LoadBalancer",
        _ => true,
    };
    for field in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "allocateLoadBalancerNodePorts",
        "loadBalancerClass",
    ] {
        let untouched = tree::same(tree::get(old, field), tree::get(spec, field));
        if needs(&was, field) && !needs(&kind, field) && untouched {
            tree::remove(spec, field);
        }
    }
    drop_ports(spec, old, has_node_ports(&was) && !has_node_ports(&kind));
    let outside = has_node_ports(&kind)
        || (kind == "ClusterIP" && !tree::list(spec, "externalIPs").is_empty());
    let policy = "externalTrafficPolicy";
    if !outside && tree::text(old, policy) == tree::text(spec, policy) {
        tree::remove(spec, policy);
    }
}

/// Node ports and the health check port that the new type does not have, if they are the old ones.
fn drop_ports(spec: &mut Value, old: &Value, node_ports: bool) {
    if node_ports {
        let before: Vec<i64> =
            tree::list(old, "ports").iter().map(|p| tree::int(p, "nodePort")).collect();
        for port in tree::items_mut(spec, "ports") {
            if before.contains(&tree::int(port, "nodePort")) {
                tree::remove(port, "nodePort");
            }
        }
    }
    let health = "healthCheckNodePort";
    if is_local(old) && !is_local(spec) && tree::int(old, health) == tree::int(spec, health) {
        tree::remove(spec, health);
    }
}
