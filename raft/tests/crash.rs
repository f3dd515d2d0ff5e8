//! A real process that writes through a real master is killed at random moments, again and again:
//! every acknowledged write is there afterwards, none is half there.
//!
//! `QUORATE_CRASH_ROUNDS=200 cargo test -p quorate-raft --test crash` for the long run.
#![allow(missing_docs, clippy::unwrap_used)]
// The environment is how a test and its child process talk.
#![allow(clippy::disallowed_methods)]

mod common;
#[path = "common/writer.rs"]
mod writer;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use writer::DIRECTORY;

/// The writing process. Does nothing unless it was started by the test below.
#[test]
#[ignore = "started by the test below, as a process of its own"]
fn child() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        writer::run(Path::new(&directory));
    }
}

fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the child said: what it had at its start (it checks itself that each value is whole), and
/// what was acknowledged since.
#[derive(Debug, Default)]
struct Said {
    had: BTreeMap<String, u64>,
    ready: bool,
    acknowledged: Vec<(String, u64)>,
}

/// Lets the child run until `time` after its first acknowledgement, then kills it.
fn run_and_kill(directory: &Path, time: Duration) -> Said {
    let mut child = start(directory);
    let stdout = child.stdout.take().unwrap();
    let (lines, said) = mpsc::sync_channel(100_000);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let mut all = Said::default();
    let note = |line: String, all: &mut Said| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["had", slot, generation] => {
                all.had.insert(slot.to_owned(), generation.parse().unwrap());
            }
            ["ready"] => all.ready = true,
            ["ack", slot, generation, _] => {
                all.acknowledged.push((slot.to_owned(), generation.parse().unwrap()));
            }
            _ => {}
        }
    };
    while all.acknowledged.is_empty() {
        match said.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => note(line, &mut all),
            Err(error) => panic!("the child does not write: {error}; {:?}", child.wait()),
        }
    }
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    while let Ok(line) = said.recv() {
        note(line, &mut all);
    }
    reader.join().unwrap();
    all
}

#[test]
fn no_acknowledged_write_is_lost_by_kill_9() {
    let rounds = std::env::var("QUORATE_CRASH_ROUNDS").map_or(20, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let seed: u64 = rand::random();
    eprintln!("seed {seed}, {rounds} rounds");
    let mut random = writer::Random(seed | 1);
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut writes = 0;
    for round in 0..rounds {
        let time = Duration::from_millis(random.below(300));
        let said = run_and_kill(directory.path(), time);
        assert!(said.ready);
        for (slot, generation) in &acknowledged {
            let had = said.had.get(slot);
            assert!(had >= Some(generation), "round {round}: {slot} is {had:?}, not {generation}");
        }
        writes += said.acknowledged.len();
        acknowledged.extend(said.acknowledged);
    }
    eprintln!("{writes} acknowledged writes survived {rounds} kills");
}
