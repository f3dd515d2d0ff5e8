//! One RBAC rule and what it allows (rbac/v1 `PolicyRule`; matching as upstream's `RuleAllows`).

use serde::{Deserialize, Serialize};

use super::Attributes;

/// A rule of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub api_groups: Vec<String>,
    /// Resources, `resource/subresource`, `*/subresource`, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resources: Vec<String>,
    /// Names; empty allows all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resource_names: Vec<String>,
    /// Paths, `prefix*`, or `*`.
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub non_resource_urls: Vec<String>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(input)?.unwrap_or_default())
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

impl Rule {
    /// Whether the rule allows it.
    #[must_use]
    pub fn allows(&self, wanted: &Attributes) -> bool {
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        match &wanted.path {
            Some(path) => self.allows_path(path),
            None => {
                has(&self.api_groups, &wanted.group)
                    && self.allows_resource(wanted)
                    && (self.resource_names.is_empty()
                        || self.resource_names.contains(&wanted.name))
            }
        }
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|own| {
            own == path || own.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
        })
    }

    fn allows_resource(&self, wanted: &Attributes) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            match own.split_once('/') {
                None => wanted.subresource.is_empty() && *own == wanted.resource,
                Some((resource, subresource)) => {
                    (resource == "*" || resource == wanted.resource)
                        && !wanted.subresource.is_empty()
                        && subresource == wanted.subresource
                }
            }
        })
    }

    /// As upstream prints it in escalation errors: `{APIGroups:[""], Resources:["pods"], …}`.
    #[must_use]
    pub fn compact(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |name: &str, list: &[String]| {
            if !list.is_empty() {
                let items: Vec<String> =
                    list.iter().map(|item| crate::parameters::quoted(item)).collect();
                parts.push(format!("{name}:[{}]", items.join(" ")));
            }
        };
        part("APIGroups", &self.api_groups);
        part("Resources", &self.resources);
        part("ResourceNames", &self.resource_names);
        part("NonResourceURLs", &self.non_resource_urls);
        part("Verbs", &self.verbs);
        format!("{{{}}}", parts.join(", "))
    }
}
