//! `quorate kubeconfig --proxy`: one kubeconfig with one server, while masters are killed, hung and replaced.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::kubectl::Kubectl;
use common::process::{Process, run_to_end};
use common::{PATIENCE, free_port, kube::client, step, until};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;

/// A command that starts when a master is dead or hung must be done by then: a new leader, and a few seconds for a
/// master that takes connections and answers nothing.
const COMMAND_MAX: Duration = Duration::from_secs(20);

struct Proxied {
    process: Process,
    kubeconfig: PathBuf,
    port: u16,
}

impl Proxied {
    /// Follows the masters, with the keys of the last one.
    fn start(cluster: &Cluster) -> Self {
        let port = free_port();
        let kubeconfig = cluster.directory.path().join("proxied");
        let log = cluster.directory.path().join("proxy.log");
        let data = cluster.masters.last().unwrap().data.display().to_string();
        let (file, listen) = (kubeconfig.display().to_string(), port.to_string());
        let line = ["kubeconfig", "--proxy", "--listen", &listen, "--data", &data];
        let process = Process::start(&log, &[&line[..], &["--kubeconfig", &file]].concat());
        let mut proxied = Self { process, kubeconfig, port };
        proxied.process.says("forwarding https://127.0.0.1:");
        proxied
    }

    /// Waits until it has told all of these.
    fn told(&self, lines: &[String]) {
        until(&format!("the proxy says {lines:?}"), PATIENCE, || {
            let text = self.process.text();
            lines.iter().all(|line| text.contains(line))
        });
    }
}

fn address(cluster: &Cluster, number: usize) -> String {
    format!("127.0.0.1:{}", cluster.masters[number].api_port)
}

/// Runs a command many times; each must succeed, in time.
fn goes_on(kubectl: &Kubectl) {
    for _ in 0..12 {
        let began = Instant::now();
        let name = kubectl.run(&["get", "configmap", "kube-root-ca.crt", "-o", "name"]);
        assert_eq!(name, "configmap/kube-root-ca.crt\n");
        assert!(began.elapsed() < COMMAND_MAX, "it took {:?}", began.elapsed());
    }
}

/// kube's watcher through the proxy: what it has seen.
struct Watched {
    seen: tokio::sync::mpsc::Receiver<String>,
    names: BTreeSet<String>,
    maps: Api<ConfigMap>,
}

impl Watched {
    async fn start(proxied: &Proxied) -> Self {
        let maps: Api<ConfigMap> = Api::default_namespaced(client(&proxied.kubeconfig, None).await);
        let (tell, seen) = tokio::sync::mpsc::channel(64);
        let stream = watcher(maps.clone(), watcher::Config::default()).default_backoff();
        tokio::spawn(async move {
            let mut objects = std::pin::pin!(stream.applied_objects());
            while let Some(object) = objects.next().await {
                // What breaks is begun again by the watcher itself.
                let Ok(object) = object else { continue };
                if tell.send(object.metadata.name.unwrap()).await.is_err() {
                    return;
                }
            }
        });
        Self { seen, names: BTreeSet::new(), maps }
    }

    /// Writes through the proxy, and waits until the watch shows it.
    async fn goes_on(&mut self, name: &str) {
        step(&format!("write {name}, and see it"));
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        let began = Instant::now();
        // A write is not repeated by anybody, and one under way when its master dies has no answer.
        while let Err(error) = self.maps.create(&PostParams::default(), &map).await {
            if matches!(&error, kube::Error::Api(status) if status.code == 409) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{error}");
        }
        let see = async {
            while !self.names.contains(name) {
                self.names.insert(self.seen.recv().await.unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, see).await.expect("the watch goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_kubeconfig_survives_the_loss_of_each_master() {
    let mut cluster = Cluster::start(3);
    let mut proxied = Proxied::start(&cluster);
    let Some(kubectl) = Kubectl::new(&proxied.kubeconfig) else { return };
    let known: Vec<String> =
        (0..2).map(|number| format!("{} is a master", address(&cluster, number))).collect();
    proxied.told(&known);
    let document: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(&proxied.kubeconfig).unwrap()).unwrap();
    let entry = &document["clusters"][0]["cluster"];
    assert_eq!(entry["server"], format!("https://127.0.0.1:{}", proxied.port));
    assert_eq!(entry["tls-server-name"], "kubernetes.default.svc");
    let mut watched = Watched::start(&proxied).await;
    watched.goes_on("before").await;

    for number in 0..3 {
        cluster.masters[number].process.kill_9();
        goes_on(&kubectl);
        watched.goes_on(&format!("without-{number}")).await;
        let silent = format!("{} does not answer", address(&cluster, number));
        let again = format!("{} is ready again", address(&cluster, number));
        proxied.told(&[silent]);
        cluster.restart(number);
        proxied.told(&[again]);
    }

    // One that hangs takes connections as ever.
    let leader = cluster.leader();
    let pid = cluster.masters[leader].process.pid().to_string();
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    goes_on(&kubectl);
    watched.goes_on("hung").await;
    signal("-CONT");

    // A master that nobody knew when the proxy was started, and without any that it was started with but one.
    until("all are back", PATIENCE, || {
        let status: Value =
            serde_json::from_str(&cluster.quorate_at(0, &["status", "-o", "json"])).unwrap();
        let rows = status["masters"].as_array().unwrap();
        rows.iter().all(|row| row["answers"] == "yes") && status["leader"].is_string()
    });
    cluster.add_master(3, 0);
    proxied.told(&[format!("{} is a master", address(&cluster, 3))]);
    for number in [0, 1] {
        let name = format!("m{number}");
        until("it may go", PATIENCE, || {
            let removed = cluster.tried_at(3, &["masters", "remove", &name, "--yes"]);
            removed.status.success()
        });
        goes_on(&kubectl);
        proxied.told(&[format!("{} is no master any more", address(&cluster, number))]);
    }
    watched.goes_on("replaced").await;

    // The status goes through it too, and it stops in order.
    let file = proxied.kubeconfig.display().to_string();
    let mut status = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = run_to_end(status.args(["status", "--kubeconfig", &file]), b"", PATIENCE);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2 voters, quorum 2"), "{text}");
    assert!(proxied.process.stop().success(), "{}", proxied.process.text());
    assert!(!kubectl.fails(&["get", "configmaps"]).is_empty());
}

#[test]
fn a_proxy_away_from_the_masters_takes_a_kubeconfig() {
    let cluster = Cluster::start(1);
    let jane = cluster.directory.path().join("jane").display().to_string();
    cluster.quorate(&["kubeconfig", "--user", "jane", "--kubeconfig", &jane]);
    let to = cluster.directory.path().join("through").display().to_string();
    let log = cluster.directory.path().join("proxy.log");
    let line = ["kubeconfig", "--proxy", "--from", &jane, "--kubeconfig", &to, "--name", "here"];
    let mut proxy = Process::start(&log, &line);
    proxy.says("context \"here\"");
    let Some(kubectl) = Kubectl::new(std::path::Path::new(&to)) else { return };
    assert!(kubectl.run(&["auth", "whoami"]).contains("jane"));
    // She may see nothing of the masters; what she knows works all the same.
    proxy.says("masters that come later are not found");
    assert!(kubectl.fails(&["get", "pods"]).contains("User \"jane\" cannot list"));
    for (wrong, why) in [
        (&["--listen", "0.0.0.0:1"][..], "it listens for this machine only"),
        (&["--from", &jane, "--user", "other"], "cannot be used with"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["kubeconfig", "--proxy"]).args(wrong);
        let output = run_to_end(&mut command, b"", PATIENCE);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}
