//! Admission: what a new version of an object goes through before it may be proposed.
//!
//! The order, for creates and updates: defaults → mutating plugins → mutating policies → mutating webhooks → strategy →
//! stamp → allocation (services) → validation → validating plugins → validating policies → validating webhooks →
//! quotas, which are charged. Plugins are listed once, in [`PLUGINS`].

mod certificates;
mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod policy;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod service_account;
mod storage_protection;
mod taint_nodes;
pub(crate) mod webhook;

use jiff::Timestamp;
use quorate_api::managed;
use quorate_api::resource::ResourceDef;
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Image, Key, ObjectKey, Op, View};
use serde_json::{Value, json};

use crate::authz::{Authorizer, Permitted};
use crate::config::ClusterFacts;
use crate::identity::Identity;
use crate::stamp::{self, Command};
use crate::status_error::Answer;
use crate::verb::DeleteOptions;
use crate::{model, service_address};

pub(crate) use policy::Hook;
pub(crate) use resource_quota::has_quotas;
pub use webhook::Webhooks;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A stream is opened. Nothing is written: only webhooks are asked.
    Connect,
}

impl Operation {
    /// Its name in rules and reviews.
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What webhooks are told of a request beside its objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) dry_run: bool,
    pub(crate) options: Options,
    /// They were asked already, about what was sent instead (an eviction, a binding).
    pub(crate) silent: bool,
}

impl Asked {
    /// The options as an object, as requests of webhooks and policies show them; null for streams, which are their own.
    fn options(&self, operation: Operation) -> Value {
        let (kind, mut options) = match (&self.options, operation) {
            (_, Operation::Connect) => return Value::Null,
            (Options::Delete(delete), _) => ("DeleteOptions", delete.to_json()),
            (Options::Write { manager, validation }, operation) => {
                let mut options = json!({});
                for (name, value) in [("fieldManager", manager), ("fieldValidation", validation)] {
                    if !value.is_empty() {
                        options[name] = json!(value);
                    }
                }
                let create = operation == Operation::Create;
                (if create { "CreateOptions" } else { "UpdateOptions" }, options)
            }
        };
        options["kind"] = json!(kind);
        options["apiVersion"] = json!("meta.k8s.io/v1");
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}

/// The options that came with it.
#[derive(Debug, Clone)]
pub(crate) enum Options {
    /// Of a create, an update or a patch; "" is what was not said.
    Write {
        manager: String,
        validation: String,
    },
    Delete(DeleteOptions),
}

impl Default for Options {
    fn default() -> Self {
        Self::Write { manager: String::new(), validation: String::new() }
    }
}

/// A new version on its way through admission.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) def: &'static ResourceDef,
    /// "" for the object itself.
    pub(crate) sub: &'static str,
    pub(crate) operation: Operation,
    /// "" for cluster-scoped objects.
    pub(crate) namespace: String,
    /// May be "" for creates with `generateName`.
    pub(crate) name: String,
    /// The new version; for deletes the old one.
    pub(crate) object: Value,
    /// The old version; null for creates.
    pub(crate) old: Value,
    pub(crate) warnings: Vec<String>,
    pub(crate) ownership: Ownership,
    pub(crate) asked: Asked,
}

/// What becomes of the object's managedFields.
#[derive(Debug, Clone, Default)]
pub(crate) enum Ownership {
    /// They stay: writes of this process, and those that change no field of their own.
    #[default]
    Keep,
    /// What the write changes belongs to this field manager.
    Track(String),
    /// They were computed with the new version: server-side apply.
    Computed,
}

impl Draft {
    pub(crate) fn resource(&self) -> GroupResource<'static> {
        GroupResource::new(self.def.group(), self.def.plural)
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.def.group() == group && self.def.plural == plural
    }

    /// 403 about this object.
    fn forbidden(&self, why: &str) -> crate::status_error::Refusal {
        Box::new(Status::forbidden(self.resource(), &self.name, why))
    }
}

/// What plugins look at.
pub(crate) struct Context<'a> {
    pub(crate) view: &'a View,
    pub(crate) facts: &'a ClusterFacts,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) webhooks: &'a Webhooks,
    pub(crate) now: Timestamp,
}

/// One admission plugin. Both stages do nothing unless a plugin says otherwise.
trait Plugin: Sync {
    fn mutate(&self, _: &Context<'_>, _: &Identity, _: &mut Draft) -> Answer<()> {
        Ok(())
    }

    fn validate(&self, _: &Context<'_>, _: &Identity, _: &Draft) -> Answer<()> {
        Ok(())
    }
}

/// All plugins, in upstream's order (`kubeapiserver/options/plugins.go`).
static PLUGINS: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &limit_ranger::LimitRanger,
    &node_restriction::NodeRestriction,
    &taint_nodes::TaintNodesByCondition,
    &service_account::ServiceAccount,
    &priority::Priority,
    &default_tolerations::DefaultTolerationSeconds,
    &storage_protection::StorageProtection,
    &certificates::Certificates,
    &rbac_escalation::RbacEscalation,
];

/// A write that has passed. Made by [`create`], [`update`] and [`delete`] alone, each of which
/// takes a [`Permitted`].
#[derive(Debug, Clone)]
pub struct Admitted {
    key: Key,
    namespace_uid: Option<String>,
    change: Change,
    /// What takes effect with it, or not at all: quotas that it is charged to.
    also: Vec<Op>,
    object: Value,
    warnings: Vec<String>,
}

#[derive(Debug, Clone)]
enum Change {
    Create(Image),
    /// `None`: the new version is the old one.
    Update(StoredRef, Option<Image>),
    Delete(StoredRef),
}

impl Admitted {
    /// The object as it will be, without a resourceVersion of its own.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// What the client should be told.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether there is nothing to propose.
    #[must_use]
    pub fn is_no_change(&self) -> bool {
        matches!(self.change, Change::Update(_, None))
    }

    /// Whether the object will be gone.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        matches!(self.change, Change::Delete(_))
    }

    /// The image that will be stored, when there is one.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        match &self.change {
            Change::Create(image) | Change::Update(_, Some(image)) => Some(image),
            Change::Update(_, None) | Change::Delete(_) => None,
        }
    }

    /// What to propose; `None` when nothing changes.
    #[must_use]
    pub fn into_command(self) -> Option<Command> {
        let Self { key, namespace_uid, change, also, .. } = self;
        let op = match change {
            Change::Create(image) => Op::Create { key, image, namespace: namespace_uid },
            Change::Update(stored, Some(image)) => {
                Op::Update { key, expect: stored.revision, image }
            }
            Change::Update(_, None) => return None,
            Change::Delete(stored) => Op::Delete {
                key,
                expect: Some(stored.revision),
                uid: Some(stored.uid().to_owned()),
            },
        };
        Some(Command::new(op, also))
    }

    /// The same, with another write that takes effect with it or not at all.
    #[must_use]
    pub(crate) fn with(mut self, op: Op) -> Self {
        self.also.push(op);
        self
    }
}

fn key_of(draft: &Draft) -> Key {
    Key {
        resource: model::storage(draft.def),
        object: ObjectKey::new(&draft.namespace, &draft.name),
    }
}

/// A new object.
pub(crate) async fn create(
    ctx: &Context<'_>,
    by: &Permitted,
    mut draft: Draft,
) -> Answer<Admitted> {
    model::apply_defaults(draft.def, &mut draft.object);
    record_owner(ctx, &mut draft);
    for plugin in PLUGINS {
        plugin.mutate(ctx, by.identity(), &mut draft)?;
    }
    policy::mutate(ctx, by.identity(), &mut draft)?;
    if webhook::mutate(ctx, by.identity(), &mut draft).await? {
        renamed(&mut draft)?;
    }
    model::apply_defaults(draft.def, &mut draft.object);
    // Strategies know name and uid: jobs have them in their labels.
    stamp::created(&mut draft.object, ctx.now);
    name(&mut draft)?;
    model::prepare_create(draft.def, &mut draft.object);
    let claims = service_address::allocate(ctx, &mut draft)?;
    let errors = model::validate_create(draft.def, &draft.object);
    refuse(&draft, &errors)?;
    for plugin in PLUGINS {
        plugin.validate(ctx, by.identity(), &draft)?;
    }
    policy::validate(ctx, by.identity(), &mut draft)?;
    webhook::validate(ctx, by.identity(), &mut draft).await?;
    let also = resource_quota::charge(ctx, &draft)?;
    draft.warnings.extend(model::create_warnings(draft.def, &draft.object));
    let image = model::image(draft.def, &draft.object, claims)?;
    Ok(Admitted {
        key: key_of(&draft),
        namespace_uid: namespace_lifecycle::uid(ctx.view, &draft.namespace),
        change: Change::Create(image),
        also,
        object: draft.object,
        warnings: draft.warnings,
    })
}

/// Webhooks may name a new object, and not move it.
fn renamed(draft: &mut Draft) -> Answer<()> {
    let meta = &draft.object["metadata"];
    let namespace = model::text(&meta["namespace"]);
    if !namespace.is_empty() && !draft.namespace.is_empty() && namespace != draft.namespace {
        return Err(Box::new(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )));
    }
    draft.name = model::text(&meta["name"]).to_owned();
    draft.warnings.extend(stamp::distinct_owners(&mut draft.object));
    Ok(())
}

/// Name and namespace go into the metadata; a name is generated when only its beginning is given.
fn name(draft: &mut Draft) -> Answer<()> {
    let base = model::text(&draft.object["metadata"]["generateName"]).to_owned();
    if draft.name.is_empty() && !base.is_empty() {
        draft.name = stamp::generated_name(&base);
    }
    let meta = stamp::metadata(&mut draft.object);
    if !draft.name.is_empty() {
        meta.insert("name".to_owned(), Value::String(draft.name.clone()));
    }
    if draft.namespace.is_empty() {
        meta.remove("namespace");
    } else {
        meta.insert("namespace".to_owned(), Value::String(draft.namespace.clone()));
    }
    Ok(())
}

/// A new version of `stored`.
pub(crate) async fn update(
    ctx: &Context<'_>,
    by: &Permitted,
    mut draft: Draft,
    stored: &StoredRef,
) -> Answer<Admitted> {
    model::apply_defaults(draft.def, &mut draft.object);
    record_owner(ctx, &mut draft);
    let owners = match draft.ownership {
        Ownership::Keep => managed::field(&draft.old),
        Ownership::Track(_) | Ownership::Computed => managed::field(&draft.object),
    };
    let owners = owners.clone();
    prepare(&mut draft, owners);
    for plugin in PLUGINS {
        plugin.mutate(ctx, by.identity(), &mut draft)?;
    }
    if policy::mutate(ctx, by.identity(), &mut draft)? {
        let owners = managed::field(&draft.object).clone();
        prepare(&mut draft, owners);
    }
    model::apply_defaults(draft.def, &mut draft.object);
    // Whatever the client named, what is proposed is computed from exactly this version.
    let at = |object: &mut Value| {
        let revision = Value::String(stored.revision.to_string());
        stamp::metadata(object).insert("resourceVersion".to_owned(), revision);
    };
    at(&mut draft.object);
    if webhook::mutate(ctx, by.identity(), &mut draft).await? {
        let twice = stamp::distinct_owners(&mut draft.object);
        draft.warnings.extend(twice);
        let owners = managed::field(&draft.object).clone();
        prepare(&mut draft, owners);
        at(&mut draft.object);
    }
    model::apply_defaults(draft.def, &mut draft.object);
    let claims = service_address::allocate(ctx, &mut draft)?;
    let errors = model::validate_update(draft.def, draft.sub, &draft.object, &draft.old);
    refuse(&draft, &errors)?;
    for plugin in PLUGINS {
        plugin.validate(ctx, by.identity(), &draft)?;
    }
    policy::validate(ctx, by.identity(), &mut draft)?;
    webhook::validate(ctx, by.identity(), &mut draft).await?;
    let also = resource_quota::charge(ctx, &draft)?;
    if draft.sub.is_empty() {
        draft.warnings.extend(model::update_warnings(draft.def, &draft.object, &draft.old));
    }
    stamp::metadata(&mut draft.object).remove("resourceVersion");
    keep_times(&mut draft);
    let change = if finished(&draft) {
        Change::Delete(stored.clone())
    } else {
        let image = model::image(draft.def, &draft.object, claims)?;
        let same = image.bytes == stored.image.bytes;
        Change::Update(stored.clone(), (!same).then_some(image))
    };
    Ok(Admitted {
        key: key_of(&draft),
        namespace_uid: None,
        change,
        also,
        object: draft.object,
        warnings: draft.warnings,
    })
}

/// What an update may not change is what it was; what follows from the change is computed.
fn prepare(draft: &mut Draft, owners: Value) {
    stamp::updated(&mut draft.object, &draft.old);
    model::prepare_update(draft.def, draft.sub, &mut draft.object, &draft.old);
    managed::set_field(&mut draft.object, owners);
}

/// What an HTTP write changes becomes its field manager's.
fn record_owner(ctx: &Context<'_>, draft: &mut Draft) {
    let Ownership::Track(manager) = &draft.ownership else { return };
    let old = (!draft.old.is_null()).then_some(&draft.old);
    let now = crate::clock::rfc3339(ctx.now);
    let writer = managed::Writer { manager, subresource: draft.sub, now: &now };
    managed::update(old, &mut draft.object, model::managed_target(draft.def), writer);
}

/// A write that changes nothing but the times of its owners changes nothing.
fn keep_times(draft: &mut Draft) {
    let (old, new) = (managed::field(&draft.old), managed::field(&draft.object));
    if old == new || !managed::same_but_times(old, new) {
        return;
    }
    let rest = |object: &Value, name: &str| {
        let fields = object[name].as_object().into_iter().flatten();
        let fields = fields
            .filter(|(name, _)| !matches!(name.as_str(), "managedFields" | "resourceVersion"));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    let fields = |object: &Value| object.as_object().map_or(0, serde_json::Map::len);
    let same = fields(&draft.old) == fields(&draft.object)
        && draft.object.as_object().into_iter().flatten().all(|(name, value)| {
            if name == "metadata" {
                return rest(&draft.old, name) == rest(&draft.object, name);
            }
            draft.old.get(name) == Some(value)
        });
    if same {
        let owners = old.clone();
        managed::set_field(&mut draft.object, owners);
    }
}

/// The object is to go at once.
pub(crate) async fn delete(
    ctx: &Context<'_>,
    by: &Permitted,
    mut draft: Draft,
    stored: &StoredRef,
) -> Answer<Admitted> {
    for plugin in PLUGINS {
        plugin.validate(ctx, by.identity(), &draft)?;
    }
    policy::validate(ctx, by.identity(), &mut draft)?;
    webhook::delete(ctx, by.identity(), &mut draft).await?;
    Ok(Admitted {
        key: key_of(&draft),
        namespace_uid: None,
        change: Change::Delete(stored.clone()),
        also: Vec::new(),
        object: draft.object,
        warnings: draft.warnings,
    })
}

/// An object of a kind that is no more goes at once.
pub(crate) fn remove_unserved(stored: &StoredRef) -> Admitted {
    Admitted {
        key: stored.key.clone(),
        namespace_uid: None,
        change: Change::Delete(stored.clone()),
        also: Vec::new(),
        object: Value::Null,
        warnings: Vec::new(),
    }
}

/// The object is to go later: a version that says so.
pub(crate) async fn mark_deleting(
    ctx: &Context<'_>,
    by: &Permitted,
    mut draft: Draft,
    stored: &StoredRef,
    marked: Value,
) -> Answer<Admitted> {
    for plugin in PLUGINS {
        plugin.validate(ctx, by.identity(), &draft)?;
    }
    policy::validate(ctx, by.identity(), &mut draft)?;
    webhook::delete(ctx, by.identity(), &mut draft).await?;
    let mut marked = marked;
    stamp::metadata(&mut marked).remove("resourceVersion");
    let image = model::image(draft.def, &marked, stored.image.header.claims.clone())?;
    let same = image.bytes == stored.image.bytes;
    Ok(Admitted {
        key: key_of(&draft),
        namespace_uid: None,
        change: Change::Update(stored.clone(), (!same).then_some(image)),
        also: Vec::new(),
        object: marked,
        warnings: draft.warnings,
    })
}

/// Whether the update takes away the last thing that kept an object which is being deleted
/// (upstream's `ShouldDeleteDuringUpdate`).
fn finished(draft: &Draft) -> bool {
    let meta = &draft.object["metadata"];
    if meta["deletionTimestamp"].is_null() || model::has_items(&meta["finalizers"]) {
        return false;
    }
    if draft.is("", "namespaces") {
        return !model::has_items(&draft.object["spec"]["finalizers"]);
    }
    meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

fn refuse(draft: &Draft, errors: &[quorate_api::field::Error]) -> Answer<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupResource::new(draft.def.group(), draft.def.kind());
    let name = model::text(&draft.object["metadata"]["name"]);
    Err(Box::new(Status::invalid(kind, name, errors)))
}
