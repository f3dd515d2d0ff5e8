//! How fast one master is: not a test, a figure. Run with `--release --ignored --nocapture`.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, LONG, put};
use quorate_raft::Timing;

async fn measure(cluster: &Cluster, name: &str, in_flight: usize) {
    let time = Duration::from_secs(3);
    let leader = cluster.leader().await;
    let node = cluster.masters[leader].node();
    let before = node.status();
    let started = Instant::now();
    let mut writers = Vec::new();
    for writer in 0..in_flight {
        let node = node.clone();
        writers.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < time {
                let payload = put(&format!("k{writer}-{}", times.len() % 100), &[7; 1024]);
                let began = Instant::now();
                node.propose(payload, LONG).await.unwrap();
                times.push(began.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await.unwrap());
    }
    times.sort_unstable();
    let groups = node.status().group_commits - before.group_commits;
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    eprintln!(
        "{name}, {in_flight:>3} in flight: {rate:>7.0} writes/s, p50 {:?}, p99 {:?}, {:.1} per sync",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times.len() as f64 / groups as f64,
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, not a test"]
async fn writes_of_1_kib() {
    let mut cluster = Cluster::new();
    cluster.timing = Timing::default();
    cluster.first().await;
    for in_flight in [1, 64, 256] {
        measure(&cluster, "one master   ", in_flight).await;
    }
    cluster.shutdown().await;
    let mut cluster = Cluster::new();
    cluster.timing = Timing::default();
    let cluster = Cluster::three_with(cluster).await;
    for in_flight in [1, 64, 256] {
        measure(&cluster, "three masters", in_flight).await;
    }
    cluster.shutdown().await;
}
