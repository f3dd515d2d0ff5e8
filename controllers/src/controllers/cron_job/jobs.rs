//! The Jobs of a cron job: who runs, who has ended, what a new one looks like.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Found, event};
use crate::model::{CronJob, CronJobStatus, Job, JobReference};
use crate::plan::{Ctx, Plan};

/// The annotation with the time that a Job was made for. Jobs that people make of the template have none.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The Jobs that are this cron job's.
fn all<'a>(ctx: &Ctx<'a>, cron_job: &CronJob) -> impl Iterator<Item = Found<'a>> {
    let uid = cron_job.metadata.uid.clone();
    let owned = ctx.world.jobs_owned_by(&cron_job.metadata.uid).collect::<Vec<_>>();
    owned.into_iter().filter(move |job| job.object.metadata.is_controlled_by(&uid))
}

fn listed(cron_job: &CronJob, job: &Job) -> bool {
    cron_job.status.active.iter().any(|active| active.uid == job.metadata.uid)
}

/// When the controller meant a Job to start; `None` for one that it did not make.
fn scheduled_for(job: &Job) -> Option<Timestamp> {
    job.metadata.annotations.get(SCHEDULED)?.parse().ok()
}

/// Those that run, by what is in the store now: the status may be older.
pub(super) fn active<'a>(ctx: &Ctx<'a>, cron_job: &CronJob) -> Vec<Found<'a>> {
    let counts = |job: &Found<'_>| {
        let ours = listed(cron_job, &job.object) || scheduled_for(&job.object).is_some();
        ours && !job.object.status.finished()
    };
    all(ctx, cron_job).filter(counts).collect()
}

/// The status as the Jobs say.
pub(super) fn seen(ctx: &Ctx<'_>, cron_job: &CronJob, plan: &mut Plan) -> CronJobStatus {
    let mut status = cron_job.status.clone();
    let mut present = std::collections::BTreeSet::new();
    for found in all(ctx, cron_job) {
        let job = &found.object;
        present.insert(job.metadata.uid.clone());
        let made_for = scheduled_for(job);
        // A leader that ended between the two writes has left this to the next one.
        status.last_schedule_time = status.last_schedule_time.max(made_for);
        let known = listed(cron_job, job);
        if job.status.finished() {
            take_finished(cron_job, job, known, (&mut status, plan));
        } else if !known && made_for.is_some() {
            status.active.push(reference(found));
        } else if !known {
            let name = &job.metadata.name;
            let message = format!("Saw a job that the controller did not create or forgot: {name}");
            plan.events.push(event(cron_job, true, "UnexpectedJob", &message));
        }
    }
    status.active.retain(|active| {
        let there = present.contains(&active.uid);
        if !there {
            let message = format!("Active job went missing: {}", active.name);
            plan.events.push(event(cron_job, false, "MissingJob", &message));
        }
        there
    });
    status
}

fn take_finished(
    cron_job: &CronJob,
    job: &Job,
    known: bool,
    (status, plan): (&mut CronJobStatus, &mut Plan),
) {
    let succeeded = job.status.is("Complete");
    if known {
        status.active.retain(|active| active.uid != job.metadata.uid);
        let end = if succeeded { "Complete" } else { "Failed" };
        let message = format!("Saw completed job: {}, condition: {end}", job.metadata.name);
        plan.events.push(event(cron_job, false, "SawCompletedJob", &message));
    }
    if succeeded {
        status.last_successful_time = status.last_successful_time.max(job.status.completion_time);
    }
}

fn reference(job: Found<'_>) -> JobReference {
    let meta = &job.object.metadata;
    JobReference {
        kind: "Job".to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        api_version: "batch/v1".to_owned(),
        resource_version: job.stored.revision.0.to_string(),
    }
}

/// Of those that have ended the oldest go, as far as the limits say.
pub(super) fn clean_up(ctx: &Ctx<'_>, cron_job: &CronJob, plan: &mut Plan) {
    let spec = &cron_job.spec;
    for (end, limit) in [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ] {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let ended = |job: &Found<'_>| job.object.status.is(end);
        let mut ended: Vec<Found<'_>> = all(ctx, cron_job).filter(ended).collect();
        ended.sort_by_key(|job| {
            let start = job.object.status.start_time;
            (start.is_none(), start, job.object.metadata.name.clone())
        });
        let excess = ended.len().saturating_sub(limit);
        let stays = |job: &&Found<'_>| !job.object.metadata.terminating();
        ended.iter().take(excess).filter(stays).for_each(|job| delete(cron_job, job, plan));
    }
}

/// Deletes a Job and its pods.
pub(super) fn delete(cron_job: &CronJob, job: Found<'_>, plan: &mut Plan) {
    let step = plan.delete(&job.stored);
    step.done = Some(event(cron_job, false, "SuccessfulDelete", "Deleted job {name}"));
    step.refused = Some(event(cron_job, true, "FailedDelete", "Deleted job: {error}"));
}

/// The Job of a time.
pub(super) fn job_of(cron_job: &CronJob, due: Timestamp) -> Value {
    let template = &cron_job.spec.job_template;
    let meta = &cron_job.metadata;
    let mut metadata = json!({
        "name": format!("{}-{}", meta.name, due.as_second() / 60),
        "namespace": meta.namespace,
        "ownerReferences": [meta.as_controller("batch/v1", "CronJob")],
    });
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field).filter(|value| value.is_object()) {
            metadata[field] = value.clone();
        }
    }
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][SCHEDULED] = json!(in_zone(cron_job, due));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": template["spec"],
    })
}

/// A time as RFC 3339, in the zone of the cron job.
fn in_zone(cron_job: &CronJob, time: Timestamp) -> String {
    let zone = cron_job.spec.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
    let zone = zone.filter(|zone| *zone != TimeZone::UTC);
    match zone.map(|zone| time.to_zoned(zone)).filter(|time| time.offset().seconds() != 0) {
        Some(local) => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        None => time.to_string(),
    }
}
