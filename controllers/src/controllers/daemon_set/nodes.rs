//! Which nodes are for a daemon set, and how a pod becomes one of a node.

use serde_json::{Value, json};

use crate::controllers::history::HASH_LABEL;
use crate::controllers::pod_template::label;
use crate::controllers::taint_eviction::tolerates;
use crate::model::{DaemonSet, Node, Taint, Toleration};
use crate::node_selector;

/// Counts the templates of a daemon set; the API raises it.
pub(super) const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// With it pods say of which template they are, beside the hash.
pub(super) const GENERATION_LABEL: &str = "pod-template-generation";

/// What every pod of a daemon set tolerates: conditions of nodes do not drive it away.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// Tolerated by those that use the network of their host, too.
const TOLERATED_ON_HOST_NETWORK: (&str, &str) =
    ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Whether a pod of the set is to be on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// One is to run.
    Runs,
    /// One that is there may stay, none is made.
    Stays,
    /// None may be there.
    Not,
}

/// Judges nodes for one daemon set.
pub(super) struct Judge<'s> {
    spec: &'s Value,
    tolerations: Vec<Toleration>,
}

impl<'s> Judge<'s> {
    pub(super) fn new(set: &'s DaemonSet) -> Self {
        let spec = &set.spec.template["spec"];
        let all = Value::Array(tolerations(spec));
        Self { spec, tolerations: serde_json::from_value(all).unwrap_or_default() }
    }

    pub(super) fn fit(&self, node: &Node) -> Fit {
        let named = self.spec["nodeName"].as_str().filter(|name| !name.is_empty());
        if named.is_some_and(|name| name != node.metadata.name)
            || !node_selector::accepts(self.spec, node)
        {
            return Fit::Not;
        }
        let repels = |effects: &[&str]| {
            let hard = |taint: &&Taint| effects.contains(&taint.effect.as_str());
            node.spec.taints.iter().filter(hard).any(|taint| !self.tolerates(taint))
        };
        match (repels(&["NoSchedule", "NoExecute"]), repels(&["NoExecute"])) {
            (false, _) => Fit::Runs,
            (true, false) => Fit::Stays,
            (true, true) => Fit::Not,
        }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }
}

/// The template's tolerations and those that all have.
fn tolerations(spec: &Value) -> Vec<Value> {
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let host = (spec["hostNetwork"] == true).then_some(TOLERATED_ON_HOST_NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(host) {
        let own = json!({ "key": key, "operator": "Exists", "effect": effect });
        let same = |known: &&mut Value| {
            known["key"] == key
                && known["effect"] == effect
                && known["operator"] == "Exists"
                && known["value"].as_str().unwrap_or_default().is_empty()
        };
        match all.iter_mut().find(same) {
            Some(known) => *known = own,
            None => all.push(own),
        }
    }
    all
}

/// The template as pods get it, before they are bound to a node.
pub(super) fn template(set: &DaemonSet, hash: &str) -> Value {
    let mut template = set.spec.template.clone();
    template["spec"]["tolerations"] = Value::Array(tolerations(&template["spec"]));
    if let Some(generation) = set.metadata.annotations.get(GENERATION_ANNOTATION) {
        label(&mut template, GENERATION_LABEL, generation);
    }
    label(&mut template, HASH_LABEL, hash);
    template
}

/// The scheduler may bind the pod to this node only.
pub(super) fn bind(spec: &mut Value, node: &str) {
    let name = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let terms = json!([{ "matchFields": [name] }]);
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({ "nodeSelectorTerms": terms });
}
