//! Policies compile, and say what is wrong with them.

use serde_json::json;

use super::*;
use crate::resource;

fn validating(expression: &str) -> Value {
    json!({"spec": {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [{"name": "n", "expression": "object.spec.replicas"},
                      {"name": "twice", "expression": "variables.n == 1 ? 'one' : 'more'"}],
        "matchConditions": [{"name": "c", "expression": "request.userInfo.username != 'x'"}],
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
            "operations": ["*"], "resources": ["deployments"]}]},
        "auditAnnotations": [{"key": "k", "valueExpression": "null"}],
        "validations": [{"expression": expression, "messageExpression": "'no: ' + variables.twice"}]}})
}

fn told(expression: &str) -> Option<String> {
    let policy = Policy::of(&validating(expression));
    assert!(policy.variables.iter().all(|one| one.program.is_ok()));
    assert!(policy.conditions.iter().all(|one| one.program.is_ok()));
    assert!(policy.annotations.iter().all(|one| one.program.is_ok()));
    assert!(matches!(policy.validations[0].message_program, Some(Ok(_))));
    policy.validations[0].program.as_ref().err().cloned()
}

#[test]
fn expressions_of_policies() {
    for good in [
        "object.spec.replicas <= int(params.data.max)",
        "variables.n <= 3 && variables.twice == 'one'",
        "oldObject == null || request.operation == 'UPDATE'",
        "authorizer.group('apps').resource('deployments').check('create').allowed()",
        "authorizer.requestResource.check('update').allowed() || authorizer.path('/healthz').check('get').allowed()",
        "namespaceObject.metadata.labels['env'] in ['prod', 'test'] && request.kind.kind == 'X'",
        "request.userInfo.extra['a'].exists(v, v == 'b') && !request.dryRun",
    ] {
        assert_eq!(told(good), None, "{good}");
    }
    for (bad, want) in [
        ("object.spec.replicas", "must evaluate to bool"),
        ("'text'", "must evaluate to bool"),
        (
            "variables.none == 1",
            "compilation failed: ERROR: <input>:1:10: undefined field 'none'\n | variables.none == 1\n | .........^",
        ),
        (
            "request.operator == ''",
            "compilation failed: ERROR: <input>:1:8: undefined field 'operator'\n | request.operator == ''\n | .......^",
        ),
        (
            "self.x",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'self' (in container '')\n | self.x\n | ^",
        ),
    ] {
        assert_eq!(told(bad).as_deref(), Some(want), "{bad}");
    }
}

#[test]
fn messages_do_not_ask_the_authorizer() {
    let mut policy = validating("true");
    policy["spec"]["validations"][0]["messageExpression"] =
        json!("authorizer.path('/x').check('get').reason()");
    let compiled = Policy::of(&policy);
    let Some(Err(why)) = &compiled.validations[0].message_program else { panic!() };
    assert!(why.contains("undeclared reference to 'authorizer'"), "{why}");
}

#[test]
fn mutations_make_objects_and_patches() {
    let policy = Policy::of(&json!({"spec": {"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration":
            {"expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": concat!(
            "has(object.x) ? [JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), ",
            "value: 'c'}] : []")}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}},
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "[Object{}]"}},
    ]}}));
    let told: Vec<Option<&str>> =
        policy.mutations.iter().map(|one| one.program.as_ref().err().map(String::as_str)).collect();
    assert_eq!(
        told,
        [None, None, Some("must evaluate to list(JSONPatch)"), Some("must evaluate to Object")]
    );
}

#[test]
fn types_are_told_of_in_the_status() {
    let def = resource::lookup("apps", "v1", "deployments").unwrap();
    let kinds = [(typing::shown(def), typing::of(def))];
    let warned = |expression: &str| typing::warnings(&validating(expression), &kinds, None);
    assert_eq!(
        warned("object.spec.replicas > 1 && object.metadata.name != ''"),
        Vec::<Value>::new()
    );
    assert_eq!(
        warned("object.spec.replicas > '1'"),
        [json!({"fieldRef": "spec.validations[0].expression", "warning":
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to \
             '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n"})]
    );
    let unknown = warned("object.spec.template.spec.containers.all(c, c.nothing == 1)");
    assert!(unknown[0]["warning"].as_str().unwrap().contains("undefined field 'nothing'"));
    assert_eq!(
        typing::named(&validating("true")),
        [("apps".to_owned(), "v1".to_owned(), "deployments".to_owned())]
    );
}
