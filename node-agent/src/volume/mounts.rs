//! What one container mounts: its volumes, `/etc/hosts`, the termination log.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::VolumePaths;
use crate::paths::Paths;
use crate::pod::env::{ConfigError, Sources, expand, variables};
use crate::pod::spec;
use crate::runtime::{Mount, Propagation};

const TERMINATION_PATH: &str = "/dev/termination-log";

/// All mounts of a container; makes sub-paths and the termination log. Blocking.
pub(crate) fn container_mounts(
    paths: &Paths,
    sources: &Sources<'_>,
    container: &Container,
    attempt: u32,
    volumes: &VolumePaths,
) -> Result<Vec<Mount>, ConfigError> {
    let uid = spec::uid(sources.pod);
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(volume) = volumes.get(&mount.name) else {
            let name = &mount.name;
            return Err(ConfigError(format!(
                "cannot find volume \"{name}\" to mount into container \"{}\"",
                container.name
            )));
        };
        let host_path = sub_path(volume, mount, container, sources)?;
        let path = &mount.mount_path;
        mounts.push(Mount {
            container_path: if path.starts_with('/') { path.clone() } else { format!("/{path}") },
            host_path,
            readonly: mount.read_only.unwrap_or(false),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        });
    }
    let mounted = |path: &str, mounts: &[Mount]| mounts.iter().any(|m| m.container_path == path);
    if !mounted("/etc/hosts", &mounts) {
        mounts.push(plain("/etc/hosts", paths.etc_hosts(uid)));
    }
    let message = container.termination_message_path.as_deref().unwrap_or(TERMINATION_PATH);
    if !message.is_empty() && !mounted(message, &mounts) {
        let file = paths.termination_log(uid, &container.name, attempt);
        make_termination_log(&file).map_err(|error| ConfigError(error.to_string()))?;
        mounts.push(plain(message, file));
    }
    Ok(mounts)
}

fn plain(container_path: &str, host_path: PathBuf) -> Mount {
    Mount { container_path: container_path.to_owned(), host_path, ..Mount::default() }
}

fn make_termination_log(file: &Path) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(file, "")?;
    // Any user the container runs as must be able to write it.
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666))
}

/// The volume, or what `subPath` names in it. A link inside the volume must not lead out of it.
fn sub_path(
    volume: &Path,
    mount: &VolumeMount,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<PathBuf, ConfigError> {
    let name = &container.name;
    let sub = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(sub), _) if !sub.is_empty() => sub.clone(),
        (_, Some(text)) if !text.is_empty() => {
            let env = variables(container, sources)?;
            let lookup = |key: &str| env.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            expand(text, &lookup)
        }
        _ => return Ok(volume.to_owned()),
    };
    let relative = Path::new(&sub);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(ConfigError(format!(
            "unable to provision SubPath `{sub}`: must not contain '..'"
        )));
    }
    let failed = |error: std::io::Error| {
        ConfigError(format!(
            "failed to prepare subPath for volumeMount \"{}\" of container \"{name}\": {error}",
            mount.name
        ))
    };
    let root = volume.canonicalize().map_err(failed)?;
    let wanted = root.join(relative);
    if !wanted.exists() {
        // Checked before it is made, so that nothing is made outside either.
        let parent = existing_parent(&wanted).canonicalize().map_err(failed)?;
        if !parent.starts_with(&root) {
            return Err(escapes(&sub));
        }
        make_dirs(&root, relative).map_err(failed)?;
    }
    let real = wanted.canonicalize().map_err(failed)?;
    if real.starts_with(&root) { Ok(real) } else { Err(escapes(&sub)) }
}

/// Makes the directories of a sub-path as open as the volume itself: whoever may write there may write below.
fn make_dirs(root: &Path, relative: &Path) -> std::io::Result<()> {
    let mode = root.metadata()?.mode() & 0o7777;
    let mut dir = root.to_owned();
    for part in relative.components() {
        dir.push(part);
        if !dir.exists() {
            std::fs::create_dir(&dir)?;
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

fn escapes(sub: &str) -> ConfigError {
    ConfigError(format!("subPath `{sub}` leads out of its volume"))
}

fn existing_parent(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path)
}
