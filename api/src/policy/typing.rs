//! What is wrong with the expressions of a policy when the types of objects are known: told in its status, and keeps
//! nothing from working.

use quorate_cel::schema::{Decl, escape};
use quorate_cel::types::Object;
use quorate_cel::{Type, compile};
use serde_json::Value;

use super::env::{self, Names, Types};
use crate::resource::ResourceDef;
use crate::schema::{Kind, TypeId};
use crate::tree;

/// How many kinds a policy is checked against.
pub const KINDS_MAX: usize = 10;
/// How deep types are looked into; what is deeper may be anything. Some contain themselves.
const DEPTH_MAX: usize = 12;

/// The type of a resource's objects.
#[must_use]
pub fn of(def: &ResourceDef) -> Type {
    match def.custom {
        Some(custom) => Decl::of(&custom.schema, true).map_or(Type::Dyn, |decl| decl.ty),
        None => built_in(def.schema, DEPTH_MAX),
    }
}

fn built_in(id: TypeId, depth: usize) -> Type {
    let Some(depth) = depth.checked_sub(1) else { return Type::Dyn };
    let ty = id.get();
    let fields = ty
        .fields()
        .iter()
        .filter_map(|field| Some((escape(field.json)?, kind(&field.kind, depth))));
    let name = format!("{}.{}", ty.package, ty.name);
    Type::Object(Object { name: name.into(), fields: std::sync::Arc::new(fields.collect()) })
}

fn kind(kind: &Kind, depth: usize) -> Type {
    match kind {
        Kind::String | Kind::Quantity | Kind::Duration => Type::String,
        Kind::Bool => Type::Bool,
        Kind::Int32 | Kind::Int64 => Type::Int,
        Kind::Float => Type::Double,
        Kind::Bytes => Type::Bytes,
        Kind::Time | Kind::MicroTime => Type::Timestamp,
        Kind::Ref(id) => built_in(*id, depth),
        Kind::List(of) => Type::list(self::kind(of, depth)),
        Kind::Map(of) => Type::map(Type::String, self::kind(of, depth)),
        Kind::IntOrString
        | Kind::RawExtension
        | Kind::FieldsV1
        | Kind::Json
        | Kind::SchemaOrBool
        | Kind::SchemaOrArray
        | Kind::SchemaOrStringArray
        | Kind::Any => Type::Dyn,
    }
}

/// A kind as warnings call it.
#[must_use]
pub fn shown(def: &ResourceDef) -> String {
    format!("{}, Kind={}", def.api_version(), def.kind())
}

/// The warnings of a validating policy: `fieldRef` and `warning` of each expression that does not fit.
#[must_use]
pub fn warnings(policy: &Value, kinds: &[(String, Type)], params: Option<Type>) -> Vec<Value> {
    let spec = tree::get(policy, "spec");
    let names = Names { params: tree::has(spec, "paramKind"), authorizer: true };
    let params = params.unwrap_or(Type::Dyn);
    let mut warnings = Vec::new();
    for (at, validation) in tree::list(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = tree::text(validation, field);
            if text.is_empty() {
                continue;
            }
            let told: Vec<String> = kinds
                .iter()
                .filter_map(|(kind, object)| {
                    let types = Types { object: object.clone(), params: params.clone() };
                    let (_, env) = super::variables(spec, env::of(names, Some(&types)));
                    let error = compile(&env, text).err()?;
                    Some(format!("{kind}: {error}\n"))
                })
                .collect();
            if !told.is_empty() {
                warnings.push(serde_json::json!({
                    "fieldRef": format!("spec.validations[{at}].{field}"),
                    "warning": told.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// The groups, versions and resources that a policy names: those with wildcards are not looked for.
#[must_use]
pub fn named(policy: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let constraints = tree::get(tree::get(policy, "spec"), "matchConstraints");
    for rule in tree::list(constraints, "resourceRules") {
        let all = |name: &str| -> Vec<String> {
            let mut all: Vec<String> = tree::texts(rule, name).map(str::to_owned).collect();
            all.sort();
            all
        };
        let (groups, versions) = (all("apiGroups"), all("apiVersions"));
        if groups.iter().chain(&versions).any(|one| one.contains('*')) {
            continue;
        }
        for group in &groups {
            for version in &versions {
                for resource in all("resources").iter().filter(|one| !one.contains(['*', '/'])) {
                    found.push((group.clone(), version.clone(), resource.clone()));
                }
            }
        }
    }
    found
}
