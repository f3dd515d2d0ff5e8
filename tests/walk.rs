//! Three masters become five and three again, the leader among those that go, while clients write, watch and roll a
//! Deployment: no call to a master in service fails, nothing acknowledged is lost, each watcher hears of each change
//! once and in order. `cargo xtask masters-walk --rounds 20` does it that often.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]
#![allow(
    clippy::disallowed_methods,
    reason = "how often it is walked, cargo xtask says in the environment"
)]

mod common;

use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::load::{Load, Summary};
use common::{PATIENCE, step, until};
use serde_json::Value;

/// How often it is walked: CI does it this often.
const ROUNDS: usize = 2;

/// Says otherwise.
const ROUNDS_VARIABLE: &str = "QUORATE_WALK_ROUNDS";

fn voters(cluster: &Cluster, asked: usize) -> Vec<String> {
    let text = cluster.quorate_at(asked, &["masters", "list", "-o", "json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let masters = list["masters"].as_array().unwrap().iter();
    let voters = masters.filter(|master| master["voter"] == true);
    voters.map(|master| master["name"].as_str().unwrap().to_owned()).collect()
}

/// Two more; each is in service as soon as it says that it is ready.
async fn grow(cluster: &mut Cluster, load: &Load) {
    for _ in 0..2 {
        let (number, via) = (cluster.masters.len(), load.in_service()[0]);
        cluster.add_master(number, via);
        load.comes(number, &cluster.masters[number].url()).await;
        load.goes_on().await;
    }
    until("five vote", PATIENCE, || voters(cluster, load.in_service()[0]).len() == 5);
}

/// The leader and the one that has been there longest leave.
async fn shrink(cluster: &mut Cluster, load: &Load) {
    for leader_goes in [true, false] {
        let here = load.in_service();
        let leader = cluster.leader_as_seen_by(here[0]);
        let goes = match leader_goes {
            true => leader,
            false => here.iter().copied().find(|one| *one != leader).unwrap(),
        };
        // As a load balancer, or whoever has a kubeconfig, should have it; watchers and one client stay.
        load.goes(goes).await;
        let name = cluster.masters[goes].name.clone();
        let asked = load.in_service()[0];
        let began = Instant::now();
        // On a machine with too much to do nobody may take over in time: then it says so, and can be asked again.
        until("it is removed", PATIENCE, || {
            let output = cluster.tried_at(asked, &["masters", "remove", &name, "--yes"]);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            let (said, why) = (text(&output.stdout), text(&output.stderr));
            step(&format!("{said}{why} after {:?}", began.elapsed()));
            let unknown = ["outcome is not known", "did not take over", "no master is named"];
            assert!(
                output.status.success() || unknown.iter().any(|text| why.contains(text)),
                "{why}"
            );
            output.status.success() || why.contains("no master is named")
        });
        let old = &mut cluster.masters[goes].process;
        until("it has ended", PATIENCE, || !old.is_running());
        assert!(old.stopped().success(), "it did as it was told:\n{}", old.text());
        std::fs::remove_dir_all(&cluster.masters[goes].data).unwrap();
        load.gone(goes).await;
        load.goes_on().await;
    }
    let here = load.in_service();
    let names: Vec<String> =
        here.iter().map(|number| cluster.masters[*number].name.clone()).collect();
    for asked in here {
        until("three vote, and all know it", PATIENCE, || voters(cluster, asked) == names);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_masters_become_five_and_three_again_under_load() {
    let rounds = std::env::var(ROUNDS_VARIABLE).ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let mut cluster = Cluster::start(3);
    let urls: Vec<String> = cluster.masters.iter().map(|master| master.url()).collect();
    let load = Load::start(&cluster.kubeconfig(), &urls).await;
    load.goes_on().await;
    for round in 1..=rounds {
        let began = Instant::now();
        grow(&mut cluster, &load).await;
        shrink(&mut cluster, &load).await;
        let took = began.elapsed();
        step(&format!("=== round {round} of {rounds} took {took:?}: {}", load.so_far()));
    }
    let Summary { calls, rollouts, changes, longest, .. } = load.finish().await;
    let rounds = u64::try_from(rounds).unwrap();
    assert!(calls > 200 * rounds && changes > 200 * rounds, "{calls} calls, {changes} changes");
    assert!(rollouts > rounds, "{rollouts} rollouts");
    // No client had to wait as long as it would have given up.
    assert!(longest < Duration::from_secs(20), "{longest:?}");
}
