//! `docs/monitoring`: the alerts fire when they should, and dashboard and alerts use metrics that are there.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::documented::{docs, in_tables, mentioned};
use serde_json::Value;

/// Prefixes of all metrics that a master serves.
const OURS: [&str; 4] = ["quorate_", "apiserver_", "scheduler_", "process_"];

fn yaml(name: &str) -> Value {
    let text = std::fs::read_to_string(docs("monitoring").join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is missing in {value}"))
}

/// The alert rules.
fn rules(alerts: &Value) -> Vec<&Value> {
    list(&alerts["groups"]).flat_map(|group| list(&group["rules"])).collect()
}

/// The metrics that an expression names.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| OURS.iter().any(|prefix| word.starts_with(prefix)));
    ours.map(str::to_owned).collect()
}

/// Each of these is in `docs/metrics.md`, as itself or as part of a histogram.
fn all_documented(of: &str, expression: &str) {
    let (known, tables) = (mentioned(), in_tables());
    for metric in metrics_of(expression) {
        let histogram =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
        let is_part = histogram.is_some_and(|base| {
            tables.get(base).is_none_or(|metric| metric.kind == "histogram") && known.contains(base)
        });
        assert!(known.contains(&metric) || is_part, "{of}: {metric} is not in docs/metrics.md");
    }
}

/// Runs promtool; fails the test when it finds something. `false`, with a line that says so, when it is not there.
fn promtool(arguments: &[&str], directory: &Path) -> bool {
    let Ok(output) = Command::new("promtool").args(arguments).current_dir(directory).output()
    else {
        eprintln!(
            "SKIPPED: promtool is not installed (Debian's package prometheus), rules are not run"
        );
        return false;
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    true
}

#[test]
fn alerts_use_what_is_there_and_say_what_to_do() {
    let alerts = yaml("alerts.yaml");
    let mut names = BTreeSet::new();
    for rule in rules(&alerts) {
        let name = text(rule, "alert");
        assert!(name.starts_with("Quorate") && names.insert(name), "{name}");
        all_documented(name, text(rule, "expr"));
        assert!(!metrics_of(text(rule, "expr")).is_empty(), "{name} looks at nothing");
        assert!(["critical", "warning", "info"].contains(&text(&rule["labels"], "severity")));
        for annotation in ["summary", "action"] {
            let said = text(&rule["annotations"], annotation);
            assert!(said.ends_with('.'), "{name}: {said}");
        }
    }
    let wanted = [
        "QuorateNoLeader",
        "QuorateQuorumAtRisk",
        "QuorateMasterTrails",
        "QuorateSlowFsync",
        "QuorateManyElections",
        "QuorateNoSpace",
        "QuorateCertificateEnds",
        "QuorateApiErrors",
        "QuorateApiSlow",
    ];
    assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let (alerts, tests) = (yaml("alerts.yaml"), yaml("alerts-test.yaml"));
    let cases = || list(&tests["tests"]).flat_map(|test| list(&test["alert_rule_test"]));
    let fire = cases().filter(|case| list(&case["exp_alerts"]).next().is_some());
    let fire: BTreeSet<&str> = fire.map(|case| text(case, "alertname")).collect();
    let all: BTreeSet<&str> = rules(&alerts).into_iter().map(|rule| text(rule, "alert")).collect();
    assert_eq!(fire, all, "alerts that fire in a case, and all alerts");
    for series in list(&tests["tests"]).flat_map(|test| list(&test["input_series"])) {
        all_documented("alerts-test.yaml", text(series, "series"));
    }
    let directory = docs("monitoring");
    promtool(&["check", "rules", "--lint-fatal", "alerts.yaml"], &directory);
    promtool(&["test", "rules", "alerts-test.yaml"], &directory);
}

#[test]
fn the_dashboard_can_be_imported_and_shows_what_is_there() {
    let file = docs("monitoring").join("dashboard.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(dashboard["uid"], "quorate-masters");
    let variables: Vec<&str> =
        list(&dashboard["templating"]["list"]).map(|one| text(one, "name")).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let (mut ids, mut shown) = (BTreeSet::new(), BTreeSet::new());
    let mut places: Vec<[u64; 4]> = Vec::new();
    let mut rules = String::from("groups:\n- name: panels\n  rules:\n");
    for panel in list(&dashboard["panels"]) {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let at = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        let [x, y, w, h] = at;
        let apart = |[ox, oy, ow, oh]: &[u64; 4]| {
            x + w <= *ox || ox + ow <= x || y + h <= *oy || oy + oh <= y
        };
        assert!(x + w <= 24 && places.iter().all(apart), "{title} lies on another panel");
        places.push(at);
        if panel["type"] == "row" {
            continue;
        }
        assert!(text(panel, "description").ends_with('.'), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(list(&panel["targets"]).next().is_some(), "{title} shows nothing");
        for target in list(&panel["targets"]) {
            let expression = text(target, "expr");
            assert!(expression.contains("job=\"$job\""), "{title} mixes clusters: {expression}");
            all_documented(title, expression);
            shown.extend(metrics_of(expression));
            let plain = expression.replace("$__rate_interval", "5m");
            let quoted = Value::from(plain);
            rules.push_str(&format!("  - {{record: \"panel:{}\", expr: {quoted}}}\n", ids.len()));
        }
    }
    assert!(shown.len() > 30, "{shown:?}");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("panels.yaml"), rules).unwrap();
    promtool(&["check", "rules", "--lint=none", "panels.yaml"], directory.path());
}
