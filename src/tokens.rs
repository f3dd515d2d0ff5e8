//! Join tokens on the masters' side: Kubernetes bootstrap tokens (Secrets of type
//! `bootstrap.kubernetes.io/token` in `kube-system`) with two more facts, what they may join and how
//! often.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use quorate_pki::JoinToken;
use quorate_state_machine::{Key, Outcome};
use quorate_store::{Admit, Consistency, Store, Write};
use serde_json::{Map, Value, json};

/// Namespace of the Secrets.
const NAMESPACE: &str = "kube-system";

/// Lost races for the last use of a token are tried again this often.
const RETRIES_MAX: usize = 10;

const ROLES: &str = "quorate-join-roles";
const USES_LEFT: &str = "quorate-uses-left";

/// What a token lets its bearer join as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// A node agent.
    Agent,
    /// A master.
    Server,
}

impl Role {
    /// As it stands in the Secret.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }
}

/// Why a token is refused. The texts go to whoever tries to join.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such id, or not its secret.
    #[error("token {0} is not known here: it is wrong, has expired or was deleted")]
    Unknown(String),
    /// Too late.
    #[error("token {id} expired at {at}: create another with `quorate token create`")]
    Expired {
        /// Which.
        id: String,
        /// When.
        at: String,
    },
    /// As often as allowed.
    #[error("token {0} is used up: create another with `quorate token create`")]
    UsedUp(String),
    /// For something else.
    #[error("token {id} is not for joining as {role}: create one with `--role {role}`")]
    OtherRole {
        /// Which.
        id: String,
        /// As what its bearer tried to join.
        role: &'static str,
    },
    /// The store could not be asked.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

/// The Secret for a new token.
pub fn secret(
    token: &JoinToken,
    roles: &[Role],
    expires: Option<Timestamp>,
    uses: Option<u32>,
    description: &str,
) -> Value {
    let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    let mut data = Map::new();
    let mut put = |key: &str, value: String| data.insert(key.to_owned(), Value::String(value));
    put("token-id", token.id().to_owned());
    put("token-secret", token.secret().to_owned());
    put("usage-bootstrap-authentication", "true".to_owned());
    put(ROLES, roles.join(","));
    if let Some(expires) = expires {
        put("expiration", expires.to_string());
    }
    if let Some(uses) = uses {
        put(USES_LEFT, uses.to_string());
    }
    if !description.is_empty() {
        put("description", description.to_owned());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(token.id()), "namespace": NAMESPACE},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": data,
    })
}

/// Name of the Secret of a token.
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// Checks a token and, when its uses are counted, takes one.
pub async fn spend(
    store: &Store,
    admit: &Arc<dyn Admit>,
    token: &JoinToken,
    role: Role,
    now: Timestamp,
) -> Result<(), Refusal> {
    count(store, admit, token, |secret| {
        Ok(check(secret, token, role, now)?.map(|left| left.saturating_sub(1)))
    })
    .await
}

/// Takes back a [`spend`] that came to nothing: the one joining may try again.
pub async fn give_back(
    store: &Store,
    admit: &Arc<dyn Admit>,
    token: &JoinToken,
) -> Result<(), Refusal> {
    let one_more = |secret: &Value| {
        let left: Option<u32> = field(secret, USES_LEFT).and_then(|left| left.parse().ok());
        Ok(left.map(|left| left.saturating_add(1)))
    };
    count(store, admit, token, one_more).await
}

/// Writes the number of uses that `left` finds, if it finds any.
async fn count(
    store: &Store,
    admit: &Arc<dyn Admit>,
    token: &JoinToken,
    left: impl Fn(&Value) -> Result<Option<u32>, Refusal>,
) -> Result<(), Refusal> {
    let unavailable = |error: &dyn std::fmt::Display| Refusal::Unavailable(error.to_string());
    let key = Key::new("", "secrets", NAMESPACE, &secret_name(token.id()));
    for _ in 0..RETRIES_MAX {
        let view = store.read(Consistency::Linearizable).await.map_err(|e| unavailable(&e))?;
        let Some(stored) = view.get(&key).cloned() else {
            return Err(Refusal::Unknown(token.id().to_owned()));
        };
        let mut object: Value =
            serde_json::from_slice(&stored.to_json()).map_err(|e| unavailable(&e))?;
        let Some(left) = left(&object)? else {
            return Ok(());
        };
        object["data"][USES_LEFT] = BASE64.encode(left.to_string()).into();
        let write = Write::Update { stored, object, subresource: "" };
        let op = admit.admit(&view, "system:quorate", write).await.map_err(|e| unavailable(&e))?;
        let Some(op) = op else { return Ok(()) };
        let outcomes = store.write(vec![op]).await.map_err(|e| unavailable(&e))?;
        match outcomes.first() {
            Some(Outcome::Done(_)) => return Ok(()),
            // Somebody else used it at the same time: look again.
            Some(Outcome::Conflict(_) | Outcome::NotFound) => {}
            other => return Err(Refusal::Unavailable(format!("{other:?}"))),
        }
    }
    Err(Refusal::Unavailable("too many others use it at the same time".to_owned()))
}

/// Whether the bearer holds a token that exists, whatever it may still be used for.
pub async fn recognise(
    store: &Store,
    consistency: Consistency,
    token: &JoinToken,
) -> Result<(), Refusal> {
    let key = Key::new("", "secrets", NAMESPACE, &secret_name(token.id()));
    let view = store.read(consistency).await;
    let view = view.map_err(|error| Refusal::Unavailable(error.to_string()))?;
    let secret = view.get(&key).and_then(|stored| serde_json::from_slice(&stored.to_json()).ok());
    match secret {
        Some(secret) if proves(&secret, token) => Ok(()),
        Some(_) | None => Err(Refusal::Unknown(token.id().to_owned())),
    }
}

/// Whether a token could be used by this role now; nothing is spent.
pub async fn usable(
    store: &Store,
    token: &JoinToken,
    role: Role,
    now: Timestamp,
) -> Result<(), Refusal> {
    let key = Key::new("", "secrets", NAMESPACE, &secret_name(token.id()));
    // It may have been made on another master a moment ago.
    let view = store.read(Consistency::Linearizable).await;
    let view = view.map_err(|error| Refusal::Unavailable(error.to_string()))?;
    let secret = view.get(&key).and_then(|stored| serde_json::from_slice(&stored.to_json()).ok());
    let secret: Value = secret.ok_or_else(|| Refusal::Unknown(token.id().to_owned()))?;
    check(&secret, token, role, now).map(drop)
}

fn field(secret: &Value, name: &str) -> Option<String> {
    let bytes = BASE64.decode(secret["data"][name].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

fn proves(secret: &Value, token: &JoinToken) -> bool {
    field(secret, "token-secret").is_some_and(|secret| same(&secret, token.secret()))
}

/// Whether the token may be used; the uses that are left, if they are counted.
fn check(
    secret: &Value,
    token: &JoinToken,
    role: Role,
    now: Timestamp,
) -> Result<Option<u32>, Refusal> {
    let id = token.id().to_owned();
    let field = |name: &str| field(secret, name);
    if !proves(secret, token) {
        return Err(Refusal::Unknown(id));
    }
    if let Some(at) = field("expiration") {
        // What is not a time has never been valid.
        let valid = at.parse::<Timestamp>().is_ok_and(|at| at > now);
        if !valid {
            return Err(Refusal::Expired { id, at });
        }
    }
    let roles = field(ROLES).unwrap_or_default();
    if !roles.split(',').any(|allowed| allowed == role.name()) {
        return Err(Refusal::OtherRole { id, role: role.name() });
    }
    match field(USES_LEFT) {
        None => Ok(None),
        Some(left) => match left.parse() {
            Ok(0) | Err(_) => Err(Refusal::UsedUp(id)),
            Ok(left) => Ok(Some(left)),
        },
    }
}

/// Compares without telling by its time where two texts differ.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn stored(token: &JoinToken, roles: &[Role], expires: &str, uses: Option<u32>) -> Value {
        let mut secret = secret(token, roles, expires.parse().ok(), uses, "");
        let data: Map<String, Value> = secret["stringData"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), BASE64.encode(v.as_str().unwrap()).into()))
            .collect();
        secret["data"] = data.into();
        secret
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let token = JoinToken::generate(&"0a".repeat(32));
        let other = JoinToken::generate(&"0a".repeat(32));
        let later = "2026-03-02T12:00:00Z";
        let check = |secret: &Value, token: &JoinToken, role| check(secret, token, role, now());

        let good = stored(&token, &[Role::Agent], later, Some(2));
        assert_eq!(check(&good, &token, Role::Agent), Ok(Some(2)));
        let refused = check(&good, &token, Role::Server);
        assert!(matches!(refused, Err(Refusal::OtherRole { role: "server", .. })), "{refused:?}");
        assert!(matches!(check(&good, &other, Role::Agent), Err(Refusal::Unknown(_))));

        let old = stored(&token, &[Role::Agent], "2026-03-01T11:00:00Z", None);
        assert!(matches!(check(&old, &token, Role::Agent), Err(Refusal::Expired { .. })));
        let empty = stored(&token, &[Role::Agent], later, Some(0));
        assert!(matches!(check(&empty, &token, Role::Agent), Err(Refusal::UsedUp(_))));
        let endless = stored(&token, &[Role::Agent, Role::Server], "", None);
        assert_eq!(check(&endless, &token, Role::Server), Ok(None));
    }
}
