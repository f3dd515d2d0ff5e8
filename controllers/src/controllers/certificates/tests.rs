//! Requests from their coming to their end, with an authority that only pretends to sign.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::config::AccessReviews;
use crate::plan::Controller;
use crate::resources::SIGNING_REQUESTS;
use crate::testing::Cluster;

/// Reads `NAME ORGANIZATION` and signs by repeating it.
#[derive(Debug)]
struct Fake;

impl CertificateSigner for Fake {
    fn read(&self, request_pem: &str) -> Result<Requested, String> {
        let (name, organization) = request_pem.split_once(' ').ok_or("no request")?;
        let organizations = vec![organization.to_owned()];
        Ok(Requested { name: name.to_owned(), organizations, ..Requested::default() })
    }

    fn sign(
        &self,
        request_pem: &str,
        usages: &[String],
        _: Timestamp,
        seconds: i64,
    ) -> Result<String, String> {
        Ok(format!("{request_pem} for {} for {seconds} s", usages.join(", ")))
    }

    fn ends_at(&self, certificate_pem: &str) -> Option<i64> {
        certificate_pem.contains("for 600 s").then(|| crate::testing::start().as_second() + 600)
    }
}

impl AccessReviews for Fake {
    fn may_request(&self, user: &str, _: &[String], subresource: &str) -> bool {
        user == "system:node:n" && subresource == "selfnodeclient"
    }
}

async fn cluster() -> Cluster {
    let mut cluster = Cluster::new().await;
    cluster.config.certificates = Some(Arc::new(Fake));
    cluster.config.access = Some(Arc::new(Fake));
    cluster
}

async fn ask(cluster: &mut Cluster, signer: &str, user: &str, more: Value) {
    let organization = if user.starts_with("system:node:") { "system:nodes" } else { "people" };
    let mut spec = json!({"signerName": signer, "username": user,
        "usages": ["digital signature", "client auth"],
        "request": STANDARD.encode(format!("{user} {organization}"))});
    for (name, value) in more.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"}, "spec": spec});
    cluster.put(SIGNING_REQUESTS, object).await;
    settle(cluster).await;
}

async fn settle(cluster: &mut Cluster) {
    cluster.settle_key(Controller::Certificates, &SIGNING_REQUESTS.key("", "r")).await;
}

async fn decide(cluster: &mut Cluster, kind: &str) {
    cluster
        .edit(SIGNING_REQUESTS, "", "r", |object| {
            object["status"]["conditions"] = json!([{"type": kind, "status": "True",
            "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
        })
        .await;
    settle(cluster).await;
}

fn found(cluster: &Cluster) -> Option<Value> {
    cluster.get(SIGNING_REQUESTS, "", "r")
}

fn certificate(cluster: &Cluster) -> String {
    let encoded = found(cluster).unwrap()["status"]["certificate"].clone();
    String::from_utf8(STANDARD.decode(text(&encoded)).unwrap()).unwrap()
}

#[tokio::test]
async fn a_node_gets_its_own_certificate_and_nobody_elses() {
    let mut cluster = cluster().await;
    ask(&mut cluster, NODE_CLIENT, "system:node:n", json!({})).await;
    let year = 365 * 24 * 3600;
    let words =
        format!("system:node:n system:nodes for client auth, digital signature for {year} s");
    assert_eq!(certificate(&cluster), words);
    let conditions = &found(&cluster).unwrap()["status"]["conditions"];
    assert_eq!(
        (&conditions[0]["type"], &conditions[0]["reason"]),
        (&json!("Approved"), &json!("AutoApproved"))
    );
    let mut cluster = self::cluster().await;
    ask(&mut cluster, NODE_CLIENT, "system:node:other", json!({})).await;
    assert!(found(&cluster).unwrap()["status"].is_null(), "somebody has to look at it");
}

#[tokio::test]
async fn what_is_approved_is_signed_and_what_is_denied_is_not() {
    let mut cluster = cluster().await;
    ask(&mut cluster, CLIENT, "jane", json!({"expirationSeconds": 600})).await;
    decide(&mut cluster, "Approved").await;
    assert_eq!(certificate(&cluster), "jane people for client auth, digital signature for 600 s");
    let mut cluster = self::cluster().await;
    ask(&mut cluster, CLIENT, "jane", json!({})).await;
    decide(&mut cluster, "Denied").await;
    assert!(found(&cluster).unwrap()["status"]["certificate"].is_null());
    let mut cluster = self::cluster().await;
    ask(&mut cluster, "example.com/own", "jane", json!({})).await;
    decide(&mut cluster, "Approved").await;
    assert!(found(&cluster).unwrap()["status"]["certificate"].is_null(), "not ours to sign");
}

#[tokio::test]
async fn what_a_signer_does_not_take_has_failed() {
    for (signer, user, usages, words) in [
        (
            CLIENT,
            "jane",
            json!(["server auth"]),
            "invalid usage for client certificate: server auth",
        ),
        (
            CLIENT,
            "jane",
            json!(["digital signature"]),
            "missing required usage for client certificate: client auth",
        ),
        (NODE_CLIENT, "jane", json!(["client auth"]), "subject organization is not system:nodes"),
        (
            NODE_CLIENT,
            "system:node:x",
            json!(["client auth"]),
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            NODE_SERVING,
            "system:node:n",
            json!(["server auth", "digital signature"]),
            "DNS or IP subjectAltName is required",
        ),
    ] {
        let mut cluster = cluster().await;
        ask(&mut cluster, signer, user, json!({"usages": usages})).await;
        decide(&mut cluster, "Approved").await;
        let status = found(&cluster).unwrap()["status"].clone();
        let failed = &status["conditions"][1];
        assert_eq!(
            (&failed["type"], &failed["message"]),
            (&json!("Failed"), &json!(words)),
            "{status}"
        );
    }
}

#[tokio::test]
async fn what_is_over_is_cleared_away() {
    for (decision, more, seconds) in [
        ("", json!({}), 24 * 3600),
        ("Denied", json!({}), 3600),
        ("Approved", json!({}), 3600),
        ("Approved", json!({"expirationSeconds": 600}), 601),
    ] {
        let mut cluster = cluster().await;
        ask(&mut cluster, CLIENT, "jane", more).await;
        if !decision.is_empty() {
            decide(&mut cluster, decision).await;
        }
        cluster.advance(seconds - 1);
        settle(&mut cluster).await;
        assert!(found(&cluster).is_some(), "{decision} {seconds}");
        cluster.advance(1);
        settle(&mut cluster).await;
        assert!(found(&cluster).is_none(), "{decision} {seconds}");
    }
}
