//! Exactly once, and linearizable, while answers between masters are lost and leaders go.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::network::Fault;
use common::{Cluster, create, image, key, until};
use quorate_raft::NodeId;
use quorate_state_machine::{Op, Outcome, Revision};
use quorate_store::{Consistency, Error, Store};

/// What one writer saw.
#[derive(Default)]
struct Saw {
    /// Revisions of acknowledged changes.
    acknowledged: Vec<Revision>,
    /// Writes whose outcome was answered as unknown.
    unknown: u64,
    /// Outcomes that can only come from a write that took effect twice.
    twice: Vec<String>,
}

/// Creates and deletes one object of its own again and again: a second execution of either answers
/// `AlreadyExists` or `NotFound`, or makes a change that nobody was told of.
async fn write(store: Store, name: String, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Saw {
    let mut saw = Saw::default();
    // Nothing is known of the object after an unknown outcome; a new one then.
    let (mut number, mut exists) = (0_u64, false);
    while !stop.load(Ordering::Relaxed) {
        let name = format!("{name}-{number}");
        let op = if exists {
            Op::Delete { key: key(&name), expect: None, uid: None }
        } else {
            create(&name)
        };
        match store.write_within(vec![op], Duration::from_secs(20)).await {
            Ok(outcomes) => match &outcomes[..] {
                [Outcome::Done(revision)] => {
                    saw.acknowledged.push(*revision);
                    exists = !exists;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                other => {
                    saw.twice.push(format!("{name}: {other:?}"));
                    return saw;
                }
            },
            Err(Error::Unknown { .. }) => {
                saw.unknown += 1;
                (number, exists) = (number + 1, false);
            }
            // Certainly not written: the count at the end checks that, too.
            Err(_) => {}
        }
    }
    saw
}

async fn some_more(done: &AtomicU64, count: u64) {
    let target = done.load(Ordering::Relaxed) + count;
    until(|| async { done.load(Ordering::Relaxed) >= target }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_takes_effect_once_while_answers_are_lost_and_leaders_go() {
    let mut cluster = Cluster::of(3).await;
    let ids: Vec<NodeId> = cluster.known.iter().map(|(id, _)| *id).collect();
    let before = cluster.masters[0].store.read(Consistency::Linearizable).await.unwrap().revision();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // No writer on the last master: that one is killed.
    let kill = 2;
    let writers: Vec<_> = (0..2)
        .flat_map(|at| (0..4).map(move |writer| (at, writer)))
        .map(|(at, writer)| {
            let store = cluster.masters[at].store.clone();
            let name = format!("w{at}-{writer}");
            tokio::spawn(write(store, name, stop.clone(), done.clone()))
        })
        .collect();
    for round in 0..4 {
        some_more(&done, 50).await;
        // Answers of the leader to the others are lost, then its connections break.
        let leader = cluster.leader().await;
        for fault in [Fault::AnswersLost, Fault::Refused, Fault::None] {
            for other in ids.iter().filter(|id| **id != ids[leader]) {
                cluster.network.set(*other, ids[leader], fault);
            }
            tokio::time::sleep(Duration::from_millis(if round % 2 == 0 { 150 } else { 700 })).await;
        }
        some_more(&done, 20).await;
        // The leader goes without a word, and comes back.
        if round % 2 == 1 {
            let to = cluster.masters[kill].masters.id();
            let leader = cluster.leader().await;
            if leader != kill {
                let moved = &cluster.masters[leader].masters;
                drop(moved.transfer_leader(Some(to)).await);
            }
            let gone = cluster.masters.remove(kill);
            gone.masters.abort().await;
            drop(gone);
            some_more(&done, 20).await;
            let back = cluster.restart(kill).await;
            cluster.masters.push(back);
        }
    }
    some_more(&done, 50).await;
    stop.store(true, Ordering::Relaxed);
    let mut by_revision = BTreeMap::new();
    let (mut acknowledged, mut unknown) = (0, 0);
    for writer in writers {
        let saw = writer.await.unwrap();
        assert_eq!(saw.twice, Vec::<String>::new());
        unknown += saw.unknown;
        for revision in saw.acknowledged {
            acknowledged += 1;
            assert_eq!(by_revision.insert(revision, ()), None, "{revision} was given out twice");
        }
    }
    for master in &cluster.masters {
        let view = master.store.read(Consistency::Linearizable).await.unwrap();
        let made = view.revision().0 - before.0;
        assert!(
            (acknowledged..=acknowledged + unknown).contains(&made),
            "{made} changes, {acknowledged} acknowledged, {unknown} unknown"
        );
        assert_eq!(view.hash(), quorate_state_machine::hash::of_view(&view));
    }
    eprintln!("{acknowledged} acknowledged, {unknown} unknown");
}

/// A counter that only grows: whatever a read gives must be at least what was acknowledged, or read by
/// anybody, before it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_never_stale_while_the_leader_is_cut_off_again_and_again() {
    let cluster = Cluster::of(3).await;
    let ids: Vec<NodeId> = cluster.known.iter().map(|(id, _)| *id).collect();
    cluster.masters[0].store.write(vec![create("counter")]).await.unwrap();
    let (stop, known) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reads = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for store in cluster.stores() {
        store.read(Consistency::Linearizable).await.unwrap();
        for _ in 0..2 {
            let (store, stop, known) = (store.clone(), stop.clone(), known.clone());
            let reads = reads.clone();
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let floor = known.load(Ordering::SeqCst);
                    let deadline = Duration::from_millis(800);
                    let read = store.read_within(Consistency::Linearizable, deadline).await;
                    let Ok(view) = read else { continue };
                    let found = view.get(&key("counter")).unwrap().revision.0;
                    assert!(found >= floor, "read {found}, but {floor} was known before");
                    known.fetch_max(found, Ordering::SeqCst);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let (stop, known) = (stop.clone(), known.clone());
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let stored = store.view().get(&key("counter")).unwrap().clone();
                let expect = stored.revision;
                let op = Op::Update { key: key("counter"), expect, image: image("1") };
                let written = store.write_within(vec![op], Duration::from_secs(2)).await;
                if let Ok([Outcome::Done(revision)]) = written.as_deref() {
                    known.fetch_max(revision.0, Ordering::SeqCst);
                }
            }
        }));
    }
    let grown = async |by: u64| {
        let target = known.load(Ordering::SeqCst) + by;
        until(|| async { known.load(Ordering::SeqCst) >= target }).await;
    };
    for _ in 0..3 {
        grown(20).await;
        let leader = cluster.leader().await;
        cluster.network.isolate(ids[leader], &ids, Fault::Cut);
        // The others go on without it.
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        until(|| async {
            let leads = |at: &usize| cluster.masters[*at].store.lead().is_some();
            others.iter().any(leads)
        })
        .await;
        grown(20).await;
        // The old leader must not answer from what it has.
        let old = &cluster.masters[leader].store;
        let asked = Instant::now();
        let read = old.read_within(Consistency::Linearizable, Duration::from_millis(500)).await;
        assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
        assert!(asked.elapsed() >= Duration::from_millis(500));
        cluster.network.isolate(ids[leader], &ids, Fault::None);
        let level = old.read_within(Consistency::Linearizable, common::PATIENCE).await.unwrap();
        assert!(level.get(&key("counter")).is_some());
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    assert!(reads.load(Ordering::Relaxed) > 50, "too few reads to say anything");
}
