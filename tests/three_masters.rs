//! Three masters and two agents on one machine, while processes are killed with `kill -9`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::cluster::Cluster;
use common::containerd::{Containerd, IMAGE};
use common::kubectl::Kubectl;
use common::scratch::Scratch;
use common::{PATIENCE, step, until};

/// Ends at once when it is told to, and appends to its log as long as it lives.
const COMMAND: &[&str] =
    &["sh", "-c", "trap 'exit 0' TERM; while true; do date +%s; sleep 1 & wait $!; done"];

/// A deployment whose pods run [`COMMAND`].
fn deploy(kubectl: &Kubectl, replicas: u32) {
    let (image, replicas) = (format!("--image={IMAGE}"), format!("--replicas={replicas}"));
    let mut arguments = vec!["create", "deployment", "web", &image, &replicas, "--"];
    arguments.extend(COMMAND);
    kubectl.run(&arguments);
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
}

/// Asks one master again and again until told to stop; keeps what failed.
struct Asker {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Asker {
    fn start(kubectl: Kubectl, arguments: &'static [&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let (stopped, count, failed) = (stop.clone(), asked.clone(), failures.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let output = kubectl.output(arguments);
                count.fetch_add(1, Ordering::Relaxed);
                if !output.status.success() {
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    failed.lock().unwrap().push(text);
                }
            }
        });
        Self { stop, asked, failures, thread: Some(thread) }
    }

    fn finish(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (self.asked.load(Ordering::Relaxed), self.failures.lock().unwrap().clone())
    }
}

#[test]
fn a_killed_leader_in_the_middle_of_a_rollout_is_not_noticed() {
    let Some(containerd) = Containerd::start(None) else { return };
    let mut cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    cluster.add_agent("n1", &containerd);
    cluster.add_agent("n2", &containerd);
    kubectl.until("two nodes are ready", PATIENCE, &["nodes"], |nodes| {
        nodes.to_string().matches("KubeletReady").count() >= 2
    });
    deploy(&kubectl, 4);

    let leader = cluster.leader();
    let survivors: Vec<Kubectl> = (0..3)
        .filter(|number| *number != leader)
        .map(|number| kubectl.at(&cluster.masters[number].url()))
        .collect();
    let readers: Vec<Asker> = survivors
        .iter()
        .map(|kubectl| Asker::start(kubectl.clone(), &["get", "deployment", "web"]))
        .collect();
    let writers: Vec<Asker> = survivors
        .iter()
        .map(|kubectl| {
            Asker::start(
                kubectl.clone(),
                &[
                    "patch",
                    "configmap",
                    "kube-root-ca.crt",
                    "--type=merge",
                    "-p",
                    "{\"metadata\":{}}",
                ],
            )
        })
        .collect();
    // A watch on a survivor must go on.
    let mut watch = survivors[0]
        .command(&["get", "pods", "--watch", "--output-watch-events"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    kubectl.at(&cluster.masters[(leader + 1) % 3].url()).run(&[
        "set",
        "env",
        "deployment/web",
        "GENERATION=2",
    ]);
    let middle = "the rollout is in its middle";
    kubectl.until(middle, PATIENCE, &["deployment", "web"], |deployment| {
        deployment["status"]["updatedReplicas"].as_u64().is_some_and(|updated| updated > 0)
    });
    cluster.masters[leader].process.kill_9();
    let living = &survivors[0];
    living.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    for asker in readers.into_iter().chain(writers) {
        let (asked, failures) = asker.finish();
        assert!(asked > 3, "only {asked} calls were made");
        assert_eq!(failures, Vec::<String>::new(), "calls to living masters failed");
    }
    // The old pods end after their grace period; the watch must show it all.
    living.until("the old pods are gone", PATIENCE, &["pods"], |pods| {
        pods["items"].as_array().is_some_and(|pods| pods.len() == 4)
    });
    watch.kill().unwrap();
    let seen = watch.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&seen.stderr);
    assert_eq!(complaints, "", "the watch complained");
    let events = String::from_utf8_lossy(&seen.stdout);
    assert!(events.lines().any(|event| event.starts_with("DELETED")), "{events}");

    comes_back(&mut cluster, leader, &kubectl, living);
}

/// The killed one comes back and is level.
fn comes_back(cluster: &mut Cluster, leader: usize, kubectl: &Kubectl, living: &Kubectl) {
    cluster.restart(leader);
    let back = kubectl.at(&cluster.masters[leader].url());
    until("the killed master serves again", PATIENCE, || {
        back.output(&["get", "--raw", "/readyz"]).status.success()
    });
    let here = |kubectl: &Kubectl| kubectl.run(&["get", "deployment", "web", "-o", "yaml"]);
    assert_eq!(here(&back), here(living));
}

#[test]
fn whatever_is_killed_comes_back_with_everything() {
    let Some(containerd) = Containerd::start(None) else { return };
    let mut cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    cluster.add_agent("n1", &containerd);
    deploy(&kubectl, 3);
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} \
                {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let pods = |kubectl: &Kubectl| kubectl.run(&["get", "pods", "-o", path]);
    let before = pods(&kubectl);

    step("=== the agent alone is killed: its pods go on, and the next agent adopts them");
    cluster.agents[0].kill_9();
    assert_eq!(pods(&kubectl), before);
    cluster.agents.clear();
    cluster.add_agent("n1", &containerd);
    let answers = ["exec", "deployment/web", "--", "true"];
    until("exec works again", PATIENCE, || kubectl.output(&answers).status.success());
    assert_eq!(pods(&kubectl), before, "nothing restarted");
    let mut seconds: Vec<u64> = Vec::new();
    until("it goes on writing", PATIENCE, || {
        let log = kubectl.run(&["logs", "deployment/web"]);
        seconds = log.lines().map(|line| line.parse().unwrap()).collect();
        seconds.len() > 5
    });
    let hole = seconds.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(hole < Some(30), "it wrote all the time: {seconds:?}");

    step("=== the master that the agent is connected to is killed: the agent moves on");
    let connected = connected_master(&cluster, "n1");
    cluster.masters[connected].process.kill_9();
    let living = kubectl.at(&cluster.masters[(connected + 1) % 3].url());
    until("exec works by another master", PATIENCE, || living.output(&answers).status.success());
    assert_eq!(pods(&living), before, "nothing restarted");
    cluster.restart(connected);

    step("=== everything at once is killed");
    for master in &mut cluster.masters {
        master.process.kill_9();
    }
    cluster.agents[0].kill_9();
    for number in 0..3 {
        cluster.restart(number);
    }
    until("the cluster serves again", PATIENCE, || {
        kubectl.output(&["get", "--raw", "/readyz"]).status.success()
    });
    cluster.agents.clear();
    cluster.add_agent("n1", &containerd);
    kubectl.run(&["scale", "deployment/web", "--replicas=4"]);
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let after = pods(&kubectl);
    for pod in before.lines() {
        assert!(after.contains(pod), "{pod:?} did not survive as it was:\n{after}");
    }
}

/// Number of the master whose log says last that the node has connected to it.
fn connected_master(cluster: &Cluster, node: &str) -> usize {
    let mut found = None;
    let told = |text: &str| {
        let lines = text.lines().filter(|line| line.contains("node connected"));
        lines.filter(|line| line.contains(node)).filter_map(time_of).max()
    };
    until("the node is connected", PATIENCE, || {
        let masters = cluster.masters.iter().enumerate();
        let times = masters.filter_map(|(number, m)| Some((told(&m.process.text())?, number)));
        found = times.max().map(|(_, number)| number);
        found.is_some()
    });
    found.unwrap()
}

/// The time at the beginning of a line of a log, past its colours.
fn time_of(line: &str) -> Option<String> {
    let from = line.find("20")?;
    line.get(from..from + 27).map(str::to_owned)
}

#[test]
fn tokens_that_are_not_good_are_refused_with_the_reason() {
    let cluster = Cluster::start(1);
    let url = cluster.masters[0].url();
    let good = cluster.token("agent");
    let join = |token: &str| {
        let data = Scratch::new("refused");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["agent", "--name", "n", "--server", &url, "--token", token, "--data"])
            .arg(data.path().join("data"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let other_secret = format!("{}.0000000000000000.{}", &good[..6], &good[24..]);
    assert!(join(&other_secret).contains("is not known here"), "{}", join(&other_secret));
    let other_cluster = format!("{}.{}", &good[..23], "0".repeat(64));
    assert!(join(&other_cluster).contains("another cluster"), "{}", join(&other_cluster));
    assert!(join("nonsense").contains("not a join token"));
    let server = cluster.token("server");
    assert!(join(&server).contains("is not for joining as agent"), "{}", join(&server));
    cluster.quorate(&["token", "delete", &good]);
    assert!(join(&good).contains("is not known here"));
}
