//! A small state machine and clusters of real nodes over real TLS on the loopback device.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_raft::{
    Config, DiskRule, FIRST_NODE_ID, Handler, LeadershipState, LogEntry, LogIndex, Member, NoCalls,
    NodeId, PeerTls, RaftNode, RestoreError, Route, SnapshotRule, SnapshotWriter, StartError,
    StateMachine, Timing, peer,
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const LONG: Duration = Duration::from_secs(30);

/// Keys and values, and the index of the entry that wrote each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct State {
    pub map: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    pub index: u64,
    /// Entries applied since this process started.
    pub applied: u64,
}

/// Puts `key = value`; the reply is the index.
pub struct Machine(pub Arc<Mutex<State>>);

pub fn put(key: &str, value: &[u8]) -> Bytes {
    let mut bytes = vec![u8::try_from(key.len()).unwrap()];
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(value);
    bytes.into()
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Vec<LogEntry>) -> Vec<Bytes> {
        let mut state = self.0.lock().unwrap();
        let mut replies = Vec::new();
        for entry in batch {
            assert!(entry.index.0 == 0 || entry.index.0 == state.index + 1, "gap before {entry:?}");
            state.index = entry.index.0;
            state.applied += 1;
            if let Some(payload) = entry.payload {
                let (key, value) = payload[1..].split_at(usize::from(payload[0]));
                state.map.insert(key.to_vec(), (entry.index.0, value.to_vec()));
            }
            replies.push(Bytes::from(entry.index.to_string()));
        }
        replies
    }

    fn snapshot(&self) -> SnapshotWriter {
        let state = self.0.lock().unwrap().clone();
        Box::new(move |out| {
            out.write_all(&state.index.to_le_bytes())?;
            for (key, (index, value)) in &state.map {
                out.write_all(&(key.len() as u32).to_le_bytes())?;
                out.write_all(key)?;
                out.write_all(&index.to_le_bytes())?;
                out.write_all(&(value.len() as u32).to_le_bytes())?;
                out.write_all(value)?;
            }
            Ok(())
        })
    }

    fn restore(&mut self, input: &mut dyn io::Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let mut rest = &bytes[..];
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at_checked(count)?;
            rest = tail;
            Some(head)
        };
        let number = |bytes: &[u8]| {
            let mut all = [0; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(all)
        };
        let invalid = || RestoreError::Invalid("cut off".to_owned());
        let mut state = State { index: number(take(8).ok_or_else(invalid)?), ..State::default() };
        while let Some(length) = take(4) {
            let key = take(number(length) as usize).ok_or_else(invalid)?.to_vec();
            let index = number(take(8).ok_or_else(invalid)?);
            let length = number(take(4).ok_or_else(invalid)?) as usize;
            state.map.insert(key, (index, take(length).ok_or_else(invalid)?.to_vec()));
        }
        state.applied = self.0.lock().unwrap().applied;
        *self.0.lock().unwrap() = state;
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        let state = self.0.lock().unwrap();
        state.map.iter().map(|(key, (_, value))| (key.len() + value.len() + 16) as u64).sum()
    }
}

/// The peers' CA of one cluster.
#[derive(Clone)]
pub struct Pki {
    issuer: Arc<rcgen::CertifiedIssuer<'static, rcgen::KeyPair>>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { issuer: Arc::new(rcgen::CertifiedIssuer::self_signed(params, key).unwrap()) }
    }

    pub fn issue(&self, cluster_id: &str, node: NodeId) -> PeerTls {
        let names = vec![peer::PEER_DNS_NAME.to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let uri = peer::identity_uri(cluster_id, node).try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &**self.issuer).unwrap();
        PeerTls {
            ca_pem: self.issuer.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// Generous, because these tests share two cores with others.
pub fn slow_timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(150),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(1200),
    }
}

/// One master of a test.
pub struct Master {
    pub id: NodeId,
    pub member: Member,
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
    pub node: Option<RaftNode>,
    pub dir: tempfile::TempDir,
}

impl Master {
    pub fn node(&self) -> &RaftNode {
        self.node.as_ref().expect("the master runs")
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().map.get(key.as_bytes()).map(|(_, value)| value.clone())
    }
}

/// A cluster in this process.
pub struct Cluster {
    pub pki: Pki,
    pub id: String,
    pub timing: Timing,
    pub snapshots: SnapshotRule,
    pub handler: Arc<dyn Handler>,
    pub route: Option<Route>,
    pub masters: Vec<Master>,
}

impl Cluster {
    pub fn new() -> Self {
        Self {
            pki: Pki::new(),
            id: "test-cluster".to_owned(),
            timing: slow_timing(),
            snapshots: SnapshotRule::default(),
            handler: Arc::new(NoCalls),
            route: None,
            masters: Vec::new(),
        }
    }

    pub fn config(&self, id: NodeId, member: &Member, dir: &Path, listener: TcpListener) -> Config {
        Config {
            data_dir: dir.to_owned(),
            cluster_id: self.id.clone(),
            node_id: id,
            member: member.clone(),
            listener,
            tls: self.pki.issue(&self.id, id),
            timing: self.timing,
            snapshots: self.snapshots,
            disk: DiskRule::default(),
            host: Arc::new(quorate_raft::host::Machine),
        }
    }

    /// Starts (again) the master at this position.
    pub async fn try_start(&mut self, at: usize) -> Result<(), StartError> {
        let master = &self.masters[at];
        let listener = TcpListener::bind(master.address).unwrap();
        let config = self.config(master.id, &master.member, master.dir.path(), listener);
        let state = Arc::new(Mutex::new(State::default()));
        let (machine, handler, route) =
            (Machine(state.clone()), self.handler.clone(), self.route.clone());
        let node = RaftNode::start_routed(config, machine, handler, route).await?;
        self.masters[at].node = Some(node);
        self.masters[at].state = state;
        Ok(())
    }

    pub async fn start(&mut self, at: usize) {
        self.try_start(at).await.unwrap();
    }

    pub fn prepare(&mut self, id: NodeId, name: &str) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let member = Member {
            name: name.to_owned(),
            peer_address: address.to_string(),
            api_address: format!("{name}:6443"),
            standby: false,
        };
        let state = Arc::new(Mutex::new(State::default()));
        let dir = tempfile::tempdir().unwrap();
        self.masters.push(Master { id, member, address, state, node: None, dir });
        self.masters.len() - 1
    }

    /// The first master, leading.
    pub async fn first(&mut self) {
        let at = self.prepare(FIRST_NODE_ID, "m1");
        self.start(at).await;
        self.masters[at].node().initialize().await.unwrap();
        self.leader().await;
    }

    /// Joins one more as a learner.
    pub async fn join(&mut self, name: &str) -> usize {
        let at = self.prepare(NodeId(0), name);
        let leader = self.leader().await;
        let member = self.masters[at].member.clone();
        let id = self.masters[leader].node().add_learner(member).await.unwrap();
        self.masters[at].id = id;
        self.start(at).await;
        at
    }

    /// Three voters.
    pub async fn three() -> Self {
        Self::three_with(Self::new()).await
    }

    pub async fn three_with(mut cluster: Self) -> Self {
        cluster.first().await;
        let (two, three) = (cluster.join("m2").await, cluster.join("m3").await);
        let ids = [cluster.masters[two].id, cluster.masters[three].id];
        let leader = cluster.leader().await;
        cluster.masters[leader].node().promote_all(&ids).await.unwrap();
        cluster
    }

    /// Position of the master that leads, when one does and knows it.
    pub fn current_leader(&self) -> Option<usize> {
        let leads = |master: &Master| {
            let node = master.node.as_ref()?;
            matches!(*node.leadership().borrow(), LeadershipState::Leader(_)).then_some(())
        };
        self.masters.iter().position(|master| leads(master).is_some())
    }

    pub async fn leader(&self) -> usize {
        eventually("a leader", || self.current_leader()).await
    }

    /// Writes through whoever leads, until it is acknowledged.
    pub async fn write(&self, key: &str, value: &[u8]) {
        let until = Instant::now() + LONG;
        loop {
            if let Some(at) = self.current_leader()
                && self.masters[at].node().propose(put(key, value), 5 * SECOND).await.is_ok()
            {
                return;
            }
            assert!(Instant::now() < until, "no write went through");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Writes `value(n)` under one of `keys` names, `least` times and on until the leader has purged its log beyond
    /// `after`. The rule of snapshots is looked at four times a second, and a purge takes two of them: no number of
    /// writes alone is enough on a fast machine.
    pub async fn write_until_purged(
        &self,
        after: Option<LogIndex>,
        keys: u32,
        least: u32,
        mut value: impl FnMut(u32) -> Vec<u8>,
    ) {
        let until = Instant::now() + LONG;
        for n in 0.. {
            self.write(&format!("k{}", n % keys), &value(n)).await;
            let purged = || self.masters[self.current_leader()?].node().status().purged;
            if n + 1 >= least && purged() > after {
                return;
            }
            assert!(Instant::now() < until, "the log was not purged after {n} writes");
        }
    }

    /// Stops one without handing over: its threads end, its connections break.
    pub async fn crash(&mut self, at: usize) {
        let node = self.masters[at].node.take().expect("it runs");
        crash(node).await;
    }

    pub async fn shutdown(mut self) {
        for master in &mut self.masters {
            if let Some(node) = master.node.take() {
                node.shutdown().await;
            }
        }
    }
}

/// Drops the last handle and waits until the directory is free again.
pub async fn crash(node: RaftNode) {
    node.abort().await;
}

/// Waits until `look` gives something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
