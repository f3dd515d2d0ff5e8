//! Workloads other than deployments, with kubectl on a real node whose containers really run: replication controllers,
//! daemon sets, stateful sets, cron jobs.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::containerd::write_image;
use common::kubectl::Kubectl;
use common::process::Process;
use common::scratch::Scratch;
use common::{PATIENCE, PodRange, free_port, until};

/// The name of the node.
const NODE: &str = "node-a";

/// A master and a node in one process, with the built-in runtime.
struct Dev {
    // In the order in which they go: the directory takes what is left.
    _process: Process,
    kubectl: Kubectl,
    directory: Scratch,
    _range: PodRange,
}

impl Dev {
    /// Starts it and waits until its node is ready; or says what is missing for that.
    fn start() -> Option<Self> {
        if !Path::new("/bin/busybox").exists() {
            eprintln!("SKIPPED: /bin/busybox is missing, so no pod can run");
            return None;
        }
        let range = PodRange::claim();
        let directory = Scratch::new("workloads");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let kubectl = Kubectl::new(&directory.path().join("kubeconfig"))?;
        let archive = directory.path().join("image.tar");
        write_image(&archive);
        let mut import = Command::new(env!("CARGO_BIN_EXE_quorate"));
        import.args(["agent", "images", "import", "--data", &path("data")]).arg(&archive);
        assert!(import.output().unwrap().status.success());
        let address = || format!("127.0.0.1:{}", free_port());
        let flags = [
            ("--name", NODE.to_owned()),
            ("--data", path("data")),
            ("--listen", address()),
            ("--peer-listen", address()),
            ("--kubeconfig", path("kubeconfig")),
            ("--cluster-cidr", range.cidr.clone()),
            ("--runtime", "builtin".to_owned()),
        ];
        let mut arguments = vec!["dev"];
        arguments.extend(flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        let mut process = Process::start(&directory.path().join("dev.log"), &arguments);
        process.says("kubectl get pods -o wide");
        // Ready for calls, it may not have registered its node yet; and kubectl waits for nothing that is not there.
        let there = |nodes: &serde_json::Value| nodes["items"].get(0).is_some();
        kubectl.until("the node has registered", PATIENCE, &["nodes"], there);
        kubectl.run(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
        Some(Self { _process: process, kubectl, directory, _range: range })
    }
}

const CONTROLLER: &str = r#"{"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old"},
"spec": {"replicas": 1, "selector": {"app": "old"}, "template": {"metadata": {"labels": {"app": "old"}},
"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "busybox:test",
"command": ["sleep", "10000"]}]}}}}"#;

const DAEMON: &str = r#"{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "log"},
"spec": {"selector": {"matchLabels": {"app": "log"}}, "template": {"metadata": {"labels": {"app": "log"}},
"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "busybox:test",
"command": ["sleep", "10000"]}]}}}}"#;

const STATEFUL: &str = r#"{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
"spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
"template": {"metadata": {"labels": {"app": "db"}},
"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "busybox:test",
"command": ["sh", "-c", "hostname; sleep 10000"]}]}}}}"#;

const CRON: &str = r#"{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "often"},
"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
"containers": [{"name": "main", "image": "busybox:test", "command": ["sh", "-c", "sleep 1; echo done"]}]}}}}}}"#;

/// Index 1 exits with 3, and the others do not.
const INDEXED: &str = r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "parts"},
"spec": {"completions": 3, "parallelism": 3, "completionMode": "Indexed", MORE,
"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:test",
"command": ["sh", "-c", "sleep 1; [ $JOB_COMPLETION_INDEX != 1 ] || exit 3"]}]}}}}"#;

#[test]
fn the_other_workloads() {
    let Some(dev) = Dev::start() else { return };
    let kubectl = &dev.kubectl;
    let apply = |object: &str| {
        let file = dev.directory.path().join("object.json");
        std::fs::write(&file, object).unwrap();
        kubectl.run(&["apply", "-f", &file.display().to_string()])
    };
    assert_eq!(apply(CRON), "cronjob.batch/often created\n");
    assert_eq!(apply(CONTROLLER), "replicationcontroller/old created\n");
    assert_eq!(apply(DAEMON), "daemonset.apps/log created\n");
    assert_eq!(apply(STATEFUL), "statefulset.apps/db created\n");
    replication_controller(kubectl);
    daemon_set(kubectl);
    stateful_set(kubectl);
    for (more, condition, reason, completed) in [
        (r#""backoffLimitPerIndex": 0"#, "Failed", "FailedIndexes", "0,2"),
        (
            r#""podFailurePolicy": {"rules": [{"action": "FailJob",
            "onExitCodes": {"operator": "In", "values": [3]}}]}"#,
            "Failed",
            "PodFailurePolicy",
            "",
        ),
        (
            r#""successPolicy": {"rules": [{"succeededIndexes": "0,2"}]}"#,
            "Complete",
            "SuccessPolicy",
            "0,2",
        ),
    ] {
        apply(&INDEXED.replace("MORE", more));
        ended(kubectl, condition, reason, completed);
    }
    cron_job(kubectl);
    kubectl.run(&["delete", "rc,ds,sts,cronjob,job", "--all", "--timeout=60s"]);
    until("their pods go with them", PATIENCE, || {
        kubectl.run(&["get", "pods,controllerrevisions", "-o", "name"]).is_empty()
    });
}

fn replication_controller(kubectl: &Kubectl) {
    until("it runs", PATIENCE, || kubectl.field("rc/old", "{.status.availableReplicas}") == "1");
    kubectl.run(&["scale", "rc/old", "--replicas=2"]);
    until("it is scaled", PATIENCE, || kubectl.field("rc/old", "{.status.readyReplicas}") == "2");
    let describe = kubectl.run(&["describe", "rc", "old"]);
    assert!(describe.contains("Created pod: old-"), "{describe}");
    kubectl.run(&["scale", "rc/old", "--replicas=0"]);
    until("all are gone", PATIENCE, || {
        kubectl.run(&["get", "pods", "-l", "app=old", "-o", "name"]).is_empty()
    });
}

fn rolled_out(kubectl: &Kubectl, what: &str, says: &str) {
    let said = kubectl.run(&["rollout", "status", what, "--timeout=90s"]);
    assert!(said.contains(says), "{said}");
}

/// Restarts it, changes it, and takes the change back.
fn revised(kubectl: &Kubectl, what: &str, app: &str, says: &str) {
    kubectl.run(&["rollout", "restart", what]);
    rolled_out(kubectl, what, says);
    kubectl.run(&["set", "env", what, "GENERATION=3"]);
    rolled_out(kubectl, what, says);
    let history = kubectl.run(&["rollout", "history", what]);
    let revisions: Vec<&str> =
        history.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions, ["1", "2", "3"], "{history}");
    let third = kubectl.run(&["rollout", "history", what, "--revision=3"]);
    assert!(third.contains("GENERATION:\t3"), "{third}");
    kubectl.run(&["rollout", "undo", what, "--to-revision=2"]);
    rolled_out(kubectl, what, says);
    let env = kubectl.field(what, "{.spec.template.spec.containers[0].env}");
    assert_eq!(env, "", "as it was");
    until("the pods are as they were", PATIENCE, || {
        let all = ["get", "pods", "-l", app, "-o", "jsonpath={.items[*].spec.containers[0].env}"];
        kubectl.run(&all).is_empty()
    });
}

fn daemon_set(kubectl: &Kubectl) {
    let says = "daemon set \"log\" successfully rolled out";
    rolled_out(kubectl, "ds/log", says);
    let row = kubectl.run(&["get", "ds", "log", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().take(6).collect();
    assert_eq!(row, ["log", "1", "1", "1", "1", "1"]);
    let node = ["get", "pods", "-l", "app=log", "-o", "jsonpath={.items[*].spec.nodeName}"];
    assert_eq!(kubectl.run(&node), NODE);
    revised(kubectl, "ds/log", "app=log", says);
    kubectl.run(&["label", "node", NODE, "log=no"]);
    let away = r#"{"spec": {"template": {"spec": {"nodeSelector": {"log": "yes"}}}}}"#;
    kubectl.run(&["patch", "ds", "log", "-p", away]);
    until("it is on no node", PATIENCE, || {
        kubectl.run(&["get", "pods", "-l", "app=log", "-o", "name"]).is_empty()
    });
    kubectl.run(&["label", "node", NODE, "log=yes", "--overwrite"]);
    rolled_out(kubectl, "ds/log", says);
    // It stays while the node is emptied of everything else, and on one that nobody else is to join.
    let complaint = kubectl.fails(&["drain", NODE, "--timeout=10s"]);
    assert!(complaint.contains("DaemonSet-managed Pods"), "{complaint}");
    kubectl.run(&["uncordon", NODE]);
}

fn stateful_set(kubectl: &Kubectl) {
    // What was said of the update that is complete differs from what is said of one that is not.
    let says = "complete";
    until("both are there", PATIENCE, || kubectl.field("sts/db", "{.status.readyReplicas}") == "2");
    let names = ["get", "pods", "-l", "app=db", "-o", "jsonpath={.items[*].metadata.name}"];
    assert_eq!(kubectl.run(&names), "db-0 db-1");
    assert_eq!(kubectl.run(&["logs", "db-1"]), "db-1\n");
    revised(kubectl, "sts/db", "app=db", says);
    kubectl.run(&["scale", "sts/db", "--replicas=3"]);
    rolled_out(kubectl, "sts/db", says);
    kubectl.run(&["scale", "sts/db", "--replicas=1"]);
    until("the last ones go", PATIENCE, || kubectl.run(&names) == "db-0");
    let describe = kubectl.run(&["describe", "sts", "db"]);
    assert!(describe.contains("create Pod db-2 in StatefulSet db successful"), "{describe}");
}

/// The Job of parts has come to that, and for that reason; it goes, to be made anew.
fn ended(kubectl: &Kubectl, condition: &str, reason: &str, completed: &str) {
    let wait = format!("--for=condition={condition}");
    kubectl.run(&["wait", &wait, "job/parts", "--timeout=60s"]);
    let path = format!("{{.status.conditions[?(@.type=='{condition}')].reason}}");
    assert_eq!(kubectl.field("job/parts", &path), reason);
    if !completed.is_empty() {
        assert_eq!(kubectl.field("job/parts", "{.status.completedIndexes}"), completed);
    }
    kubectl.run(&["delete", "job", "parts", "--timeout=60s"]);
}

fn cron_job(kubectl: &Kubectl) {
    kubectl.run(&["create", "job", "by-hand", "--from=cronjob/often"]);
    kubectl.run(&["wait", "--for=condition=Complete", "job/by-hand", "--timeout=60s"]);
    assert_eq!(kubectl.run(&["logs", "job/by-hand"]), "done\n");
    until("its own job has run", PATIENCE * 2, || {
        let describe = kubectl.run(&["describe", "cronjob", "often"]);
        let parts = ["Created job often-", "Saw completed job: often-"];
        parts.iter().all(|part| describe.contains(part))
    });
    assert!(!kubectl.field("cronjob/often", "{.status.lastScheduleTime}").is_empty());
    assert!(!kubectl.field("cronjob/often", "{.status.lastSuccessfulTime}").is_empty());
    let patch = r#"{"spec": {"suspend": true}}"#;
    kubectl.run(&["patch", "cronjob", "often", "-p", patch]);
}
