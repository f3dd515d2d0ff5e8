//! [`quorate_store::Admit`]: the writes of controllers and scheduler go through the same defaults,
//! strategy, admission and stamping as those that come over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use quorate_api::codec::FieldValidation;
use quorate_api::resource::ResourceDef;
use quorate_api::status::Status;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Op, View};
use quorate_store::{Admit, Refused, Store, Write};
use serde_json::Value;

use crate::admission::{
    self, Admitted, Asked, Context, Draft, Operation, Options, Ownership, Webhooks,
};
use crate::authz::{Attributes, Authorizer, Permitted};
use crate::clock::Clock;
use crate::config::ClusterFacts;
use crate::custom;
use crate::identity::{Identity, User};
use crate::model;
use crate::status_error::Answer;
use crate::verb::{DeleteOptions, DeletePlan, plan_delete};

/// See the module.
pub struct ControllerAdmit {
    facts: ClusterFacts,
    clock: Arc<dyn Clock>,
    authorizer: Authorizer,
    webhooks: Arc<Webhooks>,
}

impl std::fmt::Debug for ControllerAdmit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControllerAdmit").finish_non_exhaustive()
    }
}

impl ControllerAdmit {
    /// An admission for writes that start in this process.
    #[must_use]
    pub(crate) fn new(
        store: Store,
        facts: ClusterFacts,
        clock: Arc<dyn Clock>,
        webhooks: Arc<Webhooks>,
    ) -> Self {
        Self { facts, clock, authorizer: Authorizer::new(store), webhooks }
    }

    /// What is the same on all masters.
    #[must_use]
    pub fn facts(&self) -> &ClusterFacts {
        &self.facts
    }

    /// Whether a user may create `certificatesigningrequests/SUBRESOURCE`.
    #[must_use]
    pub fn may_request_certificates(
        &self,
        user: &str,
        groups: &[String],
        subresource: &str,
    ) -> bool {
        let (name, groups) = (user.to_owned(), groups.to_vec());
        let identity = Identity::of(User { name, groups, ..User::default() });
        let wanted = Attributes {
            verb: "create".to_owned(),
            group: "certificates.k8s.io".to_owned(),
            resource: "certificatesigningrequests".to_owned(),
            subresource: subresource.to_owned(),
            ..Attributes::default()
        };
        self.authorizer.decide(&identity, &wanted).allowed
    }

    async fn decide(
        &self,
        view: &View,
        user: &str,
        write: Write,
        asked: Asked,
    ) -> Answer<Admitted> {
        let ctx = Context {
            view,
            facts: &self.facts,
            authorizer: &self.authorizer,
            webhooks: &self.webhooks,
            now: self.clock.now(),
        };
        let by = Permitted::component(Identity::component(user));
        match write {
            Write::Create { resource, object } => {
                create(&ctx, &by, &resource, &object, asked).await
            }
            Write::Update { stored, object, subresource } => {
                update(&ctx, &by, (&stored, &object, subresource), asked).await
            }
            Write::Delete { stored, grace_period_seconds, propagation } => {
                let options = DeleteOptions {
                    grace_period_seconds,
                    propagation: Some(propagation.to_owned()),
                    ..DeleteOptions::default()
                };
                delete(&ctx, &by, &stored, &options, asked).await
            }
        }
    }
}

fn owner(view: &View, resource: &GroupResource) -> Answer<&'static ResourceDef> {
    custom::owner_of(view, resource).ok_or_else(|| Box::new(Status::resource_not_found()))
}

async fn create(
    ctx: &Context<'_>,
    by: &Permitted,
    resource: &GroupResource,
    object: &Value,
    asked: Asked,
) -> Answer<Admitted> {
    let def = owner(ctx.view, resource)?;
    let mut warnings = Vec::new();
    let object = model::decode_tree(object, def.target(), FieldValidation::Strict, &mut warnings)?;
    let meta = &object["metadata"];
    let namespace = if def.namespaced { model::text(&meta["namespace"]) } else { "" };
    let draft = Draft {
        def,
        sub: "",
        operation: Operation::Create,
        namespace: namespace.to_owned(),
        name: model::text(&meta["name"]).to_owned(),
        object,
        old: Value::Null,
        warnings,
        ownership: Ownership::Keep,
        asked,
    };
    admission::create(ctx, by, draft).await
}

fn draft_of(
    def: &'static ResourceDef,
    stored: &StoredRef,
    operation: Operation,
    (object, old): (Value, Value),
    asked: Asked,
) -> Draft {
    Draft {
        def,
        sub: "",
        operation,
        namespace: stored.key.object.namespace.to_string(),
        name: stored.key.object.name.to_string(),
        object,
        old,
        warnings: Vec::new(),
        ownership: Ownership::Keep,
        asked,
    }
}

async fn update(
    ctx: &Context<'_>,
    by: &Permitted,
    (stored, object, subresource): (&StoredRef, &Value, &'static str),
    asked: Asked,
) -> Answer<Admitted> {
    let def = owner(ctx.view, &stored.key.resource)?;
    let mut warnings = Vec::new();
    // The schema of a custom kind may have become narrower than what is kept.
    let validation = match def.custom {
        Some(_) => FieldValidation::Ignore,
        None => FieldValidation::Strict,
    };
    let object = model::decode_tree(object, def.target(), validation, &mut warnings)?;
    let old = model::tree(def, stored)?;
    let mut draft = draft_of(def, stored, Operation::Update, (object, old), asked);
    draft.sub = subresource;
    admission::update(ctx, by, draft, stored).await
}

async fn delete(
    ctx: &Context<'_>,
    by: &Permitted,
    stored: &StoredRef,
    options: &DeleteOptions,
    asked: Asked,
) -> Answer<Admitted> {
    let Some(def) = custom::owner_of(ctx.view, &stored.key.resource) else {
        // Its definition is gone: it was made while that went. Nobody could serve it, and nobody waits for it.
        return Ok(admission::remove_unserved(stored));
    };
    let old = model::tree(def, stored)?;
    let asked = Asked { options: Options::Delete(options.clone()), ..asked };
    let draft = draft_of(def, stored, Operation::Delete, (old.clone(), old.clone()), asked);
    match plan_delete(def, &old, options, ctx.now) {
        DeletePlan::Remove => admission::delete(ctx, by, draft, stored).await,
        DeletePlan::Mark(marked) => admission::mark_deleting(ctx, by, draft, stored, marked).await,
    }
}

#[async_trait]
impl Admit for ControllerAdmit {
    async fn admit(
        &self,
        view: &Arc<View>,
        user: &str,
        write: Write,
    ) -> Result<Option<Op>, Refused> {
        // Nobody outside is asked about the masters' own records.
        let asked = Asked { silent: true, ..Asked::default() };
        let admitted = self.decide(view, user, write, asked).await;
        let admitted = admitted.map_err(|status| refused(&status))?;
        Ok(admitted.into_command().map(crate::stamp::Command::into_op))
    }

    async fn admit_whole(
        &self,
        view: &Arc<View>,
        user: &str,
        write: Write,
    ) -> Result<Vec<Op>, Refused> {
        let admitted = self.decide(view, user, write, Asked::default()).await;
        let admitted = admitted.map_err(|status| refused(&status))?;
        let command = admitted.into_command();
        Ok(command.map(crate::stamp::Command::into_ops).unwrap_or_default())
    }
}

fn refused(status: &Status) -> Refused {
    let reason = serde_json::to_value(status.reason).ok();
    Refused {
        reason: reason.and_then(|one| one.as_str().map(str::to_owned)).unwrap_or_default(),
        message: status.message.clone(),
        code: status.code,
    }
}
