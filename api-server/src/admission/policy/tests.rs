//! What policies are about, and match conditions as webhooks use them.

use quorate_api::resource;
use quorate_store::Store;
use serde_json::{Value, json};

use super::matching::Matching;
use super::*;
use crate::admission::{Operation, Ownership};
use crate::authz::Authorizer;
use crate::identity::{Identity, User};

fn draft(group: &str, version: &str, plural: &str, operation: Operation, object: Value) -> Draft {
    let def = resource::lookup(group, version, plural).unwrap();
    Draft {
        def,
        sub: "",
        operation,
        namespace: if def.namespaced { "default".to_owned() } else { String::new() },
        name: "it".to_owned(),
        old: if operation == Operation::Create { Value::Null } else { object.clone() },
        object,
        warnings: Vec::new(),
        ownership: Ownership::Keep,
        asked: Default::default(),
    }
}

fn rule(group: &str, version: &str, plural: &str) -> Value {
    json!({"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"], "resources": [plural]})
}

/// The version as which a write is meant.
fn meant(resources: &Value, draft: &Draft) -> Option<&'static str> {
    let view = Store::in_memory().view();
    Matching::of(resources).resource(&view, draft).map(resource::ResourceDef::version)
}

#[test]
fn rules_and_selectors_say_what_a_policy_is_about() {
    let pod =
        |operation| draft("", "v1", "pods", operation, json!({"metadata": {"labels": {"a": "b"}}}));
    let made = pod(Operation::Create);
    let about = |more: Value| {
        let mut about = json!({"resourceRules": [rule("", "v1", "pods")]});
        about.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        about
    };
    let named = |name: &str| {
        let mut rule = rule("", "*", "*");
        rule["resourceNames"] = json!([name]);
        rule
    };
    for (resources, wanted) in [
        (json!(null), true),
        (about(json!({})), true),
        (about(json!({"excludeResourceRules": [rule("*", "*", "*")]})), false),
        (about(json!({"objectSelector": {"matchLabels": {"a": "b"}}})), true),
        (about(json!({"objectSelector": {"matchLabels": {"a": "c"}}})), false),
        (about(json!({"namespaceSelector": {"matchLabels": {"a": "c"}}})), false),
        (json!({"resourceRules": [rule("apps", "v1", "pods")]}), false),
        (json!({"resourceRules": [rule("", "v1", "pods/status")]}), false),
        (json!({"resourceRules": [named("it")]}), true),
        (json!({"resourceRules": [named("other")]}), false),
    ] {
        assert_eq!(meant(&resources, &made).is_some(), wanted, "{resources}");
    }
    assert_eq!(meant(&about(json!({})), &pod(Operation::Delete)), None);
}

#[test]
fn other_versions_are_meant_too_unless_the_match_is_exact() {
    let scaler =
        draft("autoscaling", "v1", "horizontalpodautoscalers", Operation::Create, json!({}));
    let rules = [rule("autoscaling", "v2", "horizontalpodautoscalers")];
    assert_eq!(meant(&json!({"resourceRules": rules}), &scaler), Some("v2"));
    assert_eq!(meant(&json!({"resourceRules": rules, "matchPolicy": "Exact"}), &scaler), None);
}

#[test]
fn conditions_of_webhooks() {
    let authorizer = Authorizer::new(Store::in_memory());
    let admin = User { groups: vec![crate::identity::MASTERS.to_owned()], ..User::default() };
    let (admin, anybody) =
        (Identity::authenticated(admin), Identity::authenticated(User::default()));
    let request = json!({"operation": "UPDATE", "name": "n", "namespace": "default",
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "object": {"spec": {"x": 2}}, "oldObject": {"spec": {"x": 1}}});
    let asked = |expressions: &[&str], by: &Identity| {
        let list: Vec<Value> = expressions
            .iter()
            .map(|expression| json!({"name": "c", "expression": expression}))
            .collect();
        Conditions::of(&Value::from(list)).hold(&authorizer, by, &|| request.clone())
    };
    assert_eq!(asked(&[], &anybody), Ok(true));
    assert_eq!(
        asked(&["object.spec.x > oldObject.spec.x", "request.name == 'n'"], &anybody),
        Ok(true)
    );
    assert_eq!(asked(&["object.spec.y == 1", "request.name == 'm'"], &anybody), Ok(false));
    let failed = asked(&["object.spec.y == 1"], &anybody).unwrap_err();
    assert!(failed.contains("no such key: y"), "{failed}");
    assert!(asked(&["nonsense"], &anybody).unwrap_err().contains("undeclared reference"));
    let may = "authorizer.requestResource.check('update').allowed()";
    assert_eq!((asked(&[may], &admin), asked(&[may], &anybody)), (Ok(true), Ok(false)));
    let account = "authorizer.serviceAccount('default', 'x').group('').resource('pods').check('get').allowed()";
    assert_eq!(asked(&[account], &admin), Ok(false));
}

/// Expressions see the request that webhooks see.
#[test]
fn requests_are_those_of_webhooks() {
    let draft = draft("", "v1", "namespaces", Operation::Create, json!({}));
    let controller = User {
        name: "system:serviceaccount:kube-system:job-controller".to_owned(),
        groups: vec![crate::identity::MASTERS.to_owned()],
        ..User::default()
    };
    let request = request::of(&draft, draft.def, &Identity::authenticated(controller));
    assert_eq!((&request["namespace"], &request["operation"]), (&json!("it"), &json!("CREATE")));
    assert_eq!(
        request["userInfo"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            "system:authenticated"
        ])
    );
    assert!(request.get("object").is_none(), "{request}");
}
