//! Volumes in memory: `emptyDir` with medium Memory, and everything that holds secrets.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use crate::paths::Paths;

/// An empty directory that everybody may write to, in memory or on disk. What is in it stays.
pub(super) fn make_empty_dir(dir: &Path, memory: bool, size: Option<i64>) -> io::Result<()> {
    let new = !dir.exists();
    std::fs::create_dir_all(dir)?;
    if memory && !is_mounted(dir) {
        let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
        mount(dir, &format!("mode=1777{size}"))?;
    } else if new {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

/// Puts a tmpfs there, so that secrets never reach the disk. Without the right to mount, the directory itself
/// has to do.
pub(super) fn keep_off_disk(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    if is_mounted(dir) || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    mount(dir, "mode=0755")
}

fn mount(dir: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options))
        .map_err(io::Error::from)
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    points.filter(|point| Path::new(point).starts_with(dir)).collect()
}

/// Mount points are written with octal escapes for space, tab, newline and backslash.
fn unescape(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn is_mounted(dir: &Path) -> bool {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    mounts_below(&dir).iter().any(|point| Path::new(point) == dir)
}

/// Unmounts and removes everything of a pod but its logs. Blocking; idempotent.
pub(crate) fn tear_down(paths: &Paths, uid: &str) -> io::Result<()> {
    let dir = paths.pod_data(uid);
    let Ok(dir) = dir.canonicalize() else { return Ok(()) };
    // Deepest first. A mount that stays would make the removal below eat into somebody's data.
    for point in mounts_below(&dir).iter().rev() {
        nix::mount::umount2(point.as_str(), MntFlags::MNT_DETACH).map_err(io::Error::from)?;
    }
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
