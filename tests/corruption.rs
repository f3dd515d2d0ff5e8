//! Bits that flip in the memory and on the disk of a master, and what comes of them: found, told, healed, and nobody is
//! served a wrong byte after that. And the limits that keep a store from growing without end.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::api::Api;
use common::cluster::Cluster;
use common::documented::value;
use common::memory::{flip_in_file, flip_in_file_at, flip_in_memory};
use common::{PATIENCE, step};
use http::Method;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// So that a test sees several looks.
const EAGER: [&str; 2] = ["--scrub-interval", "100ms"];

fn map(name: &str, text: &str) -> Vec<u8> {
    let metadata = json!({ "name": name });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "text": text } })
        .to_string()
        .into_bytes()
}

async fn api(cluster: &Cluster, number: usize) -> Api {
    Api::new(&cluster.kubeconfig(), &cluster.masters[number].url()).await
}

async fn create(api: &Api, name: &str, text: &str) -> (u16, Value) {
    api.call(Method::POST, MAPS, map(name, text)).await.unwrap()
}

/// Waits for something of one master.
async fn comes<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    step(&format!("wait until {what}"));
    let began = Instant::now();
    loop {
        if let Some(came) = look().await {
            return came;
        }
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until one of its counters is there.
async fn counts(api: &Api, series: &str, wanted: f64) {
    comes(&format!("{series} is {wanted}"), async || {
        let text = api.text("/metrics").await;
        (value(&text, series) == Some(wanted)).then_some(())
    })
    .await;
}

const DAMAGED: &str = "quorate_scrub_damaged_total{what=\"state\"}";
const HEALED: &str = "quorate_scrub_healed_total{what=\"state\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_in_memory_are_found_and_healed() {
    let cluster = Cluster::start_with(3, &EAGER);
    let leader = cluster.leader();
    for (round, number) in [cluster.others(leader)[0], leader].into_iter().enumerate() {
        let marker = format!("a-text-that-stands-nowhere-else-in-round-{round}");
        let name = format!("marked-{round}");
        let at = api(&cluster, number).await;
        let (code, made) = create(&at, &name, &marker).await;
        assert_eq!(code, 201, "{made}");
        let path = format!("{MAPS}/{name}");
        let before = at.get(&path).await.unwrap();
        let version = made["metadata"]["resourceVersion"].as_str().unwrap();
        // Someone who watches there must look at everything again.
        let watched = format!("{MAPS}?watch=true&resourceVersion={version}");
        let watching = tokio::spawn({
            let at = api(&cluster, number).await;
            async move { at.text(&watched).await }
        });
        let pid = cluster.masters[number].process.pid();
        step(&format!("bits flip in the memory of m{number}"));
        assert!(flip_in_memory(pid, marker.as_bytes()) > 0, "it is nowhere in its memory");
        counts(&at, DAMAGED, 1.0).await;
        // From here on only the truth is told, or nothing.
        comes("it is healed", async || match at.get(&path).await.unwrap() {
            (200, shown) => {
                assert_eq!(shown, before.1);
                Some(())
            }
            (503, refused) => {
                let said = refused["message"].as_str().unwrap();
                assert!(said.contains("out of service until it is healed"), "{said}");
                assert!(said.contains(&format!("configmaps default/{name}")), "{said}");
                None
            }
            other => panic!("{other:?}"),
        })
        .await;
        counts(&at, HEALED, 1.0).await;
        let told = tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
        assert!(told.contains("\"code\":410"), "{told}");
        let (code, _) = create(&at, &format!("after-{round}"), "x").await;
        assert_eq!(code, 201, "it works as before");
        // All have the same again.
        comes("all have the same", async || {
            let all = cluster.quorate(&["status", "-o", "json"]);
            let status: Value = serde_json::from_str(&all).unwrap();
            (status["alarms"] == json!([])).then_some(())
        })
        .await;
    }
    assert_ne!(cluster.leader(), leader, "a leader that is damaged leads no longer");
    // What was healed is what it starts from.
    let mut cluster = cluster;
    for number in 0..3 {
        cluster.masters[number].process.kill_9();
    }
    for number in 0..3 {
        cluster.restart(number);
    }
    for number in 0..3 {
        cluster.masters[number].process.says_again("ready after");
        let at = api(&cluster, number).await;
        let (code, list) = at.get(MAPS).await.unwrap();
        assert_eq!(code, 200, "{list}");
        let names = list["items"].as_array().unwrap().len();
        assert_eq!(names, 5, "kube-root-ca.crt and four: {list}");
    }
}

fn snapshots(cluster: &Cluster, number: usize, extension: &str) -> Vec<PathBuf> {
    let items = std::fs::read_dir(cluster.masters[number].data.join("snapshots")).unwrap();
    let paths = items.map(|item| item.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|is| is == extension)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_made_anew() {
    let cluster = Cluster::start_with(1, &EAGER);
    let at = api(&cluster, 0).await;
    let text = "some text that makes the log long ".repeat(20_000);
    for number in 0..200 {
        let body = map("long", &format!("{number} {text}"));
        let answer = match number {
            0 => at.call(Method::POST, MAPS, body).await,
            _ => at.call(Method::PUT, &format!("{MAPS}/long"), body).await,
        };
        let (code, said) = answer.unwrap();
        assert!(code == 200 || code == 201, "{said}");
        if !snapshots(&cluster, 0, "snap").is_empty() {
            break;
        }
    }
    let damaged = comes("there is a snapshot", async || snapshots(&cluster, 0, "snap").pop()).await;
    step("a bit flips in it");
    flip_in_file(&damaged);
    counts(&at, "quorate_scrub_damaged_total{what=\"file\"}", 1.0).await;
    counts(&at, "quorate_scrub_healed_total{what=\"file\"}", 1.0).await;
    assert_eq!(
        snapshots(&cluster, 0, "damaged").len(),
        1,
        "it is kept for who wants to look at it"
    );
    assert!(!snapshots(&cluster, 0, "snap").is_empty());
    let (code, _) = at.get(&format!("{MAPS}/long")).await.unwrap();
    assert_eq!(code, 200, "nobody was refused anything");
}

/// The log's store reads its file at the next start only: a bit that flips in it must be found before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_written_anew() {
    let mut cluster = Cluster::start_with(3, &EAGER);
    let leader = cluster.leader();
    for (round, number) in [cluster.others(leader)[0], leader].into_iter().enumerate() {
        let at = api(&cluster, number).await;
        let (code, said) = create(&at, &format!("before-{round}"), "x").await;
        assert_eq!(code, 201, "{said}");
        step(&format!("a bit flips in the log of m{number}"));
        let log = cluster.masters[number].data.join("raft/db");
        let used = std::fs::read(&log).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
        flip_in_file_at(&log, used as u64 / 2);
        counts(&at, "quorate_scrub_damaged_total{what=\"file\"}", 1.0).await;
        counts(&at, "quorate_scrub_healed_total{what=\"file\"}", 1.0).await;
        let (code, said) = create(&at, &format!("after-{round}"), "x").await;
        assert_eq!(code, 201, "nobody was refused anything: {said}");
        step("it starts again");
        cluster.masters[number].process.kill_9();
        cluster.restart(number);
        cluster.masters[number].process.says_again("ready after");
        let at = api(&cluster, number).await;
        let (code, list) = at.get(MAPS).await.unwrap();
        assert_eq!(code, 200, "{list}");
        let names = list["items"].as_array().unwrap().len();
        assert_eq!(names, 3 + 2 * round, "{list}");
    }
    comes("no alarm is left", async || {
        let all = cluster.quorate(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&all).unwrap();
        (status["alarms"] == json!([])).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_kept_and_ends_with_a_delete() {
    let cluster = Cluster::start_with(1, &["--quota-backend-bytes", "4Mi"]);
    let at = api(&cluster, 0).await;
    let text = "x".repeat(500_000);
    let mut made = 0;
    let refused = loop {
        let (code, said) = create(&at, &format!("large-{made}"), &text).await;
        if code != 201 {
            break said;
        }
        made += 1;
        assert!(made < 20, "it was never refused");
    };
    assert_eq!(refused["code"], 500, "{refused}");
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("its quota is 4194304") && said.contains("only deletes"), "{said}");
    let status = cluster.quorate(&["status"]);
    assert!(status.contains("QUOTA"), "{status}");
    let (code, said) =
        at.call(Method::DELETE, &format!("{MAPS}/large-0"), Vec::new()).await.unwrap();
    assert_eq!(code, 200, "{said}");
    let (code, said) = create(&at, "small", "x").await;
    assert_eq!(code, 201, "there is room again: {said}");
    assert!(!cluster.quorate(&["status"]).contains("QUOTA"));
}
