//! Decoding, told as stories: what a client sends, what it gets.

mod properties;
mod roundtrip;

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn target(group: &str, kind: &str) -> Target {
    resource::by_kind(group, "v1", kind).unwrap().target()
}

fn refused(body: &str, expected: Expect) {
    refused_as(MediaType::Json, body, target("apps", "Deployment"), expected);
}

fn refused_as(media: MediaType, body: &str, target: Target, expected: Expect) {
    let result = decode(media, body.as_bytes(), target);
    let error = result.and_then(|d| d.checked(FieldValidation::Strict)).unwrap_err();
    expected.assert_eq(&error.to_string());
}

fn spec(body: &str) -> String {
    format!(r#"{{"apiVersion":"apps/v1","kind":"Deployment","spec":{body}}}"#)
}

#[test]
fn strict_errors_name_the_place() {
    refused(
        &spec(r#"{"foo":1,"replicas":1,"replicas":2}"#),
        expect![[
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas""#
        ]],
    );
    refused(
        &spec(
            r#"{"template":{"spec":{"containers":[{"name":"a"},{"name":"b","Image":"c","ports":[{"x":1}]}]}}}"#,
        ),
        expect![[
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.template.spec.containers[1].Image", unknown field "spec.template.spec.containers[1].ports[0].x""#
        ]],
    );
    refused(
        r#"{"metadata":{"labels":{"a":"b","a":"c"}}}"#,
        expect![[
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "metadata.labels.a""#
        ]],
    );
}

#[test]
fn ignored_fields_are_dropped_and_warned_about() {
    let body = spec(r#"{"foo":{"deep":[1,2]},"replicas":1,"replicas":2}"#);
    let decode = || decode(MediaType::Json, body.as_bytes(), target("apps", "Deployment")).unwrap();
    let (value, warnings) = decode().checked(FieldValidation::Warn).unwrap();
    assert_eq!(warnings, [r#"unknown field "spec.foo""#, r#"duplicate field "spec.replicas""#]);
    assert_eq!(value["spec"]["replicas"], 2);
    assert!(value["spec"].get("foo").is_none());
    let (_, warnings) = decode().checked(FieldValidation::Ignore).unwrap();
    assert!(warnings.is_empty());
}

#[test]
fn duplicates_are_merged_as_go_merges_them() {
    let body = r#"{"metadata":{"name":"a","labels":{"a":"1","b":"2"}},
        "spec":{"replicas":1,"paused":true},
        "metadata":{"namespace":"n","labels":{"b":"3"}},"spec":{"replicas":2},"spec":null}"#;
    let decoded = decode(MediaType::Json, body.as_bytes(), target("apps", "Deployment")).unwrap();
    assert_eq!(decoded.strict, [r#"duplicate field "metadata""#, r#"duplicate field "spec""#]);
    let metadata = json!({"name": "a", "namespace": "n", "labels": {"a": "1", "b": "3"}});
    assert_eq!(decoded.value["metadata"], metadata);
    assert_eq!(decoded.value["spec"]["replicas"], 2);
    assert_eq!(decoded.value["spec"]["paused"], true);
}

#[test]
fn values_of_wrong_types() {
    for (body, expected) in [
        (
            r#"{"replicas":"3"}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#
            ]],
        ),
        (
            r#"{"replicas":1.5}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"#
            ]],
        ),
        (
            r#"{"replicas":2147483648}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32"#
            ]],
        ),
        (
            r#"{"template":{"spec":{"containers":{}}}}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"#
            ]],
        ),
        (
            r#"{"template":{"spec":{"containers":[{"imagePullPolicy":1}]}}}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.imagePullPolicy of type v1.PullPolicy"#
            ]],
        ),
        (
            r#"{"template":{"metadata":{"labels":{"a":1}}}}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels of type string"#
            ]],
        ),
        (
            r#"{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
            ]],
        ),
        (
            r#"{"template":{"metadata":{"creationTimestamp":"today"}}}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: parsing time "today" as "2006-01-02T15:04:05Z07:00": cannot parse "today" as "2006""#
            ]],
        ),
        (
            r#"{"strategy":{"rollingUpdate":{"maxSurge":true}}}"#,
            expect![[
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal bool into Go value of type int32"#
            ]],
        ),
    ] {
        refused(&spec(body), expected);
    }
    refused(
        "[]",
        expect![[
            r#"the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)"#
        ]],
    );
    refused(
        r#"{"kind":1}"#,
        expect![[
            r#"the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({"kind":1})"#
        ]],
    );
}

#[test]
fn malformed_json() {
    for (body, expected) in [
        (
            "",
            expect![
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
            ],
        ),
        (
            "{",
            expect![
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: unexpected end of JSON input ({)"
            ],
        ),
        (
            r#"{"a" 1}"#,
            expect![[
                r#"the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: invalid character '1' after object key ({"a" 1})"#
            ]],
        ),
        (
            r#"{"a":1,}"#,
            expect![[
                r#"the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: invalid character '}' looking for beginning of object key string ({"a":1,})"#
            ]],
        ),
        (
            "spec: {}",
            expect![
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: invalid character 's' looking for beginning of value (737065633a207b7d)"
            ],
        ),
        (
            "{} x",
            expect![
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: invalid character 'x' after top-level value ({} x)"
            ],
        ),
        (
            "{\"a\":tru}",
            expect![
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: invalid character '}' in literal true (expecting 'e') ({\"a\":tru})"
            ],
        ),
    ] {
        refused(body, expected);
    }
    let deep = "[".repeat(100_000);
    refused(
        &deep,
        expect![
            "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: exceeded max depth (5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b ...)"
        ],
    );
}

#[test]
fn another_kind_or_version() {
    for (body, expected) in [
        (
            r#"{"apiVersion":"v1","kind":"Pod"}"#,
            expect![[
                r#"Pod in version "v1" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown conversion"#
            ]],
        ),
        (
            r#"{"apiVersion":"apps/v1","kind":"Foo"}"#,
            expect![[
                r#"Foo in version "v1" cannot be handled as a Deployment: no kind "Foo" is registered for version "apps/v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#
            ]],
        ),
        (
            r#"{"apiVersion":"apps/v1beta1","kind":"Deployment"}"#,
            expect![
                "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
            ],
        ),
        (
            r#"{"apiVersion":"a/b/c","kind":"Deployment"}"#,
            expect![[
                r#"the object provided is unrecognized (must be of type Deployment): unexpected GroupVersion string: a/b/c ({"apiVersion":"a/b/c","kind":" ...)"#
            ]],
        ),
    ] {
        refused(body, expected);
    }
    let pod = r#"{"apiVersion":"v1","kind":"Service","spec":{"containers":[]}}"#;
    refused_as(
        MediaType::Json,
        pod,
        target("", "Pod"),
        expect![[
            r#"Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion"#
        ]],
    );
}

#[test]
fn a_body_may_leave_its_kind_out() {
    let decoded = decode(MediaType::Json, b"{}", target("apps", "Deployment")).unwrap();
    assert_eq!(decoded.value["apiVersion"], "apps/v1");
    assert_eq!(decoded.value["kind"], "Deployment");
    let options = br#"{"propagationPolicy":"Foreground","gracePeriodSeconds":0}"#;
    let decoded = decode(MediaType::Json, options, Target::DELETE_OPTIONS).unwrap();
    assert_eq!(decoded.value["gracePeriodSeconds"], 0);
    let options = br#"{"apiVersion":"policy/v1","kind":"DeleteOptions"}"#;
    assert!(decode(MediaType::Json, options, Target::DELETE_OPTIONS).is_ok());
}

#[test]
fn yaml_is_read_as_upstream_reads_it() {
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: &l {x: z}, annotations: *l}\n\
                immutable: on\ndata:\n  a: |\n    text\n  <<: {b: c, a: not this}\n";
    let decoded = decode(MediaType::Yaml, body.as_bytes(), target("", "ConfigMap")).unwrap();
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "data": {"a": "text\n", "b": "c"},
            "metadata": {"name": "a", "labels": {"x": "z"}, "annotations": {"x": "z"}}})
    );
    let any = |text: &str| decode_any(MediaType::Yaml, text.as_bytes()).unwrap();
    assert_eq!(
        any("[0x1F, 010, 0b11, 1_000, +1, 1.50, 1e3, .5, 12e03]"),
        json!([31, 8, 3, 1000, 1, 1.5, 1000, 0.5, 12000])
    );
    assert_eq!(
        any("[~, null, y, No, 'yes', \"1\", 1.2.3, 2024-01-02, !!str 1]"),
        json!([null, null, true, false, "yes", "1", "1.2.3", "2024-01-02", "1"])
    );
    assert_eq!(any("{1: a, true: b}\n---\nsecond"), json!({"1": "a", "true": "b"}));
    assert_eq!(any(""), json!(null));
}

#[test]
fn yaml_that_is_refused() {
    let config_map = target("", "ConfigMap");
    refused_as(
        MediaType::Yaml,
        "data:\n  a: b\n  a: c\n",
        config_map,
        expect![[r#"
        ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:
          line 3: key "a" already set in map"#]],
    );
    assert!(decode(MediaType::Yaml, b"a: [", config_map).is_err());
    assert!(decode(MediaType::Yaml, b"a: .inf", config_map).is_err());
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (from, to) in ('a'..'j').zip('b'..='j') {
        bomb += &format!(
            "{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n"
        );
    }
    let error = decode(MediaType::Yaml, bomb.as_bytes(), config_map).unwrap_err().to_string();
    assert!(error.contains("excessive aliasing"), "{error}");
    let keys: String = (0..1_000).map(|at| format!("k{at}: x, ")).collect();
    let merges = format!("- &a {{{keys}}}\n") + &"- <<: *a\n".repeat(1_000);
    let error = decode(MediaType::Yaml, merges.as_bytes(), config_map).unwrap_err().to_string();
    assert!(error.contains("excessive aliasing"), "{error}");
    let mut chain = String::from("- &a0 [x]\n");
    for at in 1..50_000 {
        chain += &format!("- &a{at} [*a{}]\n", at - 1);
    }
    let error = decode(MediaType::Yaml, chain.as_bytes(), config_map).unwrap_err().to_string();
    assert!(error.contains("exceeded max depth"), "{error}");
}

#[test]
fn protobuf_that_is_refused() {
    let pod = target("", "Pod");
    let refused = |body: &[u8]| decode(MediaType::Protobuf, body, pod).unwrap_err().to_string();
    assert!(refused(b"{}").contains("does not appear to be a protobuf message"));
    assert!(refused(b"k8s\0\x0a").contains("unexpected EOF"));
    // metadata (field 1) as a varint
    let wrong = b"k8s\0\x12\x02\x08\x01";
    assert_eq!(
        refused(wrong),
        r#"Pod in version "v1" cannot be handled as a Pod: proto: wrong wireType = 0 for field metadata"#
    );
}

#[test]
fn media_types_and_field_validation_by_name() {
    assert_eq!(
        MediaType::from_content_type("application/json; charset=utf-8"),
        Some(MediaType::Json)
    );
    assert_eq!(MediaType::from_content_type("application/yaml"), Some(MediaType::Yaml));
    assert_eq!(MediaType::from_content_type("text/plain"), None);
    assert_eq!(FieldValidation::from_query(""), Some(FieldValidation::Warn));
    assert_eq!(FieldValidation::from_query("strict"), None);
}

#[test]
fn kubectl_creates_a_deployment_in_protobuf() {
    // What kubectl 1.32 sends for: create deployment web2 --image=busybox --replicas=3 -- sleep 3600
    let body = include_bytes!("tests/kubectl-create-deployment.pb");
    let decoded = decode(MediaType::Protobuf, body, target("apps", "Deployment")).unwrap();
    assert!(decoded.strict.is_empty());
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web2", "labels": {"app": "web2"}},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web2"}},
                "strategy": {},
                "template": {
                    "metadata": {"labels": {"app": "web2"}},
                    "spec": {"containers": [{"name": "busybox", "image": "busybox",
                        "command": ["sleep", "3600"], "resources": {}}]},
                },
            },
            "status": {},
        })
    );
}
