//! The table: what each row is, what it is compared with, and how it is printed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}

/// What a row is.
struct Row {
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
    /// The same of a kube-apiserver 1.36 with three etcd members on the same two cores
    comparison: Option<f64>,
    /// The factor to reach
    goal: Option<f64>,
}

const fn row(key: &'static str, title: &'static str, unit: &'static str, better: Better) -> Row {
    Row { key, title, unit, better, comparison: None, goal: None }
}

impl Row {
    const fn against(self, comparison: f64, goal: f64) -> Self {
        Self { comparison: Some(comparison), goal: Some(goal), ..self }
    }

    /// How many times better than the comparison.
    fn factor(&self, value: f64) -> Option<f64> {
        let factor = match self.better {
            Better::Higher => value / self.comparison?,
            Better::Lower => self.comparison? / value.max(1e-9),
        };
        Some(factor)
    }
}

/// All rows in the order of the table. The comparison binds 82 to 92 pods/s: the better figure is
/// taken.
const ROWS: &[Row] = &[
    row("start.fresh", "Start, fresh directory", "ms", Better::Lower),
    row("start.existing", "Start, existing directory", "ms", Better::Lower),
    row("start.loaded", "Start, after all of this", "ms", Better::Lower),
    row("start.join", "Further master: start and join", "ms", Better::Lower),
    row("create.1.rate", "Creates, 1 in flight", "1/s", Better::Higher),
    row("create.1.p50", "  p50", "ms", Better::Lower),
    row("create.1.p99", "  p99", "ms", Better::Lower),
    row("create.64.rate", "Creates, 64 in flight", "1/s", Better::Higher).against(328.0, 10.0),
    row("create.64.p50", "  p50", "ms", Better::Lower).against(156.0, 10.0),
    row("create.64.p99", "  p99", "ms", Better::Lower),
    row("create.follower.rate", "Creates on a follower, 64 in flight", "1/s", Better::Higher)
        .against(328.0, 10.0),
    row("create.follower.p50", "  p50", "ms", Better::Lower).against(156.0, 10.0),
    row("update.rate", "Updates, 64 in flight", "1/s", Better::Higher),
    row("update.p50", "  p50", "ms", Better::Lower),
    row("update.p99", "  p99", "ms", Better::Lower),
    row("get.leader.rate", "Consistent gets, leader, 64 in flight", "1/s", Better::Higher)
        .against(940.0, 10.0),
    row("get.leader.p99", "  p99", "ms", Better::Lower),
    row("get.follower.rate", "Consistent gets, follower, 64 in flight", "1/s", Better::Higher)
        .against(940.0, 10.0),
    row("get.follower.p99", "  p99", "ms", Better::Lower),
    row("list.time", "LIST of 10,000 objects", "ms", Better::Lower).against(1400.0, 10.0),
    row("list.bytes", "  answer", "MB", Better::Lower),
    row("watch.events", "Watch events to 100 watchers", "1/s", Better::Higher)
        .against(19_000.0, 10.0),
    row("watch.writes", "  updates behind them", "1/s", Better::Higher),
    row("pods.bound", "Pods created and bound, 500 nodes", "1/s", Better::Higher)
        .against(92.0, 10.0),
    row("deployment.time", "Deployment of 2,000 until all bound", "s", Better::Lower),
    row("deployment.bound", "  pods", "1/s", Better::Higher).against(92.0, 10.0),
    row("memory.fresh", "Resident memory of all masters, fresh", "MB", Better::Lower)
        .against(950.0, 5.0),
    row("memory", "Resident memory, after all of this", "MB", Better::Lower).against(950.0, 5.0),
    row("disk", "Disk use of all masters", "MB", Better::Lower),
];

/// Figures of one cluster of one run, by the row's key.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Figures of all runs.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// By key, then by the number of masters; one value for each run
    values: BTreeMap<&'static str, BTreeMap<usize, Vec<f64>>>,
    /// What did not work
    failures: Vec<String>,
}

impl Report {
    /// Takes the figures of one cluster of one run.
    pub(crate) fn add(&mut self, masters: usize, figures: Figures) {
        for (key, value) in figures {
            debug_assert!(ROWS.iter().any(|row| row.key == key), "{key} has a row");
            self.values.entry(key).or_default().entry(masters).or_default().push(value);
        }
    }

    /// Notes what did not work.
    pub(crate) fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// What did not work.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    fn median(&self, key: &str, masters: usize) -> Option<f64> {
        median(self.values.get(key)?.get(&masters)?)
    }

    /// The table as Markdown that reads well in a terminal.
    pub(crate) fn table(&self, clusters: &[usize]) -> String {
        let mut lines = vec![header(clusters)];
        for row in ROWS {
            if !self.values.contains_key(row.key) {
                continue;
            }
            let mut cells = vec![row.title.to_owned(), row.unit.to_owned()];
            let medians: Vec<_> = clusters.iter().map(|n| self.median(row.key, *n)).collect();
            cells.extend(medians.iter().map(|value| value.map_or_else(none, number)));
            cells.push(row.comparison.map_or_else(none, number));
            let factor = |value: &Option<f64>| value.and_then(|value| row.factor(value));
            cells.extend(medians.iter().map(|value| factor(value).map_or_else(none, times)));
            cells.push(row.goal.map_or_else(none, |goal| format!("{goal:.0}×")));
            lines.push(cells);
        }
        aligned(&lines)
    }

    /// The same for programs.
    pub(crate) fn json(&self, clusters: &[usize]) -> Value {
        let rows: Vec<Value> = ROWS
            .iter()
            .filter(|row| self.values.contains_key(row.key))
            .map(|row| {
                let of = |masters: &usize| {
                    let median = self.median(row.key, *masters)?;
                    let runs = self.values.get(row.key)?.get(masters)?;
                    let factor = row.factor(median);
                    let value = json!({ "median": median, "runs": runs, "factor": factor });
                    Some((masters.to_string(), value))
                };
                json!({
                    "name": row.key,
                    "title": row.title.trim(),
                    "unit": row.unit,
                    "lowerIsBetter": row.better == Better::Lower,
                    "masters": clusters.iter().filter_map(of).collect::<serde_json::Map<_, _>>(),
                    "comparison": row.comparison,
                    "goal": row.goal,
                })
            })
            .collect();
        json!({ "rows": rows, "failures": self.failures })
    }
}

fn header(clusters: &[usize]) -> Vec<String> {
    let name = |masters: &usize| match masters {
        1 => "1 master".to_owned(),
        n => format!("{n} masters"),
    };
    let mut cells = vec![String::new(), "unit".to_owned()];
    cells.extend(clusters.iter().map(name));
    cells.push("kube-apiserver + 3 etcd".to_owned());
    cells.extend(clusters.iter().map(|masters| format!("factor, {masters}")));
    cells.push("goal".to_owned());
    cells
}

fn none() -> String {
    "–".to_owned()
}

fn times(factor: f64) -> String {
    format!("{factor:.1}×")
}

/// Three significant digits are all that a benchmark has.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

/// Markdown with columns of one width: the first to the left, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cell = |(column, cell): (usize, &String)| match column {
            0 => format!("{cell:<width$}", width = widths[column]),
            _ => format!("{cell:>width$}", width = widths[column]),
        };
        let cells: Vec<String> = line.iter().enumerate().map(cell).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            let rule = |(column, width): (usize, &usize)| match column {
                0 => "-".repeat(*width),
                _ => format!("{}:", "-".repeat(width.saturating_sub(1))),
            };
            let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
            text += &format!("| {} |\n", rules.join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_numbers() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some(3.0)),
            (&[9.0, 1.0, 5.0][..], Some(5.0)),
            (&[4.0, 1.0][..], Some(2.5)),
        ] {
            assert_eq!(median(values), expected);
        }
        for (value, text) in [
            (0.256, "0.26"),
            (15.04, "15.0"),
            (328.4, "328"),
            (19_000.0, "19,000"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_factor_says_how_many_times_better_in_both_directions() {
        let mut report = Report::default();
        report.add(1, Figures::from([("create.64.rate", 3280.0), ("create.64.p50", 15.6)]));
        report.add(3, Figures::from([("create.64.rate", 164.0)]));
        let json = report.json(&[1, 3]);
        assert_eq!(json["rows"][0]["name"], "create.64.rate");
        assert_eq!(json["rows"][0]["masters"]["1"]["factor"], 10.0);
        assert_eq!(json["rows"][0]["masters"]["3"]["factor"], 0.5);
        assert_eq!(json["rows"][1]["masters"]["1"]["factor"], 10.0);
        let table = report.table(&[1, 3]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(
            lines[2].ends_with(" 328 |    10.0× |      0.5× |  10× |") || lines[2].contains("0.5×")
        );
        let widths: Vec<usize> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }
}
