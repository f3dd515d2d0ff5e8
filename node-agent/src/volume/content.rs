//! The files of configMap, secret, downwardAPI and projected volumes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};

use super::atomic::{FileEntry, Held, Payload};
use crate::pod::env::{Sources, pod_field, resource_field};
use crate::pod::spec;

const DEFAULT_MODE: u32 = 0o644;

/// Service account tokens at hand, by (volume, path).
pub(crate) type Tokens = BTreeMap<(String, String), String>;

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(DEFAULT_MODE)
}

/// The kind of the volume and its files; `None` for kinds that are not made of files.
pub(super) fn payload(
    volume: &Volume,
    sources: &Sources<'_>,
    tokens: &Tokens,
    held: &Held,
) -> Result<Option<(&'static str, Payload)>, String> {
    if let Some(source) = &volume.config_map {
        let files = config_map(&source.name, source.optional, sources)?;
        let picked = pick(
            files,
            source.items.as_deref(),
            source.default_mode,
            source.optional,
            "configmap",
        )?;
        return Ok(Some(("configmap", picked)));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let files = secret(&name, source.optional, sources)?;
        let picked =
            pick(files, source.items.as_deref(), source.default_mode, source.optional, "secret")?;
        return Ok(Some(("secret", picked)));
    }
    if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or(&[]);
        return Ok(Some(("downward-api", downward(items, source.default_mode, sources)?)));
    }
    if let Some(source) = &volume.projected {
        let mut payload = Payload::new();
        for part in source.sources.iter().flatten() {
            payload.extend(projection(volume, part, source.default_mode, sources, (tokens, held))?);
        }
        return Ok(Some(("projected", payload)));
    }
    Ok(None)
}

fn projection(
    volume: &Volume,
    part: &VolumeProjection,
    default: Option<i32>,
    sources: &Sources<'_>,
    (tokens, held): (&Tokens, &Held),
) -> Result<Payload, String> {
    let mut payload = Payload::new();
    if let Some(source) = &part.config_map {
        let files = config_map(&source.name, source.optional, sources)?;
        let items = source.items.as_deref();
        payload.extend(pick(files, items, default, source.optional, "configmap")?);
    }
    if let Some(source) = &part.secret {
        let files = secret(&source.name, source.optional, sources)?;
        let items = source.items.as_deref();
        payload.extend(pick(files, items, default, source.optional, "secret")?);
    }
    if let Some(source) = &part.downward_api {
        payload.extend(downward(source.items.as_deref().unwrap_or(&[]), default, sources)?);
    }
    if let Some(source) = &part.service_account_token {
        let key = (volume.name.clone(), source.path.clone());
        // Without a master the one that is there has to do.
        let token = tokens.get(&key).cloned().or_else(|| held.read(&source.path));
        let token = token.ok_or("failed to fetch token: not yet issued")?;
        let (mode, owner) = token_mode(default, sources);
        let entry = FileEntry { content: token.into_bytes(), mode, owner };
        payload.insert(source.path.clone(), entry);
    }
    Ok(payload)
}

/// A token belongs to the one user all containers run as, else to the pod's group; where there is neither, the volume's
/// mode counts.
fn token_mode(default: Option<i32>, sources: &Sources<'_>) -> (u32, Option<u32>) {
    let user = common_user(sources.pod);
    let pod_spec = spec::spec(sources.pod);
    let context = pod_spec.and_then(|spec| spec.security_context.as_ref());
    let has_group = context.is_some_and(|context| context.fs_group.is_some());
    let mode = if has_group || user.is_some() { 0o600 } else { mode(None, default) };
    (mode, user)
}

/// The user all containers of the pod run as, by their text.
fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = spec::spec(pod).and_then(|spec| spec.security_context.as_ref()?.run_as_user);
    let all = spec::init_containers(pod).iter().chain(spec::containers(pod));
    let mut users = all.map(|container| {
        container.security_context.as_ref().and_then(|own| own.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

fn config_map(
    name: &str,
    optional: Option<bool>,
    sources: &Sources<'_>,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let Some(map) = (sources.config_map)(name) else {
        return absent("configmap", name, optional);
    };
    let text = map.data.clone().unwrap_or_default();
    let binary = map.binary_data.clone().unwrap_or_default();
    let mut files: BTreeMap<String, Vec<u8>> =
        text.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
    files.extend(binary.into_iter().map(|(key, value)| (key, value.0)));
    Ok(files)
}

fn secret(
    name: &str,
    optional: Option<bool>,
    sources: &Sources<'_>,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let Some(secret) = (sources.secret)(name) else { return absent("secret", name, optional) };
    let data = secret.data.clone().unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect())
}

fn absent<T: Default>(kind: &str, name: &str, optional: Option<bool>) -> Result<T, String> {
    if optional == Some(true) {
        Ok(T::default())
    } else {
        Err(format!("{kind} \"{name}\" not found"))
    }
}

fn pick(
    files: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default: Option<i32>,
    optional: Option<bool>,
    kind: &str,
) -> Result<Payload, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let entry = |content| FileEntry { content, mode: mode(None, default), owner: None };
        return Ok(files.into_iter().map(|(key, content)| (key, entry(content))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match files.get(&item.key) {
            Some(content) => {
                let mode = mode(item.mode, default);
                let entry = FileEntry { content: content.clone(), mode, owner: None };
                payload.insert(item.path.clone(), entry);
            }
            None if optional == Some(true) => {}
            None => return Err(format!("{kind} references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(payload)
}

fn downward(
    items: &[DownwardAPIVolumeFile],
    default: Option<i32>,
    sources: &Sources<'_>,
) -> Result<Payload, String> {
    let mut payload = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            pod_field(&field.field_path, sources)
                .ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path))?
        } else if let Some(field) = &item.resource_field_ref {
            let name = field.container_name.clone().unwrap_or_default();
            let container = spec::find_container(sources.pod, &name)
                .ok_or_else(|| format!("container {name} not found"))?;
            resource_field(field, &container, sources).map_err(|error| error.0)?
        } else {
            continue;
        };
        let mode = mode(item.mode, default);
        let entry = FileEntry { content: text.into_bytes(), mode, owner: None };
        payload.insert(item.path.clone(), entry);
    }
    Ok(payload)
}
