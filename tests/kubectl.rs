//! What people do with kubectl, on a real node whose containers really run.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use common::dev::Dev;
use common::kubectl::Kubectl;
use common::process::Running;
use common::{PATIENCE, step, until};

/// A container that says something, serves its own words over HTTP, and ends at once when told to.
const TALK: &str = "echo one; echo two >&2; trap 'echo bye; exit 0' TERM; echo page > /tmp/page; \
                    httpd -p 8080 -h /tmp; i=0; while true; do echo tick $i; i=$((i+1)); sleep 1 & wait $!; done";

#[test]
fn streams_of_a_pod() {
    let Some(dev) = Dev::start() else { return };
    let kubectl = &dev.kubectl;
    let run = ["run", "talker", "--image=busybox:test", "--port=8080", "--labels=app=talker"];
    let arguments: Vec<&str> = run.into_iter().chain(["--", "sh", "-c", TALK]).collect();
    assert_eq!(kubectl.run(&arguments), "pod/talker created\n");
    kubectl.run(&["wait", "--for=condition=Ready", "pod/talker", "--timeout=60s"]);
    logs(kubectl);
    exec(kubectl);
    copies(kubectl, dev.directory.path());
    port_forward(kubectl);
    attach(kubectl);
    let describe = kubectl.run(&["describe", "pod", "talker"]);
    for part in ["Container started", "Successfully assigned default/talker", "Normal"] {
        assert!(describe.contains(part), "{part:?} not in {describe}");
    }
    kubectl.run(&["delete", "pod", "talker", "--timeout=60s"]);
    assert!(kubectl.fails(&["get", "pod", "talker"]).contains("pods \"talker\" not found"));
}

fn logs(kubectl: &Kubectl) {
    // Ready it is when it has started; its first words come after that.
    // What it says on stdout and on stderr at the same time has no order; a second later all of it is there.
    until("it ticks", PATIENCE, || kubectl.run(&["logs", "talker"]).contains("tick 1\n"));
    let all = kubectl.run(&["logs", "talker"]);
    assert!(all.contains("one\n") && all.contains("two\n"), "{all}");
    let line = kubectl.run(&["logs", "talker", "--tail=1", "--timestamps"]);
    let (time, text) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z') && text.starts_with("tick "), "{line}");
    let since = ["logs", "talker", "--since-time=2020-01-01T00:00:00Z", "--limit-bytes=4"];
    assert_eq!(kubectl.run(&since).len(), 4);
    let chosen = ["logs", "-l", "app=talker", "--all-containers", "--prefix", "--tail=1"];
    let chosen = kubectl.run(&chosen);
    assert!(chosen.starts_with("[pod/talker/talker] tick "), "{chosen}");
    let complaint = kubectl.fails(&["logs", "-p", "talker"]);
    let text = "previous terminated container \"talker\" in pod \"talker\" not found";
    assert!(complaint.contains(text), "{complaint}");
    // What was said long ago is not since just now.
    until("it has talked for some seconds", PATIENCE, || {
        kubectl.run(&["logs", "talker"]).contains("tick 5\n")
    });
    let mut follow = kubectl.start(&["logs", "-f", "talker", "--since=2s"]);
    let first = follow.says("tick ");
    assert!(!first.contains("one"), "{first}");
    follow.says_by("two more ticks", |said| said.matches("tick ").count() >= 3);
    follow.kill();

    // A container that was restarted has a log of before.
    let again = "if test -e /shared/once; then echo second; sleep 3600; fi; \
                 echo first; touch /shared/once; exit 1";
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "c", "image": "busybox:test", "command": ["sh", "-c", again],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            }],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        },
    });
    kubectl.run_with(&["apply", "-f", "-"], &pod.to_string());
    kubectl.until("it was restarted", PATIENCE, &["pod", "again"], |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["started"] == true
    });
    let mut now = String::new();
    until("the second run has spoken", PATIENCE, || {
        now = kubectl.run(&["logs", "again"]);
        !now.is_empty()
    });
    let before = kubectl.run(&["logs", "-p", "again"]);
    assert_eq!((now.as_str(), before.as_str()), ("second\n", "first\n"));
    kubectl.run(&["delete", "pod", "again", "--wait=false"]);
}

fn exec(kubectl: &Kubectl) {
    let (code, out, complaint) =
        kubectl.tried(&["exec", "talker", "--", "sh", "-c", "echo out; echo err >&2; exit 3"], "");
    assert_eq!((code, out.as_str()), (3, "out\n"), "{complaint}");
    assert_eq!(complaint, "err\ncommand terminated with exit code 3\n");
    let out = kubectl.run_with(&["exec", "-i", "talker", "--", "wc", "-c"], &"x".repeat(100_000));
    assert_eq!(out.trim(), "100000");
    let complaint = kubectl.fails(&["exec", "talker", "--", "nothing-like-it"]);
    assert!(complaint.contains("executable file not found in $PATH"), "{complaint}");
    // At a terminal: its size arrives, what is typed is answered, the exit code comes back.
    let mut terminal = kubectl.in_terminal("exec -it talker -- sh");
    terminal.says("# ");
    terminal.types("stty size; tty; exit 7\n");
    let (code, said) = terminal.ends();
    assert!(said.contains("37 91") && said.contains("/dev/pts/"), "{said}");
    assert_eq!(code, 7, "{said}");
}

fn copies(kubectl: &Kubectl, directory: &Path) {
    let path = |name: &str| directory.join(name).display().to_string();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::create_dir_all(directory.join("tree/below")).unwrap();
    std::fs::write(directory.join("tree/below/file"), &content).unwrap();
    kubectl.run(&["cp", &path("tree"), "talker:/tmp/tree"]);
    kubectl.run(&["cp", "talker:/tmp/tree", &path("back")]);
    let back = std::fs::read(directory.join("back/below/file")).unwrap();
    assert!(back == content, "what came back differs");
    kubectl.run(&["cp", &path("tree/below/file"), "default/talker:/tmp/one", "-c", "talker"]);
    let sum = kubectl.run(&["exec", "talker", "--", "wc", "-c", "/tmp/one"]);
    assert!(sum.starts_with("1000000 "), "{sum}");
}

/// The page, through the first line `Forwarding from 127.0.0.1:PORT -> …` that kubectl prints.
fn page(forward: &mut Running) -> String {
    let said = forward.says("Forwarding from 127.0.0.1:");
    let rest = said.split("Forwarding from 127.0.0.1:").nth(1).unwrap();
    let port: u16 = rest.split(' ').next().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

fn port_forward(kubectl: &Kubectl) {
    let expose = ["expose", "pod", "talker", "--port=80", "--target-port=8080", "--name=talk"];
    assert_eq!(kubectl.run(&expose), "service/talk exposed\n");
    for target in [["pod/talker", ":8080"], ["service/talk", ":80"]] {
        let mut forward = kubectl.start(&["port-forward", target[0], target[1]]);
        for _ in 0..2 {
            let page = page(&mut forward);
            assert!(page.contains(" 200 OK") && page.ends_with("page\n"), "{target:?}: {page:?}");
        }
        forward.kill();
    }
    kubectl.until("the service has an endpoint", PATIENCE, &["endpoints", "talk"], |endpoints| {
        endpoints["subsets"][0]["ports"][0]["port"] == 8080
    });
    proxied(kubectl);
    kubectl.run(&["delete", "service", "talk"]);
}

/// HTTP through the API server: pages, their links, redirects, names with ports, and what cannot be reached.
fn proxied(kubectl: &Kubectl) {
    let make = "mkdir -p /tmp/sub; echo '<a href=\"/rewriteme\">test</a>' > /tmp/sub/index.html";
    kubectl.run(&["exec", "talker", "--", "sh", "-c", make]);
    let base = "/api/v1/namespaces/default";
    let raw = |path: &str| kubectl.run(&["get", "--raw", &format!("{base}/{path}")]);
    for place in [
        "pods/talker",
        "pods/talker:8080",
        "pods/http:talker:8080",
        "services/talk",
        "services/talk:80",
    ] {
        assert_eq!(raw(&format!("{place}/proxy/page")), "page\n", "{place}");
        let linked = format!("<a href=\"{base}/{place}/proxy/rewriteme\">test</a>\n");
        assert_eq!(raw(&format!("{place}/proxy/sub/")), linked, "{place}");
        // What the pod's server says of a directory without a slash, and of what it does not have.
        assert_eq!(raw(&format!("{place}/proxy/sub")), linked, "{place}");
        let path = format!("{base}/{place}/proxy/none");
        let complaint = kubectl.fails(&["get", "--raw", &path]);
        assert!(
            complaint.contains("NotFound") || complaint.contains("could not find"),
            "{complaint}"
        );
    }
    for (path, why) in [
        ("pods/talker:81/proxy/", "error trying to reach service"),
        ("pods/a:b:c:d/proxy/", "invalid pod request \"a:b:c:d\""),
        ("pods/none/proxy/", "pods \"none\" not found"),
        ("services/talk:81/proxy/", "no service port 81 found for service \"talk\""),
        ("services/talk:web/proxy/", "no endpoints available for service \"talk\""),
    ] {
        let complaint = kubectl.fails(&["get", "--raw", &format!("{base}/{path}")]);
        assert!(complaint.contains(why), "{path}: {complaint}");
    }
}

fn attach(kubectl: &Kubectl) {
    let mut attached = kubectl.start(&["attach", "talker"]);
    attached.says_by("two ticks", |said| said.matches("tick ").count() >= 2);
    attached.kill();
    // `run -i --rm`: what is typed comes back, then nothing is left.
    let run = ["run", "cat", "--image=busybox:test", "--restart=Never", "-i", "--rm", "--"];
    let run: Vec<&str> = run.into_iter().chain(["sh", "-c", "cat; echo done"]).collect();
    let out = kubectl.run_with(&run, "typed\n");
    assert!(out.contains("typed\n") && out.contains("done\n"), "{out:?}");
    assert!(kubectl.fails(&["get", "pod", "cat"]).contains("not found"));
    // At a terminal.
    let mut terminal = kubectl.in_terminal(
        "run shell --image=busybox:test --restart=Never -it --rm -- sh -c 'read x; echo got $x'",
    );
    terminal.says("If you don't see a command prompt");
    terminal.types("words\n");
    let (code, said) = terminal.ends();
    assert!(said.contains("got words") && said.contains("pod \"shell\" deleted"), "{said}");
    assert_eq!(code, 0, "{said}");
}

const WEB: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment",
"metadata": {"name": "web", "labels": {"app": "web"}},
"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 1,
"containers": [{"name": "main", "image": "busybox:test", "command": ["sleep", "3600"]}]}}}}"#;

#[test]
fn a_deployment_and_its_node() {
    let Some(dev) = Dev::start() else { return };
    let kubectl = &dev.kubectl;
    let file = dev.directory.path().join("web.json");
    std::fs::write(&file, WEB).unwrap();
    let file = file.display().to_string();
    assert_eq!(kubectl.run(&["apply", "-f", &file]), "deployment.apps/web created\n");
    assert_eq!(kubectl.run(&["apply", "-f", &file]), "deployment.apps/web unchanged\n");
    rolled_out(kubectl);
    std::fs::write(&file, WEB.replace("\"replicas\": 2", "\"replicas\": 3")).unwrap();
    let (code, difference, complaint) = kubectl.tried(&["diff", "-f", &file], "");
    assert_eq!(code, 1, "{complaint}");
    assert!(difference.contains("-  replicas: 2\n+  replicas: 3\n"), "{difference}");
    let dry = kubectl.run(&["apply", "-f", &file, "--dry-run=server"]);
    assert_eq!(dry, "deployment.apps/web configured (server dry run)\n");
    assert_eq!(kubectl.field("deployment/web", "{.spec.replicas}"), "2");
    kubectl.run(&["apply", "-f", &file]);
    edited(kubectl);
    rollouts(kubectl);
    small_changes(kubectl);
    drained(kubectl);
    cascades(kubectl, &file);
}

fn rolled_out(kubectl: &Kubectl) {
    let said = kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert!(said.ends_with("deployment \"web\" successfully rolled out\n"), "{said}");
}

fn edited(kubectl: &Kubectl) {
    step("+ kubectl edit deployment web");
    let mut edit = kubectl.command(&["edit", "deployment", "web"]);
    edit.env("KUBE_EDITOR", "sed -i 's/^  replicas: 3/  replicas: 1/'");
    let output = edit.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "deployment.apps/web edited\n");
    assert_eq!(kubectl.field("deployment/web", "{.spec.replicas}"), "1");
}

fn rollouts(kubectl: &Kubectl) {
    kubectl.run(&["rollout", "pause", "deployment/web"]);
    kubectl.run(&["set", "env", "deployment/web", "GENERATION=2"]);
    let complaint = kubectl.fails(&["rollout", "status", "deployment/web", "--timeout=1s"]);
    assert!(complaint.contains("timed out waiting"), "nothing rolls while paused: {complaint}");
    kubectl.run(&["rollout", "resume", "deployment/web"]);
    rolled_out(kubectl);
    kubectl.run(&["rollout", "restart", "deployment/web"]);
    rolled_out(kubectl);
    kubectl.run(&["annotate", "deployment", "web", "kubernetes.io/change-cause=third"]);
    let cause = "3         third";
    until("the change's cause is in the history", PATIENCE, || {
        kubectl.run(&["rollout", "history", "deployment/web"]).contains(cause)
    });
    let second = kubectl.run(&["rollout", "history", "deployment/web", "--revision=2"]);
    assert!(second.contains("GENERATION:\t2"), "{second}");
    kubectl.run(&["rollout", "undo", "deployment/web", "--to-revision=1"]);
    rolled_out(kubectl);
    let history = kubectl.run(&["rollout", "history", "deployment/web"]);
    let revisions: Vec<&str> =
        history.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions, ["2", "3", "4"], "{history}");
    let complaint = kubectl.fails(&["rollout", "undo", "deployment/web", "--to-revision=77"]);
    assert!(complaint.contains("unable to find specified revision 77 in history"), "{complaint}");
}

fn small_changes(kubectl: &Kubectl) {
    kubectl.run(&["label", "deployment", "web", "tier=gold"]);
    let complaint = kubectl.fails(&["label", "deployment", "web", "tier=silver"]);
    assert!(complaint.contains("already has a value (gold)"), "{complaint}");
    kubectl.run(&["label", "deployment", "web", "tier=silver", "--overwrite"]);
    kubectl.run(&["annotate", "deployments", "-l", "app=web", "note=x"]);
    let complaint =
        kubectl.fails(&["scale", "deployment/web", "--replicas=2", "--current-replicas=5"]);
    assert!(complaint.contains("Expected replicas to be 5, was 1"), "{complaint}");
    kubectl.run(&["scale", "deployment/web", "--replicas=2", "--current-replicas=1"]);
    rolled_out(kubectl);
    assert!(kubectl.fails(&["top", "nodes"]).contains("Metrics API not available"));
    let wide = kubectl.run(&["get", "deployment", "web", "-o", "wide"]);
    assert!(wide.contains("web    2/2     2            2 "), "{wide}");
    let events = kubectl.run(&["get", "events"]);
    assert!(events.contains("ScalingReplicaSet") && events.contains("deployment/web"), "{events}");
}

fn drained(kubectl: &Kubectl) {
    kubectl.run(&["taint", "node", Dev::NODE, "k=v:PreferNoSchedule"]);
    let complaint = kubectl.fails(&["taint", "node", Dev::NODE, "k=v:PreferNoSchedule"]);
    assert!(complaint.contains("already has k taint(s) with same effect(s)"), "{complaint}");
    kubectl.run(&["taint", "node", Dev::NODE, "k-"]);
    let said = kubectl.run(&["drain", Dev::NODE, "--timeout=60s"]);
    assert!(said.contains("evicted") && said.ends_with("node/node-a drained\n"), "{said}");
    let nodes = kubectl.run(&["get", "nodes"]);
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    kubectl.until("the new pods wait for a node", PATIENCE, &["events"], |events| {
        events.to_string().contains("0/1 nodes are available: 1 node(s) were unschedulable.")
    });
    kubectl.run(&["uncordon", Dev::NODE]);
    rolled_out(kubectl);
}

fn cascades(kubectl: &Kubectl, file: &str) {
    let uid = kubectl.field("rs", "{.items[?(@.spec.replicas==2)].metadata.uid}");
    kubectl.run(&["delete", "deployment", "web", "--cascade=orphan"]);
    let left = kubectl.field("rs", "{.items[*].metadata.ownerReferences}");
    assert_eq!(left, "", "the orphans have no owner");
    std::fs::write(file, WEB).unwrap();
    kubectl.run(&["apply", "-f", file]);
    rolled_out(kubectl);
    let adopted = kubectl.field("rs", "{.items[?(@.spec.replicas==2)].metadata.uid}");
    assert_eq!(adopted, uid, "the orphan was adopted");
    kubectl.run(&["delete", "deployment", "web", "--cascade=foreground", "--timeout=90s"]);
    assert_eq!(kubectl.run(&["get", "rs,pods", "-o", "name"]), "", "foreground: all are gone");
}

const INDEXED: &str = r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "counted"},
"spec": {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0,
"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:test",
"command": ["sh", "-c", "echo part $JOB_COMPLETION_INDEX of $(hostname)"]}]}}}}"#;

#[test]
fn jobs_run_to_their_end() {
    let Some(dev) = Dev::start() else { return };
    let kubectl = &dev.kubectl;
    let create = |name: &str, script: &str| {
        let said =
            kubectl.run(&["create", "job", name, "--image=busybox:test", "--", "sh", "-c", script]);
        assert_eq!(said, format!("job.batch/{name} created\n"));
    };
    create("once", "echo done");
    kubectl.run(&["wait", "--for=condition=Complete", "job/once", "--timeout=60s"]);
    assert_eq!(kubectl.run(&["logs", "job/once"]), "done\n");
    let row = kubectl.run(&["get", "job", "once", "--no-headers"]);
    assert!(row.contains("Complete") && row.contains("1/1"), "{row}");
    let describe = kubectl.run(&["describe", "job", "once"]);
    for part in ["1 Succeeded", "Created pod: once-", "Job completed"] {
        assert!(describe.contains(part), "{part:?} not in {describe}");
    }
    let file = dev.directory.path().join("counted.json");
    std::fs::write(&file, INDEXED).unwrap();
    kubectl.run(&["apply", "-f", &file.display().to_string()]);
    kubectl.run(&["wait", "--for=condition=Complete", "job/counted", "--timeout=60s"]);
    assert_eq!(kubectl.field("job/counted", "{.status.completedIndexes}"), "0-2");
    let logs = kubectl.run(&["logs", "-l", "batch.kubernetes.io/job-name=counted"]);
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    let parts = ["part 0 of counted-0", "part 1 of counted-1", "part 2 of counted-2"];
    assert_eq!(lines, parts);
    // This one may not fail even once.
    let hopeless =
        INDEXED.replace("counted", "hopeless").replace("echo part", "false; exit 3; echo");
    std::fs::write(&file, hopeless).unwrap();
    kubectl.run(&["apply", "-f", &file.display().to_string()]);
    kubectl.run(&["wait", "--for=condition=Failed", "job/hopeless", "--timeout=60s"]);
    let reason = kubectl.field("job/hopeless", "{.status.conditions[?(@.type=='Failed')].reason}");
    assert_eq!(reason, "BackoffLimitExceeded");
    kubectl.run(&["delete", "jobs", "--all", "--timeout=60s"]);
    until("their pods go with them", PATIENCE, || {
        kubectl.run(&["get", "pods", "-o", "name"]).is_empty()
    });
}
