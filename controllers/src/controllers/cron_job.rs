//! CronJob: Jobs at the times of a schedule.
//!
//! Desired: a Job for the last time that has come, named after it, unless it is too late, or an earlier Job still runs
//! and may not be joined. Writes: Jobs (create, delete), its own status. The name is the lock: nobody makes the Job of
//! one time twice. Who runs is read from the Jobs themselves.

mod jobs;
mod times;

use jiff::Timestamp;
use quorate_api::cron::{Schedule, zone_known};
use quorate_state_machine::Key;
use quorate_store::EventDraft;
use serde_json::json;

use crate::model::{CronJob, CronJobStatus, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::JOBS;
use crate::world::Object;
use times::Times;

const COMPONENT: &str = "cronjob-controller";

/// What is to be done for one CronJob.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(found) = ctx.world.cron_jobs.get(&key.object) else { return plan };
    let cron_job = &found.object;
    let mut status = jobs::seen(ctx, cron_job, &mut plan);
    if status == cron_job.status {
        jobs::clean_up(ctx, cron_job, &mut plan);
        if !cron_job.metadata.terminating() {
            run(ctx, cron_job, &mut status, &mut plan);
        }
    }
    // What was seen is written first: the next plan decides from that.
    if status != cron_job.status {
        let mut object = to_value(&found.stored);
        object["status"] = json!(status);
        plan.update(&found.stored, object, "status");
    }
    plan
}

/// Makes the Job whose time has come.
fn run(ctx: &Ctx<'_>, cron_job: &CronJob, status: &mut CronJobStatus, plan: &mut Plan) {
    let Some(schedule) = schedule(cron_job, plan) else { return };
    let times = Times::of(ctx, cron_job, &schedule);
    if let Some(next) = times.next {
        plan.wake_at(next, ctx.now);
    }
    if times.unmet_within_deadline_invalid {
        let message = format!("invalid schedule: {} : {}", cron_job.spec.schedule, times::INVALID);
        plan.events.push(event(cron_job, true, "InvalidSchedule", &message));
        return;
    }
    let Some(due) = times.due else { return };
    if times.many_missed {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds \
                       or check clock skew";
        plan.events.push(event(cron_job, true, "TooManyMissedTimes", message));
    }
    if times::too_late(cron_job, due, ctx.now) {
        let at = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {at}");
        plan.events.push(event(cron_job, true, "MissSchedule", &message));
        return;
    }
    if cron_job.status.last_schedule_time == Some(due) {
        return;
    }
    let active = jobs::active(ctx, cron_job);
    match cron_job.spec.concurrency_policy.as_str() {
        "Forbid" if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency \
                           policy is Forbid";
            plan.events.push(event(cron_job, false, "JobAlreadyActive", message));
            return;
        }
        "Replace" => active.iter().for_each(|job| jobs::delete(cron_job, job, plan)),
        _ => {}
    }
    create(ctx, cron_job, due, plan);
    status.last_schedule_time = Some(due);
}

/// The name tells the time, so that no time has two Jobs.
fn create(ctx: &Ctx<'_>, cron_job: &CronJob, due: Timestamp, plan: &mut Plan) {
    let job = jobs::job_of(cron_job, due);
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    if ctx.world.get(&JOBS.key(&cron_job.metadata.namespace, name)).is_some() {
        return;
    }
    let step = plan.create(JOBS.group_resource(), job);
    step.done = Some(event(cron_job, false, "SuccessfulCreate", "Created job {name}"));
    step.refused = Some(event(cron_job, true, "FailedCreate", "Error creating job: {error}"));
}

/// The schedule, while there is one to follow.
fn schedule(cron_job: &CronJob, plan: &mut Plan) -> Option<Schedule> {
    let spec = &cron_job.spec;
    if let Some(zone) = &spec.time_zone
        && let Err(error) = zone_known(zone)
    {
        let message = format!("invalid timeZone: {zone:?}: {error}");
        plan.events.push(event(cron_job, true, "UnknownTimeZone", &message));
        return None;
    }
    if spec.suspend == Some(true) {
        return None;
    }
    let parsed = Schedule::parse(&spec.schedule, spec.time_zone.as_deref());
    if let Err(error) = &parsed {
        let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
        plan.events.push(event(cron_job, true, "UnparseableSchedule", &message));
    }
    parsed.ok()
}

/// A Job of the store.
type Found<'a> = &'a Object<crate::model::Job>;

fn event(cron_job: &CronJob, warning: bool, reason: &'static str, message: &str) -> EventDraft {
    EventDraft {
        component: COMPONENT,
        regarding: cron_job.metadata.regarding("batch/v1", "CronJob"),
        warning,
        reason,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
