//! ServiceAccount: each pod runs as an account of its namespace, and finds a token for it.

use quorate_state_machine::Key;
use serde_json::{Value, json};

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::limits::POD_TOKEN_SECONDS;
use crate::model::{has_items, text};
use crate::stamp::generated_name;
use crate::status_error::Answer;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn mutate(&self, ctx: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if draft.operation != Operation::Create
            || !draft.is("", "pods")
            || !draft.sub.is_empty()
            || !draft.object["spec"].is_object()
        {
            return Ok(());
        }
        if !draft.object["metadata"]["annotations"][MIRROR].is_null() {
            return mirror_pod(draft);
        }
        let spec = &mut draft.object["spec"];
        if text(&spec["serviceAccountName"]).is_empty() {
            let legacy = text(&spec["serviceAccount"]);
            let name = if legacy.is_empty() { "default" } else { legacy };
            spec["serviceAccountName"] = json!(name);
        }
        let name = text(&spec["serviceAccountName"]).to_owned();
        spec["serviceAccount"] = json!(name);
        let key = Key::new("", "serviceaccounts", &draft.namespace, &name);
        let Some(stored) = ctx.view.get(&key) else {
            return Err(draft.forbidden(&format!(
                "error looking up service account {}/{name}: serviceaccount {} not found",
                draft.namespace,
                crate::parameters::quoted(&name)
            )));
        };
        let account: Value = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
        let spec = &mut draft.object["spec"];
        let wanted = spec["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if wanted {
            mount_token(spec);
        }
        if !has_items(&spec["imagePullSecrets"]) && has_items(&account["imagePullSecrets"]) {
            spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        Ok(())
    }
}

/// Mirror pods of static pods refer to nothing in the cluster.
fn mirror_pod(draft: &Draft) -> Answer<()> {
    let spec = &draft.object["spec"];
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Err(draft.forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    for volume in volumes {
        if !volume["secret"].is_null() {
            return Err(draft.forbidden("a mirror pod may not reference secrets"));
        }
        let sources = volume["projected"]["sources"].as_array().into_iter().flatten();
        if sources.into_iter().any(|source| !source["serviceAccountToken"].is_null()) {
            return Err(
                draft.forbidden("a mirror pod may not use ServiceAccountToken volume projections")
            );
        }
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let existing = spec["volumes"].as_array().into_iter().flatten().find_map(|volume| {
        let name = text(&volume["name"]);
        name.starts_with(VOLUME_PREFIX).then(|| name.to_owned())
    });
    let had_volume = existing.is_some();
    let volume = existing.unwrap_or_else(|| generated_name(VOLUME_PREFIX));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        // Not by index: that would leave a null where there is no list.
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            if !mounts.is_array() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            mounted = true;
        }
    }
    if !mounted || had_volume {
        return;
    }
    if !spec["volumes"].is_array() {
        spec["volumes"] = json!([]);
    }
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": POD_TOKEN_SECONDS, "path": "token"}},
        {"configMap": {
            "name": "kube-root-ca.crt",
            "items": [{"key": "ca.crt", "path": "ca.crt"}],
        }},
        {"downwardAPI": {"items": [{
            "path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
        }]}},
    ]}})
}
