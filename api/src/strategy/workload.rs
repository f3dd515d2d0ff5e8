//! Daemon sets, stateful sets and replication controllers.

use serde_json::Value;

use super::kinds::{changed, first_generation, keep_status, raise_generation, raise_if_changed};
use crate::normalise;
use crate::schema::{Kind, TypeId, ids};
use crate::tree;

/// Counts the templates that a daemon set has had.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The status as it is when nothing is known: what is always written is zero.
pub(super) fn empty_status(object: &mut Value, status: TypeId) {
    tree::set(object, "status", normalise::zero(Kind::Ref(status)));
}

fn template_generation(object: &Value) -> i64 {
    let annotations = tree::at(object, &["metadata", "annotations"]);
    tree::text(annotations, TEMPLATE_GENERATION).parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(metadata) = tree::child_mut(object, "metadata")
        && let Some(annotations) = tree::child_mut(metadata, "annotations")
    {
        tree::set(annotations, TEMPLATE_GENERATION, generation.to_string());
    }
}

/// A replication controller starts at generation 1 without a status.
pub(crate) fn create_replication_controller(object: &mut Value) {
    empty_status(object, ids::CORE_V1_REPLICATIONCONTROLLERSTATUS);
    first_generation(object);
}

/// The generation of a pod template follows the template.
pub(crate) fn update_pod_template(new: &mut Value, old: &Value) {
    raise_if_changed(new, old, "template");
}

/// An autoscaler starts without a status; it has no generation.
pub(crate) fn create_autoscaler(object: &mut Value) {
    if crate::convert::autoscaler::is_v1(object) {
        empty_status(object, ids::AUTOSCALING_V1_HORIZONTALPODAUTOSCALERSTATUS);
    } else {
        empty_status(object, ids::AUTOSCALING_V2_HORIZONTALPODAUTOSCALERSTATUS);
    }
}

/// A disruption budget starts at generation 1 without a status.
pub(crate) fn create_budget(object: &mut Value) {
    empty_status(object, ids::POLICY_V1_PODDISRUPTIONBUDGETSTATUS);
    first_generation(object);
}

/// An ingress starts at generation 1 without a status.
pub(crate) fn create_ingress(object: &mut Value) {
    empty_status(object, ids::NETWORKING_V1_INGRESSSTATUS);
    first_generation(object);
}

/// The generation of a kind without a status follows its spec.
pub(crate) fn update_spec_only(new: &mut Value, old: &Value) {
    raise_if_changed(new, old, "spec");
}

/// A daemon set starts at generation 1 without a status.
pub(crate) fn create_daemon_set(object: &mut Value) {
    empty_status(object, ids::APPS_V1_DAEMONSETSTATUS);
    first_generation(object);
    let generation = template_generation(object).max(1);
    set_template_generation(object, generation);
}

/// A daemon set's generation follows its spec, and that of its template the template.
pub(crate) fn update_daemon_set(new: &mut Value, old: &Value) {
    keep_status(new, old);
    let template = |object| tree::at(object, &["spec", "template"]);
    let rises = i64::from(!tree::same(template(new), template(old)));
    set_template_generation(new, template_generation(old).saturating_add(rises));
    raise_if_changed(new, old, "spec");
}

/// A stateful set starts at generation 1 without a status.
pub(crate) fn create_stateful_set(object: &mut Value) {
    empty_status(object, ids::APPS_V1_STATEFULSETSTATUS);
    first_generation(object);
}

/// The generation of stateful sets and replication controllers follows their spec.
pub(crate) fn update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    if changed(new, old, "spec") {
        raise_generation(new, old);
    }
}
