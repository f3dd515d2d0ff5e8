//! Services.

use serde_json::{Value, json};

use super::meta::{self, Scope};
use super::{
    Errors, cidr, ip, label, names, network, one_of, one_of_if_set, port, port_or_name, qualified,
    subdomain,
};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const CLIENT_IP_SECONDS_MAX: i64 = 86400;

fn kind(spec: &Value) -> &str {
    tree::text(spec, "type")
}

fn is_headless(spec: &Value) -> bool {
    let ips = tree::list(spec, "clusterIPs");
    (ips.len() == 1 && ips[0] == "None") || tree::text(spec, "clusterIP") == "None"
}

fn from_outside(spec: &Value) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
        || (kind(spec) == "ClusterIP" && !tree::list(spec, "externalIPs").is_empty())
}

fn needs_health_check(spec: &Value) -> bool {
    kind(spec) == "LoadBalancer" && tree::text(spec, "externalTrafficPolicy") == "Local"
}

/// Checks a new service, addresses and node ports allocated.
pub(crate) fn create(service: &Value, errors: &mut Errors) {
    meta::object(service, Scope::Namespaced, names::dns1035_label, errors);
    topology(service, errors);
    let spec = tree::get(service, "spec");
    let headless = is_headless(spec);
    let ports = tree::list(spec, "ports");
    if ports.is_empty() && !headless && kind(spec) != "ExternalName" {
        errors.push(Error::required(&SPEC.child("ports"), ""));
    }
    by_type(spec, headless, errors);
    let path = SPEC.child("ports");
    let mut seen = Vec::new();
    for (i, one) in ports.iter().enumerate() {
        service_port(one, ports.len() > 1, &mut seen, &path.index(i), errors);
    }
    meta::labels(tree::get(spec, "selector"), &SPEC.child("selector"), errors);
    affinity(spec, errors);
    cluster_ips(spec, errors);
    let path = SPEC.child("externalIPs");
    for (i, address) in tree::texts(spec, "externalIPs").enumerate() {
        if ip(address, &path.index(i), errors) {
            network::no_special_ip(address, &path.index(i), errors);
        }
    }
    one_of(spec, "type", &TYPES, &SPEC, errors);
    unique_ports(spec, errors);
    source_ranges(service, errors);
    let node_ports = "allocateLoadBalancerNodePorts";
    if tree::has(spec, node_ports) && kind(spec) != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(Error::forbidden(&SPEC.child(node_ports), detail));
    }
    if !tree::has(spec, node_ports) && kind(spec) == "LoadBalancer" {
        errors.push(Error::required(&Path::new(node_ports), ""));
    }
    balancer_class(spec, &Value::Null, errors);
    traffic(spec, errors);
}

/// The old and the new annotation of the same choice say the same.
fn topology(service: &Value, errors: &mut Errors) {
    const OLD: &str = "service.kubernetes.io/topology-aware-hints";
    const NEW: &str = "service.kubernetes.io/topology-mode";
    let annotations = tree::at(service, &["metadata", "annotations"]);
    if let (Some(old), Some(new)) =
        (tree::text_opt(annotations, OLD), tree::text_opt(annotations, NEW))
        && old != new
    {
        let metadata = Path::new("metadata");
        let path = metadata.child("annotations");
        let detail = format!("must match annotations[{OLD}] when both are specified");
        errors.push(Error::invalid(&path.key(NEW), new, detail));
    }
}

fn by_type(spec: &Value, headless: bool, errors: &mut Errors) {
    let ips = SPEC.child("clusterIPs");
    match kind(spec) {
        name @ ("LoadBalancer" | "NodePort") if headless => {
            let detail = format!("may not be set to 'None' for {name} services");
            errors.push(Error::invalid(&ips.index(0), "None", detail));
        }
        "ExternalName" => {
            let detail = "may not be set for ExternalName services";
            for list in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !tree::is_empty(tree::get(spec, list)) {
                    errors.push(Error::forbidden(&SPEC.child(list), detail));
                }
            }
            let name = tree::text(spec, "externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.push(Error::required(&SPEC.child("externalName"), ""));
            } else {
                subdomain(name, &SPEC.child("externalName"), errors);
            }
        }
        _ => {}
    }
}

fn service_port<'a>(
    one: &'a Value,
    named: bool,
    seen: &mut Vec<&'a str>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let name = tree::text(one, "name");
    if !name.is_empty() {
        label(name, &path.child("name"), errors);
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            seen.push(name);
        }
    } else if named {
        errors.push(Error::required(&path.child("name"), ""));
    }
    port(tree::int(one, "port"), &path.child("port"), errors);
    one_of(one, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
    port_or_name(one, "targetPort", path, errors);
    if let Some(protocol) = tree::text_opt(one, "appProtocol") {
        qualified(protocol, &path.child("appProtocol"), errors);
    }
}

fn affinity(spec: &Value, errors: &mut Errors) {
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], &SPEC, errors);
    let (config, path) =
        (tree::get(spec, "sessionAffinityConfig"), SPEC.child("sessionAffinityConfig"));
    match tree::text(spec, "sessionAffinity") {
        "None" if !config.is_null() => {
            let detail = "must not be set when session affinity is None";
            errors.push(Error::forbidden(&path, detail));
        }
        "ClientIP" => {
            let detail = "when session affinity type is ClientIP";
            let client = tree::get(config, "clientIP");
            let client_path = path.child("clientIP");
            let path_of_seconds = client_path.child("timeoutSeconds");
            match tree::int_opt(client, "timeoutSeconds") {
                _ if config.is_null() => errors.push(Error::required(&path, detail)),
                _ if client.is_null() => errors.push(Error::required(&client_path, detail)),
                None => errors.push(Error::required(&path_of_seconds, detail)),
                Some(seconds) if !(1..=CLIENT_IP_SECONDS_MAX).contains(&seconds) => {
                    let detail =
                        format!("must be greater than 0 and less than {CLIENT_IP_SECONDS_MAX}");
                    errors.push(Error::invalid(&path_of_seconds, seconds, detail));
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

pub(super) fn cluster_ips(spec: &Value, errors: &mut Errors) {
    if kind(spec) == "ExternalName" {
        return;
    }
    let ips: Vec<&str> = tree::texts(spec, "clusterIPs").collect();
    let shown = || json!(ips);
    let path = SPEC.child("clusterIPs");
    match (tree::text(spec, "clusterIP"), ips.first()) {
        ("", Some(_)) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(Error::invalid(&path, shown(), detail));
        }
        (one, Some(first)) if one != *first => {
            errors.push(Error::invalid(&path, shown(), "first value must match `clusterIP`"));
        }
        ("", None) | (_, Some(_)) => {}
        (_, None) => errors.push(Error::required(&path, "")),
    }
    let families: Vec<&str> = tree::texts(spec, "ipFamilies").collect();
    let list = SPEC.child("ipFamilies");
    for (i, family) in families.iter().enumerate() {
        if !matches!(*family, "IPv4" | "IPv6") {
            errors.push(Error::not_supported(&list.index(i), *family, &["IPv4", "IPv6"]));
        }
        if families[..i].contains(family) {
            errors.push(Error::duplicate(&list.index(i), *family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of_if_set(spec, "ipFamilyPolicy", &policies, &SPEC, errors);
    let before = errors.len();
    for (i, address) in ips.iter().enumerate() {
        if i == 0 && *address == "None" {
            if ips.len() > 1 {
                let detail = "'None' must be the first and only value";
                errors.push(Error::invalid(&path, shown(), detail));
            }
            continue;
        }
        ip(address, &path.index(i), errors);
    }
    let broken = errors.len() > before;
    if ips.len() > 2 {
        errors.push(Error::invalid(&path, shown(), "may only hold up to 2 values"));
    }
    if broken {
        return;
    }
    let v6 = ips.iter().filter(|a| a.contains(':')).count();
    if ips.len() > 1 && (v6 == 0 || v6 == ips.len()) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(&path, shown(), detail));
    }
    if !is_headless(spec) {
        for (i, (address, family)) in ips.iter().zip(&families).enumerate() {
            let own = if address.contains(':') { "IPv6" } else { "IPv4" };
            if *family != own {
                let detail =
                    format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(Error::invalid(&path.index(i), *address, detail));
            }
        }
    }
}

fn unique_ports(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("ports");
    let ports = tree::list(spec, "ports");
    let key =
        |one: &Value, name: &str| (tree::text(one, "protocol").to_owned(), tree::int(one, name));
    for (i, one) in ports.iter().enumerate() {
        let number = tree::int(one, "nodePort");
        if number == 0 {
            continue;
        }
        let path = path.index(i);
        if kind(spec) == "ClusterIP" {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(Error::forbidden(&path.child("nodePort"), detail));
        }
        if ports[..i].iter().any(|other| key(other, "nodePort") == key(one, "nodePort")) {
            errors.push(Error::duplicate(&path.child("nodePort"), number));
        }
    }
    for (i, one) in ports.iter().enumerate() {
        if ports[..i].iter().any(|other| key(other, "port") == key(one, "port")) {
            let shown = json!({"port": tree::int(one, "port"),
                               "protocol": tree::text(one, "protocol")});
            errors.push(Error::duplicate(&path.index(i), shown));
        }
    }
}

fn source_ranges(service: &Value, errors: &mut Errors) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = tree::get(service, "spec");
    let detail = "may only be used when `type` is 'LoadBalancer'";
    let ranges: Vec<&str> = tree::texts(spec, "loadBalancerSourceRanges").collect();
    let annotations = tree::at(service, &["metadata", "annotations"]);
    if !ranges.is_empty() {
        let path = SPEC.child("LoadBalancerSourceRanges");
        if kind(spec) != "LoadBalancer" {
            errors.push(Error::forbidden(&path, detail));
        }
        for (i, range) in ranges.iter().enumerate() {
            cidr(range.trim(), &path.index(i), errors);
        }
    } else if let Some(text) = tree::text_opt(annotations, ANNOTATION) {
        let metadata = Path::new("metadata");
        let list = metadata.child("annotations");
        let path = list.key(ANNOTATION);
        if kind(spec) != "LoadBalancer" {
            errors.push(Error::forbidden(&path, detail));
        }
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            cidr(range.trim(), &path, errors);
        }
    }
}

fn balancer_class(spec: &Value, old: &Value, errors: &mut Errors) {
    let name = "loadBalancerClass";
    let path = SPEC.child(name);
    let (class, before) = (tree::get(spec, name), tree::get(old, name));
    let both = kind(spec) == "LoadBalancer" && kind(old) == "LoadBalancer";
    if both && class != before {
        errors.push(Error::invalid(&path, class.clone(), "may not change once set"));
    }
    let Some(text) = class.as_str() else { return };
    if kind(spec) != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(Error::forbidden(&path, detail));
    }
    qualified(text, &path, errors);
}

fn traffic(spec: &Value, errors: &mut Errors) {
    let policies = ["Cluster", "Local"];
    let policy = tree::text(spec, "externalTrafficPolicy");
    if from_outside(spec) {
        one_of(spec, "externalTrafficPolicy", &policies, &SPEC, errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(Error::invalid(&SPEC.child("externalTrafficPolicy"), policy, detail));
    }
    let (number, path) =
        (tree::int(spec, "healthCheckNodePort"), SPEC.child("healthCheckNodePort"));
    match (needs_health_check(spec), number) {
        (true, 0) => errors.push(Error::required(&path, "")),
        (true, number) => port(number, &path, errors),
        (false, 0) => {}
        (false, number) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and \
                          `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&path, number, detail));
        }
    }
    let internal = "internalTrafficPolicy";
    if !tree::has(spec, internal) && matches!(kind(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
    {
        errors.push(Error::required(&SPEC.child(internal), ""));
    }
    one_of_if_set(spec, internal, &policies, &SPEC, errors);
    let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    one_of_if_set(spec, "trafficDistribution", &known, &SPEC, errors);
}

/// A list of which there is one entry per family: the first never changes, the second comes and
/// goes.
struct PerFamily {
    field: &'static str,
    unset: &'static str,
    released: &'static str,
}

const CLUSTER_IPS: PerFamily = PerFamily {
    field: "clusterIPs",
    unset: "primary clusterIP can not be unset",
    released: "must be set to 'SingleStack' when releasing the secondary clusterIP",
};
const IP_FAMILIES: PerFamily = PerFamily {
    field: "ipFamilies",
    unset: "primary ipFamily can not be unset",
    released: "must be set to 'SingleStack' when releasing the secondary ipFamily",
};

fn kept(after: &Value, before: &Value, list: &PerFamily, errors: &mut Errors) {
    let path = SPEC.child(list.field);
    let value = tree::get(after, list.field);
    let (new, old) = (tree::list(after, list.field), tree::list(before, list.field));
    let mut changed = |i: usize| {
        errors.push(Error::invalid(&path.index(i), value.clone(), "may not change once set"));
    };
    if new.len() == old.len() {
        (0..old.len()).filter(|i| old[*i] != new[*i]).for_each(&mut changed);
        return;
    }
    if new.first().zip(old.first()).is_some_and(|(new, old)| new != old) {
        changed(0);
    }
    if new.len() > old.len() {
        return;
    }
    if new.is_empty() {
        errors.push(Error::invalid(&path.index(0), json!(new), list.unset));
    }
    if new.len() == 1 && tree::text(after, "ipFamilyPolicy") != "SingleStack" {
        let policy = tree::get(after, "ipFamilyPolicy").clone();
        errors.push(Error::invalid(&SPEC.child("ipFamilyPolicy"), policy, list.released));
    }
}

/// Checks a changed service.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    if kind(after) != "ExternalName" && kind(before) != "ExternalName" {
        if !(is_headless(after) && is_headless(before)) {
            kept(after, before, &CLUSTER_IPS, errors);
        }
        kept(after, before, &IP_FAMILIES, errors);
    }
    balancer_class(after, before, errors);
    let health = "healthCheckNodePort";
    if needs_health_check(after)
        && needs_health_check(before)
        && tree::int(after, health) != tree::int(before, health)
    {
        errors.push(Error::forbidden(&SPEC.child(health), super::IMMUTABLE));
    }
    create(new, errors);
}

/// Checks a write to a service's status.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let balancer = tree::at(new, &["status", "loadBalancer"]);
    let ingress = tree::list(balancer, "ingress");
    let status = Path::new("status");
    let path = status.child("loadBalancer.ingress");
    if kind(tree::get(new, "spec")) != "LoadBalancer" && !ingress.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(Error::forbidden(&path, detail));
        return;
    }
    for (i, one) in ingress.iter().enumerate() {
        let path = path.index(i);
        let address = tree::text(one, "ip");
        if !address.is_empty() {
            ip(address, &path.child("ip"), errors);
        }
        match (tree::has(one, "ipMode"), address.is_empty()) {
            (false, false) => {
                let detail = "must be specified when `ip` is set";
                errors.push(Error::required(&path.child("ipMode"), detail));
            }
            (true, true) => {
                let detail = "may not be specified when `ip` is not set";
                errors.push(Error::forbidden(&path.child("ipMode"), detail));
            }
            _ => one_of_if_set(one, "ipMode", &["Proxy", "VIP"], &path, errors),
        }
        let host = tree::text(one, "hostname");
        if !host.is_empty() {
            subdomain(host, &path.child("hostname"), errors);
            if names::parse_ip(host).is_some() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&path.child("hostname"), host, detail));
            }
        }
    }
}
