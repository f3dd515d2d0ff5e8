//! May they? The privileged group, then the node authorizer, then RBAC, as kube-apiserver's chain
//! with `--authorization-mode=Node,RBAC`.

mod escalation;
mod index;
mod node;
pub(crate) mod rule;

use std::sync::{Arc, Mutex, PoisonError};

use quorate_api::status::{Attributes as StatusAttributes, GroupResource, Status, Target};
use quorate_store::Store;

use crate::identity::{Identity, MASTERS};
use crate::request_info::RequestInfo;
use crate::status_error::{Answer, Refusal};
use index::RbacIndex;
pub use rule::Rule;

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `get`, `create`, …
    pub verb: String,
    /// API group.
    pub group: String,
    /// Plural name; empty for other paths.
    pub resource: String,
    /// Subresource, or "".
    pub subresource: String,
    /// Namespace, or "".
    pub namespace: String,
    /// Object, or "".
    pub name: String,
    /// Path, when it is no resource.
    pub path: Option<String>,
}

impl Attributes {
    /// What a request wants to do.
    #[must_use]
    pub fn of(info: &RequestInfo) -> Self {
        match info.resource() {
            None => Self {
                verb: info.verb().to_owned(),
                path: Some(info.path().to_owned()),
                ..Self::default()
            },
            Some(target) => Self {
                verb: info.verb().to_owned(),
                group: target.group.clone(),
                resource: target.resource.clone(),
                subresource: target.subresource.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                path: None,
            },
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub allowed: bool,
    /// Why, as far as it is known.
    pub reason: String,
}

/// A request that its user may make. Only [`Authorizer::permit`] makes one, and writes take nothing
/// else.
#[derive(Debug, Clone)]
pub struct Permitted {
    info: Arc<RequestInfo>,
    identity: Identity,
}

impl Permitted {
    /// A controller of this process: fenced by its leadership, not by roles.
    pub(crate) fn component(identity: Identity) -> Self {
        let info = RequestInfo {
            method: http::Method::GET,
            path: String::new(),
            verb: "",
            resource: None,
        };
        Self { info: Arc::new(info), identity }
    }

    /// What it is about.
    #[must_use]
    pub fn info(&self) -> &RequestInfo {
        &self.info
    }

    /// Who makes it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Decides from the store's roles and bindings. Follows each published view, so a binding counts on
/// the master it was written on as soon as its writer is answered.
#[derive(Debug)]
pub struct Authorizer {
    store: Store,
    index: Mutex<Arc<RbacIndex>>,
}

impl Authorizer {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, index: Mutex::new(Arc::new(RbacIndex::default())) }
    }

    /// The roles and bindings as they are now.
    pub(crate) fn index(&self) -> Arc<RbacIndex> {
        let view = self.store.view();
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = index.follow(&view) {
            *index = Arc::new(newer);
        }
        index.clone()
    }

    /// Whether a user may do something.
    #[must_use]
    pub fn decide(&self, identity: &Identity, wanted: &Attributes) -> Decision {
        if identity.is_in(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let index = self.index();
        let mut reasons = Vec::new();
        if let Some(node) = identity.node() {
            match node::decide(&self.store.view(), &index, node, wanted) {
                Ok(()) => return Decision { allowed: true, reason: String::new() },
                Err(reason) => reasons.push(reason),
            }
        }
        let decision = index.decide(identity, wanted);
        if decision.allowed {
            return decision;
        }
        reasons.push(decision.reason);
        reasons.retain(|reason| !reason.is_empty());
        Decision { allowed: false, reason: reasons.join("\n") }
    }

    /// The request as permitted, or 403.
    ///
    /// # Errors
    /// 403 with kube-apiserver's text.
    pub fn permit(&self, info: Arc<RequestInfo>, identity: Identity) -> Answer<Permitted> {
        self.check(&identity, &Attributes::of(&info))?;
        Ok(Permitted { info, identity })
    }

    /// `Ok` when a user may do something, else 403.
    ///
    /// # Errors
    /// 403 with kube-apiserver's text.
    pub fn check(&self, identity: &Identity, wanted: &Attributes) -> Answer<()> {
        let decision = self.decide(identity, wanted);
        if decision.allowed {
            return Ok(());
        }
        Err(forbidden(identity, wanted, &decision.reason))
    }

    /// The rules that a user has in a namespace ("" for those of cluster roles alone).
    #[must_use]
    pub fn rules_of(&self, identity: &Identity, namespace: &str) -> Vec<Rule> {
        self.index().rules_of(identity, namespace)
    }

    /// `Ok` when everything that `rules` grant is granted to the user already, in this namespace.
    ///
    /// # Errors
    /// The text of kube-apiserver's escalation check.
    pub fn covers(
        &self,
        identity: &Identity,
        namespace: &str,
        rules: &[Rule],
    ) -> Result<(), String> {
        escalation::check(identity, &self.rules_of(identity, namespace), rules)
    }

    /// The rules of a role that a binding refers to.
    #[must_use]
    pub fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.index().role(kind, namespace, name).map(|rules| rules.to_vec())
    }
}

fn forbidden(identity: &Identity, wanted: &Attributes, reason: &str) -> Refusal {
    let target = match &wanted.path {
        Some(path) => Target::Path(path),
        None => Target::Resource {
            resource: GroupResource::new(&wanted.group, &wanted.resource),
            subresource: &wanted.subresource,
            namespace: &wanted.namespace,
            name: &wanted.name,
        },
    };
    let attributes = StatusAttributes { user: identity.name(), verb: &wanted.verb, target };
    Box::new(Status::unauthorized_action(&attributes, reason))
}

#[cfg(test)]
mod tests;
