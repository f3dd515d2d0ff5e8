//! `cargo xtask api-coverage`: what is there for each kind that is served.

use std::collections::BTreeMap;

use clap::Parser;
use quorate_api::coverage::{self, Row};

/// How the report is shown.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Only kinds that lack something
    #[arg(long)]
    lacking: bool,
}

/// Who acts on objects of a kind. What is not named here is kept, checked and served, and nobody acts on it.
const CONTROLLERS: &[(&str, &str)] = &[
    ("v1 Namespace", "namespaces, finalizers"),
    ("v1 Node", "node lifecycle, agents"),
    ("v1 Pod", "scheduler, agents, garbage collection"),
    ("v1 Service", "addresses, endpoints, slices, agents"),
    ("v1 Endpoints", "endpoints"),
    ("v1 ServiceAccount", "service accounts, tokens"),
    ("v1 ConfigMap", "agents"),
    ("v1 Secret", "agents"),
    ("v1 ComponentStatus", "bootstrap"),
    ("v1 Event", "expiry"),
    ("apps/v1 Deployment", "deployments"),
    ("apps/v1 ReplicaSet", "replica sets"),
    ("batch/v1 Job", "jobs"),
    ("discovery.k8s.io/v1 EndpointSlice", "slices, agents"),
    ("coordination.k8s.io/v1 Lease", "node lifecycle"),
    ("rbac.authorization.k8s.io/v1 ClusterRole", "authorization, aggregation"),
    ("rbac.authorization.k8s.io/v1 ClusterRoleBinding", "authorization"),
    ("rbac.authorization.k8s.io/v1 Role", "authorization"),
    ("rbac.authorization.k8s.io/v1 RoleBinding", "authorization"),
    ("scheduling.k8s.io/v1 PriorityClass", "admission, scheduler"),
    ("apiregistration.k8s.io/v1 APIService", "bootstrap"),
    ("flowcontrol.apiserver.k8s.io/v1 FlowSchema", "bootstrap; not followed"),
    ("flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration", "bootstrap; not followed"),
    ("quorate.io/v1 Master", "the leader"),
];

const HEADINGS: [&str; 9] = [
    "KIND",
    "VERBS",
    "SUBRESOURCES",
    "DEFAULTS",
    "VALIDATION",
    "STRATEGY",
    "COLUMNS",
    "SELECTABLE",
    "ACTED ON BY",
];

/// Prints the report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    print(&text(&coverage::rows(), args.lacking));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a contributor's tool")]
fn print(text: &str) {
    print!("{text}");
}

fn cells(row: &Row, controllers: &BTreeMap<&str, &str>) -> [String; 9] {
    let name = format!("{} {}", row.api_version, row.kind);
    let yes = |is: bool| if is { "own" } else { "-" }.to_owned();
    let by = controllers.get(name.as_str()).copied();
    let by = match (by, row.kept) {
        (Some(by), _) => by,
        (None, "never") => "answered at once",
        (None, _) => "-",
    };
    let schema_only = |is: bool| if is { "own".to_owned() } else { "schema's".to_owned() };
    [
        name,
        row.verbs.to_string(),
        if row.subresources.is_empty() { "-".to_owned() } else { row.subresources.join(",") },
        schema_only(row.defaults),
        if row.validation { "own".to_owned() } else { "metadata".to_owned() },
        yes(row.strategy),
        row.columns.map_or_else(|| "generic".to_owned(), |count| count.to_string()),
        row.selectable.to_string(),
        by.to_owned(),
    ]
}

fn text(rows: &[Row], lacking: bool) -> String {
    let controllers = CONTROLLERS.iter().copied().collect();
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    let lacks = |row: &&Row| {
        let name = format!("{} {}", row.api_version, row.kind);
        let acted_on = row.kept == "never" || CONTROLLERS.iter().any(|(kind, _)| *kind == name);
        !lacking || !row.validation || row.columns.is_none() || !acted_on
    };
    lines.extend(rows.iter().filter(lacks).map(|row| cells(row, &controllers)));
    let mut widths = [0; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.len().max(*width);
        }
    }
    let mut out = String::new();
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_is_one_of_a_served_kind() {
        let report = text(&coverage::rows(), false);
        for (kind, by) in CONTROLLERS {
            let line = report.lines().find(|line| line.starts_with(&format!("{kind} ")));
            assert!(line.is_some_and(|line| line.ends_with(by)), "{kind}");
        }
        assert!(text(&coverage::rows(), true).lines().count() < report.lines().count());
    }
}
