//! Masters on real Raft in this process, with a network between them that can be broken.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

pub mod network;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use quorate_pki::{Authority, Subject};
use quorate_raft::{
    Config, DiskRule, FIRST_NODE_ID, Member, NodeId, PeerTls, SnapshotRule, Timing,
};
use quorate_state_machine::{Header, Image, Key, Op};
use quorate_store::{Leadership, Masters, Started, Store};

use network::Network;

const CLUSTER: &str = "c0ffee";
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    directory: tempfile::TempDir,
    authority: Authority,
    pub masters: Vec<Started>,
    /// Number and address of each master that ever ran, by its position in the beginning.
    pub known: Vec<(NodeId, Member)>,
    pub network: Network,
}

impl Cluster {
    pub async fn of(size: usize) -> Self {
        let authority = Authority::generate("peers", Timestamp::now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let network = Network::default();
        let (masters, known) = (Vec::new(), Vec::new());
        let mut cluster = Self { directory, authority, masters, known, network };
        let bound = listener();
        cluster.known.push((FIRST_NODE_ID, member("m0", &bound)));
        let first = cluster.start(FIRST_NODE_ID, "m0", bound).await;
        first.masters.initialize().await.unwrap();
        cluster.masters.push(first);
        cluster.leader().await;
        for _ in 1..size {
            let id = cluster.learner().await;
            cluster.promote(id).await;
        }
        cluster
    }

    /// Adds a master that does not vote yet; gives its number.
    pub async fn learner(&mut self) -> NodeId {
        let listener = listener();
        let member = member(&format!("m{}", self.known.len()), &listener);
        let id = self.admit(&member).await;
        let started = self.start(id, &member.name, listener).await;
        self.known.push((id, member));
        self.masters.push(started);
        id
    }

    /// Number of a new learner. On a busy machine the leadership may change meanwhile.
    async fn admit(&self, member: &Member) -> NodeId {
        for _ in 0..100 {
            let masters = &self.masters[0].masters;
            if let Ok(id) = masters.admit(member).await {
                return id;
            }
            // When the answer was lost it is a member already.
            let members = masters.status().members;
            if let Some(own) = members.iter().find(|known| known.member.name == member.name) {
                return own.id;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} was not admitted", member.name);
    }

    /// Waits until a learner votes.
    async fn promote(&self, id: NodeId) {
        until(|| async {
            let leader = self.leader().await;
            self.masters[leader].masters.promote([id].into()).await.is_ok()
        })
        .await;
    }

    pub async fn start(&self, id: NodeId, name: &str, listener: TcpListener) -> Started {
        let subject = Subject::Peer { cluster_id: CLUSTER.to_owned(), node_id: id.0 };
        let issued = self.authority.issue(&subject, Timestamp::now()).unwrap();
        let path: &Path = self.directory.path();
        let config = Config {
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
            timing: patient(),
            snapshots: SnapshotRule::default(),
            disk: DiskRule::default(),
            host: std::sync::Arc::new(quorate_raft::host::Machine),
        };
        let route = self.network.route(id);
        Masters::start_routed(config, Some(route)).await.unwrap()
    }

    /// Starts a master again that was stopped, on its data and its address.
    pub async fn restart(&self, at: usize) -> Started {
        let (id, member) = &self.known[at];
        let listener = TcpListener::bind(&member.peer_address).unwrap();
        self.start(*id, &member.name, listener).await
    }

    /// Where all of them keep their data.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Position of the leader, once there is one.
    pub async fn leader(&self) -> usize {
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

    pub fn stores(&self) -> Vec<Store> {
        self.masters.iter().map(|master| master.store.clone()).collect()
    }
}

/// Generous, because these tests share two cores with others.
fn patient() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(150),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(1200),
    }
}

pub fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub fn member(name: &str, listener: &TcpListener) -> Member {
    let address = listener.local_addr().unwrap().to_string();
    let api_address = format!("{name}:6443");
    Member { name: name.to_owned(), peer_address: address, api_address, standby: false }
}

pub async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("it should hold in time");
}

pub fn key(name: &str) -> Key {
    Key::new("", "configmaps", "default", name)
}

pub fn image(text: &str) -> Image {
    let bytes = format!("{{\"metadata\":{{}},\"data\":{{\"n\":\"{text}\"}}}}");
    Image {
        header: Header { uid: "u".to_owned(), ..Header::default() },
        bytes: Bytes::from(bytes),
        revision_offset: 13,
    }
}

pub fn create(name: &str) -> Op {
    Op::Create { key: key(name), image: image("0"), namespace: None }
}
