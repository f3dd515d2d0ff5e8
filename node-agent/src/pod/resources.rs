//! Requests and limits as the kernel understands them, and quality of service. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::spec;
use crate::runtime::LinuxResources;

/// CFS period the kubelet uses, microseconds.
const CPU_PERIOD_US: i64 = 100_000;
const CPU_QUOTA_MIN_US: i64 = 1_000;
const CPU_SHARES_MIN: i64 = 2;
const CPU_SHARES_MAX: i64 = 262_144;

/// A quantity in thousandths (for CPU), rounded up. Malformed ones count as nothing: the API server refuses them.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    saturate((parse(&quantity.0).unwrap_or(0.0) * 1000.0).ceil())
}

/// A quantity in whole units (bytes), rounded up.
pub(crate) fn value(quantity: &Quantity) -> i64 {
    let text = &quantity.0;
    // Plain integers must not lose digits to floating point.
    text.parse().unwrap_or_else(|_| saturate(parse(text).unwrap_or(0.0).ceil()))
}

#[allow(clippy::cast_possible_truncation)]
fn saturate(number: f64) -> i64 {
    // `as` saturates, which is what is wanted of absurd quantities.
    number as i64
}

/// A quantity in whole units, rounded up, when it is well-formed.
pub(crate) fn parsed(text: &str) -> Option<i64> {
    parse(text).map(|number| saturate(number.ceil()))
}

fn parse(text: &str) -> Option<f64> {
    let digits = text.len()
        - text
            .chars()
            .rev()
            .take_while(|c| c.is_ascii_alphabetic())
            .map(char::len_utf8)
            .sum::<usize>();
    let (number, suffix) = text.split_at(digits);
    let scale = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return text.parse().ok(),
    };
    if number.is_empty() {
        return None;
    }
    number.parse::<f64>().ok().map(|number| number * scale)
}

fn get<'a>(list: Option<&'a BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list.and_then(|list| list.get(name))
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let all = spec::init_containers(pod).iter().chain(spec::containers(pod));
    let mut guaranteed = true;
    let mut any = false;
    for container in all {
        let resources = container.resources.clone().unwrap_or_default();
        for name in ["cpu", "memory"] {
            let request = get(resources.requests.as_ref(), name).map_or(0, milli);
            let limit = get(resources.limits.as_ref(), name).map_or(0, milli);
            any |= request > 0 || limit > 0;
            // Requests default to limits.
            guaranteed &= limit > 0 && (request == 0 || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// CPU shares of a request in thousandths.
fn shares(milli: i64) -> i64 {
    (milli * 1024 / 1000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)
}

/// The cgroup settings of one container. `capacity_bytes` is the node's memory.
pub(crate) fn container(pod: &Pod, container: &Container, capacity_bytes: i64) -> LinuxResources {
    let resources = container.resources.clone().unwrap_or_default();
    let mut linux = LinuxResources {
        oom_score_adj: oom_score(pod, &resources, capacity_bytes),
        ..limits(&resources)
    };
    for (name, quantity) in resources.limits.iter().flatten() {
        if let Some(size) = name.strip_prefix("hugepages-") {
            let bytes = u64::try_from(value(quantity)).unwrap_or(0);
            linux.hugepage_limits.insert(size.replace('i', "B"), bytes);
        }
    }
    linux
}

fn limits(resources: &ResourceRequirements) -> LinuxResources {
    let cpu_limit = get(resources.limits.as_ref(), "cpu").map_or(0, milli);
    let request = get(resources.requests.as_ref(), "cpu").map(milli);
    // Without a request the limit counts.
    let request = request.unwrap_or(cpu_limit);
    let quota =
        if cpu_limit > 0 { (cpu_limit * CPU_PERIOD_US / 1000).max(CPU_QUOTA_MIN_US) } else { 0 };
    let memory = get(resources.limits.as_ref(), "memory").map_or(0, value);
    LinuxResources {
        cpu_period: if quota > 0 { CPU_PERIOD_US } else { 0 },
        cpu_quota: quota,
        cpu_shares: shares(request),
        memory_limit_bytes: memory,
        // Equal: no swap.
        memory_swap_limit_bytes: memory,
        ..LinuxResources::default()
    }
}

/// Who dies first when the node runs out of memory.
fn oom_score(pod: &Pod, resources: &ResourceRequirements, capacity_bytes: i64) -> i64 {
    let class = spec::spec(pod).and_then(|spec| spec.priority_class_name.as_deref());
    let critical = class == Some("system-node-critical");
    match qos_class(pod) {
        _ if critical => -997,
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = get(resources.requests.as_ref(), "memory").map_or(0, value);
            let used = request.saturating_mul(1000) / capacity_bytes.max(1);
            // Above guaranteed ones, below best-effort ones.
            (1000 - used).clamp(3, 999)
        }
    }
}

/// How a running container comes to other resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resize {
    /// Its cgroup is written.
    Live,
    /// It is started anew (`resizePolicy`).
    Restart,
}

/// The part of a container's resources that can change while it runs, as text.
pub(crate) fn fingerprint(container: &Container) -> String {
    serde_json::to_string(&container.resources.clone().unwrap_or_default()).unwrap_or_default()
}

/// What must happen to a container that was given `given` (a [`fingerprint`]); `None`: nothing.
pub(crate) fn resize(container: &Container, given: &str) -> Option<Resize> {
    let given: ResourceRequirements = serde_json::from_str(given).ok()?;
    let wanted = container.resources.clone().unwrap_or_default();
    let differs = |name: &str| {
        let amount =
            |list: &Option<BTreeMap<String, Quantity>>| get(list.as_ref(), name).map(milli);
        amount(&given.limits) != amount(&wanted.limits)
            || amount(&given.requests) != amount(&wanted.requests)
    };
    let changed: Vec<&str> = ["cpu", "memory"].into_iter().filter(|name| differs(name)).collect();
    if changed.is_empty() {
        return None;
    }
    let restarts = container.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && changed.contains(&policy.resource_name.as_str())
    });
    Some(if restarts { Resize::Restart } else { Resize::Live })
}

/// Why the node can never give what the pod's containers ask for: `PodResizePending` with reason `Infeasible`.
/// `allocatable` in thousandths of CPU and bytes of memory.
pub(crate) fn infeasible(pod: &Pod, allocatable: (i64, i64, i64)) -> Option<String> {
    let total = |name: &str, amount: fn(&Quantity) -> i64| -> i64 {
        let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
        let all = spec::containers(pod).iter().chain(sidecars);
        let requests = all.filter_map(|c| c.resources.as_ref()?.requests.as_ref()?.get(name));
        requests.map(amount).fold(0, i64::saturating_add)
    };
    for (name, wanted, has) in [
        ("cpu", total("cpu", milli), allocatable.0),
        ("memory", total("memory", value), allocatable.1),
    ] {
        if wanted > has {
            return Some(format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {has}"
            ));
        }
    }
    None
}

/// The sum over the pod's main containers and sidecars.
pub(crate) fn pod(pod: &Pod) -> LinuxResources {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let parts: Vec<LinuxResources> = spec::containers(pod)
        .iter()
        .chain(sidecars)
        .map(|container| limits(&container.resources.clone().unwrap_or_default()))
        .collect();
    // One container without a limit makes the pod unlimited.
    let sum = |part: fn(&LinuxResources) -> i64| -> i64 {
        if parts.iter().any(|p| part(p) == 0) { 0 } else { parts.iter().map(part).sum() }
    };
    let quota = sum(|p| p.cpu_quota);
    LinuxResources {
        cpu_period: if quota > 0 { CPU_PERIOD_US } else { 0 },
        cpu_quota: quota,
        cpu_shares: parts.iter().map(|p| p.cpu_shares).sum::<i64>().min(CPU_SHARES_MAX),
        memory_limit_bytes: sum(|p| p.memory_limit_bytes),
        ..LinuxResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn quantities_of_all_forms() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1),
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("129M", 129_000_000),
            ("100m", 1),
            ("9007199254740993", 9_007_199_254_740_993),
            ("1E", 1_000_000_000_000_000_000),
        ] {
            assert_eq!(value(&quantity(text)), expected, "{text}");
        }
        for (text, expected) in [("100m", 100), ("0.5", 500), ("2", 2000), ("1500u", 2)] {
            assert_eq!(milli(&quantity(text)), expected, "{text}");
        }
    }

    fn make_pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "spec": {"containers": [{"name": "c", "resources": resources}]}
        }))
        .unwrap()
    }

    #[test]
    fn cgroups_and_service_classes() {
        for (resources, qos, expected) in [
            (serde_json::json!({}), "BestEffort", (0, 2, 0, 1000)),
            (
                serde_json::json!({"requests": {"cpu": "250m", "memory": "100Mi"}}),
                "Burstable",
                (0, 256, 0, 900),
            ),
            (
                serde_json::json!({"limits": {"cpu": "500m", "memory": "64Mi"}}),
                "Guaranteed",
                (50_000, 512, 64 << 20, -997),
            ),
            (
                serde_json::json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}}),
                "Burstable",
                (1_000, 2, 0, 999),
            ),
        ] {
            let pod = make_pod(resources);
            let linux = container(&pod, &spec::containers(&pod)[0], 1000 << 20);
            let got =
                (linux.cpu_quota, linux.cpu_shares, linux.memory_limit_bytes, linux.oom_score_adj);
            assert_eq!((qos_class(&pod), got), (qos, expected));
        }
    }
}
