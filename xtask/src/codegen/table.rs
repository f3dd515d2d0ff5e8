//! Parses the tables of facts (`fields.tsv`, `types.tsv`) into resolved types.
//!
//! What is resolved here: Go type expressions into schema kinds (through aliases and import
//! names), and inlined structs into the fields of the struct that inlines them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};

/// What a field holds; the printed form of `schema::Kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A kind without parameters, by its variant's name
    Plain(&'static str),
    /// A struct, `core/v1.Container`
    Ref(String),
    List(Box<Kind>),
    Map(Box<Kind>),
}

/// One JSON field of a struct, inlined ones included.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) json: String,
    pub(crate) kind: Kind,
    pub(crate) flags: BTreeSet<&'static str>,
    /// The Go type as `reflect` prints it (`[]v1.Container`), without the pointer
    pub(crate) go_type: String,
    pub(crate) proto: u16,
    /// Message fields to enter before `proto` is found (inlined in JSON, a message in protobuf)
    pub(crate) proto_path: Vec<u16>,
    pub(crate) patch: String,
    pub(crate) merge_key: String,
    pub(crate) list_type: String,
    pub(crate) list_map_keys: Vec<String>,
    pub(crate) map_type: String,
    pub(crate) default: String,
}

/// Facts about a struct as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeFacts {
    pub(crate) atomic: bool,
    pub(crate) discriminator: String,
    pub(crate) union: Vec<(String, String)>,
}

/// All types, by full name (`core/v1.Container`).
pub(crate) struct Table {
    pub(crate) types: BTreeMap<String, Vec<Field>>,
    pub(crate) facts: BTreeMap<String, TypeFacts>,
}

struct Row {
    json: String,
    omit: String,
    inline: bool,
    go_type: String,
    pointer: bool,
    proto: u16,
    patch: String,
    merge_key: String,
    markers: Vec<(String, String)>,
}

struct Source {
    structs: BTreeMap<String, Vec<Row>>,
    aliases: BTreeMap<String, String>,
}

/// Types with their own JSON form, and the kind that stands for each.
const SPECIAL: &[(&str, &str)] = &[
    ("api/resource.Quantity", "Quantity"),
    ("apiextensions/v1.JSON", "Json"),
    ("apiextensions/v1.JSONSchemaPropsOrArray", "SchemaOrArray"),
    ("apiextensions/v1.JSONSchemaPropsOrBool", "SchemaOrBool"),
    ("apiextensions/v1.JSONSchemaPropsOrStringArray", "SchemaOrStringArray"),
    ("meta/v1.Duration", "Duration"),
    ("meta/v1.FieldsV1", "FieldsV1"),
    ("meta/v1.MicroTime", "MicroTime"),
    ("meta/v1.Time", "Time"),
    ("runtime.RawExtension", "RawExtension"),
    ("util/intstr.IntOrString", "IntOrString"),
];

/// Structs of Go's machinery that never travel.
const NOT_WIRE: &[&str] = &["runtime.Unknown", "runtime.TypeMeta", "meta/v1.TableOptions"];

/// String lists that are a message with `items` in protobuf (`+protobuf.nullable`).
const ITEMS_MESSAGES: &[&str] = &["ExtraValue", "Verbs"];

/// Defaults given as a reference to a Go constant, with the constant's value.
const DEFAULT_REFS: &[(&str, &str)] = &[
    ("ref(AzureDataDiskCachingReadWrite)", "\"ReadWrite\""),
    ("ref(AzureSharedBlobDisk)", "\"Shared\""),
];

impl Table {
    /// Parses both tables. Errors: malformed rows, unknown Go types.
    pub(crate) fn parse(fields: &str, types: &str) -> anyhow::Result<Self> {
        let source = Source::parse(fields)?;
        let mut out = BTreeMap::new();
        for name in source.structs.keys() {
            if SPECIAL.iter().any(|(n, _)| n == name) || NOT_WIRE.contains(&name.as_str()) {
                continue;
            }
            let mut fields = source.flatten(name)?;
            fields.sort_by(|a, b| a.json.cmp(&b.json));
            out.insert(name.clone(), fields);
        }
        // Structs without fields have no rows: they exist because somebody refers to them.
        let mut empty = BTreeSet::new();
        for field in out.values().flatten() {
            referred(&field.kind, &mut empty);
        }
        for name in empty {
            out.entry(name).or_default();
        }
        Ok(Self { types: out, facts: parse_facts(types)? })
    }
}

fn referred(kind: &Kind, into: &mut BTreeSet<String>) {
    match kind {
        Kind::Plain(_) => {}
        Kind::Ref(name) => {
            into.insert(name.clone());
        }
        Kind::List(item) | Kind::Map(item) => referred(item, into),
    }
}

fn parse_facts(types: &str) -> anyhow::Result<BTreeMap<String, TypeFacts>> {
    let mut facts = BTreeMap::new();
    for line in types.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, struct_type, discriminator, union] = columns[..] else {
            bail!("types.tsv: {line:?} has not four columns");
        };
        let union = union.split(';').filter_map(|pair| pair.split_once('='));
        let fact = TypeFacts {
            atomic: struct_type == "atomic",
            discriminator: discriminator.to_owned(),
            union: union.map(|(a, b)| (a.to_owned(), b.to_owned())).collect(),
        };
        facts.insert(name.to_owned(), fact);
    }
    Ok(facts)
}

impl Source {
    fn parse(fields: &str) -> anyhow::Result<Self> {
        let mut source = Self { structs: BTreeMap::new(), aliases: BTreeMap::new() };
        for (at, line) in fields.lines().enumerate().skip(1) {
            let c: Vec<&str> = line.split('\t').collect();
            if c.len() != 15 {
                bail!("fields.tsv:{}: {} columns, expected 15", at + 1, c.len());
            }
            let name = format!("{}.{}", c[0], c[1]);
            if c[2] == "alias" {
                source.aliases.insert(name, c[6].to_owned());
                continue;
            }
            let markers = c[14].split(';').filter(|m| !m.is_empty()).map(|m| {
                let (key, value) = m.split_once('=').unwrap_or((m, ""));
                (key.to_owned(), value.to_owned())
            });
            source.structs.entry(name).or_default().push(Row {
                json: c[3].to_owned(),
                omit: c[4].to_owned(),
                inline: c[5] == "inline",
                go_type: c[6].trim_start_matches('*').to_owned(),
                pointer: c[7] == "pointer",
                proto: if c[9].is_empty() { 0 } else { c[9].parse().context("proto number")? },
                patch: c[12].to_owned(),
                merge_key: c[13].to_owned(),
                markers: markers.collect(),
            });
        }
        Ok(source)
    }

    /// The JSON fields of a struct, those of inlined structs among them.
    fn flatten(&self, name: &str) -> anyhow::Result<Vec<Field>> {
        let package = name.rsplit_once('.').context("a type name has a package")?.0;
        if let Some(target) = self.aliases.get(name) {
            return self.flatten(&self.full_name(package, target)?);
        }
        let mut fields = Vec::new();
        let rows = self.structs.get(name).with_context(|| format!("unknown struct {name}"))?;
        for row in rows {
            if row.inline {
                let inner = self.full_name(package, &row.go_type)?;
                let is_type_meta = inner == "meta/v1.TypeMeta" || inner == "runtime.TypeMeta";
                for mut field in self.flatten(&inner)? {
                    if is_type_meta {
                        field.flags.insert("TYPE_META");
                        field.proto = 0;
                    } else {
                        field.proto_path.insert(0, row.proto);
                    }
                    fields.push(field);
                }
            } else if !row.json.is_empty() && row.json != "-" {
                fields.push(
                    self.field(package, row).with_context(|| {
                        format!("field {} of {name} ({})", row.json, row.go_type)
                    })?,
                );
            }
        }
        Ok(fields)
    }

    fn field(&self, package: &str, row: &Row) -> anyhow::Result<Field> {
        let marker = |key: &str| row.markers.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let mut flags = BTreeSet::new();
        for (set, flag) in [
            (row.omit.contains("omitempty"), "OMITEMPTY"),
            (row.omit.contains("omitzero"), "OMITZERO"),
            (row.pointer, "POINTER"),
            (marker("optional").is_some(), "OPTIONAL"),
            (marker("required").is_some(), "REQUIRED"),
            (marker("structType").as_deref() == Some("granular"), "GRANULAR_STRUCT"),
            (ITEMS_MESSAGES.iter().any(|m| row.go_type.ends_with(m)), "PROTO_ITEMS"),
        ] {
            if set {
                flags.insert(flag);
            }
        }
        let default = marker("default").unwrap_or_default();
        let default = DEFAULT_REFS
            .iter()
            .find(|(from, _)| *from == default)
            .map_or(default.as_str(), |(_, to)| to);
        let keys = row.markers.iter().filter(|(k, _)| k == "listMapKey").map(|(_, v)| v.clone());
        Ok(Field {
            json: row.json.clone(),
            kind: self.kind(package, &row.go_type)?,
            flags,
            go_type: self.go_type(package, &row.go_type)?,
            proto: row.proto,
            proto_path: Vec::new(),
            patch: row.patch.clone(),
            merge_key: row.merge_key.clone(),
            list_type: marker("listType").unwrap_or_default(),
            list_map_keys: keys.collect(),
            map_type: marker("mapType").unwrap_or_default(),
            default: default.to_owned(),
        })
    }

    fn kind(&self, package: &str, go_type: &str) -> anyhow::Result<Kind> {
        let plain = match go_type {
            "string" | "types.UID" | "types.NodeName" => "String",
            "bool" => "Bool",
            "int32" => "Int32",
            "int64" => "Int64",
            "float64" => "Float",
            "[]byte" => "Bytes",
            "interface{}" => "Any",
            "Object" => "Any",
            _ => "",
        };
        if !plain.is_empty() {
            return Ok(Kind::Plain(plain));
        }
        if let Some(item) = go_type.strip_prefix("[]") {
            return Ok(Kind::List(Box::new(self.kind(package, item)?)));
        }
        if let Some(rest) = go_type.strip_prefix("map[") {
            let item = rest.split_once(']').context("a map type has a key")?.1;
            return Ok(Kind::Map(Box::new(self.kind(package, item)?)));
        }
        let name = self.full_name(package, go_type)?;
        if let Some((_, kind)) = SPECIAL.iter().find(|(special, _)| *special == name) {
            return Ok(Kind::Plain(kind));
        }
        match self.aliases.get(&name) {
            Some(target) => {
                self.kind(name.rsplit_once('.').map_or("", |(package, _)| package), target)
            }
            None => Ok(Kind::Ref(name)),
        }
    }

    /// The Go type as `reflect.Type.String` prints it.
    fn go_type(&self, package: &str, go_type: &str) -> anyhow::Result<String> {
        if let Some(item) = go_type.strip_prefix("[]") {
            return Ok(format!("[]{}", self.go_type(package, item)?));
        }
        if let Some(rest) = go_type.strip_prefix("map[") {
            let (key, item) = rest.split_once(']').context("a map type has a key")?;
            let (key, item) = (self.go_type(package, key)?, self.go_type(package, item)?);
            return Ok(format!("map[{key}]{item}"));
        }
        if go_type == "[]byte" {
            return Ok("[]uint8".to_owned());
        }
        if go_type.chars().next().is_some_and(char::is_lowercase) && !go_type.contains('.') {
            return Ok(if go_type == "byte" { "uint8" } else { go_type }.to_owned());
        }
        if go_type.starts_with("types.") {
            return Ok(go_type.to_owned());
        }
        let name = self.full_name(package, go_type)?;
        Ok(name.rsplit_once('/').map_or_else(|| name.clone(), |(_, last)| last.to_owned()))
    }

    /// `core/v1.Container` for what a file of `package` writes as `Container` or `v1.Container`.
    fn full_name(&self, package: &str, go_type: &str) -> anyhow::Result<String> {
        let known = |name: &String| {
            self.structs.contains_key(name)
                || self.aliases.contains_key(name)
                || SPECIAL.iter().any(|(special, _)| special == name)
        };
        let Some((import, name)) = go_type.split_once('.') else {
            return Ok(format!("{package}.{go_type}"));
        };
        let group = package.split('/').next().unwrap_or(package);
        let candidates = match import {
            "metav1" => vec!["meta/v1".to_owned()],
            "resource" => vec!["api/resource".to_owned()],
            "intstr" => vec!["util/intstr".to_owned()],
            "runtime" => vec!["runtime".to_owned()],
            "v1" | "apiv1" => {
                vec![format!("{group}/v1"), "core/v1".to_owned(), "meta/v1".to_owned()]
            }
            _ => vec![format!("{}/v1", import.trim_end_matches("v1"))],
        };
        let mut names = candidates.iter().map(|package| format!("{package}.{name}"));
        if let Some(found) = names.find(known) {
            return Ok(found);
        }
        let suffix = format!("/v1.{name}");
        let anywhere = self.structs.keys().chain(self.aliases.keys());
        let found = anywhere.filter(|known| known.ends_with(&suffix)).collect::<Vec<_>>();
        match found[..] {
            [one] => Ok(one.clone()),
            _ => bail!("type {go_type} of package {package}: {} candidates", found.len()),
        }
    }
}
