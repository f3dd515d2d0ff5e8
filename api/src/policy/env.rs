//! What expressions of policies may name.

use std::sync::LazyLock;

use quorate_cel::schema::Decl;
use quorate_cel::{Env, Type};
use serde_json::json;

/// What there is beside the request and its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// `params`
    pub params: bool,
    /// `authorizer`
    pub authorizer: bool,
}

/// What objects are, when it is known.
#[derive(Clone, Debug)]
pub struct Types {
    /// `object` and `oldObject`.
    pub object: Type,
    /// `params`
    pub params: Type,
}

/// The environment of an expression.
#[must_use]
pub fn of(names: Names, types: Option<&Types>) -> Env {
    let object = types.map_or(Type::Dyn, |types| types.object.clone());
    let mut env = Env::new([
        ("object", object.clone()),
        ("oldObject", object),
        ("request", request()),
        ("namespaceObject", namespace()),
    ]);
    if names.params {
        env = env.with("params", types.map_or(Type::Dyn, |types| types.params.clone()));
    }
    if names.authorizer {
        let check = Type::opaque("kubernetes.authorization.ResourceCheck");
        env = env
            .with("authorizer", Type::opaque("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", check);
    }
    env
}

fn texts(name: &str, fields: &[&'static str]) -> Type {
    Type::object(name, fields.iter().map(|field| (*field, Type::String)))
}

/// `AdmissionRequest`, but for its objects.
fn request() -> Type {
    let kind = texts("kubernetes.GroupVersionKind", &["group", "version", "kind"]);
    let resource = texts("kubernetes.GroupVersionResource", &["group", "version", "resource"]);
    let user = Type::object(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", Type::list(Type::String)),
            ("extra", Type::map(Type::String, Type::list(Type::String))),
        ],
    );
    Type::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Type::String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

/// What a namespace shows of itself.
fn namespace() -> Type {
    let labels = || Type::map(Type::String, Type::String);
    let metadata = Type::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", labels()),
            ("annotations", labels()),
            ("UID", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let spec = Type::object("kubernetes.NamespaceSpec", [("finalizers", Type::list(Type::String))]);
    let status = texts("kubernetes.NamespaceStatus", &["phase"]);
    Type::object(
        "kubernetes.Namespace",
        [("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

/// What a namespace shows of itself, to make values by.
#[must_use]
pub fn namespace_decl() -> &'static Decl {
    static DECL: LazyLock<Decl> = LazyLock::new(|| {
        let text = json!({"type": "string"});
        let time = json!({"type": "string", "format": "date-time"});
        let texts = json!({"type": "array", "items": text});
        let labels = json!({"type": "object", "additionalProperties": text});
        let schema = json!({"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {
                "name": text, "generateName": text, "labels": labels, "annotations": labels,
                "creationTimestamp": time, "deletionTimestamp": time, "resourceVersion": text,
                "generation": {"type": "integer"}, "finalizers": texts}},
            "spec": {"type": "object", "properties": {"finalizers": texts}},
            "status": {"type": "object", "properties": {"phase": text}},
        }});
        Decl::of(&schema, false).expect("an object with fields is one")
    });
    &DECL
}
