//! Who may talk to whom, calls among masters, snapshots for those who are far behind.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::{Cluster, LONG, Pki, SECOND, eventually};
use quorate_raft::{
    CallError, Handler, Member, NoCalls, NodeId, PeerTls, RaftNode, Refused, SnapshotRule,
    StartError,
};

struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn call(
        &self,
        from: NodeId,
        method: u32,
        body: Bytes,
        _: Duration,
    ) -> Result<Bytes, Refused> {
        match method {
            1 => Ok([format!("{from}:").as_bytes(), &body].concat().into()),
            2 => std::future::pending().await,
            _ => Err(Refused("no such method".to_owned())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masters_call_each_other() {
    let mut cluster = Cluster::new();
    cluster.handler = Arc::new(Echo);
    cluster.first().await;
    let two = cluster.join("m2").await;
    let (first, second) = (cluster.masters[0].node().clone(), cluster.masters[two].id);
    eventually("the second knows the first", || {
        cluster.masters[two].node().members().iter().any(|m| m.id == NodeId(1)).then_some(())
    })
    .await;
    let answer = first.call(second, 1, Bytes::from_static(b"hi"), LONG).await.unwrap();
    assert_eq!(answer, "1:hi");
    let big = Bytes::from(vec![7; 10 << 20]);
    let answer = cluster.masters[two].node().call(NodeId(1), 1, big.clone(), LONG).await.unwrap();
    assert_eq!(answer.len(), big.len() + second.to_string().len() + 1);
    let refused = first.call(second, 9, Bytes::new(), LONG).await;
    assert_eq!(refused, Err(CallError::Refused("no such method".to_owned())));
    let slow = first.call(second, 2, Bytes::new(), Duration::from_millis(100)).await;
    assert!(matches!(slow, Err(CallError::Unknown { .. })), "{slow:?}");
    assert_eq!(first.call(NodeId(1), 1, Bytes::new(), LONG).await, Err(CallError::ToSelf));
    let unknown = first.call(NodeId(77), 1, Bytes::new(), LONG).await;
    assert_eq!(unknown, Err(CallError::UnknownNode(NodeId(77))));
    let large = first.call(second, 1, Bytes::from(vec![0; 17 << 20]), LONG).await;
    assert!(matches!(large, Err(CallError::TooLarge { .. })), "{large:?}");
    cluster.crash(two).await;
    let dead = first.call(second, 1, Bytes::new(), 5 * SECOND).await;
    assert!(
        matches!(dead, Err(CallError::Unreachable { .. } | CallError::Unknown { .. })),
        "{dead:?}"
    );
    cluster.shutdown().await;
}

/// Both authorities are believed, then the other one signs: a master that knows only the other one can join.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_change_while_masters_run() {
    let mut cluster = Cluster::new();
    cluster.handler = Arc::new(Echo);
    cluster.first().await;
    let two = cluster.join("m2").await;
    let (old, new) = (cluster.pki.clone(), Pki::new());
    let nodes: Vec<RaftNode> = [0, two].map(|number| cluster.masters[number].node().clone()).into();
    let bundle = |node: &RaftNode, pki: &Pki, first: &Pki, second: &Pki| {
        let of = |pki: &Pki| pki.issue(&cluster.id, node.id()).ca_pem;
        PeerTls {
            ca_pem: format!("{}{}", of(first), of(second)),
            ..pki.issue(&cluster.id, node.id())
        }
    };
    for signer in [&old, &new] {
        for node in &nodes {
            node.renew_tls(&bundle(node, signer, &old, &new)).unwrap();
        }
    }
    // What is of another master changes nothing.
    let foreign = new.issue(&cluster.id, NodeId(77));
    assert!(matches!(nodes[0].renew_tls(&foreign), Err(StartError::Tls(_))));
    let answer = nodes[0].call(nodes[1].id(), 1, Bytes::from_static(b"hi"), LONG).await;
    assert_eq!(answer.unwrap(), "1:hi", "over the connection that was open");
    cluster.pki = new;
    let three = cluster.join("m3").await;
    let third = cluster.masters[three].id;
    let known = || nodes[1].members().iter().any(|member| member.id == third).then_some(());
    eventually("the other one knows the third", known).await;
    let answer = nodes[1].call(third, 1, Bytes::from_static(b"hi"), LONG).await.unwrap();
    assert!(answer.ends_with(b":hi"), "{answer:?}");
    cluster.shutdown().await;
}

/// A stranger at the address of a member: another cluster, another number, another CA.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_by_name() {
    for (cluster_id, number, own_ca, want) in [
        ("other", None, true, "it is a master of cluster other, this is cluster test-cluster"),
        ("test-cluster", Some(NodeId(99)), true, "it is master 99, not master"),
        ("test-cluster", None, false, "certificate"),
    ] {
        let mut cluster = Cluster::new();
        cluster.first().await;
        let at = cluster.prepare(NodeId(0), "m2");
        let member = cluster.masters[at].member.clone();
        let id = cluster.masters[0].node().add_learner(member).await.unwrap();
        let mut stranger = Cluster::new();
        if own_ca {
            std::mem::swap(&mut stranger.pki, &mut cluster.pki);
        }
        stranger.id = cluster_id.to_owned();
        let number = number.unwrap_or(id);
        let listener = std::net::TcpListener::bind(cluster.masters[at].address).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = stranger.config(number, &Member::default(), dir.path(), listener);
        let machine = common::Machine(Arc::default());
        let node = RaftNode::start(config, machine, Arc::new(NoCalls)).await.unwrap();
        let call = cluster.masters[0].node().call(id, 1, Bytes::new(), 5 * SECOND).await;
        let Err(CallError::Unreachable { reason } | CallError::Unknown { reason }) = call else {
            panic!("{call:?}");
        };
        assert!(reason.contains(want), "{reason}");
        assert!(!node.is_initialized(), "the stranger got entries");
        node.shutdown().await;
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_somebody_else_does_not_start() {
    let cluster = Cluster::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = cluster.config(NodeId(1), &Member::default(), dir.path(), listener);
    config.tls = cluster.pki.issue(&cluster.id, NodeId(2));
    let machine = common::Machine(Arc::default());
    let error = RaftNode::start(config, machine, Arc::new(NoCalls)).await.unwrap_err();
    assert!(matches!(error, StartError::Tls(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("quorate://test-cluster/master/2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new();
    cluster.snapshots = SnapshotRule { log_bytes_min: 2 << 20, follow_state_size: false };
    let mut cluster = Cluster::three_with(cluster).await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    cluster.crash(behind).await;
    let written = cluster.masters[leader].node().status().last_log;
    let value =
        |n: u32| -> Vec<u8> { (0..100_000_u32).map(|i| (i.wrapping_mul(n) % 251) as u8).collect() };
    cluster.write_until_purged(written, 10, 120, value).await;
    cluster.start(behind).await;
    cluster.masters[behind].node().read_index(LONG).await.unwrap();
    let leader = cluster.leader().await;
    let states = [leader, behind].map(|at| cluster.masters[at].state.lock().unwrap().map.clone());
    assert_eq!(states[0], states[1]);
    // It got the state, not the entries.
    assert!(cluster.masters[behind].state.lock().unwrap().applied < 100);
    let files = std::fs::read_dir(cluster.masters[behind].dir.path().join("snapshots")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name.to_str().unwrap().ends_with(".snap")), "{names:?}");
    // And it starts from it.
    cluster.crash(behind).await;
    cluster.start(behind).await;
    cluster.masters[behind].node().read_index(LONG).await.unwrap();
    let again = cluster.masters[behind].state.lock().unwrap().map.clone();
    assert_eq!(again, states[0]);
    cluster.shutdown().await;
}

/// A damaged newest snapshot is passed over while the log reaches the one before; without that
/// the master refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_survived_once() {
    let mut cluster = Cluster::new();
    cluster.snapshots = SnapshotRule { log_bytes_min: 1 << 20, follow_state_size: false };
    cluster.first().await;
    cluster.write_until_purged(None, 7, 1, |n| n.to_le_bytes().repeat(25_000)).await;
    let before = cluster.masters[0].state.lock().unwrap().map.clone();
    cluster.crash(0).await;
    let dir = cluster.masters[0].dir.path().join("snapshots");
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    let flip = |path: &std::path::Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    flip(&files[1]);
    cluster.start(0).await;
    cluster.leader().await;
    cluster.masters[0].node().read_index(LONG).await.unwrap();
    assert_eq!(cluster.masters[0].state.lock().unwrap().map, before);
    assert!(files[1].with_extension("damaged").exists());
    cluster.crash(0).await;
    flip(&files[0]);
    for file in std::fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().unwrap() == "snap" && path != files[0] {
            flip(&path);
        }
    }
    let error = cluster.try_start(0).await.unwrap_err();
    assert!(matches!(error, StartError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains(".snap: the snapshot is damaged"), "{error}");
}
