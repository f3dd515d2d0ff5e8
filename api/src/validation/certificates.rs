//! Certificate signing requests: what is asked of whom, and which decisions and certificates may be added by whom. That
//! the request itself parses and is signed is looked at by the API server's admission.

use serde_json::Value;
use std::collections::BTreeSet;

use super::meta::{self, Scope};
use super::{Errors, names};
use crate::field::{Error, Path};
use crate::text::quote;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");

/// What version v1 of the API does not serve any more.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// Least `expirationSeconds`.
const EXPIRATION_SECONDS_MIN: i64 = 600;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Who writes: each may change one part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Object,
    Approval,
    Status,
}

fn any_name(_: &str) -> Vec<String> {
    Vec::new()
}

/// Checks a new request.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, any_name, errors);
    let spec = tree::get(object, "spec");
    if !tree::has(spec, "request") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        errors.push(Error::invalid(&SPEC.child("request"), "", detail));
    }
    let path = SPEC.child("usages");
    let usages = tree::list(spec, "usages");
    if usages.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    let mut seen = BTreeSet::new();
    for (i, usage) in tree::texts(spec, "usages").enumerate() {
        if !USAGES.contains(&usage) {
            errors.push(Error::not_supported(&path.index(i), usage, &USAGES));
        }
        if !seen.insert(usage) {
            errors.push(Error::duplicate(&path.index(i), usage));
        }
    }
    let signer = tree::text(spec, "signerName");
    let path = SPEC.child("signerName");
    if signer == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&path, signer, detail));
    } else {
        signer_name(signer, &path, errors);
    }
    if let Some(seconds) = tree::int_opt(spec, "expirationSeconds")
        && seconds < EXPIRATION_SECONDS_MIN
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&SPEC.child("expirationSeconds"), seconds, detail));
    }
    conditions(object, errors);
}

fn signer_name(signer: &str, path: &Path<'_>, errors: &mut Errors) {
    if signer.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/'))
    else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, signer, detail));
        return;
    };
    let mut labels = |part: &str, problems: fn(&str) -> Vec<String>| {
        let wrong = part.split('.').map(|label| (label, problems(label)));
        if let Some((label, problems)) = wrong.into_iter().find(|(_, found)| !found.is_empty()) {
            errors.extend(problems.into_iter().map(|problem| {
                let detail = format!("validating label {}: {problem}", quote(label));
                Error::invalid(path, part, detail)
            }));
        }
    };
    labels(domain, names::dns1123_label);
    labels(name, names::dns1123_subdomain);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, detail));
    }
}

fn conditions(object: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let path = path.child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in tree::list(tree::get(object, "status"), "conditions").iter().enumerate() {
        let path = path.index(i);
        let (kind, status) = (tree::text(condition, "type"), tree::text(condition, "status"));
        if kind.is_empty() {
            errors.push(Error::required(&path.child("type"), ""));
        }
        let decision = matches!(kind, "Approved" | "Denied" | "Failed");
        let known: &[&str] = if decision { &["True"] } else { &["False", "True", "Unknown"] };
        if status.is_empty() {
            errors.push(Error::required(&path.child("status"), ""));
        } else if !known.contains(&status) {
            errors.push(Error::not_supported(&path.child("status"), status, known));
        }
        if seen.contains(&kind) {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&path.child("type"), kind, detail));
        }
        seen.push(kind);
    }
}

/// Checks a changed request.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    changed(new, old, Writer::Object, errors);
}

/// Checks a decision about a request.
pub(crate) fn approval(new: &Value, old: &Value, errors: &mut Errors) {
    changed(new, old, Writer::Approval, errors);
}

/// Checks what a signer has done.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    changed(new, old, Writer::Status, errors);
}

fn changed(new: &Value, old: &Value, writer: Writer, errors: &mut Errors) {
    create(new, errors);
    meta::update(new, old, errors);
    let path = Path::new("status");
    let of = |object: &Value, kind: &str| {
        let all = tree::list(tree::get(object, "status"), "conditions");
        all.iter().filter(|one| tree::text(one, "type") == kind).cloned().collect::<Vec<_>>()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        let (before, after) = (of(old, kind), of(new, kind));
        let path = path.child("conditions");
        let may_add = match kind {
            "Failed" => writer == Writer::Status,
            _ => writer == Writer::Approval,
        };
        let verb = if before.is_empty() && !after.is_empty() && !may_add {
            "add"
        } else if !before.is_empty() && after.is_empty() {
            "remove"
        } else if !before.is_empty() && before != after {
            "modify"
        } else {
            continue;
        };
        let detail = format!("updates may not {verb} a condition of type {}", quote(kind));
        errors.push(Error::forbidden(&path, detail));
    }
    let certificate =
        |object: &Value| tree::text(tree::get(object, "status"), "certificate").to_owned();
    let (before, after) = (certificate(old), certificate(new));
    let path = path.child("certificate");
    if before != after && writer != Writer::Status {
        errors.push(Error::forbidden(&path, "updates may not set certificate content"));
    } else if before != after && !before.is_empty() {
        errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request() -> Value {
        json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "1"}, "spec": {"request": "eA==",
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}})
    }

    fn told(check: impl Fn(&mut Errors)) -> Vec<String> {
        let mut errors = Errors::new();
        check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_asked_for_is_checked() {
        assert_eq!(told(|errors| create(&request(), errors)), Vec::<String>::new());
        let cases = [
            ("usages", json!([]), "spec.usages: Required value"),
            (
                "usages",
                json!(["client auth", "client auth"]),
                "spec.usages[1]: Duplicate value: \"client auth\"",
            ),
            ("signerName", json!(""), "spec.signerName: Required value"),
            (
                "signerName",
                json!("plain"),
                "spec.signerName: Invalid value: \"plain\": must be a fully qualified domain and \
                 path of the form 'example.com/signer-name'",
            ),
            (
                "signerName",
                json!("com/x"),
                "spec.signerName: Invalid value: \"com\": should be a domain with at least two \
                 segments separated by dots",
            ),
            (
                "signerName",
                json!(LEGACY_SIGNER),
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy \
                 signerName is not allowed via this API version",
            ),
            (
                "expirationSeconds",
                json!(599),
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than \
                 600 seconds (10 minutes)",
            ),
        ];
        for (field, value, words) in cases {
            let mut object = request();
            object["spec"][field] = value;
            assert_eq!(told(|errors| create(&object, errors)), [words]);
        }
        let mut object = request();
        object["spec"]["usages"] = json!(["nonsense"]);
        let words = told(|errors| create(&object, errors));
        assert!(
            words[0].starts_with("spec.usages[0]: Unsupported value: \"nonsense\""),
            "{words:?}"
        );
    }

    #[test]
    fn each_writer_may_add_its_own() {
        let with = |conditions: Value, certificate: &str| {
            let mut object = request();
            object["status"] = json!({"conditions": conditions});
            if !certificate.is_empty() {
                object["status"]["certificate"] = json!(certificate);
            }
            object
        };
        let one = |kind: &str| json!([{"type": kind, "status": "True"}]);
        let (plain, approved) = (request(), with(one("Approved"), ""));
        assert!(told(|errors| approval(&approved, &plain, errors)).is_empty());
        let add =
            "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"";
        assert_eq!(told(|errors| update(&approved, &plain, errors)), [add]);
        assert_eq!(told(|errors| status(&approved, &plain, errors)), [add]);
        let remove =
            "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"";
        assert_eq!(told(|errors| approval(&plain, &approved, errors)), [remove]);
        let signed = with(one("Approved"), "Y2VydA==");
        assert!(told(|errors| status(&signed, &approved, errors)).is_empty());
        let set = "status.certificate: Forbidden: updates may not set certificate content";
        assert_eq!(told(|errors| approval(&signed, &approved, errors)), [set]);
        let again = with(one("Approved"), "b3RoZXI=");
        let modify =
            "status.certificate: Forbidden: updates may not modify existing certificate content";
        assert_eq!(told(|errors| status(&again, &signed, errors)), [modify]);
        let both = with(
            json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]),
            "",
        );
        let words = told(|errors| approval(&both, &approved, errors));
        assert!(words[0].contains("mutually exclusive"), "{words:?}");
    }
}
