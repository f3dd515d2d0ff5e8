//! The schema tables: each field of each type of Kubernetes' API, as plain static data.
//!
//! Generated from `api/schema/fields.tsv` by `cargo xtask codegen`. Everything that knows an
//! object's structure (decoding, normalising, patches, ownership, OpenAPI) asks here, so a kind
//! is described once. Start reading at [`Type`]; find one with [`lookup`] or an id of [`ids`].

#[rustfmt::skip]
mod generated;
pub mod markers;

pub use generated::ids;

/// Which struct: an index into the table. Not stable between builds: never store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) u16);

/// A struct of the API.
#[derive(Debug)]
pub struct Type {
    /// The Go package below `k8s.io/api` (or `apimachinery`): `core/v1`, `meta/v1`
    pub package: &'static str,
    /// The struct's name in its package: `Container`
    pub name: &'static str,
    first: u16,
    len: u16,
    /// Owned and merged as a whole (`+structType=atomic`)
    pub atomic: bool,
    /// Of the listed fields only one is to be set; published, not enforced here
    pub union: Option<Union>,
}

/// A discriminated union of a struct's fields, as OpenAPI publishes it.
#[derive(Debug)]
pub struct Union {
    /// The field that says which one is set; empty when there is none
    pub discriminator: &'static str,
    /// (JSON name, Go name) of the members
    pub fields: &'static [(&'static str, &'static str)],
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, also of the named string types
    String,
    /// `true` or `false`
    Bool,
    /// A 32-bit integer
    Int32,
    /// A 64-bit integer
    Int64,
    /// A 64-bit float
    Float,
    /// Bytes, base64 in JSON
    Bytes,
    /// Another struct
    Ref(TypeId),
    /// A list
    List(&'static Kind),
    /// A map with text keys
    Map(&'static Kind),
    /// `resource.Quantity`: text, numbers accepted
    Quantity,
    /// RFC 3339 in UTC, whole seconds
    Time,
    /// RFC 3339 in UTC, six decimals
    MicroTime,
    /// Go duration text, `1h2m3s`
    Duration,
    /// A 32-bit integer or text
    IntOrString,
    /// Any JSON object (`runtime.RawExtension`)
    RawExtension,
    /// Any JSON object (the field sets of managedFields)
    FieldsV1,
    /// Any JSON value
    Json,
    /// A `JSONSchemaProps` or a bool
    SchemaOrBool,
    /// A `JSONSchemaProps` or a list of them
    SchemaOrArray,
    /// A `JSONSchemaProps` or a list of names
    SchemaOrStringArray,
    /// Any JSON value (Go `interface{}`)
    Any,
}

impl Kind {
    /// A struct in Go, so `omitempty` has no effect on it.
    const fn is_struct_in_go(self) -> bool {
        match self {
            Self::Ref(_)
            | Self::Quantity
            | Self::Time
            | Self::MicroTime
            | Self::Duration
            | Self::IntOrString
            | Self::RawExtension
            | Self::FieldsV1
            | Self::Json
            | Self::SchemaOrBool
            | Self::SchemaOrArray
            | Self::SchemaOrStringArray => true,
            Self::String
            | Self::Bool
            | Self::Int32
            | Self::Int64
            | Self::Float
            | Self::Bytes
            | Self::List(_)
            | Self::Map(_)
            | Self::Any => false,
        }
    }
}

/// How a list is merged and owned under server-side apply (`+listType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Not said: atomic by convention
    Unset,
    /// Replaced as a whole
    Atomic,
    /// A set of scalars
    Set,
    /// Keyed by [`Field::list_map_keys`]
    Map,
}

/// A JSON field of a struct; fields of inlined structs are listed as the struct's own.
#[derive(Debug)]
pub struct Field {
    /// The name in JSON
    pub json: &'static str,
    /// What it holds
    pub kind: Kind,
    flags: u16,
    /// The first bytes of the name as a number: compares fast, in the order of the names
    prefix: u64,
    /// The Go type as error texts print it: `[]v1.Container`
    pub go_type: &'static str,
    /// The protobuf field number; 0 when it has none
    pub proto: u16,
    /// Numbers of the messages to enter first (inlined in JSON, a message in protobuf)
    pub proto_path: &'static [u16],
    /// The key of a strategic merge of this list; empty when there is none
    pub merge_key: &'static str,
    /// The list's type for server-side apply
    pub list_type: ListType,
    /// The keys when the list type is `Map`
    pub list_map_keys: &'static [&'static str],
    /// The `+default=` marker as JSON text; empty when there is none
    pub default: &'static str,
}

#[allow(clippy::too_many_arguments)] // one row of the generated table
const fn field(
    json: &'static str,
    kind: Kind,
    flags: u16,
    go_type: &'static str,
    proto: u16,
    proto_path: &'static [u16],
    merge_key: &'static str,
    list_type: ListType,
    list_map_keys: &'static [&'static str],
    default: &'static str,
) -> Field {
    let always = flags & Field::OMITZERO == 0
        && (flags & Field::OMITEMPTY == 0 || flags & Field::POINTER == 0 && kind.is_struct_in_go());
    let flags = if always { flags | Field::ALWAYS_WRITTEN } else { flags };
    Field {
        json,
        kind,
        flags,
        prefix: prefix(json.as_bytes()),
        go_type,
        proto,
        proto_path,
        merge_key,
        list_type,
        list_map_keys,
        default,
    }
}

/// The first eight bytes of a name, the first in the highest place.
const fn prefix(name: &[u8]) -> u64 {
    let mut prefix = 0;
    let mut at = 0;
    while at < 8 {
        let byte = if at < name.len() { name[at] } else { 0 };
        prefix = prefix << 8 | byte as u64;
        at += 1;
    }
    prefix
}

/// The type with this full name (`core/v1.Container`).
pub fn lookup(full_name: &str) -> Option<TypeId> {
    let (package, name) = full_name.rsplit_once('.')?;
    find(package, name)
}

/// The type `name` of `package` (`core/v1`, `Container`).
pub fn find(package: &str, name: &str) -> Option<TypeId> {
    let key = |t: &Type| t.package.bytes().chain(*b".").chain(t.name.bytes());
    let wanted = || package.bytes().chain(*b".").chain(name.bytes());
    let at = generated::TYPES.binary_search_by(|t| key(t).cmp(wanted())).ok()?;
    u16::try_from(at).ok().map(TypeId)
}

/// Every type, in the order of their full names.
pub fn all() -> impl Iterator<Item = (TypeId, &'static Type)> {
    (0u16..).map(TypeId).zip(generated::TYPES.iter())
}

impl TypeId {
    /// The struct with this id.
    pub fn get(self) -> &'static Type {
        &generated::TYPES[usize::from(self.0)]
    }
}

impl Type {
    /// The JSON fields, sorted by name.
    pub fn fields(&self) -> &'static [Field] {
        let first = usize::from(self.first);
        &generated::FIELDS[first..first + usize::from(self.len)]
    }

    /// The field with this JSON name.
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        self.field_bytes(json.as_bytes()).map(|(_, field)| field)
    }

    /// The field with this JSON name, and its position in [`Type::fields`].
    pub(crate) fn field_bytes(&self, json: &[u8]) -> Option<(usize, &'static Field)> {
        let fields = self.fields();
        let wanted = prefix(json);
        let order =
            |field: &Field| field.prefix.cmp(&wanted).then_with(|| field.json.as_bytes().cmp(json));
        let at = fields.binary_search_by(order).ok()?;
        Some((at, &fields[at]))
    }

    /// `core/v1.Container`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.package, self.name)
    }

    /// The name as Go prints it: `v1.Container`.
    pub fn go_name(&self) -> String {
        let package = self.package.rsplit('/').next().unwrap_or(self.package);
        format!("{package}.{}", self.name)
    }

    /// The name of the OpenAPI component: `io.k8s.api.core.v1.Container`.
    pub fn component(&self) -> String {
        let prefix = match self.package {
            "meta/v1" => "io.k8s.apimachinery.pkg.apis.",
            "api/resource" | "runtime" | "util/intstr" => "io.k8s.apimachinery.pkg.",
            "apiextensions/v1" => "io.k8s.apiextensions-apiserver.pkg.apis.",
            "apiregistration/v1" => "io.k8s.kube-aggregator.pkg.apis.",
            "metrics/v1beta1" => "io.k8s.metrics.pkg.apis.",
            "quorate/v1" => "io.",
            _ => "io.k8s.api.",
        };
        format!("{prefix}{}.{}", self.package.replace('/', "."), self.name)
    }
}

impl Field {
    pub(crate) const OMITEMPTY: u16 = 1;
    pub(crate) const OMITZERO: u16 = 1 << 1;
    pub(crate) const POINTER: u16 = 1 << 2;
    pub(crate) const OPTIONAL: u16 = 1 << 3;
    pub(crate) const REQUIRED: u16 = 1 << 4;
    pub(crate) const TYPE_META: u16 = 1 << 5;
    pub(crate) const GRANULAR_STRUCT: u16 = 1 << 6;
    pub(crate) const PROTO_ITEMS: u16 = 1 << 7;
    pub(crate) const PATCH_MERGE: u16 = 1 << 8;
    pub(crate) const PATCH_RETAIN_KEYS: u16 = 1 << 9;
    pub(crate) const PATCH_REPLACE: u16 = 1 << 10;
    pub(crate) const ATOMIC_MAP: u16 = 1 << 11;
    pub(crate) const GRANULAR_MAP: u16 = 1 << 12;
    /// Go writes it even when it was never set: derived when the row is built.
    const ALWAYS_WRITTEN: u16 = 1 << 13;

    /// Go's encoder writes it even when it was never set: not omitempty, or a struct by value.
    pub(crate) const fn always_written(&self) -> bool {
        self.has(Self::ALWAYS_WRITTEN)
    }

    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Go leaves it out when it is empty (structs are never empty to it).
    pub const fn omitempty(&self) -> bool {
        self.has(Self::OMITEMPTY)
    }

    /// Go leaves it out when it is the zero value, structs too.
    pub const fn omitzero(&self) -> bool {
        self.has(Self::OMITZERO)
    }

    /// A pointer in Go: a zero value differs from an absent one.
    pub const fn pointer(&self) -> bool {
        self.has(Self::POINTER)
    }

    /// Marked `+optional`, or left out when empty.
    pub const fn optional(&self) -> bool {
        self.has(Self::OPTIONAL) || self.omitempty() && !self.has(Self::REQUIRED)
    }

    /// `apiVersion` or `kind`, inlined from `TypeMeta`; not a field of the protobuf message.
    pub const fn type_meta(&self) -> bool {
        self.has(Self::TYPE_META)
    }

    /// In protobuf each string list is a message with `items` (`ExtraValue`, `Verbs`).
    pub(crate) const fn proto_items(&self) -> bool {
        self.has(Self::PROTO_ITEMS)
    }

    /// Strategic merge patch: lists are merged by [`Field::merge_key`] (or as sets).
    pub const fn patch_merge(&self) -> bool {
        self.has(Self::PATCH_MERGE)
    }

    /// Strategic merge patch: `$retainKeys` applies.
    pub const fn patch_retain_keys(&self) -> bool {
        self.has(Self::PATCH_RETAIN_KEYS)
    }

    /// Strategic merge patch: replaced as a whole.
    pub const fn patch_replace(&self) -> bool {
        self.has(Self::PATCH_REPLACE)
    }

    /// A map owned as a whole under server-side apply.
    pub const fn atomic_map(&self) -> bool {
        self.has(Self::ATOMIC_MAP)
    }

    /// A map explicitly owned key by key.
    pub const fn granular_map(&self) -> bool {
        self.has(Self::GRANULAR_MAP)
    }

    /// An otherwise atomic struct that is owned field by field here.
    pub const fn granular_struct(&self) -> bool {
        self.has(Self::GRANULAR_STRUCT)
    }
}

#[cfg(test)]
mod tests;
