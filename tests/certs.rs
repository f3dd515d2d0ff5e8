//! Certificates are renewed and issued anew, and the authorities behind them changed, while clients write: with
//! `quorate certs`, as its users do it.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::api::Api;
use common::cluster::Cluster;
use common::process::{Process, run_to_end};
use common::{PATIENCE, kube::client, step, until};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ListParams, ObjectMeta, PostParams};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// Writes at one master until told to stop; each call must succeed.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

impl Writer {
    /// `fresh`: each call over a connection of its own.
    fn start(name: &'static str, kubeconfig: &Path, url: String, fresh: bool) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), written.clone());
        let kubeconfig = kubeconfig.to_owned();
        let task = tokio::spawn(async move {
            let mut kept = client(&kubeconfig, Some(&url)).await;
            while !stopped.load(Ordering::Relaxed) {
                if fresh {
                    kept = client(&kubeconfig, Some(&url)).await;
                }
                let maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(kept.clone());
                let name = format!("{name}-{}", count.load(Ordering::Relaxed));
                let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
                let map = ConfigMap { metadata, ..ConfigMap::default() };
                let created = maps.create(&PostParams::default(), &map).await;
                created.map_err(|error| format!("{name}: {error:?}"))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, written, task }
    }

    /// Waits until it has written some more.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        let more = async {
            while self.written.load(Ordering::Relaxed) < before + 10 && !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.expect("writes go on");
    }

    async fn finish(self) {
        self.goes_on().await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap().unwrap();
    }
}

/// A kubeconfig as a user gets it now.
fn kubeconfig(cluster: &Cluster, number: usize, name: &str) -> PathBuf {
    let file = cluster.directory.path().join(name);
    cluster.quorate_at(number, &["kubeconfig", "--kubeconfig", file.to_str().unwrap()]);
    file
}

/// Runs a command of the binary with a kubeconfig.
fn quorate_as(kubeconfig: &Path, arguments: &[&str]) -> (bool, String) {
    step(&format!("+ quorate {} ({})", arguments.join(" "), kubeconfig.display()));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig);
    let output = run_to_end(&mut command, b"", PATIENCE);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn listed(cluster: &Cluster, number: usize) -> Value {
    let text = cluster.quorate_at(number, &["certs", "list", "-o", "json"]);
    serde_json::from_str(&text).unwrap()
}

/// One field of a master's certificate.
fn field<'a>(list: &'a Value, master: &str, name: &str, field: &str) -> &'a str {
    let rows = list["certificates"].as_array().unwrap();
    let row = rows.iter().find(|row| row["master"] == master && row["name"] == name);
    row.unwrap_or_else(|| panic!("{master} has no {name}: {list}"))[field].as_str().unwrap()
}

/// What a master shows at its API, when this authority has signed it; how many certificates are in the chain.
async fn served(port: u16, authority: &Path) -> Result<(Vec<u8>, usize), String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    Ok((chain[0].to_vec(), chain.len()))
}

/// A node agent without pods; `None` where nobody may start one.
fn agent(cluster: &mut Cluster, name: &str) -> Option<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a node needs root");
        return None;
    }
    let servers: Vec<String> = cluster.masters.iter().map(|master| master.url()).collect();
    let (servers, token) = (servers.join(","), cluster.token("agent"));
    let data = cluster.directory.path().join(name).display().to_string();
    let arguments = ["agent", "--name", name, "--data", &data, "--server", &servers, "--token"];
    let more = [&token, "--runtime", "builtin", "--eviction-hard", "memory.available<100Mi"];
    let log = cluster.directory.path().join(format!("{name}.log"));
    cluster.agents.push(Process::start(&log, &[&arguments[..], &more[..]].concat()));
    Some(())
}

/// Whether the node is ready, as a master says.
async fn is_ready(kubeconfig: &Path, url: &str, name: &str) -> bool {
    let nodes: kube::Api<Node> = kube::Api::all(client(kubeconfig, Some(url)).await);
    let Ok(Some(node)) = nodes.get_opt(name).await else { return false };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn until_ready(kubeconfig: &Path, url: &str, name: &str) {
    step(&format!("wait until node {name} is ready"));
    let ready = async {
        while !is_ready(kubeconfig, url, name).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("the node is ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_issued_anew_while_clients_write() {
    let cluster = Cluster::start(3);
    let authority = cluster.masters[0].data.join("pki/cluster-ca.crt");
    let admin = cluster.kubeconfig();
    let writers = [
        Writer::start("kept", &admin, cluster.masters[1].url(), false),
        Writer::start("fresh", &admin, cluster.masters[1].url(), true),
    ];
    let before = listed(&cluster, 0);
    let rows = before["certificates"].as_array().unwrap();
    assert_eq!(rows.len(), 3 * 6, "{before}");
    assert!(rows.iter().all(|row| row["secondsLeft"].as_i64() > Some(300 * 86_400)), "{before}");
    let table = cluster.quorate_at(1, &["certs", "list"]);
    assert!(table.starts_with("MASTER ") && table.contains(" 364d"), "{table}");
    assert!(!table.contains("127.0.0.1"), "{table}");
    let wide = cluster.quorate_at(1, &["certs", "list", "-o", "wide"]);
    assert!(wide.contains("localhost,m1,") && wide.contains("/master/1"), "{wide}");

    let of = |list: &Value, master: &str, name: &str| {
        field(list, master, name, "fingerprint").to_owned()
    };
    let serving = served(cluster.masters[1].api_port, &authority).await.unwrap().0;
    let said = cluster.quorate_at(0, &["certs", "rotate", "--dry-run"]);
    assert!(said.contains("m1: serving, client, peer would be issued anew"), "{said}");
    let said = cluster.quorate_at(0, &["certs", "rotate", "--master", "m1"]);
    assert_eq!(said.trim(), "m1: serving, client, peer issued anew");
    let after = listed(&cluster, 2);
    for name in ["serving", "client", "peer"] {
        assert_ne!(of(&before, "m1", name), of(&after, "m1", name), "{name}");
        assert_eq!(of(&before, "m0", name), of(&after, "m0", name), "{name}");
    }
    let now = served(cluster.masters[1].api_port, &authority).await.unwrap().0;
    assert_ne!(serving, now, "clients are shown the new one");
    let said = cluster.refused_at(0, &["certs", "rotate", "--master", "m9"]);
    assert!(said.contains("no master is named \"m9\": there are m0, m1, m2"), "{said}");
    for _ in 0..3 {
        cluster.quorate_at(0, &["certs", "rotate"]);
        for writer in &writers {
            writer.goes_on().await;
        }
    }
    for writer in writers {
        writer.finish().await;
    }
    // Masters that start again show the same certificate, and meet each other with the new ones.
    let kept = listed(&cluster, 2);
    let mut cluster = cluster;
    cluster.masters[1].process.kill_9();
    let said = listed(&cluster, 0);
    assert_eq!(said["silent"], serde_json::json!(["m1"]), "{said}");
    cluster.restart(1);
    cluster.masters[1].process.says_again("ready after");
    let list = listed(&cluster, 0);
    assert_eq!(of(&kept, "m1", "serving"), of(&list, "m1", "serving"));
    // Who may not, cannot.
    let jane = cluster.directory.path().join("jane");
    let file = jane.display().to_string();
    cluster.quorate_at(0, &["kubeconfig", "--user", "jane", "--kubeconfig", &file]);
    for (path, command) in
        [("certs/rotate", &["certs", "rotate"][..]), ("status", &["certs", "rotate-ca", "--yes"])]
    {
        let (done, said) = quorate_as(&jane, command);
        assert!(!done && said.contains("User \"jane\" cannot"), "{path}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_near_its_end_is_renewed_while_clients_write() {
    let mut cluster = Cluster::start_with(1, &["--certificate-lifetime", "30s"]);
    let admin = cluster.kubeconfig();
    let writer = Writer::start("w", &admin, cluster.masters[0].url(), true);
    let url = cluster.masters[0].url();
    let with_agent = agent(&mut cluster, "n1").is_some();
    if with_agent {
        until_ready(&admin, &url, "n1").await;
    }
    let first = listed(&cluster, 0);
    assert!(first["certificates"][0]["secondsLeft"].as_i64() <= Some(30), "{first}");
    let of = |list: &Value| field(list, "m0", "serving", "fingerprint").to_owned();
    let expires = |list: &Value| list["nodes"][0]["expires"].as_str().map(str::to_owned);
    until("the master has made others twice", PATIENCE, || of(&listed(&cluster, 0)) != of(&first));
    let second = listed(&cluster, 0);
    until("and again", PATIENCE, || of(&listed(&cluster, 0)) != of(&second));
    if with_agent {
        until("the node has another one, and shows it", PATIENCE, || {
            let now = expires(&listed(&cluster, 0));
            now.is_some() && now != expires(&first)
        });
        // It starts again with the one that it was given, long after the one that it joined with has ended.
        cluster.agents[0].kill_9();
        cluster.agents.clear();
        let data = cluster.directory.path().join("n1").display().to_string();
        let log = cluster.directory.path().join("n1-again.log");
        let arguments = ["agent", "--data", &data, "--runtime", "builtin"];
        let mut again = Process::start(&log, &arguments);
        again.says("node agent with the");
        cluster.agents.push(again);
        until("it is connected", PATIENCE, || expires(&listed(&cluster, 0)).is_some());
    }
    writer.finish().await;
}

/// Asks a master for the next step, as the command does.
async fn next_step(kubeconfig: &Path, url: &str, generation: u64) -> Value {
    let api = Api::new(kubeconfig, url).await;
    let body = serde_json::json!({"to": "sign", "generation": generation});
    let path = "/quorate/v1/certs/rotate-ca";
    let (code, said) = api.call(Method::POST, path, body.to_string().into_bytes()).await.unwrap();
    assert_eq!(code, 200, "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_changed_without_a_failed_call() {
    let mut cluster = Cluster::start(3);
    let old = kubeconfig(&cluster, 0, "old");
    let old_authority = cluster.directory.path().join("old-ca.crt");
    std::fs::copy(cluster.masters[0].data.join("pki/cluster-ca.crt"), &old_authority).unwrap();
    let old_token = cluster.token("server");
    let with_agent = agent(&mut cluster, "n1").is_some();
    if with_agent {
        until_ready(&old, &cluster.masters[0].url(), "n1").await;
    }
    let said = cluster.refused_at(0, &["certs", "rotate-ca", "--finish", "--yes"]);
    assert!(said.contains("no change of the authorities is under way"), "{said}");
    let said = cluster.refused_at(0, &["certs", "rotate-ca"]);
    assert!(said.contains("Make new authorities") && said.contains("say --yes"), "{said}");
    let said = cluster.quorate_at(0, &["certs", "rotate-ca", "--dry-run"]);
    assert!(said.contains("generation 1; no change is under way"), "{said}");
    assert!(said.contains("authorities of generation 2 are made") && said.contains("(dry run)"));

    // A master is away: nothing is begun.
    cluster.quorate_at(0, &["masters", "transfer-leader", "m0"]);
    cluster.masters[2].process.kill_9();
    let said = cluster.refused_at(0, &["certs", "rotate-ca", "--yes"]);
    assert!(said.contains("not heard of: master \"m2\""), "{said}");
    assert!(said.contains("quorate masters remove m2"), "{said}");
    assert!(!cluster.masters[0].data.join("pki/rotation.json").exists());
    cluster.restart(2);
    cluster.masters[2].process.says_again("ready after");

    // Begun by the leader, which dies at once; another master goes on when it is back.
    let began = next_step(&old, &cluster.masters[0].url(), 2).await;
    assert!(began["did"].as_str().unwrap().contains("generation 2 are made"), "{began}");
    cluster.masters[0].process.kill_9();
    let said = cluster.refused_at(1, &["certs", "rotate-ca", "--yes"]);
    assert!(said.contains("not heard of: master \"m0\""), "{said}");
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");
    let writers = [
        Writer::start("kept", &old, cluster.masters[1].url(), false),
        Writer::start("fresh", &old, cluster.masters[2].url(), true),
    ];
    let said = cluster.quorate_at(1, &["certs", "rotate-ca", "--yes"]);
    assert!(!said.contains("are made, and believed"), "it goes on: {said}");
    assert!(said.contains("they sign from now on"), "{said}");
    assert!(said.contains("quorate certs rotate-ca --finish"), "{said}");
    for writer in &writers {
        writer.goes_on().await;
    }
    overlap(&mut cluster, &old, (&old_authority, &old_token), with_agent).await;
    for writer in writers {
        writer.finish().await;
    }
    end(&mut cluster, &old, (&old_authority, &old_token), with_agent).await;
}

/// What old and new are good for while both are believed.
async fn overlap(
    cluster: &mut Cluster,
    old: &Path,
    (old_authority, old_token): (&Path, &str),
    with_agent: bool,
) {
    let list = listed(cluster, 1);
    for master in ["m0", "m1", "m2"] {
        for name in ["serving", "client", "peer"] {
            let signed = field(&list, master, name, "signedBy");
            assert!(signed.ends_with(" 2"), "{master} {name}: {signed}");
        }
        assert!(!field(&list, master, "old-cluster-ca", "subject").is_empty());
    }
    if with_agent {
        assert!(list["nodes"][0]["signedBy"].as_str().unwrap().ends_with(" 2"), "{list}");
        assert!(is_ready(old, &cluster.masters[1].url(), "n1").await);
    }
    // Whoever knows either authority believes what is shown.
    let new_authority = cluster.masters[2].data.join("pki/cluster-ca.crt");
    for authority in [old_authority, &new_authority] {
        let (_, chain) = served(cluster.masters[2].api_port, authority).await.unwrap();
        assert_eq!(chain, 4);
    }
    let (done, said) = quorate_as(old, &["status"]);
    assert!(done, "{said}");
    let root = Api::new(old, &cluster.masters[1].url()).await;
    let path = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
    let both = std::fs::read_to_string(&new_authority).unwrap()
        + &std::fs::read_to_string(old_authority).unwrap();
    let published = async {
        loop {
            let (_, map) = root.get(path).await.unwrap();
            if map["data"]["ca.crt"] == both.as_str() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("pods are told both");
    // Joins, with tokens of before and of now.
    let (could, said) = preflight(cluster, old_token);
    assert!(could, "{said}");
    cluster.add_master(3, 1);
    until("the new one has a certificate of the new authority", PATIENCE, || {
        field(&listed(cluster, 3), "m3", "serving", "signedBy").ends_with(" 2")
    });
}

/// Whether a machine could join with a token.
fn preflight(cluster: &Cluster, token: &str) -> (bool, String) {
    let url = cluster.masters[1].url();
    let data = cluster.directory.path().join("looked").display().to_string();
    let (api, peer) = (common::free_port(), common::free_port());
    let (api, peer) = (format!("127.0.0.1:{api}"), format!("127.0.0.1:{peer}"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["masters", "preflight", "--join", &url, "--token", token, "--name", "m9"]);
    command.args(["--data", &data, "--listen", &api, "--peer-listen", &peer]);
    let output = run_to_end(&mut command, b"", PATIENCE);
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// The old authorities go.
async fn end(
    cluster: &mut Cluster,
    old: &Path,
    (old_authority, old_token): (&Path, &str),
    with_agent: bool,
) {
    let new = kubeconfig(cluster, 1, "new");
    let open = client(old, Some(&cluster.masters[1].url())).await;
    let maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(open);
    maps.list(&ListParams::default()).await.unwrap();
    let writers = [
        Writer::start("new-kept", &new, cluster.masters[1].url(), false),
        Writer::start("new-fresh", &new, cluster.masters[2].url(), true),
    ];
    cluster.masters[3].process.kill_9();
    let said = cluster.refused_at(0, &["certs", "rotate-ca", "--finish", "--yes"]);
    assert!(said.contains("not heard of: master \"m3\""), "{said}");
    maps.list(&ListParams::default()).await.unwrap();
    cluster.restart(3);
    cluster.masters[3].process.says_again("ready after");
    let (done, said) = quorate_as(&new, &["certs", "rotate-ca", "--finish", "--yes"]);
    assert!(done && said.contains("only the authorities of generation 2 are believed"), "{said}");
    let error = maps.list(&ListParams::default()).await.expect_err("its authority is gone");
    assert!(format!("{error:?}").contains("401"), "{error:?}");
    let (done, said) = quorate_as(old, &["status"]);
    assert!(!done, "{said}");
    for port in [cluster.masters[0].api_port, cluster.masters[3].api_port] {
        served(port, old_authority).await.expect_err("nothing leads from the old one to it");
    }
    let (done, said) = quorate_as(&new, &["certs", "list"]);
    assert!(done && !said.contains("old-cluster-ca"), "{said}");
    if with_agent {
        until_ready(&new, &cluster.masters[1].url(), "n1").await;
        let node = cluster.directory.path().join("n1/pki/node-ca.crt");
        let new_authority = std::fs::read(cluster.masters[1].data.join("pki/cluster-ca.crt"));
        let new_authority = new_authority.unwrap();
        until("the node knows the new one only", PATIENCE, || {
            std::fs::read(&node).unwrap() == new_authority
        });
    }
    for writer in writers {
        writer.finish().await;
    }
    // All start again with what they have, and others join.
    for number in 0..3 {
        cluster.masters[number].process.kill_9();
        cluster.restart(number);
        cluster.masters[number].process.says_again("ready after");
    }
    cluster.add_master(4, 3);
    let (could, said) = preflight(cluster, old_token);
    assert!(!could && said.contains("another cluster"), "{said}");
    let list = cluster.quorate_at(4, &["masters", "list"]);
    assert!(list.contains("5 voters, quorum 3"), "{list}");
}
