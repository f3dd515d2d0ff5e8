//! Masters on real Raft, with real TLS and real disks, in one process: what the store promises
//! whichever master is asked.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use quorate_pki::{Authority, Subject};
use quorate_raft::{
    Config, DiskRule, FIRST_NODE_ID, Member, NodeId, PeerTls, SnapshotRule, Timing,
};
use quorate_state_machine::{Header, Image, Key, Op, Outcome};
use quorate_store::{Consistency, Error, Leadership, Masters, Started, Store};

const CLUSTER: &str = "c0ffee";
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    directory: tempfile::TempDir,
    authority: Authority,
    masters: Vec<Started>,
}

impl Cluster {
    async fn of(size: usize) -> Self {
        let authority = Authority::generate("peers", Timestamp::now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Self { directory, authority, masters: Vec::new() };
        let first = cluster.start(FIRST_NODE_ID, "m0", listener()).await;
        first.masters.initialize().await.unwrap();
        cluster.masters.push(first);
        cluster.leader().await;
        for number in 1..size {
            let listener = listener();
            let member = member(&format!("m{number}"), &listener);
            let id = cluster.masters[0].masters.admit(&member).await.unwrap();
            let started = cluster.start(id, &member.name, listener).await;
            cluster.masters.push(started);
            let masters = cluster.masters[0].masters.clone();
            until(|| async { masters.promote(id).await.is_ok() }).await;
        }
        cluster
    }

    async fn start(&self, id: NodeId, name: &str, listener: TcpListener) -> Started {
        let subject = Subject::Peer { cluster_id: CLUSTER.to_owned(), node_id: id.0 };
        let issued = self.authority.issue(&subject, Timestamp::now()).unwrap();
        let path: &Path = self.directory.path();
        Masters::start(Config {
            data_dir: path.join(name),
            cluster_id: CLUSTER.to_owned(),
            node_id: id,
            member: member(name, &listener),
            listener,
            tls: PeerTls {
                ca_pem: self.authority.certificate_pem().to_owned(),
                certificate_pem: issued.certificate_pem,
                key_pem: issued.key_pem,
            },
            timing: Timing::default(),
            snapshots: SnapshotRule::default(),
            disk: DiskRule::default(),
        })
        .await
        .unwrap()
    }

    /// Position of the leader, once there is one.
    async fn leader(&self) -> usize {
        let mut found = None;
        until(|| {
            found = self.masters.iter().position(|master| {
                matches!(*master.store.leadership().borrow(), Leadership::Leader { .. })
            });
            let is_there = found.is_some();
            async move { is_there }
        })
        .await;
        found.unwrap()
    }

    fn stores(&self) -> Vec<Store> {
        self.masters.iter().map(|master| master.store.clone()).collect()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn member(name: &str, listener: &TcpListener) -> Member {
    let address = listener.local_addr().unwrap().to_string();
    Member { name: name.to_owned(), peer_address: address, api_address: format!("{name}:6443") }
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("it should hold in time");
}

fn key(name: &str) -> Key {
    Key::new("", "configmaps", "default", name)
}

fn image(text: &str) -> Image {
    let bytes = format!("{{\"metadata\":{{}},\"data\":{{\"n\":\"{text}\"}}}}");
    Image {
        header: Header { uid: "u".to_owned(), ..Header::default() },
        bytes: Bytes::from(bytes),
        revision_offset: 13,
    }
}

fn create(name: &str) -> Op {
    Op::Create { key: key(name), image: image("0"), namespace: None }
}

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
