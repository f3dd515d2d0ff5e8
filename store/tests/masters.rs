//! Masters on real Raft, with real TLS and real disks, in one process: what the store promises
//! whichever master is asked.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Cluster, PATIENCE, create, image, key, until};
use quorate_state_machine::{Op, Outcome};
use quorate_store::{Consistency, Error, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_master_takes_writes_and_every_master_then_shows_them() {
    let cluster = Cluster::of(3).await;
    let stores = cluster.stores();
    for (writer, store) in stores.iter().enumerate() {
        let name = format!("by-{writer}");
        let outcomes = store.write(vec![create(&name)]).await.unwrap();
        let revision = outcomes[0].done().unwrap();
        for reader in &stores {
            let view = reader.read(Consistency::Linearizable).await.unwrap();
            assert_eq!(view.get(&key(&name)).unwrap().revision, revision);
            assert_eq!(view.hash(), quorate_state_machine::hash::of_view(&view));
        }
        let again = store.write(vec![create(&name)]).await.unwrap();
        assert_eq!(again, [Outcome::AlreadyExists(revision)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_on_a_follower_gets_every_change_in_order() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let stores = cluster.stores();
    let follower = &stores[(leader + 1) % 3];
    let from = follower.view().revision();
    let mut watch = follower.watch(key("x").resource, from);
    let mut written = Vec::new();
    for number in 0..50 {
        let store = &stores[number % 3];
        let outcomes = store.write(vec![create(&format!("o{number}"))]).await.unwrap();
        written.push(outcomes[0].done().unwrap());
    }
    let mut seen = Vec::new();
    while seen.len() < written.len() {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        seen.extend(batch.changes.iter().map(|change| change.revision));
    }
    assert_eq!(seen, written);
}

/// Counts up by compare-and-set until told to stop; gives how many were acknowledged, and how many
/// may or may not have happened.
async fn count_up(store: Store, stop: tokio::sync::watch::Receiver<bool>) -> (u64, u64) {
    let (mut acknowledged, mut unknown) = (0, 0);
    while !*stop.borrow() {
        let Ok(view) = store.read(Consistency::Linearizable).await else { continue };
        let stored = view.get(&key("counter")).unwrap().clone();
        let text = String::from_utf8(stored.image.bytes.to_vec()).unwrap();
        let value: u64 = text.split('"').nth(7).unwrap().parse().unwrap();
        let op = Op::Update {
            key: key("counter"),
            expect: stored.revision,
            image: image(&(value + 1).to_string()),
        };
        match store.write_within(vec![op], Duration::from_secs(10)).await {
            Ok(outcomes) if outcomes[0].done().is_some() => acknowledged += 1,
            Ok(_) => {}
            Err(Error::Unknown { .. }) => unknown += 1,
            Err(_) => {}
        }
    }
    (acknowledged, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_goes_costs_clients_of_the_others_no_error_and_no_write_happens_twice() {
    let mut cluster = Cluster::of(3).await;
    cluster.masters[0].store.write(vec![create("counter")]).await.unwrap();
    let leader = cluster.leader().await;
    let survivors: Vec<Store> = cluster
        .stores()
        .into_iter()
        .enumerate()
        .filter(|(position, _)| *position != leader)
        .map(|(_, store)| store)
        .collect();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let counters: Vec<_> = survivors
        .iter()
        .flat_map(|store| (0..4).map(|_| tokio::spawn(count_up(store.clone(), stopped.clone()))))
        .collect();
    let value = |store: &Store| {
        let view = store.view();
        let bytes = view.get(&key("counter")).unwrap().image.bytes.to_vec();
        let text = String::from_utf8(bytes).unwrap();
        text.split('"').nth(7).unwrap().parse::<u64>().unwrap()
    };
    survivors[0].read(Consistency::Linearizable).await.unwrap();
    until(|| async { value(&survivors[0]) > 20 }).await;
    let gone = cluster.masters.remove(leader);
    gone.masters.shutdown().await;
    let at_change = value(&survivors[0]);
    until(|| async { value(&survivors[0]) > at_change + 20 }).await;
    stop.send(true).unwrap();
    let (mut acknowledged, mut unknown) = (0, 0);
    for counter in counters {
        let (acks, unknowns) = counter.await.unwrap();
        acknowledged += acks;
        unknown += unknowns;
    }
    let views: Vec<Arc<_>> = vec![
        survivors[0].read(Consistency::Linearizable).await.unwrap(),
        survivors[1].read(Consistency::Linearizable).await.unwrap(),
    ];
    assert_eq!(
        views[0].get(&key("counter")).unwrap().image,
        views[1].get(&key("counter")).unwrap().image
    );
    assert_eq!(unknown, 0, "sessions make a retry safe, so nothing is left open");
    assert_eq!(value(&survivors[0]), acknowledged, "each acknowledged increment, exactly once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_acknowledged_and_reads_say_so() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    cluster.masters[leader].store.write(vec![create("before")]).await.unwrap();
    let survivor = cluster.masters.remove((leader + 1) % 3);
    for master in &cluster.masters {
        // As kill -9 would do it is the crash tests' business; here only the quorum counts.
        master.masters.shutdown().await;
    }
    let deadline = Duration::from_millis(1500);
    let written = survivor.store.write_within(vec![create("after")], deadline).await;
    assert!(
        matches!(written, Err(Error::Unavailable { .. } | Error::Unknown { .. })),
        "{written:?}"
    );
    let read = survivor.store.read_within(Consistency::Linearizable, deadline).await;
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    // What was acknowledged before is still there for whoever asks for any state.
    let view = survivor.store.read(Consistency::Any).await.unwrap();
    assert!(view.get(&key("before")).is_some() || view.get(&key("after")).is_none());
}

/// The first writes take all slots of the batcher; those behind them are never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_gave_up_in_the_queue_is_not_written_later() {
    let mut cluster = Cluster::of(3).await;
    cluster.masters[0].store.write(vec![create("before")]).await.unwrap();
    for at in [1, 2] {
        cluster.masters[at].masters.abort().await;
    }
    cluster.masters.truncate(1);
    let store = &cluster.masters[0].store;
    let mut first = Vec::new();
    for number in 0..2 * quorate_store::limits::BATCHES_IN_FLIGHT_MAX {
        let (store, name) = (store.clone(), format!("first-{number}"));
        first.push(tokio::spawn(
            async move { store.write_within(vec![create(&name)], PATIENCE).await },
        ));
        // One entry each.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut tries = 0;
    let late = loop {
        let name = format!("late-{tries}");
        let late = store.write_within(vec![create(&name)], Duration::from_millis(500)).await;
        if matches!(late, Err(Error::Unavailable { .. })) {
            break name;
        }
        // The first ones went together, so there was a slot left: now it is taken.
        tries += 1;
        assert!(tries <= quorate_store::limits::BATCHES_IN_FLIGHT_MAX, "{late:?}");
    };
    // One whose caller hangs up.
    let gone = store.write_within(vec![create("gone")], PATIENCE);
    assert!(tokio::time::timeout(Duration::from_millis(200), gone).await.is_err());
    let back = cluster.restart(1).await;
    for write in first {
        let outcome = write.await.unwrap().unwrap();
        assert!(outcome[0].done().is_some(), "{outcome:?}");
    }
    let view = back.store.read_within(Consistency::Linearizable, PATIENCE).await.unwrap();
    assert!(view.get(&key("first-0")).is_some());
    for name in [late.as_str(), "gone"] {
        assert!(view.get(&key(name)).is_none(), "{name} was written though nobody waited for it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_was_never_level_does_not_answer_from_what_it_has() {
    let mut cluster = Cluster::of(1).await;
    cluster.masters[0].store.write(vec![create("a")]).await.unwrap();
    cluster.learner().await;
    until(|| async { cluster.masters[1].store.view().get(&key("a")).is_some() }).await;
    for master in cluster.masters.drain(..).rev() {
        master.masters.abort().await;
    }
    let again = cluster.restart(1).await;
    assert!(again.store.view().get(&key("a")).is_some(), "it has something to be wrong with");
    let read = again.store.read_within(Consistency::Any, Duration::from_millis(500)).await;
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    // A voter was level before it voted.
    let voter = cluster.restart(0).await;
    voter.store.read_within(Consistency::Any, Duration::from_millis(500)).await.unwrap();
}

/// It tries again for as long as its deadline allows, but not where nothing can change any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_for_a_leader_ends_with_its_master() {
    let cluster = Cluster::of(2).await;
    cluster.masters[0].masters.abort().await;
    let master = &cluster.masters[1];
    let store = master.store.clone();
    let waiting =
        tokio::spawn(async move { store.write_within(vec![create("a")], 4 * PATIENCE).await });
    master.masters.abort().await;
    let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("it ends").unwrap();
    assert!(matches!(ended, Err(Error::Stopped { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_for_an_ended_leadership_is_refused() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let lead = cluster.masters[leader].store.lead().unwrap();
    lead.write(vec![create("while-leading")]).await.unwrap();
    cluster.masters[leader].masters.transfer_leader(None).await.unwrap();
    until(|| async { !lead.holds() }).await;
    let refused = lead.write(vec![create("after")]).await;
    assert!(matches!(refused, Err(Error::Deposed)), "{refused:?}");
    // Also when this master leads again.
    let back = cluster.masters[leader].masters.id();
    until(|| async {
        // Whoever has just lost it may say for a moment longer that it leads, and refuse.
        let other = cluster.leader().await;
        let asked = cluster.masters[other].masters.transfer_leader(Some(back)).await;
        asked.is_ok() || cluster.masters[leader].store.lead().is_some()
    })
    .await;
    until(|| async { cluster.masters[leader].store.lead().is_some() }).await;
    let refused = lead.write(vec![create("after")]).await;
    assert!(matches!(refused, Err(Error::Deposed)), "{refused:?}");
}
