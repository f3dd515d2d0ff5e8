//! SubjectAccessReview and its kin: the authorizer's own answers.

use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use serde_json::{Value, json};

use crate::authz::Attributes;
use crate::identity::{Identity, User};
use crate::model::text;
use crate::status_error::Answer;
use crate::verb::Request;

const GROUP: &str = "authorization.k8s.io";

const EXACTLY_ONE: &str =
    "exactly one of nonResourceAttributes or resourceAttributes must be specified";

/// What is wrong with a review: its metadata is empty (but for a namespace where it has one), and
/// it asks about exactly one thing.
fn validate(review: &Value, of_somebody: bool, namespace: Option<&str>) -> Vec<Error> {
    let spec = &review["spec"];
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if !resource.is_null() && !other.is_null() {
        let why = "cannot be specified in combination with resourceAttributes";
        errors.push(Error::invalid(&path.child("nonResourceAttributes"), other.clone(), why));
    }
    if resource.is_null() && other.is_null() {
        let path = path.child("resourceAttributes");
        errors.push(Error::invalid(&path, Value::Null, EXACTLY_ONE));
    }
    if of_somebody && text(&spec["user"]).is_empty() && strings(&spec["groups"]).is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(Error::invalid(&path.child("user"), "", why));
    }
    for name in ["fieldSelector", "labelSelector"] {
        let path = path.child("resourceAttributes");
        selector(&resource[name], &path.child(name), &mut errors);
    }
    let metadata = review["metadata"].as_object().into_iter().flatten();
    let mut set = metadata.filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str());
    let is_mine = |name| match name {
        "managedFields" | "creationTimestamp" => false,
        "namespace" => namespace.is_none(),
        _ => true,
    };
    if set.any(is_mine) {
        let why = if namespace.is_some() {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        errors.push(Error::invalid(&Path::new("metadata"), review["metadata"].clone(), why));
    }
    if let Some(namespace) = namespace {
        let given = text(&resource["namespace"]);
        if !resource.is_null() && given != namespace {
            let path = Path::new("spec.resourceAttributes.namespace");
            errors.push(Error::invalid(&path, given, "must match metadata.namespace"));
        }
        if !other.is_null() {
            let path = Path::new("spec.nonResourceAttributes");
            let why = "disallowed on this kind of request";
            errors.push(Error::invalid(&path, other.clone(), why));
        }
    }
    errors
}

fn selector(selector: &Value, path: &Path<'_>, errors: &mut Vec<Error>) {
    if selector.is_null() {
        return;
    }
    let raw = text(&selector["rawSelector"]);
    let listed = selector["requirements"].as_array().is_some_and(|list| !list.is_empty());
    if !raw.is_empty() && listed {
        let why = "may not specified at the same time as requirements";
        errors.push(Error::invalid(&path.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && !listed {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(Error::required(&path.child("requirements"), why));
    }
}

fn refuse(request: &Request, errors: &[Error]) -> Answer<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid(GroupResource::new(GROUP, request.def.kind()), "", errors)))
}

/// What the spec asks about.
fn attributes(spec: &Value) -> Attributes {
    let resource = &spec["resourceAttributes"];
    let other = &spec["nonResourceAttributes"];
    if !other.is_null() {
        return Attributes {
            verb: text(&other["verb"]).to_owned(),
            path: Some(text(&other["path"]).to_owned()),
            ..Attributes::default()
        };
    }
    Attributes {
        verb: text(&resource["verb"]).to_owned(),
        group: text(&resource["group"]).to_owned(),
        resource: text(&resource["resource"]).to_owned(),
        subresource: text(&resource["subresource"]).to_owned(),
        namespace: text(&resource["namespace"]).to_owned(),
        name: text(&resource["name"]).to_owned(),
        path: None,
    }
}

fn decided(request: &Request, identity: &Identity, mut review: Value) -> Value {
    let decision = request.shared.authorizer.decide(identity, &attributes(&review["spec"]));
    review["status"] = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        review["status"]["reason"] = json!(decision.reason);
    }
    review
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// May I?
pub(super) fn own(request: &Request, review: Value) -> Answer<Value> {
    refuse(request, &validate(&review, false, None))?;
    Ok(decided(request, request.permitted.identity(), review))
}

/// May they?
pub(super) fn subject(request: &Request, review: Value) -> Answer<Value> {
    refuse(request, &validate(&review, true, None))?;
    Ok(of_somebody(request, review))
}

fn of_somebody(request: &Request, review: Value) -> Value {
    let spec = &review["spec"];
    let extra = spec["extra"].as_object().into_iter().flatten();
    let identity = Identity::of(User {
        name: text(&spec["user"]).to_owned(),
        uid: text(&spec["uid"]).to_owned(),
        groups: strings(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), strings(values))).collect(),
    });
    decided(request, &identity, review)
}

/// May they, in this namespace?
pub(super) fn local(request: &Request, mut review: Value) -> Answer<Value> {
    let namespace = request.target.namespace.clone();
    let given = text(&review["metadata"]["namespace"]);
    if !given.is_empty() && given != namespace {
        return Err(Box::new(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )));
    }
    crate::stamp::metadata(&mut review).insert("namespace".to_owned(), json!(namespace));
    refuse(request, &validate(&review, true, Some(&namespace)))?;
    Ok(of_somebody(request, review))
}

/// What may I?
pub(super) fn rules(request: &Request, mut review: Value) -> Answer<Value> {
    let namespace = text(&review["spec"]["namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(Box::new(Status::bad_request("no namespace on request")));
    }
    let identity = request.permitted.identity();
    let rules = request.shared.authorizer.rules_of(identity, &namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut one = json!({
                "verbs": rule.verbs,
                "apiGroups": rule.api_groups,
                "resources": rule.resources,
            });
            if !rule.resource_names.is_empty() {
                one["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(one);
        }
        if !rule.non_resource_urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        // What a node may see follows from its pods, which no list of rules can say.
        "incomplete": identity.node().is_some(),
    });
    if identity.node().is_some() {
        status["evaluationError"] = json!("node authorizer does not support user rule resolution");
    }
    review["status"] = status;
    Ok(review)
}
