//! Pods and pod templates (upstream's `pkg/api/pod/warnings.go`).

use serde_json::Value;
use std::collections::BTreeSet;

use super::{Warnings, address, host_name};
use crate::field::Path;
use crate::quantity::Quantity;
use crate::text::quote;
use crate::tree;
use crate::validation::names;
use crate::validation::pod::containers;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_MATCH: &str = "a null labelSelector results in matching no pod";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SECCOMP_TEXT: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Labels of nodes that have a newer name, or none.
const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
pub(super) const VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A new pod. Changes of pods are made by machines: nobody would read about them.
pub(crate) fn pod(pod: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if old.is_none() {
        host_name(pod, "the Pod's hostname", warnings);
        Template { path: Path::new(""), is_pod: true, pod }.collect(warnings);
    }
}

/// A new deployment, or one whose generation rises.
pub(crate) fn deployment(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    workload(object, old, warnings);
}

/// A new replica set, or one whose generation rises.
pub(crate) fn replica_set(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    workload(object, old, warnings);
}

fn workload(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if old.is_none() {
        host_name(object, "Pod names and hostnames", warnings);
    }
    if rises(object, old) {
        let pod = tree::at(object, &["spec", "template"]);
        template(pod, Path::new("spec.template"), warnings);
    }
}

/// Whether the object is new, or its generation another one.
pub(super) fn rises(object: &Value, old: Option<&Value>) -> bool {
    let generation = |object| tree::int(tree::get(object, "metadata"), "generation");
    old.is_none_or(|old| generation(object) != generation(old))
}

/// The template of a workload's pods.
pub(super) fn template(template: &Value, path: Path<'_>, warnings: &mut Warnings) {
    Template { path, is_pod: false, pod: template }.collect(warnings);
}

/// A pod, or the template of some.
struct Template<'a> {
    path: Path<'a>,
    is_pod: bool,
    pod: &'a Value,
}

impl Template<'_> {
    fn collect(&self, warnings: &mut Warnings) {
        let spec = tree::get(self.pod, "spec");
        let path = self.path.child("spec");
        node_labels(spec, &path, warnings);
        for (i, constraint) in tree::list(spec, "topologySpreadConstraints").iter().enumerate() {
            let list = path.child("topologySpreadConstraints");
            let path = list.index(i);
            let key = tree::text(constraint, "topologyKey");
            if let Some(why) = deprecated_label(key) {
                warnings.push(format!("{}: {key} is {why}", path.child("topologyKey")));
            }
            if !tree::has(constraint, "labelSelector") {
                warnings.push(format!("{}: {NO_MATCH}", path.child("labelSelector")));
            }
        }
        self.annotations(warnings);
        volumes(spec, &path, warnings);
        token_paths(spec, &path, warnings);
        overlapping_paths(spec, warnings);
        repeated(spec, "hostAliases", "ip", &path, warnings);
        repeated(spec, "imagePullSecrets", "name", &path, warnings);
        let list = path.child("imagePullSecrets");
        for (i, secret) in tree::list(spec, "imagePullSecrets").iter().enumerate() {
            if tree::text(secret, "name").is_empty() {
                let path = list.index(i);
                warnings.push(format!("{}: invalid empty name \"\"", path.child("name")));
            }
        }
        fractions(tree::get(spec, "overhead"), &path.child("overhead"), warnings);
        self.profiles(warnings);
        for (list, i, container) in containers(spec) {
            let list = path.child(list);
            let path = list.index(i);
            let resources = path.child("resources");
            for name in ["limits", "requests"] {
                let amounts = tree::at(container, &["resources", name]);
                fractions(amounts, &resources.child(name), warnings);
            }
            hidden_variables(container, &path, warnings);
        }
        ports(spec, &path, warnings);
        if tree::int(spec, "terminationGracePeriodSeconds") < 0 {
            warnings.push(format!(
                "{}: must be >= 0; negative values are invalid and will be treated as 1",
                path.child("terminationGracePeriodSeconds")
            ));
        }
        pod_affinity(spec, &path, warnings);
        addresses(spec, &path, warnings);
    }

    fn annotations(&self, warnings: &mut Warnings) {
        let metadata = self.path.child("metadata");
        let path = metadata.child("annotations");
        let annotations = tree::at(self.pod, &["metadata", "annotations"]);
        for (key, why) in ANNOTATIONS {
            if tree::has(annotations, key) {
                warnings.push(format!("{}: {why}", path.key(key)));
            }
        }
    }

    /// Annotations for what has long had a field.
    fn profiles(&self, warnings: &mut Warnings) {
        let metadata = self.path.child("metadata");
        let path = metadata.child("annotations");
        let annotations = tree::at(self.pod, &["metadata", "annotations"]);
        let spec = tree::get(self.pod, "spec");
        let of_pod = tree::get(spec, "securityContext");
        if tree::has(annotations, SECCOMP_POD) && !tree::has(of_pod, "seccompProfile") {
            warnings.push(format!("{}: {SECCOMP_TEXT}", path.key(SECCOMP_POD)));
        }
        for (_, _, container) in containers(spec) {
            let name = tree::text(container, "name");
            let own = tree::get(container, "securityContext");
            let key = format!("{SECCOMP_CONTAINER}{name}");
            if tree::has(annotations, &key) && !tree::has(own, "seccompProfile") {
                warnings.push(format!("{}: {SECCOMP_TEXT}", path.key(&key)));
            }
            let key = format!("{APPARMOR}{name}");
            let field = tree::has(of_pod, "appArmorProfile") || tree::has(own, "appArmorProfile");
            if !self.is_pod && !field && tree::has(annotations, &key) {
                let path = path.key(&key);
                warnings.push(format!(
                    "{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
                ));
            }
        }
    }
}

fn deprecated_label(key: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(name, _)| *name == key).map(|(_, why)| *why)
}

fn node_labels(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let selector = path.child("nodeSelector");
    for (key, _) in tree::entries(spec, "nodeSelector") {
        if let Some(why) = deprecated_label(key) {
            warnings.push(format!("{}: {why}", selector.key(key)));
        }
    }
    let affinity = tree::at(spec, &["affinity", "nodeAffinity"]);
    let path = path.child("affinity.nodeAffinity");
    let required = path.child(REQUIRED);
    let list = required.child("nodeSelectorTerms");
    let terms = tree::list(tree::get(affinity, REQUIRED), "nodeSelectorTerms");
    for (i, term) in terms.iter().enumerate() {
        node_term(term, false, &list.index(i), warnings);
    }
    let list = path.child(PREFERRED);
    for (i, term) in tree::list(affinity, PREFERRED).iter().enumerate() {
        let path = list.index(i);
        node_term(tree::get(term, "preference"), true, &path.child("preference"), warnings);
    }
}

/// Values are only looked at where validation does not refuse them.
pub(super) fn node_term(term: &Value, values: bool, path: &Path<'_>, warnings: &mut Warnings) {
    let list = path.child("matchExpressions");
    for (i, expression) in tree::list(term, "matchExpressions").iter().enumerate() {
        let path = list.index(i);
        let key = tree::text(expression, "key");
        if let Some(why) = deprecated_label(key) {
            warnings.push(format!("{}: {key} is {why}", path.child("key")));
        }
        let list = path.child("values");
        for (j, value) in tree::texts(expression, "values").enumerate().filter(|_| values) {
            for problem in names::label_value(value) {
                warnings.push(format!("{}: {value} is invalid, {problem}", list.index(j)));
            }
        }
    }
}

fn volumes(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let list = path.child("volumes");
    for (i, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let path = list.index(i);
        for (name, why) in VOLUMES {
            let field = if name == "storageOS" { "storageos" } else { name };
            if tree::has(volume, field) {
                warnings.push(format!("{}: {why}", path.child(name)));
            }
        }
    }
}

/// Files of projected volumes that a service account token also writes.
fn token_paths(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let volumes = tree::list(spec, "volumes");
    let sources = |volume| tree::list(tree::get(volume, "projected"), "sources").iter();
    let tokens: Vec<&str> = volumes
        .iter()
        .flat_map(sources)
        .filter(|source| tree::has(source, "serviceAccountToken"))
        .map(|source| tree::text(tree::get(source, "serviceAccountToken"), "path"))
        .collect();
    let list = path.child("volumes");
    for (i, volume) in volumes.iter().enumerate() {
        let path = list.index(i);
        let path = path.child("projected.sources");
        for source in sources(volume) {
            for (field, shown) in
                [("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")]
            {
                let items = tree::list(tree::get(source, field), "items");
                let path = path.child(shown);
                for (j, item) in items.iter().enumerate() {
                    token_path(tree::text(item, "path"), &tokens, &path.index(j), warnings);
                }
            }
            let bundle = tree::get(source, "clusterTrustBundle");
            if !bundle.is_null() {
                let path = path.child("ClusterTrustBundle");
                token_path(tree::text(bundle, "path"), &tokens, &path, warnings);
            }
        }
    }
}

fn token_path(file: &str, tokens: &[&str], path: &Path<'_>, warnings: &mut Warnings) {
    if tokens.contains(&file) {
        let file = quote(file);
        warnings.push(format!("{path}: has duplicated path with ServiceAccountToken {file}"));
    }
}

/// Files of one volume of which one hides another.
fn overlapping_paths(spec: &Value, warnings: &mut Warnings) {
    for volume in tree::list(spec, "volumes") {
        let name = quote(tree::text(volume, "name"));
        for (field, shown, reference) in [
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let source = tree::get(volume, field);
            let what = shown_source(shown, source, reference);
            let text = format!("volume {name} ({what}): overlapping paths");
            overlaps(&paths_of(source), &text, warnings);
        }
        let mut all: BTreeSet<&str> = BTreeSet::new();
        for source in tree::list(tree::get(volume, "projected"), "sources") {
            let found = [
                ("configMap", "ConfigMap", "name"),
                ("secret", "Secret", "name"),
                ("downwardAPI", "DownwardAPI", ""),
                ("serviceAccountToken", "ServiceAccountToken", ""),
                ("clusterTrustBundle", "ClusterTrustBundle", "name"),
            ]
            .into_iter()
            .find(|(field, _, _)| tree::has(source, field));
            let Some((field, shown, reference)) = found else {
                if tree::is_empty(source) {
                    warnings.push(format!("volume {name} (Projected) has no sources provided"));
                }
                continue;
            };
            let source = tree::get(source, field);
            let reference = match (field, tree::has(source, "name")) {
                ("clusterTrustBundle", false) => "signerName",
                _ => reference,
            };
            let what = shown_source(shown, source, reference);
            let text = format!("volume {name} (Projected {what}): overlapping paths");
            let own = paths_of(source);
            overlaps(&own, &text, warnings);
            let before = all.clone();
            all.extend(own.iter().copied());
            // Those of this source were compared with one another just now.
            let mut both: Vec<&str> = own.into_iter().chain(before).collect();
            both.sort_unstable();
            overlaps(&both, &text, warnings);
        }
    }
}

fn shown_source(shown: &str, source: &Value, reference: &str) -> String {
    if reference.is_empty() {
        return shown.to_owned();
    }
    format!("{shown} {}", quote(tree::text(source, reference)))
}

fn paths_of(source: &Value) -> Vec<&str> {
    let items = tree::list(source, "items").iter().map(|item| tree::text(item, "path"));
    tree::text_opt(source, "path").into_iter().chain(items).collect()
}

fn overlaps(paths: &[&str], text: &str, warnings: &mut Warnings) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for path in paths {
        let path = path.trim_end_matches('/');
        let other = seen.iter().find(|other| {
            let other = **other;
            !other.is_empty()
                && !path.is_empty()
                && (format!("{other}/").starts_with(path) || format!("{path}/").starts_with(other))
        });
        if let Some(other) = other {
            let warning = format!("{text}: {} with {}", quote(path), quote(other));
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        seen.insert(path);
    }
}

fn repeated(spec: &Value, list: &str, field: &str, path: &Path<'_>, warnings: &mut Warnings) {
    let items = tree::list(spec, list);
    let path = path.child(list);
    for (i, item) in items.iter().enumerate() {
        let value = tree::text(item, field);
        if items[..i].iter().any(|other| tree::text(other, field) == value) {
            let path = path.index(i);
            warnings.push(format!("{}: duplicate {field} {}", path.child(field), quote(value)));
        }
    }
}

/// Bytes come in whole ones.
fn fractions(amounts: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    for name in ["memory", "ephemeral-storage"] {
        let amount = tree::get(amounts, name);
        if let Ok(quantity) = Quantity::from_json(amount)
            && !amount.is_null()
            && !quantity.is_whole()
        {
            warnings.push(format!(
                "{}: fractional byte value {} is invalid, must be an integer",
                path.key(name),
                quote(&quantity.to_string())
            ));
        }
    }
}

/// A variable that is set twice, unless the second value is made from the first.
fn hidden_variables(container: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let variables = tree::list(container, "env");
    let path = path.child("env");
    for (i, variable) in variables.iter().enumerate() {
        let name = tree::text(variable, "name");
        if !variables[..i].iter().any(|other| tree::text(other, "name") == name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = tree::text(variable, "value");
        if tree::has(variable, "valueFrom") || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(i),
                quote(name)
            ));
        }
    }
}

/// A port of a container, with the text of its path.
struct Port<'a> {
    path: String,
    number: i64,
    protocol: &'a str,
    host_port: i64,
    host_ip: &'a str,
}

fn ports(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let mut all: Vec<Port<'_>> = Vec::new();
    for (list, i, container) in containers(spec) {
        let list = path.child(list);
        let item = list.index(i);
        let list = item.child("ports");
        for (j, port) in tree::list(container, "ports").iter().enumerate() {
            let port_name = tree::text(port, "name");
            let port = Port {
                path: list.index(j).to_string(),
                number: tree::int(port, "containerPort"),
                protocol: tree::text(port, "protocol"),
                host_port: tree::int(port, "hostPort"),
                host_ip: tree::text(port, "hostIP"),
            };
            if !port.host_ip.is_empty() && port.host_port == 0 {
                warnings.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{port_name} HostPort:0 \
                     ContainerPort:{} Protocol:{} HostIP:{}}}",
                    port.path, port.number, port.protocol, port.host_ip
                ));
            }
            for other in &all {
                if let Some(how) = collision(&port, other) {
                    let text = format!("{}: {how} port definition with {}", port.path, other.path);
                    warnings.push(text);
                }
            }
            all.push(port);
        }
    }
}

fn collision(port: &Port<'_>, other: &Port<'_>) -> Option<&'static str> {
    if (port.number, port.protocol) != (other.number, other.protocol) {
        return None;
    }
    if port.host_ip == other.host_ip && port.host_port == other.host_port {
        return Some("duplicate");
    }
    if port.host_port == 0 || other.host_port == 0 {
        return Some("overlapping");
    }
    let one_is_open = port.host_ip.is_empty() != other.host_ip.is_empty();
    (port.host_port == other.host_port && one_is_open).then_some("dangerously ambiguous")
}

fn pod_affinity(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let path = path.child("affinity");
    for name in ["podAffinity", "podAntiAffinity"] {
        let affinity = tree::at(spec, &["affinity", name]);
        let path = path.child(name);
        for (list, inner) in [(REQUIRED, ""), (PREFERRED, "podAffinityTerm")] {
            let path = path.child(list);
            for (i, term) in tree::list(affinity, list).iter().enumerate() {
                let item = path.index(i);
                let term = if inner.is_empty() { term } else { tree::get(term, inner) };
                if !tree::has(term, "labelSelector") {
                    let path = item.child(inner);
                    warnings.push(format!("{}: {NO_MATCH}", path.child("labelSelector")));
                }
            }
        }
    }
}

fn addresses(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let servers = path.child("dnsConfig.nameservers");
    for (i, server) in tree::texts(tree::get(spec, "dnsConfig"), "nameservers").enumerate() {
        address::ip(server, &servers.index(i), warnings);
    }
    let aliases = path.child("hostAliases");
    for (i, alias) in tree::list(spec, "hostAliases").iter().enumerate() {
        let path = aliases.index(i);
        address::ip(tree::text(alias, "ip"), &path.child("ip"), warnings);
    }
}
