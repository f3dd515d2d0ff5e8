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

const ADDRESSES: &str = "Addresses";
const JOINING: &str = "Joining";
const PODS: &str = "Pods";
const BACKUPS: &str = "Backups";
const CERTIFICATES: &str = "Certificates";
const RAFT: &str = "Raft";
const LOGS: &str = "Logs";

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
                #[arg(long, env = $env, hide_env_values = true, $($($arg)*)?)]
                pub $field: Option<$type>,
            )*
            /// YAML file with any of these settings, under the same names as the flags
            #[arg(long, env = "QUORATE_CONFIG", hide_env_values = true, value_name = "FILE")]
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
    /// Name of this master or node [default: the host name]
    #[arg(value_name = "NAME")]
    name: String, "QUORATE_NAME";
    /// Where the admin's kubeconfig is written [default: $KUBECONFIG or ~/.kube/config]
    #[arg(value_name = "FILE")]
    kubeconfig: PathBuf, "QUORATE_KUBECONFIG";
    /// Name of cluster, user and context in the kubeconfig [default: quorate]
    #[arg(value_name = "NAME")]
    context: String, "QUORATE_CONTEXT";
    /// Address of the HTTPS API [default: 127.0.0.1:6443 for dev, 0.0.0.0:6443 for server]
    #[arg(value_name = "ADDR", help_heading = ADDRESSES)]
    listen: String, "QUORATE_LISTEN";
    /// Address for the other masters (mTLS) [default: the API's address, port 6444]
    #[arg(value_name = "ADDR", help_heading = ADDRESSES)]
    peer_listen: String, "QUORATE_PEER_LISTEN";
    /// Host name or address under which others reach this machine [default: found out]
    #[arg(value_name = "ADDR", help_heading = ADDRESSES)]
    advertise: String, "QUORATE_ADVERTISE";
    /// Further names and addresses for the serving certificate, comma-separated
    #[arg(value_name = "NAMES", help_heading = ADDRESSES)]
    tls_san: String, "QUORATE_TLS_SAN";
    /// Virtual addresses, at most one IPv4 and one IPv6, comma-separated: the leader's machine has them. The same on
    /// all masters
    #[arg(value_name = "ADDR[/PREFIX]", help_heading = ADDRESSES)]
    vip: String, "QUORATE_VIP";
    /// Where they are set [default: the interface with a network that they are of, else that of --advertise]
    #[arg(value_name = "NAME", help_heading = ADDRESSES)]
    vip_interface: String, "QUORATE_VIP_INTERFACE";
    /// Address range of Services [default: 10.43.0.0/16]
    #[arg(value_name = "CIDR", help_heading = ADDRESSES)]
    service_cidr: String, "QUORATE_SERVICE_CIDR";
    /// Address range of pods [default: 10.42.0.0/16]
    #[arg(value_name = "CIDR", help_heading = ADDRESSES)]
    cluster_cidr: String, "QUORATE_CLUSTER_CIDR";
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(value_name = "DOMAIN", help_heading = ADDRESSES)]
    cluster_domain: String, "QUORATE_CLUSTER_DOMAIN";
    /// URL of a master of the cluster to join
    #[arg(value_name = "URL", help_heading = JOINING)]
    join: String, "QUORATE_JOIN";
    /// URLs of the masters; one is enough to begin with
    #[arg(value_name = "URL[,URL...]", help_heading = JOINING)]
    server: String, "QUORATE_SERVER";
    /// Join token, as `quorate token create` prints it; needed at the first start only
    #[arg(value_name = "TOKEN", help_heading = JOINING)]
    token: String, "QUORATE_TOKEN";
    /// File that holds the join token, so that `ps` does not show it
    #[arg(value_name = "FILE", help_heading = JOINING)]
    token_file: PathBuf, "QUORATE_TOKEN_FILE";
    /// Join as a standby: it gets the log, and does not vote until `quorate masters promote`
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = JOINING)]
    standby: bool, "QUORATE_STANDBY";
    /// Join without looking first whether the machines reach each other, the disk is fast, the clocks agree
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = JOINING)]
    skip_preflight: bool, "QUORATE_SKIP_PREFLIGHT";
    /// A master that joins and is not heard for so long is taken out again [default: 2m]
    #[arg(value_name = "DURATION", help_heading = RAFT)]
    join_timeout: String, "QUORATE_JOIN_TIMEOUT";
    /// Take out masters that were not heard for so long, never below 3 voters [default: never]
    #[arg(value_name = "DURATION", help_heading = RAFT)]
    remove_dead_masters_after: String, "QUORATE_REMOVE_DEAD_MASTERS_AFTER";
    /// Container runtime of the node agent [default: auto]
    #[arg(help_heading = PODS)]
    runtime: Runtime, "QUORATE_RUNTIME";
    /// Socket of the CRI runtime [default: /run/containerd/containerd.sock]
    #[arg(value_name = "PATH", help_heading = PODS)]
    containerd_socket: PathBuf, "QUORATE_CONTAINERD_SOCKET";
    /// Where containerd reads its CNI configuration; one is written when there is none
    /// [default: /etc/cni/net.d]
    #[arg(value_name = "DIR", help_heading = PODS)]
    cni_conf_dir: PathBuf, "QUORATE_CNI_CONF_DIR";
    /// Labels for this node, comma-separated key=value
    #[arg(value_name = "LABELS", help_heading = PODS)]
    node_labels: String, "QUORATE_NODE_LABELS";
    /// How little may be free before the node is under pressure and takes no more pods, as the kubelet's flag
    /// [default: memory.available<100Mi,nodefs.available<10%,pid.available<10%; dev: without nodefs.available]
    #[arg(value_name = "SIGNALS", help_heading = PODS)]
    eviction_hard: String, "QUORATE_EVICTION_HARD";
    /// When this master makes a backup, as crontab has it, in UTC unless a time zone follows [default: 0 */12 * * *]
    #[arg(value_name = "CRON", help_heading = BACKUPS)]
    backup_schedule: String, "QUORATE_BACKUP_SCHEDULE";
    /// How many of them stay [default: 5]
    #[arg(value_name = "N", help_heading = BACKUPS)]
    backup_keep: u32, "QUORATE_BACKUP_KEEP";
    /// Where they are: a directory, or s3://BUCKET/PREFIX with the usual AWS_* variables
    /// [default: backups below --data]
    #[arg(value_name = "DIR|URL", help_heading = BACKUPS)]
    backup_dir: PathBuf, "QUORATE_BACKUP_DIR";
    /// File with the passphrase that seals the cluster's keys into them [default: they hold no keys]
    #[arg(value_name = "FILE", help_heading = BACKUPS)]
    backup_passphrase_file: PathBuf, "QUORATE_BACKUP_PASSPHRASE_FILE";
    /// Make no backups
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = BACKUPS)]
    no_backups: bool, "QUORATE_NO_BACKUPS";
    /// What the store may take before it only accepts deletes: bytes, or such as 2Gi; 0 for no quota [default: 8Gi]
    #[arg(value_name = "BYTES", help_heading = RAFT)]
    quota_backend_bytes: String, "QUORATE_QUOTA_BACKEND_BYTES";
    /// How often a master looks whether its memory, and every 60th time its snapshots, are as they were written, and
    /// the masters agree [default: 1m]
    #[arg(value_name = "DURATION", help_heading = RAFT)]
    scrub_interval: String, "QUORATE_SCRUB_INTERVAL";
    /// Raft heartbeat interval, milliseconds [default: 75]
    #[arg(value_name = "MS", help_heading = RAFT)]
    raft_heartbeat_ms: u64, "QUORATE_RAFT_HEARTBEAT_MS";
    /// Raft election timeout, smallest, milliseconds [default: 200]
    #[arg(value_name = "MS", help_heading = RAFT)]
    raft_election_min_ms: u64, "QUORATE_RAFT_ELECTION_MIN_MS";
    /// Raft election timeout, largest, and the leader's lease, milliseconds [default: 400]
    #[arg(value_name = "MS", help_heading = RAFT)]
    raft_election_max_ms: u64, "QUORATE_RAFT_ELECTION_MAX_MS";
    /// How long certificates live that this master issues for itself and for nodes; they are made anew in the last
    /// third of it, and not before the last 60 days [default: 8760h]
    #[arg(value_name = "DURATION", help_heading = CERTIFICATES)]
    certificate_lifetime: String, "QUORATE_CERTIFICATE_LIFETIME";
    /// What is logged: error, warn, info, debug, trace, or a filter such as warn,quorate_raft=debug
    /// [default: info; dev: warn]
    #[arg(value_name = "LEVEL", help_heading = LOGS)]
    log_level: String, "QUORATE_LOG_LEVEL";
    /// How log lines look [default: text]
    #[arg(help_heading = LOGS)]
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

/// The kubeconfig files that kubectl would read: those of `$KUBECONFIG`, or `~/.kube/config`.
#[allow(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
pub fn kubeconfig_files() -> Vec<PathBuf> {
    if let Some(list) = kubeconfig_variable() {
        return std::env::split_paths(&list).filter(|file| !file.as_os_str().is_empty()).collect();
    }
    let home = std::env::var("HOME").ok().filter(|home| !home.is_empty());
    home.map(|home| Path::new(&home).join(".kube/config")).into_iter().collect()
}

/// `$KUBECONFIG`, if it is set.
pub fn kubeconfig_variable() -> Option<std::ffi::OsString> {
    std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty())
}

/// The kubeconfig file that kubectl would add a cluster to: the first that exists, else the last.
pub fn default_kubeconfig() -> Option<PathBuf> {
    let files = kubeconfig_files();
    files.iter().find(|file| file.exists()).or_else(|| files.last()).cloned()
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

    /// Values of an option, two different ones where it has two, as they are typed and as they stand in the file.
    fn values(argument: &clap::Arg) -> Vec<(String, String)> {
        let possible = argument.get_possible_values();
        let names: Vec<String> = possible.iter().map(|value| value.get_name().to_owned()).collect();
        let is_number =
            argument.get_long().is_some_and(|flag| flag.ends_with("-ms") || flag == "backup-keep");
        match (names.is_empty(), is_number) {
            (false, _) => names.into_iter().map(|name| (name.clone(), name)).collect(),
            (true, true) => ["11", "12"].map(|text| (text.to_owned(), text.to_owned())).into(),
            (true, false) => ["11", "12"].map(|text| (text.to_owned(), format!("{text:?}"))).into(),
        }
    }

    #[test]
    fn every_option_is_a_flag_a_variable_and_a_key_and_the_flag_wins() {
        use clap::CommandFactory as _;
        let mut seen = 0;
        for argument in Line::command().get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| !["help", "config"].contains(flag))
            else {
                continue;
            };
            seen += 1;
            let variable = format!("QUORATE_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().unwrap().to_str(), Some(variable.as_str()));
            let values = values(argument);
            let ((typed, _), (_, written)) = (&values[0], &values[1]);
            let (_directory, path) = file(&format!("{flag}: {written}\n"));
            let path = path.to_str().unwrap();
            // All others are unset: the option's own value is the only one that is shown.
            let shown = |words: &[&str]| {
                let line = Line::parse_from([&["quorate", "--config", path], words].concat());
                let options = Options { config: None, ..line.options.with_file().unwrap() };
                format!("{options:?}").to_lowercase()
            };
            let said = |value: &str| {
                [
                    format!("some({})", value.trim_matches('"')),
                    format!("some(\"{}\")", value.trim_matches('"')),
                ]
            };
            let has =
                |shown: &str, value: &str| said(value).iter().any(|said| shown.contains(said));
            assert!(has(&shown(&[]), written), "{flag} of the file");
            let flags = shown(&[&format!("--{flag}"), typed]);
            assert!(has(&flags, typed) && !has(&flags, written), "--{flag} wins: {flags}");
        }
        assert!(seen > 20, "{seen} options");
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
