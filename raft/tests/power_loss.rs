//! Power loss, beneath sled: a real process that writes through a real master is recorded at the
//! calls into libc (`shim/record.rs`); from the recording disks are rebuilt as they may be after
//! the power failed at some moment: what was synced, and of everything else a random part, torn at
//! sectors too. A master must start from each of them and have every write that was acknowledged
//! before that moment, and no older term.
//!
//! `sync_file_range` counts as nothing, a file's name as lost until its directory is synced.
//!
//! `QUORATE_POWER_IMAGES=200 cargo test -p quorate-raft --test power_loss` for the long run;
//! `QUORATE_POWER_SEED` repeats one.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]
// The environment is how a test and its child process talk.
#![allow(clippy::disallowed_methods)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/writer.rs"]
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::{Disk, Record};
use writer::{DIRECTORY, Random, generation_of};

/// Enough that sled's segments are freed and used again.
const WRITES: u64 = 1500;
const RUNS: usize = 3;

/// The recorded process. Does nothing unless it was started by the test below.
#[test]
#[ignore = "started by the test below, as a process of its own"]
fn child() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        writer::run_some(Path::new(&directory), WRITES);
    }
}

fn compile_shim(into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/record.rs");
    let library = into.join("librecord.so");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let done = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-o"])
        .args([&library, &source])
        .status()
        .expect("rustc runs");
    assert!(done.success(), "the recorder does not compile");
    library
}

/// Runs the process a few times on one directory (each ends without any orderly stop) and gives
/// everything it did to its files.
fn record(directory: &Path) -> Vec<Record> {
    let library = compile_shim(directory);
    std::fs::create_dir(directory.join("data")).unwrap();
    writer::tls(directory);
    let log = directory.join("recording");
    for _ in 0..RUNS {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .env("QUORATE_RECORD_DIRECTORY", directory.join("data"))
            .env("QUORATE_RECORD_LOG", &log)
            .env("LD_PRELOAD", &library)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    disk::parse(&std::fs::read(log).unwrap(), &directory.join("data"))
}

/// The last acknowledged generation of each slot, and the last term, when the power failed.
fn acknowledged(disk: &Disk) -> (BTreeMap<String, u64>, u64, usize) {
    let text = String::from_utf8(disk.current("acks")).unwrap();
    let (mut slots, mut term, mut count) = (BTreeMap::new(), 0, 0);
    // The last line may be incomplete.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        if let ["ack", slot, generation, of] = words[..] {
            slots.insert(slot.to_owned(), generation.parse().unwrap());
            term = of.parse().unwrap();
            count += 1;
        }
    }
    (slots, term, count)
}

async fn check(
    directory: &Path,
    acknowledged: &BTreeMap<String, u64>,
    term: u64,
) -> Result<(), String> {
    let (node, state) = writer::open(directory).await.map_err(|error| format!("{error:?}"))?;
    let map = state.lock().unwrap().map.clone();
    let mut problems = Vec::new();
    for (slot, generation) in acknowledged {
        let found = map.get(slot.as_bytes());
        let found = found.and_then(|(_, value)| generation_of(slot, value));
        if found < Some(*generation) {
            problems.push(format!("{slot} is {found:?}, but {generation} was acknowledged"));
        }
    }
    for (slot, (_, value)) in &map {
        let slot = String::from_utf8_lossy(slot);
        if generation_of(&slot, value).is_none() {
            problems.push(format!("{slot} is not what was written"));
        }
    }
    if node.status().term.0 <= term {
        problems.push(format!("term {term} comes again"));
    }
    node.abort().await;
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

#[test]
fn no_acknowledged_write_is_lost_by_power_loss() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let images = number("QUORATE_POWER_IMAGES").unwrap_or(30);
    let seed = number("QUORATE_POWER_SEED").unwrap_or_else(rand::random);
    eprintln!("QUORATE_POWER_SEED={seed}, {images} images");
    let mut random = Random(seed | 1);
    let directory = tempfile::tempdir().unwrap();
    let records = record(directory.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut moments: Vec<usize> =
        (0..images).map(|_| random.below(records.len() as u64) as usize).collect();
    moments.sort_unstable();
    let mut disk = Disk::default();
    let (mut next, mut most) = (0, 0);
    for moment in moments {
        while next <= moment {
            disk.apply(&records[next]);
            next += 1;
        }
        let image = tempfile::tempdir().unwrap();
        for name in ["ca.pem", "certificate.pem", "key.pem"] {
            std::fs::copy(directory.path().join(name), image.path().join(name)).unwrap();
        }
        let survives = disk.write_image(&image.path().join("data"), &mut random);
        let (acknowledged, term, count) = acknowledged(&disk);
        most = most.max(count);
        if let Err(problem) = runtime.block_on(check(image.path(), &acknowledged, term)) {
            let kept = image.keep();
            panic!(
                "{problem}\nafter {moment} of {} calls ({survives} % of the unsynced survived), {} \
                 acknowledged; image in {}",
                records.len(),
                count,
                kept.display()
            );
        }
    }
    eprintln!("{images} images of {} calls, up to {most} acknowledged writes", records.len());
    assert!(most > 100, "too little was acknowledged to prove anything");
}
