//! Amounts of resources: what a pod asks for and what a node has.
//!
//! The computation of a pod's requests is part of the Kubernetes API (component-helpers/resource):
//! sum of the containers, maximum with each init container, sidecars added to both, pod-level
//! requests in place of the sum, overhead on top.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use quorate_api::quantity;

/// CPU that a container without a request counts as, in thousandths, for scores only.
pub const NONZERO_CPU_MILLI: i64 = 100;

/// Memory that a container without a request counts as, in bytes, for scores only.
pub const NONZERO_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

type List = BTreeMap<String, Quantity>;

/// Thousandths, rounded up; 0 for what does not parse (validation lets no such object in).
fn milli(quantity: &Quantity) -> i64 {
    quantity::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.milli_value())
}

/// The amount, rounded up; 0 for what does not parse.
pub(crate) fn whole(quantity: &Quantity) -> i64 {
    quantity::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.value())
}

/// Amounts by resource. `pods` is not here: it is counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Everything else by name, in the resource's own unit; no zeros of ours are put in.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// Amounts of a resource list; `pods` and what does not parse are left out.
    #[must_use]
    pub fn from_list(list: &List) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "pods" => {}
                "cpu" => resources.cpu_milli = milli(quantity),
                _ => *resources.entry(name) = whole(quantity),
            }
        }
        resources
    }

    /// The amount of a resource by name.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.scalar.get(name).copied().unwrap_or(0),
        }
    }

    fn entry(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu_milli,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral_storage,
            _ => self.scalar.entry(name.to_owned()).or_insert(0),
        }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.cpu_milli == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalar.values().all(|amount| *amount == 0)
    }

    /// Adds `other`, saturating.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes `other` away; entries that come to 0 go.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
        self.scalar.retain(|_, amount| *amount != 0);
    }

    /// Raises each amount to at least that of `other`.
    pub fn raise(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    /// Whether some amount of `self` is less than in `before`.
    #[must_use]
    pub fn less_somewhere(&self, before: &Self) -> bool {
        self.cpu_milli < before.cpu_milli
            || self.memory < before.memory
            || self.ephemeral_storage < before.ephemeral_storage
            || before.scalar.iter().any(|(name, amount)| self.get(name) < *amount)
    }

    fn merge(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu_milli = with(self.cpu_milli, other.cpu_milli);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            if let Some(mine) = self.scalar.get_mut(name) {
                *mine = with(*mine, *amount);
            } else {
                let amount = with(0, *amount);
                self.scalar.insert(name.clone(), amount);
            }
        }
    }
}

/// What a pod asks for, twice: as it is, and for scores with a floor for containers that ask for
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// What the filter and the balanced score count.
    pub exact: Resources,
    /// CPU that the least-allocated score counts, in thousandths.
    pub nonzero_cpu_milli: i64,
    /// Memory that the least-allocated score counts, in bytes.
    pub nonzero_memory: i64,
}

/// What a pod asks for. Containers that were resized in place count with the largest of what is
/// wanted, allocated and running; with what is allocated or running when the node said that it
/// cannot do more.
#[must_use]
pub fn requests(pod: &Pod) -> Requests {
    let exact = total(pod, false);
    let nonzero = total(pod, true);
    Requests { exact, nonzero_cpu_milli: nonzero.cpu_milli, nonzero_memory: nonzero.memory }
}

fn total(pod: &Pod, nonzero: bool) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let infeasible = resize_infeasible(pod);
    let of = |container: &Container| {
        let mut resources = effective(pod, container, infeasible);
        if nonzero {
            let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let names = |name: &str| asked.is_some_and(|list| list.contains_key(name));
            if !names("cpu") && resources.cpu_milli == 0 {
                resources.cpu_milli = NONZERO_CPU_MILLI;
            }
            if !names("memory") && resources.memory == 0 {
                resources.memory = NONZERO_MEMORY_BYTES;
            }
        }
        resources
    };
    let mut result = Resources::default();
    for container in &spec.containers {
        result.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut init = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut needs = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            result.add(&needs);
            sidecars.add(&needs);
            needs = sidecars.clone();
        } else {
            needs.add(&sidecars);
        }
        init.raise(&needs);
    }
    result.raise(&init);
    apply_pod_level(pod, &mut result);
    if let Some(overhead) = &spec.overhead {
        result.add(&Resources::from_list(overhead));
    }
    result
}

/// Requests of the pod as a whole take the place of the containers' sum, for the resources that
/// support it.
fn apply_pod_level(pod: &Pod, result: &mut Resources) {
    let level = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let Some(list) = level.and_then(|level| level.requests.as_ref()) else {
        return;
    };
    let amounts = Resources::from_list(list);
    for name in list.keys() {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            *result.entry(name) = amounts.get(name);
        }
    }
}

fn effective(pod: &Pod, container: &Container, infeasible: bool) -> Resources {
    let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut resources = asked.map(Resources::from_list).unwrap_or_default();
    let Some(status) = container_status(pod, &container.name) else {
        return resources;
    };
    let running = status.resources.as_ref().and_then(|r| r.requests.as_ref());
    let allocated = status.allocated_resources.as_ref();
    if infeasible && (running.is_some() || allocated.is_some()) {
        resources = Resources::default();
    }
    for list in running.into_iter().chain(allocated) {
        resources.raise(&Resources::from_list(list));
    }
    resources
}

fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|status| status.name == name)
}

fn resize_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
    })
}
