//! Volumes: what a pod's containers find mounted. Each is a directory (or a path of the host) that is made before the
//! sandbox and brought up to date at every sync; containers bind-mount it.

pub(crate) mod atomic;
mod content;
mod host_path;
mod mounts;
mod tmpfs;
pub(crate) mod tokens;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Volume};

pub(crate) use content::Tokens;
pub(crate) use mounts::container_mounts;
pub(crate) use tmpfs::tear_down;

use crate::paths::Paths;
use crate::pod::env::Sources;
use crate::pod::{resources, spec};

/// Why a volume could not be made: event `FailedMount` with this message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// A ConfigMap, Secret, key or host path is missing or wrong.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    SetUp { volume: String, message: String },
    /// A kind of volume the agent cannot make.
    #[error("Unable to attach or mount volumes: volume \"{volume}\": no volume plugin matched")]
    Unsupported { volume: String },
}

/// Where each volume of the pod is on the host, by name.
pub(crate) type VolumePaths = BTreeMap<String, PathBuf>;

/// Makes all volumes of the pod, or brings them up to date. Blocking; idempotent.
pub(crate) fn set_up(
    paths: &Paths,
    sources: &Sources<'_>,
    tokens: &Tokens,
) -> Result<VolumePaths, VolumeError> {
    let pod = sources.pod;
    let mut result = VolumePaths::new();
    let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or(&[]);
    for volume in volumes {
        let path = one(paths, sources, tokens, volume)?;
        result.insert(volume.name.clone(), path);
    }
    Ok(result)
}

fn one(
    paths: &Paths,
    sources: &Sources<'_>,
    tokens: &Tokens,
    volume: &Volume,
) -> Result<PathBuf, VolumeError> {
    let pod = sources.pod;
    let failed = |message: String| VolumeError::SetUp { volume: volume.name.clone(), message };
    let dir = |kind: &str| paths.volume(spec::uid(pod), kind, &volume.name);
    if let Some(source) = &volume.host_path {
        host_path::check(source).map_err(failed)?;
        return Ok(PathBuf::from(&source.path));
    }
    if let Some(source) = &volume.empty_dir {
        let dir = dir("empty-dir");
        let limit = source.size_limit.as_ref().map(resources::value);
        let medium = match source.medium.as_deref().unwrap_or("") {
            "" => tmpfs::Medium::Disk,
            "Memory" => tmpfs::Medium::Memory(memory_limit(pod, limit, sources.allocatable.1)),
            other => tmpfs::Medium::huge_pages(other).map_err(failed)?,
        };
        let new = tmpfs::make_empty_dir(&dir, medium).map_err(|error| failed(error.to_string()))?;
        if new {
            // Once: what the pod makes of it later is its own.
            apply_fs_group(pod, &dir, false).map_err(|error| failed(error.to_string()))?;
        }
        return Ok(dir);
    }
    let held = atomic::Held(dir("projected"));
    let payload = content::payload(volume, sources, tokens, &held).map_err(failed)?;
    let Some((kind, payload)) = payload else {
        return Err(VolumeError::Unsupported { volume: volume.name.clone() });
    };
    let dir = dir(kind);
    if kind != "configmap" {
        tmpfs::keep_off_disk(&dir).map_err(|error| failed(error.to_string()))?;
    }
    let finish = |path: &std::path::Path| apply_fs_group(pod, path, true);
    atomic::write(&dir, &payload, &finish).map_err(|error| failed(error.to_string()))?;
    Ok(dir)
}

/// How large a volume in memory may grow: as its limit says, but never above what the pod may use at all.
fn memory_limit(pod: &Pod, limit: Option<i64>, allocatable: i64) -> i64 {
    let of_pod = resources::pod(pod).memory_limit_bytes;
    [limit.unwrap_or(0), of_pod, allocatable].into_iter().filter(|n| *n > 0).min().unwrap_or(0)
}

/// `fsGroup`: the group owns everything, may read it, and write unless the volume is read-only; new files inherit it.
fn apply_fs_group(pod: &Pod, dir: &std::path::Path, readonly: bool) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
    let context = spec::spec(pod).and_then(|spec| spec.security_context.as_ref());
    let Some(group) = context.and_then(|context| context.fs_group) else { return Ok(()) };
    let group = u32::try_from(group).unwrap_or(u32::MAX);
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata()?;
        if meta.is_symlink() {
            lchown(&path, None, Some(group))?;
            continue;
        }
        let mut wanted = meta.mode() & 0o7777 | if readonly { 0o440 } else { 0o660 };
        if meta.is_dir() {
            wanted |= 0o2110;
            for entry in std::fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
        if meta.gid() != group {
            chown(&path, None, Some(group))?;
        }
        if meta.mode() & 0o7777 != wanted {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wanted))?;
        }
    }
    Ok(())
}
