//! What a pod counts for: its containers' requests and limits, as long as it has not ended.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{Amounts, Scope, amounts, count_name, one};
use crate::tree;

/// Names of amounts that pods count for, beside huge pages, extended resources and the number of objects.
const NAMES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Amounts that each container has to give when a quota counts them: upstream's mistake, kept.
const REQUIRED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

const HUGE_PAGES: &str = "hugepages-";

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether pods count for an amount of this name.
pub(super) fn tracks(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.strip_prefix("requests.").is_some_and(|rest| rest.starts_with(HUGE_PAGES))
        || (!is_native(name) && name.starts_with("requests."))
}

/// What quotas look at in a pod, computed once for a version of it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    alive: Amounts,
    ended: Amounts,
    has_ended: bool,
    /// When it is over that it is being deleted, in seconds since 1970.
    gone_at: Option<i64>,
    best_effort: bool,
    has_deadline: bool,
    priority_class: String,
    crosses_namespaces: bool,
}

impl Facts {
    /// Reads a pod.
    #[must_use]
    pub fn of(pod: &Value) -> Self {
        let spec = tree::get(pod, "spec");
        let status = tree::get(pod, "status");
        let ended = Amounts::from([(count_name("", "pods"), one())]);
        let mut alive = compute(&requests(spec), &limits(spec));
        alive.extend(ended.clone());
        Self {
            alive,
            ended,
            has_ended: matches!(tree::text(status, "phase"), "Succeeded" | "Failed"),
            gone_at: gone_at(tree::get(pod, "metadata")),
            best_effort: is_best_effort(spec, status),
            has_deadline: tree::int_opt(spec, "activeDeadlineSeconds").is_some_and(|at| at >= 0),
            priority_class: tree::text(spec, "priorityClassName").to_owned(),
            crosses_namespaces: crosses_namespaces(tree::get(spec, "affinity")),
        }
    }

    /// What it counts for at a time: only as an object once it has ended, or should have long been deleted.
    #[must_use]
    pub fn usage(&self, now: Timestamp) -> &Amounts {
        let gone = self.gone_at.is_some_and(|at| now.as_second() > at);
        if self.has_ended || gone { &self.ended } else { &self.alive }
    }

    /// When it stops to count by itself, in seconds since 1970.
    #[must_use]
    pub fn gone_at(&self) -> Option<i64> {
        self.gone_at.filter(|_| !self.has_ended)
    }

    /// Whether it is within all scopes.
    #[must_use]
    pub fn in_scopes(&self, scopes: &[Scope]) -> bool {
        scopes.iter().all(|scope| match scope.name.as_str() {
            "Terminating" => self.has_deadline,
            "NotTerminating" => !self.has_deadline,
            "BestEffort" => self.best_effort,
            "NotBestEffort" => !self.best_effort,
            "PriorityClass" => scope.takes_class(&self.priority_class),
            "CrossNamespacePodAffinity" => self.crosses_namespaces,
            _ => false,
        })
    }
}

/// A grace period after the end of the grace period (upstream's `QuotaV1Pod`).
fn gone_at(meta: &Value) -> Option<i64> {
    let at: Timestamp = tree::text(meta, "deletionTimestamp").parse().ok()?;
    Some(at.as_second().saturating_add(tree::int_opt(meta, "deletionGracePeriodSeconds")?))
}

fn is_best_effort(spec: &Value, status: &Value) -> bool {
    let class = tree::text(status, "qosClass");
    if !class.is_empty() {
        return class == "BestEffort";
    }
    let all = ["containers", "initContainers"].iter().flat_map(|list| tree::list(spec, list));
    let asks = |container: &Value| {
        ["requests", "limits"].iter().any(|list| {
            let amounts = amounts(tree::at(container, &["resources", list]));
            ["cpu", "memory"]
                .iter()
                .any(|name| amounts.get(*name).is_some_and(|one| one.sign() > 0))
        })
    };
    !all.into_iter().any(asks) && !asks(spec)
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        !tree::list(term, "namespaces").is_empty()
            || !tree::get(term, "namespaceSelector").is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let kind = tree::get(affinity, kind);
        let required = tree::list(kind, "requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = tree::list(kind, "preferredDuringSchedulingIgnoredDuringExecution");
        required.iter().any(crosses)
            || preferred.iter().any(|one| crosses(tree::get(one, "podAffinityTerm")))
    })
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut out = Amounts::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            out.insert(name.to_owned(), *request);
            out.insert(format!("requests.{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            out.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        if name.starts_with(HUGE_PAGES) {
            out.insert(name.clone(), *request);
        }
        let extended = !is_native(name) && !name.starts_with("requests.");
        if extended || name.starts_with(HUGE_PAGES) {
            out.insert(format!("requests.{name}"), *request);
        }
    }
    out
}

/// What all containers together ask for in a list (`requests` or `limits`): those that run beside each other add up,
/// those that run one after the other before them take the most that one of them takes.
#[must_use]
pub fn containers_total(spec: &Value, list: &str) -> Amounts {
    let of = |container: &Value| amounts(tree::at(container, &["resources", list]));
    let mut total = Amounts::new();
    for container in tree::list(spec, "containers") {
        add(&mut total, &of(container));
    }
    let (mut beside, mut most) = (Amounts::new(), Amounts::new());
    for container in tree::list(spec, "initContainers") {
        let own = of(container);
        let mut moment = beside.clone();
        add(&mut moment, &own);
        if tree::text(container, "restartPolicy") == "Always" {
            add(&mut total, &own);
            beside.clone_from(&moment);
        }
        raise(&mut most, &moment);
    }
    raise(&mut total, &most);
    total
}

fn requests(spec: &Value) -> Amounts {
    let mut total = containers_total(spec, "requests");
    of_whole_pod(spec, "requests", &mut total);
    add(&mut total, &amounts(tree::get(spec, "overhead")));
    total
}

fn limits(spec: &Value) -> Amounts {
    let mut total = containers_total(spec, "limits");
    of_whole_pod(spec, "limits", &mut total);
    for (name, overhead) in amounts(tree::get(spec, "overhead")) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit += overhead;
        }
    }
    total
}

/// Amounts of the pod itself count instead of those of its containers.
fn of_whole_pod(spec: &Value, list: &str, total: &mut Amounts) {
    for (name, amount) in amounts(tree::at(spec, &["resources", list])) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE_PAGES) {
            total.insert(name, amount);
        }
    }
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let before = total.get(name).copied().unwrap_or_default();
        total.insert(name.clone(), before + *amount);
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if total.get(name).is_none_or(|before| before < amount) {
            total.insert(name.clone(), *amount);
        }
    }
}

/// What containers do not say although a quota counts it: `cpu for: a,b; memory for: b`.
pub(super) fn unspecified(pod: &Value, counted: &[&String]) -> Option<String> {
    let spec = tree::get(pod, "spec");
    let whole = tree::get(spec, "resources");
    if ["requests", "limits"].iter().any(|list| tree::entries(whole, list).next().is_some()) {
        return None;
    }
    let wanted: Vec<&str> =
        counted.iter().map(|name| name.as_str()).filter(|name| REQUIRED.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in ["containers", "initContainers"].iter().flat_map(|list| tree::list(spec, list))
    {
        let resources = tree::get(container, "resources");
        let given = compute(
            &amounts(tree::get(resources, "requests")),
            &amounts(tree::get(resources, "limits")),
        );
        for name in wanted.iter().filter(|name| !given.contains_key(**name)) {
            missing.entry(*name).or_default().insert(tree::text(container, "name"));
        }
    }
    let one = |(name, containers): (&&str, &BTreeSet<&str>)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    };
    let all: Vec<String> = missing.iter().map(one).collect();
    (!all.is_empty()).then(|| all.join("; "))
}
