//! What a leader left half done: a membership change, a snapshot on its way; and a follower that is
//! further behind than the leader's memory reaches.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Cluster, LONG, eventually};
use quorate_points::{self as points, Point};
use quorate_raft::{Go, Member, MembershipError, NodeId, Reform, SnapshotRule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Waits until this master knows that the change is done: these vote, and no others.
async fn settled(cluster: &Cluster, at: usize, voters: &[usize]) {
    let mut want: Vec<NodeId> = voters.iter().map(|at| cluster.masters[*at].id).collect();
    want.sort_unstable();
    eventually("the membership change is finished", || {
        let status = cluster.masters[at].node().status();
        let members = status.members.iter().filter(|member| member.voter);
        let have: Vec<NodeId> = members.map(|member| member.id).collect();
        (!status.joint && have == want).then_some(())
    })
    .await;
}

/// Waits until a master has the joint configuration in its log.
async fn is_joint(cluster: &Cluster, at: usize) {
    eventually("the change has begun", || cluster.masters[at].node().status().joint.then_some(()))
        .await;
}

/// Learners that are level, so that only a majority is missing to make them voters.
async fn level(cluster: &Cluster, leader: usize, learners: &[usize]) {
    eventually("the learners are level", || {
        let members = cluster.masters[leader].node().members();
        let level = |at: &usize| {
            let id = cluster.masters[*at].id;
            members.iter().any(|m| m.id == id && m.matched.is_some() && m.lag <= Some(1))
        };
        learners.iter().all(level).then_some(())
    })
    .await;
}

/// One test at a time: points are those of the process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Somebody who is held at a point of the code.
struct Held {
    there: oneshot::Receiver<()>,
    on: std::sync::mpsc::SyncSender<()>,
}

/// The next who comes by this point waits there.
fn hold(point: Point) -> Held {
    let ((here, there), (on, waits)) = (oneshot::channel(), std::sync::mpsc::sync_channel(1));
    let first = Mutex::new(Some((here, waits)));
    points::everywhere(point, move || {
        let first = first.lock().unwrap().take();
        if let Some((here, waits)) = first {
            here.send(()).unwrap();
            waits.recv_timeout(LONG).unwrap();
        }
    });
    Held { there, on }
}

/// These die after the leader has looked who is there, and before it begins its change: that goes on without them.
async fn die_before_it_begins(cluster: &mut Cluster, held: Held, dead: &[usize]) {
    tokio::time::timeout(LONG, held.there).await.unwrap().unwrap();
    for at in dead {
        cluster.crash(*at).await;
    }
    held.on.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_leader_finishes_its_change_after_a_crash() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::new();
    cluster.first().await;
    let (two, three) = (cluster.join("m2").await, cluster.join("m3").await);
    level(&cluster, 0, &[two, three]).await;
    cluster.write("before", b"1").await;
    level(&cluster, 0, &[two, three]).await;
    let leader = cluster.masters[0].node().clone();
    let ids = [cluster.masters[two].id, cluster.masters[three].id];
    let held = hold(Point::MembershipBeforePromotion);
    let change = tokio::spawn(async move { leader.promote_all(&ids).await });
    // Without both the joint configuration has no majority among the new voters.
    die_before_it_begins(&mut cluster, held, &[two, three]).await;
    is_joint(&cluster, 0).await;
    cluster.crash(0).await;
    assert!(change.await.unwrap().is_err(), "nobody may be told that it was done");
    cluster.start(0).await;
    cluster.start(two).await;
    settled(&cluster, 0, &[0, two, three]).await;
    cluster.write("after", b"1").await;
    cluster.start(three).await;
    settled(&cluster, three, &[0, two, three]).await;
    cluster.masters[three].node().read_index(LONG).await.unwrap();
    assert_eq!(cluster.masters[three].get("before").unwrap(), b"1");
    assert_eq!(cluster.masters[three].get("after").unwrap(), b"1");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_finishes_the_change_of_a_dead_one() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::three().await;
    let (four, five) = (cluster.join("m4").await, cluster.join("m5").await);
    let leader = cluster.leader().await;
    cluster.write("before", b"1").await;
    level(&cluster, leader, &[four, five]).await;
    // Two of three old voters are a majority; of five new ones they are none.
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let (heir, down) = (others[0], others[1]);
    let node = cluster.masters[leader].node().clone();
    let ids = [cluster.masters[four].id, cluster.masters[five].id];
    let held = hold(Point::MembershipBeforePromotion);
    let change = tokio::spawn(async move { node.promote_all(&ids).await });
    die_before_it_begins(&mut cluster, held, &[four, five, down]).await;
    is_joint(&cluster, leader).await;
    is_joint(&cluster, heir).await;
    cluster.crash(leader).await;
    assert!(change.await.unwrap().is_err(), "nobody may be told that it was done");
    cluster.start(down).await;
    cluster.start(four).await;
    let voters = [0, 1, 2, four, five];
    settled(&cluster, heir, &voters).await;
    cluster.write("after", b"1").await;
    cluster.start(leader).await;
    settled(&cluster, leader, &voters).await;
    cluster.masters[leader].node().read_index(LONG).await.unwrap();
    assert_eq!(cluster.masters[leader].get("before").unwrap(), b"1");
    assert_eq!(cluster.masters[leader].get("after").unwrap(), b"1");
    cluster.shutdown().await;
}

/// The leader dies between the joint and the last configuration: the next one finishes the removal, and does not make a
/// learner of who was to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_its_leader_left_joint_is_finished_by_the_next_one() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::three().await;
    let (four, five) = (cluster.join("m4").await, cluster.join("m5").await);
    let ids = [four, five].map(|at| cluster.masters[at].id);
    let leader = cluster.leader().await;
    cluster.masters[leader].node().promote_all(&ids).await.unwrap();
    let leader = cluster.leader().await;
    level(&cluster, leader, &[0, 1, 2, four, five]).await;
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    let (heir, gone, down) = (others[0], others[1], [others[2], others[3]]);
    let node = cluster.masters[leader].node().clone();
    let held = hold(Point::MembershipBeforeRemoval);
    let id = cluster.masters[gone].id;
    let removal = {
        let node = node.clone();
        tokio::spawn(async move { node.remove(id).await })
    };
    // All answer when the leader looks: the joint configuration is in the logs of two of five.
    die_before_it_begins(&mut cluster, held, &[down[0], down[1], gone]).await;
    eventually("the change has begun", || node.status().joint.then_some(())).await;
    eventually("the heir has it", || cluster.masters[heir].node().status().joint.then_some(()))
        .await;
    drop(node);
    cluster.crash(leader).await;
    assert!(removal.await.unwrap().is_err(), "nobody may be told that it was done");
    for at in down {
        cluster.start(at).await;
    }
    let mut stay = vec![leader, heir, down[0], down[1]];
    stay.sort_unstable();
    settled(&cluster, heir, &stay).await;
    cluster.start(gone).await;
    let removed = cluster.masters[gone].node().removed();
    eventually("it learns that it was removed", || removed.borrow().clone()).await;
    cluster.start(leader).await;
    settled(&cluster, leader, &stay).await;
    cluster.write("after", b"1").await;
    cluster.shutdown().await;
}

/// Who asked is gone: what was begun is done all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_goes_on_without_who_asked_for_it() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    level(&cluster, leader, &[0, 1, 2]).await;
    let (gone, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    let (node, id) = (cluster.masters[leader].node().clone(), cluster.masters[gone].id);
    let held = hold(Point::MembershipBeforeRemoval);
    let asking = tokio::spawn(async move { node.remove(id).await });
    tokio::time::timeout(LONG, held.there).await.unwrap().unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    held.on.send(()).unwrap();
    settled(&cluster, leader, &[leader.min(stays), leader.max(stays)]).await;
    cluster.crash(gone).await;
    cluster.write("after", b"1").await;
    cluster.shutdown().await;
}

/// Between the death of a leader that was removing somebody, and the end of that, another change is asked for: it must
/// not make a learner of who is to go.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_change_ends_a_removal_in_another_way() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::three().await;
    let (four, five) = (cluster.join("m4").await, cluster.join("m5").await);
    let ids = [four, five].map(|at| cluster.masters[at].id);
    let leader = cluster.leader().await;
    cluster.masters[leader].node().promote_all(&ids).await.unwrap();
    let leader = cluster.leader().await;
    level(&cluster, leader, &[0, 1, 2, four, five]).await;
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    let (heir, gone, down) = (others[0], others[1], [others[2], others[3]]);
    let node = cluster.masters[leader].node().clone();
    let id = cluster.masters[gone].id;
    let held = hold(Point::MembershipBeforeRemoval);
    let removal = {
        let node = node.clone();
        tokio::spawn(async move { node.remove(id).await })
    };
    die_before_it_begins(&mut cluster, held, &[down[0], down[1], gone]).await;
    is_joint(&cluster, leader).await;
    // Else those who do not have it could elect one of them, and it was never begun.
    is_joint(&cluster, heir).await;
    drop(node);
    cluster.crash(leader).await;
    assert!(removal.await.unwrap().is_err());
    let finish = hold(Point::MembershipFinish);
    for at in [down[0], down[1], leader] {
        cluster.start(at).await;
    }
    tokio::time::timeout(LONG, finish.there).await.unwrap().unwrap();
    let next = cluster.leader().await;
    let node = cluster.masters[next].node().clone();
    let own = cluster.masters[next].id;
    let moved =
        Member { api_address: "elsewhere:6443".to_owned(), ..cluster.masters[next].member.clone() };
    let error = node.update_member(own, moved.clone()).await.unwrap_err();
    assert_eq!(error, MembershipError::InProgress);
    finish.on.send(()).unwrap();
    let stay: Vec<usize> = (0..5).filter(|at| *at != gone).collect();
    settled(&cluster, next, &stay).await;
    let leads = cluster.leader().await;
    let members = cluster.masters[leads].node().members();
    assert!(members.iter().all(|member| member.id != id), "{members:?}");
    cluster.shutdown().await;
}

/// A leader dies while it demotes a voter: the next one finishes that, and who was to be demoted stays a member.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_finishes_a_demotion() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::three().await;
    let (four, five) = (cluster.join("m4").await, cluster.join("m5").await);
    let ids = [four, five].map(|at| cluster.masters[at].id);
    let leader = cluster.leader().await;
    cluster.masters[leader].node().promote_all(&ids).await.unwrap();
    let leader = cluster.leader().await;
    level(&cluster, leader, &[0, 1, 2, four, five]).await;
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    let (heir, gone, down) = (others[0], others[1], [others[2], others[3]]);
    let node = cluster.masters[leader].node().clone();
    let id = cluster.masters[gone].id;
    let held = hold(Point::MembershipBeforeRemoval);
    let demotion = tokio::spawn(async move { node.reform(Reform::Demote(id), Go::AHEAD).await });
    die_before_it_begins(&mut cluster, held, &[down[0], down[1], gone]).await;
    is_joint(&cluster, leader).await;
    is_joint(&cluster, heir).await;
    cluster.crash(leader).await;
    assert!(demotion.await.unwrap().is_err(), "nobody may be told that it was done");
    // Without who is to go: those three, who do not have the change, could elect one of them.
    for at in [down[0], down[1], leader] {
        cluster.start(at).await;
    }
    let stay: Vec<usize> = (0..5).filter(|at| *at != gone).collect();
    settled(&cluster, heir, &stay).await;
    cluster.start(gone).await;
    settled(&cluster, gone, &stay).await;
    let members = cluster.masters[gone].node().members();
    let demoted = members.iter().find(|member| member.id == id).unwrap();
    assert!(!demoted.voter && demoted.member.standby, "{demoted:?}");
    cluster.write("after", b"1").await;
    cluster.masters[gone].node().read_index(LONG).await.unwrap();
    assert_eq!(cluster.masters[gone].get("after").unwrap(), b"1");
    cluster.shutdown().await;
}

/// Breaks each connection after so many bytes towards the target; counts those that it broke.
async fn forward(from: TcpStream, target: String, limit: u64, broken: Arc<AtomicU64>) {
    let Ok(to) = TcpStream::connect(target).await else { return };
    let ((mut from_asker, mut to_asker), (mut from_asked, mut to_asked)) =
        (from.into_split(), to.into_split());
    let there = async {
        let (mut passed, mut buffer) = (0, vec![0; 64 * 1024]);
        while let Ok(count @ 1..) = from_asker.read(&mut buffer).await {
            passed += count as u64;
            if passed > limit {
                broken.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if to_asked.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ = tokio::io::copy(&mut from_asked, &mut to_asker) => {}
    }
}

/// No connection ever carries the whole snapshot: it arrives only because each try goes on where the
/// one before was broken off.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_snapshot_transfer_goes_on_where_it_broke() {
    let _alone = ALONE.lock().await;
    // Less than half of the snapshot, and more than the largest message with log entries, which passes or does not.
    const LIMIT: u64 = 6 << 20;
    const _: () = assert!((quorate_raft::limits::LOG_READ_BYTES_MAX as u64) + (1 << 20) < LIMIT);
    let broken = Arc::new(AtomicU64::new(0));
    let limit = Arc::new(AtomicU64::new(u64::MAX));
    let mut cluster = Cluster::new();
    cluster.snapshots = SnapshotRule { log_bytes_min: 8 << 20, follow_state_size: false };
    let (counted, limited) = (broken.clone(), limit.clone());
    cluster.route = Some(Arc::new(move |_, address| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let (target, counted, limited) = (address.to_owned(), counted.clone(), limited.clone());
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let limit = limited.load(Ordering::Relaxed);
                tokio::spawn(forward(stream, target.clone(), limit, counted.clone()));
            }
        });
        own
    }));
    let mut cluster = Cluster::three_with(cluster).await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    cluster.crash(behind).await;
    let written = cluster.masters[leader].node().status().last_log;
    let mut seed = 1_u64;
    // Bytes that do not compress: 16 MiB of state.
    let value = |_| -> Vec<u8> {
        let next = |_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        };
        (0..64 * 1024).flat_map(next).collect()
    };
    cluster.write_until_purged(written, 32, 64, value).await;
    limit.store(LIMIT, Ordering::Relaxed);
    cluster.start(behind).await;
    cluster.masters[behind].node().read_index(4 * LONG).await.unwrap();
    assert!(broken.load(Ordering::Relaxed) >= 2, "nothing was broken off");
    let leader = cluster.leader().await;
    let states = [leader, behind].map(|at| cluster.masters[at].state.lock().unwrap().map.clone());
    assert_eq!(states[0], states[1]);
    cluster.shutdown().await;
}

/// The leader keeps only the end of the log in memory: what is older comes from its disk.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_further_behind_than_memory_reaches_gets_the_log_from_disk() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::new();
    cluster.snapshots = SnapshotRule { log_bytes_min: 1 << 40, follow_state_size: false };
    let mut cluster = Cluster::three_with(cluster).await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    cluster.crash(behind).await;
    let value = vec![7; 2 << 20];
    let count = quorate_raft::limits::LOG_TAIL_BYTES_MAX / value.len() + 8;
    for n in 0..count {
        cluster.write(&format!("k{}", n % 4), &value).await;
    }
    cluster.start(behind).await;
    cluster.masters[behind].node().read_index(4 * LONG).await.unwrap();
    let leader = cluster.leader().await;
    let states = [leader, behind].map(|at| cluster.masters[at].state.lock().unwrap().map.clone());
    assert!(states[0] == states[1], "the states differ");
    // Entries, not a snapshot.
    assert!(cluster.masters[behind].state.lock().unwrap().applied >= count as u64);
    assert_eq!(cluster.masters[leader].node().status().snapshot, None);
    cluster.shutdown().await;
}
