//! CertificateSigningRequest: approves nodes' own ones, signs what is approved, and clears away what is over.
//!
//! Desired: a decision for requests of `kubernetes.io/kube-apiserver-client-kubelet` whose users may make them; a
//! certificate, or the condition `Failed`, for approved ones of the three signers that the cluster's authority serves;
//! no requests older than upstream keeps them. Writes: conditions, `status.certificate`, the deletion.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use quorate_state_machine::Key;
use serde_json::{Value, json};

use crate::config::{CertificateSigner, Requested};
use crate::model::to_value;
use crate::plan::{Ctx, Plan, after};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";

/// How long a request is kept that was decided, and one that nobody decides (upstream's times).
const DECIDED_KEPT: Duration = Duration::from_secs(3600);
const PENDING_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long a certificate is good for when nobody says (upstream's `--cluster-signing-duration`), and at most.
const CERTIFICATE_SECONDS_MAX: i64 = 365 * 24 * 3600;

/// What is to be done for one request.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key).filter(|found| found.image.header.deletion.is_none())
    else {
        return plan;
    };
    let mut object = to_value(stored);
    if let Some(end) = end(ctx, &object) {
        if end <= ctx.now {
            plan.delete(stored);
            return plan;
        }
        plan.wake_at(end, ctx.now);
    }
    let Some(signer) = ctx.config.certificates.as_deref() else { return plan };
    let pem = STANDARD.decode(text(&object["spec"]["request"])).ok();
    let Some(pem) = pem.and_then(|bytes| String::from_utf8(bytes).ok()) else { return plan };
    if is_pending(&object) {
        if let Some(message) = approval(ctx, signer, &object["spec"], &pem) {
            add_condition(ctx, &mut object, ("Approved", "AutoApproved", message));
            plan.update(stored, object, "approval");
        }
    } else if has(&object, "Approved")
        && !has(&object, "Denied")
        && !has(&object, "Failed")
        && text(&object["status"]["certificate"]).is_empty()
        && [CLIENT, NODE_CLIENT, NODE_SERVING].contains(&text(&object["spec"]["signerName"]))
    {
        match signed(ctx, signer, &object["spec"], &pem) {
            Ok(certificate) => {
                object["status"]["certificate"] = json!(STANDARD.encode(certificate));
            }
            Err(why) => {
                add_condition(ctx, &mut object, ("Failed", "SignerValidationFailure", &why));
            }
        }
        plan.update(stored, object, "status");
    }
    plan
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| text(item).to_owned()).collect()
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

fn has(object: &Value, kind: &str) -> bool {
    conditions(object).any(|one| one["type"] == kind)
}

fn is_pending(object: &Value) -> bool {
    conditions(object).next().is_none()
}

fn add_condition(ctx: &Ctx<'_>, object: &mut Value, (kind, reason, message): (&str, &str, &str)) {
    let now = super::stamp(ctx.now).to_string();
    let new = json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now});
    match object["status"]["conditions"].as_array_mut() {
        Some(all) => all.push(new),
        None => object["status"]["conditions"] = json!([new]),
    }
}

/// When the request is over.
fn end(ctx: &Ctx<'_>, object: &Value) -> Option<Timestamp> {
    let time = |value: &Value| text(value).parse::<Timestamp>().ok();
    if is_pending(object) {
        return Some(after(time(&object["metadata"]["creationTimestamp"])?, PENDING_KEPT));
    }
    let decided = conditions(object)
        .filter(|one| ["Approved", "Denied", "Failed"].contains(&text(&one["type"])))
        .filter_map(|one| time(&one["lastUpdateTime"]))
        .map(|at| after(at, DECIDED_KEPT));
    let certificate = STANDARD.decode(text(&object["status"]["certificate"])).unwrap_or_default();
    let certificate = String::from_utf8(certificate).unwrap_or_default();
    let signer = ctx.config.certificates.as_deref();
    let expires = signer.filter(|_| !certificate.is_empty());
    let expires = expires.and_then(|signer| signer.ends_at(&certificate));
    let expires = expires.and_then(|end| Timestamp::from_second(end + 1).ok());
    decided.chain(expires).min()
}

/// Why a node's request for its own client certificate is approved; `None` when somebody has to look at it.
fn approval<'m>(
    ctx: &Ctx<'_>,
    signer: &dyn CertificateSigner,
    spec: &Value,
    pem: &str,
) -> Option<&'m str> {
    if text(&spec["signerName"]) != NODE_CLIENT {
        return None;
    }
    let asked = signer.read(pem).ok()?;
    node_client(&asked, &usages(spec)).ok()?;
    let reviews = ctx.config.access.as_deref()?;
    let (user, groups) = (text(&spec["username"]), texts(&spec["groups"]));
    let may = |subresource: &str| reviews.may_request(user, &groups, subresource);
    if asked.name == user && may("selfnodeclient") {
        return Some("Auto approving self kubelet client certificate after SubjectAccessReview.");
    }
    may("nodeclient")
        .then_some("Auto approving kubelet client certificate after SubjectAccessReview.")
}

fn usages(spec: &Value) -> BTreeSet<String> {
    texts(&spec["usages"]).into_iter().collect()
}

fn signed(
    ctx: &Ctx<'_>,
    signer: &dyn CertificateSigner,
    spec: &Value,
    pem: &str,
) -> Result<String, String> {
    let asked = signer.read(pem)?;
    let usages = usages(spec);
    match text(&spec["signerName"]) {
        NODE_CLIENT => node_client(&asked, &usages)?,
        NODE_SERVING => node_serving(&asked, &usages)?,
        _ => client(&usages)?,
    }
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(CERTIFICATE_SECONDS_MAX);
    let usages: Vec<String> = usages.into_iter().collect();
    signer.sign(pem, &usages, ctx.now, seconds.min(CERTIFICATE_SECONDS_MAX))
}

/// A client of the API.
fn client(usages: &BTreeSet<String>) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.contains("client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

fn of_a_node(asked: &Requested) -> Result<(), String> {
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    if !asked.name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".to_owned());
    }
    Ok(())
}

fn exactly(usages: &BTreeSet<String>, purpose: &str) -> Result<(), String> {
    let mut wanted = BTreeSet::from(["digital signature".to_owned(), purpose.to_owned()]);
    let without = *usages == wanted;
    wanted.insert("key encipherment".to_owned());
    if without || *usages == wanted {
        return Ok(());
    }
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// A node towards the API.
fn node_client(asked: &Requested, usages: &BTreeSet<String>) -> Result<(), String> {
    of_a_node(asked)?;
    for (count, what) in [
        (asked.dns_names, "DNS"),
        (asked.emails, "Email"),
        (asked.addresses, "IP"),
        (asked.uris, "URI"),
    ] {
        if count > 0 {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    exactly(usages, "client auth")
}

/// A node that is asked for logs and streams.
fn node_serving(asked: &Requested, usages: &BTreeSet<String>) -> Result<(), String> {
    of_a_node(asked)?;
    if asked.dns_names == 0 && asked.addresses == 0 {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    for (count, what) in [(asked.emails, "Email"), (asked.uris, "URI")] {
        if count > 0 {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    exactly(usages, "server auth")
}

#[cfg(test)]
mod tests;
