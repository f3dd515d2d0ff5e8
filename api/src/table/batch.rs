//! Jobs and cron jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::containers;
use super::{AGE, Column, NAME, age, boolean, duration, integer, name, text};
use crate::selector::object;
use crate::tree;

pub(super) static JOB: &[Column] = &[
    NAME,
    text("Status").described("Status of the job."),
    text("Completions"),
    text("Duration").described("Time required to complete the job."),
    AGE,
    text("Containers").wide().described("Names of each container in the template."),
    text("Images").wide().described("Images referenced by each container in the template."),
    text("Selector").wide(),
];
pub(super) static CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule"),
    text("Timezone"),
    boolean("Suspend"),
    integer("Active"),
    text("Last Schedule"),
    AGE,
    text("Containers").wide().described("Names of each container in the template."),
    text("Images").wide().described("Images referenced by each container in the template."),
    text("Selector").wide(),
];

pub(super) fn job(job: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(job, "spec"), tree::get(job, "status"));
    let succeeded = tree::int(status, "succeeded");
    let completions = match (tree::int_opt(spec, "completions"), tree::int(spec, "parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let [names, images] = containers(spec);
    vec![
        json!(name(job)),
        json!(state(job)),
        json!(completions),
        json!(took(status, now)),
        age(job, now),
        names,
        images,
        json!(object::format(tree::get(spec, "selector"))),
    ]
}

fn state(job: &Value) -> &'static str {
    let is = |kind: &str| {
        tree::list(tree::get(job, "status"), "conditions")
            .iter()
            .any(|one| tree::text(one, "type") == kind && tree::text(one, "status") == "True")
    };
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if tree::has(tree::get(job, "metadata"), "deletionTimestamp") => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn took(status: &Value, now: Timestamp) -> String {
    let time = |name: &str| tree::text(status, name).parse::<Timestamp>().ok();
    match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => duration::human(duration::seconds_between(start, end.unwrap_or(now))),
    }
}

pub(super) fn cron_job(cron: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(cron, "spec"), tree::get(cron, "status"));
    let job = tree::at(spec, &["jobTemplate", "spec"]);
    let [names, images] = containers(job);
    let suspend = match tree::flag_opt(spec, "suspend") {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    let last = match tree::text(status, "lastScheduleTime") {
        "" => "<none>".to_owned(),
        time => duration::since(time, now),
    };
    vec![
        json!(name(cron)),
        json!(tree::text(spec, "schedule")),
        json!(tree::text_opt(spec, "timeZone").unwrap_or("<none>")),
        json!(suspend),
        json!(tree::list(status, "active").len()),
        json!(last),
        age(cron, now),
        names,
        images,
        json!(object::format(tree::get(job, "selector"))),
    ]
}
