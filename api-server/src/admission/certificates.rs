//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction; and what a request's strategy needs to know:
//! who asks, whether what is asked parses and is signed, and when decisions were made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{Context, Draft, Operation, Plugin};
use crate::authz::Attributes;
use crate::identity::{Identity, MASTERS};
use crate::model::text;
use crate::parameters::quoted;
use crate::status_error::Answer;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const BLOCK: &str = "CERTIFICATE REQUEST";

pub(super) struct Certificates;

impl Plugin for Certificates {
    fn mutate(&self, ctx: &Context<'_>, by: &Identity, draft: &mut Draft) -> Answer<()> {
        if !draft.is(GROUP, "certificatesigningrequests") {
            return Ok(());
        }
        match (draft.operation, draft.sub) {
            (Operation::Create, "") => sign_by(by, &mut draft.object["spec"]),
            (Operation::Update, "approval" | "status") => times(ctx, draft),
            _ => {}
        }
        Ok(())
    }

    fn validate(&self, ctx: &Context<'_>, by: &Identity, draft: &Draft) -> Answer<()> {
        if !draft.is(GROUP, "certificatesigningrequests") {
            return Ok(());
        }
        let changed = |field: &str| draft.object["status"][field] != draft.old["status"][field];
        match (draft.operation, draft.sub) {
            (Operation::Create, "") => request(draft),
            (Operation::Update, "approval") => may(ctx, by, draft, "approve"),
            (Operation::Update, "status") if changed("certificate") || changed("conditions") => {
                may(ctx, by, draft, "sign")
            }
            _ => Ok(()),
        }
    }
}

/// Who asks is who sends it.
fn sign_by(by: &Identity, spec: &mut Value) {
    let user = by.user();
    let Some(spec) = spec.as_object_mut() else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

/// New conditions have the time at which they came.
fn times(ctx: &Context<'_>, draft: &mut Draft) {
    let now = json!(crate::clock::rfc3339(ctx.now));
    let old = draft.old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let Some(status) = draft.object.get_mut("status") else { return };
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone();
        }
        if condition["lastTransitionTime"].is_null() {
            let before = old.iter().find(|one| one["type"] == condition["type"]);
            let same = before.filter(|one| one["status"] == condition["status"]);
            let since = same.map(|one| one["lastTransitionTime"].clone());
            let since = since.filter(|since| !since.is_null());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| now.clone());
        }
    }
}

/// The request parses, its signature is right, and it does not ask to be one of those who may do anything.
fn request(draft: &Draft) -> Answer<()> {
    let spec = &draft.object["spec"];
    let invalid = |detail: String| {
        let path = Path::new("spec");
        let shown = text(&spec["request"]);
        let error = Error::invalid(&path.child("request"), shown, detail);
        let kind = GroupResource::new(GROUP, "CertificateSigningRequest");
        Box::new(Status::invalid(kind, &draft.name, &[error]))
    };
    let pem = STANDARD.decode(text(&spec["request"])).unwrap_or_default();
    let block = x509_parser::pem::parse_x509_pem(&pem).ok().map(|(_, block)| block);
    let Some(block) = block.filter(|block| block.label == BLOCK) else {
        return Err(invalid(format!("PEM block type must be {BLOCK}")));
    };
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| invalid(error.to_string()))?;
    parsed.verify_signature().map_err(|error| invalid(error.to_string()))?;
    if text(&spec["signerName"]) == CLIENT_SIGNER {
        let subject = &parsed.certification_request_info.subject;
        let mut groups = subject.iter_organization().filter_map(|one| one.as_str().ok());
        if groups.any(|group| group == MASTERS) {
            return Err(draft.forbidden(&format!(
                "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
            )));
        }
    }
    Ok(())
}

/// Whether somebody may approve or sign for the request's signer, or for all of its domain.
fn may(ctx: &Context<'_>, by: &Identity, draft: &Draft, verb: &str) -> Answer<()> {
    let signer = text(&draft.old["spec"]["signerName"]);
    let domain = signer.split('/').next().unwrap_or_default();
    let allowed = [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let wanted = Attributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        ctx.authorizer.decide(by, &wanted).allowed
    });
    if allowed {
        return Ok(());
    }
    Err(draft.forbidden(&format!(
        "user not permitted to {verb} requests with signerName {}",
        quoted(signer)
    )))
}
