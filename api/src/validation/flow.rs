//! Flow schemas and priority levels.

use serde_json::{Value, json};

use super::meta::{self, Scope};
use super::{Errors, invalid_each, label, names, required, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
/// The bits of the hash that deals out queues.
const HASH_BITS_MAX: i64 = 60;
/// What is exempt: its schema, its level.
const EXEMPT: &str = "exempt";
/// What is left over: its schema, its level.
const CATCH_ALL: &str = "catch-all";
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const SUBJECTS: [(&str, &str); 3] =
    [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

// === what every cluster has, as it must be ===

fn everything(subjects: &Value) -> Value {
    json!([{
        "subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }])
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

/// The spec of a schema that must be what it is.
#[must_use]
pub fn mandatory_schema(name: &str) -> Option<Value> {
    match name {
        EXEMPT => Some(json!({
            "matchingPrecedence": 1,
            "priorityLevelConfiguration": {"name": EXEMPT},
            "rules": everything(&json!([group("system:masters")])),
        })),
        CATCH_ALL => Some(json!({
            "distinguisherMethod": {"type": "ByUser"},
            "matchingPrecedence": PRECEDENCE_MAX,
            "priorityLevelConfiguration": {"name": CATCH_ALL},
            "rules": everything(
                &json!([group("system:unauthenticated"), group("system:authenticated")])
            ),
        })),
        _ => None,
    }
}

/// The spec of a level that must be what it is; of the exempt one the shares may differ.
#[must_use]
pub fn mandatory_level(name: &str) -> Option<Value> {
    match name {
        EXEMPT => Some(json!({
            "type": "Exempt",
            "exempt": {"lendablePercent": 0, "nominalConcurrencyShares": 0},
        })),
        CATCH_ALL => Some(json!({
            "type": "Limited",
            "limited": {"lendablePercent": 0, "limitResponse": {"type": "Reject"},
                "nominalConcurrencyShares": 5},
        })),
        _ => None,
    }
}

fn fixed(spec: &Value, wanted: Option<Value>, name: &str, errors: &mut Errors) {
    if wanted.is_some_and(|wanted| !tree::same(&wanted, spec)) {
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.push(Error::invalid(&SPEC, spec.clone(), detail));
    }
}

// === schemas ===

/// Checks a new schema.
pub(crate) fn schema(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let name = tree::text(tree::get(object, "metadata"), "name");
    let spec = tree::get(object, "spec");
    schema_spec(spec, name, errors);
    fixed(spec, mandatory_schema(name), name, errors);
    conditions(object, errors);
}

/// Checks a changed schema.
pub(crate) fn schema_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    schema(new, errors);
}

/// Checks a write to the status of a schema or a level.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    conditions(new, errors);
}

fn conditions(object: &Value, errors: &mut Errors) {
    let path = STATUS.child("conditions");
    let all = tree::list(tree::get(object, "status"), "conditions");
    for (i, condition) in all.iter().enumerate() {
        let path = path.index(i);
        let kind = tree::text(condition, "type");
        if all[..i].iter().any(|other| tree::text(other, "type") == kind) {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&path.child("type"), "must not be empty"));
        }
    }
}

fn schema_spec(spec: &Value, name: &str, errors: &mut Errors) {
    let path = SPEC.child("matchingPrecedence");
    let precedence = tree::int(spec, "matchingPrecedence");
    if precedence <= 0 {
        errors.push(Error::invalid(&path, precedence, "must be a positive value"));
    }
    if precedence > PRECEDENCE_MAX {
        let detail = format!("must not be greater than {PRECEDENCE_MAX}");
        errors.push(Error::invalid(&path, precedence, detail));
    }
    if precedence == 1 && name != EXEMPT {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(&path, precedence, detail));
    }
    let method = tree::get(spec, "distinguisherMethod");
    let known = ["ByNamespace", "ByUser"];
    if !method.is_null() && !known.contains(&tree::text(method, "type")) {
        let path = SPEC.child("distinguisherMethod.type");
        errors.push(Error::not_supported(&path, method.clone(), &known));
    }
    let path = SPEC.child("priorityLevelConfiguration.name");
    match tree::text(tree::get(spec, "priorityLevelConfiguration"), "name") {
        "" => errors.push(Error::required(&path, "must reference a priority level")),
        level => subdomain(level, &path, errors),
    }
    let path = SPEC.child("rules");
    for (i, rule) in tree::list(spec, "rules").iter().enumerate() {
        schema_rule(rule, &path.index(i), errors);
    }
}

fn schema_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("subjects");
    let subjects = tree::list(rule, "subjects");
    for (i, one) in subjects.iter().enumerate() {
        subject(one, &list.index(i), errors);
    }
    if subjects.is_empty() {
        errors.push(Error::required(&list, "subjects must contain at least one value"));
    }
    let resources = tree::list(rule, "resourceRules");
    let others = tree::list(rule, "nonResourceRules");
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, detail));
    }
    let list = path.child("resourceRules");
    for (i, one) in resources.iter().enumerate() {
        resource_rule(one, &list.index(i), errors);
    }
    let list = path.child("nonResourceRules");
    for (i, one) in others.iter().enumerate() {
        non_resource_rule(one, &list.index(i), errors);
    }
}

fn subject(subject: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = tree::text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        let known = ["Group", "ServiceAccount", "User"];
        errors.push(Error::not_supported(&path.child("kind"), kind, &known));
        return;
    };
    let named = tree::get(subject, own);
    let own_path = path.child(own);
    if named.is_null() {
        let detail = format!("{own} is required when subject kind is '{kind}'");
        errors.push(Error::required(&own_path, detail));
    } else if *own == "serviceAccount" {
        service_account(named, &own_path, errors);
    } else {
        required(named, "name", &own_path, errors);
    }
    for (other, field) in SUBJECTS.iter().filter(|(other, _)| *other != kind) {
        if tree::has(subject, field) {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.push(Error::forbidden(&path.child(field), detail));
        }
    }
}

fn service_account(account: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = tree::text(account, "name");
    if required(account, "name", path, errors) && name != "*" {
        subdomain(name, &path.child("name"), errors);
    }
    let own = path.child("namespace");
    match tree::text(account, "namespace") {
        "" => errors.push(Error::required(&own, "must specify namespace for service account")),
        namespace => label(namespace, &own, errors),
    }
}

/// A list in which `*` stands alone; says whether its items have to be looked at.
fn listed(
    rule: &Value,
    name: &str,
    (missing, others): (&str, &str),
    path: &Path<'_>,
    errors: &mut Errors,
) -> bool {
    let all = tree::list(rule, name);
    let path = path.child(name);
    if all.is_empty() {
        errors.push(Error::required(&path, missing));
        return false;
    }
    let wild = all.iter().any(|one| one == "*");
    if wild && all.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.push(Error::invalid(&path, all.to_vec(), detail));
    }
    !wild
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let words = ("verbs must contain at least one value", "verbs");
    let unknown = |verb: &str| !VERBS.contains(&verb);
    if listed(rule, "verbs", words, path, errors) && tree::texts(rule, "verbs").any(unknown) {
        let value = tree::get(rule, "verbs").clone();
        errors.push(Error::not_supported(&path.child("verbs"), value, &VERBS));
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    let words = ("resource rules must supply at least one api group", "api groups");
    listed(rule, "apiGroups", words, path, errors);
    let words = ("resource rules must supply at least one resource", "resources");
    listed(rule, "resources", words, path, errors);
    let missing = "resource rules that are not cluster scoped must supply at least one namespace";
    let name = "namespaces";
    if tree::list(rule, name).is_empty() && tree::flag(rule, "clusterScope") {
        return;
    }
    if listed(rule, name, (missing, name), path, errors) {
        let path = path.child(name);
        for (i, namespace) in tree::texts(rule, name).enumerate() {
            for problem in names::dns1123_label(namespace) {
                let detail =
                    format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
                errors.push(Error::invalid(&path.index(i), namespace, detail));
            }
        }
    }
}

fn non_resource_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    let name = "nonResourceURLs";
    let words = ("nonResourceURLs must contain at least one value", "non-resource URLs");
    if listed(rule, name, words, path, errors) {
        let path = path.child(name);
        for (i, address) in tree::texts(rule, name).enumerate() {
            let problem = address_problem(address).map(str::to_owned);
            invalid_each(&path.index(i), address, problem.into_iter().collect(), errors);
        }
    }
}

fn address_problem(address: &str) -> Option<&'static str> {
    let stars = address.matches('*').count();
    match address {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !address.starts_with('/') => Some("must start with slash"),
        _ if address.contains(' ') => Some("must not contain white-space"),
        _ if address.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !address.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

// === levels ===

/// Checks a new level.
pub(crate) fn level(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let name = tree::text(tree::get(object, "metadata"), "name");
    let spec = tree::get(object, "spec");
    level_spec(spec, name, errors);
    let mut compared = spec.clone();
    let mut wanted = mandatory_level(name);
    if name == EXEMPT {
        tree::remove(&mut compared, "exempt");
        if let Some(wanted) = &mut wanted {
            tree::remove(wanted, "exempt");
        }
    }
    if wanted.is_some_and(|wanted| !tree::same(&wanted, &compared)) {
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.push(Error::invalid(&SPEC, spec.clone(), detail));
    }
    conditions(object, errors);
}

/// Checks a changed level.
pub(crate) fn level_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    level(new, errors);
}

fn level_spec(spec: &Value, name: &str, errors: &mut Errors) {
    let kind = tree::text(spec, "type");
    let path = SPEC.child("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(Error::invalid(&path, kind, detail));
    }
    let (own, other, title) = match kind {
        "Exempt" => ("exempt", "limited", "Limited"),
        "Limited" => ("limited", "exempt", "Exempt"),
        _ => {
            errors.push(Error::not_supported(&path, kind, &["Exempt", "Limited"]));
            return;
        }
    };
    if tree::has(spec, other) {
        let detail = format!("must be nil if the type is not {title}");
        errors.push(Error::forbidden(&SPEC.child(other), detail));
    }
    let value = tree::get(spec, own);
    let path = SPEC.child(own);
    if value.is_null() {
        let detail = format!("must not be empty when type is {kind}");
        errors.push(Error::required(&path, detail));
        return;
    }
    shares(value, &path, errors);
    if own == "limited" {
        limit_response(tree::get(value, "limitResponse"), &path.child("limitResponse"), errors);
    }
    percent(value, "lendablePercent", &path, errors);
    let name = "borrowingLimitPercent";
    if let Some(number) = tree::int_opt(value, name).filter(|number| *number < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.push(Error::invalid(&path.child(name), number, detail));
    }
}

fn shares(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = "nominalConcurrencyShares";
    if let Some(number) = tree::int_opt(value, name).filter(|number| *number < 0) {
        errors.push(Error::invalid(&path.child(name), number, "must be a non-negative integer"));
    }
}

fn percent(value: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = tree::int_opt(value, name)
        && !(0..=100).contains(&number)
    {
        errors.push(Error::invalid(&path.child(name), number, names::range(0, 100)));
    }
}

fn limit_response(response: &Value, path: &Path<'_>, errors: &mut Errors) {
    let queuing = tree::get(response, "queuing");
    let own = path.child("queuing");
    match (tree::text(response, "type"), queuing.is_null()) {
        ("Reject", false) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(Error::forbidden(&own, detail));
        }
        ("Reject", true) => {}
        ("Queue", true) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(Error::required(&own, detail));
        }
        ("Queue", false) => queues(queuing, &own, errors),
        (kind, _) => {
            errors.push(Error::not_supported(&path.child("type"), kind, &["Queue", "Reject"]));
        }
    }
}

fn queues(queuing: &Value, path: &Path<'_>, errors: &mut Errors) {
    let length = tree::int(queuing, "queueLengthLimit");
    if length <= 0 {
        errors.push(Error::invalid(&path.child("queueLengthLimit"), length, "must be positive"));
    }
    let (queues, hand) = (tree::int(queuing, "queues"), tree::int(queuing, "handSize"));
    let own = path.child("queues");
    if queues <= 0 {
        errors.push(Error::invalid(&own, queues, "must be positive"));
    } else if queues > QUEUES_MAX {
        let detail = format!("must not be greater than {QUEUES_MAX}");
        errors.push(Error::invalid(&own, queues, detail));
    }
    let own = path.child("handSize");
    if hand <= 0 {
        errors.push(Error::invalid(&own, hand, "must be positive"));
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(Error::invalid(&own, hand, detail));
    } else if entropy_bits(queues, hand) > HASH_BITS_MAX {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater \
             than {HASH_BITS_MAX}"
        );
        errors.push(Error::invalid(&own, hand, detail));
    }
}

/// The bits that dealing a hand out of a deck takes.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small numbers, as upstream"
)]
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}
