//! The resource table: which kinds are served, under which names, with which verbs.
//!
//! Serving another kind is one row in `resource/table.rs` (plus its defaults and validation
//! files). Discovery, OpenAPI, RBAC names and the request router all read this table.
//! Start reading at [`ResourceDef`]; find one with [`lookup`] or [`by_kind`].

mod table;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::custom::Custom;
use crate::schema::TypeId;

/// The group of the kinds that Kubernetes does not have.
pub const OWN_GROUP: &str = "quorate.io";

/// A verb of a resource, by its RBAC and discovery name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// POST to the collection (or to a subresource)
    Create,
    /// DELETE of one object
    Delete,
    /// DELETE of the collection
    DeleteCollection,
    /// GET of one object
    Get,
    /// GET of the collection
    List,
    /// PATCH
    Patch,
    /// PUT
    Update,
    /// GET of the collection with `watch=true`
    Watch,
}

impl Verb {
    /// The name in RBAC rules and discovery documents: `deletecollection`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// Group, version and kind: what `apiVersion` and `kind` of an object say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionKind {
    /// Empty for the core group
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `Deployment`
    pub kind: &'static str,
}

impl GroupVersionKind {
    /// The `apiVersion` of objects: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

/// The `apiVersion` text for a group and a version: `v1`, `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Splits an `apiVersion` text: `apps/v1` is (`apps`, `v1`), `v1` is the core group.
/// None: more than one `/`.
pub fn split_api_version(api_version: &str) -> Option<(&str, &str)> {
    match api_version.split_once('/') {
        None => Some(("", api_version)),
        Some((_, version)) if version.contains('/') => None,
        Some(parts) => Some(parts),
    }
}

/// Where and how objects of a resource are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Kept under the resource's own group and name, in this version
    Own,
    /// Kept as another resource's objects and converted when served (`events.k8s.io` events are
    /// core events)
    As {
        /// Group of the resource whose objects are kept
        group: &'static str,
        /// Version they are kept in
        version: &'static str,
        /// Plural name of that resource
        plural: &'static str,
    },
    /// Computed by the request, never kept (reviews)
    Virtual,
}

/// A resource that is served.
#[derive(Debug)]
pub struct ResourceDef {
    /// What its objects are
    pub gvk: GroupVersionKind,
    /// `deployments`: the name in paths and RBAC rules
    pub plural: &'static str,
    /// `deployment`
    pub singular: &'static str,
    /// `deploy`
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    /// Objects live in a namespace
    pub namespaced: bool,
    /// In discovery's (alphabetical) order
    pub verbs: &'static [Verb],
    /// The struct of an object
    pub schema: TypeId,
    /// The struct of a list; None for resources that cannot be listed
    pub list_schema: Option<TypeId>,
    /// In discovery's (alphabetical) order
    pub subresources: &'static [SubresourceDef],
    /// Where objects are kept
    pub storage: Storage,
    /// A DELETE that removes at once answers with the object instead of a Status
    pub delete_returns_object: bool,
    /// A definition made it: what its objects look like is there, not in `schema`
    pub custom: Option<&'static Custom>,
}

/// A subresource that is served.
#[derive(Debug)]
pub struct SubresourceDef {
    /// The last segment of the path: `status`
    pub name: &'static str,
    /// What is sent and answered; the resource's own kind unless it has another one
    pub gvk: GroupVersionKind,
    /// The struct of what is sent and answered
    pub schema: TypeId,
    /// In discovery's (alphabetical) order
    pub verbs: &'static [Verb],
    /// It is the object of a custom kind itself that is sent and answered
    pub custom: Option<&'static Custom>,
}

impl ResourceDef {
    /// Empty for the core group.
    pub fn group(&self) -> &'static str {
        self.gvk.group
    }

    /// `v1`.
    pub fn version(&self) -> &'static str {
        self.gvk.version
    }

    /// `Deployment`.
    pub fn kind(&self) -> &'static str {
        self.gvk.kind
    }

    /// `DeploymentList`; meaningful only when [`ResourceDef::list_schema`] is there.
    pub fn list_kind(&self) -> String {
        match self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.gvk.kind),
        }
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk.api_version()
    }

    /// Whether the resource itself (not a subresource) has this verb.
    pub fn has(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource with this name.
    pub fn subresource(&self, name: &str) -> Option<&'static SubresourceDef> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The (group, plural) under which objects are kept; None for virtual resources.
    pub fn storage_key(&self) -> Option<(&'static str, &'static str)> {
        match self.storage {
            Storage::Own => Some((self.gvk.group, self.plural)),
            Storage::As { group, plural, .. } => Some((group, plural)),
            Storage::Virtual => None,
        }
    }

    /// Discovery's `storageVersionHash`: the first 8 bytes of SHA-256 of the
    /// `group/version/kind` it is kept as, base64. None for virtual resources.
    pub fn storage_version_hash(&self) -> Option<String> {
        use base64::Engine as _;
        use sha2::Digest as _;
        let (group, version) = match self.storage {
            Storage::Own => (self.gvk.group, self.gvk.version),
            Storage::As { group, version, .. } => (group, version),
            Storage::Virtual => return None,
        };
        let text = format!("{group}/{version}/{}", self.gvk.kind);
        let digest = sha2::Sha256::digest(text.as_bytes());
        Some(base64::engine::general_purpose::STANDARD.encode(&digest[..8]))
    }
}

/// An API group that is served, in the order of discovery.
#[derive(Debug)]
pub struct GroupDef {
    /// Empty for the core group
    pub name: &'static str,
    /// Most preferred first
    pub versions: &'static [&'static str],
}

/// Every resource, groups in discovery's order, resources alphabetical in their group version.
pub fn all() -> &'static [ResourceDef] {
    table::RESOURCES
}

/// Every group, the core group first, in discovery's order.
pub fn groups() -> &'static [GroupDef] {
    table::GROUPS
}

/// The resources of one group version.
pub fn of_group_version<'a>(
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'static ResourceDef> + 'a {
    all().iter().filter(move |def| def.gvk.group == group && def.gvk.version == version)
}

type Index = BTreeMap<(&'static str, &'static str, &'static str), &'static ResourceDef>;

static BY_PLURAL: LazyLock<Index> = LazyLock::new(|| {
    all().iter().map(|def| ((def.gvk.group, def.gvk.version, def.plural), def)).collect()
});

static BY_KIND: LazyLock<Index> = LazyLock::new(|| {
    all().iter().map(|def| ((def.gvk.group, def.gvk.version, def.gvk.kind), def)).collect()
});

/// The resource a path names: group (empty for core), version, plural.
pub fn lookup(group: &str, version: &str, plural: &str) -> Option<&'static ResourceDef> {
    find(&BY_PLURAL, group, version, plural)
}

/// The resource whose objects have this kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static ResourceDef> {
    find(&BY_KIND, group, version, kind)
}

fn find(index: &Index, a: &str, b: &str, c: &str) -> Option<&'static ResourceDef> {
    // BTreeMap's key type is 'static; a range scan from the first bound avoids allocating.
    index.range::<(&str, &str, &str), _>((a, b, c)..=(a, b, c)).next().map(|(_, def)| *def)
}

/// The struct of any kind of Kubernetes' API, served or not: for decoding what a client sends to
/// subresources (`Scale`, `Eviction`, `TokenRequest`, `DeleteOptions` …) and for its error texts.
pub fn schema_of(group: &str, version: &str, kind: &str) -> Option<TypeId> {
    // Only structs with a TypeMeta are kinds; `Container` is not.
    let kind_of = |package: &str| {
        let id = crate::schema::find(package, kind)?;
        id.get().field("kind").filter(|field| field.type_meta()).map(|_| id)
    };
    let package = format!("{}/{version}", package_group(group)?);
    kind_of(&package).or_else(|| {
        // The kinds of meta/v1 (options, Status, discovery) are registered in each group version.
        if !crate::schema::all().any(|(_, ty)| ty.package == package) {
            return None;
        }
        match kind {
            "WatchEvent" => crate::schema::find("meta/v1", kind),
            _ => kind_of("meta/v1"),
        }
    })
}

/// The first part of the schema package of an API group: `rbac` for `rbac.authorization.k8s.io`.
pub fn package_group(group: &str) -> Option<&str> {
    Some(match group {
        "" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        "flowcontrol.apiserver.k8s.io" => "flowcontrol",
        "rbac.authorization.k8s.io" => "rbac",
        "meta.k8s.io" => "meta",
        OWN_GROUP => "quorate",
        _ => match group.strip_suffix(".k8s.io") {
            Some(short) if !short.contains('.') => short,
            Some(_) => return None,
            None if group.contains('.') => return None,
            None => group,
        },
    })
}

#[cfg(test)]
mod tests;
