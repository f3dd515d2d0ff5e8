//! Rotation: a log above its size is renamed with the time, the runtime opens a new one, the oldest go.

use std::path::{Path, PathBuf};

use crate::limits::{LOG_FILE_BYTES_MAX, LOG_FILES_MAX};
use crate::runtime::{ContainerState, Runtime};

/// Rotates the logs of all running containers that have grown too large.
pub(crate) async fn rotate_all(
    runtime: &dyn Runtime,
    containers: &[(crate::runtime::ContainerId, PathBuf)],
) {
    for (id, path) in containers {
        let size = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or(0);
        if size < LOG_FILE_BYTES_MAX {
            continue;
        }
        let running = runtime.container_status(id).await;
        if !running.is_ok_and(|status| status.container.state == ContainerState::Running) {
            continue;
        }
        let stamp = quorate_chance::now().strftime("%Y%m%d-%H%M%S").to_string();
        let rotated = PathBuf::from(format!("{}.{stamp}", path.display()));
        if let Err(error) = std::fs::rename(path, &rotated) {
            tracing::warn!(path = %path.display(), %error, "log not rotated");
            continue;
        }
        if let Err(error) = runtime.reopen_log(id).await {
            // The runtime still writes to the old file: give it its name back.
            let _ = std::fs::rename(&rotated, path);
            tracing::warn!(path = %path.display(), %error, "log not reopened");
            continue;
        }
        prune(path);
    }
}

/// Keeps the newest rotated files.
fn prune(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut rotated: Vec<PathBuf> = files
        .filter(|file| file.file_name().to_string_lossy().starts_with(&prefix))
        .map(|file| file.path())
        .collect();
    rotated.sort();
    let surplus = (rotated.len() + 1).saturating_sub(LOG_FILES_MAX);
    for old in rotated.iter().take(surplus) {
        let _ = std::fs::remove_file(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_rotated_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "").unwrap();
        for n in 0..9 {
            std::fs::write(dir.path().join(format!("0.log.2026010{n}")), "").unwrap();
        }
        prune(&path);
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["0.log", "0.log.20260105", "0.log.20260106", "0.log.20260107", "0.log.20260108"]
        );
    }
}
