//! The pod spec: what pods and pod templates share.

use serde_json::{Value, json};

use super::{
    Errors, affinity, container, invalid_each, ip, label, meta, names, one_of, os, qualified,
    required, resources, security, subdomain, volume,
};
use crate::field::{Error, Path};
use crate::tree;

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
const HOSTNAME_MAX: usize = 64;

/// Whether the spec is a pod's own or a template's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Pod,
    Template,
}

/// Checks a pod spec.
pub(super) fn pod_spec(spec: &Value, owner: Owner, path: &Path<'_>, errors: &mut Errors) {
    let grace = tree::int_opt(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = volume::volumes(spec, path, errors);
    let claims = tree::list(spec, "resourceClaims");
    let ctx = container::Context {
        volumes,
        claims: claims.iter().map(|c| tree::text(c, "name")).filter(|n| !n.is_empty()).collect(),
        grace,
        restart_policy: tree::text(spec, "restartPolicy"),
        host_users: tree::flag_opt(spec, "hostUsers") != Some(false),
    };
    resource_claims(claims, &path.child("resourceClaims"), errors);
    container::regular(spec, &ctx, path, errors);
    container::init(spec, &ctx, path, errors);
    container::ephemeral(spec, &ctx, path, errors);
    resources::pod_level(spec, &path.child("resources"), errors);
    host_network(spec, owner, path, errors);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    one_of(spec, "dnsPolicy", &DNS_POLICIES, path, errors);
    meta::labels(tree::get(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
    pull_secrets(spec, &path.child("imagePullSecrets"), errors);
    affinity::affinity(spec, path, errors);
    dns(spec, &path.child("dnsConfig"), errors);
    gates(spec, path, errors);
    affinity::spread(spec, path, errors);
    os::host_process(spec, path, errors);
    host_users(spec, path, errors);
    names_in(spec, path, errors);
    affinity::tolerations(spec, path, errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    choices(spec, path, errors);
}

fn resource_claims(claims: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let path = path.index(i);
        let name = tree::text(claim, "name");
        if required(claim, "name", &path, errors) {
            if seen.contains(&name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            } else {
                label(name, &path.child("name"), errors);
                seen.push(name);
            }
        }
        let (direct, template) = ("resourceClaimName", "resourceClaimTemplateName");
        match (tree::text_opt(claim, direct), tree::text_opt(claim, template)) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` \
                              may be specified";
                errors.push(Error::invalid(&path, claim.clone(), detail));
            }
            (None, None) => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(Error::invalid(&path, claim.clone(), detail));
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        for field in [direct, template] {
            if let Some(name) = tree::text_opt(claim, field) {
                subdomain(name, &path.child(field), errors);
            }
        }
    }
}

fn host_network(spec: &Value, owner: Owner, path: &Path<'_>, errors: &mut Errors) {
    if !tree::flag(spec, "hostNetwork") {
        return;
    }
    let path = path.child("containers");
    for (i, container) in tree::list(spec, "containers").iter().enumerate() {
        let item = path.index(i);
        let ports = item.child("ports");
        for (j, port) in tree::list(container, "ports").iter().enumerate() {
            let (host, inner) = (tree::int(port, "hostPort"), tree::int(port, "containerPort"));
            if (owner == Owner::Pod || host != 0) && host != inner {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&ports.index(j).child("hostPort"), host, detail));
            }
        }
    }
}

fn pull_secrets(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, secret) in tree::list(spec, "imagePullSecrets").iter().enumerate() {
        let more = secret.as_object().is_some_and(|map| map.keys().any(|key| key != "name"));
        if more {
            errors.push(Error::invalid(&path.index(i), secret.clone(), "only name may be set"));
        }
    }
}

fn dns(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let config = tree::get(spec, "dnsConfig");
    let servers: Vec<&str> = tree::texts(config, "nameservers").collect();
    if tree::text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Error::required(path, detail));
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&path.child("nameservers"), detail));
            return;
        }
    }
    let servers_path = path.child("nameservers");
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(Error::invalid(&servers_path, json!(servers), detail));
    }
    for (i, server) in servers.iter().enumerate() {
        ip(server, &servers_path.index(i), errors);
    }
    let searches: Vec<&str> = tree::texts(config, "searches").collect();
    let searches_path = path.child("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(Error::invalid(&searches_path, json!(searches), detail));
    }
    if searches.join(" ").len() > SEARCH_CHARACTERS_MAX {
        let detail = format!(
            "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in \
             the search list"
        );
        errors.push(Error::invalid(&searches_path, json!(searches), detail));
    }
    for (i, search) in searches.iter().enumerate() {
        // "." alone, a trailing dot and underscores are used by resolvers.
        let relaxed = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        if !relaxed.is_empty() {
            let problems = names::dns1123_subdomain(&relaxed);
            invalid_each(&searches_path.index(i), search, problems, errors);
        }
    }
    let options = path.child("options");
    for (i, option) in tree::list(config, "options").iter().enumerate() {
        if tree::text(option, "name").is_empty() {
            errors.push(Error::required(&options.index(i), "must not be empty"));
        }
    }
}

fn gates(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("readinessGates");
    for (i, gate) in tree::list(spec, "readinessGates").iter().enumerate() {
        let kind = tree::text(gate, "conditionType");
        qualified(kind, &list.index(i).child("conditionType"), errors);
    }
    let list = path.child("schedulingGates");
    let mut seen = Vec::new();
    for (i, gate) in tree::list(spec, "schedulingGates").iter().enumerate() {
        let name = tree::text(gate, "name");
        qualified(name, &list.index(i), errors);
        if seen.contains(&name) {
            errors.push(Error::duplicate(&list.index(i), name));
        }
        seen.push(name);
    }
}

fn host_users(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if tree::flag_opt(spec, "hostUsers") != Some(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "hostPID"), ("hostIPC", "hostIPC")]
    {
        if tree::flag(spec, field) {
            errors.push(Error::forbidden(&path.child(shown), detail));
        }
    }
}

fn names_in(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for name in ["serviceAccountName", "nodeName"] {
        let value = tree::text(spec, name);
        if !value.is_empty() {
            subdomain(value, &path.child(name), errors);
        }
    }
    if let Some(seconds) = tree::int_opt(spec, "activeDeadlineSeconds") {
        let most = i64::from(i32::MAX);
        if !(1..=most).contains(&seconds) {
            let path = path.child("activeDeadlineSeconds");
            errors.push(Error::invalid(&path, seconds, names::range(1, most)));
        }
    }
    for name in ["hostname", "subdomain"] {
        let value = tree::text(spec, name);
        if !value.is_empty() {
            label(value, &path.child(name), errors);
        }
    }
    if let Some(name) = tree::text_opt(spec, "hostnameOverride") {
        let path = path.child("hostnameOverride");
        invalid_each(&path, name, names::dns1123_subdomain(name), errors);
        if name.len() > HOSTNAME_MAX {
            errors.push(Error::too_long(&path, HOSTNAME_MAX));
        }
        if tree::flag(spec, "setHostnameAsFQDN") {
            let detail = "may not be specified when setHostnameAsFQDN is true";
            errors.push(Error::forbidden(&path, detail));
        }
        if tree::flag(spec, "hostNetwork") {
            let detail = "may not be specified when hostNetwork is true";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, alias) in tree::list(spec, "hostAliases").iter().enumerate() {
        let path = path.index(i);
        ip(tree::text(alias, "ip"), &path.child("ip"), errors);
        let hosts = path.child("hostnames");
        for (j, host) in tree::texts(alias, "hostnames").enumerate() {
            subdomain(host, &hosts.index(j), errors);
        }
    }
}

fn choices(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let class = tree::text(spec, "priorityClassName");
    if !class.is_empty() {
        subdomain(class, &path.child("priorityClassName"), errors);
    }
    if let Some(class) = tree::text_opt(spec, "runtimeClassName") {
        subdomain(class, &path.child("runtimeClassName"), errors);
    }
    if tree::has(spec, "preemptionPolicy") {
        one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
    if tree::has(spec, "overhead") {
        let limits = json!({"limits": tree::get(spec, "overhead")});
        resources::requirements(&limits, &[], &path.child("overhead"), errors);
    }
    os::os(spec, path, errors);
}
