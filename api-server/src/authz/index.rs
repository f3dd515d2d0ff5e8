//! Roles and bindings, indexed by subject. Follows the store's views by their changes, so a request
//! costs the bindings of its user and groups, however many others there are.

use std::sync::Arc;

use imbl::OrdMap;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::view::ResourceView;
use quorate_state_machine::{GroupResource, ObjectKey, Revision, View};
use serde::Deserialize;

use super::rule::Rule;
use super::{Attributes, Decision};
use crate::identity::Identity;
use crate::parameters::quoted;

const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// A user or a group; service accounts are users by their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SubjectKey {
    /// Namespace of the binding, "" for cluster role bindings.
    scope: Arc<str>,
    group: bool,
    name: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RoleRef {
    cluster: bool,
    name: Arc<str>,
}

#[derive(Debug, Clone)]
struct Binding {
    subjects: Vec<SubjectKey>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct RbacIndex {
    at: Revision,
    seen: [Option<Arc<ResourceView>>; 4],
    /// Cluster roles have namespace "".
    roles: OrdMap<ObjectKey, Arc<[Rule]>>,
    bindings: OrdMap<ObjectKey, Binding>,
    by_subject: OrdMap<SubjectKey, OrdMap<ObjectKey, RoleRef>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RoleBytes {
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingBytes {
    role_ref: RoleRefBytes,
    subjects: Option<Vec<SubjectBytes>>,
}

#[derive(Deserialize)]
struct RoleRefBytes {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct SubjectBytes {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

impl RbacIndex {
    /// The index for a newer view, or `None` when this one still holds.
    pub(crate) fn follow(&self, view: &View) -> Option<Self> {
        let now = RESOURCES.map(|name| view.resource(&GroupResource::new(GROUP, name)).cloned());
        let same = |(a, b): (&Option<Arc<ResourceView>>, &Option<Arc<ResourceView>>)| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if self.seen.iter().zip(&now).all(same) {
            return None;
        }
        let mut next = self.clone();
        for (position, resource) in now.iter().enumerate() {
            let Some(resource) = resource else { continue };
            if same((&self.seen[position], &now[position])) {
                continue;
            }
            next.take_resource(position, resource, self.at);
        }
        next.at = view.revision();
        next.seen = now;
        Some(next)
    }

    fn take_resource(&mut self, position: usize, resource: &ResourceView, after: Revision) {
        let known = self.seen[position].is_some();
        let changed: Vec<ObjectKey> = match resource.changes_after(after) {
            Ok(changes) if known => changes.map(|change| change.key().object.clone()).collect(),
            Ok(_) | Err(_) => {
                let gone = self.seen[position].iter().flat_map(|old| old.iter());
                gone.chain(resource.iter()).map(|object| object.key.object.clone()).collect()
            }
        };
        for key in changed {
            let object = resource.get(&key);
            if position < 2 {
                self.take_role(key, object);
            } else {
                self.take_binding(key, object);
            }
        }
    }

    fn take_role(&mut self, key: ObjectKey, object: Option<&StoredRef>) {
        let rules = object.and_then(|object| {
            serde_json::from_slice::<RoleBytes>(&object.image.bytes)
                .ok()?
                .rules
                .or(Some(Vec::new()))
        });
        match rules {
            Some(rules) => self.roles.insert(key, rules.into()),
            None => self.roles.remove(&key),
        };
    }

    fn take_binding(&mut self, key: ObjectKey, object: Option<&StoredRef>) {
        if let Some(old) = self.bindings.remove(&key) {
            for subject in old.subjects {
                if let Some(bindings) = self.by_subject.get_mut(&subject) {
                    bindings.remove(&key);
                    if bindings.is_empty() {
                        self.by_subject.remove(&subject);
                    }
                }
            }
        }
        let Some(bytes) = object
            .and_then(|object| serde_json::from_slice::<BindingBytes>(&object.image.bytes).ok())
        else {
            return;
        };
        let role = RoleRef {
            cluster: bytes.role_ref.kind == "ClusterRole",
            name: bytes.role_ref.name.into(),
        };
        let subjects: Vec<SubjectKey> = bytes
            .subjects
            .into_iter()
            .flatten()
            .filter_map(|subject| subject_key(&key.namespace, subject))
            .collect();
        for subject in &subjects {
            let mut bindings = self.by_subject.get(subject).cloned().unwrap_or_default();
            bindings.insert(key.clone(), role.clone());
            self.by_subject.insert(subject.clone(), bindings);
        }
        self.bindings.insert(key, Binding { subjects });
    }

    /// Whether some role of the user allows it.
    pub(crate) fn decide(&self, identity: &Identity, wanted: &Attributes) -> Decision {
        let mut missing = Vec::new();
        for (scope, key, role) in self.roles_of(identity, &wanted.namespace) {
            // Roles in a namespace say nothing about paths.
            if !scope.is_empty() && wanted.path.is_some() {
                continue;
            }
            match self.rules(&key, &role) {
                Some(rules) if rules.iter().any(|rule| rule.allows(wanted)) => {
                    return Decision { allowed: true, reason: reason(&key, &role, identity) };
                }
                Some(_) => {}
                None => missing.push(not_found(&role)),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision { allowed: false, reason }
    }

    /// All rules of the user in a namespace.
    pub(crate) fn rules_of(&self, identity: &Identity, namespace: &str) -> Vec<Rule> {
        self.roles_of(identity, namespace)
            .into_iter()
            .filter_map(|(_, key, role)| self.rules(&key, &role))
            .flat_map(|rules| rules.iter().cloned())
            .collect()
    }

    /// The rules of one role.
    pub(crate) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<[Rule]>> {
        let namespace = if kind == "ClusterRole" { "" } else { namespace };
        self.roles.get(&ObjectKey::new(namespace, name))
    }

    fn rules(&self, binding: &ObjectKey, role: &RoleRef) -> Option<&Arc<[Rule]>> {
        let namespace = if role.cluster { "".into() } else { binding.namespace.clone() };
        self.roles.get(&ObjectKey { namespace, name: role.name.clone() })
    }

    fn roles_of(
        &self,
        identity: &Identity,
        namespace: &str,
    ) -> Vec<(Arc<str>, ObjectKey, RoleRef)> {
        let user = identity.user();
        let mut out = Vec::new();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            let scope: Arc<str> = (*scope).into();
            let subjects = std::iter::once((false, user.name.as_str()))
                .chain(user.groups.iter().map(|group| (true, group.as_str())));
            for (group, name) in subjects {
                let key = SubjectKey { scope: scope.clone(), group, name: name.into() };
                if let Some(bindings) = self.by_subject.get(&key) {
                    out.extend(
                        bindings
                            .iter()
                            .map(|(key, role)| (scope.clone(), key.clone(), role.clone())),
                    );
                }
            }
        }
        out
    }
}

fn subject_key(scope: &Arc<str>, subject: SubjectBytes) -> Option<SubjectKey> {
    let (group, name) = match subject.kind.as_str() {
        "User" => (false, subject.name),
        "Group" => (true, subject.name),
        "ServiceAccount" => {
            let namespace =
                if subject.namespace.is_empty() { &**scope } else { &subject.namespace };
            (false, format!("system:serviceaccount:{namespace}:{}", subject.name))
        }
        _ => return None,
    };
    Some(SubjectKey { scope: scope.clone(), group, name: name.into() })
}

fn not_found(role: &RoleRef) -> String {
    let resource = if role.cluster { "clusterrole" } else { "role" };
    format!("{resource}.{GROUP} {} not found", quoted(&role.name))
}

fn reason(binding: &ObjectKey, role: &RoleRef, identity: &Identity) -> String {
    let kind = if binding.namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let role_kind = if role.cluster { "ClusterRole" } else { "Role" };
    format!(
        "RBAC: allowed by {kind} {} of {role_kind} {} to User {}",
        quoted(&binding.to_string()),
        quoted(&role.name),
        quoted(identity.name())
    )
}
