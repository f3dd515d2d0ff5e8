//! SubjectAccessReview and its kin: the authorizer's own answers.

use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use serde_json::{Value, json};

use crate::authz::{Attributes, Rule};
use crate::identity::{Identity, User};
use crate::model::text;
use crate::status_error::Answer;
use crate::verb::Request;

const GROUP: &str = "authorization.k8s.io";

/// What the spec asks about; 422 when it is not exactly one thing.
fn attributes(kind: &str, spec: &Value) -> Answer<Attributes> {
    let resource = &spec["resourceAttributes"];
    let other = &spec["nonResourceAttributes"];
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if resource.is_null() && other.is_null() {
        errors.push(Error::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    if !resource.is_null() && !other.is_null() {
        errors.push(Error::invalid(
            &path.child("nonResourceAttributes"),
            other.clone(),
            "cannot be specified in combination with resourceAttributes",
        ));
    }
    if !errors.is_empty() {
        return Err(Box::new(Status::invalid(GroupResource::new(GROUP, kind), "", &errors)));
    }
    if !other.is_null() {
        return Ok(Attributes {
            verb: text(&other["verb"]).to_owned(),
            path: Some(text(&other["path"]).to_owned()),
            ..Attributes::default()
        });
    }
    Ok(Attributes {
        verb: text(&resource["verb"]).to_owned(),
        group: text(&resource["group"]).to_owned(),
        resource: text(&resource["resource"]).to_owned(),
        subresource: text(&resource["subresource"]).to_owned(),
        namespace: text(&resource["namespace"]).to_owned(),
        name: text(&resource["name"]).to_owned(),
        path: None,
    })
}

fn decided(request: &Request, identity: &Identity, mut review: Value) -> Answer<Value> {
    let wanted = attributes(request.def.kind(), &review["spec"])?;
    let decision = request.shared.authorizer.decide(identity, &wanted);
    review["status"] = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        review["status"]["reason"] = json!(decision.reason);
    }
    Ok(review)
}

/// May I?
pub(super) fn own(request: &Request, review: Value) -> Answer<Value> {
    decided(request, request.permitted.identity(), review)
}

/// May they?
pub(super) fn subject(request: &Request, review: Value) -> Answer<Value> {
    let spec = &review["spec"];
    let strings = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let groups = strings(&spec["groups"]);
    if text(&spec["user"]).is_empty() && groups.is_empty() {
        let path = Path::new("spec");
        let error = Error::invalid(
            &path.child("user"),
            "",
            "at least one of user or group must be specified",
        );
        let kind = GroupResource::new(GROUP, request.def.kind());
        return Err(Box::new(Status::invalid(kind, "", &[error])));
    }
    let extra = spec["extra"].as_object().into_iter().flatten();
    let identity = Identity::of(User {
        name: text(&spec["user"]).to_owned(),
        uid: text(&spec["uid"]).to_owned(),
        groups,
        extra: extra.map(|(key, values)| (key.clone(), strings(values))).collect(),
    });
    decided(request, &identity, review)
}

/// May they, in this namespace?
pub(super) fn local(request: &Request, mut review: Value) -> Answer<Value> {
    let namespace = request.target.namespace.clone();
    let asked = &review["spec"]["resourceAttributes"];
    let path = Path::new("spec");
    let error = if asked.is_null() {
        Some(Error::invalid(
            &path.child("nonResourceAttributes"),
            Value::Null,
            "disallowed on this kind of request",
        ))
    } else if !text(&asked["namespace"]).is_empty() && text(&asked["namespace"]) != namespace {
        let path = path.child("resourceAttributes");
        Some(Error::invalid(
            &path.child("namespace"),
            text(&asked["namespace"]),
            "must match metadata.namespace",
        ))
    } else {
        None
    };
    if let Some(error) = error {
        let kind = GroupResource::new(GROUP, request.def.kind());
        return Err(Box::new(Status::invalid(kind, "", &[error])));
    }
    review["spec"]["resourceAttributes"]["namespace"] = json!(namespace);
    review["metadata"]["namespace"] = json!(namespace);
    subject(request, review)
}

/// What may I?
pub(super) fn rules(request: &Request, mut review: Value) -> Answer<Value> {
    let namespace = text(&review["spec"]["namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(Box::new(Status::bad_request("no namespace on request")));
    }
    let identity = request.permitted.identity();
    let mut rules = request.shared.authorizer.rules_of(identity, &namespace);
    if identity.is_in(crate::identity::MASTERS) {
        rules.push(everything());
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if rule.resources.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
            continue;
        }
        let both = !rule.non_resource_urls.is_empty();
        let mut one = json!({
            "verbs": rule.verbs,
            "apiGroups": rule.api_groups,
            "resources": rule.resources,
        });
        if !rule.resource_names.is_empty() {
            one["resourceNames"] = json!(rule.resource_names);
        }
        resources.push(one);
        if both {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    review["status"] =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    Ok(review)
}

fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        resource_names: Vec::new(),
        non_resource_urls: all(),
    }
}
