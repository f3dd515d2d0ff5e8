//! What a real master on a real disk keeps: through `kill -9`, from a damaged disk, on a full one.
//!
//! `QUORATE_KILLS=200 cargo test --test durability kill_9 -- --nocapture` for the long run.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the environment says how long the long runs are")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::api::Api;
use common::cluster::Cluster;
use common::disk::SmallDisk;
use common::{PATIENCE, free_port, until};
use http::Method;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()) | 1;
        let seed = std::env::var("QUORATE_SEED").map_or(seed, |text| text.parse().unwrap());
        eprintln!("QUORATE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Follows from name and generation; up to 60 KiB, mostly small.
fn filler(name: &str, generation: u64) -> String {
    let seed = name.bytes().fold(generation + 1, |seed, byte| seed * 31 + u64::from(byte));
    let mut random = Random((seed << 8) | 1);
    random.below(2);
    let words = if random.below(5) == 0 { random.below(4000) } else { random.below(20) };
    (0..words).map(|_| format!("{:015x}", random.below(u64::MAX >> 4))).collect()
}

fn map(name: &str, generation: u64) -> Vec<u8> {
    let data = json!({ "generation": generation.to_string(), "filler": filler(name, generation) });
    let metadata = json!({ "name": name });
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
    map.to_string().into_bytes()
}

/// What one object's only writer knows of it.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Last acknowledged generation, and the resourceVersion that was answered.
    acknowledged: Option<(u64, String)>,
    /// Last generation that was sent.
    sent: u64,
}

type Knowledge = Arc<Mutex<BTreeMap<String, Known>>>;

/// Writes one object after the other until the master does not answer; counts what was acknowledged.
async fn write(api: Api, writer: u64, knowledge: Knowledge, acknowledged: Arc<AtomicU64>) {
    for number in 0.. {
        let name = format!("map-{writer}-{}", number % 6);
        let (generation, exists) = {
            let mut knowledge = knowledge.lock().unwrap();
            let known = knowledge.entry(name.clone()).or_default();
            known.sent += 1;
            (known.sent, known.acknowledged.is_some())
        };
        let body = map(&name, generation);
        let answer = if exists {
            api.call(Method::PUT, &format!("{MAPS}/{name}"), body).await
        } else {
            api.call(Method::POST, MAPS, body).await
        };
        match answer {
            Ok((200 | 201, object)) => {
                let version = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
                let mut knowledge = knowledge.lock().unwrap();
                knowledge.get_mut(&name).unwrap().acknowledged = Some((generation, version));
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // Sent before the kill, there after it, never acknowledged: the check knows it by now.
            Ok((code, answer)) => panic!("{name} {generation}: {code} {answer}"),
            Err(_) => return,
        }
    }
}

/// Compares what the master has with what its writers know, and brings them level.
async fn check(api: &Api, knowledge: &Knowledge, round: u64) {
    let (code, list) = eventually(api, MAPS).await;
    assert_eq!(code, 200, "{list}");
    let mut found: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for object in list["items"].as_array().unwrap() {
        let name = object["metadata"]["name"].as_str().unwrap();
        let Some(generation) = object["data"]["generation"].as_str() else { continue };
        let generation = generation.parse().unwrap();
        let text = object["data"]["filler"].as_str().unwrap();
        assert_eq!(text, filler(name, generation), "round {round}: {name} is not whole");
        let version = object["metadata"]["resourceVersion"].as_str().unwrap();
        found.insert(name.to_owned(), (generation, version.to_owned()));
    }
    for (name, known) in knowledge.lock().unwrap().iter_mut() {
        let there = found.remove(name);
        if let Some((generation, version)) = &known.acknowledged {
            let (has, at) = there.as_ref().unwrap_or_else(|| {
                panic!("round {round}: {name} was acknowledged at {generation}, and is gone")
            });
            assert!(has >= generation, "round {round}: {name} is at {has}, not at {generation}");
            assert!(has > generation || at == version, "round {round}: {name} has another version");
        }
        let has = there.as_ref().map_or(0, |(has, _)| *has);
        assert!(has <= known.sent, "round {round}: {name} is at {has}, {} was sent", known.sent);
        known.acknowledged = there;
    }
    assert!(found.is_empty(), "round {round}: nobody wrote {found:?}");
}

/// The answer to a GET, as soon as there is one.
async fn eventually(api: &Api, path: &str) -> (u16, Value) {
    let began = std::time::Instant::now();
    loop {
        match api.get(path).await {
            Ok((200, answer)) => return (200, answer),
            other => assert!(began.elapsed() < PATIENCE, "{path}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_by_kill_9() {
    let kills = std::env::var("QUORATE_KILLS").map_or(10, |text| text.parse::<u64>().unwrap());
    let mut random = Random::new();
    let mut cluster = Cluster::start(1);
    let api = Api::new(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    let knowledge = Knowledge::default();
    let acknowledged = Arc::new(AtomicU64::new(0));
    for round in 1..=kills {
        check(&api, &knowledge, round).await;
        let writers: Vec<_> = (0..6)
            .map(|writer| write(api.clone(), writer, knowledge.clone(), acknowledged.clone()))
            .map(tokio::spawn)
            .collect();
        let before = acknowledged.load(Ordering::SeqCst);
        let began = std::time::Instant::now();
        while acknowledged.load(Ordering::SeqCst) == before {
            assert!(began.elapsed() < PATIENCE, "round {round}: nothing is acknowledged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // At any moment, also of a start.
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        cluster.masters[0].process.kill_9();
        for writer in writers {
            writer.await.unwrap();
        }
        if random.below(3) == 0 {
            cluster.restart(0);
            tokio::time::sleep(Duration::from_millis(random.below(1200))).await;
            cluster.masters[0].process.kill_9();
        }
        cluster.restart(0);
    }
    check(&api, &knowledge, kills + 1).await;
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    eprintln!("{acknowledged} acknowledged writes survived {kills} kills");
}

/// A master on a copy of another's data, until it says that it is ready or ends by itself.
fn start_on(data: &Path) -> Result<(), Output> {
    let [api, peer] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let kubeconfig = data.with_extension("kubeconfig");
    let log = data.with_extension("log");
    let out = std::fs::File::create(&log).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["server", "--name", "m0", "--listen", &api, "--peer-listen", &peer])
        .args([Path::new("--data"), data, Path::new("--kubeconfig"), &kubeconfig])
        .env("QUORATE_LOG_LEVEL", "warn,openraft=error")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ended = false;
    until("it is ready or refuses", PATIENCE, || {
        ended = child.try_wait().unwrap().is_some();
        ended || std::fs::read_to_string(&log).unwrap().contains("ready after")
    });
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    if ended { Err(output) } else { Ok(()) }
}

/// The complaint of a master that refused: one line, beside warnings of the log.
fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "a refusal must not look like success");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.contains("WARN") && !line.contains("ERROR")).collect();
    assert_eq!(lines.len(), 1, "one clear line, not:\n{text}");
    lines[0].to_owned()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

fn flip(path: &Path, at: impl Fn(usize) -> Vec<usize>) {
    let mut bytes = std::fs::read(path).unwrap();
    for at in at(bytes.len()) {
        bytes[at] ^= 0x10;
    }
    std::fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn snapshots(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("snapshots")).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "snap"));
    paths.sort();
    paths
}

/// Name, the file that is to be named, and the damage.
type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&Path));

/// Large objects, until the log was purged behind two snapshots.
async fn fill_until_purged(cluster: &Cluster) {
    let api = Api::new(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    let mut random = Random(77);
    let mut purged = false;
    for number in 0..400_u64 {
        let text: String = (0..50_000).map(|_| format!("{:015x}", random.below(1 << 60))).collect();
        let name = format!("large-{}", number % 8);
        let metadata = json!({ "name": name });
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": { "text": text } });
        let body = body.to_string().into_bytes();
        let (code, answer) = if number < 8 {
            api.call(Method::POST, MAPS, body).await.unwrap()
        } else {
            api.call(Method::PUT, &format!("{MAPS}/{name}"), body).await.unwrap()
        };
        assert!(code == 200 || code == 201, "{code} {answer}");
        // The write after the one that saw the purge: the log's writer keeps their order.
        if purged {
            return;
        }
        purged =
            number % 4 == 0 && api.text("/metrics").await.contains("quorate_raft_purged_index ");
    }
    panic!("the log was never purged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_disk_is_named_and_not_served_from() {
    let mut cluster = Cluster::start(1);
    fill_until_purged(&cluster).await;
    assert_eq!(
        snapshots(&cluster.masters[0].data).len(),
        2,
        "it is purged behind the first of two"
    );
    cluster.masters[0].process.kill_9();
    let data = cluster.masters[0].data.clone();
    let directory = tempfile::tempdir().unwrap();
    let damaged = |name: &str, damage: &dyn Fn(&Path)| {
        let path = directory.path().join(name);
        copy(&data, &path);
        damage(&path);
        let started = start_on(&path);
        (path, started)
    };
    let (_, whole) = damaged("whole", &|_| {});
    whole.expect("undamaged, it starts");
    // Every kibibyte of the log; half of it; the record of the last sync.
    let every = |length: usize| (100..length).step_by(1024).collect::<Vec<_>>();
    let log = |path: &Path| path.join("raft/db");
    let cases: [Case<'_>; 4] = [
        ("flipped", "raft/db", &|path| flip(&log(path), every)),
        ("cut", "raft/db", &|path| truncate(&log(path))),
        ("witness", "raft/synced", &|path| flip(&path.join("raft/synced"), |_| vec![9])),
        ("snapshots", ".snap", &|path| {
            snapshots(path).iter().for_each(|path| flip(path, |length| vec![length / 2]));
        }),
    ];
    for (name, file, damage) in cases {
        let (path, started) = damaged(name, damage);
        let complaint = complaint(&started.expect_err(name));
        assert!(complaint.contains(file) && complaint.contains("damaged"), "{name}: {complaint}");
        assert!(complaint.contains(path.to_str().unwrap()), "{name}: {complaint}");
    }
    // A master without its log would be another one under the same name.
    let (_, started) = damaged("gone", &|path| std::fs::remove_dir_all(path.join("raft")).unwrap());
    let text = complaint(&started.expect_err("gone"));
    assert!(text.contains("its log in") && text.contains("is gone"), "{text}");
    // One generation of snapshots may be lost: it says so, and has everything.
    let (path, started) = damaged("newest", &|path| truncate(snapshots(path).last().unwrap()));
    started.expect("the log reaches back to the snapshot before");
    let kept = std::fs::read_dir(path.join("snapshots")).unwrap();
    let names = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().any(|name| name.ends_with(".damaged")));
}

/// Tries until the answer has this code.
async fn until_code(api: &Api, method: Method, path: &str, body: Vec<u8>, code: u16) -> Value {
    let began = std::time::Instant::now();
    loop {
        let answer = api.call(method.clone(), path, body.clone()).await;
        match answer {
            Ok((got, value)) if got == code => return value,
            other => assert!(began.elapsed() < PATIENCE, "{method} {path}: {other:?}, not {code}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_deletes_only_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(512) else { return };
    // Too full to begin with.
    disk.leave(20);
    let complaint_of = |output: Output| complaint(&output);
    let refused = complaint_of(start_on(&disk.path().join("m")).unwrap_err());
    assert!(refused.contains("MiB free, 192 MiB are needed"), "{refused}");
    disk.leave(512);
    let mut cluster = Cluster::start_in(Some(disk.path()), 1);
    let api = Api::new(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    let path = |name: &str| format!("{MAPS}/{name}");
    for number in 0..6 {
        let name = format!("map-{number}");
        until_code(&api, Method::POST, MAPS, map(&name, 1), 201).await;
    }
    let ballast = cluster.masters[0].data.join("raft/ballast");
    assert!(ballast.exists());
    // Below the watermark: what grows is refused, deletes pass, reads go on.
    disk.leave(100);
    let refused = until_code(&api, Method::PUT, &path("map-0"), map("map-0", 2), 500).await;
    assert_eq!(refused["reason"], "InternalError");
    let text = refused["message"].as_str().unwrap();
    assert!(text.contains("no space") && text.contains("only deletes are taken"), "{text}");
    let (code, _) = api.call(Method::POST, MAPS, map("more", 1)).await.unwrap();
    assert_eq!(code, 500);
    let (code, _) = api.call(Method::DELETE, &path("map-0"), Vec::new()).await.unwrap();
    assert_eq!(code, 200);
    assert_eq!(api.get(&path("map-1")).await.unwrap().0, 200);
    // Nearly full: the ballast is given back, and deletes still pass.
    disk.leave(20);
    until("the ballast is given back", PATIENCE, || !ballast.exists());
    until_code(&api, Method::DELETE, &path("map-1"), Vec::new(), 200).await;
    // Full: nothing is written, but it lives and reads.
    disk.leave(4);
    until_code(&api, Method::DELETE, &path("map-2"), Vec::new(), 500).await;
    for _ in 0..20 {
        assert_eq!(api.get(&path("map-2")).await.unwrap().0, 200);
        assert!(cluster.masters[0].process.is_running());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Not started again on it; with room everything is there, and goes on.
    cluster.masters[0].process.kill_9();
    let refused = complaint_of(start_on(&cluster.masters[0].data).unwrap_err());
    assert!(refused.contains("MiB free, 48 MiB are needed"), "{refused}");
    disk.leave(512);
    cluster.restart(0);
    until_code(&api, Method::PUT, &path("map-3"), map("map-3", 3), 200).await;
    for (number, code) in [(0, 404), (1, 404), (2, 200), (3, 200), (4, 200), (5, 200)] {
        assert_eq!(api.get(&path(&format!("map-{number}"))).await.unwrap().0, code, "{number}");
    }
    until("the ballast is back", PATIENCE, || ballast.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_and_requests_have_kubernetes_limits() {
    let cluster = Cluster::start(1);
    let api = Api::new(&cluster.kubeconfig(), &cluster.masters[0].url()).await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = |name: &str, bytes: usize| {
        let labels = json!({ "app": name });
        let container = json!({ "name": "c", "image": "i",
            "env": [{ "name": "X", "value": "x".repeat(bytes) }] });
        let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name },
            "spec": { "replicas": 0, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels },
                    "spec": { "containers": [container] } } } });
        object.to_string().into_bytes()
    };
    let (code, answer) =
        api.call(Method::POST, deployments, deployment("fits", 1_500_000)).await.unwrap();
    assert_eq!(code, 201, "{answer}");
    let read = api.get(&format!("{deployments}/fits")).await.unwrap().1;
    let value = &read["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
    assert_eq!(value.as_str().unwrap().len(), 1_500_000);
    let (code, answer) =
        api.call(Method::POST, deployments, deployment("large", 1_600_000)).await.unwrap();
    assert_eq!((code, &answer["message"]), (500, &json!("etcdserver: request is too large")));
    assert_eq!(answer["kind"], "Status");
    let (code, answer) =
        api.call(Method::POST, deployments, deployment("huge", 3 << 20)).await.unwrap();
    assert_eq!((code, &answer["reason"]), (413, &json!("RequestEntityTooLarge")));
    assert_eq!(answer["message"], "Request entity too large: limit is 3145728");
    for name in ["large", "huge"] {
        assert_eq!(api.get(&format!("{deployments}/{name}")).await.unwrap().0, 404);
    }
    // Just below the limit of requests it is the object that is too large.
    let (code, _) =
        api.call(Method::POST, deployments, deployment("nearly", (3 << 20) - 2000)).await.unwrap();
    assert_eq!(code, 500);
}
