//! The part of an image's configuration that a container inherits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `config` of an OCI image (and docker's, which has the same names).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `KEY=value`.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Arguments, or the whole command without an entrypoint.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Working directory.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// `80/tcp`, …; only told.
    #[serde(deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Signal that asks the process to end.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Directories that want a volume; only told (Kubernetes mounts none for them).
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
}

/// The whole configuration file of an image.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ConfigFile {
    /// CPU architecture as Go names it.
    pub architecture: String,
    /// Operating system as Go names it.
    pub os: String,
    /// What containers inherit.
    #[serde(deserialize_with = "null_is_default")]
    pub config: ImageConfig,
    /// The layers.
    pub rootfs: RootFs,
}

/// The layers of an image by the digest of their uncompressed tar.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Lowest first.
    pub diff_ids: Vec<String>,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// The command of a container, by Kubernetes' table of `command` and `args` against entrypoint and cmd. Empty
    /// when there is none at all.
    pub fn command(&self, command: &[String], args: &[String]) -> Vec<String> {
        match (command.is_empty(), args.is_empty()) {
            (true, true) => self.entrypoint.iter().chain(&self.cmd).cloned().collect(),
            (true, false) => self.entrypoint.iter().chain(args).cloned().collect(),
            (false, _) => command.iter().chain(args).cloned().collect(),
        }
    }

    /// The user part of `User`.
    pub fn user_part(&self) -> &str {
        self.user.split(':').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_follows_kubernetes_table() {
        let image = ImageConfig {
            entrypoint: vec!["/ep".into()],
            cmd: vec!["c".into()],
            ..ImageConfig::default()
        };
        let own = |s: &str| -> Vec<String> { s.split_whitespace().map(str::to_owned).collect() };
        let cases = [("", "", "/ep c"), ("", "a b", "/ep a b"), ("x", "", "x"), ("x", "y", "x y")];
        for (command, args, want) in cases {
            assert_eq!(image.command(&own(command), &own(args)), own(want), "{command}|{args}");
        }
    }

    #[test]
    fn nulls_of_docker_are_defaults() {
        let file: ConfigFile = serde_json::from_str(
            r#"{"os":"linux","config":{"Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null},
                "rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        assert_eq!(file.config.cmd, ["sh"]);
        assert!(file.config.env.is_empty());
    }
}
