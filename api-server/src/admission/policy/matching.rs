//! What policies and bindings are about: rules and selectors (`MatchResources`).

use quorate_api::resource::{self, ResourceDef};
use quorate_api::selector::{self, label::Selector};
use quorate_state_machine::View;
use serde_json::Value;

use crate::admission::{Draft, Operation};
use crate::model::text;

/// One rule.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    scope: String,
    /// Of objects; empty for any.
    names: Vec<String>,
}

impl Rule {
    fn of(rule: &Value) -> Self {
        let texts = |field: &str| -> Vec<String> {
            let items = rule[field].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let split = |name: String| match name.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (name, String::new()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            scope: text(&rule["scope"]).to_owned(),
            names: texts("resourceNames"),
        }
    }

    fn matches(&self, def: &ResourceDef, draft: &Draft) -> bool {
        let among = |all: &[String], one: &str| all.iter().any(|own| own == "*" || own == one);
        let resource = |(resource, sub): &(String, String)| {
            (resource == "*" || resource == def.plural) && (sub == "*" || *sub == draft.sub)
        };
        let in_cluster = !def.namespaced;
        let scope = match self.scope.as_str() {
            "Cluster" => in_cluster,
            "Namespaced" => !in_cluster,
            _ => true,
        };
        scope
            && among(&self.operations, draft.operation.name())
            && among(&self.groups, def.group())
            && among(&self.versions, def.version())
            && self.resources.iter().any(resource)
            && (self.names.is_empty() || self.names.contains(&draft.name))
    }
}

/// What a policy or a binding is about.
#[derive(Debug)]
pub(super) struct Matching {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: Option<Selector>,
    objects: Option<Selector>,
    /// Other versions of what a rule names are meant too.
    equivalent: bool,
}

impl Matching {
    /// What a `MatchResources` says; nothing says everything.
    pub(super) fn of(resources: &Value) -> Self {
        let rules =
            |name: &str| resources[name].as_array().into_iter().flatten().map(Rule::of).collect();
        let selector = |name: &str| {
            let said = &resources[name];
            let some = said.as_object().is_some_and(|said| !said.is_empty());
            some.then(|| selector::object::label_selector(said).ok()).flatten()
        };
        Self {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: text(&resources["matchPolicy"]) != "Exact",
        }
    }

    /// The resource as which a write is meant: the one that is written, or another version of it.
    pub(super) fn resource(&self, view: &View, draft: &Draft) -> Option<&'static ResourceDef> {
        if !self.selects(view, draft) {
            return None;
        }
        if self.excluded.iter().any(|rule| self.means(rule, view, draft).is_some()) {
            return None;
        }
        if self.rules.is_empty() {
            return Some(draft.def);
        }
        self.rules.iter().find_map(|rule| self.means(rule, view, draft))
    }

    fn means(&self, rule: &Rule, view: &View, draft: &Draft) -> Option<&'static ResourceDef> {
        if rule.matches(draft.def, draft) {
            return Some(draft.def);
        }
        let others = if self.equivalent { equivalents(view, draft.def) } else { Vec::new() };
        others.into_iter().find(|other| rule.matches(other, draft))
    }

    fn selects(&self, view: &View, draft: &Draft) -> bool {
        if let Some(selector) = &self.namespaces {
            let is_namespace = draft.def.group().is_empty() && draft.def.plural == "namespaces";
            let fits = if is_namespace {
                let object = match draft.operation {
                    Operation::Delete => &draft.old,
                    Operation::Create | Operation::Update | Operation::Connect => &draft.object,
                };
                selector.matches(&labels(object))
            } else if draft.namespace.is_empty() {
                true
            } else {
                let found = super::namespace(view, &draft.namespace);
                found.is_some_and(|namespace| selector.matches(&labels(&namespace)))
            };
            if !fits {
                return false;
            }
        }
        let Some(selector) = &self.objects else { return true };
        let fits = |object: &Value| !object.is_null() && selector.matches(&labels(object));
        let new = draft.operation != Operation::Delete && fits(&draft.object);
        new || fits(&draft.old)
    }
}

fn labels(object: &Value) -> std::collections::BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), text(value).to_owned())).collect()
}

/// Other versions in which the objects of a resource are served.
fn equivalents(view: &View, def: &'static ResourceDef) -> Vec<&'static ResourceDef> {
    if def.custom.is_some() {
        return crate::custom::versions(view, def);
    }
    let same =
        |other: &&ResourceDef| other.storage_key() == def.storage_key() && other.gvk != def.gvk;
    resource::all().iter().filter(same).collect()
}
