//! Security contexts of pods and containers.

use serde_json::Value;

use super::{Errors, names, one_of_if_set, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const SYSCTL_NAME_MAX: usize = 253;
const SYSCTL_FORMAT: &str =
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const PROFILE_MAX: usize = 4095;
const CREDENTIAL_SPEC_MAX: usize = 64 * 1024;
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn ids(context: &Value, fields: &[&str], path: &Path<'_>, errors: &mut Errors) {
    for name in fields {
        if let Some(id) = tree::int_opt(context, name) {
            for problem in names::posix_id(id) {
                errors.push(Error::invalid(&path.child(name), id, problem));
            }
        }
    }
}

/// The security context of a pod. Some host settings stand beside it in the spec.
pub(super) fn pod(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let context = tree::get(spec, "securityContext");
    let path = path.child("securityContext");
    if tree::flag(spec, "shareProcessNamespace") && tree::flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    if context.is_null() {
        return;
    }
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &path, errors);
    let groups = path.child("supplementalGroups");
    for (i, group) in tree::list(context, "supplementalGroups").iter().enumerate() {
        let id = group.as_i64().unwrap_or(-1);
        for problem in names::posix_id(id) {
            errors.push(Error::invalid(&groups.index(i), id, problem));
        }
    }
    sysctls(context, spec, &path.child("sysctls"), errors);
    one_of_if_set(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], &path, errors);
    seccomp(tree::get(context, "seccompProfile"), &path.child("seccompProfile"), errors);
    windows(tree::get(context, "windowsOptions"), &path.child("windowsOptions"), errors);
    apparmor(tree::get(context, "appArmorProfile"), &path.child("appArmorProfile"), errors);
    one_of_if_set(context, "supplementalGroupsPolicy", &["Merge", "Strict"], &path, errors);
    one_of_if_set(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], &path, errors);
}

/// The security context of a container.
pub(super) fn container(context: &Value, host_users: bool, path: &Path<'_>, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    one_of_if_set(context, "procMount", &["Default", "Unmasked"], path, errors);
    if host_users && tree::text(context, "procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(Error::invalid(&path.child("procMount"), "Unmasked", detail));
    }
    seccomp(tree::get(context, "seccompProfile"), &path.child("seccompProfile"), errors);
    if tree::flag_opt(context, "allowPrivilegeEscalation") == Some(false) {
        if tree::flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, context.clone(), detail));
        }
        let added = tree::get(context, "capabilities");
        if tree::texts(added, "add").any(|c| c == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and \
                          `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, context.clone(), detail));
        }
    }
    windows(tree::get(context, "windowsOptions"), &path.child("windowsOptions"), errors);
    apparmor(tree::get(context, "appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn sysctls(context: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, sysctl) in tree::list(context, "sysctls").iter().enumerate() {
        let name = tree::text(sysctl, "name");
        let item = path.index(i);
        let path = item.child("name");
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {SYSCTL_NAME_MAX} characters and match regex {SYSCTL_FORMAT}"
            );
            errors.push(Error::invalid(&path, name, detail));
        } else if seen.contains(&name) {
            errors.push(Error::duplicate(&path, name));
        }
        let dotted = name.replace('/', ".");
        let network = dotted.starts_with("net.");
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p))
            || dotted == "kernel.sem";
        if network && tree::flag(spec, "hostNetwork") {
            let detail = "may not be specified when 'hostNetwork' is true";
            errors.push(Error::invalid(&path, name, detail));
        } else if ipc && tree::flag(spec, "hostIPC") {
            let detail = "may not be specified when 'hostIPC' is true";
            errors.push(Error::invalid(&path, name, detail));
        }
        seen.push(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |s: &str| {
        s.bytes().next().is_some_and(edge)
            && s.bytes().last().is_some_and(edge)
            && s.bytes().all(|b| edge(b) || matches!(b, b'-' | b'_'))
    };
    name.len() <= SYSCTL_NAME_MAX && name.split(['.', '/']).all(segment)
}

fn seccomp(profile: &Value, path: &Path<'_>, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let kind = tree::text(profile, "type");
    if kind.is_empty() {
        let detail = "type is required when seccompProfile is set";
        errors.push(Error::required(&path.child("type"), detail));
    } else {
        one_of_if_set(profile, "type", &PROFILES, path, errors);
    }
    let (local, path) =
        (tree::text_opt(profile, "localhostProfile"), path.child("localhostProfile"));
    match (kind, local) {
        ("Localhost", None) => {
            errors.push(Error::required(&path, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => super::volume::descending(file, &path, errors),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(Error::invalid(&path, profile.clone(), detail));
        }
        (_, None) => {}
    }
}

fn apparmor(profile: &Value, path: &Path<'_>, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let local = tree::text_opt(profile, "localhostProfile");
    let local_path = path.child("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match (tree::text(profile, "type"), local) {
        ("Localhost", None | Some("")) => errors.push(Error::required(&local_path, missing)),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                let detail = "must not be padded with whitespace";
                errors.push(Error::invalid(&local_path, name, detail));
            }
            if name.len() > PROFILE_MAX {
                errors.push(Error::too_long(&local_path, PROFILE_MAX));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.push(Error::invalid(&local_path, name, detail));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            errors.push(Error::required(&path.child("type"), detail));
        }
        (other, _) => errors.push(Error::not_supported(&path.child("type"), other, &PROFILES)),
    }
}

fn windows(options: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(name) = tree::text_opt(options, "gmsaCredentialSpecName") {
        subdomain(name, &path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(spec) = tree::text_opt(options, "gmsaCredentialSpec") {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            let detail = "gmsaCredentialSpec cannot be an empty string";
            errors.push(Error::invalid(&path, spec, detail));
        } else if spec.len() > CREDENTIAL_SPEC_MAX {
            let detail = "gmsaCredentialSpec size must be under 64 KiB";
            errors.push(Error::invalid(&path, spec, detail));
        }
    }
    if let Some(user) = tree::text_opt(options, "runAsUserName") {
        let path = path.child("runAsUserName");
        for problem in windows_user(user) {
            errors.push(Error::invalid(&path, user, problem));
        }
    }
}

fn windows_user(text: &str) -> Vec<&'static str> {
    if text.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let (domain, user) = match text.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return vec!["runAsUserName cannot contain more than one backslash"];
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, text),
    };
    let mut problems = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            problems.push("runAsUserName's Domain length must be under 256 characters");
        }
        let net_bios = !domain.is_empty()
            && domain.len() <= 15
            && !domain.starts_with('.')
            && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|']);
        let dns = names::dns1123_subdomain(&domain.to_lowercase()).is_empty();
        if !net_bios && !dns {
            problems.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        problems.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        problems.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        problems.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user
        .contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'])
    {
        problems.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        );
    }
    problems
}
