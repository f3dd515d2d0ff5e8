//! Custom kinds: what a `CustomResourceDefinition` makes of itself when it is stored.
//!
//! A [`Definition`] is compiled from a stored definition; each version that is served becomes a [`ResourceDef`] like
//! those of the resource table, with a [`Custom`] beside it: its schema, columns, paths. From there on custom objects
//! take the way of built-in ones. Start reading at [`Definition::of`]; what is checked when a definition is written is
//! in `validation/definition*`. Decision 14 (`docs/decisions`) says where definitions are looked up.

pub mod check;
pub mod columns;
pub mod decode;
pub mod documents;
mod format;
mod intern;
pub mod jsonpath;
pub mod node;
pub mod prepare;
pub mod publish;
pub mod rules;
pub mod scale;
pub mod shape;
pub mod version;

use serde_json::Value;

use crate::field::Error;
use crate::resource::{ResourceDef, api_version};
use crate::selector::field::Selectable;
use crate::{tree, validation};

pub use node::Node;
pub use scale::Scale;

/// The group of the definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The plural name of the definitions.
pub const PLURAL: &str = "customresourcedefinitions";
/// Keeps a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What a custom kind has that a built-in one has in tables and code.
#[derive(Debug)]
pub struct Custom {
    /// What a list of its objects is called.
    pub list_kind: String,
    /// The `apiVersion` in which objects are kept.
    pub kept_as: String,
    /// The schema of an object.
    pub root: Node,
    /// The rules of the schema, when it has some.
    pub rules: Option<rules::Rules>,
    /// The status is a subresource.
    pub has_status: bool,
    /// The scale subresource.
    pub scale: Option<Scale>,
    /// Columns of its table.
    pub columns: Vec<columns::Column>,
    /// What field selectors may name.
    pub selectable: Vec<Selectable>,
    /// Told to who uses this version.
    pub deprecation: Option<String>,
    /// The schema as the definition has it.
    pub schema: Value,
}

/// A definition as it is served.
#[derive(Clone, Debug)]
pub struct Definition {
    /// All versions, most preferred first, with whether they are served.
    versions: Vec<(&'static ResourceDef, bool)>,
    /// Its names are accepted: its objects are served.
    pub established: bool,
    /// Its objects are being deleted: none may be made.
    pub terminating: bool,
}

impl Definition {
    /// Compiles a stored definition. What is not right in it is left out.
    #[must_use]
    pub fn of(definition: &Value) -> Self {
        let metadata = tree::get(definition, "metadata");
        let spec = tree::get(definition, "spec");
        let mut versions: Vec<_> = tree::list(spec, "versions")
            .iter()
            .map(|version| (intern::version(definition, version), tree::flag(version, "served")))
            .collect();
        versions.sort_by(|(a, _), (b, _)| version::compare(a.version(), b.version()));
        Self {
            versions,
            established: condition(definition, "Established"),
            terminating: tree::has(metadata, "deletionTimestamp")
                || condition(definition, "Terminating"),
        }
    }

    /// The versions that are served, most preferred first.
    pub fn served(&self) -> impl Iterator<Item = &'static ResourceDef> {
        let established = self.established;
        self.versions.iter().filter(move |(_, served)| established && *served).map(|(def, _)| *def)
    }

    /// A version that is served.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&'static ResourceDef> {
        self.served().find(|def| def.version() == name)
    }

    /// The version that objects are kept in, served or not.
    #[must_use]
    pub fn kept(&self) -> Option<&'static ResourceDef> {
        let kept = |def: &&ResourceDef| {
            def.custom.is_some_and(|custom| custom.kept_as == def.api_version())
        };
        self.versions.iter().map(|(def, _)| *def).find(kept)
    }
}

/// Whether a condition of a definition holds.
#[must_use]
pub fn condition(definition: &Value, kind: &str) -> bool {
    tree::list(tree::get(definition, "status"), "conditions")
        .iter()
        .any(|one| tree::text(one, "type") == kind && tree::text(one, "status") == "True")
}

/// The name of the definition of a resource.
#[must_use]
pub fn definition_name(group: &str, plural: &str) -> String {
    format!("{plural}.{group}")
}

/// Fills an object's defaults.
pub fn apply_defaults(custom: &Custom, object: &mut Value) {
    shape::fill(object, &custom.root);
}

/// A stored object as this version serves it: version, what the schema knows, defaults. Upstream does the same with
/// what it reads, so that a new schema holds for old objects too.
pub fn to_served(def: &ResourceDef, custom: &Custom, object: &mut Value) {
    tree::set(object, "apiVersion", def.api_version());
    shape::prune(object, &custom.root, &mut Vec::new());
    shape::fill(object, &custom.root);
}

/// An object of any version as it is kept.
pub fn to_stored(custom: &Custom, object: &mut Value) {
    tree::set(object, "apiVersion", custom.kept_as.as_str());
}

/// What is wrong with a new object.
#[must_use]
pub fn validate_create(def: &ResourceDef, custom: &Custom, object: &Value) -> Vec<Error> {
    let mut errors = validation::metadata(object, def.namespaced);
    errors.extend(validate(custom, object, None));
    errors
}

/// What is wrong with a new version, or with the change.
#[must_use]
pub fn validate_update(
    def: &ResourceDef,
    custom: &Custom,
    object: &Value,
    old: &Value,
) -> Vec<Error> {
    let mut errors = validation::update(def.group(), def.version(), "", object, old);
    errors.extend(validate(custom, object, Some(old)));
    errors
}

fn validate(custom: &Custom, object: &Value, old: Option<&Value>) -> Vec<Error> {
    let mut errors = check::check(object, old, &custom.root);
    errors.extend(embedded(custom, object));
    if let Some(scale) = &custom.scale
        && let Some(wanted) = scale.wanted(object)
        && wanted < 0
    {
        let path = scale.path();
        let path = crate::field::Path::new(&path);
        errors.push(Error::invalid(&path, wanted, "should be a non-negative integer"));
    }
    if let Some(rules) = &custom.rules {
        if rules::is_in_the_way(&errors) {
            errors.push(rules::not_asked());
        } else {
            errors.extend(rules.check(object, old));
        }
    }
    errors
}

/// Objects within objects have a type and metadata.
fn embedded(custom: &Custom, object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut copy = object.clone();
    let visited = shape::resources::<()>(&mut copy, &custom.root, "", &mut |value, path| {
        if path.is_empty() {
            return Ok(());
        }
        let path = crate::field::Path::new(path);
        for name in ["apiVersion", "kind"] {
            if tree::text(value, name).is_empty() {
                errors.push(Error::required(&path.child(name), "must not be empty"));
            }
        }
        Ok(())
    });
    debug_assert!(visited.is_ok(), "nothing here fails");
    errors
}

/// The deprecation warning of a version that names none of its own.
fn default_deprecation(group: &str, version: &str, kind: &str) -> String {
    format!("{} {kind} is deprecated", api_version(group, version))
}

#[cfg(test)]
mod tests;
