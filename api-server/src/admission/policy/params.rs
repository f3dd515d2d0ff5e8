//! The parameters of a binding: objects that its policy's expressions look at as `params`.

use std::collections::BTreeMap;

use quorate_api::resource::{self, ResourceDef};
use quorate_api::selector::object::label_selector;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Key, ObjectKey, View};
use serde_json::Value;

use crate::model::{self, text};

/// The resource of a kind that parameters are of.
fn of_kind(view: &View, api_version: &str, kind: &str) -> Option<&'static ResourceDef> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let built_in = resource::all()
        .iter()
        .find(|def| def.group() == group && def.version() == version && def.kind() == kind);
    built_in.or_else(|| crate::custom::of_kind(view, group, version, kind))
}

/// The resource that a policy names; why there is none.
pub(super) fn resource(
    view: &View,
    kind: Option<&(String, String)>,
) -> Result<Option<&'static ResourceDef>, String> {
    let Some((api_version, kind)) = kind else { return Ok(None) };
    let found = of_kind(view, api_version, kind);
    found.map(Some).ok_or_else(|| {
        format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'")
    })
}

/// All parameters that a binding names; null for none, which is one too. Nothing: the policy is not asked.
pub(super) fn all(
    view: &View,
    def: Option<&'static ResourceDef>,
    reference: &Value,
    namespace: &str,
) -> Result<Vec<Value>, String> {
    let Some(def) = def.filter(|_| !reference.is_null()) else {
        return Ok(vec![Value::Null]);
    };
    let own = text(&reference["namespace"]);
    let namespace = match (def.namespaced, own, namespace) {
        (false, "", _) => "",
        (false, ..) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                .to_owned());
        }
        (true, "", "") => {
            return Err("cannot use namespaced paramRef in policy binding that matches \
                        cluster-scoped resources"
                .to_owned());
        }
        (true, "", namespace) => namespace,
        (true, own, _) => own,
    };
    let name = text(&reference["name"]);
    let found: Vec<Value> = if name.is_empty() {
        let selector = label_selector(&reference["selector"]).map_err(|error| error.to_string())?;
        let all = view.resource(&model::storage(def));
        let all = all.into_iter().flat_map(|all| all.iter());
        let mut all: Vec<&StoredRef> =
            all.filter(|one| &*one.key.object.namespace == namespace).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        let labels = |one: &StoredRef| -> BTreeMap<String, String> {
            one.image.header.labels.iter().cloned().collect()
        };
        let all = all.into_iter().filter(|one| selector.matches(&labels(one)));
        all.filter_map(|one| model::tree(def, one).ok()).collect()
    } else {
        let key = Key { resource: model::storage(def), object: ObjectKey::new(namespace, name) };
        view.get(&key).and_then(|one| model::tree(def, one).ok()).into_iter().collect()
    };
    if found.is_empty() && text(&reference["parameterNotFoundAction"]) == "Deny" {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()
        );
    }
    Ok(found)
}
