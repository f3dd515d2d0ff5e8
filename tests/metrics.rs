//! What masters count: served as `docs/metrics.md` says, and true.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::api::Api;
use common::cluster::Cluster;
use common::documented::{self, Metrics, value};
use common::{PATIENCE, step};
use http::Method;
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn apis(cluster: &Cluster) -> Vec<Api> {
    let mut apis = Vec::new();
    for master in &cluster.masters {
        apis.push(Api::new(&cluster.kubeconfig(), &master.url()).await);
    }
    apis
}

/// `/metrics` of one master, as soon as it shows what is wanted.
async fn shows(api: &Api, what: &str, holds: impl Fn(&str) -> bool) -> String {
    step(&format!("wait until {what}"));
    let began = std::time::Instant::now();
    loop {
        let text = api.text("/metrics").await;
        if holds(&text) {
            return text;
        }
        assert!(began.elapsed() < PATIENCE, "not in time: {what}\n{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes at the leader until every master has taken a snapshot and purged its log.
async fn fill_until_purged(apis: &[Api], leader: usize) {
    let text: String = (0..900_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    for number in 0..200 {
        let name = format!("map-{}", number % 8);
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
            "data": { "text": text, "number": number.to_string() } });
        let body = body.to_string().into_bytes();
        let (method, path) = if number < 8 {
            (Method::POST, MAPS.to_owned())
        } else {
            (Method::PUT, format!("{MAPS}/{name}"))
        };
        let (code, answer) = apis[leader].call(method, &path, body).await.unwrap();
        assert!(code == 200 || code == 201, "{code} {answer}");
        if number % 8 == 0
            && apis[leader].text("/metrics").await.contains("quorate_raft_purged_index ")
        {
            return;
        }
    }
    panic!("the log was never purged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_masters_serve_is_what_the_documentation_says() {
    let cluster = Cluster::start(3);
    let apis = apis(&cluster).await;
    let leader = cluster.leader();
    fill_until_purged(&apis, leader).await;
    let mut served = Metrics::new();
    for api in &apis {
        documented::add_served(&api.text("/metrics").await, &mut served);
    }
    let mentioned = documented::mentioned();
    let missing: Vec<&String> = served.keys().filter(|name| !mentioned.contains(*name)).collect();
    assert!(missing.is_empty(), "served, and not in docs/metrics.md: {missing:?}");
    served.retain(|name, _| name.starts_with("quorate_"));
    let tables = documented::in_tables();
    for (name, documented) in &tables {
        let served = served.get(name);
        assert_eq!(served, Some(documented), "{name} as it is served, and in docs/metrics.md");
    }
    assert_eq!(served.keys().collect::<BTreeSet<_>>(), tables.keys().collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_follow_what_happens() {
    let mut cluster = Cluster::start(3);
    let apis = apis(&cluster).await;
    cluster.quorate(&["masters", "transfer-leader", "m0"]);
    let all = |text: &str, wanted: &[(&str, f64)]| {
        wanted.iter().all(|(series, wanted)| value(text, series) == Some(*wanted))
    };
    let leads = [
        ("quorate_raft_is_leader", 1.0),
        ("quorate_raft_voters", 3.0),
        ("quorate_raft_learners", 0.0),
        ("quorate_raft_voters_in_contact", 3.0),
        ("quorate_raft_peer_trailing_entries{peer=\"m1\"}", 0.0),
        ("quorate_raft_peer_trailing_entries{peer=\"m2\"}", 0.0),
        ("quorate_alarm{alarm=\"NOSPACE\"}", 0.0),
    ];
    let text = shows(&apis[0], "the leader knows all", |text| all(text, &leads)).await;
    let number = |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series}:\n{text}"));
    let fsyncs = number("quorate_raft_log_fsync_duration_seconds_count");
    assert!(fsyncs > 10.0 && fsyncs <= number("quorate_raft_group_commits") + 1.0, "{fsyncs}");
    assert!(number("quorate_raft_log_fsync_duration_seconds_sum") > 0.0);
    assert!(number("quorate_raft_proposal_duration_seconds_count") > 10.0);
    assert!(number("quorate_raft_peer_round_trip_seconds_count{peer=\"m2\"}") > 1.0);
    assert!(number("quorate_raft_log_disk_bytes") > number("quorate_raft_log_bytes"));
    let year = f64::from(366 * 24 * 3600);
    let certificate =
        number("quorate_certificate_expiration_timestamp_seconds{certificate=\"serving\"}");
    let left = certificate - number("process_start_time_seconds");
    assert!(left > year / 2.0 && left <= year, "{left} s are left");
    let changes = number("quorate_raft_leader_changes_total");
    let follower = apis[1].text("/metrics").await;
    assert_eq!(value(&follower, "quorate_raft_is_leader"), Some(0.0));
    assert_eq!(value(&follower, "quorate_raft_voters_in_contact"), None);
    assert_eq!(value(&follower, "quorate_raft_term"), Some(number("quorate_raft_term")));
    let stood = value(&follower, "quorate_raft_elections_total").unwrap();

    cluster.quorate(&["masters", "transfer-leader", "m1"]);
    let now = |text: &str| value(text, "quorate_raft_leader_changes_total");
    shows(&apis[0], "it has seen another leader", |text| now(text) > Some(changes)).await;
    let text = apis[1].text("/metrics").await;
    assert_eq!(value(&text, "quorate_raft_elections_total"), Some(stood + 1.0), "it stood once");

    let failures = "quorate_raft_peer_failures_total{peer=\"m2\"}";
    let before = value(&text, failures).unwrap_or_default();
    cluster.masters[2].process.kill_9();
    let down = shows(&apis[1], "the dead one is missed", |text| {
        value(text, "quorate_raft_voters_in_contact") == Some(2.0)
    })
    .await;
    assert!(value(&down, failures) > Some(before), "{down}");
    cluster.quorate_at(1, &["masters", "remove", "m2", "--yes"]);
    let gone = shows(&apis[1], "it has no series", |text| !text.contains("peer=\"m2\"")).await;
    assert_eq!(value(&gone, "quorate_raft_voters"), Some(2.0));
}
