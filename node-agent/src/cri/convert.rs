//! Our types to CRI's and back. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::wire;
use crate::runtime::{
    Container, ContainerConfig, ContainerId, ContainerState, ContainerStats, ContainerStatus,
    Image, LinuxResources, Mount, NamespaceMode, NamespaceModes, PodSandboxConfig, PortMapping,
    Propagation, Protocol, RegistryAuth, Sandbox, SandboxId, SandboxMetadata, SandboxState,
    SandboxStatus, SecurityContext, SecurityProfile, SelinuxOptions,
};

pub(super) fn sandbox_config(config: &PodSandboxConfig) -> wire::PodSandboxConfig {
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: config.metadata.name.clone(),
            uid: config.metadata.uid.clone(),
            namespace: config.metadata.namespace.clone(),
            attempt: config.metadata.attempt,
        }),
        hostname: config.hostname.clone(),
        log_directory: config.log_directory.to_string_lossy().into_owned(),
        dns_config: Some(wire::DnsConfig {
            servers: config.dns.servers.clone(),
            searches: config.dns.searches.clone(),
            options: config.dns.options.clone(),
        }),
        port_mappings: config.port_mappings.iter().map(port_mapping).collect(),
        labels: map(&config.labels),
        annotations: map(&config.annotations),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: config.cgroup_parent.clone(),
            security_context: Some(sandbox_security(&config.security)),
            sysctls: map(&config.sysctls),
            overhead: None,
            resources: Some(resources(&config.resources)),
        }),
    }
}

fn map(from: &BTreeMap<String, String>) -> std::collections::HashMap<String, String> {
    from.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn port_mapping(port: &PortMapping) -> wire::PortMapping {
    let protocol = match port.protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
        Protocol::Sctp => wire::Protocol::Sctp,
    };
    wire::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port.into(),
        host_port: port.host_port.into(),
        host_ip: port.host_ip.clone(),
    }
}

fn sandbox_security(security: &SecurityContext) -> wire::LinuxSandboxSecurityContext {
    wire::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(security.namespaces)),
        selinux_options: security.selinux.as_ref().map(selinux),
        run_as_user: security.run_as_user.map(int64),
        readonly_rootfs: security.readonly_rootfs,
        supplemental_groups: security.supplemental_groups.clone(),
        privileged: security.privileged,
        seccomp_profile_path: String::new(),
        run_as_group: security.run_as_user.and(security.run_as_group).map(int64),
        seccomp: Some(profile(&security.seccomp)),
        apparmor: None,
    }
}

fn int64(value: i64) -> wire::Int64Value {
    wire::Int64Value { value }
}

fn selinux(options: &SelinuxOptions) -> wire::SeLinuxOption {
    wire::SeLinuxOption {
        user: options.user.clone(),
        role: options.role.clone(),
        r#type: options.type_.clone(),
        level: options.level.clone(),
    }
}

fn profile(profile: &SecurityProfile) -> wire::SecurityProfile {
    use wire::security_profile::ProfileType;
    let (kind, reference) = match profile {
        SecurityProfile::Unconfined => (ProfileType::Unconfined, String::new()),
        SecurityProfile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        SecurityProfile::Localhost(name) => (ProfileType::Localhost, name.clone()),
    };
    wire::SecurityProfile { profile_type: kind.into(), localhost_ref: reference }
}

fn namespaces(modes: NamespaceModes) -> wire::NamespaceOption {
    let mode = |mode: NamespaceMode| match mode {
        NamespaceMode::Pod => wire::NamespaceMode::Pod.into(),
        NamespaceMode::Container => wire::NamespaceMode::Container.into(),
        NamespaceMode::Node => wire::NamespaceMode::Node.into(),
    };
    wire::NamespaceOption {
        network: mode(modes.network),
        pid: mode(modes.pid),
        ipc: mode(modes.ipc),
        target_id: String::new(),
    }
}

pub(super) fn resources(resources: &LinuxResources) -> wire::LinuxContainerResources {
    wire::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|(size, limit)| wire::HugepageLimit { page_size: size.clone(), limit: *limit })
            .collect(),
        unified: map(&resources.unified),
        memory_swap_limit_in_bytes: resources.memory_swap_limit_bytes,
    }
}

pub(super) fn container_config(config: &ContainerConfig) -> wire::ContainerConfig {
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: config.name.clone(),
            attempt: config.attempt,
        }),
        image: Some(wire::ImageSpec {
            image: config.image.clone(),
            user_specified_image: config.user_image.clone(),
            ..Default::default()
        }),
        command: config.command.clone(),
        args: config.args.clone(),
        working_dir: config.working_dir.clone(),
        envs: config
            .env
            .iter()
            .map(|(key, value)| wire::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts: config.mounts.iter().map(mount).collect(),
        devices: config
            .devices
            .iter()
            .map(|device| wire::Device {
                container_path: device.container_path.clone(),
                host_path: device.host_path.clone(),
                permissions: device.permissions.clone(),
            })
            .collect(),
        labels: map(&config.labels),
        annotations: map(&config.annotations),
        log_path: config.log_path.to_string_lossy().into_owned(),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(resources(&config.resources)),
            security_context: Some(container_security(&config.security)),
        }),
    }
}

fn mount(mount: &Mount) -> wire::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => wire::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => wire::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => wire::MountPropagation::PropagationBidirectional,
    };
    wire::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: mount.readonly,
        selinux_relabel: false,
        propagation: propagation.into(),
    }
}

fn container_security(security: &SecurityContext) -> wire::LinuxContainerSecurityContext {
    let has_user = security.run_as_user.is_some() || !security.run_as_username.is_empty();
    wire::LinuxContainerSecurityContext {
        capabilities: Some(wire::Capability {
            add_capabilities: security.add_capabilities.clone(),
            drop_capabilities: security.drop_capabilities.clone(),
        }),
        privileged: security.privileged,
        namespace_options: Some(match &security.pid_target {
            Some(target) => wire::NamespaceOption {
                pid: wire::NamespaceMode::Target.into(),
                target_id: target.0.clone(),
                ..namespaces(security.namespaces)
            },
            None => namespaces(security.namespaces),
        }),
        selinux_options: security.selinux.as_ref().map(selinux),
        run_as_user: security.run_as_user.map(int64),
        run_as_username: security.run_as_username.clone(),
        readonly_rootfs: security.readonly_rootfs,
        supplemental_groups: security.supplemental_groups.clone(),
        apparmor_profile: String::new(),
        seccomp_profile_path: String::new(),
        no_new_privs: security.no_new_privs,
        run_as_group: security.run_as_group.filter(|_| has_user).map(int64),
        masked_paths: security.masked_paths.clone(),
        readonly_paths: security.readonly_paths.clone(),
        seccomp: Some(profile(&security.seccomp)),
        // An absent profile leaves AppArmor to the runtime; hosts without it would refuse anything else.
        apparmor: match &security.apparmor {
            SecurityProfile::RuntimeDefault => None,
            other => Some(profile(other)),
        },
    }
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn time_if_set(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| time(nanoseconds))
}

fn metadata(from: Option<wire::PodSandboxMetadata>) -> SandboxMetadata {
    let from = from.unwrap_or_default();
    SandboxMetadata {
        name: from.name,
        namespace: from.namespace,
        uid: from.uid,
        attempt: from.attempt,
    }
}

fn sandbox_state(state: i32) -> SandboxState {
    if state == i32::from(wire::PodSandboxState::SandboxReady) {
        SandboxState::Ready
    } else {
        SandboxState::NotReady
    }
}

pub(super) fn sandbox(from: wire::PodSandbox) -> Sandbox {
    Sandbox {
        id: SandboxId(from.id),
        metadata: metadata(from.metadata),
        state: sandbox_state(from.state),
        created_at: time(from.created_at),
        labels: from.labels.into_iter().collect(),
        annotations: from.annotations.into_iter().collect(),
    }
}

pub(super) fn sandbox_status(from: wire::PodSandboxStatus) -> SandboxStatus {
    let network = from.network.unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    SandboxStatus {
        ips: std::iter::once(network.ip).chain(more).filter_map(|ip| ip.parse().ok()).collect(),
        network_namespace: None,
        sandbox: Sandbox {
            id: SandboxId(from.id),
            metadata: metadata(from.metadata),
            state: sandbox_state(from.state),
            created_at: time(from.created_at),
            labels: from.labels.into_iter().collect(),
            annotations: from.annotations.into_iter().collect(),
        },
    }
}

fn container_state(state: i32) -> ContainerState {
    match wire::ContainerState::try_from(state) {
        Ok(wire::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(wire::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(wire::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(wire::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

pub(super) fn container(from: wire::Container) -> Container {
    let metadata = from.metadata.unwrap_or_default();
    Container {
        id: ContainerId(from.id),
        sandbox_id: SandboxId(from.pod_sandbox_id),
        name: metadata.name,
        attempt: metadata.attempt,
        image_ref: from.image_ref,
        state: container_state(from.state),
        created_at: time(from.created_at),
        labels: from.labels.into_iter().collect(),
        annotations: from.annotations.into_iter().collect(),
    }
}

pub(super) fn container_status(
    from: wire::ContainerStatus,
    sandbox_id: SandboxId,
) -> ContainerStatus {
    let metadata = from.metadata.unwrap_or_default();
    ContainerStatus {
        started_at: time_if_set(from.started_at),
        finished_at: time_if_set(from.finished_at),
        exit_code: from.exit_code,
        reason: from.reason,
        message: from.message,
        image: from.image.map(|image| image.image).unwrap_or_default(),
        image_id: from.image_ref.clone(),
        log_path: from.log_path.into(),
        container: Container {
            id: ContainerId(from.id),
            sandbox_id,
            name: metadata.name,
            attempt: metadata.attempt,
            image_ref: from.image_ref,
            state: container_state(from.state),
            created_at: time(from.created_at),
            labels: from.labels.into_iter().collect(),
            annotations: from.annotations.into_iter().collect(),
        },
    }
}

pub(super) fn image(from: wire::Image) -> Image {
    Image {
        id: from.id,
        repo_tags: from.repo_tags,
        repo_digests: from.repo_digests,
        size_bytes: from.size,
        uid: from.uid.map(|uid| uid.value),
        username: from.username,
        pinned: from.pinned,
    }
}

pub(super) fn auth(from: &RegistryAuth) -> wire::AuthConfig {
    wire::AuthConfig {
        username: from.username.clone(),
        password: from.password.clone(),
        auth: from.auth.clone(),
        server_address: from.server_address.clone(),
        identity_token: from.identity_token.clone(),
        registry_token: from.registry_token.clone(),
    }
}

pub(super) fn stats(from: wire::ContainerStats) -> ContainerStats {
    let attributes = from.attributes.unwrap_or_default();
    let value = |wrapped: Option<wire::UInt64Value>| wrapped.map_or(0, |wrapped| wrapped.value);
    ContainerStats {
        id: Some(ContainerId(attributes.id)),
        labels: attributes.labels.into_iter().collect(),
        cpu_usage_ns: value(from.cpu.and_then(|cpu| cpu.usage_core_nano_seconds)),
        memory_working_set_bytes: value(from.memory.and_then(|memory| memory.working_set_bytes)),
        rootfs_used_bytes: value(from.writable_layer.and_then(|layer| layer.used_bytes)),
    }
}
