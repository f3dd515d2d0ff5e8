//! The report for people: one HTML file that needs nothing else, light or dark as the reader likes it.
//!
//! Whatever comes from a run is escaped where it is put in (maud does it); the page forbids itself to load anything
//! and to run any script but its own.

use std::path::Path;

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::logs::{self, Logs, Window};
use super::timeline::{self, Timeline, seconds};
use super::violation::{Shown, Violation};
use super::{Check, Evidence, Report, Result};
use crate::history::Tick;
use crate::limits::FAULTS_SHOWN_MAX;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of a run. Logs are read from `directory`, as far as they are there.
#[must_use]
pub fn page(report: &Report, evidence: &Evidence, directory: &Path) -> String {
    let violation = report.first_violation.as_ref();
    let logs = logs::join(evidence, violation, directory);
    let Timeline { picture, numbers } = timeline::draw(evidence, violation);
    let title = format!("{} · quorate chaos · seed {}", plain(report.result), report.seed);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report, evidence))
                main {
                    (checks(report))
                    @if let Some(violation) = violation { (first(violation, evidence, &logs)) }
                    section {
                        h2 #timeline-heading { "Timeline" }
                        (legend())
                        div.wide { (picture) }
                        div #tip hidden="" {}
                        @if evidence.injected.len() > FAULTS_SHOWN_MAX {
                            p.note { "The first " (FAULTS_SHOWN_MAX) " faults are shown." }
                        }
                        @if evidence.observed.dropped > 0 {
                            p.note { (evidence.observed.dropped) " later changes of masters' states were not kept." }
                        }
                    }
                    div.pair { (operations(report)) (faults(evidence)) }
                    (log_section(&logs, evidence))
                    (files(&logs, evidence, directory))
                }
                script type="application/json" #numbers { (PreEscaped(numbers)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Nothing from anywhere else, and no script but ours.
fn policy() -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    )
}

fn plain(result: Result) -> &'static str {
    match result {
        Result::Pass => "pass",
        Result::Unknown => "unknown",
        Result::Fail => "fail",
    }
}

fn meaning(report: &Report) -> String {
    let of = |result: Result| {
        let names =
            report.checks.iter().filter(|check| check.result == result).map(|check| check.name);
        names.collect::<Vec<_>>().join(", ")
    };
    match report.result {
        Result::Pass => {
            "Every promise that was checked held, and enough happened to say so.".to_owned()
        }
        Result::Unknown => format!(
            "Nothing wrong was found, but it cannot be called right: see {}.",
            of(Result::Unknown)
        ),
        Result::Fail => format!("A promise was broken: see {}.", of(Result::Fail)),
    }
}

fn head(report: &Report, evidence: &Evidence) -> Markup {
    let scenario = &evidence.options.scenario;
    let answered: usize = report.operations.values().map(|count| count.answered).sum();
    let unknown: usize = report.operations.values().map(|count| count.unknown).sum();
    let healed = report.healed_ms.map_or_else(|| "–".to_owned(), ms);
    html! {
        header class=(plain(report.result)) {
            div.verdict {
                span.stamp { (plain(report.result)) }
                div {
                    h1 { (meaning(report)) }
                    p {
                        "Scenario " b { (scenario.name) } ": " (scenario.masters) " masters, "
                        (scenario.workload.clients) " clients, " (scenario.workload.keys) " objects, "
                        (format!("{:.0} s of faults", evidence.lasted.as_secs_f64()))
                        ", begun " time { (evidence.began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()) }
                        ", quorate " (env!("CARGO_PKG_VERSION"))
                    }
                }
                @if report.first_violation.is_some() { a.jump href="#violation" { "Jump to the violation" } }
            }
            div.command {
                span { "Seed " b { (report.seed) } ". The same again:" }
                code #command { (evidence.options.command) }
                button #copy type="button" hidden="" { "Copy" }
            }
            dl.tiles {
                div { dt { "answered" } dd { (thousands(answered)) } }
                div { dt { "outcome unknown" } dd { (thousands(unknown)) } }
                div { dt { "faults" } dd { (evidence.injected.len()) } }
                div { dt { "longest silence" } dd { (ms(report.longest_silence_ms)) } }
                div { dt { "all serve after the last fault" } dd { (healed) } }
                div { dt { "leaderships seen" } dd { (leaderships(evidence)) } }
            }
        }
    }
}

/// Different pairs of a term and who led in it.
fn leaderships(evidence: &Evidence) -> usize {
    let stretches = evidence.observed.stretches.iter();
    let mut led: Vec<(u64, usize)> = stretches
        .filter_map(|found| found.state.leads().map(|term| (term, found.master)))
        .collect();
    led.sort_unstable();
    led.dedup();
    led.len()
}

fn checks(report: &Report) -> Markup {
    let mut checks: Vec<&Check> = report.checks.iter().collect();
    // What is wrong comes first, else in the order of the checks.
    checks.sort_by_key(|check| std::cmp::Reverse(check.result));
    html! {
        section {
            h2 { "Checks" }
            table.checks {
                thead { tr { th { "verdict" } th { "check" } th { "what it promises" } th { "how much was checked" } } }
                tbody {
                    @for check in checks {
                        tr class=(plain(check.result)) {
                            td { span.chip { (plain(check.result)) } }
                            td { b { (check.name) } }
                            td { (promise(check.name)) }
                            td { @if check.checked.is_empty() { "nothing" } @else { (check.checked) } }
                        }
                        @if !check.found.is_empty() {
                            tr.found { td {} td colspan="3" { (found(check)) } }
                        }
                    }
                    @for none in &report.not_checked {
                        tr { td { "–" } td { b { (none.name) } } td { (promise(none.name)) } td { (none.why) } }
                    }
                }
            }
        }
    }
}

fn found(check: &Check) -> Markup {
    html! { ul { @for found in &check.found { li { (found) } } } }
}

/// What each check is about, for who sees the report first.
fn promise(check: &str) -> &'static str {
    match check {
        "expectations" => "what the scenario asks for beside that nothing is wrong",
        "course" => "the run went as asked; no master died by itself; all served again in time",
        "coverage" => "every kind of fault happened, and operations were answered meanwhile",
        "linearizable" => "some order of each object's operations explains every answer",
        "watches" => "ordered, unique, complete, resumed without a gap; bookmarks are true",
        "revisions" => "no revision is given to two writes; none goes back, for anybody, anywhere",
        "conditional" => "nothing came between what a conditional write had read and what it wrote",
        "agreement" => "at the end all masters list the same",
        "lost" => "at the end everything is there that was acknowledged",
        "lists" => "each read of a list is the beginning of the next; no element lost, none twice",
        "bank" => "no money came or went; no account is below 0",
        "leases" => "one holder at a time; transitions are counted",
        "leaders" => "no master's term went back; who led which term",
        "membership" => "all masters are voters, all know the same ones, and follow one leader",
        "bound" => "no pod was ever seen on two nodes",
        "converged" => "Deployments are what their user was told, and as many pods as they say",
        "surplus" => "no pod and no ReplicaSet too many, none that belongs to nobody",
        "endpoints" => "Services lead to their ready pods, and to nothing else",
        "containers" => "what the API says runs, runs on the host, once; nothing else does",
        "nodes" => "all agents are connected again",
        "left" => "nothing of the run is left on the host",
        _ => "",
    }
}

fn first(violation: &Violation, evidence: &Evidence, logs: &Logs) -> Markup {
    let own = || violation.operations.iter().filter(|shown| !shown.context);
    let from = own().map(|shown| shown.called).min().unwrap_or(violation.at);
    let to = own().filter_map(|shown| shown.answered).max();
    let span = Span { from, to: to.unwrap_or(violation.at).max(violation.at).max(from + 1) };
    let there: Vec<&str> = evidence
        .injected
        .iter()
        .filter(|fault| fault.from <= violation.at && fault.to >= from)
        .map(|fault| fault.what.as_str())
        .collect();
    let around = logs.windows.iter().find(|window| window.violation);
    html! {
        section.violation #violation {
            h2 { "First violation " span.at { "at " (format!("{:.3} s", seconds(violation.at))) } }
            p.what { (violation.what) }
            p {
                "Check " b { (violation.check) } ". "
                @if there.is_empty() { "No fault was there at that time." }
                @else { "Faults at that time: " (there.join(", ")) "." }
            }
            @if !violation.operations.is_empty() {
                p.note {
                    (violation.operations.iter().filter(|shown| !shown.context).count())
                    " operations: " (violation.window) "."
                    @if violation.operations.iter().any(|shown| shown.context) {
                        " Pale: writes before that tell where the values come from."
                    }
                }
                div.wide { (window(&violation.operations, &span, evidence)) }
            }
            @if let Some(around) = around.filter(|around| !around.lines.is_empty()) {
                h3 { "What the masters logged meanwhile" }
                (lines(around, evidence))
            }
        }
    }
}

struct Span {
    from: Tick,
    to: Tick,
}

impl Span {
    fn percent(&self, at: Tick) -> f64 {
        let whole = (self.to - self.from).max(1) as f64;
        (at.saturating_sub(self.from) as f64 / whole * 100.0).min(100.0)
    }
}

fn window(operations: &[Shown], span: &Span, evidence: &Evidence) -> Markup {
    html! {
        table.window {
            thead {
                tr {
                    th { "client" } th { "at" } th { "object" } th { "asked" } th { "answer" }
                    th.number { "called" } th.number { "took" }
                    th.bars {
                        (format!("{:.3} s", seconds(span.from))) span { (format!("{:.3} s", seconds(span.to))) }
                    }
                }
            }
            tbody {
                @for shown in operations {
                    @let start = span.percent(shown.called);
                    @let end = shown.answered.map_or(100.0, |at| span.percent(at));
                    tr.wrong[shown.wrong].context[shown.context] {
                        td { (shown.client) } td { (evidence.options.name(shown.master)) } td { (shown.object) }
                        td { (shown.asked) }
                        td { @if let Some(told) = &shown.told { (told) } @else { i { "unknown" } } }
                        td.number { (format!("{:.3} s", seconds(shown.called))) }
                        td.number {
                            @if let Some(at) = shown.answered { (ms(seconds(at.saturating_sub(shown.called)) * 1e3)) }
                            @else { "–" }
                        }
                        td.bars {
                            @if !shown.context { svg height="14" width="100%" aria-hidden="true" {
                                rect.open[shown.answered.is_none()] x=(format!("{start:.2}%")) y="2" height="10" rx="2"
                                    width=(format!("{:.2}%", (end - start).max(0.6))) {}
                            } }
                        }
                    }
                }
            }
        }
    }
}

fn legend() -> Markup {
    html! {
        ul.legend {
            li { span.key.leader {} "leader" }
            li { span.key.up {} "follower" }
            li { span.key.lost {} "knows no leader" }
            li { span.key.silent {} "does not answer" }
            li { span.key.down {} "down" }
            li { span.key.band {} "fault" }
            li { span.key.middle {} "median latency" }
            li { span.key.range {} "up to the slowest" }
            li { span.key.answered {} "answered per second" }
            li { span.key.unknown {} "outcome unknown" }
        }
        p.note { "✕ killed, ▲ started, ‖ paused, ▶ resumed. Click to see what the masters logged then." }
    }
}

fn operations(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Operations" }
            table {
                thead {
                    tr {
                        th { "kind" } th.number { "answered" } th.number { "unknown" } th.number { "median" }
                        th.number { "99 %" } th.number { "slowest" }
                    }
                }
                tbody {
                    @for (kind, count) in &report.operations {
                        tr {
                            td { (kind) }
                            td.number { (thousands(count.answered)) } td.number { (thousands(count.unknown)) }
                            @for time in [count.p50_ms, count.p99_ms, count.max_ms] {
                                td.number { @if count.answered > 0 { (ms(time)) } @else { "–" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn faults(evidence: &Evidence) -> Markup {
    html! {
        section {
            h2 { "Faults" }
            div.tall {
                table {
                    thead { tr { th.number { "at" } th { "what, and what the host showed" } th.number { "lasted" } } }
                    tbody {
                        @for fault in evidence.injected.iter().take(FAULTS_SHOWN_MAX) {
                            tr {
                                td.number { (format!("{:.1} s", seconds(fault.from))) }
                                td { (fault.what) @if !fault.shown.is_empty() { div.note { (fault.shown) } } }
                                td.number { (ms(seconds(fault.to.saturating_sub(fault.from)) * 1e3)) }
                            }
                        }
                        @for skipped in &evidence.skipped {
                            tr {
                                td.number { "–" }
                                td { (skipped.fault) div.note { "left out: " (skipped.why) } }
                                td.number { "–" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn log_section(logs: &Logs, evidence: &Evidence) -> Markup {
    html! {
        section {
            h2 { "Logs of all masters, joined by time" }
            @if evidence.options.names.is_empty() {
                p.note { "Around each fault; the first lines of each, the files below have all." }
            } @else {
                p.note { "The masters were there before: their logs are where they write them." }
            }
            @for window in logs.windows.iter().filter(|window| !window.violation) {
                details {
                    summary {
                        span.at { (format!("{:.1} s", seconds(window.from))) } " " b { (window.what) } " "
                        span.note { (window.lines.len() + window.more) " lines" }
                    }
                    (lines(window, evidence))
                }
            }
        }
    }
}

fn lines(window: &Window, evidence: &Evidence) -> Markup {
    html! {
        div.wide {
            table.log {
                tbody {
                    @for line in &window.lines {
                        tr class=(line.level) data-t=(format!("{:.1}", seconds(line.at) * 1e3)) {
                            td.number { (format!("{:.3}", seconds(line.at))) }
                            td { span class=(format!("m m{}", line.master % 9 + 1)) { (evidence.options.name(line.master)) } }
                            td { (line.level) }
                            td { (line.text) }
                        }
                    }
                }
            }
        }
        @if window.more > 0 { p.note { "and " (window.more) " more lines" } }
    }
}

fn files(logs: &Logs, evidence: &Evidence, directory: &Path) -> Markup {
    let scenario = evidence.options.scenario.to_yaml();
    html! {
        section {
            h2 { "Scenario and files" }
            @if let Ok(scenario) = &scenario {
                details { summary { "The scenario as it ran, without chance" } pre { code { (scenario) } } }
            }
            p { "Everything of this run was in " code { (directory.display()) } ". To check it again with another version:" }
            p { code { "quorate chaos replay " (directory.display()) } }
            ul.files {
                @for (file, trouble) in &logs.files {
                    li {
                        code { (file.display()) }
                        @if let Some(trouble) = trouble { " " span.note { "(not read: " (trouble) ")" } }
                    }
                }
            }
        }
    }
}

/// A time of some milliseconds, as people read it.
fn ms(ms: f64) -> String {
    if ms >= 1000.0 {
        format!("{:.2} s", ms / 1e3)
    } else if ms >= 10.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([0.44, 9.96, 12.3, 1534.0].map(ms), ["0.4 ms", "10.0 ms", "12 ms", "1.53 s"]);
    }
}
