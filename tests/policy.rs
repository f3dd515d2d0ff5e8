//! Quotas, limit ranges, disruption budgets and protection of claims, at several masters at once and with kubectl.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::api::Api;
use common::cluster::Cluster;
use common::dev::Dev;
use common::kubectl::Kubectl;
use common::{PATIENCE, step, until};
use http::Method;
use serde_json::{Value, json};

/// A pod that nobody schedules.
fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "x:1"}]}})
}

/// Calls of the same kind, turn about at all masters, all at once; their answers.
async fn at_once(apis: &[Api], calls: Vec<(String, Value)>) -> Vec<(u16, Value)> {
    let calls = calls.into_iter().enumerate().map(|(number, (path, body))| {
        let api = apis[number % apis.len()].clone();
        tokio::spawn(async move {
            api.call(Method::POST, &path, body.to_string().into_bytes()).await.unwrap()
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers
}

fn with_code(answers: &[(u16, Value)], code: u16) -> usize {
    answers.iter().filter(|(answered, _)| *answered == code).count()
}

#[test]
fn what_several_masters_do_at_once_stays_within_quotas_and_budgets() {
    let cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = cluster.kubeconfig();
    let apis: Vec<Api> = cluster
        .masters
        .iter()
        .map(|master| runtime.block_on(Api::without_retries(&config, &master.url())))
        .collect();
    quotas(&kubectl, &runtime, &apis);
    limits(&kubectl);
    budgets(&kubectl, &runtime, &apis);
    claims(&kubectl);
    certificates(&kubectl, cluster.directory.path());
}

fn quotas(kubectl: &Kubectl, runtime: &tokio::runtime::Runtime, apis: &[Api]) {
    step("quotas");
    kubectl.run(&["create", "namespace", "full"]);
    let hard = "--hard=pods=7,count/configmaps=20,requests.cpu=2";
    assert_eq!(
        kubectl.run(&["-n", "full", "create", "quota", "q", hard]),
        "resourcequota/q created\n"
    );
    let used =
        |name: &str| kubectl.get(&["-n", "full", "quota", "q"])["status"]["used"][name].clone();
    until("the quota is counted", PATIENCE, || used("pods") == "0");
    let refused = kubectl.tried(&["-n", "full", "run", "bare", "--image=x:1"], "").2;
    let words = "pods \"bare\" is forbidden: failed quota: q: must specify requests.cpu for: bare";
    assert!(refused.contains(words), "{refused}");
    let path = "/api/v1/namespaces/full/pods".to_owned();
    let calls = (0..30).map(|number| {
        let mut pod = pod(&format!("p{number}"));
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
        (path.clone(), pod)
    });
    let answers = runtime.block_on(at_once(apis, calls.collect()));
    assert_eq!((with_code(&answers, 201), with_code(&answers, 403)), (7, 23), "{answers:?}");
    let refusal = &answers.iter().find(|(code, _)| *code == 403).unwrap().1;
    let message = refusal["message"].as_str().unwrap();
    let words = "is forbidden: exceeded quota: q, requested: pods=1, used: pods=7, limited: pods=7";
    assert!(message.starts_with("pods \"p") && message.ends_with(words), "{message}");
    assert_eq!((used("pods"), used("requests.cpu")), (json!("7"), json!("700m")));
    let describe = kubectl.run(&["-n", "full", "describe", "quota", "q"]);
    let row = describe.lines().find(|line| line.starts_with("pods ")).unwrap_or_default();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["pods", "7", "7"], "{describe}");
    let describe = kubectl.run(&["describe", "namespace", "full"]);
    assert!(
        describe.contains("Resource Quotas") && describe.contains("requests.cpu"),
        "{describe}"
    );
    // What is deleted is free again, and a ReplicaSet is told what is in its way.
    let first = kubectl.run(&["-n", "full", "get", "pods", "-o", "name"]);
    kubectl.run(&["-n", "full", "delete", first.lines().next().unwrap()]);
    until("the place is free", PATIENCE, || used("pods") == "6");
    let mut template = pod("any");
    template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1m"}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "containers": template["spec"]["containers"]}}}});
    kubectl.run_with(&["-n", "full", "create", "-f", "-"], &deployment.to_string());
    until("one pod has found its place", PATIENCE, || used("pods") == "7");
    kubectl.until("the others are refused", PATIENCE, &["-n", "full", "events"], |events| {
        let events = events.to_string();
        events.contains("FailedCreate") && events.contains("exceeded quota: q")
    });
    let maps = "/api/v1/namespaces/full/configmaps".to_owned();
    let map = |number| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{number}")}});
    let calls = (0..40).map(|number| (maps.clone(), map(number)));
    let answers = runtime.block_on(at_once(apis, calls.collect()));
    // One was there from the beginning: the authorities.
    assert_eq!((with_code(&answers, 201), with_code(&answers, 403)), (19, 21));
    kubectl.run(&["delete", "namespace", "full", "--wait=false"]);
}

const RANGE: &str = r#"{"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": [
{"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}}"#;

fn limits(kubectl: &Kubectl) {
    step("limit ranges");
    kubectl.run(&["create", "namespace", "limited"]);
    kubectl.run_with(&["-n", "limited", "create", "-f", "-"], RANGE);
    kubectl.run_with(&["-n", "limited", "create", "-f", "-"], &pod("small").to_string());
    let found = kubectl.get(&["-n", "limited", "pod", "small"]);
    let resources = &found["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
    let mut large = pod("large");
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let create = ["-n", "limited", "create", "-f", "-"];
    let (code, _, refused) = kubectl.tried(&create, &large.to_string());
    let words = "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert!(code == 1 && refused.contains(words), "{refused}");
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    let (_, _, refused) = kubectl.tried(&create, &claim.to_string());
    let words = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
    assert!(refused.contains(words), "{refused}");
    kubectl.run(&["delete", "namespace", "limited", "--wait=false"]);
}

fn budgets(kubectl: &Kubectl, runtime: &tokio::runtime::Runtime, apis: &[Api]) {
    step("budgets");
    let create = ["create", "pdb", "web", "--selector=app=web", "--min-available=4"];
    assert_eq!(kubectl.run(&create), "poddisruptionbudget.policy/web created\n");
    let names: Vec<String> = (0..6).map(|number| format!("web-{number}")).collect();
    for name in &names {
        kubectl.run_with(&["create", "-f", "-"], &pod(name).to_string());
        let status = r#"{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}"#;
        kubectl.run(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", status]);
    }
    kubectl.until("the budget is counted", PATIENCE, &["pdb", "web"], |budget| {
        budget["status"]["disruptionsAllowed"] == 2 && budget["status"]["currentHealthy"] == 6
    });
    let calls = names.iter().map(|name| {
        let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
        let metadata = json!({"name": name, "namespace": "default"});
        (path, json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}))
    });
    let answers = runtime.block_on(at_once(apis, calls.collect()));
    assert_eq!((with_code(&answers, 201), with_code(&answers, 429)), (2, 4), "{answers:?}");
    let refusal = &answers.iter().find(|(code, _)| *code == 429).unwrap().1;
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!(refusal["message"], words);
    let cause = &refusal["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    kubectl.until("the budget is counted anew", PATIENCE, &["pdb", "web"], |budget| {
        let status = &budget["status"];
        status["disruptionsAllowed"] == 0
            && status["currentHealthy"] == 4
            && status["disruptedPods"].is_null()
            && status["conditions"][0]["reason"] == "InsufficientPods"
    });
    // A second budget for the same pods is one too many.
    kubectl.run(&["create", "pdb", "again", "--selector=app=web", "--min-available=1"]);
    let left = kubectl.field("pods", "{.items[0].metadata.name}");
    let path = format!("/api/v1/namespaces/default/pods/{left}/eviction");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": left}});
    let answers = runtime.block_on(at_once(apis, vec![(path, eviction)]));
    let message = answers[0].1["message"].as_str().unwrap();
    assert!(
        answers[0].0 == 500 && message.contains("more than one PodDisruptionBudget"),
        "{message}"
    );
    kubectl.run(&["delete", "pdb", "web", "again"]);
    kubectl.run(&["delete", "pods", "--all"]);
}

fn claims(kubectl: &Kubectl) {
    step("claims");
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    kubectl.run_with(&["create", "-f", "-"], &claim.to_string());
    let mut user = pod("user");
    user["spec"]["nodeName"] = json!("nowhere");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    kubectl.run_with(&["create", "-f", "-"], &user.to_string());
    kubectl.run(&["delete", "pvc", "c", "--wait=false"]);
    let row = kubectl.run(&["get", "pvc", "c", "--no-headers"]);
    assert!(row.contains("Terminating"), "{row}");
    let finalizers = kubectl.field("pvc/c", "{.metadata.finalizers[*]}");
    assert_eq!(finalizers, "kubernetes.io/pvc-protection");
    kubectl.run(&["delete", "pod", "user", "--force", "--grace-period=0"]);
    kubectl.run(&["wait", "--for=delete", "pvc/c", "--timeout=60s"]);
}

/// A key and a request for a certificate.
fn request(name: &str, group: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    (key.serialize_pem(), request)
}

fn certificates(kubectl: &Kubectl, directory: &std::path::Path) {
    step("certificates");
    let ask = |name: &str, group: &str| {
        let (key, pem) = request(name, group);
        let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name}, "spec": {"request": STANDARD.encode(pem), "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 3600}});
        (key, kubectl.tried(&["create", "-f", "-"], &object.to_string()))
    };
    let (_, (code, _, refused)) = ask("intruder", "system:masters");
    let words = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert!(code == 1 && refused.contains(words), "{refused}");
    let (key, (_, created, _)) = ask("jane", "people");
    assert_eq!(created, "certificatesigningrequest.certificates.k8s.io/jane created\n");
    let row = kubectl.run(&["get", "csr", "jane", "--no-headers"]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    let signer = "kubernetes.io/kube-apiserver-client";
    assert_eq!((cells[2], cells[4], cells[5]), (signer, "60m", "Pending"), "{row}");
    kubectl.run(&["certificate", "approve", "jane"]);
    let path = "{.status.certificate}";
    until("it is signed", PATIENCE, || !kubectl.field("csr/jane", path).is_empty());
    let row = kubectl.run(&["get", "csr", "jane", "--no-headers"]);
    assert!(row.trim().ends_with("Approved,Issued"), "{row}");
    let certificate = STANDARD.decode(kubectl.field("csr/jane", path)).unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("jane.crt", &certificate), file("jane.key", key.as_bytes()));
    let (certificate, key) =
        (format!("--client-certificate={certificate}"), format!("--client-key={key}"));
    kubectl.run(&["config", "set-credentials", "jane", &certificate, &key]);
    let who = ["--user", "jane", "auth", "whoami"];
    let who = kubectl.run(&who);
    assert!(who.contains("jane") && who.contains("people"), "{who}");
    ask("joe", "people");
    kubectl.run(&["certificate", "deny", "joe"]);
    let row = kubectl.run(&["get", "csr", "joe", "--no-headers"]);
    assert!(row.trim().ends_with("Denied"), "{row}");
    let described = kubectl.run(&["describe", "csr", "jane"]);
    assert!(described.contains("Common Name:") && described.contains("jane"), "{described}");
}

#[test]
fn a_drain_waits_for_a_budget() {
    let Some(dev) = Dev::start() else { return };
    let kubectl = &dev.kubectl;
    let create = ["create", "deployment", "web", "--image=busybox:test", "--replicas=2", "--"];
    let create: Vec<&str> = create.into_iter().chain(["sleep", "3600"]).collect();
    kubectl.run(&create);
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    kubectl.run(&["create", "pdb", "web", "--selector=app=web", "--max-unavailable=1"]);
    kubectl.until("the budget is counted", PATIENCE, &["pdb", "web"], |budget| {
        budget["status"]["disruptionsAllowed"] == 1 && budget["status"]["expectedPods"] == 2
    });
    let drain = ["drain", Dev::NODE, "--grace-period=1", "--timeout=15s"];
    let refused = kubectl.fails(&drain);
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(refused.contains(words), "{refused}");
    let running =
        kubectl.run(&["get", "pods", "--field-selector=status.phase=Running", "-o", "name"]);
    assert_eq!(running.lines().count(), 1, "one of the two stays: {running}");
    // It waits, and goes on when it may.
    let mut drain = kubectl.start(&["drain", Dev::NODE, "--grace-period=1", "--timeout=90s"]);
    drain.says("node/node-a already cordoned");
    kubectl.run(&["delete", "pdb", "web"]);
    drain.says("node/node-a drained");
}
