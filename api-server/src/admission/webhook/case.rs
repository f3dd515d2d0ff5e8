//! What is being done, as webhooks see it; and which of them are asked (apiserver's `generic.Webhook`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use quorate_api::resource::{self, ResourceDef};
use quorate_api::selector::label::Selector;
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::{Key, View};
use serde_json::{Map, Value};

use super::configuration::Hook;
use super::rule;
use crate::admission::{Asked, Draft, Operation};
use crate::identity::Identity;
use crate::status_error::Answer;
use crate::{custom, model};

/// What no webhook is asked about: they could not be repaired otherwise.
const EXEMPT: [&str; 6] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

/// Built-in resources that are kept as the same objects as others, by where.
static SHARED: LazyLock<BTreeMap<(&str, &str), Vec<&'static ResourceDef>>> = LazyLock::new(|| {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for def in resource::all() {
        if let Some(key) = def.storage_key() {
            all.entry(key).or_default().push(def);
        }
    }
    all.retain(|_, defs| defs.len() > 1);
    all
});

/// One request.
pub(super) struct Case<'a> {
    pub(super) def: &'static ResourceDef,
    pub(super) sub: &'static str,
    pub(super) operation: Operation,
    /// Of a namespace itself its name, as upstream has it.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) by: &'a Identity,
    pub(super) asked: Asked,
}

impl<'a> Case<'a> {
    pub(super) fn of(draft: &Draft, by: &'a Identity) -> Self {
        let is_namespace = draft.def.group().is_empty() && draft.def.plural == "namespaces";
        Self {
            def: draft.def,
            sub: draft.sub,
            operation: draft.operation,
            namespace: if is_namespace { &draft.name } else { &draft.namespace }.clone(),
            name: draft.name.clone(),
            by,
            asked: draft.asked.clone(),
        }
    }

    /// The options of the request, as an object.
    pub(super) fn options(&self) -> Value {
        self.asked.options(self.operation)
    }
}

/// Whether webhooks are asked at all.
pub(super) fn concerns_webhooks(draft: &Draft) -> bool {
    let exempt =
        draft.def.group() == "admissionregistration.k8s.io" && EXEMPT.contains(&draft.def.kind());
    !draft.asked.silent && !exempt
}

fn names(hook: &Hook, draft: &Draft, def: &ResourceDef) -> bool {
    let asked = rule::Asked {
        operation: draft.operation,
        group: def.group(),
        version: def.version(),
        plural: def.plural,
        sub: draft.sub,
        in_namespace: !draft.namespace.is_empty() || def.plural == "namespaces",
    };
    hook.rules.iter().any(|rule| rule.matches(asked))
}

/// The resource as which a hook's rules name what is done: the one of the request, or another that has the same
/// objects. The first that a rule names, in the order of the rules.
pub(super) fn named_as(hook: &Hook, draft: &Draft, view: &View) -> Option<&'static ResourceDef> {
    if names(hook, draft, draft.def) {
        return Some(draft.def);
    }
    if !hook.equivalent {
        return None;
    }
    let others = equivalents(view, draft.def);
    let has_sub = |def: &ResourceDef| draft.sub.is_empty() || def.subresource(draft.sub).is_some();
    let others: Vec<_> = others.into_iter().filter(|def| has_sub(def)).collect();
    hook.rules.iter().find_map(|rule| {
        others.iter().copied().find(|def| {
            rule.matches(rule::Asked {
                operation: draft.operation,
                group: def.group(),
                version: def.version(),
                plural: def.plural,
                sub: draft.sub,
                in_namespace: !draft.namespace.is_empty(),
            })
        })
    })
}

/// Other resources with the same objects.
fn equivalents(view: &View, def: &'static ResourceDef) -> Vec<&'static ResourceDef> {
    let all = if def.custom.is_some() {
        custom::served(view, def.group(), def.plural)
    } else {
        let shared = def.storage_key().and_then(|key| SHARED.get(&key));
        shared.cloned().unwrap_or_default()
    };
    all.into_iter().filter(|other| other.gvk != def.gvk || other.plural != def.plural).collect()
}

/// Whether a hook's selectors take the request. 404 when its namespace is not there.
pub(super) fn selected(
    hook: &Hook,
    draft: &Draft,
    view: &View,
    (object, old): (&Value, &Value),
) -> Answer<bool> {
    Ok(namespace_selected(&hook.namespaces, draft, view, object)?
        && object_selected(&hook.objects, object, old))
}

fn is_everything(selector: &Selector) -> bool {
    selector.requirements().is_empty() && selector.matches_none()
}

fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

fn takes(selector: &Selector, object: &Value) -> bool {
    labels(object).map_or_else(|| selector.matches_none(), |labels| selector.matches(labels))
}

fn namespace_selected(
    selector: &Selector,
    draft: &Draft,
    view: &View,
    object: &Value,
) -> Answer<bool> {
    let is_namespace = draft.def.group().is_empty() && draft.def.plural == "namespaces";
    // Objects of the cluster have no namespace whose labels could be against it.
    if (draft.namespace.is_empty() && !is_namespace) || is_everything(selector) {
        return Ok(true);
    }
    let own = is_namespace
        && draft.sub.is_empty()
        && matches!(draft.operation, Operation::Create | Operation::Update);
    if own {
        return Ok(takes(selector, object));
    }
    let name = if is_namespace { &draft.name } else { &draft.namespace };
    let Some(stored) = view.get(&Key::new("", "namespaces", "", name)) else {
        return Err(Box::new(Status::not_found(GroupResource::new("", "namespaces"), name)));
    };
    Ok(selector.matches(stored.image.header.labels.as_slice()))
}

/// Either version may be meant. What has no metadata never is.
fn object_selected(selector: &Selector, object: &Value, old: &Value) -> bool {
    let meant = |object: &Value| object["metadata"].is_object() && takes(selector, object);
    is_everything(selector) || meant(object) || meant(old)
}

// === versions ===

/// An object of the request as the webhook's rules name it.
pub(super) fn shown(case: &Case<'_>, shown_as: &'static ResourceDef, object: &Value) -> Value {
    if object.is_null() {
        return Value::Null;
    }
    if case.sub == "scale" {
        return crate::verb::scale_of(case.def, object);
    }
    if is_other_kind(case) || std::ptr::eq(case.def, shown_as) {
        return object.clone();
    }
    let mut kept = object.clone();
    kept = crate::convert::to_stored(case.def, kept);
    crate::convert::to_served(shown_as, kept)
}

/// The object of the request that a webhook has changed what it was shown into.
pub(super) fn taken(
    case: &Case<'_>,
    shown_as: &'static ResourceDef,
    object: &Value,
    changed: Value,
) -> Value {
    if case.sub == "scale" {
        let mut scaled = crate::verb::scaled(case.def, object, &changed);
        let version = object["metadata"]["resourceVersion"].clone();
        if !version.is_null() {
            crate::stamp::metadata(&mut scaled).insert("resourceVersion".to_owned(), version);
        }
        return scaled;
    }
    if is_other_kind(case) || std::ptr::eq(case.def, shown_as) {
        return changed;
    }
    crate::convert::to_served(case.def, crate::convert::to_stored(shown_as, changed))
}

/// What is sent to the subresource is not the object itself.
pub(super) fn is_other_kind(case: &Case<'_>) -> bool {
    case.def.subresource(case.sub).is_some_and(|sub| sub.gvk.kind != case.def.kind())
}

/// What a changed object is decoded as.
pub(super) fn decoded(
    case: &Case<'_>,
    shown_as: &'static ResourceDef,
    object: &Value,
) -> Answer<Value> {
    let target = match shown_as.subresource(case.sub) {
        Some(sub) => sub.target(),
        None => shown_as.target(),
    };
    let mut ignored = Vec::new();
    let validation = quorate_api::codec::FieldValidation::Ignore;
    model::decode_tree(object, target, validation, &mut ignored)
}
