//! Containers: regular, init (with sidecars) and ephemeral.

use serde_json::Value;

use super::{
    Errors, env, handler, invalid_each, label, names, one_of, one_of_if_set, required, resources,
    security,
};
use crate::field::{Error, Path};
use crate::tree;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// What an ephemeral container may set; the rest needs a pod that was planned with it.
const EPHEMERAL_FIELDS: [&str; 15] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "targetContainerName",
    "stdin",
];
const EPHEMERAL_FLAGS: [&str; 2] = ["stdinOnce", "tty"];

/// What the rules for containers need to know of their pod.
pub(super) struct Context<'a> {
    /// The valid volumes.
    pub(super) volumes: Vec<(&'a str, &'a Value)>,
    /// The names of the pod's resource claims.
    pub(super) claims: Vec<&'a str>,
    /// `terminationGracePeriodSeconds`.
    pub(super) grace: Option<i64>,
    /// The pod's restart policy.
    pub(super) restart_policy: &'a str,
    /// Whether the pod uses the host's user namespace.
    pub(super) host_users: bool,
}

/// The regular containers.
pub(super) fn regular(spec: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("containers");
    let containers = tree::list(spec, "containers");
    if containers.is_empty() {
        errors.push(Error::required(&path, ""));
        return;
    }
    let mut seen = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        common(container, ctx, &path, errors);
        let name = tree::text(container, "name");
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            seen.push(name);
        }
        handler::probes_and_hooks(container, ctx.grace, &path, errors);
        one_of_if_set(container, "restartPolicy", &RESTART_POLICIES, &path, errors);
        restart_rules(container, &path, errors);
    }
    host_ports(containers, &path, errors);
}

/// The init containers, sidecars among them.
pub(super) fn init(spec: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("initContainers");
    let mut seen: Vec<&str> =
        tree::list(spec, "containers").iter().map(|c| tree::text(c, "name")).collect();
    for (i, container) in tree::list(spec, "initContainers").iter().enumerate() {
        let item = path.index(i);
        common(container, ctx, &item, errors);
        one_of_if_set(container, "restartPolicy", &RESTART_POLICIES, &item, errors);
        restart_rules(container, &item, errors);
        let name = tree::text(container, "name");
        if seen.contains(&name) {
            errors.push(Error::duplicate(&item.child("name"), name));
        } else if !name.is_empty() {
            seen.push(name);
        }
        host_ports(std::slice::from_ref(container), &path, errors);
        if tree::text(container, "restartPolicy") == "Always" {
            handler::probes_and_hooks(container, ctx.grace, &item, errors);
        } else {
            let detail = "may not be set for init containers without restartPolicy=Always";
            handler::forbid(container, detail, &item, errors);
        }
    }
}

/// The ephemeral containers.
pub(super) fn ephemeral(spec: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("ephemeralContainers");
    let planned: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| tree::list(spec, list))
        .map(|c| tree::text(c, "name"))
        .collect();
    let mut seen = planned.clone();
    for (i, container) in tree::list(spec, "ephemeralContainers").iter().enumerate() {
        let path = path.index(i);
        common(container, ctx, &path, errors);
        image_spacing(container, &path, errors);
        let name = tree::text(container, "name");
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            seen.push(name);
        }
        let target = tree::text(container, "targetContainerName");
        if !target.is_empty() && !planned.contains(&target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        let detail = "cannot be set for an Ephemeral Container";
        for (name, value) in container.as_object().into_iter().flatten() {
            let name = name.as_str();
            let allowed = EPHEMERAL_FIELDS.contains(&name) || EPHEMERAL_FLAGS.contains(&name);
            if !allowed && !tree::is_empty(value) {
                errors.push(Error::forbidden(&path.child(name), detail));
            }
        }
        let mounts = path.child("volumeMounts");
        for (i, mount) in tree::list(container, "volumeMounts").iter().enumerate() {
            for name in ["subPath", "subPathExpr"] {
                if !tree::text(mount, name).is_empty() {
                    errors.push(Error::forbidden(&mounts.index(i).child(name), detail));
                }
            }
        }
    }
}

/// Images of pods (not of templates) have no spaces around them.
pub(super) fn image_spacing(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let image = tree::text(container, "image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(Error::invalid(&path.child("image"), image, detail));
    }
}

fn common(container: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    if required(container, "name", path, errors) {
        label(tree::text(container, "name"), &path.child("name"), errors);
    }
    required(container, "image", path, errors);
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(container, "terminationMessagePolicy", &policies, path, errors);
    ports(container, path, errors);
    env::variables(container, path, errors);
    env::sources(container, path, errors);
    mounts(container, ctx, &path.child("volumeMounts"), errors);
    devices(container, ctx, &path.child("volumeDevices"), errors);
    one_of(container, "imagePullPolicy", &PULL_POLICIES, path, errors);
    let amounts = tree::get(container, "resources");
    resources::requirements(amounts, &ctx.claims, &path.child("resources"), errors);
    resize_policy(container, ctx, &path.child("resizePolicy"), errors);
    let context = tree::get(container, "securityContext");
    security::container(context, ctx.host_users, &path.child("securityContext"), errors);
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("ports");
    let mut seen = Vec::new();
    for (i, port) in tree::list(container, "ports").iter().enumerate() {
        let path = path.index(i);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            let problems = names::port_name(name);
            if !problems.is_empty() {
                invalid_each(&path.child("name"), name, problems, errors);
            } else if seen.contains(&name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            } else {
                seen.push(name);
            }
        }
        match tree::int(port, "containerPort") {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            number => super::port(number, &path.child("containerPort"), errors),
        }
        match tree::int(port, "hostPort") {
            0 => {}
            number => super::port(number, &path.child("hostPort"), errors),
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
    }
}

fn host_ports(containers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let item = path.index(i);
        let ports = item.child("ports");
        for (j, port) in tree::list(container, "ports").iter().enumerate() {
            let number = tree::int(port, "hostPort");
            if number == 0 {
                continue;
            }
            let (protocol, ip) = (tree::text(port, "protocol"), tree::text(port, "hostIP"));
            let used = format!("{protocol}/{ip}/{number}");
            if seen.contains(&used) {
                errors.push(Error::duplicate(&ports.index(j).child("hostPort"), used));
            } else {
                seen.push(used);
            }
        }
    }
}

fn mounts(container: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let devices = tree::list(container, "volumeDevices");
    let mut seen = Vec::new();
    for (i, mount) in tree::list(container, "volumeMounts").iter().enumerate() {
        let item = path.index(i);
        let (name, target) = (tree::text(mount, "name"), tree::text(mount, "mountPath"));
        required(mount, "name", &item, errors);
        if !ctx.volumes.iter().any(|(volume, _)| *volume == name) {
            errors.push(Error::not_found(&item.child("name"), name));
        }
        required(mount, "mountPath", &item, errors);
        let target_path = item.child("mountPath");
        if seen.contains(&target) {
            errors.push(Error::invalid(&target_path, target, "must be unique"));
        }
        seen.push(target);
        if devices.iter().any(|d| tree::text(d, "name") == name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(Error::invalid(&item.child("name"), name, detail));
        }
        if devices.iter().any(|d| tree::text(d, "devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&target_path, target, detail));
        }
        let (sub, expression) = (tree::text(mount, "subPath"), tree::text(mount, "subPathExpr"));
        if !sub.is_empty() {
            super::volume::descending(sub, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&item.child("subPathExpr"), expression, detail));
            }
            super::volume::descending(expression, &path.child("subPathExpr"), errors);
        }
        propagation(mount, container, path, errors);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known = ["Bidirectional", "HostToContainer", "None"];
    one_of_if_set(mount, "mountPropagation", &known, path, errors);
    let mode = tree::text(mount, "mountPropagation");
    let privileged = tree::flag(tree::get(container, "securityContext"), "privileged");
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(&path.child("mountPropagation"), detail));
    }
    let known = ["Disabled", "Enabled", "IfPossible"];
    one_of_if_set(mount, "recursiveReadOnly", &known, path, errors);
    if matches!(tree::text(mount, "recursiveReadOnly"), "Enabled" | "IfPossible") {
        let path = path.child("recursiveReadOnly");
        if !tree::flag(mount, "readOnly") {
            errors.push(Error::forbidden(&path, "may only be specified when readOnly is true"));
        }
        if !matches!(mode, "" | "None") {
            let detail = "may only be specified when mountPropagation is None or not specified";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

fn devices(container: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mounts = tree::list(container, "volumeMounts");
    let (mut seen_names, mut seen_paths) = (Vec::new(), Vec::new());
    for (i, device) in tree::list(container, "volumeDevices").iter().enumerate() {
        let item = path.index(i);
        let (name, target) = (tree::text(device, "name"), tree::text(device, "devicePath"));
        let (name_path, target_path) = (item.child("name"), item.child("devicePath"));
        required(device, "name", &item, errors);
        if seen_names.contains(&name) {
            errors.push(Error::invalid(&name_path, name, "must be unique"));
        }
        match ctx.volumes.iter().find(|(volume, _)| *volume == name) {
            None => errors.push(Error::not_found(&name_path, name)),
            Some((_, volume))
                if !tree::has(volume, "persistentVolumeClaim")
                    && !tree::has(volume, "ephemeral") =>
            {
                let detail = "can only use volume source type of PersistentVolumeClaim or \
                              Ephemeral for block mode";
                errors.push(Error::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        required(device, "devicePath", &item, errors);
        if seen_paths.contains(&target) {
            errors.push(Error::invalid(&target_path, target, "must be unique"));
        }
        if target.split('/').any(|part| part == "..") {
            let detail = "can not contain backsteps ('..')";
            errors.push(Error::invalid(&target_path, target, detail));
        } else {
            seen_paths.push(target);
        }
        if mounts.iter().any(|m| tree::text(m, "name") == name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(Error::invalid(&name_path, name, detail));
        }
        if mounts.iter().any(|m| tree::text(m, "mountPath") == target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&target_path, target, detail));
        }
        if !name.is_empty() {
            seen_names.push(name);
        }
    }
}

fn resize_policy(container: &Value, ctx: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, policy) in tree::list(container, "resizePolicy").iter().enumerate() {
        let resource = tree::text(policy, "resourceName");
        if seen.contains(&resource) {
            errors.push(Error::duplicate(&path.index(i), resource));
        }
        seen.push(resource);
        match resource {
            "cpu" | "memory" => {}
            "" => errors.push(Error::required(path, "")),
            other => errors.push(Error::not_supported(path, other, &["cpu", "memory"])),
        }
        let restart = tree::text(policy, "restartPolicy");
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.push(Error::required(path, "")),
            other => {
                let known = ["NotRequired", "RestartContainer"];
                errors.push(Error::not_supported(path, other, &known));
            }
        }
        if ctx.restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, detail));
        }
    }
}

fn restart_rules(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules = tree::list(container, "restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if !tree::has(container, "restartPolicy") {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(Error::required(&path.child("restartPolicy"), detail));
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        errors.push(Error::too_many(&path, rules.len(), RESTART_RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        one_of(rule, "action", &["Restart"], &path, errors);
        let codes = tree::get(rule, "exitCodes");
        let path = path.child("exitCodes");
        if codes.is_null() {
            errors.push(Error::required(&path, "must be specified"));
            continue;
        }
        one_of(codes, "operator", &["In", "NotIn"], &path, errors);
        let values = tree::list(codes, "values").len();
        if values > EXIT_CODES_MAX {
            errors.push(Error::too_many(&path.child("values"), values, EXIT_CODES_MAX));
        }
    }
}
