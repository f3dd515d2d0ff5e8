//! Reviews: what a webhook is sent, and what it may answer (`admission.k8s.io`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_api::resource::ResourceDef;
use serde_json::{Value, json};

use super::case::Case;
use crate::identity::{self, Identity, User};
use crate::model::text;
use crate::parameters::quoted;

const GROUP: &str = "admission.k8s.io";

/// A form of reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    /// Answers are checked less.
    V1Beta1,
}

impl Version {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }
}

/// The request part of a review: about `object` and `old`, which are shown as `shown_as`.
pub(super) fn request(
    case: &Case<'_>,
    shown_as: &ResourceDef,
    uid: &str,
    (object, old): (&Value, &Value),
) -> Value {
    let mut request = about(case, shown_as, uid);
    request["object"] = object.clone();
    request["oldObject"] = old.clone();
    request
}

/// The same without the objects, as expressions of policies see it, too.
pub(super) fn about(case: &Case<'_>, shown_as: &ResourceDef, uid: &str) -> Value {
    let kind = |def: &ResourceDef| {
        let gvk = def.subresource(case.sub).map_or(def.gvk, |sub| sub.gvk);
        json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
    };
    let resource = |def: &ResourceDef| json!({"group": def.group(), "version": def.version(), "resource": def.plural});
    let user = User { groups: groups(case.by), ..case.by.user().clone() };
    let mut request = json!({
        "uid": uid,
        "kind": kind(shown_as),
        "resource": resource(shown_as),
        "requestKind": kind(case.def),
        "requestResource": resource(case.def),
        "operation": case.operation.name(),
        "userInfo": user.info(),
        "dryRun": case.asked.dry_run,
        "options": case.options(),
    });
    for (name, value) in [
        ("subResource", case.sub),
        ("requestSubResource", case.sub),
        ("name", &case.name),
        ("namespace", &case.namespace),
    ] {
        if !value.is_empty() {
            request[name] = json!(value);
        }
    }
    request
}

/// Groups as webhooks and policies see them. A controller of this process may do anything; with upstream it has an
/// account, and they go by the groups of that.
fn groups(by: &Identity) -> Vec<String> {
    match identity::split_service_account(by.name()) {
        Some((namespace, _)) if by.is_in(identity::MASTERS) => vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            identity::AUTHENTICATED.to_owned(),
        ],
        _ => by.user().groups.clone(),
    }
}

/// A whole review, as bytes.
pub(super) fn review(version: Version, request: Value) -> Vec<u8> {
    let mut review = json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("{GROUP}/{}", version.name()),
    });
    review["request"] = request;
    review.to_string().into_bytes()
}

/// What a webhook has answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// A `Status`; null without one.
    pub(super) status: Value,
    /// A JSON patch; empty without one.
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer; in upstream's words what is wrong with it (`VerifyAdmissionResponse`).
pub(super) fn verdict(
    version: Version,
    uid: &str,
    mutating: bool,
    review: &Value,
) -> Result<Verdict, String> {
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let patch = STANDARD.decode(text(&response["patch"]));
    let mut patch = patch.map_err(|why| format!("the patch is not base64: {why}"))?;
    let kind = response["patchType"].as_str();
    let mut patch_type = kind.unwrap_or_default().to_owned();
    match version {
        Version::V1 => {
            strict(uid, mutating, review, (!patch.is_empty(), kind))?;
        }
        Version::V1Beta1 if mutating && !patch.is_empty() => {
            "JSONPatch".clone_into(&mut patch_type)
        }
        Version::V1Beta1 => patch.clear(),
    }
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(Verdict {
        allowed: response["allowed"] == true,
        status: response["status"].clone(),
        patch,
        patch_type,
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

fn strict(
    uid: &str,
    mutating: bool,
    review: &Value,
    (has_patch, kind): (bool, Option<&str>),
) -> Result<(), String> {
    let got = text(&review["response"]["uid"]);
    if got != uid {
        return Err(format!("expected response.uid={}, got {}", quoted(uid), quoted(got)));
    }
    let wanted = format!("{GROUP}/v1");
    let (version, name) = (text(&review["apiVersion"]), text(&review["kind"]));
    if (version, name) != (&wanted, "AdmissionReview") {
        // An apiVersion of the core group is shown with its slash.
        let slash = if version.contains('/') { "" } else { "/" };
        let (wanted, got) =
            (format!("{wanted}, Kind=AdmissionReview"), format!("{slash}{version}, Kind={name}"));
        return Err(format!("expected webhook response of {wanted}, got {got}"));
    }
    let wrong = match (mutating, has_patch, kind) {
        (true, true, None) => "webhook returned response.patch but not response.patchType",
        (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, true, _) => "validating webhook may not return response.patch",
        (false, false, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_are_checked_in_upstreams_words() {
        let cases = [
            (true, json!(null), "webhook response was absent"),
            (true, json!({"uid": "b"}), "expected response.uid=\"a\", got \"b\""),
            (
                true,
                json!({"uid": "a", "patch": "W10="}),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                true,
                json!({"uid": "a", "patchType": "JSONPatch"}),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                true,
                json!({"uid": "a", "patch": "W10=", "patchType": ""}),
                "webhook returned invalid response.patchType of \"\"",
            ),
            (
                false,
                json!({"uid": "a", "patch": "W10=", "patchType": "JSONPatch"}),
                "validating webhook may not return response.patch",
            ),
            (
                false,
                json!({"uid": "a", "patchType": "JSONPatch"}),
                "validating webhook may not return response.patchType",
            ),
        ];
        for (mutating, response, words) in cases {
            let got = verdict(Version::V1, "a", mutating, &answer(response.clone()));
            assert_eq!(got.unwrap_err(), words, "{response}");
        }
        let bare = json!({"response": {"uid": "a", "allowed": true}});
        let words =
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
        assert_eq!(verdict(Version::V1, "a", true, &bare).unwrap_err(), words);
        assert!(verdict(Version::V1Beta1, "other", true, &bare).unwrap().allowed);
    }

    #[test]
    fn a_verdict_has_everything() {
        let response = json!({"uid": "a", "allowed": true, "patch": "W10=", "patchType": "JSONPatch",
            "warnings": ["w"], "status": {"message": "m"}});
        let expected = Verdict {
            allowed: true,
            status: json!({"message": "m"}),
            patch: b"[]".to_vec(),
            patch_type: "JSONPatch".to_owned(),
            warnings: vec!["w".to_owned()],
        };
        assert_eq!(verdict(Version::V1, "a", true, &answer(response)).unwrap(), expected);
    }
}
