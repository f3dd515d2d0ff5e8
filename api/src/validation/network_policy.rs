//! Network policies, and the addresses of services as objects.

use ipnet::IpNet;
use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, cidr, immutable, invalid_each, names, port, selector, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");

/// Checks a new policy.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    spec(tree::get(object, "spec"), errors);
}

/// Checks a changed policy.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    spec(tree::get(new, "spec"), errors);
}

fn spec(spec: &Value, errors: &mut Errors) {
    selector::label_selector(tree::get(spec, "podSelector"), &SPEC.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = SPEC.child(direction);
        for (i, rule) in tree::list(spec, direction).iter().enumerate() {
            let path = list.index(i);
            let ports = path.child("ports");
            for (j, one) in tree::list(rule, "ports").iter().enumerate() {
                rule_port(one, &ports.index(j), errors);
            }
            let path = path.child(peers);
            for (j, one) in tree::list(rule, peers).iter().enumerate() {
                peer(one, &path.index(j), errors);
            }
        }
    }
    let known = ["Ingress", "Egress"];
    let path = SPEC.child("policyTypes");
    let types = tree::list(spec, "policyTypes");
    if types.len() > known.len() {
        let detail = "may not specify more than two policyTypes";
        errors.push(Error::invalid(&path, types.to_vec(), detail));
        return;
    }
    for (i, kind) in tree::texts(spec, "policyTypes").enumerate() {
        if !known.contains(&kind) {
            errors.push(Error::not_supported(&path.index(i), kind, &known));
        }
    }
}

fn rule_port(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    super::one_of_if_set(rule, "protocol", &["TCP", "UDP", "SCTP"], path, errors);
    let end = tree::int_opt(rule, "endPort");
    let end_path = path.child("endPort");
    let own = path.child("port");
    match (tree::get(rule, "port"), end) {
        (Value::Null, None) => {}
        (Value::Null, Some(end)) => {
            let detail = "may not be specified when `port` is not specified";
            errors.push(Error::invalid(&end_path, end, detail));
        }
        (Value::String(name), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(Error::invalid(&end_path, end, detail));
            }
            invalid_each(&own, name, names::port_name(name), errors);
        }
        (number, end) => {
            let number = number.as_i64().unwrap_or(0);
            port(number, &own, errors);
            if let Some(end) = end {
                if end < number {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(Error::invalid(&end_path, end, detail));
                }
                port(end, &end_path, errors);
            }
        }
    }
}

fn peer(peer: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut some = 0;
    for name in ["podSelector", "namespaceSelector"] {
        let wanted = tree::get(peer, name);
        some += usize::from(!wanted.is_null());
        selector::label_selector(wanted, &path.child(name), errors);
    }
    let block = tree::get(peer, "ipBlock");
    if !block.is_null() {
        ip_block(block, &path.child("ipBlock"), errors);
    }
    if block.is_null() && some == 0 {
        errors.push(Error::required(path, "must specify a peer"));
    } else if !block.is_null() && some > 0 {
        errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn ip_block(block: &Value, path: &Path<'_>, errors: &mut Errors) {
    let range = tree::text(block, "cidr");
    if range.is_empty() {
        errors.push(Error::required(&path.child("cidr"), ""));
        return;
    }
    cidr(range, &path.child("cidr"), errors);
    let Ok(whole) = range.parse::<IpNet>() else { return };
    let path = path.child("except");
    for (i, text) in tree::texts(block, "except").enumerate() {
        let path = path.index(i);
        cidr(text, &path, errors);
        let Ok(part) = text.parse::<IpNet>() else { continue };
        if !whole.contains(&part.network()) || whole.prefix_len() >= part.prefix_len() {
            errors.push(Error::invalid(&path, text, "must be a strict subset of `cidr`"));
        }
    }
}

// === addresses of services ===

fn address_name(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Err(_) if names::parse_ip(name).is_some() => vec!["must not have leading 0s".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        Ok(std::net::IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(address) if address.to_string() != name => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        Ok(_) => Vec::new(),
    }
}

/// Checks a new address.
pub(crate) fn address(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, address_name, errors);
    let parent = tree::get(tree::get(object, "spec"), "parentRef");
    let path = SPEC.child("parentRef");
    if parent.is_null() {
        errors.push(Error::required(&path, ""));
        return;
    }
    let group = tree::text(parent, "group");
    if !group.is_empty() {
        subdomain(group, &path.child("group"), errors);
    }
    for (name, demanded) in [("resource", true), ("name", true), ("namespace", false)] {
        let path = path.child(name);
        match tree::text(parent, name) {
            "" if demanded => errors.push(Error::required(&path, "")),
            "" => {}
            text => invalid_each(&path, text, names::path_segment(text), errors),
        }
    }
}

/// Checks a changed address: whose it is stays.
pub(crate) fn address_update(new: &Value, old: &Value, errors: &mut Errors) {
    address(new, errors);
    meta::update(new, old, errors);
    immutable(tree::get(new, "spec"), tree::get(old, "spec"), "parentRef", &SPEC, errors);
}

/// Checks a new range of addresses.
pub(crate) fn range(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    ranges(tree::get(object, "spec"), errors);
}

fn ranges(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("cidrs");
    let texts: Vec<&str> = tree::texts(spec, "cidrs").collect();
    if texts.is_empty() {
        errors.push(Error::required(&path, "at least one CIDR required"));
        return;
    }
    if texts.len() > 2 {
        errors.push(Error::invalid(&path, spec.clone(), "may only hold up to 2 values"));
        return;
    }
    for (i, text) in texts.iter().enumerate() {
        strict_cidr(text, &path.index(i), errors);
    }
    let parsed: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if let [IpNet::V4(_), IpNet::V4(_)] | [IpNet::V6(_), IpNet::V6(_)] = parsed.as_slice() {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                      2001:db8::/64";
        errors.push(Error::invalid(&path, tree::get(spec, "cidrs").clone(), detail));
    }
}

/// A CIDR block of a network, as it is written in its canonical form.
fn strict_cidr(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    cidr(text, path, errors);
    if errors.len() > before {
        return;
    }
    let Ok(range) = text.parse::<IpNet>() else {
        let detail = "must not have leading 0s in IP or prefix length";
        errors.push(Error::invalid(path, text, detail));
        return;
    };
    let leading =
        text.split_once('/').is_some_and(|(_, bits)| bits.len() > 1 && bits.starts_with('0'));
    let mapped = matches!(range, IpNet::V6(range) if range.addr().to_ipv4_mapped().is_some());
    let detail = if leading {
        "must not have leading 0s in IP or prefix length".to_owned()
    } else if mapped {
        "must not have an IPv4-mapped IPv6 address".to_owned()
    } else if range.addr() != range.network() {
        "must not have bits set beyond the prefix length".to_owned()
    } else if range.to_string() != text {
        format!("must be in canonical form (\"{range}\")")
    } else {
        return;
    };
    errors.push(Error::invalid(path, text, detail));
}

/// Checks a changed range: it stays, but for a second one of the other family.
pub(crate) fn range_update(new: &Value, old: &Value, errors: &mut Errors) {
    range(new, errors);
    meta::update(new, old, errors);
    let spec = tree::get(new, "spec");
    let path = SPEC.child("cidrs");
    let before: Vec<&str> = tree::texts(tree::get(old, "spec"), "cidrs").collect();
    let after: Vec<&str> = tree::texts(spec, "cidrs").collect();
    let grows = before.len() == 1 && after.len() == 2;
    if before.len() != after.len() && !grows {
        errors.push(Error::invalid(&path, tree::get(spec, "cidrs").clone(), super::IMMUTABLE));
        return;
    }
    for (i, (was, is)) in before.iter().zip(&after).enumerate() {
        if was != is {
            errors.push(Error::invalid(&path.index(i), *is, super::IMMUTABLE));
        }
    }
    if grows {
        ranges(spec, errors);
    }
}
