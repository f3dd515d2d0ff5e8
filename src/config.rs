//! Where settings come from: flags, then `QUORATE_*` environment, then a YAML file, then defaults.
//! This is the only place that reads any of them.
//!
//! Every setting is one field of [`Options`]: the same name as flag (`--peer-listen`), variable
//! (`QUORATE_PEER_LISTEN`) and key of the file (`peer-listen`). A field left `None` everywhere gets
//! its default where it is used: [`Settings`].

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

/// Largest configuration file that is read.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Which container runtime the node agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// containerd when its socket is there, else the built-in one.
    Auto,
    /// containerd (or another CRI runtime at `--containerd-socket`).
    Containerd,
    /// The built-in one: needs nothing installed.
    Builtin,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

macro_rules! options {
    ($($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)*)])? $field:ident : $type:ty, $env:literal;)*) => {
        /// All settings of masters and agents, each possibly unset.
        #[derive(Debug, Clone, Default, Args, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct Options {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, $($($arg)*)?)]
                pub $field: Option<$type>,
            )*
            /// YAML file with any of these settings, under the same names as the flags
            #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
            #[serde(skip)]
            pub config: Option<PathBuf>,
        }

        impl Options {
            /// Takes from `lower` what is not set here.
            fn or(self, lower: Self) -> Self {
                Self {
                    $($field: self.$field.or(lower.$field),)*
                    config: self.config,
                }
            }
        }
    };
}

options! {
    /// Directory for everything this process owns
    #[arg(value_name = "DIR")]
    data: PathBuf, "QUORATE_DATA";
    /// Address of the HTTPS API [dev: 127.0.0.1:6443, server: 0.0.0.0:6443]
    #[arg(value_name = "ADDR")]
    listen: String, "QUORATE_LISTEN";
    /// Address for the other masters (mTLS) [default: the API's address, port 6444]
    #[arg(value_name = "ADDR")]
    peer_listen: String, "QUORATE_PEER_LISTEN";
    /// Host name or address under which others reach this machine [default: found out]
    #[arg(value_name = "ADDR")]
    advertise: String, "QUORATE_ADVERTISE";
    /// Name of this master or node [default: the host name]
    #[arg(value_name = "NAME")]
    name: String, "QUORATE_NAME";
    /// Further names and addresses for the serving certificate, comma-separated
    #[arg(value_name = "NAMES")]
    tls_san: String, "QUORATE_TLS_SAN";
    /// Where the admin's kubeconfig is written [default: $KUBECONFIG or ~/.kube/config]
    #[arg(value_name = "FILE")]
    kubeconfig: PathBuf, "QUORATE_KUBECONFIG";
    /// URL of a master to join (server), or of the masters, comma-separated (agent: --server)
    #[arg(value_name = "URL")]
    join: String, "QUORATE_JOIN";
    /// API addresses of the masters, comma-separated
    #[arg(value_name = "URL[,URL...]")]
    server: String, "QUORATE_SERVER";
    /// Join token, as `quorate token create` prints it
    #[arg(value_name = "TOKEN")]
    token: String, "QUORATE_TOKEN";
    /// File that holds the join token
    #[arg(value_name = "FILE")]
    token_file: PathBuf, "QUORATE_TOKEN_FILE";
    /// Container runtime of the node agent [default: auto]
    runtime: Runtime, "QUORATE_RUNTIME";
    /// Socket of the CRI runtime [default: /run/containerd/containerd.sock]
    #[arg(value_name = "PATH")]
    containerd_socket: PathBuf, "QUORATE_CONTAINERD_SOCKET";
    /// Where containerd reads its CNI configuration; one is written when there is none
    /// [default: /etc/cni/net.d]
    #[arg(value_name = "DIR")]
    cni_conf_dir: PathBuf, "QUORATE_CNI_CONF_DIR";
    /// Labels for this node, comma-separated key=value
    #[arg(value_name = "LABELS")]
    node_labels: String, "QUORATE_NODE_LABELS";
    /// Address range of Services [default: 10.43.0.0/16]
    #[arg(value_name = "CIDR")]
    service_cidr: String, "QUORATE_SERVICE_CIDR";
    /// Address range of pods [default: 10.42.0.0/16]
    #[arg(value_name = "CIDR")]
    cluster_cidr: String, "QUORATE_CLUSTER_CIDR";
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(value_name = "DOMAIN")]
    cluster_domain: String, "QUORATE_CLUSTER_DOMAIN";
    /// Raft heartbeat interval, milliseconds [default: 75]
    #[arg(value_name = "MS")]
    raft_heartbeat_ms: u64, "QUORATE_RAFT_HEARTBEAT_MS";
    /// Raft election timeout, smallest, milliseconds [default: 200]
    #[arg(value_name = "MS")]
    raft_election_min_ms: u64, "QUORATE_RAFT_ELECTION_MIN_MS";
    /// Raft election timeout, largest, and the leader's lease, milliseconds [default: 400]
    #[arg(value_name = "MS")]
    raft_election_max_ms: u64, "QUORATE_RAFT_ELECTION_MAX_MS";
    /// What is logged: error, warn, info, debug, trace, or a tracing filter [default: info]
    #[arg(value_name = "LEVEL")]
    log_level: String, "QUORATE_LOG_LEVEL";
    /// How log lines look [default: text]
    log_format: LogFormat, "QUORATE_LOG_FORMAT";
}

impl Options {
    /// These options with what the configuration file adds.
    pub fn with_file(self) -> anyhow::Result<Self> {
        match self.config.clone() {
            None => Ok(self),
            Some(path) => {
                let file = read_file(&path)?;
                Ok(self.or(file))
            }
        }
    }

    /// The token, from `--token` or `--token-file`.
    pub fn join_token(&self) -> anyhow::Result<Option<quorate_pki::JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => bail!("--token and --token-file are both given: give one"),
            (Some(token), None) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the token file {}", file.display()))?,
            (None, None) => return Ok(None),
        };
        Ok(Some(text.parse()?))
    }
}

fn read_file(path: &Path) -> anyhow::Result<Options> {
    let what = || format!("configuration file {}", path.display());
    let size = std::fs::metadata(path).with_context(what)?.len();
    if size > CONFIG_BYTES_MAX {
        bail!("{} is larger than {CONFIG_BYTES_MAX} bytes", what());
    }
    let text = std::fs::read_to_string(path).with_context(what)?;
    if text.trim().is_empty() {
        return Ok(Options::default());
    }
    serde_saphyr::from_str(&text).with_context(what)
}

/// The kubeconfig that kubectl would use: the first file of `$KUBECONFIG`, or `~/.kube/config`.
#[allow(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
pub fn default_kubeconfig() -> Option<PathBuf> {
    if let Ok(list) = std::env::var("KUBECONFIG")
        && let Some(first) = list.split(':').find(|file| !file.is_empty())
    {
        return Some(first.into());
    }
    std::env::var("HOME").ok().map(|home| Path::new(&home).join(".kube/config"))
}

/// Whether the terminal's owner asked for plain text (<https://no-color.org>).
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quorate.yaml");
        std::fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let (_directory, path) = file("listen: 1.2.3.4:1\nname: from-file\nruntime: builtin\n");
        let path = path.to_str().unwrap();
        let line = Line::parse_from(["quorate", "--config", path, "--name", "from-flag"]);
        let options = line.options.with_file().unwrap();
        assert_eq!(options.name.as_deref(), Some("from-flag"));
        assert_eq!(options.listen.as_deref(), Some("1.2.3.4:1"));
        assert_eq!(options.runtime, Some(Runtime::Builtin));
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let (_directory, path) = file("listn: 1.2.3.4:1\n");
        let line = Line::parse_from(["quorate", "--config", path.to_str().unwrap()]);
        let error = format!("{:#}", line.options.with_file().unwrap_err());
        assert!(error.contains("quorate.yaml") && error.contains("listn"), "{error}");
    }

    #[test]
    fn two_tokens_are_one_too_many() {
        let line = Line::parse_from(["quorate", "--token", "a", "--token-file", "b"]);
        let error = line.options.join_token().unwrap_err();
        assert_eq!(error.to_string(), "--token and --token-file are both given: give one");
    }
}
