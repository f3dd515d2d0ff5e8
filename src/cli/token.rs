//! `quorate token create|list|delete`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Subcommand;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use quorate_pki::{JoinToken, authority};
use serde_json::{Value, json};

use super::status::Output;
use crate::client::ApiClient;
use crate::config;
use crate::progress;
use crate::tokens::{self, Role};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it
    Create {
        #[command(flatten)]
        to: Target,
        /// What may join with it
        #[arg(long, value_enum, value_delimiter = ',', default_values = ["agent", "server"])]
        role: Vec<Role>,
        /// How long it is good for, such as 30m, 24h or 7d; 0 for ever
        #[arg(long, default_value = "24h")]
        ttl: String,
        /// How often it can be used [default: any number of times]
        #[arg(long)]
        uses: Option<u32>,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Print the whole command that joins with it
        #[arg(long)]
        print_join_command: bool,
        /// Output format
        #[arg(short, long, value_enum, conflicts_with = "print_join_command")]
        output: Option<Output>,
    },
    /// List tokens (without their secrets)
    List {
        #[command(flatten)]
        to: Target,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Delete tokens, by id or whole token
    Delete {
        #[command(flatten)]
        to: Target,
        /// Which
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// Which cluster a command is about, and which of its masters is asked.
#[derive(Debug, clap::Args)]
pub struct Target {
    // Not clap's `env`: a variable must not win over another option that is given.
    /// Data directory of a master on this machine [env: QUORATE_DATA] [default: a usual one, if a master runs there]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Admin kubeconfig [env: QUORATE_KUBECONFIG] [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [env: QUORATE_CONTEXT] [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// URL of the master to ask [default: as the directory or the kubeconfig says]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

impl Target {
    pub fn client(&self) -> anyhow::Result<ApiClient> {
        let server = self.server.as_deref();
        // Options first, then variables, then what lies about.
        let by_option = self.kubeconfig.is_some() || self.context.is_some();
        let data = self
            .data
            .clone()
            .or_else(|| variable("QUORATE_DATA").filter(|_| !by_option).map(PathBuf::from));
        if let Some(data) = data {
            return ApiClient::of_data_dir(&data, server);
        }
        let kubeconfig =
            self.kubeconfig.clone().or_else(|| variable("QUORATE_KUBECONFIG").map(PathBuf::from));
        let named = || variable("QUORATE_CONTEXT").map(|name| name.to_string_lossy().into_owned());
        let context = self.context.clone().or_else(named);
        let chosen =
            kubeconfig.is_some() || context.is_some() || config::kubeconfig_variable().is_some();
        let files = match &kubeconfig {
            Some(file) => vec![file.clone()],
            None => config::kubeconfig_files(),
        };
        let found = match super::server::running_data_dir() {
            Some(running) => Some(running),
            // A stopped one says nothing: the kubeconfig may be for one that runs.
            None if files.iter().any(|file| file.exists()) => None,
            None => super::server::found_data_dir().ok(),
        };
        if let Some(data) = found.filter(|_| !chosen) {
            return ApiClient::of_data_dir(&data, server);
        }
        if files.is_empty() {
            bail!(
                "no master's data directory is in its usual place, and there is no kubeconfig: give \
                 --data DIR or --kubeconfig FILE"
            );
        }
        ApiClient::of_kubeconfig(&files, context.as_deref(), server)
    }
}

/// An empty variable is none.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

pub fn run(command: TokenCommand) -> anyhow::Result<()> {
    super::block_on(async {
        match command {
            TokenCommand::Create {
                to,
                role,
                ttl,
                uses,
                description,
                print_join_command,
                output,
            } => {
                let client = to.client()?;
                let (token, secret) = create(&client, &role, &ttl, uses, &description).await?;
                match output {
                    None if print_join_command => print_joins(&client, &token, &role),
                    None => progress::say(&token.to_string()),
                    Some(output) => {
                        let mut shown = describe(&secret, Timestamp::now());
                        shown["token"] = token.to_string().into();
                        output.show(&shown)?;
                    }
                }
                Ok(())
            }
            TokenCommand::List { to, output } => list(&to, output).await,
            TokenCommand::Delete { to, tokens } => delete(&to, &tokens).await,
        }
    })
}

/// Makes a token; gives it and its Secret as it was stored.
async fn create(
    client: &ApiClient,
    roles: &[Role],
    ttl: &str,
    uses: Option<u32>,
    description: &str,
) -> anyhow::Result<(JoinToken, Value)> {
    let ttl = parse_ttl(ttl)?;
    if uses == Some(0) {
        bail!("--uses 0: a token that cannot be used is of no use; leave --uses away for no limit");
    }
    let ca_pem = match client.cluster_ca_pem() {
        Some(ca_pem) => ca_pem.to_owned(),
        None => {
            let path = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt";
            let root = client.call(Method::GET, path, None).await?;
            root["data"]["ca.crt"].as_str().context("kube-root-ca.crt has no ca.crt")?.to_owned()
        }
    };
    let pin = authority::public_key_hash(&authority::der_of_pem(&ca_pem)?)?;
    let token = JoinToken::generate(&pin);
    let expires = (!ttl.is_zero()).then(|| Timestamp::now() + ttl);
    let secret = tokens::secret(&token, roles, expires, uses, description);
    let stored = client.call(Method::POST, SECRETS, Some(&secret)).await?;
    Ok((token, stored))
}

fn print_joins(client: &ApiClient, token: &JoinToken, roles: &[Role]) {
    let server = client.server();
    for role in roles {
        match role {
            Role::Agent => {
                progress::say(&format!("quorate agent --server {server} --token {token}"));
            }
            Role::Server => {
                progress::say(&format!("quorate server --join {server} --token {token}"));
            }
        }
    }
}

async fn list(to: &Target, output: Option<Output>) -> anyhow::Result<()> {
    let path = format!("{SECRETS}?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken");
    let secrets = to.client()?.call(Method::GET, &path, None).await?;
    let now = Timestamp::now();
    let tokens: Vec<Value> = secrets["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|secret| describe(secret, now))
        .collect();
    if let Some(output) = output {
        return output.show(&json!({"items": tokens}));
    }
    let text = |value: &Value, none: &str| match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        _ => none.to_owned(),
    };
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            vec![
                text(&token["id"], ""),
                text(&token["ttl"], "<forever>"),
                text(&token["expiration"], "<never>"),
                text(&token["roles"], "<none>"),
                text(&token["usesLeft"], "<unlimited>"),
                text(&token["description"], "<none>"),
            ]
        })
        .collect();
    let header = ["ID", "TTL", "EXPIRES", "ROLES", "USES LEFT", "DESCRIPTION"];
    progress::say_raw(&progress::table(&header, &rows));
    Ok(())
}

/// A token without its secret.
fn describe(secret: &Value, now: Timestamp) -> Value {
    let field = |name: &str| {
        let bytes = BASE64.decode(secret["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let ttl = field("expiration").map(|at| match at.parse::<Timestamp>() {
        Ok(at) if at > now => duration(at.duration_since(now)),
        Ok(_) | Err(_) => "<expired>".to_owned(),
    });
    json!({
        "id": field("token-id"),
        "ttl": ttl,
        "roles": field("quorate-join-roles"),
        "expiration": field("expiration"),
        "usesLeft": field("quorate-uses-left"),
        "description": field("description"),
    })
}

/// As kubectl prints how long something lasts: its two largest units.
pub fn duration(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

async fn delete(to: &Target, tokens: &[String]) -> anyhow::Result<()> {
    let client = to.client()?;
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("{token:?} is neither a token nor the id of one");
        }
        let path = format!("{SECRETS}/{}", tokens::secret_name(id));
        client.call(Method::DELETE, &path, None).await.with_context(|| format!("token {id}"))?;
        progress::say(&format!("bootstrap token {id:?} deleted"));
    }
    Ok(())
}

fn parse_ttl(text: &str) -> anyhow::Result<SignedDuration> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let wrong = || format!("--ttl {text:?}: give a duration such as 30m, 24h or 7d, or 0 for ever");
    let unit = text.get(text.len().saturating_sub(1)..).unwrap_or_default();
    let number = text.strip_suffix(unit).unwrap_or_default();
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => bail!(wrong()),
    };
    let number: u32 = number.parse().with_context(wrong)?;
    Ok(SignedDuration::from_secs(i64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_shown_as_kubectl_does() {
        for (seconds, text) in
            [(9, "9s"), (75, "1m15s"), (86_340, "23h59m"), (7 * 86_400 + 7200, "7d2h")]
        {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn lifetimes_are_read() {
        for (text, seconds) in
            [("0", 0), ("45s", 45), ("30m", 1800), ("24h", 86400), ("7d", 604800)]
        {
            assert_eq!(parse_ttl(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "h", "24", "1y", "-1h", "24ö"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }
}
