//! Volumes in memory: `emptyDir` with medium Memory, and everything that holds secrets.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use crate::paths::Paths;

/// What an `emptyDir` is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Medium {
    /// The disk the agent's directory is on.
    Disk,
    /// A tmpfs of at most so many bytes (0: what the kernel allows).
    Memory(i64),
    /// A hugetlbfs, with the page size as its mount option takes it (`2M`).
    HugePages(String),
}

impl Medium {
    /// `HugePages-2Mi`; without a size the kernel's default.
    pub(super) fn huge_pages(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown storage medium \"{text}\"");
        let rest = text.strip_prefix("HugePages").ok_or_else(unknown)?;
        match rest.strip_prefix('-') {
            Some(size) => Ok(Medium::HugePages(size.trim_end_matches('i').to_owned())),
            None if rest.is_empty() => Ok(Medium::HugePages(String::new())),
            None => Err(unknown()),
        }
    }
}

/// An empty directory that everybody may write to. What is in it stays. Says whether it is new.
pub(super) fn make_empty_dir(dir: &Path, medium: Medium) -> io::Result<bool> {
    let new = !dir.exists();
    std::fs::create_dir_all(dir)?;
    match medium {
        Medium::Memory(size) if !is_mounted(dir) => {
            let size = if size > 0 { format!(",size={size}") } else { String::new() };
            mount(dir, &format!("mode=1777{size}"))?;
            return Ok(true);
        }
        Medium::HugePages(size) if !is_mounted(dir) => {
            let options = if size.is_empty() { size } else { format!("pagesize={size}") };
            nix::mount::mount(
                Some("nodev"),
                dir,
                Some("hugetlbfs"),
                MsFlags::empty(),
                Some(options.as_str()),
            )?;
            return Ok(true);
        }
        Medium::Disk if new => {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))?;
        }
        Medium::Disk | Medium::Memory(_) | Medium::HugePages(_) => {}
    }
    Ok(new)
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
