//! Tokens that stand in Secrets of type `kubernetes.io/service-account-token`: they never expire, and
//! count as long as their Secret holds them and their account is there (upstream's legacy tokens).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_state_machine::{Key, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::{KeyError, TokenKeys};
use crate::config::ServiceAccountKeys;
use crate::identity::{Identity, User, split_service_account};

/// The issuer of such tokens, whatever the cluster's own is.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

/// A label by which an administrator has declared such a token invalid.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Makes the tokens of Secrets.
pub struct SecretTokens {
    keys: TokenKeys,
}

impl std::fmt::Debug for SecretTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretTokens").finish_non_exhaustive()
    }
}

/// Claims of such a token, by upstream's names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SecretClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

impl SecretTokens {
    /// Signs with the cluster's key.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot be used.
    pub fn new(keys: &ServiceAccountKeys) -> Result<Self, KeyError> {
        Ok(Self { keys: TokenKeys::new(keys)? })
    }

    /// The token of an account, given by namespace, name and uid, in a Secret of that namespace.
    /// `None` when it cannot be signed, which is logged.
    #[must_use]
    pub fn token(&self, account: (&str, &str, &str), secret: &str) -> Option<String> {
        let (namespace, name, uid) = account;
        let claims = SecretClaims {
            iss: ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: name.to_owned(),
            uid: uid.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let signed = self.keys.sign(&claims);
        signed.inspect_err(|error| tracing::error!(%error, "cannot sign a token")).ok()
    }
}

impl SecretClaims {
    /// Whether the Secret still holds the token, and its account is there.
    pub(super) fn check(&self, view: &View, token: &str) -> Result<(), String> {
        let expected = (self.namespace.as_str(), self.account.as_str());
        if self.iss != ISSUER || split_service_account(&self.sub) != Some(expected) {
            return Err("subject and account of the token differ".to_owned());
        }
        let account = view.get(&Key::new("", "serviceaccounts", &self.namespace, &self.account));
        let lives = account.is_some_and(|account| {
            account.uid() == self.uid && account.image.header.deletion.is_none()
        });
        if !lives {
            return Err("the token's service account is gone".to_owned());
        }
        let secret = view
            .get(&Key::new("", "secrets", &self.namespace, &self.secret))
            .filter(|secret| secret.image.header.deletion.is_none())
            .ok_or("the token's secret is gone")?;
        if secret.image.header.labels.iter().any(|(name, _)| name == INVALID_SINCE) {
            return Err("the token was declared invalid".to_owned());
        }
        let object: Value =
            serde_json::from_slice(&secret.to_json()).map_err(|error| error.to_string())?;
        let held = object["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok());
        if held.as_deref() != Some(token.as_bytes()) {
            return Err("the token's secret holds another token".to_owned());
        }
        Ok(())
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::authenticated(User {
            name: self.sub.clone(),
            uid: self.uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", self.namespace),
            ],
            extra: BTreeMap::new(),
        })
    }
}
