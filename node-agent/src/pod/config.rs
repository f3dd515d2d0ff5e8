//! From a pod's text to what a runtime is told. Pure but for nothing: paths are names here.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext as ApiContext,
};

use super::env::{ConfigError, Sources, expand, variables};
use super::{resources, spec};
use crate::labels;
use crate::paths::{Paths, container_log};
use crate::runtime::{
    ContainerConfig, ContainerId, DnsConfig, Image, Mount, NamespaceMode, NamespaceModes,
    PodSandboxConfig, PortMapping, Protocol, SandboxMetadata, SecurityContext, SecurityProfile,
    SelinuxOptions,
};

const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The kubelet's limits of `resolv.conf`.
const DNS_SERVERS_MAX: usize = 3;
const DNS_SEARCHES_MAX: usize = 32;
const HOSTNAME_LENGTH_MAX: usize = 63;

/// What the node adds to a pod.
pub(crate) struct NodeFacts<'a> {
    pub(crate) node_name: &'a str,
    pub(crate) paths: &'a Paths,
    pub(crate) cluster_domain: &'a str,
    pub(crate) cluster_dns: &'a [String],
    /// The host's own resolver configuration.
    pub(crate) host_dns: &'a DnsConfig,
    pub(crate) memory_bytes: i64,
}

/// The pod's host name: its own wish, else its name, cut to what the kernel takes.
pub(crate) fn hostname(pod: &Pod) -> String {
    if let Some(own) = hostname_override(pod) {
        return own.to_owned();
    }
    let wish = spec::spec(pod).and_then(|spec| spec.hostname.clone()).filter(|h| !h.is_empty());
    let mut name = wish.unwrap_or_else(|| spec::name(pod).to_owned());
    name.truncate(HOSTNAME_LENGTH_MAX);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// `hostnameOverride` counts for everything inside the pod, and knows no domain.
fn hostname_override(pod: &Pod) -> Option<&str> {
    spec::spec(pod)?.hostname_override.as_deref().filter(|name| !name.is_empty())
}

/// The pod's fully qualified name, when it has a subdomain.
pub(crate) fn fqdn(pod: &Pod, cluster_domain: &str) -> Option<String> {
    if hostname_override(pod).is_some() {
        return None;
    }
    let subdomain = spec::spec(pod)?.subdomain.as_ref().filter(|name| !name.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{cluster_domain}", hostname(pod), spec::namespace(pod)))
}

/// The sandbox.
pub(crate) fn sandbox(pod: &Pod, attempt: u32, node: &NodeFacts<'_>) -> PodSandboxConfig {
    let (namespace, name, uid) = (spec::namespace(pod), spec::name(pod), spec::uid(pod));
    let host_network = spec::host_network(pod);
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend([
        (labels::POD_NAME.to_owned(), name.to_owned()),
        (labels::POD_NAMESPACE.to_owned(), namespace.to_owned()),
        (labels::POD_UID.to_owned(), uid.to_owned()),
        (labels::NODE.to_owned(), node.node_name.to_owned()),
    ]);
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let grace = spec::grace_period(pod).as_secs().to_string();
    annotations.insert(labels::GRACE_PERIOD.to_owned(), grace);
    let context = spec::spec(pod).and_then(|spec| spec.security_context.clone());
    let context = context.unwrap_or_default();
    let fqdn = spec::spec(pod).and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    let fqdn = fqdn.then(|| self::fqdn(pod, node.cluster_domain)).flatten();
    PodSandboxConfig {
        metadata: SandboxMetadata {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
            attempt,
        },
        hostname: if host_network { String::new() } else { fqdn.unwrap_or_else(|| hostname(pod)) },
        log_directory: node.paths.pod_logs(namespace, name, uid),
        dns: dns(pod, node),
        port_mappings: if host_network { Vec::new() } else { port_mappings(pod) },
        labels,
        annotations,
        runtime_handler: String::new(),
        cgroup_parent: String::new(),
        sysctls: context
            .sysctls
            .iter()
            .flatten()
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        security: SecurityContext {
            namespaces: namespaces(pod),
            privileged: any_privileged(pod),
            run_as_user: context.run_as_user,
            run_as_group: context.run_as_group,
            supplemental_groups: groups(&context),
            seccomp: SecurityProfile::RuntimeDefault,
            apparmor: SecurityProfile::RuntimeDefault,
            ..SecurityContext::default()
        },
        resources: resources::pod(pod),
    }
}

fn any_privileged(pod: &Pod) -> bool {
    let all = spec::init_containers(pod).iter().chain(spec::containers(pod));
    all.into_iter().any(|container| {
        container.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
    })
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let ports = spec::containers(pod).iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let number = |port: i32| u16::try_from(port).unwrap_or(0);
    ports
        .filter(|port| port.host_port.is_some_and(|host| host > 0))
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            },
            container_port: number(port.container_port),
            host_port: number(port.host_port.unwrap_or(0)),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn namespaces(pod: &Pod) -> NamespaceModes {
    let Some(spec) = spec::spec(pod) else { return NamespaceModes::default() };
    let node = |wanted: Option<bool>, other| {
        if wanted == Some(true) { NamespaceMode::Node } else { other }
    };
    let shared = spec.share_process_namespace == Some(true);
    let own = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceModes {
        network: node(spec.host_network, NamespaceMode::Pod),
        pid: node(spec.host_pid, own),
        ipc: node(spec.host_ipc, NamespaceMode::Pod),
    }
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut groups: Vec<i64> = context.fs_group.into_iter().collect();
    groups.extend(context.supplemental_groups.iter().flatten());
    groups
}

/// `/etc/resolv.conf` by `dnsPolicy` and `dnsConfig`.
fn dns(pod: &Pod, node: &NodeFacts<'_>) -> DnsConfig {
    let pod_spec = spec::spec(pod);
    let policy = pod_spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !spec::host_network(pod),
        _ => false,
    };
    let mut dns = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !node.cluster_dns.is_empty() {
        let (namespace, domain) = (spec::namespace(pod), node.cluster_domain);
        let mut searches =
            vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        searches.extend(node.host_dns.searches.iter().cloned());
        DnsConfig {
            servers: node.cluster_dns.to_vec(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        node.host_dns.clone()
    };
    if let Some(own) = pod_spec.and_then(|spec| spec.dns_config.as_ref()) {
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let value = option.value.as_ref().map(|value| format!(":{value}")).unwrap_or_default();
            dns.options.retain(|old| old.split(':').next() != Some(name));
            dns.options.push(format!("{name}{value}"));
        }
    }
    for list in [&mut dns.servers, &mut dns.searches] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    dns.servers.truncate(DNS_SERVERS_MAX);
    dns.searches.truncate(DNS_SEARCHES_MAX);
    dns
}

/// The host's `resolv.conf`, as data.
pub(crate) fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search") => dns.searches = words.map(str::to_owned).collect(),
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    dns
}

/// The pod's `/etc/hosts`.
pub(crate) fn etc_hosts(pod: &Pod, ips: &[String], domain: &str, host_file: &str) -> String {
    let mut text = if spec::host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in ips {
            let name = hostname(pod);
            match fqdn(pod, domain) {
                Some(full) => text.push_str(&format!("{ip}\t{full}\t{name}\n")),
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
        text
    };
    let aliases = spec::spec(pod).and_then(|spec| spec.host_aliases.as_deref()).unwrap_or(&[]);
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// Everything one container is made from.
pub(crate) struct ContainerInputs<'a> {
    pub(crate) container: &'a Container,
    pub(crate) attempt: u32,
    pub(crate) image: &'a Image,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) sources: &'a Sources<'a>,
    pub(crate) node: &'a NodeFacts<'a>,
    /// The container whose processes an ephemeral one sees.
    pub(crate) pid_target: Option<ContainerId>,
}

/// The container.
pub(crate) fn container(inputs: ContainerInputs<'_>) -> Result<ContainerConfig, ConfigError> {
    let (pod, container) = (inputs.sources.pod, inputs.container);
    let env = variables(container, inputs.sources)?;
    let lookup = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
    let expand_all = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, &lookup)).collect()
    };
    let uid = spec::uid(pod);
    let termination = inputs.node.paths.termination_log(uid, &container.name, inputs.attempt);
    let policy = container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned());
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: inputs.attempt,
        image: inputs.image.id.clone(),
        user_image: container.image.clone().unwrap_or_default(),
        command: expand_all(&container.command),
        args: expand_all(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: inputs.mounts,
        devices: Vec::new(),
        labels: BTreeMap::from(
            [
                (labels::POD_NAME, spec::name(pod)),
                (labels::POD_NAMESPACE, spec::namespace(pod)),
                (labels::POD_UID, uid),
                (labels::CONTAINER_NAME, &container.name),
                (labels::NODE, inputs.node.node_name),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        ),
        annotations: BTreeMap::from([
            (labels::RESTART_COUNT.to_owned(), inputs.attempt.to_string()),
            (labels::TERMINATION_LOG.to_owned(), termination.to_string_lossy().into_owned()),
            (labels::TERMINATION_POLICY.to_owned(), policy),
            (labels::IMAGE.to_owned(), container.image.clone().unwrap_or_default()),
            (labels::RESOURCES.to_owned(), resources::fingerprint(container)),
        ]),
        log_path: container_log(&container.name, inputs.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        resources: resources::container(pod, container, inputs.node.memory_bytes),
        security: SecurityContext {
            pid_target: inputs.pid_target,
            ..security(pod, container, inputs.image, inputs.node.paths)?
        },
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.stop_signal.clone())
            .unwrap_or_default(),
        env,
    })
}

fn security(
    pod: &Pod,
    container: &Container,
    image: &Image,
    paths: &Paths,
) -> Result<SecurityContext, ConfigError> {
    let of_pod = spec::spec(pod).and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    if spec::spec(pod).and_then(|spec| spec.host_users) == Some(false) {
        let why = "user namespaces (hostUsers: false) are not supported by this node";
        return Err(ConfigError(why.to_owned()));
    }
    let asked = own.run_as_user.or(of_pod.run_as_user);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        check_non_root(pod, container, image, asked)?;
    }
    let privileged = own.privileged == Some(true);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths_of = |list: &[&str]| -> Vec<String> {
        if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() }
    };
    let by_name = asked.is_none() && image.uid.is_none();
    let (add, drop) = capabilities(own.capabilities.as_ref());
    let selinux = own.se_linux_options.clone().or_else(|| of_pod.se_linux_options.clone());
    Ok(SecurityContext {
        privileged,
        run_as_user: asked.or(image.uid),
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        run_as_username: if by_name { image.username.clone() } else { String::new() },
        supplemental_groups: groups(&of_pod),
        strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        add_capabilities: add,
        drop_capabilities: drop,
        namespaces: namespaces(pod),
        masked_paths: paths_of(&MASKED_PATHS),
        readonly_paths: paths_of(&READONLY_PATHS),
        seccomp: seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), paths),
        apparmor: apparmor(&own, &of_pod),
        pid_target: None,
        selinux: selinux.map(|options| SelinuxOptions {
            user: options.user.unwrap_or_default(),
            role: options.role.unwrap_or_default(),
            type_: options.type_.unwrap_or_default(),
            level: options.level.unwrap_or_default(),
        }),
    })
}

fn capabilities(capabilities: Option<&Capabilities>) -> (Vec<String>, Vec<String>) {
    let Some(capabilities) = capabilities else { return (Vec::new(), Vec::new()) };
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    (list(&capabilities.add), list(&capabilities.drop))
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    image: &Image,
    asked: Option<i64>,
) -> Result<(), ConfigError> {
    let whose = format!("(pod: \"{}\", container: {})", spec::full_name(pod), container.name);
    let error = match asked {
        Some(0) => format!("container's runAsUser breaks non-root policy {whose}"),
        Some(_) => return Ok(()),
        None if image.uid.is_some_and(|uid| uid != 0) => return Ok(()),
        None if !image.username.is_empty() => format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {whose}",
            image.username
        ),
        None => format!("container has runAsNonRoot and image will run as root {whose}"),
    };
    Err(ConfigError(error))
}

fn seccomp(profile: Option<&SeccompProfile>, paths: &Paths) -> SecurityProfile {
    let Some(profile) = profile else { return SecurityProfile::Unconfined };
    match profile.type_.as_str() {
        "RuntimeDefault" => SecurityProfile::RuntimeDefault,
        "Localhost" => {
            let name = profile.localhost_profile.clone().unwrap_or_default();
            let file = paths.root().join("seccomp").join(Path::new(&name));
            SecurityProfile::Localhost(file.to_string_lossy().into_owned())
        }
        _ => SecurityProfile::Unconfined,
    }
}

fn apparmor(own: &ApiContext, of_pod: &PodSecurityContext) -> SecurityProfile {
    let Some(profile) = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()) else {
        return SecurityProfile::RuntimeDefault;
    };
    match profile.type_.as_str() {
        "Unconfined" => SecurityProfile::Unconfined,
        "Localhost" => {
            SecurityProfile::Localhost(profile.localhost_profile.clone().unwrap_or_default())
        }
        _ => SecurityProfile::RuntimeDefault,
    }
}
