//! Patches, as tables of object, patch and outcome.

use super::*;
use crate::defaults::tests::any_object;
use crate::schema;
use proptest::prelude::*;
use serde_json::json;

fn schema_of(name: &str) -> TypeId {
    schema::lookup(name).expect("a type of the schema")
}

/// Checks a strategic merge patch of a deployment's pod spec (or any other type).
fn smp(type_name: &str, object: Value, patch: Value, want: Value) {
    let got = strategic(&object, &patch, schema_of(type_name));
    assert_eq!(got, Ok(want), "{object} + {patch}");
}

fn pod(object: Value, patch: Value, want: Value) {
    smp("core/v1.PodSpec", object, patch, want);
}

#[test]
fn lists_merge_by_their_key() {
    pod(
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
        json!({"containers": [{"name": "b", "image": "2"}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
    );
    pod(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"name": "c", "args": null}]}),
        json!({"containers": [{"name": "c"}, {"name": "a"}]}),
    );
    pod(
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"}]}]}),
    );
}

#[test]
fn other_lists_are_replaced() {
    pod(
        json!({"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["x"]}]}),
        json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["y"]}]}),
        json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["y"]}]}),
    );
}

#[test]
fn maps_merge_and_nulls_delete() {
    pod(
        json!({"nodeSelector": {"a": "1", "b": "2"}, "hostname": "h"}),
        json!({"nodeSelector": {"a": null, "c": "3"}, "hostname": null, "subdomain": null}),
        json!({"nodeSelector": {"b": "2", "c": "3"}}),
    );
}

#[test]
fn directives() {
    pod(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "nope", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
    pod(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    pod(
        json!({"nodeSelector": {"a": "1"}}),
        json!({"nodeSelector": {"b": "2", "$patch": "replace"}}),
        json!({"nodeSelector": {"b": "2"}}),
    );
    pod(
        json!({"nodeSelector": {"a": "1"}}),
        json!({"nodeSelector": {"$patch": "delete"}}),
        json!({"nodeSelector": {}}),
    );
    pod(json!({}), json!({"nodeSelector": {"$patch": "delete", "a": "b"}}), json!({}));
    pod(
        json!({}),
        json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "b"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
}

#[test]
fn retained_keys() {
    smp(
        "apps/v1.DeploymentSpec",
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
        json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
        json!({"strategy": {"type": "Recreate"}}),
    );
    pod(
        json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "a",
                            "hostPath": {"path": "/x"}}]}),
        json!({"volumes": [{"name": "a", "hostPath": {"path": "/x"}}]}),
    );
    pod(
        json!({}),
        json!({"volumes": [{"$retainKeys": ["name"], "name": "a"}]}),
        json!({"volumes": [{"name": "a"}]}),
    );
}

#[test]
fn element_order() {
    let containers = |names: &[&str]| json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
    let order = |names: &[&str], patch: Value| {
        let keys: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        let mut patch = patch;
        patch["$setElementOrder/containers"] = json!(keys);
        patch
    };
    pod(
        containers(&["a", "b", "c"]),
        order(&["c", "a", "b"], json!({})),
        containers(&["c", "a", "b"]),
    );
    // What only the server has keeps its place.
    pod(
        containers(&["a", "x", "b"]),
        order(&["a", "b", "c"], containers(&["c"])),
        containers(&["a", "x", "b", "c"]),
    );
    pod(
        containers(&["a", "b"]),
        order(&["b"], json!({"containers": [{"name": "a", "$patch": "delete"}]})),
        containers(&["b"]),
    );
    smp(
        "meta/v1.ObjectMeta",
        json!({"finalizers": ["a", "b", "c"]}),
        json!({"$setElementOrder/finalizers": ["c", "d"], "finalizers": ["d"],
               "$deleteFromPrimitiveList/finalizers": ["a"]}),
        json!({"finalizers": ["b", "c", "d"]}),
    );
    smp(
        "meta/v1.ObjectMeta",
        json!({"finalizers": ["a", "b"]}),
        json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
        json!({"finalizers": ["b"]}),
    );
    smp(
        "meta/v1.ObjectMeta",
        json!({"finalizers": ["a"]}),
        json!({"finalizers": ["b", "a"]}),
        json!({"finalizers": ["b", "a"]}),
    );
}

#[test]
fn patches_that_make_no_sense() {
    let rejected = "the server rejected our request due to an error in our request";
    for (patch, code, want) in [
        (
            json!({"nodeSelector": {"$patch": "x", "a": "b"}}),
            500,
            "unknown patch type: x in map: map[a:b]",
        ),
        (
            json!({"containers": [{"image": "i"}]}),
            500,
            "map: map[image:i] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"$patch": "merge"}]}),
            400,
            "merging lists cannot yet be specified in the patch",
        ),
        (json!({"containers": [["a"]]}), 422, rejected),
        (json!({"$retainKeys": 1}), 400, "invalid patch format of retainKeys"),
        (json!({"$retainKeys": ["a"], "b": 1}), 422, rejected),
        (
            json!({"$setElementOrder/containers": 1}),
            400,
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
            500,
            "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n\
             [map[name:a]]\n",
        ),
        (json!([1]), 400, "invalid JSON document"),
    ] {
        let object = json!({"containers": [{"name": "a"}], "nodeSelector": {}});
        let error = strategic(&object, &patch, schema_of("core/v1.PodSpec")).unwrap_err();
        let status = error.to_status();
        assert_eq!((status.code, &*status.message), (code, want), "{patch}");
    }
}

#[test]
fn json_patches() {
    let object = json!({"a": {"b": 1}, "l": [1, 2]});
    for (patch, want) in [
        (
            json!([{"op": "replace", "path": "/a/b", "value": 2}]),
            Ok(json!({"a": {"b": 2}, "l": [1, 2]})),
        ),
        (
            json!([{"op": "add", "path": "/l/-", "value": 3}]),
            Ok(json!({"a": {"b": 1}, "l": [1, 2, 3]})),
        ),
        (json!([{"op": "test", "path": "/a/b", "value": 2}]), Err(422)),
        (json!([{"op": "remove", "path": "/x"}]), Err(422)),
        (json!([{"op": "fly", "path": "/x"}]), Err(422)),
        (json!({"op": "add"}), Err(400)),
        (json!(vec![json!({"op": "add", "path": "/x", "value": 1}); 10_001]), Err(413)),
    ] {
        match (json(&object, &patch), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(error), Err(code)) => assert_eq!(error.to_status().code, code, "{error}"),
            (got, want) => panic!("{got:?} is not {want:?}"),
        }
    }
}

#[test]
fn merge_patches() {
    let object = json!({"a": {"b": 1, "c": 2}, "l": [1]});
    let patch = json!({"a": {"b": null}, "l": [2]});
    assert_eq!(merge(&object, &patch), Ok(json!({"a": {"c": 2}, "l": [2]})));
    assert_eq!(merge(&object, &json!([])).unwrap_err().to_status().code, 400);
}

proptest! {
    #[test]
    fn any_patch_is_applied_or_refused(object in any_object(), patch in any_object()) {
        let _ = strategic(&object, &patch, schema_of("core/v1.Pod"));
        let _ = merge(&object, &patch);
    }

    #[test]
    fn an_empty_patch_changes_nothing(object in any_object()) {
        prop_assume!(object.is_object());
        prop_assert_eq!(strategic(&object, &json!({}), schema_of("core/v1.Pod")), Ok(object));
    }

    #[test]
    fn a_patch_applied_twice_is_applied_once(
        names in prop::collection::btree_set("[a-e]", 0..5),
        patched in prop::collection::vec("[a-g]", 0..4),
    ) {
        let list = |names: Vec<String>| {
            let mut seen = std::collections::BTreeSet::new();
            let items: Vec<Value> = names.into_iter().filter(|n| seen.insert(n.clone()))
                .map(|n| json!({"name": n, "image": "i"})).collect();
            json!({"containers": items})
        };
        let object = list(names.into_iter().collect());
        let patch = list(patched);
        let pod = schema_of("core/v1.PodSpec");
        let once = strategic(&object, &patch, pod).unwrap();
        prop_assert_eq!(strategic(&once, &patch, pod).unwrap(), once);
    }
}
