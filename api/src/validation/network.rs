//! Endpoints and endpoint slices.

use serde_json::Value;
use std::net::IpAddr;

use super::meta::{self, Scope};
use super::{
    Errors, immutable, ip, label, names, one_of, one_of_if_set, port, qualified, subdomain,
};
use crate::field::{Error, Path};
use crate::tree;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20000;
const HINTS_MAX: usize = 8;
const TOPOLOGY_LABELS_MAX: usize = 16;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Addresses that cannot be anybody else's: unspecified, loopback, link-local.
pub(super) fn no_special_ip(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(address) = names::parse_ip(text) else {
        errors.push(Error::invalid(path, text, "must be a valid IP address"));
        return;
    };
    let (local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            (first & 0xffc0 == 0xfe80, first & 0xff0f == 0xff02)
        }
    };
    if address.is_unspecified() {
        errors.push(Error::invalid(path, text, format!("may not be unspecified ({text})")));
    }
    if address.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.push(Error::invalid(path, text, detail));
    }
    if local {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.push(Error::invalid(path, text, detail));
    }
    if multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(Error::invalid(path, text, detail));
    }
}

/// Checks new endpoints.
pub(crate) fn endpoints(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let list = Path::new("subsets");
    for (i, subset) in tree::list(object, "subsets").iter().enumerate() {
        let path = list.index(i);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|name| tree::list(subset, name).is_empty()) {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            errors.push(Error::required(&path, detail));
        }
        for name in lists {
            let list = path.child(name);
            for (i, address) in tree::list(subset, name).iter().enumerate() {
                endpoint_address(address, &list.index(i), errors);
            }
        }
        let ports = tree::list(subset, "ports");
        let list = path.child("ports");
        for (i, one) in ports.iter().enumerate() {
            let path = list.index(i);
            let name = tree::text(one, "name");
            if !name.is_empty() {
                label(name, &path.child("name"), errors);
            } else if ports.len() > 1 {
                errors.push(Error::required(&path.child("name"), ""));
            }
            port(tree::int(one, "port"), &path.child("port"), errors);
            one_of(one, "protocol", &PROTOCOLS, &path, errors);
            if let Some(protocol) = tree::text_opt(one, "appProtocol") {
                qualified(protocol, &path.child("appProtocol"), errors);
            }
        }
    }
}

fn endpoint_address(address: &Value, path: &Path<'_>, errors: &mut Errors) {
    let text = tree::text(address, "ip");
    if !ip(text, &path.child("ip"), errors) {
        return;
    }
    let host = tree::text(address, "hostname");
    if !host.is_empty() {
        label(host, &path.child("hostname"), errors);
    }
    if let Some(node) = tree::text_opt(address, "nodeName") {
        subdomain(node, &path.child("nodeName"), errors);
    }
    no_special_ip(text, &path.child("ip"), errors);
}

/// Checks changed endpoints.
pub(crate) fn endpoints_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    endpoints(new, errors);
}

/// Checks a new endpoint slice.
pub(crate) fn slice(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    one_of(object, "addressType", &["FQDN", "IPv4", "IPv6"], &Path::new(""), errors);
    let endpoints = tree::list(object, "endpoints");
    let list = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(Error::too_many(&list, endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    let kind = tree::text(object, "addressType");
    for (i, endpoint) in endpoints.iter().enumerate() {
        slice_endpoint(endpoint, kind, &list.index(i), errors);
    }
    slice_ports(object, errors);
}

fn slice_endpoint(endpoint: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let addresses: Vec<&str> = tree::texts(endpoint, "addresses").collect();
    let list = path.child("addresses");
    if addresses.is_empty() {
        errors.push(Error::required(&list, "must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES_MAX {
        errors.push(Error::too_many(&list, addresses.len(), ADDRESSES_MAX));
    }
    for (i, address) in addresses.iter().enumerate() {
        let path = list.index(i);
        match kind {
            "IPv4" | "IPv6" => {
                let parsed = names::parse_ip(address);
                let right = |a: &IpAddr| a.is_ipv4() == (kind == "IPv4");
                if ip(address, &path, errors) {
                    if parsed.filter(right).is_none() {
                        let detail = format!("must be an {kind} address");
                        errors.push(Error::invalid(&path, *address, detail));
                    }
                    no_special_ip(address, &path, errors);
                }
            }
            "FQDN" => subdomain(address, &path, errors),
            _ => {}
        }
    }
    if let Some(node) = tree::text_opt(endpoint, "nodeName") {
        subdomain(node, &path.child("nodeName"), errors);
    }
    let topology = path.child("deprecatedTopology");
    let count = tree::entries(endpoint, "deprecatedTopology").count();
    if count > TOPOLOGY_LABELS_MAX {
        errors.push(Error::too_many(&topology, count, TOPOLOGY_LABELS_MAX));
    }
    meta::labels(tree::get(endpoint, "deprecatedTopology"), &topology, errors);
    if let Some(host) = tree::text_opt(endpoint, "hostname") {
        label(host, &path.child("hostname"), errors);
    }
    hints(endpoint, "forZones", names::label_value, path, errors);
    hints(endpoint, "forNodes", names::dns1123_subdomain, path, errors);
}

fn hints(
    endpoint: &Value,
    name: &str,
    problems: fn(&str) -> Vec<String>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let targets = tree::list(tree::get(endpoint, "hints"), name);
    let path = path.child("hints");
    let list = path.child(name);
    if targets.len() > HINTS_MAX {
        errors.push(Error::too_many(&list, targets.len(), HINTS_MAX));
        return;
    }
    for (i, target) in targets.iter().enumerate() {
        let path = list.index(i);
        let name = tree::text(target, "name");
        if targets[..i].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        super::invalid_each(&path.child("name"), name, problems(name), errors);
    }
}

fn slice_ports(object: &Value, errors: &mut Errors) {
    let ports = tree::list(object, "ports");
    let list = Path::new("ports");
    if ports.len() > PORTS_MAX {
        errors.push(Error::too_many(&list, ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = Vec::new();
    for (i, one) in ports.iter().enumerate() {
        let path = list.index(i);
        let name = tree::text(one, "name");
        if !name.is_empty() {
            label(name, &path.child("name"), errors);
        }
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            seen.push(name);
        }
        if tree::has(one, "protocol") {
            one_of_if_set(one, "protocol", &PROTOCOLS, &path, errors);
        } else {
            errors.push(Error::required(&path.child("protocol"), ""));
        }
        if let Some(number) = tree::int_opt(one, "port") {
            port(number, &path.child("port"), errors);
        }
        if let Some(protocol) = tree::text_opt(one, "appProtocol") {
            qualified(protocol, &path.child("appProtocol"), errors);
        }
    }
}

/// Checks a changed endpoint slice.
pub(crate) fn slice_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    slice(new, errors);
    immutable(new, old, "addressType", &Path::new(""), errors);
}
