//! What is there for each kind that is served: the report of `cargo xtask api-coverage`, and the test that keeps it
//! complete.

use crate::kinds::{self, PLAIN};
use crate::resource::{self, ResourceDef, Storage};
use crate::selector::field::selectable;
use crate::table;

/// What is there for one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: &'static str,
    /// How many verbs the resource has
    pub verbs: usize,
    /// Its subresources
    pub subresources: Vec<&'static str>,
    /// Defaults beside those that the schema's markers say
    pub defaults: bool,
    /// Rules beside those for metadata
    pub validation: bool,
    /// What a create, an update or a write to the status may change differs from kind to kind
    pub strategy: bool,
    /// How many columns `kubectl get` shows; none: name and time alone
    pub columns: Option<usize>,
    /// How many fields beside name and namespace can be selected by
    pub selectable: usize,
    /// Kept under another kind's name or in another version, or never kept
    pub kept: &'static str,
}

/// Every resource, in discovery's order.
#[must_use]
pub fn rows() -> Vec<Row> {
    resource::all().iter().map(row).collect()
}

fn row(def: &ResourceDef) -> Row {
    let (group, kind) = (def.group(), def.kind());
    let known = kinds::find(group, kind);
    let own = |is: fn(&kinds::Kind) -> bool| known.is_some_and(is);
    let fields = selectable(group, kind).iter();
    Row {
        api_version: def.api_version(),
        kind,
        verbs: def.verbs.len(),
        subresources: def.subresources.iter().map(|sub| sub.name).collect(),
        defaults: own(|row| !std::ptr::fn_addr_eq(row.defaults, PLAIN.defaults)),
        validation: own(|row| !std::ptr::fn_addr_eq(row.validate, PLAIN.validate)),
        strategy: own(|row| {
            !(std::ptr::fn_addr_eq(row.create, PLAIN.create)
                && std::ptr::fn_addr_eq(row.update, PLAIN.update)
                && std::ptr::fn_addr_eq(row.status, PLAIN.status))
        }),
        columns: table::has_printer(group, kind).then(|| table::columns(group, kind).len()),
        selectable: fields.filter(|field| !field.name.starts_with("metadata.")).count(),
        kept: match def.storage {
            Storage::Own => "own",
            Storage::As { .. } => "as another",
            Storage::Virtual => "never",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds that upstream has no rules for, or that only this server writes.
    const WITHOUT_RULES: [&str; 2] = ["ComponentStatus", "Master"];
    /// Kinds that upstream shows with the generic printer.
    const WITHOUT_COLUMNS: [&str; 1] = ["LimitRange"];

    #[test]
    fn every_kept_kind_has_rules_and_columns() {
        let kept = rows().into_iter().filter(|row| row.kept != "never");
        for row in kept {
            let name = format!("{} {}", row.api_version, row.kind);
            assert_eq!(row.validation, !WITHOUT_RULES.contains(&row.kind), "{name}: rules");
            assert_eq!(
                row.columns.is_some(),
                !WITHOUT_COLUMNS.contains(&row.kind),
                "{name}: columns"
            );
        }
    }

    #[test]
    fn a_report_tells_kinds_apart() {
        let of = |kind: &str| rows().into_iter().find(|row| row.kind == kind).unwrap();
        assert!(of("Pod").defaults && of("Pod").strategy);
        assert!(!of("ConfigMap").defaults && !of("ConfigMap").strategy);
        assert_eq!((of("ResourceSlice").selectable, of("ConfigMap").selectable), (2, 0));
    }

    /// What upstream publishes, and what of it is served: nothing is left out but what is explained.
    #[test]
    fn what_upstream_serves_is_served_or_explained() {
        let Some(folder) = crate::upstream::folder("discovery") else { return };
        let theirs = crate::upstream::read(&folder, "aggregated_v2.json");
        let list = |value: &serde_json::Value, name: &str| {
            value[name].as_array().cloned().unwrap_or_default()
        };
        let mut missing = Vec::new();
        for group in list(&theirs, "items") {
            let name = group["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            for version in list(&group, "versions") {
                let v = version["version"].as_str().unwrap().to_owned();
                for resource in list(&version, "resources") {
                    let plural = resource["resource"].as_str().unwrap();
                    if resource::lookup(&name, &v, plural).is_none() {
                        missing.push(format!("{name}/{v} {plural}: missing"));
                    }
                }
            }
        }
        crate::upstream::check_explained("kinds.txt", &missing);
    }
}
