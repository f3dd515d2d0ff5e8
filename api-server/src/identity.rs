//! Who asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do anything.
pub const MASTERS: &str = "system:masters";
/// The group of node agents.
pub const NODES: &str = "system:nodes";
/// Beginning of node agents' user names.
pub const NODE_PREFIX: &str = "system:node:";
/// Beginning of service accounts' user names.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// An authenticated user. Only authentication (and impersonation, after its own authorization)
/// makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    inner: Arc<User>,
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Name: a certificate's common name, `system:serviceaccount:NS:NAME`, …
    pub name: String,
    /// Stable id, often empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further facts, such as the pod of a bound token.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// authentication/v1 `UserInfo`.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

impl Identity {
    pub(crate) fn of(user: User) -> Self {
        Self { inner: Arc::new(user) }
    }

    /// Somebody with a proof: gets the group of the authenticated.
    pub(crate) fn authenticated(mut user: User) -> Self {
        if !user.groups.iter().any(|group| group == AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        Self::of(user)
    }

    /// Somebody without credentials.
    pub(crate) fn anonymous() -> Self {
        Self::of(User {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..User::default()
        })
    }

    /// A controller in this process.
    pub(crate) fn component(name: &str) -> Self {
        Self::authenticated(User {
            name: name.to_owned(),
            groups: vec![MASTERS.to_owned()],
            ..User::default()
        })
    }

    /// What is known of the user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.inner
    }

    /// The user's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether the user is in a group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.inner.groups.iter().any(|own| own == group)
    }

    /// The node, when the user is a node agent.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let node = self.inner.name.strip_prefix(NODE_PREFIX)?;
        self.is_in(NODES).then_some(node)
    }
}

/// Splits `system:serviceaccount:NS:NAME`.
#[must_use]
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
}
