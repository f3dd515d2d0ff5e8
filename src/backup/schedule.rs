//! Backups that a master makes by itself, on its own disk. Each master makes its own: one that is lost takes only its
//! copies with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quorate_backup::file::{self, Draft};
use quorate_pki::files;
use quorate_raft::limits::DISK_FREE_BYTES_MIN;
use tokio_util::sync::CancellationToken;

use super::SCHEDULED;
use super::plan::Plan;
use super::remote::Remote;
use super::take::{Source, Taken};
use crate::data_dir::ClusterFile;

/// A backup that failed is tried again after this: there may have been no leader for a moment, as when masters start.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Each that fails after it is tried again after twice the time, at most after this: there is no quorum, or no room.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The clock is looked at this often: it may have been set, and a machine may have slept.
const LOOK: Duration = Duration::from_secs(1);

/// What is counted of them.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    last: Gauge,
    due: Gauge,
    failures: Counter,
}

impl Meters {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "quorate_backup_last_success_timestamp_seconds",
            "When this master made its last backup by itself, seconds since 1970; 0 when it has none",
            self.last.clone(),
        );
        registry.register(
            "quorate_backup_due_timestamp_seconds",
            "When this master makes its next backup; in the past while that fails",
            self.due.clone(),
        );
        registry.register(
            "quorate_backup_failures",
            "Backups that this master was to make and could not",
            self.failures.clone(),
        );
    }
}

/// Makes backups until `stop`.
pub async fn run(source: Source, plan: Plan, meters: Meters, stop: CancellationToken) {
    let directory = match &plan.remote {
        Some(remote) => remote.to_string(),
        None => plan.directory.display().to_string(),
    };
    tracing::info!(directory, schedule = plan.text, keep = plan.keep, "backups are made");
    let begun = tokio::select! {
        begun = first(&source, &plan, &meters) => begun,
        () = stop.cancelled() => return,
    };
    let mut due = match begun {
        Ok(due) => due,
        Err(error) => {
            // What is there cannot be read: the next one that is written tells what is wrong.
            tracing::warn!(directory, error = format!("{error:#}"), "the backups cannot be listed");
            Timestamp::now()
        }
    };
    meters.due.set(due.as_second());
    let mut failures = 0;
    loop {
        while Timestamp::now() < due {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            // A clock that was ahead, and is right now, is not waited for.
            due = plan.next(Timestamp::now()).map_or(due, |next| next.min(due));
        }
        let made = tokio::select! {
            made = once(&source, &plan) => made,
            // What was begun goes with the process, or is whole.
            () = stop.cancelled() => return,
        };
        due = match made.and_then(|()| plan.next(Timestamp::now())) {
            Ok(next) => {
                failures = 0;
                meters.last.set(Timestamp::now().as_second());
                meters.due.set(next.as_second());
                next
            }
            Err(error) => {
                meters.failures.inc();
                let error = format!("{error:#}");
                let wait = retry(failures);
                failures += 1;
                let again = wait.as_secs();
                tracing::warn!(
                    directory,
                    error,
                    again_s = again,
                    "no backup was made, it is tried again"
                );
                Timestamp::now() + wait
            }
        };
    }
}

/// How long is waited after a failure that `before` others went before.
fn retry(before: u32) -> Duration {
    RETRY_FIRST.saturating_mul(2_u32.saturating_pow(before)).min(RETRY_MAX)
}

/// When the next one is due: as the schedule says after the last. One that was missed is made at once.
async fn first(source: &Source, plan: &Plan, meters: &Meters) -> anyhow::Result<Timestamp> {
    let (directory, cluster) = (plan.directory.clone(), source.cluster.clone());
    let here = blocking(move || {
        if !directory.exists() {
            return Ok(Vec::new());
        }
        file::remove_unfinished(&directory, &own_kind(&cluster.name))?;
        Ok(file::list(&directory)?)
    });
    let here = here.await?;
    let all = match &plan.remote {
        Some(remote) => {
            // One that a process was ended with before it was in the bucket.
            for one in
                here.iter().filter(|one| one.name.starts_with(&own_kind(&source.cluster.name)))
            {
                drop(std::fs::remove_file(plan.directory.join(&one.name)));
            }
            remote.list().await?
        }
        None => here,
    };
    let (cluster, now) = (&source.cluster, Timestamp::now());
    let own = all.iter().filter_map(|one| one.header.as_ref().ok()).filter(|header| {
        (&header.cluster_id, &header.made_by.name) == (&cluster.cluster_id, &cluster.name)
            && header.made_at <= now
    });
    let last = own.map(|header| header.made_at).max();
    meters.last.set(last.map_or(0, |last| last.as_second()));
    plan.next(last.unwrap_or_else(Timestamp::now))
}

/// Several masters may share a directory, each with files of its own.
fn own_kind(master: &str) -> String {
    format!("{SCHEDULED}-{master}")
}

async fn once(source: &Source, plan: &Plan) -> anyhow::Result<()> {
    let state_bytes = source.masters.status().state_bytes;
    let directory = plan.directory.clone();
    blocking(move || has_room(&directory, state_bytes)).await?;
    let taken = source.take(plan.passphrase.clone()).await?;
    let (directory, keep) = (plan.directory.clone(), plan.keep);
    let cluster = source.cluster.clone();
    let (place, revision) = (directory.clone(), taken.header().revision);
    let (name, bytes) = blocking(move || write(&place, &taken)).await?;
    let file = directory.join(&name);
    let Some(remote) = &plan.remote else {
        tracing::info!(file = %file.display(), revision, bytes, "a backup was made");
        return tidy_here(directory, cluster, keep).await;
    };
    let put = remote.upload(&file, &name).await;
    // There is room for the next one, and nobody takes it for one that is kept.
    std::fs::remove_file(&file)?;
    put?;
    tracing::info!(file = format!("{remote}/{name}"), revision, bytes, "a backup was made");
    // It is made; that an old one stays is told, and no reason to make another.
    if let Err(error) = tidy_there(remote, (&cluster.cluster_id, &cluster.name), keep).await {
        tracing::warn!(%remote, error = format!("{error:#}"), "old backups cannot be removed");
    }
    Ok(())
}

async fn tidy_there(remote: &Remote, own: (&str, &str), keep: usize) -> anyhow::Result<()> {
    let all = remote.list().await?;
    for name in file::surplus(&all, &own_kind(own.1), own, (keep, Timestamp::now())) {
        remote.delete(&name).await?;
    }
    Ok(())
}

async fn tidy_here(
    directory: PathBuf,
    cluster: Arc<ClusterFile>,
    keep: usize,
) -> anyhow::Result<()> {
    blocking(move || {
        let own = (cluster.cluster_id.as_str(), cluster.name.as_str());
        // It is made; that an old one stays is told, and no reason to make another.
        if let Err(error) = tidy(&directory, own, keep) {
            let (directory, error) = (directory.display(), format!("{error:#}"));
            tracing::warn!(%directory, error, "old backups cannot be removed");
        }
        Ok(())
    })
    .await
}

/// Removes the oldest, so that as many stay as are to be kept.
fn tidy(directory: &Path, own: (&str, &str), keep: usize) -> anyhow::Result<()> {
    let all = file::list(directory)?;
    let mut failed = None;
    for name in file::surplus(&all, &own_kind(own.1), own, (keep, Timestamp::now())) {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                failed = Some(anyhow::Error::new(error).context(path.display().to_string()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The log, which may be on the same disk, goes before: a backup never takes the room that it needs.
fn has_room(directory: &Path, state_bytes: u64) -> anyhow::Result<()> {
    files::create_private_dir(directory)?;
    let space = rustix::fs::statvfs(directory)?;
    let free = space.f_bavail * space.f_frsize;
    // Compressed it is smaller than that, by far.
    let needed = 2 * DISK_FREE_BYTES_MIN + state_bytes;
    anyhow::ensure!(
        free >= needed,
        "{} has {} MiB of room, and {} MiB are needed: free some, or give another --backup-dir",
        directory.display(),
        free >> 20,
        needed >> 20,
    );
    Ok(())
}

fn write(directory: &Path, taken: &Taken) -> anyhow::Result<(String, u64)> {
    files::create_private_dir(directory)?;
    let header = taken.header();
    let kind = own_kind(&header.made_by.name);
    let name = file::name(&kind, header.made_at);
    let path = directory.join(&name);
    let written = Draft::begin(&path).and_then(|mut draft| {
        taken.write(&mut draft)?;
        draft.finish()
    });
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok((name, std::fs::metadata(&path)?.len()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("it panicked")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_soon_and_then_ever_later() {
        let waits: Vec<u64> = [0, 1, 2, 8, 9, 1000].map(|before| retry(before).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
    }
}
