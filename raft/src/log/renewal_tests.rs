//! Tests of what is found in the store's own files, and of the store that takes the place of a damaged one.

use std::fs;
use std::path::Path;

use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::examine::Examiner;
use super::renewal;
use super::storage::LogStore;
use super::tests::{append, close, entry, open, vote};
use crate::limits::LOG_TAIL_BYTES_MAX;
use crate::raft_types::{Entry, log_id};
use crate::types::NodeId;

async fn damage(log: &LogStore) -> Option<(String, String)> {
    let examiner = log.examiner().await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || examiner.examine()).await.unwrap().unwrap()
}

/// A copy of what is in a directory, and of its file `db` with a bit flipped.
fn copied(from: &Path, at: Option<usize>) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    if let Some(at) = at {
        flip(copy.path(), at);
    }
    copy
}

fn flip(log: &Path, at: usize) {
    let path = log.join("db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1 << (at % 8);
    // In place: the store has it open.
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
}

fn used(log: &Path) -> usize {
    fs::read(log.join("db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap()
}

/// Entries that come and go, over more than one segment.
async fn worked(log: &mut LogStore, from: u64, to: u64) {
    for index in from..to {
        append(log, [entry(index, 60_000)]).await;
        if index % 50 == 49 {
            log.purge(log_id(1, NodeId(1), index - 20)).await.unwrap();
        }
    }
}

async fn entries(log: &mut LogStore) -> Vec<Entry> {
    let state = log.get_log_state().await.unwrap();
    let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
    let end = state.last_log_id.map_or(0, |id| id.index + 1);
    let mut all = Vec::new();
    while first + (all.len() as u64) < end {
        all.extend(log.try_get_log_entries(first + all.len() as u64..end).await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_at_work_is_never_taken_for_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    assert_eq!(damage(&log).await, None, "new");
    append(&mut log, [entry(0, 10)]).await;
    assert_eq!(damage(&log).await, None, "with one segment");
    log.truncate_after(None).await.unwrap();
    close(log, thread).await;
    for round in 0..4 {
        let (mut log, thread, _) = open(dir.path()).await.unwrap();
        let looking = log.clone();
        let looks = tokio::spawn(async move {
            for _ in 0..3 {
                assert_eq!(damage(&looking).await, None);
            }
        });
        worked(&mut log, round * 200, round * 200 + 200).await;
        looks.await.unwrap();
        assert_eq!(damage(&log).await, None, "at rest");
        close(log, thread).await;
    }
    assert!(used(dir.path()) > 8 << 20, "it was all in one segment");
}

/// Whatever is not found does no harm: the log can be opened, and is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_found_or_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    log.save_vote(&vote(3)).await.unwrap();
    worked(&mut log, 0, 400).await;
    let want = entries(&mut log).await;
    close(log, thread).await;
    let settings = fs::read(dir.path().join("conf")).unwrap();
    let examine = |at: &Path| Examiner::new(at, settings.clone()).examine().unwrap();
    assert_eq!(examine(dir.path()), None, "all is as it was");
    let used = used(dir.path());
    let (mut found, mut harmless) = (0, 0);
    for step in 0..24 {
        let at = used / 24 * step + step * 7;
        let copy = copied(dir.path(), Some(at));
        let Some((name, problem)) = examine(copy.path()) else {
            let (mut log, thread, _) =
                open(copy.path()).await.unwrap_or_else(|error| panic!("bit at {at}: {error}"));
            assert!(entries(&mut log).await == want, "bit at {at}");
            assert_eq!(log.read_vote().await.unwrap(), Some(vote(3)), "bit at {at}");
            close(log, thread).await;
            harmless += 1;
            continue;
        };
        assert_eq!(name, "db");
        assert!(problem.contains("of the segment at "), "{problem}");
        found += 1;
    }
    assert!(found > 10, "{found} were found, {harmless} were harmless");
    for name in ["conf", "snap"] {
        let copy = copied(dir.path(), None);
        let path = fs::read_dir(copy.path()).unwrap().map(|item| item.unwrap().path());
        let mut path = path.filter(|path| path.to_string_lossy().contains(&format!("/{name}")));
        let Some(path) = path.next() else { continue };
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
        let (told, _) = examine(copy.path()).expect(name);
        assert!(told.starts_with(name), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_store_has_the_same_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    log.save_vote(&vote(3)).await.unwrap();
    // More than memory holds, and some that are purged.
    let count = LOG_TAIL_BYTES_MAX as u64 / 60_000 + 200;
    worked(&mut log, 0, 60).await;
    append(&mut log, (60..count).map(|index| entry(index, 60_000))).await;
    let want = entries(&mut log).await;
    for round in 0..2 {
        // The store may be about to use a segment anew: then nothing is damaged.
        let mut found = None;
        for at in (1..20).map(|place| (place << 20) + 77) {
            flip(dir.path(), at);
            found = damage(&log).await;
            if found.is_some() {
                break;
            }
        }
        assert!(found.is_some(), "round {round}");
        log.renew().await.unwrap();
        assert_eq!(damage(&log).await, None, "round {round}");
        assert!(entries(&mut log).await == want, "round {round}");
    }
    append(&mut log, [entry(count, 10)]).await;
    log.save_vote(&vote(4)).await.unwrap();
    close(log, thread).await;
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(vote(4)));
    let now = entries(&mut log).await;
    assert!(now[..want.len()] == want[..] && now.len() == want.len() + 1);
    assert_eq!(log.check().await.unwrap(), None);
    // It can be made shorter and longer.
    log.purge(log_id(1, NodeId(1), count - 1)).await.unwrap();
    append(&mut log, [entry(count + 1, 10)]).await;
    assert_eq!(entries(&mut log).await.len(), 2);
    close(log, thread).await;
}

/// Whenever the process ends: before the new store is complete the old one counts, after that the new one.
#[tokio::test]
async fn a_renewal_that_was_interrupted_is_undone_or_finished() {
    let old = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(old.path()).await.unwrap();
    append(&mut log, (0..10).map(|index| entry(index, 100))).await;
    close(log, thread).await;
    // The new one: of the same log, and longer, so that it can be told from the old one.
    let new = copied(old.path(), None);
    let (mut log, thread, _) = open(new.path()).await.unwrap();
    append(&mut log, [entry(10, 100)]).await;
    close(log, thread).await;

    for moved in ["nothing", "begun", "complete", "conf", "conf db"] {
        let log = copied(old.path(), None);
        if moved != "nothing" {
            let made = renewal::begin(log.path()).unwrap();
            for name in ["conf", "db"] {
                fs::copy(new.path().join(name), made.join(name)).unwrap();
            }
        }
        if !["nothing", "begun"].contains(&moved) {
            renewal::complete(log.path()).unwrap();
            if moved != "complete" {
                for item in fs::read_dir(log.path()).unwrap() {
                    let path = item.unwrap().path();
                    if path.to_string_lossy().contains("/snap.") {
                        fs::remove_file(path).unwrap();
                    }
                }
            }
        }
        for name in moved.split(' ').filter(|name| ["conf", "db"].contains(name)) {
            fs::rename(log.path().join("renewed").join(name), log.path().join(name)).unwrap();
        }
        let (mut opened, thread, _) =
            open(log.path()).await.unwrap_or_else(|error| panic!("{moved}: {error}"));
        let want = if ["nothing", "begun"].contains(&moved) { 10 } else { 11 };
        assert_eq!(entries(&mut opened).await.len(), want, "{moved}");
        close(opened, thread).await;
        let left = fs::read_dir(log.path()).unwrap().map(|item| item.unwrap().file_name());
        let left: Vec<_> =
            left.filter(|name| name.to_string_lossy().starts_with("renewed")).collect();
        assert!(left.is_empty(), "{moved}: {left:?}");
    }
}
