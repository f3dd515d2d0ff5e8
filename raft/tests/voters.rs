//! Voters that are demoted, promoted and replaced.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::{Cluster, LONG, eventually};
use quorate_raft::{Go, MembershipError, NodeId, Reform};

/// What each member is, as one master knows it: its number, whether it votes, whether it is a standby.
fn members(cluster: &Cluster, at: usize) -> BTreeSet<(NodeId, bool, bool)> {
    let members = cluster.masters[at].node().members().into_iter();
    members.map(|known| (known.id, known.voter, known.member.standby)).collect()
}

async fn are(cluster: &Cluster, at: usize, voters: &[usize], standbys: &[usize]) {
    let of = |at: &usize, votes: bool| (cluster.masters[*at].id, votes, !votes);
    let voters = voters.iter().map(|at| of(at, true));
    let want: BTreeSet<_> = voters.chain(standbys.iter().map(|at| of(at, false))).collect();
    eventually("the members are what they should be", || {
        let joint = cluster.masters[at].node().status().joint;
        (!joint && members(cluster, at) == want).then_some(())
    })
    .await;
}

/// All members have what the leader has.
async fn level(cluster: &Cluster) -> usize {
    let leader = cluster.leader().await;
    eventually("all are level", || {
        let members = cluster.masters[leader].node().members();
        members.iter().all(|known| known.matched.is_some() && known.lag <= Some(1)).then_some(())
    })
    .await;
    leader
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_is_demoted_and_promoted_again() {
    let mut cluster = Cluster::three().await;
    cluster.write("before", b"1").await;
    let leader = level(&cluster).await;
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let node = cluster.masters[leader].node().clone();
    let (id, own) = (cluster.masters[other].id, cluster.masters[leader].id);
    let demote = Reform::Demote(id);
    // A dry run says what would be, and changes nothing.
    assert_eq!(node.reform(demote.clone(), Go::DRY_RUN).await, Ok(2));
    are(&cluster, leader, &[0, 1, 2], &[]).await;
    assert_eq!(node.reform(Reform::Demote(own), Go::DRY_RUN).await, Ok(2));
    let error = node.reform(Reform::Demote(own), Go::AHEAD).await;
    assert_eq!(error, Err(MembershipError::Leads(own)));
    assert_eq!(node.reform(demote.clone(), Go::AHEAD).await, Ok(2));
    are(&cluster, leader, &[leader, third], &[other]).await;
    are(&cluster, other, &[leader, third], &[other]).await;
    // It goes on getting the log, and says so; it does not end.
    cluster.write("meanwhile", b"1").await;
    cluster.masters[other].node().read_index(LONG).await.unwrap();
    assert_eq!(cluster.masters[other].get("meanwhile").unwrap(), b"1");
    assert!(cluster.masters[other].node().removed().borrow().is_none());
    assert_eq!(node.reform(demote, Go::AHEAD).await, Ok(2), "it is one already");
    // What it is outlives a restart, and its moving.
    cluster.crash(other).await;
    cluster.start(other).await;
    are(&cluster, other, &[leader, third], &[other]).await;
    let moved = quorate_raft::Member {
        api_address: "elsewhere:6443".to_owned(),
        ..cluster.masters[other].member.clone()
    };
    let leader = level(&cluster).await;
    let node = cluster.masters[leader].node().clone();
    node.update_member(id, moved).await.unwrap();
    assert!(members(&cluster, leader).contains(&(id, false, true)));
    node.promote(id).await.unwrap();
    are(&cluster, leader, &[0, 1, 2], &[]).await;
    // Its vote counts.
    cluster.crash(if leader == third { (other + 1) % 3 } else { third }).await;
    cluster.write("after", b"1").await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_in_one_step() {
    let mut cluster = Cluster::three().await;
    cluster.write("before", b"1").await;
    let four = cluster.join("m4").await;
    let leader = level(&cluster).await;
    let (gone, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    let node = cluster.masters[leader].node().clone();
    let (old, new) = (cluster.masters[gone].id, cluster.masters[four].id);
    assert_eq!(node.reform(Reform::Demote(new), Go::AHEAD).await, Ok(3));
    are(&cluster, leader, &[0, 1, 2], &[four]).await;
    cluster.crash(gone).await;
    let replace = Reform::Replace { old, new };
    assert_eq!(node.reform(replace.clone(), Go::DRY_RUN).await, Ok(3));
    assert_eq!(node.reform(replace, Go::AHEAD).await, Ok(3));
    are(&cluster, leader, &[leader, stays, four], &[]).await;
    // With the new one the loss of another is survived.
    cluster.crash(stays).await;
    cluster.write("after", b"1").await;
    assert_eq!(cluster.masters[four].get("before").unwrap(), b"1");
    let error = node.reform(Reform::Replace { old, new }, Go::AHEAD).await;
    assert_eq!(error, Err(MembershipError::UnknownNode(old)));
    cluster.shutdown().await;
}
