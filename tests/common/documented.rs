//! The metrics as `docs/metrics.md` has them, and as masters serve them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Names of its labels.
    pub labels: BTreeSet<String>,
}

/// Metrics by name.
pub type Metrics = BTreeMap<String, Metric>;

/// A directory of the documentation.
pub fn docs(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(below)
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the tables in `docs/metrics.md`.
pub fn in_tables() -> Metrics {
    let text = std::fs::read_to_string(docs("metrics.md")).unwrap();
    let mut all = Metrics::new();
    for line in text.lines().filter(|line| line.starts_with("| `quorate_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning, _bad] = cells[..] else { panic!("five columns: {line}") };
        assert!(!meaning.is_empty(), "{line}");
        let metric = Metric { kind: kind.to_owned(), labels: quoted(labels).into_iter().collect() };
        let known = all.insert(quoted(name)[0].clone(), metric);
        assert_eq!(known, None, "twice: {line}");
    }
    assert!(all.len() > 30, "the tables are read");
    all
}

/// Every name that `docs/metrics.md` mentions, in tables or beside them.
pub fn mentioned() -> BTreeSet<String> {
    let text = std::fs::read_to_string(docs("metrics.md")).unwrap();
    quoted(&text).into_iter().collect()
}

/// What a master serves: its metrics, added to those that are known.
pub fn add_served(text: &str, all: &mut Metrics) {
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kinds.insert(name, kind);
            let metric = all.entry(name.to_owned()).or_default();
            assert!(metric.kind.is_empty() || metric.kind == kind, "{line}");
            metric.kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let parts = ["_bucket", "_sum", "_count"];
            let base = parts.iter().find_map(|part| name.strip_suffix(part));
            let base = base.filter(|base| kinds.get(base) == Some(&"histogram")).unwrap_or(name);
            let metric = all.get_mut(base).unwrap_or_else(|| panic!("no type: {line}"));
            let labels = labels.split("=\"").map(|part| part.rsplit([',', '"']).next().unwrap());
            let labels = labels.filter(|label| !["", "le", "}"].contains(label));
            metric.labels.extend(labels.map(str::to_owned));
        }
    }
}

/// The value of one series of a master's `/metrics`, as it is written there.
pub fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(it, _)| it == series));
    line.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}
