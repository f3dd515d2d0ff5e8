//! Masters that are taken out: who may go, how they learn it, and what a leader that dies meanwhile leaves.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Cluster, LONG, eventually};
use quorate_raft::{MembershipError, NodeId, StartError};

/// Waits until this master knows that exactly these are members, and all of them vote.
async fn only(cluster: &Cluster, at: usize, voters: &[usize]) {
    let mut want: Vec<NodeId> = voters.iter().map(|at| cluster.masters[*at].id).collect();
    want.sort_unstable();
    eventually("the membership is as it should be", || {
        let status = cluster.masters[at].node().status();
        let have: Vec<NodeId> = status.members.iter().map(|member| member.id).collect();
        let all_vote = status.members.iter().all(|member| member.voter);
        (!status.joint && all_vote && have == want).then_some(())
    })
    .await;
}

/// Waits until a removed master knows it, and looks at what it is told.
async fn is_told(cluster: &Cluster, at: usize) {
    let removed = cluster.masters[at].node().removed();
    let told = eventually("it learns that it was removed", || removed.borrow().clone()).await;
    assert!(told.contains("was removed from the cluster"), "{told}");
    let directory = cluster.masters[at].dir.path().display().to_string();
    assert!(told.contains(&directory) && told.contains("quorate server --join"), "{told}");
}

/// All voters answer the leader, and have what it has.
async fn all_level(cluster: &Cluster) -> usize {
    let leader = cluster.leader().await;
    eventually("all are level", || {
        let members = cluster.masters[leader].node().members();
        let level = |lag: Option<u64>| lag.is_some_and(|lag| lag <= 1);
        members.iter().all(|member| member.matched.is_some() && level(member.lag)).then_some(())
    })
    .await;
    leader
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_voter_learns_it_and_its_directory_is_refused() {
    let mut cluster = Cluster::three().await;
    cluster.write("before", b"1").await;
    let leader = all_level(&cluster).await;
    let gone = (leader + 1) % 3;
    let stays = (leader + 2) % 3;
    let (node, id) = (cluster.masters[leader].node().clone(), cluster.masters[gone].id);
    let own = cluster.masters[leader].id;
    assert_eq!(node.remove(own).await, Err(MembershipError::Leads(own)));
    node.remove(id).await.unwrap();
    only(&cluster, leader, &[leader.min(stays), leader.max(stays)]).await;
    is_told(&cluster, gone).await;
    assert!(node.removed().borrow().is_none() && node.fatal().borrow().is_none());
    assert_eq!(node.remove(id).await, Err(MembershipError::UnknownNode(id)));
    cluster.crash(gone).await;
    let error = cluster.try_start(gone).await.unwrap_err();
    assert!(matches!(error, StartError::Removed { .. }), "{error}");
    assert!(error.to_string().contains("was removed from the cluster"), "{error}");
    cluster.write("after", b"1").await;
    // Its name and addresses are free again; its number is not.
    let again = cluster.masters[gone].member.clone();
    assert!(node.add_learner(again).await.unwrap() > id);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_when_it_was_removed_is_told_when_it_comes_back() {
    let mut cluster = Cluster::three().await;
    let leader = all_level(&cluster).await;
    let gone = (leader + 1) % 3;
    cluster.crash(gone).await;
    let node = cluster.masters[leader].node().clone();
    // Of the two that live both are needed, from the first moment on.
    let other = cluster.masters[(leader + 2) % 3].id;
    let error = node.remove(other).await.unwrap_err();
    assert!(matches!(error, MembershipError::Needed { stay: 2, quorum: 2, .. }), "{error}");
    let error = node.remove(cluster.masters[leader].id).await.unwrap_err();
    assert!(matches!(error, MembershipError::Needed { .. }), "{error}");
    node.remove(cluster.masters[gone].id).await.unwrap();
    let term = node.status().term;
    cluster.start(gone).await;
    is_told(&cluster, gone).await;
    assert_eq!(node.status().term, term, "it disturbs nobody");
    cluster.write("after", b"1").await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_goes_in_one_step_and_the_last_voter_never() {
    let mut cluster = Cluster::new();
    cluster.first().await;
    let node = cluster.masters[0].node().clone();
    let error = node.remove(cluster.masters[0].id).await.unwrap_err();
    assert!(matches!(error, MembershipError::LastVoter { .. }), "{error}");
    let two = cluster.join("m2").await;
    all_level(&cluster).await;
    node.remove(cluster.masters[two].id).await.unwrap();
    only(&cluster, 0, &[0]).await;
    is_told(&cluster, two).await;
    cluster.shutdown().await;
}

/// With nobody who writes, it looks as level as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_has_died_does_not_become_a_voter() {
    let mut cluster = Cluster::new();
    cluster.first().await;
    let two = cluster.join("m2").await;
    all_level(&cluster).await;
    cluster.crash(two).await;
    let node = cluster.masters[0].node().clone();
    let error = node.promote(cluster.masters[two].id).await.unwrap_err();
    assert_eq!(error, MembershipError::Silent { name: "m2".to_owned() });
    cluster.write("alone", b"1").await;
    cluster.start(two).await;
    node.promote(cluster.masters[two].id).await.unwrap();
    only(&cluster, 0, &[0, two]).await;
    cluster.shutdown().await;
}

/// Five to three to one, each step while it is written.
#[tokio::test(flavor = "multi_thread")]
async fn from_five_down_to_one_nothing_is_lost() {
    let mut cluster = Cluster::three().await;
    let (four, five) = (cluster.join("m4").await, cluster.join("m5").await);
    let ids = [four, five].map(|at| cluster.masters[at].id);
    let leader = cluster.leader().await;
    cluster.masters[leader].node().promote_all(&ids).await.unwrap();
    let mut stay: Vec<usize> = (0..5).collect();
    while stay.len() > 1 {
        cluster.write(&format!("with-{}", stay.len()), b"1").await;
        let leader = all_level(&cluster).await;
        let gone = *stay.iter().find(|at| **at != leader).unwrap();
        cluster.masters[leader].node().remove(cluster.masters[gone].id).await.unwrap();
        stay.retain(|at| *at != gone);
        only(&cluster, leader, &stay).await;
        is_told(&cluster, gone).await;
        cluster.crash(gone).await;
    }
    let last = stay[0];
    cluster.masters[last].node().read_index(LONG).await.unwrap();
    for voters in 2..=5 {
        assert!(cluster.masters[last].get(&format!("with-{voters}")).is_some());
    }
    cluster.crash(last).await;
    cluster.start(last).await;
    cluster.write("alone", b"1").await;
    cluster.shutdown().await;
}
