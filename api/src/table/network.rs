//! Services, endpoints and endpoint slices.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, labels, name, or, text};
use crate::tree;

pub(super) static SERVICE: &[Column] = &[
    NAME,
    text("Type"),
    text("Cluster-IP"),
    text("External-IP"),
    text("Port(s)"),
    AGE,
    text("Selector").wide(),
];
pub(super) static ENDPOINTS: &[Column] = &[NAME, text("Endpoints"), AGE];
pub(super) static SLICE: &[Column] =
    &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE];

/// How many endpoints or ports are shown before `+ n more...`.
const SHOWN: usize = 3;

pub(super) fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(service, "spec");
    let first = tree::list(spec, "clusterIPs").first().and_then(Value::as_str);
    let cluster = first.unwrap_or_else(|| tree::text(spec, "clusterIP"));
    vec![
        json!(name(service)),
        json!(tree::text(spec, "type")),
        json!(or(cluster, "<none>")),
        json!(external(service)),
        json!(service_ports(tree::list(spec, "ports"))),
        age(service, now),
        json!(labels(tree::get(spec, "selector"))),
    ]
}

fn external(service: &Value) -> String {
    let spec = tree::get(service, "spec");
    let ips: Vec<&str> = tree::texts(spec, "externalIPs").collect();
    let listed = or(&ips.join(","), "<none>").to_owned();
    match tree::text(spec, "type") {
        "ClusterIP" | "NodePort" => listed,
        "LoadBalancer" => {
            let balancer = balancers(service);
            match (balancer.is_empty(), ips.is_empty()) {
                (false, false) => format!("{balancer},{}", ips.join(",")),
                (false, true) => balancer,
                (true, false) => ips.join(","),
                (true, true) => "<pending>".to_owned(),
            }
        }
        "ExternalName" => tree::text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses of the load balancer. The server makes the wide form: nothing is cut.
fn balancers(service: &Value) -> String {
    let ingress = tree::list(tree::at(service, &["status", "loadBalancer"]), "ingress");
    let mut addresses: Vec<&str> = Vec::new();
    for one in ingress {
        let (ip, host) = (tree::text(one, "ip"), tree::text(one, "hostname"));
        let address = if ip.is_empty() { host } else { ip };
        if !address.is_empty() && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_unstable();
    addresses.join(",")
}

fn service_ports(ports: &[Value]) -> String {
    let shown: Vec<String> = ports
        .iter()
        .map(|port| {
            let (number, protocol) = (tree::int(port, "port"), tree::text(port, "protocol"));
            match tree::int(port, "nodePort") {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    or(&shown.join(","), "<none>").to_owned()
}

pub(super) fn endpoints(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(endpoints)), json!(addresses(endpoints)), age(endpoints, now)]
}

/// `host:port` of the first three; subsets without ports show their addresses alone.
fn addresses(endpoints: &Value) -> String {
    let subsets = tree::list(endpoints, "subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut shown = Vec::new();
    let (mut count, mut more) = (0, false);
    for subset in subsets {
        let ports = tree::list(subset, "ports");
        let hosts = tree::list(subset, "addresses");
        if ports.is_empty() {
            for host in hosts {
                if shown.len() == SHOWN {
                    more = true;
                } else {
                    shown.push(tree::text(host, "ip").to_owned());
                }
                count += 1;
            }
            continue;
        }
        for port in ports {
            for host in hosts {
                if shown.len() == SHOWN {
                    more = true;
                } else {
                    shown.push(join(tree::text(host, "ip"), tree::int(port, "port")));
                }
                count += 1;
            }
        }
    }
    let mut out = shown.join(",");
    if more {
        out = format!("{out} + {} more...", count - shown.len());
    }
    or(&out, "<none>").to_owned()
}

fn join(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(super) fn slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let addresses: Vec<&str> =
        tree::list(slice, "endpoints").iter().flat_map(|e| tree::texts(e, "addresses")).collect();
    let ports: Vec<String> = tree::list(slice, "ports").iter().map(slice_port).collect();
    vec![
        json!(name(slice)),
        json!(tree::text(slice, "addressType")),
        json!(some_of(&ports, "<unset>")),
        json!(some_of(&addresses, "<unset>")),
        age(slice, now),
    ]
}

fn slice_port(port: &Value) -> String {
    match tree::int_opt(port, "port") {
        Some(number) => number.to_string(),
        None => tree::text_opt(port, "name").unwrap_or("*").to_owned(),
    }
}

fn some_of<S: AsRef<str>>(items: &[S], none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    let shown: Vec<&str> = items.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let shown = shown.join(",");
    match items.len().saturating_sub(SHOWN) {
        0 => or(&shown, none).to_owned(),
        more => format!("{shown} + {more} more..."),
    }
}
