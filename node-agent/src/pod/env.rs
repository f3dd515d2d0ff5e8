//! Environment, command and arguments: `$(VAR)` expansion, `envFrom`, `valueFrom`, service variables. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, Pod, ResourceFieldSelector, Secret, Service,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{resources, spec};

/// What a container's environment refers to.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) config_map: &'a dyn Fn(&str) -> Option<std::sync::Arc<ConfigMap>>,
    pub(crate) secret: &'a dyn Fn(&str) -> Option<std::sync::Arc<Secret>>,
    /// Services of the pod's namespace, and `kubernetes` of `default`.
    pub(crate) services: &'a [std::sync::Arc<Service>],
    pub(crate) pod_ips: &'a [IpAddr],
    pub(crate) host_ips: &'a [String],
    /// Allocatable of the node in thousandths of CPU, bytes of memory and of storage.
    pub(crate) allocatable: (i64, i64, i64),
}

/// Why a container's environment cannot be made: `CreateContainerConfigError` with this message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// `$(NAME)` becomes its value, `$$` a dollar; an unknown name stays as written.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, tail)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[at..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The container's variables, in order, each once.
pub(crate) fn variables(
    container: &Container,
    sources: &Sources<'_>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut result: Vec<(String, String)> = Vec::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        for (key, value) in env_from(source, sources)? {
            let name = format!("{prefix}{key}");
            known.insert(name.clone(), value.clone());
            put(&mut result, name, value);
        }
    }
    let services = service_variables(sources);
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(from)) if variable.value.as_deref().unwrap_or("").is_empty() => {
                match value_from(from, container, sources)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            (Some(text), _) => {
                expand(text, &|name| known.get(name).or_else(|| services.get(name)).cloned())
            }
            (None, _) => String::new(),
        };
        known.insert(variable.name.clone(), value.clone());
        put(&mut result, variable.name.clone(), value);
    }
    // The pod's own words win over service variables.
    for (name, value) in services {
        if !known.contains_key(&name) {
            result.push((name, value));
        }
    }
    Ok(result)
}

fn put(list: &mut Vec<(String, String)>, name: String, value: String) {
    match list.iter_mut().find(|(old, _)| *old == name) {
        Some(old) => old.1 = value,
        None => list.push((name, value)),
    }
}

fn env_from(
    source: &k8s_openapi::api::core::v1::EnvFromSource,
    sources: &Sources<'_>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let valid = |key: &String| !key.is_empty() && !key.contains('=');
    if let Some(reference) = &source.config_map_ref {
        let Some(map) = (sources.config_map)(&reference.name) else {
            return missing("configmap", &reference.name, reference.optional);
        };
        let data = map.data.clone().unwrap_or_default();
        return Ok(data.into_iter().filter(|(key, _)| valid(key)).collect());
    }
    if let Some(reference) = &source.secret_ref {
        let Some(secret) = (sources.secret)(&reference.name) else {
            return missing("secret", &reference.name, reference.optional);
        };
        let data = secret.data.clone().unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let pairs = data.into_iter().filter(|(key, _)| valid(key));
        return Ok(pairs.map(|(key, value)| (key, text(value.0))).collect());
    }
    Ok(Vec::new())
}

fn missing<T: Default>(kind: &str, name: &str, optional: Option<bool>) -> Result<T, ConfigError> {
    if optional == Some(true) {
        return Ok(T::default());
    }
    Err(ConfigError(format!("{kind} \"{name}\" not found")))
}

fn value_from(
    from: &EnvVarSource,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<Option<String>, ConfigError> {
    let namespace = spec::namespace(sources.pod);
    if let Some(field) = &from.field_ref {
        let value = pod_field(&field.field_path, sources);
        return value
            .map(Some)
            .ok_or_else(|| ConfigError(format!("unsupported fieldPath: {}", field.field_path)));
    }
    if let Some(field) = &from.resource_field_ref {
        return resource_field(field, container, sources).map(Some);
    }
    if let Some(selector) = &from.config_map_key_ref {
        let Some(map) = (sources.config_map)(&selector.name) else {
            return missing("configmap", &selector.name, selector.optional);
        };
        let value = map.data.as_ref().and_then(|data| data.get(&selector.key)).cloned();
        if value.is_none() && selector.optional != Some(true) {
            let (key, name) = (&selector.key, &selector.name);
            let text = format!("couldn't find key {key} in ConfigMap {namespace}/{name}");
            return Err(ConfigError(text));
        }
        return Ok(value);
    }
    if let Some(selector) = &from.secret_key_ref {
        let Some(secret) = (sources.secret)(&selector.name) else {
            return missing("secret", &selector.name, selector.optional);
        };
        let value = secret.data.as_ref().and_then(|data| data.get(&selector.key));
        if value.is_none() && selector.optional != Some(true) {
            let (key, name) = (&selector.key, &selector.name);
            let text = format!("couldn't find key {key} in Secret {namespace}/{name}");
            return Err(ConfigError(text));
        }
        return Ok(value.map(|value| String::from_utf8_lossy(&value.0).into_owned()));
    }
    Ok(Some(String::new()))
}

/// A `fieldRef` of an environment variable or a downward API volume.
pub(crate) fn pod_field(path: &str, sources: &Sources<'_>) -> Option<String> {
    let pod = sources.pod;
    let pod_spec = spec::spec(pod);
    let ips = || -> Vec<String> {
        if spec::host_network(pod) {
            sources.host_ips.to_vec()
        } else {
            sources.pod_ips.iter().map(ToString::to_string).collect()
        }
    };
    let text = |text: Option<&String>| Some(text.cloned().unwrap_or_default());
    match path {
        "metadata.name" => Some(spec::name(pod).to_owned()),
        "metadata.namespace" => Some(spec::namespace(pod).to_owned()),
        "metadata.uid" => Some(spec::uid(pod).to_owned()),
        "metadata.labels" => Some(format_map(pod.metadata.labels.as_ref())),
        "metadata.annotations" => Some(format_map(pod.metadata.annotations.as_ref())),
        "spec.nodeName" => text(pod_spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => {
            text(pod_spec.and_then(|spec| spec.service_account_name.as_ref()))
        }
        "status.hostIP" => text(sources.host_ips.first()),
        "status.hostIPs" => Some(sources.host_ips.join(",")),
        "status.podIP" => Some(ips().into_iter().next().unwrap_or_default()),
        "status.podIPs" => Some(ips().join(",")),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => pod.metadata.labels.as_ref(),
                "metadata.annotations" => pod.metadata.annotations.as_ref(),
                _ => return None,
            };
            text(map.and_then(|map| map.get(key)))
        }
    }
}

/// `key="value"` lines, sorted.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    lines.join("\n")
}

/// A string as Go's `%q` writes it, for the characters labels and annotations have.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A `resourceFieldRef`; a limit that is not set is the node's allocatable.
pub(crate) fn resource_field(
    field: &ResourceFieldSelector,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<String, ConfigError> {
    let named = field.container_name.as_ref().filter(|name| !name.is_empty());
    let found = named.and_then(|name| spec::find_container(sources.pod, name));
    let container = found.as_ref().unwrap_or(container);
    let wanted = container.resources.clone().unwrap_or_default();
    let unsupported =
        || ConfigError(format!("unsupported container resource : {}", field.resource));
    let (kind, name) = field.resource.split_once('.').ok_or_else(unsupported)?;
    let list = match kind {
        "limits" => wanted.limits,
        "requests" => wanted.requests,
        _ => return Err(unsupported()),
    };
    let quantity = list.and_then(|list| list.get(name).cloned());
    let is_cpu = name == "cpu";
    let default = match (kind, name) {
        ("limits", "cpu") => sources.allocatable.0,
        ("limits", "memory") => sources.allocatable.1,
        ("limits", "ephemeral-storage") => sources.allocatable.2,
        _ => 0,
    };
    let amount = match &quantity {
        Some(quantity) if is_cpu => resources::milli(quantity),
        Some(quantity) => resources::value(quantity),
        None => default,
    };
    let divisor = field.divisor.as_ref();
    let divisor = match divisor {
        Some(divisor) if is_cpu => resources::milli(divisor),
        Some(divisor) => resources::value(divisor),
        None => 0,
    };
    let divisor = if divisor > 0 {
        divisor
    } else if is_cpu {
        1000
    } else {
        1
    };
    Ok((amount.saturating_add(divisor - 1) / divisor).to_string())
}

/// `REDIS_SERVICE_HOST` and the Docker-style variables of each service with a cluster IP.
fn service_variables(sources: &Sources<'_>) -> BTreeMap<String, String> {
    let links = spec::spec(sources.pod).and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let mut variables = BTreeMap::new();
    for service in sources.services {
        let name = service.metadata.name.clone().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let is_master = namespace == "default" && name == "kubernetes";
        let ours = namespace == spec::namespace(sources.pod) && links;
        let Some(spec) = &service.spec else { continue };
        let ip = spec.cluster_ip.clone().unwrap_or_default();
        if !(is_master || ours) || ip.is_empty() || ip == "None" {
            continue;
        }
        let prefix = name.to_uppercase().replace('-', "_");
        variables.insert(format!("{prefix}_SERVICE_HOST"), ip.clone());
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let number = port.port.to_string();
            if index == 0 {
                variables.insert(format!("{prefix}_SERVICE_PORT"), number.clone());
            }
            if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
                let name = name.to_uppercase().replace('-', "_");
                variables.insert(format!("{prefix}_SERVICE_PORT_{name}"), number.clone());
            }
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let url = format!("{}://{host}:{number}", protocol.to_lowercase());
            if index == 0 {
                variables.insert(format!("{prefix}_PORT"), url.clone());
            }
            let stem = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            variables.insert(stem.clone(), url);
            variables.insert(format!("{stem}_PROTO"), protocol.to_lowercase());
            variables.insert(format!("{stem}_PORT"), number);
            variables.insert(format!("{stem}_ADDR"), ip.clone());
        }
    }
    variables
}

/// A port of the container by number or name.
pub(crate) fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, ConfigError> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    number.ok_or_else(|| match port {
        IntOrString::Int(number) => ConfigError(format!("invalid port number: {number}")),
        IntOrString::String(name) => ConfigError(format!("port {name} not found")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn dollars_expand_as_in_kubernetes() {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(EMPTY)|", "|"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("é$(A)é", "é1é"),
            ("$$", "$"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    #[test]
    #[allow(clippy::too_many_lines)] // one table
    fn a_container_gets_its_environment() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x\"y"}},
            "spec": {"nodeName": "n1", "containers": [{
                "name": "c",
                "resources": {"limits": {"cpu": "1500m"}},
                "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "map"}}],
                "env": [
                    {"name": "ONE", "value": "1"},
                    {"name": "TWO", "value": "$(ONE)$(CM_key)$(LATER)"},
                    {"name": "LATER", "value": "3"},
                    {"name": "HOST", "value": "$(WEB_SERVICE_HOST):$(WEB_SERVICE_PORT)"},
                    {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "LABELS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x", "optional": true}}}
                ]
            }]}
        }))
        .unwrap();
        let map: ConfigMap =
            serde_json::from_value(serde_json::json!({"data": {"key": "v"}})).unwrap();
        let secret: Secret =
            serde_json::from_value(serde_json::json!({"data": {"k": "c2hoaA=="}})).unwrap();
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 80, "name": "http"}]}
        }))
        .unwrap();
        let (map, secret) = (Arc::new(map), Arc::new(secret));
        let sources = Sources {
            pod: &pod,
            config_map: &|name| (name == "map").then(|| map.clone()),
            secret: &|name| (name == "s").then(|| secret.clone()),
            services: &[Arc::new(service)],
            pod_ips: &["10.1.2.3".parse().unwrap()],
            host_ips: &["192.168.0.1".to_owned()],
            allocatable: (4000, 1 << 30, 0),
        };
        let container = spec::containers(&pod)[0].clone();
        let got: BTreeMap<_, _> = variables(&container, &sources).unwrap().into_iter().collect();
        for (name, value) in [
            ("CM_key", "v"),
            ("TWO", "1v$(LATER)"),
            ("HOST", "10.0.0.9:80"),
            ("LABEL", "x\"y"),
            ("LABELS", "app=\"x\\\"y\""),
            ("IP", "10.1.2.3"),
            ("CPU", "2"),
            ("MEM", "1024"),
            ("SECRET", "shhh"),
            ("WEB_PORT_80_TCP_ADDR", "10.0.0.9"),
            ("WEB_SERVICE_PORT_HTTP", "80"),
            ("WEB_PORT", "tcp://10.0.0.9:80"),
        ] {
            assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!got.contains_key("NONE"));
        let error = |env: serde_json::Value| {
            let container =
                serde_json::from_value(serde_json::json!({"name": "c", "env": [env]})).unwrap();
            variables(&container, &sources).unwrap_err().0
        };
        assert_eq!(
            error(
                serde_json::json!({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}})
            ),
            "configmap \"no\" not found"
        );
        assert_eq!(
            error(
                serde_json::json!({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}})
            ),
            "couldn't find key k in ConfigMap ns/map"
        );
    }
}
