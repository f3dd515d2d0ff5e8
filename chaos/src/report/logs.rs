//! What all masters logged around faults and the violation, joined by time. The files themselves have everything.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use super::Evidence;
use super::violation::Violation;
use crate::history::Tick;
use crate::limits::{
    FAULTS_SHOWN_MAX, LOG_BYTES_MAX, LOG_LINE_CHARS_MAX, LOG_LINES_FAULT_MAX, LOG_LINES_MAX,
    LOG_LINES_VIOLATION_MAX,
};

const SECOND: Tick = 1_000_000_000;

/// A line of one master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When it was written.
    pub(super) at: Tick,
    /// By which master.
    pub(super) master: usize,
    /// `ERROR`, `WARN`, `INFO`, …; empty for what is no log line (a panic's text).
    pub(super) level: &'static str,
    /// The rest.
    pub(super) text: String,
}

/// The lines around one thing.
#[derive(Debug)]
pub(super) struct Window {
    /// What it is around.
    pub(super) what: String,
    /// Whether it is the violation.
    pub(super) violation: bool,
    /// From when.
    pub(super) from: Tick,
    /// Until when.
    pub(super) to: Tick,
    /// In order of time.
    pub(super) lines: Vec<Line>,
    /// Lines of that time that are not shown.
    pub(super) more: usize,
    most: usize,
}

/// All windows, and the files.
#[derive(Debug)]
pub(super) struct Logs {
    /// In order of time.
    pub(super) windows: Vec<Window>,
    /// Full logs, and what is wrong with each if anything is.
    pub(super) files: Vec<(PathBuf, Option<String>)>,
}

/// Reads the masters' logs in a run's directory.
pub(super) fn join(evidence: &Evidence, violation: Option<&Violation>, directory: &Path) -> Logs {
    let mut windows: Vec<Window> = evidence
        .injected
        .iter()
        .take(FAULTS_SHOWN_MAX)
        .map(|fault| Window {
            what: fault.what.clone(),
            violation: false,
            from: fault.from.saturating_sub(SECOND / 5),
            to: fault.to.saturating_add(SECOND),
            lines: Vec::new(),
            more: 0,
            most: LOG_LINES_FAULT_MAX,
        })
        .collect();
    if let Some(violation) = violation {
        let first = violation
            .operations
            .iter()
            .filter(|shown| !shown.context)
            .map(|shown| shown.called)
            .min();
        let from = first.unwrap_or(violation.at).max(violation.at.saturating_sub(5 * SECOND));
        windows.push(Window {
            what: "the violation".to_owned(),
            violation: true,
            from: from.saturating_sub(SECOND),
            to: violation.at.saturating_add(SECOND),
            lines: Vec::new(),
            more: 0,
            most: LOG_LINES_VIOLATION_MAX,
        });
    }
    let mut files = Vec::new();
    let own = evidence.options.names.is_empty();
    for master in (0..evidence.options.scenario.masters).filter(|_| own) {
        let file = directory.join(format!("m{}.log", master + 1));
        let trouble = read(&file, evidence.began, master, &mut windows).err();
        files.push((file, trouble.map(|error| error.to_string())));
    }
    // The violation's lines come first when the page is full.
    windows.sort_by_key(|window| (!window.violation, window.from));
    let mut left = LOG_LINES_MAX;
    for window in &mut windows {
        window.lines.sort_by_key(|line| line.at);
        let most = window.most.min(left);
        window.more += window.lines.len().saturating_sub(most);
        window.lines.truncate(most);
        left -= window.lines.len();
    }
    windows.sort_by_key(|window| window.from);
    Logs { windows, files }
}

fn read(
    file: &Path,
    began: Timestamp,
    master: usize,
    windows: &mut [Window],
) -> std::io::Result<()> {
    let mut reader = BufReader::new(File::open(file)?.take(LOG_BYTES_MAX));
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes);
        let (time, level, text) = parse(text.trim_end());
        // What has no time of its own belongs to the line before: a panic's backtrace.
        at = time.map_or(at, |time| tick(began, time));
        for window in windows.iter_mut().filter(|window| window.from <= at && at <= window.to) {
            // Of each master as many as there may be of all: sorted and cut later.
            let own = window.lines.iter().filter(|line| line.master == master).count();
            if own >= window.most {
                window.more += 1;
                continue;
            }
            window.lines.push(Line { at, master, level, text: shortened(text) });
        }
    }
}

/// A line's time, level and the rest, from the forms that the masters write: text and JSON.
fn parse(line: &str) -> (Option<Timestamp>, &'static str, &str) {
    if line.starts_with('{')
        && let Ok(event) = serde_json::from_str::<Value>(line)
    {
        let time = event["timestamp"].as_str().and_then(|text| text.parse().ok());
        return (time, level(event["level"].as_str().unwrap_or_default()), line);
    }
    let Some((first, rest)) = line.split_once(' ') else { return (None, "", line) };
    let Ok(time) = first.parse::<Timestamp>() else { return (None, "", line) };
    let rest = rest.trim_start();
    match rest.split_once(' ') {
        Some((word, text)) if !level(word).is_empty() => (Some(time), level(word), text),
        _ => (Some(time), "", rest),
    }
}

fn level(word: &str) -> &'static str {
    ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
        .into_iter()
        .find(|level| *level == word)
        .unwrap_or_default()
}

fn tick(began: Timestamp, time: Timestamp) -> Tick {
    Tick::try_from(time.as_nanosecond() - began.as_nanosecond()).unwrap_or(0)
}

/// One line of the page, without what a terminal would act on.
fn shortened(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(LOG_LINE_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(LOG_LINE_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_both_forms() {
        let (time, level, text) =
            parse("2026-11-21T21:46:09.500000Z  WARN quorate_raft: no quorum term=3");
        assert_eq!((level, text), ("WARN", "quorate_raft: no quorum term=3"));
        let began: Timestamp = "2026-11-21T21:46:09Z".parse().unwrap();
        assert_eq!(tick(began, time.unwrap()), SECOND / 2);
        let (time, level, _) =
            parse(r#"{"timestamp":"2026-11-21T21:46:09Z","level":"ERROR","message":"x"}"#);
        assert!(time.is_some());
        assert_eq!(level, "ERROR");
        assert_eq!(
            parse("thread 'main' panicked at x.rs:1"),
            (None, "", "thread 'main' panicked at x.rs:1")
        );
    }

    #[test]
    fn a_line_is_bounded_and_harmless() {
        let text = shortened(&format!("\x1b[31m{}", "ä".repeat(10_000)));
        assert_eq!(text.chars().count(), LOG_LINE_CHARS_MAX + 1);
        assert!(!text.contains('\x1b'));
    }
}
