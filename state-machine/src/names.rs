//! Names and numbers of the store, each a type of its own so that no two can be mixed up.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};

/// Position of an entry in the Raft log. Entry 0 is the first membership; 0 is also the index of the
/// empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct LogIndex(pub u64);

/// Version of the whole store: +1 for each changed object. Its decimal form is the
/// `resourceVersion` of the object that changed. 0 is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The lowest version of all masters, raised by command; gates new commands and new behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct ClusterLevel(pub u32);

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClusterLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `metadata.uid`: chosen by the proposer, never reused.
pub type Uid = Arc<str>;

/// An API group and a plural resource name: which table an object is in. Core has the group "".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct GroupResource {
    /// API group, "" for core.
    pub group: Arc<str>,
    /// Plural resource name, lower case.
    pub resource: Arc<str>,
}

impl GroupResource {
    /// A group and resource by name.
    #[must_use]
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }

    /// The core group's `namespaces`, which guards creations in namespaces.
    #[must_use]
    pub fn namespaces() -> Self {
        Self::new("", "namespaces")
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            self.resource.fmt(f)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// Namespace and name of an object inside its resource; cluster-scoped objects have namespace "".
/// The order is that of a LIST: by namespace, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ObjectKey {
    /// Namespace, "" when cluster-scoped.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key by its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            self.name.fmt(f)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Full name of an object in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Key {
    /// Which table.
    pub resource: GroupResource,
    /// Which object in it.
    pub object: ObjectKey,
}

impl Key {
    /// A key by its parts; `namespace` is "" when cluster-scoped.
    #[must_use]
    pub fn new(group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: GroupResource::new(group, resource),
            object: ObjectKey::new(namespace, name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.object)
    }
}
