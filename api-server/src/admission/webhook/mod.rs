//! Admission webhooks: programs elsewhere that may change or refuse what is to be written.
//!
//! Mutating ones are asked one after the other, by the names of their configurations, after the mutating plugins; when
//! one has changed the object, plugins see it again, and so do webhooks that want that (`reinvocationPolicy`).
//! Validating ones are asked all at once, after validation and the validating plugins. All of it happens on the master
//! that got the request and before anything is proposed: a write that is computed anew because another came between is
//! shown to them anew, too.
//!
//! Start reading at [`mutate`] and [`validate`]; [`case`] says who is asked, [`review`] what is said, [`call`] what a
//! failure means, [`client`] and [`crate::dial`] how they are reached. See decision 16.

mod call;
mod case;
mod client;
mod configuration;
mod metrics;
mod patch;
mod review;
mod rule;
mod trust;

use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use quorate_api::managed;
use quorate_api::resource::ResourceDef;
use quorate_store::Store;
use serde_json::Value;
use tokio::time::Instant;

use super::{Context, Draft, Operation, PLUGINS};
use crate::identity::Identity;
use crate::model;
use crate::status_error::{Answer, Refusal};
use crate::streams::PodStreams;
use call::{Failure, Question};
use case::Case;
use client::Dialer;
use configuration::{Compiled, Configurations, Kind};
use metrics::Metrics;

/// The webhooks of this master: what is compiled, connected, counted.
pub struct Webhooks {
    configurations: Configurations,
    dialer: Arc<Dialer>,
    metrics: Metrics,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

impl Webhooks {
    pub(crate) fn new(store: Store, streams: Option<Arc<dyn PodStreams>>) -> Self {
        Self {
            configurations: Configurations::default(),
            dialer: Arc::new(Dialer { store, streams }),
            metrics: Metrics::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// All webhooks, when the rules of one of that kind name what is done. Nearly always: `None`, after two look-ups.
    fn concerned(&self, ctx: &Context<'_>, draft: &Draft, kind: Kind) -> Option<Arc<Compiled>> {
        let compiled = self.configurations.of(ctx.view, &self.dialer)?;
        if !case::concerns_webhooks(draft) {
            return None;
        }
        let mut hooks = compiled.hooks(kind).iter();
        let one = hooks.any(|hook| case::named_as(hook, draft, ctx.view).is_some());
        one.then_some(compiled)
    }
}

/// Lets mutating webhooks change a draft. Whether one did.
pub(super) async fn mutate(ctx: &Context<'_>, by: &Identity, draft: &mut Draft) -> Answer<bool> {
    let Some(compiled) = ctx.webhooks.concerned(ctx, draft, Kind::Mutating) else {
        return Ok(false);
    };
    Box::pin(mutate_by(ctx, by, draft, &compiled, true)).await
}

/// A request without its objects, shown as one about another version of the resource.
pub(super) fn about(draft: &Draft, shown_as: &ResourceDef, by: &Identity) -> Value {
    review::about(&Case::of(draft, by), shown_as, &quorate_chance::uuid())
}

/// Asks about something that is not kept as it is sent (a review, an eviction, a stream): mutating webhooks, then
/// validating ones.
pub(crate) async fn pass(ctx: &Context<'_>, by: &Identity, draft: &mut Draft) -> Answer<()> {
    if let Some(compiled) = ctx.webhooks.concerned(ctx, draft, Kind::Mutating) {
        Box::pin(mutate_by(ctx, by, draft, &compiled, false)).await?;
    }
    validate(ctx, by, draft).await
}

/// Lets validating webhooks refuse a draft; what they warn of is added to it.
pub(super) async fn validate(ctx: &Context<'_>, by: &Identity, draft: &mut Draft) -> Answer<()> {
    let Some(compiled) = ctx.webhooks.concerned(ctx, draft, Kind::Validating) else {
        return Ok(());
    };
    Box::pin(validate_by(ctx, by, draft, &compiled)).await
}

/// Mutating webhooks, then validating ones, about something that goes.
pub(super) async fn delete(ctx: &Context<'_>, by: &Identity, draft: &mut Draft) -> Answer<()> {
    if let Some(compiled) = ctx.webhooks.concerned(ctx, draft, Kind::Mutating) {
        Box::pin(mutate_by(ctx, by, draft, &compiled, false)).await?;
    }
    validate(ctx, by, draft).await
}

/// Who is asked again.
#[derive(Debug, Default)]
struct Again {
    /// Were asked, and want to be when something changes.
    waiting: BTreeSet<String>,
    /// Something has changed since.
    due: BTreeSet<String>,
}

impl Again {
    fn changed(&mut self) {
        self.due.append(&mut self.waiting);
    }
}

async fn mutate_by(
    ctx: &Context<'_>,
    by: &Identity,
    draft: &mut Draft,
    compiled: &Compiled,
    kept: bool,
) -> Answer<bool> {
    let owners = managed::field(&draft.object).clone();
    if kept {
        model::apply_defaults(draft.def, &mut draft.object);
    }
    let mut again = Again::default();
    let changed = round(ctx, by, draft, compiled, (&mut again, true)).await?;
    if changed {
        let before = draft.object.clone();
        if kept {
            for plugin in PLUGINS {
                plugin.mutate(ctx, by, draft)?;
            }
            model::apply_defaults(draft.def, &mut draft.object);
        }
        if draft.object != before {
            again.changed();
        }
        if !again.due.is_empty() {
            round(ctx, by, draft, compiled, (&mut again, false)).await?;
        }
        patch::restore_owners(draft, owners);
    }
    Ok(changed)
}

/// All mutating webhooks once; in the second round only those that are asked again.
async fn round(
    ctx: &Context<'_>,
    by: &Identity,
    draft: &mut Draft,
    compiled: &Compiled,
    (again, first): (&mut Again, bool),
) -> Answer<bool> {
    let case = Case::of(draft, by);
    let mut any = false;
    for hook in &compiled.mutating {
        let Some(shown_as) = case::named_as(hook, draft, ctx.view) else { continue };
        let (object, old) = seen(draft);
        if !case::selected(hook, draft, ctx.view, (object, old))?
            || !(first || again.due.contains(&hook.id))
        {
            continue;
        }
        let (shown, old) =
            (case::shown(&case, shown_as, object), case::shown(&case, shown_as, old));
        let question = Question { case: &case, shown_as, object: &shown, old: &old };
        let began = Instant::now();
        let mut warnings = Vec::new();
        if !question.is_meant(ctx, hook)? {
            continue;
        }
        let outcome = question.ask(hook).await.and_then(|mut verdict| {
            warnings = std::mem::take(&mut verdict.warnings);
            patch::apply(hook, &question, verdict, &warnings)
        });
        draft.warnings.append(&mut warnings);
        let outcome = ctx.webhooks.judge(hook, &case, began, outcome);
        if let Some(Some(changed)) = outcome.map_err(|refusal| with_warnings(refusal, draft))? {
            let mut object = case::taken(&case, shown_as, &draft.object, changed);
            if !case::is_other_kind(&case) || case.sub == "scale" {
                model::apply_defaults(draft.def, &mut object);
            }
            if object != draft.object {
                draft.object = object;
                again.changed();
                any = true;
            }
        }
        if hook.reinvoked {
            again.waiting.insert(hook.id.clone());
        }
    }
    Ok(any)
}

async fn validate_by(
    ctx: &Context<'_>,
    by: &Identity,
    draft: &mut Draft,
    compiled: &Compiled,
) -> Answer<()> {
    let mut case = Case::of(draft, by);
    if case.name.is_empty() {
        model::text(&draft.object["metadata"]["name"]).clone_into(&mut case.name);
    }
    let (object, old) = seen(draft);
    let mut calls = Vec::new();
    for hook in &compiled.validating {
        let Some(shown_as) = case::named_as(hook, draft, ctx.view) else { continue };
        if !case::selected(hook, draft, ctx.view, (object, old))? {
            continue;
        }
        let (object, old) =
            (case::shown(&case, shown_as, object), case::shown(&case, shown_as, old));
        let case = &case;
        calls.push(async move {
            let question = Question { case, shown_as, object: &object, old: &old };
            let began = Instant::now();
            if !question.is_meant(ctx, hook)? {
                return Ok(Vec::new());
            }
            let outcome = question.ask(hook).await.and_then(|verdict| {
                if verdict.allowed {
                    return Ok(verdict.warnings);
                }
                let refusal = call::refusal(&hook.name, &verdict.status, verdict.warnings);
                Err(Failure::Verdict(refusal))
            });
            let judged = ctx.webhooks.judge(hook, case, began, outcome);
            judged.map(Option::unwrap_or_default)
        });
    }
    let (mut warnings, mut refused) = (Vec::new(), None);
    for answer in futures::future::join_all(calls).await {
        match answer {
            Ok(mut more) => warnings.append(&mut more),
            Err(mut refusal) => {
                warnings.append(&mut refusal.aside.warnings);
                // Upstream tells one of them, too.
                refused = refused.or(Some(refusal));
            }
        }
    }
    draft.warnings.append(&mut warnings);
    match refused {
        None => Ok(()),
        Some(refusal) => Err(with_warnings(refusal, draft)),
    }
}

/// The client of a refused request hears the warnings, too.
fn with_warnings(mut refusal: Refusal, draft: &Draft) -> Refusal {
    refusal.aside.warnings.clone_from(&draft.warnings);
    refusal.aside.settled = true;
    refusal
}

/// The new and the old version as webhooks see them: of what goes there is an old one only.
fn seen(draft: &Draft) -> (&Value, &Value) {
    match draft.operation {
        Operation::Delete => (&Value::Null, &draft.old),
        Operation::Create | Operation::Update | Operation::Connect => (&draft.object, &draft.old),
    }
}

#[cfg(test)]
mod tests;
