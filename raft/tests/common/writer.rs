//! A process that writes through a real master as fast as it can and says what was acknowledged.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quorate_raft::{
    Config, DiskRule, FIRST_NODE_ID, LeadershipState, Member, NoCalls, PeerTls, RaftNode,
    SnapshotRule, StartError, Timing,
};

use crate::common::{LONG, Machine, Pki, State, put};

/// Names the data directory for the child.
pub const DIRECTORY: &str = "QUORATE_TEST_DIRECTORY";
const WRITERS: u64 = 8;

/// A small random generator, so that a seed gives the same run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// How many keys there are; each is written again and again.
pub const SLOTS: u64 = 64;

/// The `generation`-th value of a slot; tells its generation, and everything else follows from
/// both. Up to 150 KiB, mostly small.
pub fn value_of(slot: &str, generation: u64) -> Vec<u8> {
    let seed = u64::from(crc32fast::hash(slot.as_bytes())) << 20 | generation << 1 | 1;
    let mut random = Random(seed);
    random.next();
    let length = if random.below(4) == 0 { random.below(150_000) } else { random.below(600) };
    let mut value = generation.to_le_bytes().to_vec();
    while (value.len() as u64) < length {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value
}

/// The generation of a value, when it is one of ours and whole.
pub fn generation_of(slot: &str, value: &[u8]) -> Option<u64> {
    let generation = u64::from_le_bytes(*value.first_chunk()?);
    (value_of(slot, generation) == value).then_some(generation)
}

/// Certificates in `directory`, made when there are none.
pub fn tls(directory: &Path) -> PeerTls {
    let file = |name: &str| directory.join(name);
    if !file("key.pem").exists() {
        let made = Pki::new().issue("c", FIRST_NODE_ID);
        std::fs::write(file("ca.pem"), made.ca_pem).unwrap();
        std::fs::write(file("certificate.pem"), made.certificate_pem).unwrap();
        std::fs::write(file("key.tmp"), made.key_pem).unwrap();
        std::fs::rename(file("key.tmp"), file("key.pem")).unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    PeerTls {
        ca_pem: read("ca.pem"),
        certificate_pem: read("certificate.pem"),
        key_pem: read("key.pem"),
    }
}

/// A master on `directory/data`, leading and level.
pub async fn open(directory: &Path) -> Result<(RaftNode, Arc<Mutex<State>>), StartError> {
    let config = Config {
        data_dir: directory.join("data"),
        cluster_id: "c".to_owned(),
        node_id: FIRST_NODE_ID,
        member: Member { name: "m1".to_owned(), ..Member::default() },
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        tls: tls(directory),
        timing: Timing::default(),
        snapshots: SnapshotRule { log_bytes_min: 512 << 10, follow_state_size: false },
        disk: DiskRule::default(),
        host: Arc::new(quorate_raft::host::Machine),
    };
    let state = Arc::new(Mutex::new(State::default()));
    let node = RaftNode::start(config, Machine(state.clone()), Arc::new(NoCalls)).await?;
    node.initialize().await.unwrap();
    let mut leadership = node.leadership();
    let leads = leadership.wait_for(|state| matches!(state, LeadershipState::Leader(_)));
    tokio::time::timeout(LONG, leads).await.expect("it leads").unwrap();
    node.read_index(LONG).await.unwrap();
    Ok((node, state))
}

/// Says what is there, then writes for ever (or `count` times), one line for each answer.
async fn write(directory: &Path, count: u64, mut say: impl FnMut(String) + Send + 'static) {
    let (node, state) = open(directory).await.unwrap();
    let had: Vec<(String, u64)> = {
        let state = state.lock().unwrap();
        let slots = state.map.iter().map(|(slot, (_, value))| {
            let slot = String::from_utf8(slot.clone()).unwrap();
            let generation = generation_of(&slot, value);
            (slot.clone(), generation.unwrap_or_else(|| panic!("{slot} is not whole")))
        });
        slots.collect()
    };
    for (slot, generation) in &had {
        say(format!("had {slot} {generation}\n"));
    }
    // What a crash leaves is nothing that a scrubber takes for damage.
    let scrubbed = node.scrub_files().await.unwrap();
    assert!(scrubbed.damaged.is_empty(), "{scrubbed:?}");
    say("ready\n".to_owned());
    let had: BTreeMap<String, u64> = had.into_iter().collect();
    let done = Arc::new(AtomicU64::new(0));
    let say = Arc::new(Mutex::new(say));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (node, done, say, had) = (node.clone(), done.clone(), say.clone(), had.clone());
        writers.push(tokio::spawn(async move {
            for round in 1.. {
                for slot in (0..SLOTS).filter(|slot| slot % WRITERS == writer) {
                    if done.fetch_add(1, Ordering::Relaxed) >= count {
                        return;
                    }
                    let slot = format!("k{slot}");
                    // What was not acknowledged before may be there all the same.
                    let generation = had.get(&slot).copied().unwrap_or(0) + round;
                    let payload = put(&slot, &value_of(&slot, generation));
                    let written = node.propose(payload, LONG).await.unwrap();
                    say.lock().unwrap()(format!("ack {slot} {generation} {}\n", written.term));
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Until it is killed; acknowledgements go to standard output.
pub fn run(directory: &Path) {
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    };
    runtime().block_on(write(directory, u64::MAX, say));
}

/// A number of writes; acknowledgements go to the file `data/acks`.
pub fn run_some(directory: &Path, count: u64) {
    let acks = directory.join("data").join("acks");
    let mut acks = std::fs::File::options().create(true).append(true).open(acks).unwrap();
    let say = move |line: String| acks.write_all(line.as_bytes()).unwrap();
    runtime().block_on(write(directory, count, say));
    // No orderly end: the power fails.
    std::process::exit(0);
}
