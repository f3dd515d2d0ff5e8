//! A Deployment and its ReplicaSets while a plan is made: changes are collected here and written
//! once.

use std::cmp::Ordering;

use jiff::Timestamp;
use quorate_store::EventDraft;
use serde_json::{Value, json};

use super::COMPONENT;
use crate::model::{
    Deployment, DeploymentStatus, Labels, OwnerReference, ReplicaSet, ReplicaSetStatus, to_value,
};
use crate::plan::{Ctx, Plan};
use crate::resources::REPLICA_SETS;
use crate::world::Object;

/// Annotation with the revision, on Deployments and ReplicaSets.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation with the revisions that a ReplicaSet had before it was rolled back to.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation with the Deployment's replicas, to tell scaling from rolling out.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation with the Deployment's replicas and surge, for proportional scaling.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// See the module.
pub(super) struct Draft<'a> {
    pub(super) ctx: &'a Ctx<'a>,
    pub(super) deployment: &'a Deployment,
    /// ReplicaSet of the newest template.
    pub(super) new: Option<SetDraft<'a>>,
    /// All others, oldest first.
    pub(super) old: Vec<SetDraft<'a>>,
    /// The status that conditions are computed from: the stored one and what this plan has noted.
    pub(super) base: DeploymentStatus,
    /// The status to be written.
    pub(super) status: DeploymentStatus,
    pub(super) revision: Option<String>,
    pub(super) wake_at: Option<Timestamp>,
    found: &'a Object<Deployment>,
}

/// One ReplicaSet.
pub(super) struct SetDraft<'a> {
    /// `None` when it is to be created.
    stored: Option<&'a Object<ReplicaSet>>,
    pub(super) name: String,
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) annotations: Labels,
    pub(super) status: ReplicaSetStatus,
    /// The whole object, when it is to be created.
    pub(super) fresh: Option<Value>,
    pub(super) delete: bool,
    adopt: Option<OwnerReference>,
    /// Replicas before this plan, when the event about scaling is due.
    scaled_from: Option<i32>,
}

impl<'a> SetDraft<'a> {
    pub(super) fn of(stored: &'a Object<ReplicaSet>) -> Self {
        let object = &stored.object;
        Self {
            stored: Some(stored),
            name: object.metadata.name.clone(),
            replicas: object.spec.replicas,
            min_ready_seconds: object.spec.min_ready_seconds,
            annotations: object.metadata.annotations.clone(),
            status: object.status.clone(),
            fresh: None,
            delete: false,
            adopt: None,
            scaled_from: None,
        }
    }

    pub(super) fn adopted(stored: &'a Object<ReplicaSet>, owner: OwnerReference) -> Self {
        Self { adopt: Some(owner), ..Self::of(stored) }
    }

    pub(super) fn fresh(name: String, object: Value, min_ready_seconds: i32) -> Self {
        Self {
            stored: None,
            name,
            replicas: 0,
            min_ready_seconds,
            annotations: Labels::new(),
            status: ReplicaSetStatus::default(),
            fresh: Some(object),
            delete: false,
            adopt: None,
            scaled_from: None,
        }
    }

    /// As it is stored.
    pub(super) fn object(&self) -> Option<&'a ReplicaSet> {
        self.stored.map(|stored| &stored.object)
    }

    pub(super) fn created(&self) -> Timestamp {
        self.object().map_or(Timestamp::MAX, |object| object.metadata.created())
    }

    /// Older first, then by name.
    pub(super) fn age_order(&self, other: &Self) -> Ordering {
        self.created().cmp(&other.created()).then_with(|| self.name.cmp(&other.name))
    }

    /// Another number of replicas; whether that is a change.
    pub(super) fn scale(&mut self, replicas: i32, desired: i32, surge: i32) -> bool {
        self.annotate_replicas(desired, surge);
        if self.replicas == replicas {
            return false;
        }
        self.scaled_from.get_or_insert(self.replicas);
        self.replicas = replicas;
        true
    }

    pub(super) fn annotate_replicas(&mut self, desired: i32, surge: i32) {
        let max = desired.saturating_add(surge);
        self.annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
        self.annotations.insert(MAX_REPLICAS.to_owned(), max.to_string());
    }

    /// A number in an annotation.
    pub(super) fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok()
    }

    fn finish(self, deployment: &Deployment, plan: &mut Plan) {
        if let Some(mut object) = self.fresh {
            object["spec"]["replicas"] = json!(self.replicas);
            object["metadata"]["annotations"] = json!(self.annotations);
            let scaled = scaled(deployment, &self.name, 0, self.replicas);
            let step = plan.create(REPLICA_SETS.group_resource(), object);
            step.done = (self.replicas > 0).then_some(scaled);
            let failed = format!("Failed to create new replica set {:?}: {{error}}", self.name);
            step.refused = Some(event(deployment, true, "ReplicaSetCreateError", failed));
            return;
        }
        let Some(stored) = self.stored else {
            return;
        };
        if self.delete {
            plan.delete(&stored.stored);
            return;
        }
        let before = &stored.object;
        let same = before.spec.replicas == self.replicas
            && before.spec.min_ready_seconds == self.min_ready_seconds
            && before.metadata.annotations == self.annotations
            && self.adopt.is_none();
        if same {
            return;
        }
        let mut object = to_value(&stored.stored);
        object["spec"]["replicas"] = json!(self.replicas);
        if before.spec.min_ready_seconds != self.min_ready_seconds {
            object["spec"]["minReadySeconds"] = json!(self.min_ready_seconds);
        }
        object["metadata"]["annotations"] = json!(self.annotations);
        if let Some(owner) = self.adopt {
            match object["metadata"]["ownerReferences"].as_array_mut() {
                Some(owners) => owners.push(json!(owner)),
                None => object["metadata"]["ownerReferences"] = json!([owner]),
            }
        }
        let scaled = self
            .scaled_from
            .filter(|from| *from != self.replicas)
            .map(|from| scaled(deployment, &self.name, from, self.replicas));
        plan.update(&stored.stored, object, "").done = scaled;
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        ctx: &'a Ctx<'a>,
        found: &'a Object<Deployment>,
        sets: Vec<SetDraft<'a>>,
    ) -> Self {
        Self {
            ctx,
            deployment: &found.object,
            new: None,
            old: sets,
            base: found.object.status.clone(),
            status: found.object.status.clone(),
            revision: None,
            wake_at: None,
            found,
        }
    }

    /// All ReplicaSets, the newest last.
    pub(super) fn sets(&self) -> impl Iterator<Item = &SetDraft<'a>> {
        self.old.iter().chain(&self.new)
    }

    /// Replicas that all ReplicaSets ask for.
    pub(super) fn replicas(&self) -> i32 {
        self.sets().map(|set| set.replicas).sum()
    }

    pub(super) fn available(&self) -> i32 {
        self.sets().map(|set| set.status.available_replicas).sum()
    }

    /// The writes of the plan: ReplicaSets first, so that the status tells of what is done; after a
    /// refusal the status first, because another refusal would stop it.
    pub(super) fn finish(mut self, mut plan: Plan) -> Plan {
        if let Some(at) = self.wake_at {
            plan.wake_at(at, self.ctx.now);
        }
        let status_first = self.ctx.failure.is_some();
        if status_first {
            self.write_status(&mut plan);
        }
        for set in self.old.drain(..).chain(self.new.take()) {
            set.finish(self.deployment, &mut plan);
        }
        if !status_first {
            self.write_status(&mut plan);
        }
        plan
    }

    fn write_status(&self, plan: &mut Plan) {
        let annotations = &self.deployment.metadata.annotations;
        let revision =
            self.revision.as_ref().filter(|revision| annotations.get(REVISION) != Some(*revision));
        if revision.is_none() && self.status == self.deployment.status {
            return;
        }
        let mut object = to_value(&self.found.stored);
        object["status"] = json!(self.status);
        if let Some(revision) = revision {
            object["metadata"]["annotations"][REVISION] = json!(revision);
        }
        plan.update(&self.found.stored, object, "status");
    }
}

fn scaled(deployment: &Deployment, name: &str, from: i32, to: i32) -> EventDraft {
    let direction = if from < to { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
    event(deployment, false, "ScalingReplicaSet", message)
}

fn event(
    deployment: &Deployment,
    warning: bool,
    reason: &'static str,
    message: String,
) -> EventDraft {
    let regarding = deployment.metadata.regarding("apps/v1", "Deployment");
    EventDraft { component: COMPONENT, regarding, warning, reason, message }
}
