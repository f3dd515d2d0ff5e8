//! The image of the pods: this machine's own busybox, so that no registry is needed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// What pods ask for. Of a tag that is not `latest`, so that an image which is there need not be pulled.
pub(crate) const NAME: &str = "docker.io/library/quorate-chaos:v1";

/// Where busybox is, on distributions that have it.
const BUSYBOX: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];

/// Programs in the image.
const PROGRAMS: [&str; 3] = ["sh", "sleep", "true"];

/// Busybox of this machine.
///
/// # Errors
/// Why there is none that can be used.
pub(super) fn busybox() -> Result<Vec<u8>, String> {
    let found = BUSYBOX.iter().find_map(|path| std::fs::read(path).ok());
    let found = found.ok_or("pods need the program busybox: apt-get install busybox-static")?;
    // A program that names an interpreter needs libraries, and the image has none.
    match found.windows(8).take(4096).any(|part| part.starts_with(b"/lib") && part.contains(&b'/'))
    {
        true => Err("busybox is not static here: apt-get install busybox-static".to_owned()),
        false => Ok(found),
    }
}

/// Writes a docker archive.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, busybox: &[u8]) -> anyhow::Result<()> {
    let mut layer = Builder::new(Vec::new());
    for directory in ["bin/", "tmp/", "etc/", "dev/", "proc/", "sys/"] {
        add(&mut layer, directory, (EntryType::Directory, 0o755), &[])?;
    }
    add(&mut layer, "bin/busybox", (EntryType::Regular, 0o755), busybox)?;
    add(&mut layer, "etc/passwd", (EntryType::Regular, 0o644), b"root:x:0:0::/:/bin/sh\n")?;
    for program in PROGRAMS {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{program}"), "busybox")?;
    }
    let layer = layer.into_inner()?;
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "2147483"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Builder::new(file);
    let regular = (EntryType::Regular, 0o644);
    add(&mut archive, "config.json", regular, config.to_string().as_bytes())?;
    add(&mut archive, "layer.tar", regular, &layer)?;
    add(&mut archive, "manifest.json", regular, manifest.to_string().as_bytes())?;
    archive.into_inner()?.sync_all()?;
    Ok(())
}

fn add<W: Write>(
    archive: &mut Builder<W>,
    name: &str,
    (kind, mode): (EntryType, u32),
    content: &[u8],
) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    Ok(archive.append_data(&mut header, name, content)?)
}
