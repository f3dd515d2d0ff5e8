//! How much disk a master takes under constant overwriting: log, snapshots, history, everything in its
//! data directory.
//!
//! `QUORATE_UPDATES=1000000 cargo test --workspace --test disk_bound -- --nocapture` for the long run. The bound is the
//! same for any number of updates; those that are asked for are the least, as it goes on until the log was purged.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the environment says how long the run is")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, key};
use quorate_state_machine::{Header, Image, Op};
use quorate_store::Store;

const DISK_BYTES_MAX: u64 = 200_000_000;
const OBJECTS: u64 = 100;
const WRITERS: u64 = 50;
/// The rule of snapshots is looked at four times a second, and a purge takes two snapshots.
const PURGED_BY: Duration = Duration::from_secs(60);
/// As the controllers' compactor keeps it by default.
const HISTORY: (usize, u64) = (20_000, 24 << 20);

/// Blocks that files take, not what they say their length is.
fn used(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => used(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // Removed meanwhile.
        Err(_) => 0,
    });
    bytes.sum()
}

/// About a kibibyte that hardly compresses.
fn large(number: u64) -> Image {
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..60).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        format!("{seed:016x}")
    });
    let text: String = words.collect();
    Image {
        header: Header { uid: "u".to_owned(), ..Header::default() },
        bytes: Bytes::from(format!("{{\"metadata\":{{}},\"data\":{{\"n\":\"{text}\"}}}}")),
        revision_offset: 13,
    }
}

async fn overwrite(store: Store, writer: u64, done: Arc<AtomicU64>, enough: Arc<AtomicBool>) {
    let names: Vec<String> =
        (0..OBJECTS).filter(|n| n % WRITERS == writer).map(|n| format!("o{n}")).collect();
    let mut revisions = Vec::new();
    for name in &names {
        let op = Op::Create { key: key(name), image: large(writer), namespace: None };
        revisions.push(store.write(vec![op]).await.unwrap()[0].done().unwrap());
    }
    loop {
        for (name, revision) in names.iter().zip(&mut revisions) {
            if enough.load(Ordering::Relaxed) {
                return;
            }
            let number = done.fetch_add(1, Ordering::Relaxed);
            let op = Op::Update { key: key(name), expect: *revision, image: large(number) };
            *revision = store.write(vec![op]).await.unwrap()[0].done().unwrap();
        }
    }
}

/// What the leader's compactor does.
async fn compact(store: Store, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (changes, bytes) = HISTORY;
        let view = store.view();
        let bounds: Vec<_> = view
            .resources()
            .filter_map(|(name, resource)| {
                resource.compaction_bound(changes, bytes)?;
                Some((name.clone(), resource.compaction_bound(changes / 4 * 3, bytes / 4 * 3)?))
            })
            .collect();
        if let (false, Some(lead)) = (bounds.is_empty(), store.lead()) {
            lead.compact(bounds).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_overwriting_takes_a_bounded_part_of_the_disk() {
    let updates =
        std::env::var("QUORATE_UPDATES").map_or(40_000, |text| text.parse::<u64>().unwrap());
    let cluster = Cluster::of(1).await;
    let store = cluster.masters[0].store.clone();
    let (done, enough) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let stop = Arc::new(AtomicBool::new(false));
    let compactor = tokio::spawn(compact(store.clone(), stop.clone()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(overwrite(store.clone(), writer, done.clone(), enough.clone())))
        .collect();
    let (mut most, mut shown, began) = (0, 0, Instant::now());
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(used(cluster.path()));
        let now = done.load(Ordering::Relaxed);
        if now >= shown + 50_000 {
            shown = now;
            eprintln!(
                "{now} updates in {:?}: at most {} MB so far",
                began.elapsed(),
                most / 1_000_000
            );
        }
        let purged = cluster.masters[0].masters.status().purged.is_some();
        assert!(purged || began.elapsed() < PURGED_BY, "the bound was never put to a test");
        enough.store(purged && now >= updates, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    compactor.await.unwrap();
    let updates = done.load(Ordering::Relaxed);
    eprintln!("{updates} updates of {OBJECTS} objects: at most {} MB", most / 1_000_000);
    assert!(most < DISK_BYTES_MAX, "{most} bytes");
}
