//! What becomes of a set's pods: those that are missing come, those that are too many go, those of an older revision
//! are replaced (upstream's `updateStatefulSet`).

use super::members::{Member, Members, available, revision_of, running_and_ready, unavailable};
use super::revisions::{Revisions, Template};
use super::{claims, event, identity};
use crate::limits::STATEFUL_SET_BURST;
use crate::model::{Pod, StatefulSet, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::PODS;
use crate::world::Object;

/// What the steps need to know.
struct Act<'a, 'm> {
    ctx: &'m Ctx<'a>,
    set: &'m StatefulSet,
    members: &'m Members<'a>,
    revisions: &'m Revisions<'a>,
}

/// Whether the next pod's turn comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Next,
    /// In an ordered set the others wait.
    Wait,
}

pub(super) fn act(
    ctx: &Ctx<'_>,
    set: &StatefulSet,
    members: &Members<'_>,
    revisions: &Revisions<'_>,
    plan: &mut Plan,
) {
    let act = Act { ctx, set, members, revisions };
    if act.replicas(plan) == Turn::Wait || act.condemned(plan) == Turn::Wait {
        return;
    }
    if !set.spec.update_strategy.on_delete() {
        act.update(plan);
    }
}

impl Act<'_, '_> {
    /// Parallel sets never wait.
    fn wait(&self) -> Turn {
        if self.set.ordered() { Turn::Wait } else { Turn::Next }
    }

    fn replicas(&self, plan: &mut Plan) -> Turn {
        // After a refusal one try tells whether the rest would be refused as well.
        let burst = if self.ctx.failure.is_some() { 1 } else { STATEFUL_SET_BURST };
        let mut created = 0;
        for member in &self.members.replicas {
            let turn = match member.pod {
                None if created >= burst => break,
                None => {
                    created += 1;
                    self.create(member, plan)
                }
                Some(pod) => self.tend(member.ordinal, pod, plan),
            };
            if turn == Turn::Wait {
                return turn;
            }
        }
        Turn::Next
    }

    fn create(&self, member: &Member<'_>, plan: &mut Plan) -> Turn {
        let (set, ordinal) = (self.set, member.ordinal);
        if claims::stale(self.ctx, set, ordinal)
            || !claims::create_missing(self.ctx, set, ordinal, plan)
        {
            return self.wait();
        }
        let Template { name: revision, template } = self.template_for(ordinal);
        let pod = identity::pod_of(set, ordinal, (revision, template));
        let step = plan.create(PODS.group_resource(), pod);
        let name = identity::name_of(set, ordinal);
        step.done = Some(told(set, ("create", "SuccessfulCreate"), &name));
        step.refused = Some(refused(set, ("create", "FailedCreate"), &name));
        self.wait()
    }

    /// Below the partition pods come back as they were.
    fn template_for(&self, ordinal: i32) -> &Template {
        let strategy = &self.set.spec.update_strategy;
        let current = !strategy.on_delete()
            && ordinal < self.set.start().saturating_add(strategy.rolling_update.partition);
        if current { &self.revisions.current } else { &self.revisions.update }
    }

    /// Looks after a pod that is to be.
    fn tend(&self, ordinal: i32, pod: &Object<Pod>, plan: &mut Plan) -> Turn {
        let object = &pod.object;
        if object.ended() {
            if !object.metadata.terminating() {
                self.delete(pod, plan);
            }
            return self.wait();
        }
        if object.status.phase == "Pending" {
            claims::create_missing(self.ctx, self.set, ordinal, plan);
        }
        let settled = !object.metadata.terminating() && available(self.ctx, self.set, object);
        if !settled && self.set.ordered() {
            return Turn::Wait;
        }
        if !identity::matches(object, ordinal) && !object.metadata.terminating() {
            let mut labelled = to_value(&pod.stored);
            identity::set_labels(&mut labelled, &object.metadata.name, ordinal);
            let step = plan.update(&pod.stored, labelled, "");
            let name = &object.metadata.name;
            step.done = Some(told(self.set, ("update", "SuccessfulUpdate"), name));
            step.refused = Some(refused(self.set, ("update", "FailedUpdate"), name));
        }
        claims::fit_owners(self.ctx, self.set, (ordinal, pod), plan);
        Turn::Next
    }

    /// Ordered sets give up one pod at a time, the last first, and none while another one is not well.
    fn condemned(&self, plan: &mut Plan) -> Turn {
        let condemned = &self.members.condemned;
        for (ordinal, pod) in condemned {
            claims::fit_owners(self.ctx, self.set, (*ordinal, pod), plan);
        }
        let ill = |pod: &Object<Pod>| unavailable(self.ctx, self.set, Some(pod));
        let first_ill =
            condemned.iter().rev().find(|(_, pod)| ill(pod)).map(|(ordinal, _)| *ordinal);
        for (ordinal, pod) in condemned.iter().take(STATEFUL_SET_BURST) {
            if pod.object.metadata.terminating() {
                if self.set.ordered() {
                    return Turn::Wait;
                }
                continue;
            }
            let well = running_and_ready(&pod.object) && available(self.ctx, self.set, &pod.object);
            if self.set.ordered() && !well && first_ill != Some(*ordinal) {
                return Turn::Wait;
            }
            self.delete(pod, plan);
            if self.set.ordered() {
                return Turn::Wait;
            }
        }
        Turn::Next
    }

    /// The last pods of older revisions go, as many as may be missing; they come back as the newest revision says.
    fn update(&self, plan: &mut Plan) {
        let replicas = &self.members.replicas;
        let rolling = &self.set.spec.update_strategy.rolling_update;
        let partition = usize::try_from(rolling.partition).unwrap_or(0);
        let ill = |pod: Option<&Object<Pod>>| unavailable(self.ctx, self.set, pod);
        let missing = replicas.iter().filter(|member| ill(member.pod)).count();
        let mut left = max_unavailable(self.set).saturating_sub(missing);
        let old =
            replicas.iter().skip(partition).rev().filter_map(|member| member.pod).filter(|pod| {
                !pod.object.metadata.terminating()
                    && !pod.object.ended()
                    && revision_of(&pod.object) != self.revisions.update.name
            });
        for pod in old {
            // What does not work counts as missing already. In an ordered set nobody comes this far with one.
            if ill(Some(pod)) {
                self.delete(pod, plan);
            } else if left > 0 {
                left -= 1;
                self.delete(pod, plan);
            }
        }
    }

    fn delete(&self, pod: &Object<Pod>, plan: &mut Plan) {
        let step = plan.delete(&pod.stored);
        let name = &pod.object.metadata.name;
        step.done = Some(told(self.set, ("delete", "SuccessfulDelete"), name));
        step.refused = Some(refused(self.set, ("delete", "FailedDelete"), name));
    }
}

/// A number, or a percentage of the replicas rounded down; one at least.
fn max_unavailable(set: &StatefulSet) -> usize {
    let value = &set.spec.update_strategy.rolling_update.max_unavailable;
    let replicas = usize::try_from(set.replicas()).unwrap_or(0);
    let percent = value.as_str().and_then(|text| text.strip_suffix('%'));
    let number = match percent.and_then(|percent| percent.parse::<usize>().ok()) {
        Some(percent) => percent.saturating_mul(replicas) / 100,
        None => value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(1),
    };
    number.max(1)
}

fn told(
    set: &StatefulSet,
    (verb, reason): (&str, &'static str),
    pod: &str,
) -> quorate_store::EventDraft {
    let message = format!("{verb} Pod {pod} in StatefulSet {} successful", set.metadata.name);
    event(set, false, reason, message)
}

fn refused(
    set: &StatefulSet,
    (verb, reason): (&str, &'static str),
    pod: &str,
) -> quorate_store::EventDraft {
    let whose = &set.metadata.name;
    let message = format!("{verb} Pod {pod} in StatefulSet {whose} failed error: {{error}}");
    event(set, true, reason, message)
}
