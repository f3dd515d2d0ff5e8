//! The object model as the pipeline uses it: where stored versions, JSON trees and the
//! schema-driven functions of `quorate_api` meet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use quorate_api::codec::{self, FieldValidation, MediaType, Target};
use quorate_api::custom::{self, Custom, Definition};
use quorate_api::resource::{self, ResourceDef, Storage};
use quorate_api::selector;
use quorate_api::status::Status;
use quorate_state_machine::object::{Stored, StoredRef};
use quorate_state_machine::{GroupResource, Header, Image};
use serde_json::Value;

use crate::admission::Hook;
use crate::status_error::{Answer, Refusal};

/// Resources by where their objects are kept: the one whose own objects they are.
static BY_STORAGE: LazyLock<BTreeMap<(&str, &str), &'static ResourceDef>> = LazyLock::new(|| {
    resource::all()
        .iter()
        .filter(|def| def.storage == Storage::Own)
        .map(|def| ((def.group(), def.plural), def))
        .collect()
});

/// The resource whose own objects are kept there.
pub(crate) fn owner_of(resource: &GroupResource) -> Option<&'static ResourceDef> {
    BY_STORAGE.get(&(&*resource.group, &*resource.resource)).copied()
}

/// Where objects of a resource are kept. Virtual resources have a place where nothing ever is.
pub(crate) fn storage(def: &ResourceDef) -> GroupResource {
    let (group, plural) = def.storage_key().unwrap_or_else(|| (def.group(), def.plural));
    GroupResource::new(group, plural)
}

/// What is computed once for a stored version.
struct Derived {
    /// The values of its selectable fields.
    fields: Box<[(&'static str, Box<str>)]>,
    /// Of a definition: what it makes of itself.
    definition: Option<Definition>,
    /// Of an admission policy or a binding: what it is made of.
    hook: Option<Hook>,
    /// Of a custom object: whether its bytes are just what this form of its kind serves.
    form: Option<(&'static Custom, bool)>,
}

impl Derived {
    fn of(stored: &Stored) -> Self {
        let Some(def) = owner_of(&stored.key.resource) else {
            return Self { fields: [].into(), definition: None, hook: None, form: None };
        };
        let object: Value = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
        let fields = selector::field::selectable(def.group(), def.kind())
            .iter()
            .map(|field| (field.name, selector::field::value_of(&object, field).into()))
            .collect();
        let is_definition = def.group() == custom::GROUP && def.plural == custom::PLURAL;
        let definition = is_definition.then(|| Definition::of(&object));
        Self { fields, definition, hook: Hook::of(def, &object), form: None }
    }

    fn of_custom(def: &ResourceDef, custom: &'static Custom, stored: &Stored) -> Self {
        let served = serde_json::from_slice(&stored.image.bytes)
            .map(|object| crate::convert::to_served(def, object))
            .ok()
            .and_then(|object| quorate_api::image::encode(&object).ok());
        let same = served.is_some_and(|served| served.bytes == stored.image.bytes);
        Self { fields: [].into(), definition: None, hook: None, form: Some((custom, same)) }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| *own == name).map(|(_, value)| &**value)
    }
}

/// What a stored admission policy or binding is made of.
pub(crate) fn hook(stored: &StoredRef) -> Option<&Hook> {
    stored.derived(Derived::of)?.hook.as_ref()
}

/// What a stored definition makes of itself.
pub(crate) fn definition(stored: &StoredRef) -> Definition {
    let known = stored.derived(Derived::of).and_then(|derived| derived.definition.clone());
    known.unwrap_or_else(|| {
        Definition::of(&serde_json::from_slice(&stored.image.bytes).unwrap_or_default())
    })
}

/// Whether the bytes of a custom object are just what this form of its kind serves.
fn is_served_as_kept(def: &ResourceDef, custom: &'static Custom, stored: &Stored) -> bool {
    let derived = stored.derived(|stored| Derived::of_custom(def, custom, stored));
    derived
        .and_then(|derived| derived.form)
        .is_some_and(|(of, same)| std::ptr::eq(of, custom) && same)
}

/// The value of a selectable field of a stored version, such as `spec.nodeName`.
pub(crate) fn field_of(stored: &StoredRef, name: &str) -> Option<String> {
    match stored.derived(Derived::of) {
        Some(derived) => derived.get(name).map(str::to_owned),
        None => Derived::of(stored).get(name).map(str::to_owned),
    }
}

/// Which objects of a collection are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: selector::label::Selector,
    fields: selector::field::Selector,
    /// The kind is kept as another one, or its definition says what can be selected.
    converted: bool,
    /// The kind is custom: what is selected by is looked for in what is served.
    served_as: Option<&'static ResourceDef>,
}

impl Selection {
    /// Reads both selectors.
    pub(crate) fn of(def: &'static ResourceDef, labels: &str, fields: &str) -> Answer<Self> {
        Ok(Self {
            labels: selector::label::Selector::parse(labels).map_err(bad_selector)?,
            fields: match def.custom {
                Some(custom) => selector::field::Selector::parse_of(fields, &custom.selectable),
                None => selector::field::Selector::parse(fields, def.group(), def.kind()),
            }
            .map_err(bad_selector)?,
            converted: def.storage != Storage::Own,
            served_as: def.custom.map(|_| def),
        })
    }

    /// Whether everything is asked for.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.requirements().is_empty() && self.fields.requirements().is_empty()
    }

    /// The one name that is asked for, when there is one.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// Whether a stored version is asked for.
    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        let labels = stored.image.header.labels.as_slice();
        if !self.labels.requirements().is_empty() && !self.labels.matches(labels) {
            return false;
        }
        if self.fields.requirements().is_empty() {
            return true;
        }
        if let Some(def) = self.served_as {
            let key = &stored.key.object;
            let object = std::cell::OnceCell::new();
            return self.fields.matches_with(|field| match field.name {
                "metadata.name" => Cow::Owned(key.name.to_string()),
                "metadata.namespace" => Cow::Owned(key.namespace.to_string()),
                _ => {
                    let object: &Value = object.get_or_init(|| {
                        let kept = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
                        crate::convert::to_served(def, kept)
                    });
                    Cow::Owned(selector::field::value_of(object, field).into_owned())
                }
            });
        }
        if self.converted {
            // Its selectors name fields of the kind that is kept, whose own have other names.
            let object: Value = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
            return self.fields.matches(&object);
        }
        let lookup = |derived: &Derived, field: &selector::field::Selectable| {
            Cow::Owned(derived.get(field.name).unwrap_or_default().to_owned())
        };
        match stored.derived(Derived::of) {
            Some(derived) => self.fields.matches_with(|field| lookup(derived, field)),
            None => {
                let derived = Derived::of(stored);
                self.fields.matches_with(|field| lookup(&derived, field))
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value)] // the signature of map_err
fn bad_selector(error: selector::Error) -> Refusal {
    Box::new(Status::bad_request(error.to_string()))
}

/// A stored version as a tree, as it is served, with its resourceVersion.
pub(crate) fn tree(def: &ResourceDef, stored: &Stored) -> Answer<Value> {
    let object =
        serde_json::from_slice(&stored.to_json()).map_err(|error| damaged(stored, &error))?;
    Ok(crate::convert::to_served(def, object))
}

fn damaged(stored: &Stored, error: &serde_json::Error) -> Refusal {
    tracing::error!(key = %stored.key, %error, "stored object does not decode");
    Box::new(Status::internal_error("a stored object does not decode"))
}

/// Appends a stored version as it is served, at a revision.
pub(crate) fn write_served(
    def: &ResourceDef,
    stored: &Stored,
    revision: quorate_state_machine::Revision,
    out: &mut Vec<u8>,
) {
    let as_kept = match def.custom {
        Some(custom) => is_served_as_kept(def, custom, stored),
        None => def.storage == Storage::Own,
    };
    if as_kept {
        stored.write_at(revision, out);
        return;
    }
    let mut bytes = Vec::new();
    stored.write_at(revision, &mut bytes);
    match serde_json::from_slice(&bytes) {
        Ok(object) => {
            out.extend_from_slice(crate::convert::to_served(def, object).to_string().as_bytes());
        }
        Err(_) => out.extend_from_slice(&bytes),
    }
}

/// Decodes a body as an object of a kind; unknown fields become warnings or a refusal.
pub(crate) fn decode(
    content_type: &str,
    body: &[u8],
    target: Target,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Answer<Value> {
    let media = media_type(content_type)?;
    if target.custom.is_some() && media == MediaType::Protobuf {
        let served = ["application/json", "application/yaml"];
        return Err(Box::new(Status::unsupported_media_type(&served)));
    }
    let decoded = codec::decode(media, body, target).map_err(bad_body)?;
    checked(decoded, validation, warnings)
}

/// Checks and normalises a tree: the result of a patch, or a controller's object.
pub(crate) fn decode_tree(
    value: &Value,
    target: Target,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Answer<Value> {
    let decoded = codec::decode_value(value, target).map_err(bad_body)?;
    checked(decoded, validation, warnings)
}

fn checked(
    decoded: codec::Decoded,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Answer<Value> {
    let (value, strict) = decoded.checked(validation).map_err(bad_body)?;
    warnings.extend(strict);
    Ok(value)
}

#[allow(clippy::needless_pass_by_value)] // the signature of map_err
fn bad_body(error: codec::Error) -> Refusal {
    Box::new(Status::bad_request(error.to_string()))
}

/// The format of a body, or 415.
pub(crate) fn media_type(content_type: &str) -> Answer<MediaType> {
    MediaType::from_content_type(content_type).ok_or_else(|| {
        Box::new(Status::unsupported_media_type(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ]))
    })
}

/// An object as it will be stored.
pub(crate) fn image(def: &ResourceDef, object: &Value, claims: Vec<String>) -> Answer<Image> {
    let stored = crate::convert::to_stored(def, object.clone());
    let encoded = quorate_api::image::encode(&stored)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Image {
        header: header(object, claims),
        bytes: encoded.bytes,
        revision_offset: encoded.revision_at,
    })
}

fn header(object: &Value, claims: Vec<String>) -> Header {
    let meta = &object["metadata"];
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let mut labels: Vec<(String, String)> = meta["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    labels.sort_unstable();
    let owners = meta["ownerReferences"].as_array().into_iter().flatten();
    Header {
        uid: text(&meta["uid"]).to_owned(),
        labels,
        owners: owners.map(|owner| text(&owner["uid"]).to_owned()).collect(),
        finalizers: texts(&meta["finalizers"]),
        deletion: meta["deletionTimestamp"].as_str().and_then(crate::clock::parse_seconds),
        claims,
    }
}

/// A JSON text, "" when it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a field of the metadata is there and not empty.
pub(crate) fn has_items(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty())
}

/// Fills what a client left out.
pub(crate) fn apply_defaults(def: &ResourceDef, object: &mut Value) {
    if let Some(custom) = def.custom {
        return custom::apply_defaults(custom, object);
    }
    quorate_api::defaults::apply(def.group(), def.version(), def.kind(), object);
}

/// What a new object may bring along, and what it starts with.
pub(crate) fn prepare_create(def: &ResourceDef, object: &mut Value) {
    quorate_api::strategy::prepare_create(def.group(), def.kind(), object);
    if let Some(custom) = def.custom {
        custom::prepare::create(custom, object);
    }
}

/// What an update through the object or one of its subresources may change.
pub(crate) fn prepare_update(def: &ResourceDef, sub: &str, object: &mut Value, old: &Value) {
    if let Some(custom) = def.custom {
        quorate_api::strategy::prepare_update(def.group(), def.kind(), object, old);
        return match sub {
            "status" => custom::prepare::status(object, old),
            _ => custom::prepare::update(custom, object, old),
        };
    }
    match sub {
        "status" => {
            quorate_api::strategy::prepare_status_update(def.group(), def.kind(), object, old);
        }
        // Made from the old version by the handler itself.
        "binding" => {}
        _ => {
            use quorate_api::strategy::prepare_subresource_update as prepare;
            prepare(def.group(), def.kind(), sub, object, old);
        }
    }
}

/// What is owned in objects of a kind.
pub(crate) fn managed_target(def: &ResourceDef) -> quorate_api::managed::Target {
    quorate_api::managed::Target {
        gvk: def.gvk,
        schema: def.schema,
        has_status: def.subresource("status").is_some(),
        custom: def.custom,
    }
}

/// Whether a PUT may create the object.
pub(crate) fn allows_create_on_update(def: &ResourceDef) -> bool {
    quorate_api::strategy::allows_create_on_update(def.group(), def.kind())
}

/// Whether a PUT without a resourceVersion is fine.
pub(crate) fn allows_unconditional_update(def: &ResourceDef) -> bool {
    def.custom.is_none()
        && quorate_api::strategy::allows_unconditional_update(def.group(), def.kind())
}

/// One row of a Table, without its object.
pub(crate) fn table_row(
    (group, kind): (&str, &str),
    object: &Value,
    now: jiff::Timestamp,
) -> Value {
    let cells = quorate_api::table::row(group, kind, object, now);
    let mut row = serde_json::json!({ "cells": cells });
    if let Some(conditions) = quorate_api::table::conditions(group, kind, object) {
        row["conditions"] = conditions;
    }
    row
}

/// The columns of a kind's Table.
pub(crate) fn table_columns((group, kind): (&str, &str)) -> Value {
    let columns = quorate_api::table::columns(group, kind);
    columns.iter().map(quorate_api::table::Column::to_json).collect()
}

/// YAML text.
pub(crate) fn yaml(value: &Value) -> Answer<String> {
    serde_saphyr::to_string(value).map_err(|error| {
        tracing::error!(%error, "cannot write YAML");
        Box::new(Status::internal_error("the answer could not be written as YAML"))
    })
}

/// What the client should know about a new object that is accepted.
pub(crate) fn create_warnings(def: &ResourceDef, object: &Value) -> Vec<String> {
    quorate_api::warnings::create(def.group(), def.kind(), object)
}

/// What the client should know about a new version that is accepted.
pub(crate) fn update_warnings(def: &ResourceDef, object: &Value, old: &Value) -> Vec<String> {
    quorate_api::warnings::update(def.group(), def.kind(), object, old)
}

/// What is wrong with a new object.
pub(crate) fn validate_create(def: &ResourceDef, object: &Value) -> Vec<quorate_api::field::Error> {
    if let Some(custom) = def.custom {
        return custom::validate_create(def, custom, object);
    }
    quorate_api::validation::create(def.group(), def.version(), def.kind(), object)
}

/// What is wrong with a new version that came through the object or one of its subresources.
pub(crate) fn validate_update(
    def: &ResourceDef,
    sub: &str,
    object: &Value,
    old: &Value,
) -> Vec<quorate_api::field::Error> {
    use quorate_api::validation;
    if let Some(custom) = def.custom {
        return custom::validate_update(def, custom, object, old);
    }
    match sub {
        "" | "scale" => validation::update(def.group(), def.version(), def.kind(), object, old),
        "status" => validation::status_update(def.group(), def.version(), def.kind(), object, old),
        _ => validation::subresource_update(def.group(), def.kind(), sub, object, old),
    }
}

fn bad_patch(
    kind: quorate_api::status::GroupResource<'_>,
    error: &quorate_api::patch::Error,
) -> Refusal {
    tracing::debug!(%kind, ?error, "patch refused");
    Box::new(error.to_status())
}

/// The object with a JSON patch (RFC 6902) applied.
pub(crate) fn json_patch(
    kind: quorate_api::status::GroupResource<'_>,
    object: &Value,
    patch: &Value,
) -> Answer<Value> {
    quorate_api::patch::json(object, patch).map_err(|error| bad_patch(kind, &error))
}

/// The object with a merge patch (RFC 7386) applied.
pub(crate) fn merge_patch(
    kind: quorate_api::status::GroupResource<'_>,
    object: &Value,
    patch: &Value,
) -> Answer<Value> {
    quorate_api::patch::merge(object, patch).map_err(|error| bad_patch(kind, &error))
}

/// The object with a strategic merge patch applied.
pub(crate) fn strategic_patch(
    kind: quorate_api::status::GroupResource<'_>,
    schema: quorate_api::schema::TypeId,
    object: &Value,
    patch: &Value,
) -> Answer<Value> {
    quorate_api::patch::strategic(object, patch, schema).map_err(|error| bad_patch(kind, &error))
}
