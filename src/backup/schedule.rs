//! Backups that a master makes by itself, on its own disk. Each master makes its own: one that is lost takes only its
//! copies with it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use quorate_backup::file::{self, Draft};
use quorate_pki::files;
use tokio_util::sync::CancellationToken;

use super::SCHEDULED;
use super::plan::Plan;
use super::take::{Source, Taken};

/// A backup that failed is tried again after this: there may have been no quorum, or no room.
const RETRY: Duration = Duration::from_secs(300);

/// The clock is looked at this often: it may have been set, and a machine may have slept.
const LOOK: Duration = Duration::from_secs(1);

/// Makes backups until `stop`.
pub async fn run(source: Source, plan: Plan, stop: CancellationToken) {
    let directory = plan.directory.display().to_string();
    tracing::info!(directory, schedule = plan.text, keep = plan.keep, "backups are made");
    let mut due = match first(&source, &plan).await {
        Ok(due) => due,
        Err(error) => {
            // What is there cannot be read: the next one that is written tells what is wrong.
            tracing::warn!(directory, error = format!("{error:#}"), "the backups cannot be listed");
            Timestamp::now()
        }
    };
    loop {
        while Timestamp::now() < due {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
        }
        due = match once(&source, &plan).await.and_then(|()| plan.next(Timestamp::now())) {
            Ok(next) => next,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(directory, error, "no backup was made, it is tried again");
                Timestamp::now() + RETRY
            }
        };
    }
}

/// When the next one is due: as the schedule says after the last. One that was missed is made at once.
async fn first(source: &Source, plan: &Plan) -> anyhow::Result<Timestamp> {
    let (directory, cluster) = (plan.directory.clone(), source.cluster.clone());
    let last = blocking(move || {
        if !directory.exists() {
            return Ok(None);
        }
        file::remove_unfinished(&directory, &own_kind(&cluster.name))?;
        let all = file::list(&directory)?;
        let own = all.iter().filter_map(|one| one.header.as_ref().ok()).filter(|header| {
            (&header.cluster_id, &header.made_by.name) == (&cluster.cluster_id, &cluster.name)
        });
        Ok(own.map(|header| header.made_at).max())
    });
    plan.next(last.await?.unwrap_or_else(Timestamp::now))
}

/// Several masters may share a directory, each with files of its own.
fn own_kind(master: &str) -> String {
    format!("{SCHEDULED}-{master}")
}

async fn once(source: &Source, plan: &Plan) -> anyhow::Result<()> {
    let taken = source.take(plan.passphrase.clone()).await?;
    let (directory, keep) = (plan.directory.clone(), plan.keep);
    let cluster = source.cluster.clone();
    blocking(move || {
        let (name, bytes) = write(&directory, &taken)?;
        tracing::info!(
            file = %directory.join(name).display(),
            revision = taken.header().revision,
            bytes,
            "a backup was made"
        );
        let own = (cluster.cluster_id.as_str(), cluster.name.as_str());
        let all = file::list(&directory)?;
        for name in file::surplus(&all, &own_kind(&cluster.name), own, keep) {
            let path = directory.join(name);
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    })
    .await
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
