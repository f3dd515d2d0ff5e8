//! Custom kinds on this master: looked up in the view.
//!
//! There is no registry beside the store. A definition is an object like any other; what is compiled from it hangs on
//! its stored version ([`quorate_state_machine::object::Stored::derived`]), made by the first who asks. So whatever a
//! view shows is what is served, on every master, after a snapshot and a restore too, and a request takes no lock: it
//! looks the definition's name up in the view that it reads anyway. See decision 14.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use quorate_api::custom::documents::Documents;
use quorate_api::custom::{self, Definition};
use quorate_api::resource::{self, ResourceDef};
use quorate_api::status::{GroupResource as Named, Status};
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Key, ResourceView, View};

use crate::model;
use crate::request_info::ResourceTarget;
use crate::server::Shared;
use crate::status_error::Answer;

/// Groups of custom kinds have a domain: the names of those without are not looked for.
fn may_be_custom(group: &str) -> bool {
    group.contains('.')
}

fn definitions_view(view: &View) -> Option<&Arc<ResourceView>> {
    view.resource(&GroupResource::new(custom::GROUP, custom::PLURAL))
}

/// The definition of a resource, when there is one.
fn definition(view: &View, group: &str, plural: &str) -> Option<Definition> {
    if !may_be_custom(group) {
        return None;
    }
    let name = custom::definition_name(group, plural);
    let stored = view.get(&Key::new(custom::GROUP, custom::PLURAL, "", &name))?;
    Some(model::definition(stored))
}

/// A custom resource that is served in this version.
pub(crate) fn lookup(
    view: &View,
    group: &str,
    version: &str,
    plural: &str,
) -> Option<&'static ResourceDef> {
    definition(view, group, plural)?.version(version)
}

/// All versions in which a custom resource is served.
pub(crate) fn served(view: &View, group: &str, plural: &str) -> Vec<&'static ResourceDef> {
    definition(view, group, plural)
        .into_iter()
        .flat_map(|of| of.served().collect::<Vec<_>>())
        .collect()
}

/// The other versions in which a custom kind is served.
pub(crate) fn versions(view: &View, def: &ResourceDef) -> Vec<&'static ResourceDef> {
    let known = definition(view, def.group(), def.plural);
    let versions = known.iter().flat_map(Definition::served);
    versions.filter(|other| other.gvk != def.gvk).collect()
}

/// The custom resource of a kind.
pub(crate) fn of_kind(
    view: &View,
    group: &str,
    version: &str,
    kind: &str,
) -> Option<&'static ResourceDef> {
    let suffix = format!(".{group}");
    let definitions = definitions_view(view)?;
    definitions.iter().filter(|stored| stored.key.object.name.ends_with(&suffix)).find_map(
        |stored| {
            let def = model::definition(stored).version(version)?;
            (def.group() == group && def.kind() == kind).then_some(def)
        },
    )
}

/// The resource whose own objects are kept there, built in or custom. A custom one is the version that objects are
/// kept in, served or not.
pub(crate) fn owner_of(view: &View, resource: &GroupResource) -> Option<&'static ResourceDef> {
    model::owner_of(resource)
        .or_else(|| definition(view, &resource.group, &resource.resource)?.kept())
}

/// The resource that a request names. A custom one that this master does not know is asked of the leader's view: its
/// definition may just have been made at another master.
pub(crate) async fn find(shared: &Shared, target: &ResourceTarget) -> Option<&'static ResourceDef> {
    let (group, version, plural) = (&target.group, &target.version, &target.resource);
    if let Some(def) = resource::lookup(group, version, plural) {
        return Some(def);
    }
    if !may_be_custom(group) {
        return None;
    }
    if let Some(def) = lookup(&shared.store.view(), group, version, plural) {
        return Some(def);
    }
    // Without a leader nobody knows better.
    let view = shared.newest().await.ok()?;
    lookup(&view, group, version, plural)
}

/// Nothing is made of a kind that goes.
pub(crate) fn refuse_if_terminating(view: &View, def: &ResourceDef) -> Answer<()> {
    if def.custom.is_none() {
        return Ok(());
    }
    let going = definition(view, def.group(), def.plural).is_none_or(|known| known.terminating);
    if !going {
        return Ok(());
    }
    let mut status = Status::method_not_supported(Named::new(def.group(), def.plural), "create");
    "create not allowed while custom resource definition is terminating"
        .clone_into(&mut status.message);
    Err(Box::new(status))
}

/// Whether a resource is no longer what it was when somebody began to use it.
pub(crate) fn is_outdated(view: &View, def: &'static ResourceDef) -> bool {
    def.custom.is_some()
        && lookup(view, def.group(), def.version(), def.plural)
            .is_none_or(|now| !std::ptr::eq(now, def))
}

/// Discovery and OpenAPI of the custom kinds, kept until a definition changes.
#[derive(Default)]
pub(crate) struct Published {
    latest: ArcSwapOption<(Arc<ResourceView>, Documents)>,
}

impl Published {
    /// The documents of the kinds that the view shows; `None` without any.
    pub(crate) fn of(&self, view: &View) -> Option<Arc<(Arc<ResourceView>, Documents)>> {
        let definitions = definitions_view(view)?;
        let latest = self.latest.load_full();
        if let Some(latest) = &latest
            && Arc::ptr_eq(&latest.0, definitions)
        {
            return Some(latest.clone());
        }
        let mut stored: Vec<&StoredRef> = definitions.iter().collect();
        stored.sort_by(|a, b| a.key.cmp(&b.key));
        let kinds: Vec<&'static ResourceDef> = stored
            .into_iter()
            .flat_map(|stored| model::definition(stored).served().collect::<Vec<_>>())
            .collect();
        let before = latest.as_deref().map(|(_, documents)| documents);
        let fresh = Arc::new((definitions.clone(), Documents::new(kinds.into_iter(), before)));
        self.latest.store(Some(fresh.clone()));
        Some(fresh)
    }
}
