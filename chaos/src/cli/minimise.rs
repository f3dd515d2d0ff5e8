//! Runs a scenario that failed again and again, with ever fewer faults.

use std::collections::BTreeSet;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::real::{Options, run};
use crate::report::{Report, Result, file};
use crate::scenario::Scenario;
use crate::scenario::minimise::Reduction;

/// The smallest failing scenario's name in the directory of the first run.
const SMALLEST: &str = "smallest.yaml";

/// Names of the checks that failed.
fn failed(report: &Report) -> BTreeSet<String> {
    let failed = report.checks.iter().filter(|check| check.result == Result::Fail);
    failed.map(|check| check.name.to_string()).collect()
}

/// Leaves away one fault after the other while one of the same checks still fails; at most `runs` runs, each in a
/// directory of its own below the first one's.
///
/// # Errors
/// When a run could not be carried out or the scenario not be written.
pub(super) async fn minimise(
    options: &Options,
    first: &Report,
    runs: usize,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let wanted = failed(first);
    let whole = &options.scenario;
    let mut reduction = Reduction::new(whole.schedule.len());
    let smallest = options.directory.join(SMALLEST);
    let mut done = 0;
    while let Some(candidate) = reduction.candidate().filter(|_| done < runs) {
        done += 1;
        let directory = options.directory.join(format!("minimise-{done}"));
        let scenario = without(whole, &candidate);
        let (count, all) = (scenario.schedule.len(), whole.schedule.len());
        options.tell(&format!("run {done} of {runs} at most: {count} of {all} faults"));
        let next = Options { scenario, directory: directory.clone(), ..options.clone() };
        let evidence = Box::pin(run(&next, stop)).await?;
        if stop.is_cancelled() {
            break;
        }
        let report = Report::of(&evidence);
        file::save(&directory.join(file::NAME), &report, &evidence)?;
        let fails = !failed(&report).is_disjoint(&wanted);
        options.tell(if fails { "still fails" } else { "does not fail: that fault is needed" });
        reduction.tell(fails);
    }
    let scenario = without(whole, reduction.kept());
    std::fs::write(&smallest, scenario.to_yaml()?)
        .with_context(|| format!("cannot write {}", smallest.display()))?;
    let (count, all) = (scenario.schedule.len(), whole.schedule.len());
    let end = if reduction.candidate().is_none() { "" } else { "; more runs may leave fewer" };
    options.tell(&format!(
        "{count} of {all} faults fail after {done} runs{end}: quorate chaos run --scenario {} --seed {}",
        smallest.display(),
        options.seed
    ));
    Ok(())
}

fn without(whole: &Scenario, kept: &[usize]) -> Scenario {
    let schedule = kept.iter().map(|index| whole.schedule[*index].clone()).collect();
    Scenario { schedule, ..whole.clone() }
}
