//! Paths, operations and parameters from the resource table.

use serde_json::{Map, Value, json};

use super::{parameters, reference};
use crate::custom::publish;
use crate::resource::{self, GroupVersionKind, ResourceDef, SubresourceDef, Verb};
use crate::schema::{Kind, TypeId, ids};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What answers are written in.
const ANSWERS: &[&str] = &["application/json"];
/// What lists are written in, which may be watches.
const LISTS: &[&str] = &["application/json", "application/json;stream=watch"];
/// What a PATCH may be written in. kubectl computes a strategic merge patch where it sees one.
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// (name, type) of query parameters, by what they are for.
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_COLLECTION: &[(&str, &str)] = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];
const PRETTY: (&str, &str) = ("pretty", "string");

/// An operation before its parameters are sorted into its own and its path's.
struct Operation {
    method: &'static str,
    /// What its parameters are of, where they mean something of their own.
    of: &'static str,
    parameters: Vec<(&'static str, &'static str)>,
    value: Value,
}

/// The paths of a group version.
pub(super) fn of_group_version(group: &str, version: &str) -> Value {
    let names = Names::new(group, version);
    let base = match group {
        "" => format!("/api/{version}"),
        _ => format!("/apis/{group}/{version}"),
    };
    let mut paths = Map::new();
    let resources = json!({"get": {
        "description": "get available resources",
        "operationId": format!("get{}APIResources", names.title),
        "responses": responses(&[("200", "OK")], ANSWERS, &reference(&format!("{META}.APIResourceList"))),
        "tags": [names.tag],
    }});
    paths.insert(format!("{base}/"), resources);
    for def in resource::of_group_version(group, version) {
        resource_paths(&mut paths, &base, &names, def);
    }
    Value::Object(paths)
}

/// The paths of a group version of custom kinds. They are those of built-in kinds, with other components, and without
/// strategic merge patches.
pub(super) fn of_custom(group: &str, version: &str, defs: &[&'static ResourceDef]) -> Value {
    let names = Names::new(group, version);
    let base = format!("/apis/{group}/{version}");
    let mut paths = Map::new();
    let resources = json!({"get": {
        "description": "get available resources",
        "operationId": format!("get{}APIResources", names.title),
        "responses": responses(&[("200", "OK")], ANSWERS, &reference(&format!("{META}.APIResourceList"))),
        "tags": [names.tag],
    }});
    paths.insert(format!("{base}/"), resources);
    for def in defs {
        let mut own = Map::new();
        resource_paths(&mut own, &base, &names, def);
        let components = [
            (def.schema.get().component(), publish::component(def)),
            (
                ids::META_V1_PARTIALOBJECTMETADATALIST.get().component(),
                publish::list_component(def),
            ),
        ];
        let mut own = Value::Object(own);
        own_components(&mut own, &components);
        if let Value::Object(own) = own {
            paths.extend(own);
        }
    }
    Value::Object(paths)
}

fn own_components(value: &mut Value, components: &[(String, String)]) {
    match value {
        Value::Object(map) => {
            map.remove("application/strategic-merge-patch+json");
            for (key, value) in map.iter_mut() {
                let own = value.as_str().filter(|_| key == "$ref").and_then(|text| {
                    let named = |(from, _): &&(String, String)| text.ends_with(&format!("/{from}"));
                    components.iter().find(named)
                });
                match own {
                    Some((_, to)) => *value = json!(format!("#/components/schemas/{to}")),
                    None => own_components(value, components),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| own_components(value, components)),
        _ => {}
    }
}

/// The one path of a document about groups: `/api/`, `/apis/`, `/apis/G/`.
pub(super) fn general(path: &str) -> Value {
    let (id, tag, description, kind) = match path {
        "/api/" => (
            "getCoreAPIVersions".to_owned(),
            "core".to_owned(),
            "get available API versions",
            "APIVersions",
        ),
        "/apis/" => (
            "getAPIVersions".to_owned(),
            "apis".to_owned(),
            "get available API versions",
            "APIGroupList",
        ),
        _ => {
            let group = path.trim_start_matches("/apis/").trim_end_matches('/');
            let tag = camel(group);
            (format!("get{}APIGroup", title(&tag)), tag, "get information of a group", "APIGroup")
        }
    };
    json!({path: {"get": {
        "description": description,
        "operationId": id,
        "responses": responses(&[("200", "OK")], ANSWERS, &reference(&format!("{META}.{kind}"))),
        "tags": [tag],
    }}})
}

/// How operations of a group version are named: `core_v1`, `CoreV1`.
struct Names {
    tag: String,
    title: String,
}

impl Names {
    fn new(group: &str, version: &str) -> Self {
        let camel = if group.is_empty() { "core".to_owned() } else { camel(group) };
        Self { tag: format!("{camel}_{version}"), title: title(&camel) + &title(version) }
    }
}

/// `rbac.authorization.k8s.io` is `rbacAuthorization`.
fn camel(group: &str) -> String {
    let short = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut parts = short.split('.');
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |all, part| all + &title(part))
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_ascii_uppercase().to_string() + chars.as_str())
}

fn resource_paths(
    paths: &mut Map<String, Value>,
    base: &str,
    names: &Names,
    def: &'static ResourceDef,
) {
    let scope = if def.namespaced { "Namespaced" } else { "" };
    let collection = if def.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", def.plural)
    } else {
        format!("{base}/{}", def.plural)
    };
    let of = |ops: Vec<Option<Operation>>, name: Option<&str>| {
        assemble(ops.into_iter().flatten().collect(), name, def.namespaced)
    };
    let context = Context { names, def, scope };
    if def.namespaced && def.has(Verb::List) {
        let id = format!("list{}{}ForAllNamespaces", names.title, def.kind());
        let all = assemble(vec![context.list(id)], None, false);
        paths.insert(format!("{base}/{}", def.plural), all);
    }
    let list = format!("list{}{scope}{}", names.title, def.kind());
    let ops = vec![
        def.has(Verb::List).then(|| context.list(list)),
        def.has(Verb::Create).then(|| context.create(None)),
        def.has(Verb::DeleteCollection).then(|| context.delete_collection()),
    ];
    paths.insert(collection.clone(), of(ops, None));
    let item = format!("{collection}/{{name}}");
    let ops = vec![
        def.has(Verb::Get).then(|| context.get(None)),
        def.has(Verb::Update).then(|| context.update(None)),
        def.has(Verb::Patch).then(|| context.patch(None)),
        def.has(Verb::Delete).then(|| context.delete()),
    ];
    if ops.iter().any(Option::is_some) {
        paths.insert(item.clone(), of(ops, Some(def.kind())));
    }
    for sub in def.subresources {
        let has = |verb| sub.verbs.contains(&verb);
        let path = format!("{item}/{}", sub.name);
        if sub.name == "proxy" {
            paths.insert(path.clone(), of(context.carry(sub, ""), Some(sub.gvk.kind)));
            let mut below = of(context.carry(sub, "WithPath"), Some(sub.gvk.kind));
            if let Some(parameters) = below["parameters"].as_array_mut() {
                // Before the query parameter of that name, as upstream sorts them.
                let at = parameters.iter().position(|one| one["name"] == "path");
                let own = path_parameter("path", parameters::path("path"));
                parameters.insert(at.unwrap_or(parameters.len()), own);
            }
            paths.insert(format!("{path}/{{path}}"), below);
            continue;
        }
        let ops = if is_connect(sub) {
            vec![
                has(Verb::Get).then(|| context.connect(sub, "get")),
                has(Verb::Create).then(|| context.connect(sub, "post")),
            ]
        } else {
            vec![
                has(Verb::Get).then(|| context.get(Some(sub))),
                has(Verb::Update).then(|| context.update(Some(sub))),
                has(Verb::Patch).then(|| context.patch(Some(sub))),
                has(Verb::Create).then(|| context.create(Some(sub))),
            ]
        };
        paths.insert(path, of(ops, Some(sub.gvk.kind)));
    }
}

/// A stream instead of an object: its parameters are an options struct.
fn is_connect(sub: &SubresourceDef) -> bool {
    sub.gvk.kind.ends_with("Options")
}

/// What all operations of a resource need.
struct Context<'a> {
    names: &'a Names,
    def: &'static ResourceDef,
    scope: &'static str,
}

/// What differs between operations.
struct Parts<'a> {
    method: &'static str,
    action: &'static str,
    id: String,
    description: String,
    gvk: GroupVersionKind,
    parameters: Vec<(&'static str, &'static str)>,
    body: Option<Value>,
    codes: &'a [(&'a str, &'a str)],
    media: &'a [&'a str],
    answer: Value,
}

impl Context<'_> {
    fn operation(&self, parts: Parts<'_>) -> Operation {
        let mut value = json!({
            "description": parts.description,
            "operationId": parts.id,
            "responses": responses(parts.codes, parts.media, &parts.answer),
            "tags": [self.names.tag],
            "x-kubernetes-action": parts.action,
            "x-kubernetes-group-version-kind": {
                "group": parts.gvk.group,
                "version": parts.gvk.version,
                "kind": parts.gvk.kind,
            },
        });
        if let Some(body) = parts.body {
            value["requestBody"] = body;
        }
        let of = match parts.action {
            "connect" => parts.gvk.kind,
            "patch" => "patch",
            _ => "",
        };
        Operation { method: parts.method, of, parameters: parts.parameters, value }
    }

    /// The id of an operation on one object: `readCoreV1NamespacedPodStatus`.
    fn id(&self, verb: &str, sub: Option<&SubresourceDef>) -> String {
        let sub = sub.map_or_else(String::new, |sub| title(sub.name));
        format!("{verb}{}{}{}{sub}", self.names.title, self.scope, self.def.kind())
    }

    fn target(&self, sub: Option<&SubresourceDef>) -> (GroupVersionKind, TypeId, String) {
        match sub {
            None => (self.def.gvk, self.def.schema, String::new()),
            Some(sub) => (sub.gvk, sub.schema, format!("{} of ", sub.name)),
        }
    }

    fn list(&self, id: String) -> Operation {
        let list = self.def.list_schema.unwrap_or(self.def.schema);
        let or_watch = if self.def.has(Verb::Watch) { "or watch " } else { "" };
        self.operation(Parts {
            method: "get",
            action: "list",
            id,
            description: format!("list {or_watch}objects of kind {}", self.def.kind()),
            gvk: self.def.gvk,
            parameters: with_pretty(LIST),
            body: None,
            codes: &[("200", "OK")],
            media: LISTS,
            answer: reference(&list.get().component()),
        })
    }

    fn create(&self, sub: Option<&SubresourceDef>) -> Operation {
        let (gvk, schema, of) = self.target(sub);
        let component = reference(&schema.get().component());
        self.operation(Parts {
            method: "post",
            action: "post",
            id: self.id("create", sub),
            description: format!("create {of}{}", with_article(self.def.kind())),
            gvk,
            parameters: with_pretty(WRITE),
            body: Some(body(&["*/*"], &component, true)),
            codes: &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            media: ANSWERS,
            answer: component,
        })
    }

    fn delete_collection(&self) -> Operation {
        let options = reference(&ids::META_V1_DELETEOPTIONS.get().component());
        self.operation(Parts {
            method: "delete",
            action: "deletecollection",
            id: format!("delete{}Collection{}{}", self.names.title, self.scope, self.def.kind()),
            description: format!("delete collection of {}", self.def.kind()),
            gvk: self.def.gvk,
            parameters: with_pretty(DELETE_COLLECTION),
            body: Some(body(&["*/*"], &options, false)),
            codes: &[("200", "OK")],
            media: ANSWERS,
            answer: reference(&format!("{META}.Status")),
        })
    }

    fn delete(&self) -> Operation {
        let options = reference(&ids::META_V1_DELETEOPTIONS.get().component());
        let answer = if self.def.delete_returns_object {
            reference(&self.def.schema.get().component())
        } else {
            reference(&format!("{META}.Status"))
        };
        self.operation(Parts {
            method: "delete",
            action: "delete",
            id: self.id("delete", None),
            description: format!("delete {}", with_article(self.def.kind())),
            gvk: self.def.gvk,
            parameters: with_pretty(DELETE),
            body: Some(body(&["*/*"], &options, false)),
            codes: &[("200", "OK"), ("202", "Accepted")],
            media: ANSWERS,
            answer,
        })
    }

    fn get(&self, sub: Option<&SubresourceDef>) -> Operation {
        let (gvk, schema, of) = self.target(sub);
        let mut parameters = vec![PRETTY];
        let mut media = ANSWERS;
        let mut answer = reference(&schema.get().component());
        let is_log = sub.is_some_and(|sub| sub.name == "log");
        if is_log {
            parameters.extend(parameters_of(ids::CORE_V1_PODLOGOPTIONS));
            media = &["application/json", "text/plain"];
            answer = json!({"type": "string"});
        }
        let operation = self.operation(Parts {
            method: "get",
            action: "get",
            id: self.id("read", sub),
            description: format!("read {of}the specified {}", self.def.kind()),
            gvk,
            parameters,
            body: None,
            codes: &[("200", "OK")],
            media,
            answer,
        });
        if is_log { Operation { of: "log", ..operation } } else { operation }
    }

    fn update(&self, sub: Option<&SubresourceDef>) -> Operation {
        let (gvk, schema, of) = self.target(sub);
        let component = reference(&schema.get().component());
        self.operation(Parts {
            method: "put",
            action: "put",
            id: self.id("replace", sub),
            description: format!("replace {of}the specified {}", self.def.kind()),
            gvk,
            parameters: with_pretty(WRITE),
            body: Some(body(&["*/*"], &component, true)),
            codes: &[("200", "OK"), ("201", "Created")],
            media: ANSWERS,
            answer: component,
        })
    }

    fn patch(&self, sub: Option<&SubresourceDef>) -> Operation {
        let (gvk, schema, of) = self.target(sub);
        self.operation(Parts {
            method: "patch",
            action: "patch",
            id: self.id("patch", sub),
            description: format!("partially update {of}the specified {}", self.def.kind()),
            gvk,
            parameters: with_pretty(PATCH),
            body: Some(body(PATCHES, &reference(&format!("{META}.Patch")), true)),
            codes: &[("200", "OK"), ("201", "Created")],
            media: ANSWERS,
            answer: reference(&schema.get().component()),
        })
    }

    /// Any method, which is carried to a pod.
    fn carry(&self, sub: &SubresourceDef, suffix: &str) -> Vec<Option<Operation>> {
        let methods = ["delete", "get", "head", "options", "patch", "post", "put"];
        let of = |method| {
            let mut operation = self.connect(sub, method);
            let id = operation.value["operationId"].as_str().unwrap_or_default();
            operation.value["operationId"] = format!("{id}{suffix}").into();
            Some(operation)
        };
        methods.into_iter().map(of).collect()
    }

    fn connect(&self, sub: &SubresourceDef, method: &'static str) -> Operation {
        let verb = format!("connect{}{}", self.names.title, title(method));
        self.operation(Parts {
            method,
            action: "connect",
            id: format!("{verb}{}{}{}", self.scope, self.def.kind(), title(sub.name)),
            description: format!(
                "connect {} requests to {} of {}",
                method.to_ascii_uppercase(),
                sub.name,
                self.def.kind()
            ),
            gvk: sub.gvk,
            parameters: parameters_of(sub.schema).collect(),
            body: None,
            codes: &[("200", "OK")],
            media: &["*/*"],
            answer: json!({"type": "string"}),
        })
    }
}

fn with_pretty(parameters: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    parameters.iter().copied().chain([PRETTY]).collect()
}

/// The query parameters an options struct stands for.
fn parameters_of(options: TypeId) -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields = options.get().fields().iter().filter(|field| !field.type_meta());
    fields.filter_map(|field| {
        let kind = match field.kind {
            Kind::List(item) => *item,
            kind => kind,
        };
        let name = match kind {
            Kind::Bool => "boolean",
            Kind::Int32 | Kind::Int64 => "integer",
            Kind::String => "string",
            // Upstream publishes no parameter for sinceTime: it has a schema of its own.
            _ => return None,
        };
        Some((field.json, name))
    })
}

fn with_article(kind: &str) -> String {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return kind.to_owned();
    }
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn responses(codes: &[(&str, &str)], media: &[&str], schema: &Value) -> Value {
    let content: Map<String, Value> =
        media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
    let mut responses = Map::new();
    for (code, description) in codes {
        responses
            .insert((*code).to_owned(), json!({"description": description, "content": content}));
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(responses)
}

fn body(media: &[&str], schema: &Value, required: bool) -> Value {
    let content: Map<String, Value> =
        media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
    if required {
        json!({"content": content, "required": true})
    } else {
        json!({"content": content})
    }
}

/// A path: parameters that all its operations share are the path's, as upstream has it.
fn assemble(operations: Vec<Operation>, name: Option<&str>, namespaced: bool) -> Value {
    let shared = |parameter: &(&'static str, &'static str)| {
        operations.iter().all(|op| op.parameters.contains(parameter))
    };
    let mut own: Vec<Value> = Vec::new();
    if let Some(kind) = name {
        own.push(path_parameter("name", &format!("name of the {kind}")));
    }
    if namespaced {
        own.push(path_parameter("namespace", parameters::path("namespace")));
    }
    let first = operations.first().map_or(&[][..], |op| op.parameters.as_slice());
    let of = operations.first().map_or("", |op| op.of);
    own.extend(first.iter().filter(|p| shared(p)).map(|p| query_parameter(of, p)));
    sort(&mut own);
    let mut path = Map::new();
    for operation in &operations {
        let mut value = operation.value.clone();
        let parameters = operation.parameters.iter().filter(|p| !shared(p));
        let mut parameters: Vec<Value> =
            parameters.map(|p| query_parameter(operation.of, p)).collect();
        if !parameters.is_empty() {
            sort(&mut parameters);
            value["parameters"] = Value::from(parameters);
        }
        path.insert(operation.method.to_owned(), value);
    }
    path.insert("parameters".to_owned(), Value::from(own));
    Value::Object(path)
}

fn sort(parameters: &mut [Value]) {
    parameters.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
}

fn query_parameter(of: &str, (name, kind): &(&'static str, &'static str)) -> Value {
    let schema = json!({"type": kind, "uniqueItems": true});
    let mut parameter = json!({"name": name, "in": "query", "schema": schema});
    if let Some(text) = parameters::query(of, name) {
        parameter["description"] = text.into();
    }
    parameter
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": description,
        "schema": {"type": "string", "uniqueItems": true},
    })
}
