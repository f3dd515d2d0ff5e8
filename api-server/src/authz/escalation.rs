//! Nobody grants what they do not have (upstream's `rbac/validation` `ConfirmNoEscalation`).

use super::rule::Rule;
use crate::identity::Identity;

/// `Ok` when `held` covers all of `wanted`.
pub(super) fn check(identity: &Identity, held: &[Rule], wanted: &[Rule]) -> Result<(), String> {
    let mut missing: Vec<Rule> = Vec::new();
    for single in wanted.iter().flat_map(singles) {
        if !held.iter().any(|rule| covers(rule, &single)) {
            missing.push(single);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut texts: Vec<String> = merge(missing).iter().map(Rule::compact).collect();
    texts.sort_unstable();
    let groups: Vec<String> =
        identity.user().groups.iter().map(|group| crate::parameters::quoted(group)).collect();
    Err(format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        crate::parameters::quoted(identity.name()),
        groups.join(" "),
        texts.join("\n")
    ))
}

/// A rule as rules of one verb, group, resource and name each.
fn singles(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    let names: Vec<Vec<String>> = if rule.resource_names.is_empty() {
        vec![Vec::new()]
    } else {
        rule.resource_names.iter().map(|name| vec![name.clone()]).collect()
    };
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                for name in &names {
                    out.push(Rule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        resource_names: name.clone(),
                        non_resource_urls: Vec::new(),
                    });
                }
            }
        }
        for url in &rule.non_resource_urls {
            out.push(Rule {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..Rule::default()
            });
        }
    }
    out
}

fn has_all(own: &[String], wanted: &[String]) -> bool {
    own.iter().any(|one| one == "*") || wanted.iter().all(|one| own.contains(one))
}

fn covers(own: &Rule, single: &Rule) -> bool {
    let resources = || {
        has_all(&own.resources, &single.resources)
            || single.resources.iter().all(|wanted| {
                wanted.split_once('/').is_some_and(|(_, subresource)| {
                    own.resources.iter().any(|one| one.strip_prefix("*/") == Some(subresource))
                })
            })
    };
    let names = || {
        own.resource_names.is_empty()
            || (!single.resource_names.is_empty()
                && single.resource_names.iter().all(|name| own.resource_names.contains(name)))
    };
    let urls = || {
        single.non_resource_urls.iter().all(|wanted| {
            own.non_resource_urls.iter().any(|one| {
                one == wanted
                    || one.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
            })
        })
    };
    has_all(&own.verbs, &single.verbs)
        && if single.non_resource_urls.is_empty() {
            has_all(&own.api_groups, &single.api_groups) && resources() && names()
        } else {
            urls()
        }
}

/// Singles that differ in their verb alone become one rule again, for a readable error.
fn merge(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = out.iter_mut().find(|one| {
            one.api_groups == rule.api_groups
                && one.resources == rule.resources
                && one.resource_names == rule.resource_names
                && one.non_resource_urls == rule.non_resource_urls
        });
        match same {
            Some(one) => one.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}
