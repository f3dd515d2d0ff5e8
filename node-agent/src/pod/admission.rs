//! What a node refuses to run at all, in the kubelet's words. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::spec;

/// Kernel parameters that a pod may set: they count for its namespaces alone.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Reason and message when the pod is not for this node.
pub(crate) fn refuse(pod: &Pod) -> Option<(&'static str, String)> {
    let context = spec::spec(pod).and_then(|spec| spec.security_context.as_ref());
    let sysctls = context.and_then(|context| context.sysctls.as_deref()).unwrap_or(&[]);
    // Both notations are in use: `net.ipv4.x` and `net/ipv4/x`.
    let plain = |name: &str| name.replace('/', ".");
    let bad =
        sysctls.iter().find(|sysctl| !SAFE_SYSCTLS.contains(&plain(&sysctl.name).as_str()))?;
    let name = plain(&bad.name);
    Some(("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_kernel_parameters_are_refused() {
        let pod = |name: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "spec": {"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}
            }))
            .unwrap()
        };
        assert_eq!(refuse(&pod("kernel.shm_rmid_forced")), None);
        assert_eq!(refuse(&pod("net/ipv4/tcp_syncookies")), None);
        assert_eq!(refuse(&Pod::default()), None);
        let (reason, message) = refuse(&pod("kernel.msgmax")).unwrap();
        assert_eq!(reason, "SysctlForbidden");
        assert_eq!(message, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    }
}
