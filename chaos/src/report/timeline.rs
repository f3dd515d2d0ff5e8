//! The timeline: faults as bands over what the masters were and how operations fared, on one axis of time.

use maud::{Markup, html};
use serde::Serialize;

use super::violation::Violation;
use super::{Evidence, words};
use crate::history::Tick;
use crate::limits::FAULTS_SHOWN_MAX;
use crate::real::masters::Act;
use crate::real::nemesis::Injected;
use crate::real::observer::{State, Stretch};

const WIDTH: f64 = 1180.0;
/// Labels are left of it.
const LEFT: f64 = 108.0;
const RIGHT: f64 = 12.0;
/// A row of names of faults.
const NAMES: f64 = 17.0;
/// Rows of names: what begins before the last one's name has room goes to the next row, and beyond these has none.
const NAME_ROWS: usize = 3;
const MASTER: f64 = 20.0;
const LATENCY: f64 = 62.0;
const RATE: f64 = 26.0;
const GAP: f64 = 16.0;
/// Pieces of time that are drawn as one column, at most and at least.
const COLUMNS_MAX: u64 = 240;
const COLUMNS_MIN: u64 = 20;
/// A column is not shorter.
const COLUMN_MIN: Tick = 250_000_000;
/// Rectangles of masters' states; many more would make the page slow.
const STATES_SHOWN_MAX: usize = 5_000;
/// The axis of latency, in milliseconds, by powers of ten.
const DECADES: (f64, f64) = (-0.3, 4.0);
/// In the order in which people think of them.
const KINDS: [&str; 7] = ["get", "list", "create", "update", "patch", "append", "delete"];

/// How operations of one kind fared, by columns.
#[derive(Debug, Default, Serialize)]
struct Series {
    kind: &'static str,
    /// Milliseconds, by when they were called; null without any.
    p50: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
    /// By when they were answered.
    answered: Vec<usize>,
    /// By when they were called.
    unknown: Vec<usize>,
}

/// The timeline's picture, and its numbers for the script that tells them under the pointer.
pub(super) struct Timeline {
    /// The picture.
    pub(super) picture: Markup,
    /// JSON.
    pub(super) numbers: String,
}

#[derive(Serialize)]
struct Numbers<'a> {
    left: f64,
    right: f64,
    width: f64,
    end_ms: f64,
    column_ms: f64,
    series: &'a [Series],
    faults: Vec<(f64, f64, &'a str)>,
    masters: Vec<Vec<(f64, f64, String)>>,
    names: Vec<String>,
}

struct Scale {
    end: Tick,
}

impl Scale {
    fn x(&self, at: Tick) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at.min(self.end) as f64 / self.end as f64)
    }
}

pub(super) fn seconds(at: Tick) -> f64 {
    at as f64 / 1e9
}

fn millis(at: Tick) -> f64 {
    at as f64 / 1e6
}

/// A coordinate, short.
fn c(value: f64) -> String {
    format!("{value:.1}")
}

/// Draws it.
pub(super) fn draw(evidence: &Evidence, violation: Option<&Violation>) -> Timeline {
    let end = evidence.ended.max(1);
    let scale = Scale { end };
    let columns = (end / COLUMN_MIN).clamp(COLUMNS_MIN, COLUMNS_MAX);
    let column = end.div_ceil(columns).max(1);
    let series = series(evidence, column, usize::try_from(columns).unwrap_or(1));
    let faults = &evidence.injected[..evidence.injected.len().min(FAULTS_SHOWN_MAX)];
    let rows = name_rows(faults, &scale);
    let masters_y = NAMES * (rows.iter().flatten().max().map_or(0, |row| row + 1)) as f64 + 6.0;
    let plots_y = masters_y + (MASTER + 5.0) * evidence.options.scenario.masters as f64 + GAP;
    let each = LATENCY + RATE + GAP + 6.0;
    let bottom = plots_y + each * series.len() as f64;
    let stretches = stretches(evidence);
    let picture = html! {
        svg #timeline viewBox=(format!("0 0 {WIDTH} {}", c(bottom + 22.0))) role="img"
            aria-label="Faults, masters and operations over time" {
            @for fault in faults {
                rect.band x=(c(scale.x(fault.from))) y="0" height=(c(bottom))
                    width=(c((scale.x(fault.to) - scale.x(fault.from)).max(1.5))) {
                    title { (fault.what) }
                }
            }
            @for (fault, row) in faults.iter().zip(&rows) {
                @if let Some(row) = row {
                    text.fault x=(c(scale.x(fault.from) + 3.0)) y=(c(NAMES * *row as f64 + 12.0)) {
                        (fault.what)
                        title { (told(fault)) }
                    }
                }
            }
            (axis(&scale, bottom))
            @for (master, own) in stretches.iter().enumerate() {
                (master_row(evidence, master, own, &scale, masters_y + (MASTER + 5.0) * master as f64))
            }
            @for (index, series) in series.iter().enumerate() {
                (plot(series, column, &scale, plots_y + each * index as f64))
            }
            @if let Some(violation) = violation {
                a href="#violation" {
                    line.violation x1=(c(scale.x(violation.at))) x2=(c(scale.x(violation.at)))
                        y1="0" y2=(c(bottom)) {}
                    circle.violation cx=(c(scale.x(violation.at))) cy=(c(bottom)) r="5" {
                        title { "jump to the violation at " (format!("{:.3} s", seconds(violation.at))) }
                    }
                }
            }
            line #cursor x1="0" x2="0" y1="0" y2=(c(bottom)) {}
        }
    };
    let numbers = Numbers {
        left: LEFT,
        right: RIGHT,
        width: WIDTH,
        end_ms: millis(end),
        column_ms: millis(column),
        series: &series,
        faults: faults.iter().map(band).collect(),
        names: (0..stretches.len()).map(|master| evidence.options.name(master)).collect(),
        masters: stretches
            .iter()
            .map(|own| {
                own.iter()
                    .map(|(found, to)| (millis(found.from), millis(*to), state(&found.state)))
                    .collect()
            })
            .collect(),
    };
    // In a page, nothing but the end tag ends a script; JSON may write `<` in another way.
    let numbers = serde_json::to_string(&numbers).unwrap_or_default().replace('<', "\\u003c");
    Timeline { picture, numbers }
}

fn band(fault: &Injected) -> (f64, f64, &str) {
    (millis(fault.from), millis(fault.to), fault.what.as_str())
}

fn told(fault: &Injected) -> String {
    let (from, to) = (seconds(fault.from), seconds(fault.to));
    format!("{}: {from:.1} s to {to:.1} s", fault.what)
}

/// In which row each fault's name has room.
fn name_rows(faults: &[Injected], scale: &Scale) -> Vec<Option<usize>> {
    let mut free = [0.0; NAME_ROWS];
    let row = |fault: &Injected| {
        let from = scale.x(fault.from);
        let to = from + 8.0 + 6.1 * fault.what.chars().count() as f64;
        let row = free.iter().position(|free| *free <= from).filter(|_| to <= WIDTH + 40.0)?;
        free[row] = to;
        Some(row)
    };
    faults.iter().map(row).collect()
}

fn axis(scale: &Scale, bottom: f64) -> Markup {
    let total = seconds(scale.end);
    let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200];
    let step = steps.into_iter().find(|step| total / f64::from(*step) <= 13.0).unwrap_or(86_400);
    let step = u64::try_from(step).unwrap_or(1) * 1_000_000_000;
    html! {
        @for tick in (0..=scale.end / step).take(40) {
            line.grid x1=(c(scale.x(tick * step))) x2=(c(scale.x(tick * step))) y1="0" y2=(c(bottom)) {}
            text.tick x=(c(scale.x(tick * step))) y=(c(bottom + 16.0)) text-anchor="middle" {
                (tick * step / 1_000_000_000) " s"
            }
        }
    }
}

/// Each master's states, and when each gave way to the next.
fn stretches(evidence: &Evidence) -> Vec<Vec<(&Stretch, Tick)>> {
    (0..evidence.options.scenario.masters)
        .map(|master| {
            let own = evidence.observed.stretches.iter().filter(|found| found.master == master);
            let own: Vec<&Stretch> =
                own.take(STATES_SHOWN_MAX / evidence.options.scenario.masters.max(1)).collect();
            let next = own.iter().skip(1).map(|next| next.from);
            let last = own.last().map(|last| last.to);
            own.iter().copied().zip(next.chain(last).collect::<Vec<_>>()).collect()
        })
        .collect()
}

fn state(state: &State) -> String {
    match state {
        State::Up { role, term, leader } => match (role.as_str(), leader) {
            ("leader", _) => format!("leader of term {term}"),
            (_, Some(leader)) => format!("{role} of {leader}, term {term}"),
            (_, None) => format!("{role}, knows no leader, term {term}"),
        },
        State::Silent => "does not answer".to_owned(),
        State::Down => "down".to_owned(),
    }
}

fn master_row(
    evidence: &Evidence,
    master: usize,
    own: &[(&Stretch, Tick)],
    scale: &Scale,
    y: f64,
) -> Markup {
    let acts = evidence.processes.iter().filter(|found| found.master == master && found.at > 0);
    html! {
        text.label x="2" y=(c(y + 14.0)) { (evidence.options.name(master)) }
        @for (found, to) in own {
            @let (from, to) = (scale.x(found.from), scale.x(*to));
            rect class=(class(&found.state)) x=(c(from)) y=(c(y)) height=(MASTER) rx="2"
                width=(c((to - from).max(1.0))) {
                title { "m" (master + 1) ": " (state(&found.state)) }
            }
            @if let Some(term) = found.state.leads().filter(|_| to - from > 46.0) {
                text.term x=(c(from + 5.0)) y=(c(y + 14.0)) {
                    @if to - from > 96.0 { "leader, term " (term) } @else { "term " (term) }
                }
            }
        }
        @for found in acts {
            text.act x=(c(scale.x(found.at))) y=(c(y + 14.5)) text-anchor="middle" {
                (sign(found.act))
                title { "m" (master + 1) " " (word(found.act)) " at " (format!("{:.2} s", seconds(found.at))) }
            }
        }
    }
}

fn class(state: &State) -> &'static str {
    match state {
        State::Up { .. } if state.leads().is_some() => "leader",
        State::Up { leader: None, .. } => "lost",
        State::Up { .. } => "up",
        State::Silent => "silent",
        State::Down => "down",
    }
}

fn sign(act: Act) -> &'static str {
    match act {
        Act::Started => "▲",
        Act::Killed | Act::Ended => "✕",
        Act::LostPower => "⚡",
        Act::Stopped => "■",
        Act::Paused => "‖",
        Act::Resumed => "▶",
    }
}

fn word(act: Act) -> &'static str {
    match act {
        Act::Started => "started",
        Act::Killed => "killed",
        Act::LostPower => "lost its power",
        Act::Stopped => "ended as it was asked to",
        Act::Paused => "paused",
        Act::Resumed => "resumed",
        Act::Ended => "ended by itself",
    }
}

fn series(evidence: &Evidence, column: Tick, columns: usize) -> Vec<Series> {
    let index = |at: Tick| usize::try_from(at / column).unwrap_or(usize::MAX).min(columns - 1);
    let mut all = Vec::new();
    for name in KINDS {
        let mut series = Series {
            kind: name,
            answered: vec![0; columns],
            unknown: vec![0; columns],
            ..Series::default()
        };
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); columns];
        let own = evidence.history.iter().map(|found| &found.operation);
        for operation in own.filter(|operation| words::verb(&operation.input) == name) {
            match operation.returned() {
                Some(at) => {
                    series.answered[index(at)] += 1;
                    times[index(operation.called)]
                        .push(millis(at.saturating_sub(operation.called)));
                }
                None => series.unknown[index(operation.called)] += 1,
            }
        }
        for mut times in times {
            times.sort_by(f64::total_cmp);
            series.p50.push(times.get(times.len() / 2).map(|ms| round(*ms)));
            series.max.push(times.last().map(|ms| round(*ms)));
        }
        if series.answered.iter().chain(&series.unknown).any(|count| *count > 0) {
            all.push(series);
        }
    }
    all
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

fn plot(series: &Series, column: Tick, scale: &Scale, top: f64) -> Markup {
    let (low, high) = DECADES;
    let y = |ms: f64| {
        let part = (ms.max(1e-3).log10().clamp(low, high) - low) / (high - low);
        top + LATENCY * (1.0 - part)
    };
    let edges = |index: usize| {
        let from = column * index as u64;
        (scale.x(from), scale.x(from + column))
    };
    let (mut ranges, mut middle) = (String::new(), String::new());
    let mut drawing = false;
    for (index, (p50, max)) in series.p50.iter().zip(&series.max).enumerate() {
        let (Some(p50), Some(max)) = (p50, max) else {
            drawing = false;
            continue;
        };
        let (from, to) = edges(index);
        ranges.push_str(&format!(
            "M{} {}H{}V{}H{}Z",
            c(from),
            c(y(*max) - 0.5),
            c(to),
            c(y(*p50)),
            c(from)
        ));
        let verb = if drawing { 'L' } else { 'M' };
        middle.push_str(&format!("{verb}{} {}H{}", c(from), c(y(*p50)), c(to)));
        drawing = true;
    }
    let base = top + LATENCY + 5.0 + RATE;
    let total = |index: usize| series.answered[index] + series.unknown[index];
    let most = (0..series.answered.len()).map(total).max().unwrap_or(1).max(1) as f64;
    let (mut answered, mut unknown) = (String::new(), String::new());
    for index in 0..series.answered.len() {
        let (from, to) = edges(index);
        let part = |count: usize| base - RATE * count as f64 / most;
        if series.answered[index] > 0 {
            let y = part(series.answered[index]);
            answered.push_str(&format!("M{} {}V{}H{}V{}Z", c(from), c(base), c(y), c(to), c(base)));
        }
        if series.unknown[index] > 0 {
            let (under, over) = (part(series.answered[index]), part(total(index)).min(base - 3.0));
            unknown.push_str(&format!(
                "M{} {}V{}H{}V{}Z",
                c(from),
                c(under),
                c(over),
                c(to),
                c(under)
            ));
        }
    }
    let per_second = most / seconds(column);
    html! {
        text.label x="2" y=(c(top + LATENCY / 2.0 + 4.0)) { (series.kind) }
        @for (ms, word) in [(1.0, "1 ms"), (10.0, ""), (100.0, "100 ms"), (1000.0, ""), (10_000.0, "10 s")] {
            line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(c(y(ms))) y2=(c(y(ms))) {}
            @if !word.is_empty() {
                text.tick x=(c(LEFT - 8.0)) y=(c(y(ms) + if ms > 5e3 { 10.0 } else { 3.5 })) text-anchor="end" { (word) }
            }
        }
        path.range d=(ranges) {}
        path.middle d=(middle) {}
        text.tick x=(c(LEFT - 8.0)) y=(c(base - RATE / 2.0 + 6.0)) text-anchor="end" {
            (format!("≤ {per_second:.0}/s"))
        }
        path.answered d=(answered) {}
        path.unknown d=(unknown) {}
        line.base x1=(LEFT) x2=(WIDTH - RIGHT) y1=(c(base)) y2=(c(base)) {}
    }
}
