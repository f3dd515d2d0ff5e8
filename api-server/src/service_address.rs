//! Cluster IPs and node ports of services: taken as claims of the object, so that two services can
//! never have one address, on whichever masters they are made (upstream's service REST `alloc`).

use std::net::IpAddr;

use ipnet::IpNet;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::{GroupResource as StoreResource, ResourceView};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::admission::{Context, Draft, Operation};
use crate::limits::{ALLOCATION_RETRIES_MAX, RANDOM_ALLOCATIONS_MAX};
use crate::model::{has_items, text};
use crate::status_error::{Answer, Refusal};

const IP_CLAIM: &str = "clusterIP/";
const PORT_CLAIM: &str = "nodePort/";
const FAMILIES: &str = "ipFamilies";

/// Fills addresses and ports of a service and gives back the claims on them. Other kinds have none.
pub(crate) fn allocate(ctx: &Context<'_>, draft: &mut Draft) -> Answer<Vec<String>> {
    if !draft.def.group().is_empty() || draft.def.plural != "services" {
        return Ok(Vec::new());
    }
    let taken = Taken {
        services: ctx.view.resource(&StoreResource::new("", "services")).map(|view| &**view),
        own: claims(&draft.old),
    };
    if draft.sub.is_empty() {
        if draft.operation == Operation::Update {
            keep_allocated(&mut draft.object, &draft.old);
        }
        families(ctx, draft)?;
        addresses(ctx, draft, &taken)?;
        ports(ctx, draft, &taken)?;
    }
    Ok(claims(&draft.object))
}

/// The claims of a service.
fn claims(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let mut out: Vec<String> = strings(&spec["clusterIPs"])
        .into_iter()
        .filter(|ip| ip.parse::<IpAddr>().is_ok())
        .map(|ip| format!("{IP_CLAIM}{ip}"))
        .collect();
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports = ports.map(|port| &port["nodePort"]).chain([&spec["healthCheckNodePort"]]);
    for port in ports.filter_map(Value::as_i64).filter(|port| *port > 0) {
        let claim = format!("{PORT_CLAIM}{port}");
        // One service may use a number for TCP and for UDP.
        if !out.contains(&claim) {
            out.push(claim);
        }
    }
    out
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

/// What is taken already, by others.
struct Taken<'a> {
    services: Option<&'a ResourceView>,
    own: Vec<String>,
}

impl Taken<'_> {
    fn is_free(&self, claim: &str) -> bool {
        self.own.iter().any(|own| own == claim)
            || self.services.is_none_or(|services| services.claim_holder(claim).is_none())
    }
}

/// 422 when a claim that was lost to another service had been asked for by name; else it may be
/// tried again with another one.
fn refused(draft: &Draft, claim: &str) -> Option<Refusal> {
    if !claims(&draft.object).iter().any(|own| own == claim) {
        return None;
    }
    if let Some(ip) = claim.strip_prefix(IP_CLAIM) {
        return Some(invalid(
            draft,
            &ip_error(
                draft,
                &format!("failed to allocate IP {ip}: provided IP is already allocated"),
            ),
        ));
    }
    let port: i64 = claim.strip_prefix(PORT_CLAIM)?.parse().ok()?;
    let position = draft.object["spec"]["ports"]
        .as_array()
        .and_then(|ports| ports.iter().position(|one| one["nodePort"].as_i64() == Some(port)))
        .unwrap_or(0);
    Some(invalid(draft, &port_error(position, port, "provided port is already allocated")))
}

/// Another service was faster: `Ok` when it may be tried again with another address.
pub(crate) fn lost(draft: &Draft, claim: &str, tries: &mut usize) -> Answer<()> {
    if let Some(refusal) = refused(draft, claim) {
        return Err(refusal);
    }
    *tries += 1;
    if *tries < ALLOCATION_RETRIES_MAX {
        return Ok(());
    }
    Err(Box::new(Status::internal_error(&format!(
        "failed to allocate {claim}: other services took it first"
    ))))
}

fn invalid(draft: &Draft, error: &Error) -> Refusal {
    let kind = GroupResource::new("", "Service");
    Box::new(Status::invalid(kind, &draft.name, std::slice::from_ref(error)))
}

fn refuse(draft: &Draft, errors: &[Error]) -> Answer<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupResource::new("", "Service");
    Err(Box::new(Status::invalid(kind, &draft.name, errors)))
}

fn ip_error(draft: &Draft, why: &str) -> Error {
    let path = Path::new("spec");
    Error::invalid(&path.child("clusterIPs"), draft.object["spec"]["clusterIPs"].clone(), why)
}

fn port_error(position: usize, port: i64, why: &str) -> Error {
    let path = Path::new("spec");
    let path = path.child("ports");
    let path = path.index(position);
    Error::invalid(&path.child("nodePort"), port, why)
}

fn is_external_name(spec: &Value) -> bool {
    spec["type"] == "ExternalName"
}

/// An update that leaves addresses and ports out keeps those it has.
fn keep_allocated(new: &mut Value, old: &Value) {
    let (spec, before) = (&mut new["spec"], &old["spec"]);
    if is_external_name(spec) || is_external_name(before) {
        return;
    }
    if text(&spec["clusterIP"]).is_empty() && !has_items(&spec["clusterIPs"]) {
        for field in ["clusterIP", "clusterIPs"] {
            if !before[field].is_null() {
                spec[field] = before[field].clone();
            }
        }
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if spec[field].is_null() && !before[field].is_null() {
            spec[field] = before[field].clone();
        }
    }
    if needs_node_ports(spec) && needs_node_ports(before) {
        let before = before["ports"].as_array().cloned().unwrap_or_default();
        for port in spec["ports"].as_array_mut().into_iter().flatten() {
            if port["nodePort"].as_i64().unwrap_or(0) != 0 {
                continue;
            }
            let same = before
                .iter()
                .find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"]);
            if let Some(kept) = same.and_then(|old| old["nodePort"].as_i64()) {
                port["nodePort"] = json!(kept);
            }
        }
    }
    if needs_health_port(spec)
        && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0
        && !old["spec"]["healthCheckNodePort"].is_null()
    {
        spec["healthCheckNodePort"] = old["spec"]["healthCheckNodePort"].clone();
    }
}

fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

fn net_family(net: &IpNet) -> &'static str {
    if net.addr().is_ipv6() { "IPv6" } else { "IPv4" }
}

fn same(a: &Value, b: &Value, field: &str) -> bool {
    strings(&a[field]) == strings(&b[field])
}

/// `ipFamilyPolicy`, `ipFamilies` and the two forms of the address (upstream's
/// `initIPFamilyFields`).
fn families(ctx: &Context<'_>, draft: &mut Draft) -> Answer<()> {
    let spec = &mut draft.object["spec"];
    if is_external_name(spec) {
        return Ok(());
    }
    let single = text(&spec["clusterIP"]).to_owned();
    if has_items(&spec["clusterIPs"]) {
        if single.is_empty() {
            spec["clusterIP"] = spec["clusterIPs"][0].clone();
        }
    } else if !single.is_empty() {
        spec["clusterIPs"] = json!([single]);
    }
    let old = &draft.old["spec"];
    let prefers = |spec: &Value| spec["ipFamilyPolicy"] == "PreferDualStack";
    if prefers(&*spec) && prefers(old) && same(spec, old, "clusterIPs") && same(spec, old, FAMILIES)
    {
        return Ok(());
    }
    let selectorless = spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    let free = spec["clusterIP"] == "None" && selectorless;
    if text(&spec["ipFamilyPolicy"]).is_empty() {
        spec["ipFamilyPolicy"] = match text(&old["ipFamilyPolicy"]) {
            "" if free => json!("RequireDualStack"),
            "" => json!("SingleStack"),
            before => json!(before),
        };
    }
    let malformed = quorate_api::validation::service_addresses(spec);
    refuse(draft, &malformed)?;
    let served: Vec<&str> = ctx.facts.service_cidrs.iter().map(net_family).collect();
    let before = &draft.old["spec"];
    let errors = reconcile(&mut draft.object["spec"], before, &served);
    refuse(draft, &errors)?;
    let errors = if free { Vec::new() } else { not_served(&draft.object["spec"], &served) };
    refuse(draft, &errors)?;
    let spec = &mut draft.object["spec"];
    let mut families = strings(&spec[FAMILIES]);
    if families.is_empty() {
        families.extend(served.first().map(|family| (*family).to_owned()));
    }
    let dual = spec["ipFamilyPolicy"] != "SingleStack" && (free || served.len() == 2);
    if dual && families.len() == 1 {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    spec[FAMILIES] = json!(families);
    Ok(())
}

/// What the policy says about how many addresses and families there are, and the families that
/// follow from the addresses.
fn reconcile(spec: &mut Value, old: &Value, served: &[&str]) -> Vec<Error> {
    let path = Path::new("spec");
    let policy_path = path.child("ipFamilyPolicy");
    let policy = spec["ipFamilyPolicy"].clone();
    let single = policy == "SingleStack";
    let mut errors = Vec::new();
    for (field, released, several) in [
        (
            "clusterIPs",
            "must be 'SingleStack' to release the secondary cluster IP",
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are \
             specified",
        ),
        (
            FAMILIES,
            "must be 'SingleStack' to release the secondary IP family",
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are \
             specified",
        ),
    ] {
        let (now, then) = (strings(&spec[field]), strings(&old[field]));
        if single && !old.is_null() && now == then && now.len() > 1 {
            spec[field] = json!(now[..1]);
        } else if single && now.len() == 2 {
            errors.push(Error::invalid(&policy_path, policy.clone(), several));
        } else if !single && !now.is_empty() && now.len() < then.len() {
            errors.push(Error::invalid(&policy_path, policy.clone(), released));
        }
    }
    let mut families = strings(&spec[FAMILIES]);
    let list = path.child("clusterIPs");
    for (i, ip) in strings(&spec["clusterIPs"]).iter().enumerate().skip(families.len()) {
        if ip == "None" {
            break;
        }
        let family = family_of(ip);
        if served.contains(&family) {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(Error::invalid(&list.index(i), spec["clusterIPs"].clone(), why));
        }
    }
    if !families.is_empty() {
        spec[FAMILIES] = json!(families);
    }
    errors
}

/// What this cluster has no ranges for.
fn not_served(spec: &Value, served: &[&str]) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if spec["ipFamilyPolicy"] == "RequireDualStack" && served.len() < 2 {
        errors.push(Error::invalid(
            &path.child("ipFamilyPolicy"),
            spec["ipFamilyPolicy"].clone(),
            "this cluster is not configured for dual-stack services",
        ));
    }
    let list = path.child(FAMILIES);
    for (i, family) in strings(&spec[FAMILIES]).iter().enumerate() {
        if !served.contains(&family.as_str()) {
            let why = "not configured on this cluster";
            errors.push(Error::invalid(&list.index(i), family.as_str(), why));
        }
    }
    errors
}

fn addresses(ctx: &Context<'_>, draft: &mut Draft, taken: &Taken<'_>) -> Answer<()> {
    let spec = &draft.object["spec"];
    if is_external_name(spec) || spec["clusterIP"] == "None" {
        return Ok(());
    }
    let wanted = strings(&spec["ipFamilies"]);
    let policy = text(&spec["ipFamilyPolicy"]).to_owned();
    let mut ips = strings(&spec["clusterIPs"]);
    let before = &draft.old["spec"];
    if draft.operation == Operation::Update && !is_external_name(before) {
        let before = strings(&before["clusterIPs"]);
        // Addresses stay as they are; validation says so to whoever wants another one.
        let changed = ips.iter().zip(&before).any(|(now, then)| now != then);
        if changed || (ips == before && !ips.is_empty() && wanted.len() <= ips.len()) {
            return Ok(());
        }
    }
    for ip in &ips {
        let error = match ip.parse::<IpAddr>() {
            Ok(parsed) => explicit(ctx, parsed, taken),
            Err(_) => Some("must be a valid IP address".to_owned()),
        };
        if let Some(why) = error {
            return Err(invalid(draft, &ip_error(draft, &why)));
        }
    }
    for family in wanted.iter().skip(ips.len()) {
        let net = ctx.facts.service_cidrs.iter().find(|net| net_family(net) == family);
        match net {
            Some(net) => {
                let ip = pick(net, taken).ok_or_else(|| {
                    Box::new(Status::internal_error(&format!(
                        "failed to allocate a serviceIP: range is full ({net})"
                    )))
                })?;
                ips.push(ip.to_string());
            }
            None if policy == "RequireDualStack" || ips.is_empty() => {
                let path = Path::new("spec");
                let error = Error::invalid(
                    &path.child("ipFamilies"),
                    json!(wanted),
                    format!("this cluster is not configured for {family} service addresses"),
                );
                return Err(invalid(draft, &error));
            }
            None => {}
        }
    }
    let families: Vec<&str> = ips.iter().map(|ip| family_of(ip)).collect();
    let spec = &mut draft.object["spec"];
    spec["ipFamilies"] = json!(families);
    if let Some(first) = ips.first() {
        spec["clusterIP"] = json!(first);
    }
    spec["clusterIPs"] = json!(ips);
    Ok(())
}

/// Why an address that was asked for cannot be had.
fn explicit(ctx: &Context<'_>, ip: IpAddr, taken: &Taken<'_>) -> Option<String> {
    let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
    let Some(net) = ctx.facts.service_cidrs.iter().find(|net| net_family(net) == family) else {
        return Some(format!("failed to allocate IP {ip}: no range of its family is configured"));
    };
    if !net.contains(&ip) || ip == net.network() || (ip == net.broadcast() && ip.is_ipv4()) {
        return Some(format!(
            "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The \
             range of valid IPs is {net}"
        ));
    }
    (!taken.is_free(&format!("{IP_CLAIM}{ip}")))
        .then(|| format!("failed to allocate IP {ip}: provided IP is already allocated"))
}

/// A free address. The lower band of the range is left to addresses that are asked for by name
/// (upstream's KEP-3070); it is used when the rest is full.
fn pick(net: &IpNet, taken: &Taken<'_>) -> Option<IpAddr> {
    let size = usable(net);
    let band = if size > 16 { (size / 16).clamp(16, 256) } else { 0 };
    let free = |offset: u128| {
        let ip = nth(net, offset)?;
        taken.is_free(&format!("{IP_CLAIM}{ip}")).then_some(ip)
    };
    let mut rng = quorate_chance::rng();
    for _ in 0..RANDOM_ALLOCATIONS_MAX {
        if let Some(ip) = free(rng.random_range(band..size.max(band + 1)) + 1) {
            return Some(ip);
        }
    }
    (band..size).chain(0..band).find_map(|offset| free(offset + 1))
}

/// Addresses of the range that services may have: not the network's, not the broadcast's.
fn usable(net: &IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    // 2^16 addresses of a larger IPv6 range are enough, as upstream.
    let size = 1u128 << bits.min(if net.addr().is_ipv6() { 16 } else { 32 });
    size.saturating_sub(2)
}

fn nth(net: &IpNet, offset: u128) -> Option<IpAddr> {
    match net.network() {
        IpAddr::V4(base) => {
            let offset = u32::try_from(offset).ok()?;
            Some(IpAddr::V4(u32::from(base).checked_add(offset)?.into()))
        }
        IpAddr::V6(base) => Some(IpAddr::V6(u128::from(base).checked_add(offset)?.into())),
    }
}

fn needs_node_ports(spec: &Value) -> bool {
    match text(&spec["type"]) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn needs_health_port(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

fn ports(ctx: &Context<'_>, draft: &mut Draft, taken: &Taken<'_>) -> Answer<()> {
    let (low, high) = ctx.facts.node_ports;
    let spec = &draft.object["spec"];
    let typed = matches!(text(&spec["type"]), "NodePort" | "LoadBalancer");
    let automatic = needs_node_ports(spec);
    let before = claims(&draft.old);
    let list = spec["ports"].as_array().cloned().unwrap_or_default();
    let mut mine: Vec<(i64, String)> = Vec::new();
    let mut chosen = Vec::new();
    for (position, port) in list.iter().enumerate() {
        let wanted = port["nodePort"].as_i64().unwrap_or(0);
        let protocol = text(&port["protocol"]).to_owned();
        let number = if wanted != 0 && typed {
            let known = before.contains(&format!("{PORT_CLAIM}{wanted}"));
            let why = if known {
                None
            } else if !(i64::from(low)..=i64::from(high)).contains(&wanted) {
                Some(format!(
                    "provided port is not in the valid range. The range of valid ports is \
                     {low}-{high}"
                ))
            } else if taken.is_free(&format!("{PORT_CLAIM}{wanted}")) {
                None
            } else {
                Some("provided port is already allocated".to_owned())
            };
            if let Some(why) = why {
                return Err(invalid(draft, &port_error(position, wanted, &why)));
            }
            wanted
        } else if automatic {
            // The same port for another protocol gets the same number.
            let twin = list.iter().zip(&chosen).find(|(other, _): &(&Value, &i64)| {
                other["port"] == port["port"] && text(&other["protocol"]) != protocol
            });
            let shared = twin.map(|(_, number)| *number).filter(|number| {
                *number != 0 && !mine.iter().any(|one| *one == (*number, protocol.clone()))
            });
            match shared.or_else(|| pick_port(low, high, taken, &mine)) {
                Some(number) => number,
                None => return Err(full(low, high)),
            }
        } else if text(&spec["type"]) == "ClusterIP" {
            // Not for this type: validation says so.
            wanted
        } else {
            0
        };
        mine.push((number, protocol));
        chosen.push(number);
    }
    let spec = &mut draft.object["spec"];
    for (port, number) in spec["ports"].as_array_mut().into_iter().flatten().zip(&chosen) {
        if *number == 0 {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        } else {
            port["nodePort"] = json!(number);
        }
    }
    if needs_health_port(spec) && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0 {
        let number = pick_port(low, high, taken, &mine).ok_or_else(|| full(low, high))?;
        spec["healthCheckNodePort"] = json!(number);
    }
    Ok(())
}

fn full(low: u16, high: u16) -> Refusal {
    Box::new(Status::internal_error(&format!(
        "failed to allocate a nodePort: range is full ({low}-{high})"
    )))
}

fn pick_port(low: u16, high: u16, taken: &Taken<'_>, mine: &[(i64, String)]) -> Option<i64> {
    let free = |port: u16| {
        let port = i64::from(port);
        let own = mine.iter().any(|(number, _)| *number == port);
        (!own && taken.is_free(&format!("{PORT_CLAIM}{port}"))).then_some(port)
    };
    // As for addresses: the lower band is for ports that are asked for.
    let size = high.saturating_sub(low).saturating_add(1);
    let band = if size > 32 { (size / 32).clamp(16, 128) } else { 0 };
    let start = low.saturating_add(band);
    let mut rng = quorate_chance::rng();
    (0..RANDOM_ALLOCATIONS_MAX)
        .find_map(|_| free(rng.random_range(start..=high)))
        .or_else(|| (start..=high).chain(low..start).find_map(free))
}
