//! The masters as they were told last, kept for the next start: the ones that it is given may be gone by then.

use std::path::{Path, PathBuf};

use crate::paths::{Paths, write_atomically};

/// More than any cluster has; what is longer was not written by an agent.
const MASTERS_FILE_BYTES_MAX: u64 = 64 * 1024;

fn file(paths: &Paths) -> PathBuf {
    paths.state().join("masters.json")
}

/// Keeps a list; an empty one is no news. What cannot be kept is missed at the next start only.
pub(crate) fn keep(paths: &Paths, urls: &[String]) {
    if urls.is_empty() || read(paths).as_deref() == Some(urls) {
        return;
    }
    let bytes = serde_json::to_vec(urls).unwrap_or_default();
    if let Err(error) = write_atomically(&file(paths), &bytes, 0o600) {
        tracing::warn!(%error, "the list of masters cannot be kept for the next start");
    }
}

fn read(paths: &Paths) -> Option<Vec<String>> {
    let file = file(paths);
    let size = std::fs::metadata(&file).ok()?.len();
    let text = (size <= MASTERS_FILE_BYTES_MAX).then(|| std::fs::read(&file))?.ok()?;
    serde_json::from_slice(&text).ok()
}

/// Keeps the masters of an agent that has just joined, for when it is stopped before one has told it more.
pub fn keep_masters(data: &Path, urls: &[String]) {
    keep(&Paths::new(data), urls);
}

/// The masters as the last run of the agent knew them; none before the first.
pub fn known_masters(data: &Path) -> Vec<String> {
    read(&Paths::new(data)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_known_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let paths = Paths::new(data.path());
        std::fs::create_dir_all(paths.state()).unwrap();
        assert!(known_masters(data.path()).is_empty());
        let urls = ["https://a:1".to_owned(), "https://b:1".to_owned()];
        keep(&paths, &urls);
        keep(&paths, &[]);
        assert_eq!(known_masters(data.path()), urls);
        std::fs::write(paths.state().join("masters.json"), "{").unwrap();
        assert!(known_masters(data.path()).is_empty(), "damage is as nothing known");
    }
}
