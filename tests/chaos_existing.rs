//! `quorate chaos run --kubeconfig` on masters that somebody else started: faults are done by commands on their
//! machines and taken back, nothing is done that was not allowed, and nothing is left.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::api::Api;
use common::cluster::Cluster;
use common::containerd::{IMAGE, write_image};
use common::process::{Running, run_to_end};
use common::{PATIENCE, step, until};
use serde_json::Value;

/// A run and the waits for what it left.
const LONG: Duration = Duration::from_secs(180);

/// What it says of masters of which one is not well.
const NOT_HEALTHY: &str = "the cluster is not healthy, and is left alone: ";

/// The harness, with the way to these masters.
#[derive(Clone)]
struct Harness {
    kubeconfig: PathBuf,
    ways: String,
    directory: PathBuf,
}

impl Harness {
    fn command(&self, scenario: &str, seed: u64, more: &[&str]) -> Command {
        let file = self.directory.join(format!("scenario-{seed}.yaml"));
        fs::write(&file, scenario).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command
            .args(["chaos", "run", "-o", "json", &format!("--seed={seed}")])
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .arg(format!("--masters={}", self.ways))
            .arg(format!("--scenario={}", file.display()))
            .arg(format!("--directory={}", self.directory.join(format!("run-{seed}")).display()))
            .args(more);
        if let Some(path) = std::env::var_os("PATH") {
            let path = path.to_string_lossy();
            command.env("PATH", format!("{}:{path}", self.directory.join("bin").display()));
        }
        command
    }

    /// Its exit code, what it printed, and what it said. On a busy machine a master may stand for election just when
    /// the harness looks whether all are well: then it does not begin, and is asked again.
    fn run(&self, scenario: &str, seed: u64, more: &[&str]) -> (i32, String, String) {
        let begin = Instant::now();
        loop {
            let (code, text, said) = self.run_once(scenario, seed, more);
            if !said.contains(NOT_HEALTHY) || begin.elapsed() > PATIENCE {
                return (code, text, said);
            }
        }
    }

    fn run_once(&self, scenario: &str, seed: u64, more: &[&str]) -> (i32, String, String) {
        let output = run_to_end(&mut self.command(scenario, seed, more), b"", LONG);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// What it refuses, in one line.
    fn refuses(&self, scenario: &str, more: &[&str], wanted: &str) {
        let (code, _, said) = match wanted {
            NOT_HEALTHY => self.run_once(scenario, 1, more),
            _ => self.run(scenario, 1, more),
        };
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(wanted), "{said}");
        assert!(!self.directory.join("run-1").exists(), "nothing was begun");
    }
}

/// A scenario with these faults.
fn scenario(faults: &str) -> String {
    format!(
        "name: there\nmasters: 3\nworkload: {{kinds: [register, append], clients: 4, keys: 3}}\nschedule:\n{faults}"
    )
}

/// What runs have put on this machine: directories of theirs, with what is in those.
fn traces() -> Vec<PathBuf> {
    let all = fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| path.display().to_string().starts_with("/tmp/quorate-chaos-");
    all.filter(ours).filter(|path| path.join("hands").exists()).collect()
}

/// What a run on these masters has put there.
fn traces_of(port: u16) -> Vec<PathBuf> {
    let pattern = format!(":{port:04X}$");
    let own = |path: &PathBuf| {
        fs::read_to_string(path.join("hands")).is_ok_and(|text| text.contains(&pattern))
    };
    traces().into_iter().filter(own).collect()
}

/// What the kernel says of a process.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// One call to the first master: code and answer.
fn call(cluster: &Cluster, method: http::Method, path: &str) -> (u16, Value) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let api = Api::new(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
        api.call(method, path, Vec::new()).await.unwrap()
    })
}

/// Namespaces of runs.
fn namespaces(cluster: &Cluster) -> Vec<String> {
    let (_, list) = call(cluster, http::Method::GET, "/api/v1/namespaces");
    let names = list["items"].as_array().unwrap().iter();
    let names = names.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("quorate-chaos")).collect()
}

/// Processes that know one of these directories.
fn who_knows(directories: &[PathBuf]) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        directories.iter().any(|directory| line.contains(&*directory.to_string_lossy()))
    });
    processes.count()
}

/// Three masters that vote, and a harness that comes to them on these ways.
fn three(directory: &tempfile::TempDir, ways: &str) -> (Cluster, Harness) {
    let cluster = Cluster::start(3);
    let harness = Harness {
        kubeconfig: cluster.kubeconfig(),
        ways: ways.to_owned(),
        directory: directory.path().to_owned(),
    };
    until("all vote", PATIENCE, || cluster.quorate(&["status"]).contains("3 voters"));
    (cluster, harness)
}

#[test]
fn masters_that_are_there_are_harmed_as_far_as_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut cluster, harness) = three(&directory, "exec:env A=1,B=2,exec:env,exec:env");
    only_says(&cluster, &harness);
    let abandoned = a_guard_takes_over(&cluster, &harness);
    harms_and_takes_back(&cluster, &harness, &abandoned);
    a_file_stops_it(&cluster, &harness, &abandoned);

    step("a minute after its guard the keeper of the run that was killed has removed everything");
    assert_eq!(abandoned.len(), 3, "each machine had something, whether or not a fault met it");
    until("no directory and no process of it is there", LONG, || {
        abandoned.iter().all(|directory| !directory.exists()) && who_knows(&abandoned) == 0
    });
    nothing_left(&cluster, &[]);

    step("a cluster that is not healthy is left alone");
    cluster.masters[2].process.kill_9();
    let pid = listener(&cluster.masters[2].data).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    // Of whichever master it says so: the others may be electing.
    harness.refuses(&pause("target: leader"), &["--yes"], NOT_HEALTHY);
}

fn pause(target: &str) -> String {
    scenario(&format!("- {{at: 500ms, for: 2s, fault: pause, {target}}}\n"))
}

/// A dry run, and what is refused.
fn only_says(cluster: &Cluster, harness: &Harness) {
    let kill = scenario("- {at: 1s, for: 2s, fault: kill, target: leader}\n");
    let pause = pause("target: leader");
    step("the dry run says what it would do, and does nothing");
    let (code, plan, said) = harness.run(&kill, 1, &["--allow=kill", "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    for wanted in ["# 1s: kill for 2s", "; guard 1 18; down kill'", "; up'", "; finish; fi'"] {
        assert!(plan.contains(wanted), "{wanted} in:\n{plan}");
    }
    assert!(!harness.directory.join("run-1").exists());

    step("what is refused");
    let wanted = "the scenario has kill, and allowed is pause: --allow pause,kill";
    harness.refuses(&kill, &["--yes"], wanted);
    harness.refuses(&pause, &[], "--yes says that it is meant");
    let all = scenario("- {at: 1s, for: 1s, fault: kill-all}\n");
    harness.refuses(&all, &["--yes", "--allow=kill-all"], "--beyond-quorum allows it");
    harness.refuses(&pause, &["--yes", "--allow=disk-full"], "cannot be done to a cluster");
    let fewer = Harness { ways: "exec:env".to_owned(), ..harness.clone() };
    let wanted = "the cluster has 3 masters (m0, m1, m2), and --masters has 1";
    fewer.refuses(&pause, &["--yes"], wanted);
    nothing_left(cluster, &[]);
    for master in &cluster.masters {
        assert_eq!(listener(&master.data), i32::try_from(master.process.pid()).ok());
    }
}

fn harms_and_takes_back(cluster: &Cluster, harness: &Harness, abandoned: &[PathBuf]) {
    step("two of them paused and killed, one after the other");
    let pids: Vec<u32> = cluster.masters.iter().map(|master| master.process.pid()).collect();
    let all = scenario(
        "- {at: 1s, for: 2s, fault: pause, target: leader}\n\
         - {at: 6s, for: 2s, fault: kill, target: leader}\n\
         - {at: 15s, for: 1s, fault: stop, target: follower}\n",
    );
    let (code, text, said) = harness.run(&all, 2, &["--yes", "--allow=pause,kill,stop"]);
    assert_eq!(code, 0, "{text}\n{said}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let faults = report["faults"].as_array().unwrap();
    let shown: Vec<&str> = faults.iter().filter_map(|fault| fault["shown"].as_str()).collect();
    assert!(shown[0].contains("is stopped") && shown[1].contains("is gone"), "{shown:?}");
    assert!(shown[2].contains("is gone"), "{shown:?}");
    assert!(faults[0]["what"].as_str().unwrap().starts_with("pause of m"), "{text}");
    let checks = report["checks"].as_array().unwrap();
    for name in ["left", "membership", "linearizable", "lists", "watches", "agreement"] {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(check["result"], "pass", "{check:#}");
    }
    let page = fs::read_to_string(harness.directory.join("run-2/report.html")).unwrap();
    assert!(page.contains("--allow pause,kill,stop"), "the command that does it again");
    nothing_left(cluster, abandoned);
    let gone = pids.iter().filter(|pid| !matches!(state(**pid), Some('S' | 'R' | 'D'))).count();
    assert!((1..=2).contains(&gone), "who was killed or stopped runs again, as another process");
}

fn a_file_stops_it(cluster: &Cluster, harness: &Harness, abandoned: &[PathBuf]) {
    step("a file stops it, and the fault is taken back");
    let option = format!("--stop-file={}", harness.directory.join("stop").display());
    let long = scenario("- {at: 500ms, for: 300s, fault: pause, target: follower}\n");
    let running = Running::start(&mut harness.command(&long, 3, &["--yes", &option]));
    let held = wait_for_stopped(cluster);
    fs::write(harness.directory.join("stop"), "").unwrap();
    let (code, said) = running.ends();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("stopped by hand after"), "{said}");
    assert!(!matches!(state(held), Some('T')), "it was woken");
    nothing_left(cluster, abandoned);
    let (code, _, said) = harness.run(&pause("target: leader"), 5, &["--yes", &option]);
    assert!(code == 2 && said.contains("is there already: nothing was begun"), "{said}");
}

/// What is left of it for the keepers to remove.
fn a_guard_takes_over(cluster: &Cluster, harness: &Harness) -> Vec<PathBuf> {
    step("a harness that is gone leaves a guard that takes the fault back");
    // Without lists, whose finalizers nobody would take away.
    let short = "name: there\nmasters: 3\nworkload: {kinds: register, clients: 2, keys: 2}\nschedule:\n\
                 - {at: 500ms, for: 2s, fault: pause, target: follower}\n";
    let running = Running::start(&mut harness.command(short, 4, &["--yes"]));
    let held = wait_for_stopped(cluster);
    running.kill();
    let abandoned = cluster.masters.iter().flat_map(|master| traces_of(master.api_port)).collect();
    // Nobody else is there who could do it.
    until("it is awake", PATIENCE, || !matches!(state(held), Some('T')));
    until("its namespace is gone", PATIENCE, || {
        call(cluster, http::Method::DELETE, "/api/v1/namespaces/quorate-chaos-4").0 == 404
    });
    abandoned
}

fn wait_for_stopped(cluster: &Cluster) -> u32 {
    let mut held = None;
    until("one is stopped", PATIENCE, || {
        held = stopped(cluster);
        held.is_some()
    });
    held.unwrap()
}

/// No namespace, no directory but these, nobody who is stopped.
fn nothing_left(cluster: &Cluster, but: &[PathBuf]) {
    assert_eq!(namespaces(cluster), Vec::<String>::new());
    for master in &cluster.masters {
        let mut left = traces_of(master.api_port);
        left.retain(|directory| !but.contains(directory));
        assert_eq!(left, Vec::<PathBuf>::new());
    }
    assert_eq!(stopped(cluster), None);
}

/// The process of a master with this directory that runs now.
fn listener(data: &Path) -> Option<i32> {
    let data = data.display().to_string();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let is_server = words.clone().any(|word| word == b"server");
        let own = is_server && words.any(|word| word == data.as_bytes());
        (own && state(pid) != Some('Z')).then(|| pid.try_into().ok())?
    })
}

/// A master that is stopped.
fn stopped(cluster: &Cluster) -> Option<u32> {
    cluster.masters.iter().find_map(|master| {
        let pid = u32::try_from(listener(&master.data)?).ok()?;
        (state(pid) == Some('T')).then_some(pid)
    })
}

#[test]
fn deployments_are_used_on_nodes_that_are_there() {
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        eprintln!("SKIPPED: pods need root and /bin/busybox");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut cluster, harness) = three(&directory, "exec:env,exec:env,exec:env");
    let deployments = "name: there\nmasters: 3\nexpect: {healed_within: 60s}\n\
                       workload: {kinds: [register, kubernetes], clients: 8, keys: 4}\nschedule:\n\
                       - {at: 3s, for: 2s, fault: pause, target: leader}\n\
                       - {at: 8s, for: 1s, fault: kill, target: leader}\n";
    let allow = "--allow=pause,kill";
    step("without nodes it is not begun");
    let wanted = "the cluster has no node that is ready and takes pods: it has no nodes";
    harness.refuses(deployments, &["--yes", allow], wanted);

    let archive = directory.path().join("image.tar");
    write_image(&archive);
    cluster.add_builtin_agent("n1", &archive);
    until("the node is ready", PATIENCE, || {
        let (_, node) = call(&cluster, http::Method::GET, "/api/v1/nodes/n1");
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|found| found["type"] == "Ready" && found["status"] == "True")
    });
    let image = format!("--image={IMAGE}");
    let (code, plan, said) = harness.run(deployments, 1, &[allow, &image, "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        plan.contains(&format!("Their image is {IMAGE}; before anything else a pod on")),
        "{plan}"
    );

    step("a user of Deployments, while masters hang and die");
    let (code, text, said) = harness.run(deployments, 2, &["--yes", allow, &image]);
    assert_eq!(code, 0, "{text}\n{said}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let checks = report["checks"].as_array().unwrap();
    for name in ["bound", "converged", "surplus", "endpoints", "nodes", "left", "coverage"] {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(check["result"], "pass", "{check:#}");
    }
    let converged = checks.iter().find(|check| check["name"] == "converged").unwrap();
    assert!(converged["checked"].as_str().unwrap().contains("created"), "{converged:#}");
    assert_eq!(report["not_checked"][0]["name"], "containers", "{text}");
    nothing_left(&cluster, &[]);
    let pods = call(&cluster, http::Method::GET, "/api/v1/pods").1;
    assert_eq!(pods["items"], serde_json::json!([]), "all pods went with the namespace");
}

/// What each master is, as one says.
fn roles(cluster: &Cluster) -> Vec<String> {
    let (_, status) = call(cluster, http::Method::GET, "/quorate/v1/status");
    let masters = status["masters"].as_array().cloned().unwrap_or_default();
    masters.iter().filter_map(|one| one["role"].as_str().map(str::to_owned)).collect()
}

#[test]
fn leadership_and_votes_of_masters_that_are_there_go_round() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, harness) = three(&directory, "exec:env,exec:env,exec:env");
    let verbs = scenario(
        "- {at: 1s, for: 4s, fault: transfer, every: 1s}\n\
         - {at: 8s, for: 3s, fault: demote, target: leader}\n\
         - {at: 15s, for: 3s, fault: demote, target: m2}\n",
    );
    step("the dry run names what it would ask for");
    let allow = "--allow=transfer,demote";
    let (code, plan, said) = harness.run(&verbs, 1, &[allow, "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    for wanted in [
        "# 1.0 s: /quorate/v1/masters/transfer-leader to m",
        "# 15.0 s: /quorate/v1/masters/demote of m1, by the API",
        "# 18.0 s: /quorate/v1/masters/promote of m1, by the API",
    ] {
        assert!(plan.contains(wanted), "{wanted} in:\n{plan}");
    }
    let replace = scenario("- {at: 1s, for: 2s, fault: replace, target: leader}\n");
    let wanted = "there: it would remove a data directory that is not this run's";
    harness.refuses(&replace, &["--yes", "--allow=replace"], wanted);
    harness.refuses(&replace, &["--yes"], wanted);

    step("leadership goes round, and standbys vote again");
    let (code, text, said) = harness.run(&verbs, 2, &["--yes", allow]);
    assert_eq!(code, 0, "{text}\n{said}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let shown = |fault: usize| report["faults"][fault]["shown"].as_str().unwrap_or_default();
    assert!(shown(0).contains("met "), "{text}");
    assert!(
        shown(1).contains(" was made a standby") && shown(1).contains(" votes again"),
        "{text}"
    );
    assert!(shown(2).contains("m1 was made a standby"), "{text}");
    nothing_left(&cluster, &[]);
    assert!(!roles(&cluster).contains(&"standby".to_owned()));

    step("a run that is stopped takes it back");
    let option = format!("--stop-file={}", harness.directory.join("stop").display());
    let long = scenario("- {at: 500ms, for: 300s, fault: demote, target: follower}\n");
    let running = Running::start(&mut harness.command(&long, 3, &["--yes", allow, &option]));
    until("one is a standby", PATIENCE, || roles(&cluster).contains(&"standby".to_owned()));
    fs::write(harness.directory.join("stop"), "").unwrap();
    let (code, said) = running.ends();
    assert_eq!(code, 2, "{said}");
    assert!(!said.contains("is still a standby"), "{said}");
    assert!(!roles(&cluster).contains(&"standby".to_owned()));
    nothing_left(&cluster, &[]);
}

#[test]
fn links_of_masters_that_are_there_are_cut() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: cutting links needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("quiet.yaml");
    let quiet = "name: quiet\nmasters: 3\nworkload: {clients: 1, keys: 1}\n\
                 schedule: [{at: 600s, for: 1s, fault: pause, target: m1}]\n";
    fs::write(&file, quiet).unwrap();
    step("masters in namespaces, which another run has started");
    let run = directory.path().join("run");
    let masters = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run"])
        .arg(format!("--scenario={}", file.display()))
        .arg(format!("--directory={}", run.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = masters.id();
    let kubeconfig = run.join("kubeconfig");
    until("all vote", PATIENCE, || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("status").arg(format!("--kubeconfig={}", kubeconfig.display()));
        let said = run_to_end(&mut command, b"", PATIENCE).stdout;
        String::from_utf8_lossy(&said).contains("3 voters")
    });
    // One by a program that does what ssh does with its words: a shell there takes them apart.
    let programs = directory.path().join("bin");
    fs::create_dir(&programs).unwrap();
    let ssh = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do host=$1; shift; done\nshift\n\
               exec ip netns exec \"$host\" sh -c \"$*\"\n";
    fs::write(programs.join("ssh"), ssh).unwrap();
    fs::set_permissions(programs.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let ways = format!(
        "exec:ip netns exec qc{id}n0,ssh://qc{id}n1,exec:env LC_ALL=C ip netns exec qc{id}n2"
    );
    let harness = Harness { kubeconfig, ways, directory: directory.path().to_owned() };
    let cut = scenario(
        "- {at: 1s, for: 3s, fault: isolate, target: leader}\n\
         - {at: 8s, for: 3s, fault: one-way, target: m2, direction: deaf}\n",
    );
    let (code, text, said) = harness.run(&cut, 1, &["--yes", "--allow=isolate,one-way"]);
    interrupt(id);
    let output = masters.wait_with_output().unwrap();
    let other = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code, 0, "{text}\n{said}\n{other}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let faults = report["faults"].as_array().unwrap();
    for fault in faults {
        assert!(fault["shown"].as_str().unwrap().contains(" drops from "), "{text}");
    }
    assert!(faults[1]["shown"].as_str().unwrap().contains("m2 drops from "), "{text}");
}

fn interrupt(id: u32) {
    let pid = rustix::process::Pid::from_raw(id.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
