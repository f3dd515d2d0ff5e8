//! kubeconfig files: made, merged into an existing one, never damaging it.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_pki::{Certified, files};
use serde_json::{Value, json};

/// Largest kubeconfig that is merged into.
const KUBECONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How a user reaches a cluster, and as whom.
#[derive(Debug)]
pub struct Access<'a> {
    /// Name of cluster, user and context.
    pub name: &'a str,
    /// `https://host:port`.
    pub server: &'a str,
    /// Whom to trust.
    pub ca_pem: &'a str,
    /// Whom to be.
    pub client: &'a Certified,
}

impl Access<'_> {
    /// A whole kubeconfig with this access alone.
    pub fn document(&self) -> Value {
        let mut config = json!({"apiVersion": "v1", "kind": "Config", "preferences": {}});
        self.merge_into(&mut config);
        config
    }

    fn merge_into(&self, config: &mut Value) {
        let cluster = json!({
            "server": self.server,
            "certificate-authority-data": BASE64.encode(self.ca_pem),
        });
        let user = json!({
            "client-certificate-data": BASE64.encode(&self.client.certificate_pem),
            "client-key-data": BASE64.encode(&self.client.key_pem),
        });
        let context = json!({"cluster": self.name, "user": self.name});
        upsert(config, "clusters", "cluster", self.name, cluster);
        upsert(config, "users", "user", self.name, user);
        upsert(config, "contexts", "context", self.name, context);
        config["current-context"] = self.name.into();
    }

    /// Adds this access to the file, or replaces the one of the same name, and makes it the current
    /// one. What else is in the file stays. Written beside and renamed; a link is followed.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut config = read(path)?;
        self.merge_into(&mut config);
        if let Some(directory) = path.parent()
            && !directory.as_os_str().is_empty()
        {
            files::create_private_dir(directory)?;
        }
        files::write_private(path, to_yaml(&config)?.as_bytes())?;
        Ok(())
    }
}

/// A kubeconfig as YAML.
pub fn to_yaml(config: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(config).context("cannot write the kubeconfig as YAML")
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let empty = json!({"apiVersion": "v1", "kind": "Config", "preferences": {}});
    if !path.exists() {
        return Ok(empty);
    }
    let refuse = || {
        format!(
            "{} is not a kubeconfig; it was left as it is. Give another file with --kubeconfig",
            path.display()
        )
    };
    if path.metadata()?.len() > KUBECONFIG_BYTES_MAX {
        bail!("{} is larger than {KUBECONFIG_BYTES_MAX} bytes", path.display());
    }
    let text = files::read(path)?;
    if text.trim().is_empty() {
        return Ok(empty);
    }
    let config: Value = serde_saphyr::from_str(&text).with_context(refuse)?;
    let list = |name: &str| config.get(name).is_none_or(|v| v.is_null() || v.is_array());
    if !config.is_object() || !["clusters", "users", "contexts"].into_iter().all(list) {
        bail!("{}", refuse());
    }
    Ok(config)
}

fn upsert(config: &mut Value, list: &str, entry: &str, name: &str, content: Value) {
    let list = &mut config[list];
    if !list.is_array() {
        *list = json!([]);
    }
    let mut item = json!({"name": name});
    item[entry] = content;
    let Some(items) = list.as_array_mut() else { return };
    match items.iter_mut().find(|item| item["name"] == name) {
        Some(existing) => {
            // A namespace that the user has set for the context stays.
            if let Some(namespace) = existing[entry].get("namespace").cloned() {
                item[entry]["namespace"] = namespace;
            }
            *existing = item;
        }
        None => items.push(item),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(client: &Certified) -> Access<'_> {
        Access { name: "quorate", server: "https://127.0.0.1:6443", ca_pem: "ca", client }
    }

    fn client() -> Certified {
        Certified { certificate_pem: "cert".to_owned(), key_pem: "key".to_owned() }
    }

    #[test]
    fn other_clusters_and_settings_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Config\nclusters:\n- name: other\n  cluster: {server: https://o}\n\
             contexts:\n- name: quorate\n  context: {cluster: x, user: x, namespace: mine}\n\
             current-context: other\nextensions: [{name: e}]\n",
        )
        .unwrap();
        access(&client()).write(&path).unwrap();
        let merged = read(&path).unwrap();
        assert_eq!(merged["clusters"][0]["name"], "other");
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(merged["contexts"][0]["context"]["namespace"], "mine");
        assert_eq!(merged["contexts"][0]["context"]["cluster"], "quorate");
        assert_eq!(merged["current-context"], "quorate");
        assert_eq!(merged["extensions"][0]["name"], "e");
        assert_eq!(merged["users"][0]["user"]["client-key-data"], BASE64.encode("key"));
    }

    #[test]
    fn writing_twice_adds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config");
        access(&client()).write(&path).unwrap();
        let once = files::read(&path).unwrap();
        access(&client()).write(&path).unwrap();
        assert_eq!(files::read(&path).unwrap(), once);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        for content in ["{{{", "- a\n- b\n", "clusters: none\n"] {
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", access(&client()).write(&path).unwrap_err());
            assert!(error.contains("is not a kubeconfig; it was left as it is"), "{error}");
            assert_eq!(files::read(&path).unwrap(), content);
        }
    }
}
