//! What the operating system of a pod rules out.

use serde_json::Value;

use super::{Errors, pod};
use crate::field::{Error, Path};
use crate::tree;

const WINDOWS_SPEC: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const WINDOWS_POD: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
];
const WINDOWS_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Host process containers are all or none of a pod's, and use the host's network.
pub(super) fn host_process(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let of = |holder: &Value| {
        let context = tree::get(holder, "securityContext");
        tree::flag_opt(tree::get(context, "windowsOptions"), "hostProcess")
    };
    let pod = of(spec);
    let (mut all, mut host) = (0, 0);
    for (list, i, container) in pod::containers(spec) {
        all += 1;
        let own = of(container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let list = path.child(list);
            let item = list.index(i);
            let path = item.child("securityContext.windowsOptions.hostProcess");
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(Error::invalid(&path, own, detail));
        }
        host += usize::from(own.or(pod).unwrap_or(false));
    }
    if host == 0 {
        return;
    }
    if host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be \
                      HostProcess containers";
        errors.push(Error::invalid(path, "", detail));
    }
    if !tree::flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, detail));
    }
}

/// Checks `os` and what it forbids.
pub(super) fn os(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let os = tree::get(spec, "os");
    if os.is_null() {
        return;
    }
    let os_path = path.child("os");
    match tree::text(os, "name") {
        "" => errors.push(Error::required(&os_path.child("name"), "cannot be empty")),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            forbid(spec, &[], &["windowsOptions"], &["windowsOptions"], detail, path, errors);
        }
        "windows" => {
            let detail = "cannot be set for a windows pod";
            let (pod, container) = (&WINDOWS_POD, &WINDOWS_CONTAINER);
            forbid(spec, &WINDOWS_SPEC, pod, container, detail, path, errors);
        }
        other => errors.push(Error::not_supported(&os_path, other, &["linux", "windows"])),
    }
}

fn forbid(
    spec: &Value,
    in_spec: &[&str],
    in_pod: &[&str],
    in_container: &[&str],
    detail: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let set = |value: &Value, name: &str| {
        let value = tree::get(value, name);
        // Flags by value are unset when false; `hostUsers` and the like are pointers.
        let plain = matches!(name, "hostPID" | "hostIPC");
        if plain { value == true } else { !value.is_null() }
    };
    let context_path = path.child("securityContext");
    let context = tree::get(spec, "securityContext");
    for name in in_pod.iter().filter(|name| set(context, name)) {
        errors.push(Error::forbidden(&context_path.child(name), detail));
    }
    for name in in_spec.iter().filter(|name| set(spec, name)) {
        errors.push(Error::forbidden(&path.child(name), detail));
    }
    for (list, i, container) in pod::containers(spec) {
        let context = tree::get(container, "securityContext");
        let list = path.child(list);
        let item = list.index(i);
        let path = item.child("securityContext");
        for name in in_container.iter().filter(|name| set(context, name)) {
            errors.push(Error::forbidden(&path.child(name), detail));
        }
    }
}
