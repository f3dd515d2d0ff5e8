//! Admission webhooks: real servers with TLS that masters ask, from all of them.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::time::{Duration, Instant};

use common::dev::Dev;
use common::hook::Hook;
use common::hooked::{
    Answer, CONFIGURATIONS, MAPS, MUTATING, PODS, VALIDATING, World, machine_address, map, maps,
    pod, rule,
};
use common::{PATIENCE, free_port, step};
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_webhooks_say_holds_on_every_master() {
    let world = World::start(3).await;
    refused(&world).await;
    changed(&world).await;
    conflicts(&world).await;
    asked_again(&world).await;
    controllers(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_webhooks_may_be_asked_about() {
    let world = World::start(1).await;
    failures(&world).await;
    misfits(&world).await;
    selectors(&world).await;
    dry_runs_and_warnings(&world).await;
    subresources(&world).await;
    going(&world).await;
    streams_and_reviews(&world).await;
    custom_kinds(&world).await;
    services(&world).await;
    exempt(&world).await;
    metrics(&world).await;
}

async fn refused(world: &World) {
    step("refused by a validating webhook, at each master");
    let webhook = world.hook.webhook("deny.example.com", "deny/me", maps());
    world.configure(VALIDATING, "deny", vec![webhook]).await;
    for (number, client) in world.clients.iter().enumerate() {
        // A master that has shown the configuration acts by it.
        let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/deny");
        client.until("it is there", &path, |found| found["kind"] != "Status").await;
        let answer = client.post(MAPS, &map(&format!("m{number}"))).await;
        let words = "admission webhook \"deny.example.com\" denied the request: because of me";
        assert_eq!((answer.code, answer.message()), (403, words));
        assert_eq!(world.hook.calls().len(), 1, "it is asked once");
    }
    let fine = client_of_other_namespace(world).await;
    assert_eq!(fine.code, 201, "{}", fine.body);
    assert!(world.hook.calls().is_empty());
    world.forget(VALIDATING, "deny").await;
    let made = world.one().make(MAPS, &map("fine")).await;
    assert_eq!(made["metadata"]["name"], "fine");
}

async fn client_of_other_namespace(world: &World) -> Answer {
    world.one().post("/api/v1/namespaces/default/configmaps", &map("fine")).await
}

async fn changed(world: &World) {
    step("changed by a mutating webhook, seen by a validating one");
    let set = world.hook.webhook("set.example.com", "set/data={\"a\":\"b\"}", maps());
    world.configure(MUTATING, "set", vec![set]).await;
    let see = world.hook.webhook("see.example.com", "allow", maps());
    world.configure(VALIDATING, "see", vec![see]).await;
    let path = format!("{MAPS}?fieldManager=me&fieldValidation=Strict");
    let mut generated = map("");
    generated["metadata"] = json!({"generateName": "made-"});
    let made = world.one().make(&path, &generated).await;
    assert_eq!(made["data"], json!({"a": "b"}));
    let calls = world.hook.calls();
    let [(_, first), (_, second)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(first["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(first["kind"], first["requestKind"]);
    assert_eq!(first["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&first["operation"], &first["namespace"]), (&json!("CREATE"), &json!("hooked")));
    assert!(first["name"].is_null() && first["object"]["data"].is_null(), "{first}");
    assert_eq!((&first["oldObject"], &first["dryRun"]), (&Value::Null, &json!(false)));
    assert!(first["userInfo"]["groups"].as_array().unwrap().contains(&json!("system:masters")));
    let options = json!({"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "fieldManager": "me",
        "fieldValidation": "Strict"});
    assert_eq!(first["options"], options);
    assert_eq!(second["object"]["data"], json!({"a": "b"}));
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(second["name"], name);
    assert_ne!(first["uid"], second["uid"]);
    step("an update and an apply");
    let patch = json!({"metadata": {"annotations": {"x": "y"}}, "data": null});
    let patched = world.one().call(Method::PATCH, &format!("{MAPS}/{name}"), &patch).await;
    assert_eq!(
        (patched.code, &patched.body["data"]),
        (200, &json!({"a": "b"})),
        "{}",
        patched.body
    );
    let calls = world.hook.calls();
    assert_eq!(calls[0].1["operation"], "UPDATE");
    assert_eq!(calls[0].1["oldObject"]["data"], json!({"a": "b"}));
    assert_eq!(calls[0].1["options"]["kind"], "UpdateOptions");
    let applied = map("applied");
    let path = format!("{MAPS}/applied?fieldManager=me");
    for operation in ["CREATE", "UPDATE"] {
        let kind = "application/apply-patch+yaml";
        let answer = world.one().send(Method::PATCH, &path, kind, &applied).await;
        assert!(answer.code < 300 && answer.body["data"]["a"] == "b", "{}", answer.body);
        let calls = world.hook.calls();
        assert_eq!(calls[0].1["operation"], operation);
        assert_eq!(
            calls[0].1["options"]["kind"].as_str().unwrap().to_uppercase(),
            format!("{operation}OPTIONS")
        );
    }
    world.forget(MUTATING, "set").await;
    world.forget(VALIDATING, "see").await;
}

/// Writes that meet each other are computed anew, and shown anew: what is kept is what was judged.
async fn conflicts(world: &World) {
    step("conflicts");
    let hook = world.hook.webhook(
        "count.example.com",
        "label/times",
        rule(&["UPDATE"], "", "v1", "configmaps"),
    );
    world.configure(MUTATING, "count", vec![hook]).await;
    world.one().make(MAPS, &map("counted")).await;
    let path = format!("{MAPS}/counted");
    let calls = (0..9).map(|number| {
        let (client, path) = (world.clients[number % 3].clone(), path.clone());
        let patch = json!({"data": {format!("k{number}"): "v"}});
        tokio::spawn(async move { client.call(Method::PATCH, &path, &patch).await.code })
    });
    let mut done = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            200 => done += 1,
            code => assert_eq!(code, 409, "nothing else may go wrong"),
        }
    }
    let found = world.one().get(&path).await;
    let kept = found["data"].as_object().unwrap().len();
    assert_eq!((kept, &found["metadata"]["labels"]["times"]), (done, &json!(done.to_string())));
    assert!(world.hook.calls().len() >= done && done > 0);
    world.forget(MUTATING, "count").await;
}

async fn asked_again(world: &World) {
    step("asked again");
    let label = |name: &str, policy: &str| {
        let mut webhook =
            world.hook.webhook(&format!("{name}.example.com"), &format!("label/{name}"), maps());
        webhook["reinvocationPolicy"] = json!(policy);
        webhook
    };
    // In the order of their configurations' names, whenever those were made.
    world.configure(MUTATING, "b", vec![label("second", "Never")]).await;
    world.configure(MUTATING, "a", vec![label("first", "IfNeeded"), label("never", "Never")]).await;
    let made = world.one().make(MAPS, &map("again")).await;
    let labels = json!({"first": "2", "never": "1", "second": "1"});
    assert_eq!(made["metadata"]["labels"], labels);
    let order: Vec<String> = world.hook.calls().into_iter().map(|(path, _)| path).collect();
    assert_eq!(order, ["label/first", "label/never", "label/second", "label/first"]);
    world.forget(MUTATING, "a").await;
    world.forget(MUTATING, "b").await;
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {
                "schedulerName": "nobody", "containers": [{"name": "c", "image": "x:1"}]}}}})
}

/// What controllers make goes through webhooks, too: pods get their side cars.
async fn controllers(world: &World) {
    step("what controllers make");
    let webhook =
        world.hook.webhook("pods.example.com", "label/mark", rule(&["CREATE"], "", "v1", "pods"));
    world.configure(MUTATING, "pods", vec![webhook]).await;
    let deployments = "/apis/apps/v1/namespaces/hooked/deployments";
    world.clients[1].make(deployments, &deployment("web", 3)).await;
    let path = format!("{PODS}?labelSelector=mark%3D1");
    let three = |found: &Value| found["items"].as_array().is_some_and(|pods| pods.len() == 3);
    world.one().until("three pods are marked", &path, three).await;
    let calls = world.hook.calls();
    let user = &calls[0].1["userInfo"]["username"];
    assert_eq!(user, "system:serviceaccount:kube-system:replicaset-controller");
    let groups = &calls[0].1["userInfo"]["groups"];
    assert!(
        groups.as_array().unwrap().contains(&json!("system:serviceaccounts:kube-system")),
        "{groups}"
    );
    world.forget(MUTATING, "pods").await;
    step("a webhook that hangs holds up nobody else");
    let slow = world.hook.webhook("slow.example.com", "slow", rule(&["CREATE"], "", "v1", "pods"));
    world.configure(MUTATING, "slow", vec![slow]).await;
    for number in 0..5 {
        world.one().make(deployments, &deployment(&format!("held{number}"), 30)).await;
    }
    let began = Instant::now();
    while world.hook.calls().is_empty() {
        assert!(began.elapsed() < PATIENCE, "nobody asks");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    world.one().make("/apis/apps/v1/namespaces/default/deployments", &deployment("quick", 3)).await;
    let path = "/api/v1/namespaces/default/pods?labelSelector=app%3Dquick";
    world.one().until("others get their pods", path, three).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.forget(MUTATING, "slow").await;
}

const FAILING: &str = "f.example.com";

/// Webhooks that fail, each with the words of the refusal.
async fn failing(hook: &Hook) -> Vec<(Value, String)> {
    let name = FAILING;
    let dead = {
        let mut webhook = hook.webhook(name, "allow", maps());
        webhook["clientConfig"]["url"] = json!(format!("https://127.0.0.1:{}/x", free_port()));
        webhook
    };
    let mut slow = hook.webhook(name, "slow", maps());
    slow["timeoutSeconds"] = json!(1);
    let mut distrusted = hook.webhook(name, "allow", maps());
    let other = Hook::start(&["localhost"], &["127.0.0.1".parse().unwrap()]).await;
    distrusted["clientConfig"]["caBundle"] = json!(other.bundle);
    let failed = "Internal error occurred: failed calling webhook \"f.example.com\": ";
    let call = |why: &str| format!("{failed}failed to call webhook: {why}");
    let invalid = |why: &str| format!("{failed}received invalid webhook response: {why}");
    let url = dead["clientConfig"]["url"].as_str().unwrap().to_owned();
    let at = url.trim_start_matches("https://").trim_end_matches("/x").to_owned();
    let own = format!("https://127.0.0.1:{}", hook.port);
    vec![
        (
            dead,
            call(&format!(
                "Post \"{url}?timeout=10s\": dial tcp {at}: connect: connection refused"
            )),
        ),
        (slow, call(&format!("Post \"{own}/slow?timeout=1s\": context deadline exceeded"))),
        (
            distrusted,
            call(&format!(
                "Post \"{own}/allow?timeout=10s\": tls: failed to verify certificate: x509: certificate \
                signed by unknown authority"
            )),
        ),
        (
            hook.webhook(name, "broken", maps()),
            call(
                "an error on the server (\"out of order\") has prevented the request from succeeding",
            ),
        ),
        (
            hook.webhook(name, "stranger", maps()),
            invalid("expected response.uid=\"UID\", got \"somebody\""),
        ),
        (
            hook.webhook(name, "nonsense", maps()),
            format!(
                "{failed}received undecodable patch in webhook response: invalid character 'o' in literal null (expecting 'u')"
            ),
        ),
    ]
}

async fn failures(world: &World) {
    step("failures");
    let hook = &world.hook;
    let cases = failing(hook).await;
    for (number, (mut webhook, words)) in cases.into_iter().enumerate() {
        for policy in ["Fail", "Ignore"] {
            webhook["failurePolicy"] = json!(policy);
            world.configure(MUTATING, "f", vec![webhook.clone()]).await;
            let answer = world.one().post(MAPS, &map(&format!("f{number}"))).await;
            let uid = hook.calls().first().map(|call| call.1["uid"].as_str().unwrap().to_owned());
            let words = words.replace("UID", &uid.unwrap_or_default());
            match policy {
                "Fail" => {
                    assert_eq!((answer.code, answer.message()), (500, words.as_str()));
                    assert_eq!(answer.body["reason"], "InternalError");
                }
                _ => assert_eq!(answer.code, 201, "{words}: {}", answer.body),
            }
            world.forget(MUTATING, "f").await;
        }
    }
}

async fn misfits(world: &World) {
    step("a patch that does not fit is refused whatever the policy is");
    let (hook, name) = (&world.hook, FAILING);
    let mut webhook = hook.webhook(name, "misfit", maps());
    webhook["failurePolicy"] = json!("Ignore");
    world.configure(MUTATING, "f", vec![webhook]).await;
    let answer = world.one().post(MAPS, &map("misfit")).await;
    assert_eq!(
        (answer.code, &answer.body["reason"]),
        (500, &json!("InternalError")),
        "{}",
        answer.body
    );
    world.forget(MUTATING, "f").await;
    step("what a webhook makes is validated");
    let webhook = hook.webhook(name, "set/data={\"no good\":\"b\"}", maps());
    world.configure(MUTATING, "f", vec![webhook]).await;
    let answer = world.one().post(MAPS, &map("invalid")).await;
    assert_eq!((answer.code, &answer.body["reason"]), (422, &json!("Invalid")), "{}", answer.body);
    world.forget(MUTATING, "f").await;
}

async fn selectors(world: &World) {
    step("selectors");
    let everywhere =
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]});
    let mut labelled = world.hook.webhook("s.example.com", "deny/label", maps());
    labelled["objectSelector"] = json!({"matchLabels": {"color": "red"}});
    world.configure(VALIDATING, "s", vec![labelled]).await;
    world.one().make(MAPS, &map("blue")).await;
    let mut red = map("red");
    red["metadata"]["labels"] = json!({"color": "red"});
    assert_eq!(world.one().post(MAPS, &red).await.code, 403);
    // The old version counts as well as the new one.
    let label = |value: Value| json!({"metadata": {"labels": {"color": value}}});
    let path = format!("{MAPS}/blue");
    assert_eq!(world.one().call(Method::PATCH, &path, &label(json!("red"))).await.code, 403);
    assert_eq!(world.one().call(Method::PATCH, &path, &label(json!("green"))).await.code, 200);
    world.forget(VALIDATING, "s").await;
    step("namespaces are selected by their own labels, other objects of the cluster always");
    let mut webhook = world.hook.webhook("s.example.com", "deny/it", json!({"operations": ["CREATE"],
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces", "persistentvolumes"], "scope": "Cluster"}));
    webhook["namespaceSelector"] = json!({"matchLabels": {"chosen": "yes"}});
    world.configure(VALIDATING, "s", vec![webhook]).await;
    let namespace = |name: &str, chosen: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"chosen": chosen}}})
    };
    world.one().make("/api/v1/namespaces", &namespace("free", "no")).await;
    assert_eq!(world.one().post("/api/v1/namespaces", &namespace("chosen", "yes")).await.code, 403);
    let call = &world.hook.calls()[0].1;
    assert_eq!((&call["name"], &call["namespace"]), (&json!("chosen"), &json!("chosen")));
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    assert_eq!(world.one().post("/api/v1/persistentvolumes", &volume).await.code, 403);
    world.forget(VALIDATING, "s").await;
    step("no rule, no call");
    let mut webhook =
        world.hook.webhook("s.example.com", "deny/it", rule(&["DELETE"], "", "v1", "configmaps"));
    webhook["namespaceSelector"] = everywhere;
    world.configure(VALIDATING, "s", vec![webhook]).await;
    world.one().make(MAPS, &map("unasked")).await;
    assert!(world.hook.calls().is_empty());
    world.forget(VALIDATING, "s").await;
}

async fn dry_runs_and_warnings(world: &World) {
    step("dry runs and warnings");
    let mut webhook = world.hook.webhook("w.example.com", "warn/dogs", maps());
    webhook["sideEffects"] = json!("NoneOnDryRun");
    let no =
        world.hook.webhook("x.example.com", "deny/cats", rule(&["UPDATE"], "", "v1", "configmaps"));
    world.configure(VALIDATING, "w", vec![webhook, no]).await;
    let answer = world.one().post(&format!("{MAPS}?dryRun=All"), &map("dry")).await;
    assert_eq!((answer.code, answer.warnings), (201, vec!["299 - \"beware of dogs\"".to_owned()]));
    let calls = world.hook.calls();
    assert_eq!(
        (&calls[0].1["dryRun"], &calls[0].1["options"]["dryRun"]),
        (&json!(true), &json!(["All"]))
    );
    assert_eq!(world.one().get(&format!("{MAPS}/dry")).await["reason"], "NotFound");
    world.one().make(MAPS, &map("wet")).await;
    // Who is refused is warned, too.
    let patch = json!({"data": {"a": "b"}});
    let answer = world.one().call(Method::PATCH, &format!("{MAPS}/wet"), &patch).await;
    assert_eq!((answer.code, answer.warnings), (403, vec!["299 - \"beware of dogs\"".to_owned()]));
    world.forget(VALIDATING, "w").await;
    conditions(world).await;
}

/// Which requests a webhook is asked about, in expressions.
async fn conditions(world: &World) {
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let configuration = |expression: &str| {
        let mut hook = world.hook.webhook("c.example.com", "deny", maps());
        hook["matchConditions"] = json!([{"name": "a", "expression": expression}]);
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "c"}, "webhooks": [hook]})
    };
    let answer = world.one().post(&path, &configuration("object.metadata.")).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    let place = "webhooks[0].matchConditions[0].expression: Invalid value: \"object.metadata.\": compilation failed";
    assert!(answer.message().contains(place), "{}", answer.message());
    let meant =
        "has(object.data) && 'meant' in object.data && request.userInfo.username != 'nobody'";
    let answer = world.one().post(&path, &configuration(meant)).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    world.one().make(MAPS, &map("free")).await;
    let mut caught = map("caught");
    caught["data"] = json!({"meant": "yes"});
    let answer = world.one().post(MAPS, &caught).await;
    assert!(answer.message().contains("denied the request"), "{}", answer.body);
    world.forget(VALIDATING, "c").await;
}

async fn subresources(world: &World) {
    step("subresources");
    let client = world.one();
    let deployments = "/apis/apps/v1/namespaces/hooked/deployments";
    client.make(deployments, &deployment("sub", 0)).await;
    client.make(PODS, &pod("sub")).await;
    let scale = world.hook.webhook(
        "scale.example.com",
        "set/spec/replicas=0",
        rule(&["UPDATE"], "*", "*", "*/scale"),
    );
    let status = world.hook.webhook(
        "status.example.com",
        "allow",
        rule(&["UPDATE"], "", "v1", "pods/status"),
    );
    world.configure(MUTATING, "sub", vec![scale, status]).await;
    let path = format!("{deployments}/sub/scale");
    let answer = client.call(Method::PATCH, &path, &json!({"spec": {"replicas": 2}})).await;
    // Zero is not shown.
    assert_eq!((answer.code, &answer.body["spec"]), (200, &json!({})), "{}", answer.body);
    let calls = world.hook.calls();
    let [(_, call)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(call["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(
        call["resource"],
        json!({"group": "apps", "version": "v1", "resource": "deployments"})
    );
    assert_eq!(
        (&call["subResource"], &call["requestSubResource"]),
        (&json!("scale"), &json!("scale"))
    );
    assert_eq!(
        (&call["object"]["kind"], &call["object"]["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    assert_eq!(call["oldObject"]["kind"], "Scale");
    let phase = json!({"status": {"message": "m"}});
    let answer = client.call(Method::PATCH, &format!("{PODS}/sub/status"), &phase).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    let call = world.hook.calls().remove(0).1;
    assert_eq!(
        (&call["subResource"], &call["object"]["status"]["message"]),
        (&json!("status"), &json!("m"))
    );
    world.forget(MUTATING, "sub").await;

    step("bindings and evictions");
    let rule_of = |what: &str| rule(&["*"], "", "v1", what);
    let hooks = ["pods/binding", "pods/eviction"].map(|what| {
        world.hook.webhook(
            &format!("{}.example.com", what.replace('/', ".")),
            &format!("deny/{what}"),
            rule_of(what),
        )
    });
    world.configure(VALIDATING, "sub", hooks.to_vec()).await;
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "sub"}});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "sub"},
        "target": {"kind": "Node", "name": "n"}});
    for (sub, body) in [("eviction", eviction), ("binding", binding)] {
        let answer = client.post(&format!("{PODS}/sub/{sub}"), &body).await;
        let words = format!("denied the request: because of pods/{sub}");
        assert!(answer.code == 403 && answer.message().ends_with(&words), "{}", answer.body);
        let call = world.hook.calls().remove(0).1;
        assert_eq!((&call["operation"], &call["name"]), (&json!("CREATE"), &json!("sub")));
        assert_eq!((&call["kind"]["kind"], &call["subResource"]), (&body["kind"], &json!(sub)));
        assert_eq!(call["object"]["kind"], body["kind"]);
    }
    world.forget(VALIDATING, "sub").await;
}

async fn going(world: &World) {
    step("deletes");
    let client = world.one();
    for name in ["d1", "d2", "kept"] {
        let mut map = map(name);
        map["metadata"]["labels"] = json!({"goes": "yes"});
        client.make(MAPS, &map).await;
    }
    let rule = rule(&["DELETE"], "", "v1", "configmaps");
    world
        .configure(
            MUTATING,
            "d",
            vec![world.hook.webhook("see.example.com", "allow", rule.clone())],
        )
        .await;
    let mut keep = world.hook.webhook("keep.example.com", "deny/keep", rule);
    keep["objectSelector"] = json!({"matchLabels": {"keep": "yes"}});
    world.configure(VALIDATING, "d", vec![keep]).await;
    let label = json!({"metadata": {"labels": {"keep": "yes"}}});
    let path = format!("{MAPS}/kept");
    assert_eq!(client.call(Method::PATCH, &path, &label).await.code, 200);
    assert_eq!(client.delete(&path).await.code, 403);
    let calls = world.hook.calls();
    assert_eq!(calls.len(), 2);
    for (_, call) in calls {
        assert_eq!((&call["operation"], &call["object"]), (&json!("DELETE"), &Value::Null));
        assert_eq!(call["oldObject"]["metadata"]["name"], "kept");
        assert_eq!(call["options"]["kind"], "DeleteOptions");
    }
    let answer = client.delete(&format!("{MAPS}?labelSelector=goes,!keep")).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    let mut names: Vec<_> =
        world.hook.calls().into_iter().map(|call| call.1["name"].to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"d1\"", "\"d2\""]);
    assert_eq!(client.delete(&format!("{MAPS}?labelSelector=goes")).await.code, 403);
    world.forget(MUTATING, "d").await;
    world.forget(VALIDATING, "d").await;
}

async fn streams_and_reviews(world: &World) {
    step("streams and reviews");
    let client = world.one();
    let mut review =
        world.hook.webhook("review.example.com", "deny/asking", rule(&["CREATE"], "*", "*", "*"));
    review["rules"][0]["apiGroups"] = json!(["authorization.k8s.io"]);
    let exec = world.hook.webhook(
        "exec.example.com",
        "deny/exec",
        rule(&["CONNECT"], "", "v1", "pods/exec"),
    );
    world.configure(VALIDATING, "e", vec![exec, review]).await;
    let path = format!("{PODS}/sub/exec?command=ls&command=-l&stdout=true&container=c");
    let answer = client.post(&path, &Value::Null).await;
    let words = "admission webhook \"exec.example.com\" denied the request: because of exec";
    assert_eq!((answer.code, answer.message()), (403, words));
    let call = world.hook.calls().remove(0).1;
    let options = json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdout": true, "container": "c",
        "command": ["ls", "-l"]});
    assert_eq!((&call["operation"], &call["object"]), (&json!("CONNECT"), &options));
    assert_eq!(
        (&call["name"], &call["subResource"], &call["options"]),
        (&json!("sub"), &json!("exec"), &Value::Null)
    );
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(client.post(path, &review).await.code, 403);
    assert_eq!(world.hook.calls()[0].1["kind"]["kind"], "SelfSubjectAccessReview");
    world.forget(VALIDATING, "e").await;
    assert_eq!(client.post(path, &review).await.code, 201);
}

async fn custom_kinds(world: &World) {
    step("custom kinds, in the version that a rule names");
    let client = world.one();
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}}}}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1", true), version("v1beta1", false)]}});
    client.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let things = |version: &str| format!("/apis/example.com/{version}/namespaces/hooked/things");
    client.until("it is served", &things("v1"), |found| found["kind"] == "ThingList").await;
    let old = world.hook.webhook(
        "old.example.com",
        "set/spec/size=7",
        rule(&["CREATE"], "example.com", "v1beta1", "things"),
    );
    let mut exact = world.hook.webhook(
        "exact.example.com",
        "deny/never",
        rule(&["CREATE"], "example.com", "v1beta1", "*"),
    );
    exact["matchPolicy"] = json!("Exact");
    world.configure(MUTATING, "t", vec![old, exact]).await;
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {}});
    let made = client.make(&things("v1"), &thing).await;
    assert_eq!(made["apiVersion"], "example.com/v1");
    assert_eq!(made["spec"], json!({"size": 7, "color": "red"}));
    let call = world.hook.calls().remove(0).1;
    assert_eq!(
        call["kind"],
        json!({"group": "example.com", "version": "v1beta1", "kind": "Thing"})
    );
    assert_eq!(call["requestKind"]["version"], "v1");
    assert_eq!(
        (&call["resource"]["version"], &call["requestResource"]["version"]),
        (&json!("v1beta1"), &json!("v1"))
    );
    assert_eq!(call["object"]["apiVersion"], "example.com/v1beta1");
    assert_eq!(call["object"]["spec"]["color"], "red");
    world.forget(MUTATING, "t").await;
    step("built-in kinds of two groups");
    let events = world.hook.webhook(
        "ev.example.com",
        "allow",
        rule(&["CREATE"], "events.k8s.io", "v1", "events"),
    );
    world.configure(VALIDATING, "ev", vec![events]).await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m", "reason": "r",
        "type": "Normal", "involvedObject": {"kind": "Pod", "namespace": "hooked", "name": "p"}});
    client.make("/api/v1/namespaces/hooked/events", &event).await;
    let calls = world.hook.calls();
    let call = &calls.iter().find(|call| call.1["name"] == "e").unwrap().1;
    assert_eq!(
        (&call["object"]["note"], &call["object"]["apiVersion"]),
        (&json!("m"), &json!("events.k8s.io/v1"))
    );
    world.forget(VALIDATING, "ev").await;
}

async fn services(world: &World) {
    step("services");
    let client = world.one();
    let mut webhook = world.hook.webhook("judge.example.com", "", maps());
    let service =
        json!({"namespace": "hooked", "name": "judge", "path": "deny/service", "port": 443});
    let mut service = service;
    service["path"] = json!("/deny");
    webhook["clientConfig"] = json!({"service": service, "caBundle": world.hook.bundle});
    world.configure(VALIDATING, "j", vec![webhook]).await;
    let failed = "Internal error occurred: failed calling webhook \"judge.example.com\": failed to call webhook: Post \
        \"https://judge.hooked.svc:443/deny?timeout=10s\": ";
    let answer = client.post(MAPS, &map("judged")).await;
    assert_eq!(answer.message(), format!("{failed}service \"judge\" not found"));
    let service = |port: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "judge"},
        "spec": {"ports": [{"name": "https", "port": port, "targetPort": 8443}]}})
    };
    let services = "/api/v1/namespaces/hooked/services";
    client.make(services, &service(8000)).await;
    let answer = client.post(MAPS, &map("judged")).await;
    assert_eq!(
        answer.message(),
        format!("{failed}no service port 443 found for service \"judge\"")
    );
    assert_eq!(client.delete(&format!("{services}/judge")).await.code, 200);
    client.make(services, &service(443)).await;
    let answer = client.post(MAPS, &map("judged")).await;
    assert_eq!(answer.message(), format!("{failed}no endpoints available for service \"judge\""));
    if let Some(address) = machine_address() {
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "judge-1", "labels": {"kubernetes.io/service-name": "judge"}},
            "ports": [{"name": "https", "port": world.hook.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}]});
        client.make("/apis/discovery.k8s.io/v1/namespaces/hooked/endpointslices", &slice).await;
        let answer = client.post(MAPS, &map("judged")).await;
        let words = "admission webhook \"judge.example.com\" denied the request: because of ";
        assert_eq!((answer.code, answer.message()), (403, words));
    }
    world.forget(VALIDATING, "j").await;
}

/// A webhook that runs in a pod. The address of its endpoint is nobody's: only through its node is it reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_in_a_pod_is_reached_through_its_node() {
    let Some(address) = machine_address() else { return };
    let Some(dev) = Dev::start() else { return };
    let hook = Hook::start_self_signed(&["judge.default.svc"], &[]).await;
    let relay = format!("nc -ll -p 8443 -e nc {address} {}", hook.port);
    let kubectl = &dev.kubectl;
    let run = ["run", "judge", "--image=busybox:test", "--", "sh", "-c", &relay];
    kubectl.run(&run);
    kubectl.run(&["wait", "--for=condition=Ready", "pod/judge", "--timeout=60s"]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "judge"},
        "spec": {"ports": [{"port": 443, "targetPort": 8443}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "judge-1", "labels": {"kubernetes.io/service-name": "judge"}},
        "ports": [{"port": 8443, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["198.51.100.1"], "nodeName": Dev::NODE,
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "judge"}}]});
    for object in [service, slice] {
        kubectl.run_with(&["create", "-f", "-"], &object.to_string());
    }
    let mut webhook = hook.webhook("judge.example.com", "deny", maps());
    let service = json!({"namespace": "default", "name": "judge", "path": "/deny"});
    webhook["clientConfig"] = json!({"service": service, "caBundle": hook.bundle});
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "judge"}, "webhooks": [webhook]});
    kubectl.run_with(&["create", "-f", "-"], &configuration.to_string());
    for number in 0..3 {
        let complaint = kubectl.fails(&["create", "configmap", &format!("m{number}")]);
        let words = "admission webhook \"judge.example.com\" denied the request: because of";
        assert!(complaint.contains(words), "{complaint}");
    }
    assert_eq!(hook.calls().len(), 3);
    kubectl.run(&["delete", "validatingwebhookconfiguration", "judge"]);
    kubectl.run(&["create", "configmap", "fine"]);
}

/// What would lock everybody out for good does not.
async fn exempt(world: &World) {
    step("configurations themselves");
    let mut webhook = world.hook.webhook("all.example.com", "", rule(&["*"], "*", "*", "*/*"));
    webhook["clientConfig"]["url"] = json!(format!("https://127.0.0.1:{}/", free_port()));
    webhook["namespaceSelector"] = json!({});
    world.configure(VALIDATING, "all", vec![webhook]).await;
    assert_eq!(world.one().post(MAPS, &map("locked")).await.code, 500);
    world.forget(VALIDATING, "all").await;
    world.one().make(MAPS, &map("locked")).await;
}

async fn metrics(world: &World) {
    step("metrics");
    let text = world.one().text("/metrics").await;
    for series in [
        "apiserver_admission_webhook_request_total{name=\"see.example.com\",type=\"admit\",operation=\"DELETE\",\
            code=\"200\",rejected=\"false\"} 4",
        "apiserver_admission_webhook_rejection_count{name=\"f.example.com\",type=\"admit\",operation=\"CREATE\",\
            error_type=\"calling_webhook_error\",rejection_code=\"503\"}",
        "apiserver_admission_webhook_fail_open_count{name=\"f.example.com\",type=\"admit\"} 6",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"w.example.com\",type=\"validating\",\
            operation=\"CREATE\",rejected=\"false\"} 2",
    ] {
        assert!(text.contains(series), "{series}\n{text}");
    }
}
