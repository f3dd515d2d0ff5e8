//! Carrying out plans: admit, propose in batches, tell what became of each key.

mod outside;

use std::sync::Arc;

use futures::FutureExt as _;
use quorate_state_machine::{Op, Outcome, View};
use quorate_store::{Admit, Error, EventDraft, LeaderStore, Recorder, Refused};

use crate::limits::{PROPOSAL_BYTES_MAX, PROPOSAL_OPS_MAX};
use crate::plan::{Plan, Step, WorkKey};
use crate::queue::Finish;
pub(crate) use outside::Outside;

/// A key and what is to be done for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: WorkKey,
    pub(crate) plan: Plan,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) keys: Vec<CarriedKey>,
    /// The leadership has ended, or the store stops: nothing more can be written.
    pub(crate) fatal: Option<Error>,
    /// Keys that wait for somebody outside, and go on by themselves.
    pub(crate) outside: Vec<Outside>,
}

/// What became of one key.
#[derive(Debug)]
pub(crate) struct CarriedKey {
    pub(crate) key: WorkKey,
    pub(crate) finish: Finish,
    pub(crate) wake_after: Option<std::time::Duration>,
    pub(crate) wrote: u64,
}

/// What batches need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) store: LeaderStore,
    pub(crate) admit: Arc<dyn Admit>,
    pub(crate) recorder: Recorder,
}

/// An operation that waits to be proposed.
struct Pending {
    job: usize,
    op: Op,
    /// What takes effect with it or not at all: quotas that it is charged to.
    also: Vec<Op>,
    done: Option<EventDraft>,
    refused: Option<EventDraft>,
}

impl Executor {
    /// Admits the steps of all jobs and proposes them, several keys together. The first failure of
    /// a key stops its remaining steps.
    pub(crate) async fn carry_out(self, view: Arc<View>, jobs: Vec<Job>) -> Carried {
        let mut keys = Vec::with_capacity(jobs.len());
        let mut pending = Vec::new();
        let mut weight = 0;
        let mut fatal = None;
        let mut outside = Vec::new();
        // What was charged to a quota has to be seen by what is charged next.
        let mut charged: Option<Arc<View>> = None;
        for Job { key, plan } in jobs {
            let job = keys.len();
            let user = key.controller.user();
            keys.push(CarriedKey {
                key,
                finish: Finish::Done { wrote: false },
                wake_after: plan.wake_after,
                wrote: 0,
            });
            let mut steps = plan.steps.into_iter();
            while let Some(step) = steps.next() {
                if !matches!(keys[job].finish, Finish::Done { .. }) || fatal.is_some() {
                    break;
                }
                let view = charged.as_ref().unwrap_or(&view).clone();
                let mut admitting = self.clone().admit_step(view, user, job, step).boxed();
                let Some(admitted) = (&mut admitting).now_or_never() else {
                    // What it has asked for already is decided first.
                    if pending.iter().any(|pending: &Pending| pending.job == job) {
                        weight = 0;
                        fatal = self.propose(&mut keys, std::mem::take(&mut pending)).await;
                    }
                    if fatal.is_none()
                        && matches!(keys[job].finish, Finish::Done { .. })
                        && let Some(carried) = keys.pop()
                    {
                        let admitting = admitting.map(of_first).boxed();
                        outside.push(self.clone().outside(carried, admitting, steps));
                    }
                    break;
                };
                match admitted {
                    Ok(None) => {}
                    Ok(Some(operation)) if !operation.also.is_empty() => {
                        weight = 0;
                        fatal = self.propose(&mut keys, std::mem::take(&mut pending)).await;
                        if fatal.is_none() && matches!(keys[job].finish, Finish::Done { .. }) {
                            fatal = self.transact(&mut keys, operation).await;
                            charged = Some(self.store.view());
                        }
                    }
                    Ok(Some(operation)) => {
                        weight += operation.op.weight();
                        pending.push(operation);
                    }
                    Err(refused) => keys[job].finish = refused,
                }
                if pending.len() >= PROPOSAL_OPS_MAX || weight >= PROPOSAL_BYTES_MAX {
                    weight = 0;
                    fatal = self.propose(&mut keys, std::mem::take(&mut pending)).await;
                }
            }
            plan.events.into_iter().for_each(|event| self.recorder.record(event));
        }
        if fatal.is_none() {
            fatal = self.propose(&mut keys, pending).await;
        }
        Carried { keys, fatal, outside }
    }

    async fn admit_step(
        self,
        view: Arc<View>,
        user: &'static str,
        job: usize,
        step: Step,
    ) -> Result<Option<Pending>, Finish> {
        match self.admit.admit_whole(&view, user, step.write).await {
            Ok(ops) => {
                let mut ops = ops.into_iter();
                let first = ops.next();
                let (also, done, refused) = (ops.collect(), step.done, step.refused);
                Ok(first.map(|op| Pending { job, op, also, done, refused }))
            }
            Err(refused) => {
                tracing::debug!(%refused, "write refused");
                let finish = finish_of(&refused);
                if let (Some(event), Finish::Failed(_)) = (step.refused, &finish) {
                    self.record(event, "", &refused.message);
                }
                Err(finish)
            }
        }
    }

    /// Proposes what is charged to quotas, together with the charges.
    async fn transact(&self, keys: &mut [CarriedKey], pending: Pending) -> Option<Error> {
        let ops = std::iter::once(&pending.op).chain(&pending.also).cloned().collect();
        let decided = self.store.transact(ops).await;
        self.take_decision(keys, vec![pending], decided)
    }

    /// Proposes what waits; the error when nothing more can be written.
    async fn propose(&self, keys: &mut [CarriedKey], pending: Vec<Pending>) -> Option<Error> {
        if pending.is_empty() {
            return None;
        }
        let ops: Vec<Op> = pending.iter().map(|pending| pending.op.clone()).collect();
        let decided = self.store.write(ops).await;
        self.take_decision(keys, pending, decided)
    }

    fn take_decision(
        &self,
        keys: &mut [CarriedKey],
        pending: Vec<Pending>,
        decided: Result<Vec<Outcome>, Error>,
    ) -> Option<Error> {
        match decided {
            Ok(outcomes) => {
                for (pending, outcome) in pending.into_iter().zip(outcomes) {
                    self.take_outcome(&mut keys[pending.job], pending, &outcome);
                }
                None
            }
            Err(error @ (Error::Deposed | Error::Stopped { .. })) => Some(error),
            Err(error) => {
                tracing::warn!(%error, operations = pending.len(), "proposal failed");
                for pending in pending {
                    keys[pending.job].finish = Finish::Failed(error.to_string());
                }
                None
            }
        }
    }

    fn take_outcome(&self, key: &mut CarriedKey, pending: Pending, outcome: &Outcome) {
        let name = pending.op.key().object.name.clone();
        match failure_of(outcome) {
            None => {
                key.wrote += 1;
                if let Finish::Done { wrote } = &mut key.finish {
                    *wrote = true;
                }
                if let Some(event) = pending.done {
                    self.record(event, &name, "");
                }
            }
            Some(finish) => {
                if let (Some(event), Finish::Failed(message)) = (pending.refused, &finish) {
                    self.record(event, &name, message);
                }
                key.finish = finish;
            }
        }
    }

    fn record(&self, mut event: EventDraft, name: &str, error: &str) {
        event.message = event.message.replace("{name}", name).replace("{error}", error);
        self.recorder.record(event);
    }
}

/// A key that goes on by itself is the first and only one of its batch.
fn of_first(admitted: outside::Admitted) -> outside::Admitted {
    admitted.map(|pending| pending.map(|pending| Pending { job: 0, ..pending }))
}

/// What a refusal means for the key: some refusals only say that the view is old.
fn finish_of(refused: &Refused) -> Finish {
    match refused.reason.as_str() {
        "Conflict" | "AlreadyExists" | "NotFound" => Finish::Conflict,
        _ => Finish::Failed(refused.message.clone()),
    }
}

/// What an outcome means for the key; `None` when it took effect.
fn failure_of(outcome: &Outcome) -> Option<Finish> {
    match outcome {
        Outcome::Done(_) => None,
        Outcome::AlreadyExists(_)
        | Outcome::NotFound
        | Outcome::Conflict(_)
        | Outcome::OtherUid(_)
        | Outcome::ClaimTaken { .. }
        // The object will go with its namespace: nothing to tell anybody.
        | Outcome::NamespaceGone
        | Outcome::NamespaceTerminating
        | Outcome::Aborted => Some(Finish::Conflict),
        Outcome::TooLarge(bytes) => Some(Finish::Failed(format!("the object has {bytes} bytes"))),
    }
}
