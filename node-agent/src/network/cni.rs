//! CNI configuration for runtimes that make their pods' network themselves (containerd, CRI-O).

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Error, Result};

/// Where distributions put the plugins.
const PLUGIN_DIRS: &[&str] = &["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// Without these a pod gets no network.
const NEEDED: &[&str] = &["bridge", "host-local", "loopback"];

/// Bridges of agents are called so, with the agent's tag; and so are their networks.
pub(super) const BRIDGE_PREFIX: &str = "qbr";

/// Tags of the agents that have a network configuration in the directory.
pub(super) fn tags_in(conf_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(conf_dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let prefix = format!("10-{BRIDGE_PREFIX}");
    let tags = names.filter_map(|name| {
        let tag = name.strip_prefix(&prefix)?.strip_suffix(".conflist")?;
        let tagged = tag.len() == 8 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        tagged.then(|| tag.to_owned())
    });
    tags.collect()
}

/// Removes the configuration of the network of that name, if there is one.
pub(super) fn remove_config(conf_dir: &Path, name: &str) {
    let _ = std::fs::remove_file(conf_dir.join(format!("10-{name}.conflist")));
}

/// The directory with the plugins we need; `None` when they are not installed.
pub fn plugin_dir() -> Option<PathBuf> {
    let mut dirs = PLUGIN_DIRS.iter().map(PathBuf::from);
    dirs.find(|dir| NEEDED.iter().all(|plugin| dir.join(plugin).is_file()))
}

/// The name of a network configuration in the directory that is not ours (`10-<name>.conflist`), if there is one.
pub fn others_in(conf_dir: &Path, name: &str) -> Option<String> {
    let own = format!("10-{name}.conflist");
    let entries = std::fs::read_dir(conf_dir).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|file| [".conf", ".conflist", ".json"].iter().any(|end| file.ends_with(end)))
        .find(|file| *file != own)
}

/// Writes the network `name` on `bridge` with the node's pod CIDRs to `conf_dir`, as a list that sorts first.
pub fn write_config(
    conf_dir: &Path,
    name: &str,
    bridge: &str,
    cidrs: &[String],
) -> Result<PathBuf> {
    std::fs::create_dir_all(conf_dir).map_err(Error::io(conf_dir))?;
    let ranges: Vec<_> = cidrs.iter().map(|cidr| json!([{"subnet": cidr}])).collect();
    let routes: Vec<_> = cidrs
        .iter()
        .map(|cidr| json!({"dst": if cidr.contains(':') { "::/0" } else { "0.0.0.0/0" }}))
        .collect();
    let mut plugins = vec![json!({
        "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
    })];
    if plugin_dir().is_some_and(|dir| dir.join("portmap").is_file()) {
        plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    }
    let list = json!({"cniVersion": "0.4.0", "name": name, "plugins": plugins});
    let path = conf_dir.join(format!("10-{name}.conflist"));
    crate::builtin::record::write(&path, &list).map_err(Error::io(&path))?;
    Ok(path)
}
