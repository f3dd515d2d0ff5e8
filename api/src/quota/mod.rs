//! What counts against a ResourceQuota, and whether a write still fits: pure, so that admission (which charges each
//! write) and the controller (which counts anew) cannot differ.
//!
//! Start reading at [`usage`] (what one object counts for), then [`charge`] (whether a write fits). Pods: [`pod`].

pub mod pod;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::quantity::{Format, Quantity};
use crate::tree;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What marks a name as that of one storage class: `gold.storageclass.storage.k8s.io/requests.storage`.
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";

/// Resources whose old names of their counts are their own.
const OLD_NAMES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
const SERVICES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];

/// Resources that no quota counts.
fn is_ignored(group: &str, plural: &str) -> bool {
    plural == "events" && matches!(group, "" | "events.k8s.io")
}

/// The name under which objects of any resource are counted: `count/deployments.apps`.
#[must_use]
pub fn count_name(group: &str, plural: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("count/{plural}{dot}{group}")
}

/// Whether objects of a resource count for an amount of this name.
#[must_use]
pub fn tracks(group: &str, plural: &str, name: &str) -> bool {
    resource_of(name) == Some((group, plural))
}

/// Group and plural name of the resource whose objects count for an amount of this name.
#[must_use]
pub fn resource_of(name: &str) -> Option<(&str, &str)> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return (!is_ignored(group, plural)).then_some((group, plural));
    }
    let of_class =
        |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with(STORAGE_CLASS));
    if SERVICES.contains(&name) {
        Some(("", "services"))
    } else if name == CLAIMS || name == STORAGE || of_class(CLAIMS) || of_class(STORAGE) {
        Some(("", CLAIMS))
    } else if OLD_NAMES.contains(&name) {
        Some(("", name))
    } else if pod::tracks(name) {
        Some(("", "pods"))
    } else {
        None
    }
}

/// What one object counts for.
#[must_use]
pub fn usage(group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
    if is_ignored(group, plural) {
        return Amounts::new();
    }
    match (group, plural) {
        ("", "pods") => return pod::Facts::of(object).usage(now).clone(),
        ("", "services") => return service(object),
        ("", CLAIMS) => return claim(object),
        _ => {}
    }
    let mut amounts = Amounts::from([(count_name(group, plural), one())]);
    if group.is_empty() && OLD_NAMES.contains(&plural) {
        amounts.insert(plural.to_owned(), one());
    }
    amounts
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn service(object: &Value) -> Amounts {
    let spec = tree::get(object, "spec");
    let ports = tree::list(spec, "ports");
    let balanced = tree::text(spec, "type") == "LoadBalancer";
    let node_ports = match tree::text(spec, "type") {
        "NodePort" => ports.len(),
        // Without ports by itself only those count that are named.
        "LoadBalancer" if tree::flag_opt(spec, "allocateLoadBalancerNodePorts") == Some(false) => {
            ports.iter().filter(|port| tree::int(port, "nodePort") != 0).count()
        }
        "LoadBalancer" => ports.len(),
        _ => 0,
    };
    Amounts::from([
        (count_name("", "services"), one()),
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(usize::from(balanced))),
    ])
}

fn claim(object: &Value) -> Amounts {
    let spec = tree::get(object, "spec");
    let annotated =
        tree::at(object, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    let class = annotated.as_str().unwrap_or_else(|| tree::text(spec, "storageClassName"));
    let mut amounts = Amounts::from([(count_name("", CLAIMS), one()), (CLAIMS.to_owned(), one())]);
    if !class.is_empty() {
        amounts.insert(format!("{class}{STORAGE_CLASS}{CLAIMS}"), one());
    }
    let amount = |value: &Value| {
        let given = (!value.is_null()).then(|| Quantity::from_json(value).ok()).flatten()?;
        // Whole bytes, as the status must have them.
        Some(if given.is_whole() { given } else { Quantity::new(given.value(), given.format()) })
    };
    let asked = amount(tree::at(spec, &["resources", "requests", "storage"]));
    let given = amount(tree::at(object, &["status", "allocatedResources", "storage"]));
    if let Some(asked) = asked {
        let most = given.filter(|given| *given > asked).unwrap_or(asked);
        amounts.insert(STORAGE.to_owned(), most);
        if !class.is_empty() {
            amounts.insert(format!("{class}{STORAGE_CLASS}{STORAGE}"), most);
        }
    }
    amounts
}

/// One condition of a quota on what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

impl Scope {
    /// Whether somebody of that class, if of any, is meant.
    fn takes_class(&self, class: &str) -> bool {
        let listed = self.values.iter().any(|value| value == class);
        match self.operator.as_str() {
            "Exists" => !class.is_empty(),
            "DoesNotExist" => class.is_empty(),
            "In" => !class.is_empty() && listed,
            "NotIn" => class.is_empty() || !listed,
            _ => false,
        }
    }
}

/// The scopes of a quota: `spec.scopes` and `spec.scopeSelector`.
#[must_use]
pub fn scopes(quota: &Value) -> Vec<Scope> {
    let spec = tree::get(quota, "spec");
    let named = tree::texts(spec, "scopes").map(|name| Scope {
        name: name.to_owned(),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    let selector = tree::list(tree::get(spec, "scopeSelector"), "matchExpressions");
    let selected = selector.iter().map(|one| Scope {
        name: tree::text(one, "scopeName").to_owned(),
        operator: tree::text(one, "operator").to_owned(),
        values: tree::texts(one, "values").map(str::to_owned).collect(),
    });
    named.chain(selected).collect()
}

/// Whether an object is within all scopes. Pods have most of them, claims one, everything else none.
#[must_use]
pub fn in_scopes(group: &str, plural: &str, object: &Value, scopes: &[Scope]) -> bool {
    match (group, plural) {
        _ if scopes.is_empty() => true,
        ("", "pods") => pod::Facts::of(object).in_scopes(scopes),
        ("", CLAIMS) => scopes.iter().all(|scope| {
            scope.name == "VolumeAttributesClass" && {
                let classes = attribute_classes(object);
                if classes.is_empty() {
                    scope.takes_class("")
                } else {
                    classes.iter().any(|class| scope.takes_class(class))
                }
            }
        }),
        _ => false,
    }
}

fn attribute_classes(claim: &Value) -> Vec<&str> {
    let all = [
        tree::at(claim, &["spec", "volumeAttributesClassName"]),
        tree::at(claim, &["status", "currentVolumeAttributesClassName"]),
        tree::at(claim, &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
    ];
    all.into_iter().filter_map(Value::as_str).filter(|class| !class.is_empty()).collect()
}

/// The amounts in a field of an object, as far as they can be read.
#[must_use]
pub fn amounts(value: &Value) -> Amounts {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?)))
        .collect()
}

/// A write that quotas are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// API group of the resource.
    pub group: &'a str,
    /// Its plural name.
    pub plural: &'a str,
    /// The new object, or the new version.
    pub object: &'a Value,
    /// The version before; `None` for a new object.
    pub old: Option<&'a Value>,
    /// The wall time.
    pub now: Timestamp,
}

/// What a write changes in `status.used` of each of the quotas of its namespace; nothing where it does not count.
///
/// # Errors
/// Why the write is refused: a quota would be exceeded, was not counted yet, or wants amounts that are not given.
pub fn charge(quotas: &[Value], attempt: &Attempt<'_>) -> Result<Vec<Amounts>, String> {
    let Attempt { group, plural, object, old, now } = *attempt;
    let none = vec![Amounts::new(); quotas.len()];
    let mut concerned = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        let hard = amounts(tree::at(quota, &["status", "hard"]));
        let names: Vec<&String> = hard.keys().filter(|name| tracks(group, plural, name)).collect();
        if names.is_empty() || !in_scopes(group, plural, object, &scopes(quota)) {
            continue;
        }
        let own = tree::text(tree::get(quota, "metadata"), "name");
        if (group, plural) == ("", "pods")
            && let Some(missing) = pod::unspecified(object, &names)
        {
            return Err(format!("failed quota: {own}: must specify {missing}"));
        }
        let used = tree::at(quota, &["status", "used"]);
        if names.iter().any(|name| tree::get(used, name).is_null()) {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            return Err(format!("status unknown for quota: {own}, resources: {}", names.join(",")));
        }
        concerned.push((at, own, hard, amounts(used)));
    }
    if concerned.is_empty() {
        return Ok(none);
    }
    let delta = delta(attempt, usage(group, plural, object, now), old)?;
    let mut changes = none;
    for (at, own, hard, used) in concerned {
        let requested: Amounts =
            delta.iter().filter(|(name, _)| hard.contains_key(*name)).map(owned).collect();
        let after =
            |name: &str, by: Quantity| used.get(name).copied().unwrap_or(Quantity::ZERO) + by;
        let exceeded: Vec<&String> = requested
            .iter()
            .filter(|(name, by)| hard.get(*name).is_some_and(|hard| after(name, **by) > *hard))
            .map(|(name, _)| name)
            .collect();
        if !exceeded.is_empty() {
            return Err(format!(
                "exceeded quota: {own}, requested: {}, used: {}, limited: {}",
                shown(&requested, &exceeded),
                shown(&used, &exceeded),
                shown(&hard, &exceeded),
            ));
        }
        changes[at] = requested.iter().map(|(name, by)| (name.clone(), after(name, *by))).collect();
    }
    Ok(changes)
}

fn owned((name, quantity): (&String, &Quantity)) -> (String, Quantity) {
    (name.clone(), *quantity)
}

/// What is added, without what stays the same.
fn delta(attempt: &Attempt<'_>, new: Amounts, old: Option<&Value>) -> Result<Amounts, String> {
    let negative: Vec<&str> =
        new.iter().filter(|(_, one)| one.sign() < 0).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let mut delta = new;
    if let Some(old) = old {
        for (name, before) in usage(attempt.group, attempt.plural, old, attempt.now) {
            let now = delta.entry(name).or_insert(Quantity::ZERO);
            *now -= before;
        }
    }
    delta.retain(|_, one| !one.is_zero());
    Ok(delta)
}

fn shown(amounts: &Amounts, names: &[&String]) -> String {
    let one = |name: &&String| {
        let amount = amounts.get(name.as_str()).copied().unwrap_or(Quantity::ZERO);
        format!("{name}={amount}")
    };
    names.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
