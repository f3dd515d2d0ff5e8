//! `quorate token create|list|delete`.

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

/// Which cluster a command is about.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Data directory of a master on this machine
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA")]
    pub data: Option<PathBuf>,
    /// Admin kubeconfig [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "QUORATE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}

impl Target {
    pub fn client(&self) -> anyhow::Result<ApiClient> {
        ApiClient::open(self.data.as_deref(), self.kubeconfig.as_deref())
    }
}

pub fn run(command: TokenCommand) -> anyhow::Result<()> {
    super::block_on(async {
        match command {
            TokenCommand::Create { to, role, ttl, uses, description } => {
                create(&to, &role, &ttl, uses, &description).await
            }
            TokenCommand::List { to, output } => list(&to, output).await,
            TokenCommand::Delete { to, tokens } => delete(&to, &tokens).await,
        }
    })
}

async fn create(
    to: &Target,
    roles: &[Role],
    ttl: &str,
    uses: Option<u32>,
    description: &str,
) -> anyhow::Result<()> {
    let ttl = parse_ttl(ttl)?;
    let client = to.client()?;
    let root = client
        .call(Method::GET, "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", None)
        .await?;
    let ca_pem = root["data"]["ca.crt"].as_str().context("kube-root-ca.crt has no ca.crt")?;
    let pin = authority::public_key_hash(&authority::der_of_pem(ca_pem)?)?;
    let token = JoinToken::generate(&pin);
    let expires = (!ttl.is_zero()).then(|| Timestamp::now() + ttl);
    let secret = tokens::secret(&token, roles, expires, uses, description);
    client.call(Method::POST, SECRETS, Some(&secret)).await?;
    progress::say(&token.to_string());
    Ok(())
}

async fn list(to: &Target, output: Option<Output>) -> anyhow::Result<()> {
    let path = format!("{SECRETS}?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken");
    let secrets = to.client()?.call(Method::GET, &path, None).await?;
    let tokens: Vec<Value> =
        secrets["items"].as_array().into_iter().flatten().map(describe).collect();
    if output.is_some() {
        progress::say(&serde_json::to_string_pretty(&json!({"items": tokens}))?);
        return Ok(());
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
                text(&token["roles"], "<none>"),
                text(&token["expiration"], "<never>"),
                text(&token["usesLeft"], "<unlimited>"),
                text(&token["description"], ""),
            ]
        })
        .collect();
    let header = ["ID", "ROLES", "EXPIRES", "USES LEFT", "DESCRIPTION"];
    progress::say_raw(&progress::table(&header, &rows));
    Ok(())
}

fn describe(secret: &Value) -> Value {
    let field = |name: &str| {
        let bytes = BASE64.decode(secret["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    json!({
        "id": field("token-id"),
        "roles": field("quorate-join-roles"),
        "expiration": field("expiration"),
        "usesLeft": field("quorate-uses-left"),
        "description": field("description"),
    })
}

async fn delete(to: &Target, tokens: &[String]) -> anyhow::Result<()> {
    let client = to.client()?;
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("{token:?} is neither a token nor the id of one");
        }
        let path = format!("{SECRETS}/{}", tokens::secret_name(id));
        client.call(Method::DELETE, &path, None).await?;
        progress::say(&format!("token {id} deleted"));
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
