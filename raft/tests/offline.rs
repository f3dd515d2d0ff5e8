//! A quorum that is lost for good: what one master still has becomes a new cluster, and the old one stays out of it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use common::{Cluster, Machine, SECOND, State, eventually, put};
use quorate_raft::offline::{Seed, Standing, Survivor, seed};
use quorate_raft::{LogIndex, NodeId, ProposeError, StateMachine, Term};

const BEGIN: LogIndex = LogIndex(2_000_000_000);

/// What a master's directory has in the end, and how far it came.
fn read(cluster: &Cluster, at: usize) -> (State, Standing) {
    let master = &cluster.masters[at];
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("copy");
    let survivor = Survivor::open(master.dir.path(), &cluster.id, master.id, &copy).unwrap();
    let state = Arc::new(Mutex::new(State::default()));
    survivor.replay(&mut Machine(state.clone())).unwrap();
    let state = state.lock().unwrap().clone();
    (state, survivor.standing().clone())
}

/// Makes a new cluster of a state, at the address and under the name of the master at this position.
fn reborn(cluster: &Cluster, at: usize, mut state: State, term: Term) -> Cluster {
    let mut new = Cluster::new();
    new.id = "another-cluster".to_owned();
    let position = new.prepare(NodeId(BEGIN.0), "m1");
    let (address, member) = (cluster.masters[at].address, cluster.masters[at].member.clone());
    (new.masters[position].address, new.masters[position].member) = (address, member.clone());
    state.index = BEGIN.0;
    let writer = Machine(Arc::new(Mutex::new(state))).snapshot();
    let plan = Seed {
        data_dir: new.masters[position].dir.path(),
        cluster_id: &new.id,
        member,
        index: BEGIN,
        term,
        state_bytes: 0,
    };
    assert_eq!(seed(&plan, writer).unwrap(), NodeId(BEGIN.0));
    new
}

fn files(directory: &Path, found: &mut BTreeMap<String, (Vec<u8>, SystemTime)>) {
    for item in std::fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let written = path.metadata().unwrap().modified().unwrap();
            found.insert(path.display().to_string(), (std::fs::read(&path).unwrap(), written));
        }
    }
}

/// Three masters of which the leader alone is left, with an entry that nobody else has.
async fn one_left() -> (Cluster, usize) {
    let mut cluster = Cluster::three().await;
    cluster.snapshots.log_bytes_min = 1;
    cluster.write("decided", b"1").await;
    let leader = cluster.leader().await;
    for other in (0..3).filter(|at| *at != leader) {
        cluster.crash(other).await;
    }
    let node = cluster.masters[leader].node().clone();
    let lonely = node.propose(put("undecided", b"2"), SECOND).await;
    assert!(matches!(lonely, Err(ProposeError::Unknown { .. })), "{lonely:?}");
    drop(node);
    cluster.crash(leader).await;
    (cluster, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_shows_all_that_it_has_and_is_left_as_it_was() {
    let (cluster, left) = one_left().await;
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    files(cluster.masters[left].dir.path(), &mut before);
    let (state, standing) = read(&cluster, left);
    files(cluster.masters[left].dir.path(), &mut after);
    assert!(before == after, "something in the directory was written");
    assert!(state.map.contains_key(&b"decided"[..]) && state.map.contains_key(&b"undecided"[..]));
    assert!(standing.last > standing.committed, "{standing:?}");
    assert_eq!(standing.members.len(), 3);
    assert!(standing.members.iter().all(|(_, _, voter)| *voter) && standing.refused.is_none());
    let newest = before.values().map(|(_, written)| *written).max();
    assert!(standing.written.is_some() && standing.written <= newest);
    // Another one was behind: that is how one chooses.
    let other = (left + 1) % 3;
    let (_, less) = read(&cluster, other);
    assert!((less.last_term, less.last) < (standing.last_term, standing.last), "{less:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_goes_on_and_old_members_stay_out_of_it() {
    let (mut old, left) = one_left().await;
    let (state, standing) = read(&old, left);
    let mut new = reborn(&old, left, state, Term(standing.term.0 + 1));
    // With the old one's authority: only the cluster's name keeps them apart.
    new.pki = old.pki.clone();
    new.start(0).await;
    new.leader().await;
    assert!(new.masters[0].node().status().term > standing.term);
    assert_eq!(new.masters[0].get("decided").unwrap(), b"1");
    assert_eq!(new.masters[0].get("undecided").unwrap(), b"2");
    new.write("new", b"3").await;
    // Two of the three old ones are a quorum of the old cluster; one of its members had the new one's address.
    for other in (0..3).filter(|at| *at != left) {
        old.start(other).await;
    }
    old.write("old", b"4").await;
    let joined = new.join("m2").await;
    assert!(new.masters[joined].id > NodeId(BEGIN.0));
    new.write("more", b"5").await;
    let node = new.masters[0].node();
    eventually("the new one has it", || new.masters[joined].get("more")).await;
    assert_eq!(node.status().members.len(), 2);
    assert!(new.masters[0].get("old").is_none() && node.fatal().borrow().is_none());
    let elsewhere = old.current_leader().unwrap();
    assert!(old.masters[elsewhere].get("new").is_none());
    assert!(old.masters[elsewhere].node().status().members.iter().all(|m| m.id != NodeId(BEGIN.0)));
    // Again from its own disk.
    new.crash(0).await;
    new.start(0).await;
    eventually("it has all", || new.masters[0].get("new")).await;
    new.shutdown().await;
    old.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_mostly_a_snapshot_is_read_whole() {
    let mut cluster = Cluster::new();
    cluster.snapshots.log_bytes_min = 1;
    cluster.snapshots.follow_state_size = false;
    cluster.first().await;
    cluster.write_until_purged(None, 50, 100, |n| n.to_le_bytes().to_vec()).await;
    cluster.write("last", b"x").await;
    let want = cluster.masters[0].state.lock().unwrap().map.clone();
    cluster.crash(0).await;
    let (state, standing) = read(&cluster, 0);
    assert_eq!(state.map, want);
    assert!(standing.snapshot.is_some_and(|index| index <= standing.last));
    // A damaged log is refused by its name, not by that of the copy.
    let db = cluster.masters[0].dir.path().join("raft/synced");
    std::fs::write(&db, b"something else").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (id, copy) = (cluster.masters[0].id, scratch.path().join("copy"));
    let error = Survivor::open(cluster.masters[0].dir.path(), &cluster.id, id, &copy).unwrap_err();
    assert!(error.to_string().contains(&db.display().to_string()), "{error}");
}
