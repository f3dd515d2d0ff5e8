//! Who asks: client certificates, service account tokens, bootstrap tokens, impersonation; nobody
//! in particular is `system:anonymous`, and RBAC says what that may do.

mod bootstrap_token;
mod certificate;
mod impersonate;
mod keys;
mod secret_token;
mod token;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use quorate_api::status::Status;
use quorate_store::Store;

use crate::clock::Clock;
use crate::config::ServiceAccountKeys;
use crate::identity::Identity;
use crate::limits::TOKEN_BYTES_MAX;
use crate::status_error::Answer;

pub use certificate::CertificateFacts;
pub(crate) use certificate::{Believed, CertificateIdentity, Shown};
pub(crate) use impersonate::impersonate;
pub use keys::KeyError;
use keys::TokenKeys;
pub use secret_token::SecretTokens;
use token::AnyClaims;
pub use token::{BoundObject, IssuedToken, TokenOrder};

/// Finds out who asks.
pub struct Authenticator {
    store: Store,
    keys: TokenKeys,
    issuer: String,
    clock: Arc<dyn Clock>,
    /// Tokens whose signature was found good, by digest: only that is remembered, never that the
    /// token still counts.
    verified: Mutex<BTreeMap<[u8; 32], Arc<AnyClaims>>>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A token that was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated {
    pub(crate) identity: Identity,
    /// The audiences that token and server have in common.
    pub(crate) audiences: Vec<String>,
}

impl Authenticator {
    pub(crate) fn new(
        store: Store,
        keys: &ServiceAccountKeys,
        issuer: String,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            store,
            keys: TokenKeys::new(keys)?,
            issuer,
            clock,
            verified: Mutex::new(BTreeMap::new()),
        })
    }

    /// Who makes the request: a good certificate says so, else a good token.
    ///
    /// # Errors
    /// 401 when there are credentials and none proves anything.
    pub(crate) async fn identify(&self, shown: &Shown, headers: &HeaderMap) -> Answer<Identity> {
        let certificate = shown.at(self.clock.now());
        if let Ok(Some(identity)) = certificate {
            return Ok(identity);
        }
        let Some(token) = bearer(headers) else {
            return match certificate {
                Ok(_) => Ok(Identity::anonymous()),
                Err(()) => Err(Box::new(Status::unauthorized())),
            };
        };
        match self.authenticate(&token, &[]).await {
            Ok(found) => Ok(found.identity),
            Err(why) => {
                tracing::debug!(why, "bearer token refused");
                Err(Box::new(Status::unauthorized()))
            }
        }
    }

    /// Who a token is for; `audiences` empty: those of this server.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Authenticated, String> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("token is too long".to_owned());
        }
        if bootstrap_token::looks_like_one(token) {
            let view = self.store.view();
            let identity = bootstrap_token::authenticate(&view, token, self.clock.now())?;
            return Ok(Authenticated { identity, audiences: audiences.to_vec() });
        }
        self.authenticate_service_account(token, audiences).await
    }

    /// The public keys as a JWK set.
    pub(crate) fn jwks(&self) -> serde_json::Value {
        self.keys.jwks()
    }

    /// Names of the algorithms of the keys.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        self.keys.algorithms()
    }

    /// The audiences that this server answers to.
    pub(crate) fn own_audiences(&self) -> Vec<String> {
        vec![self.issuer.clone()]
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// The bearer token of a request, also in the form that browsers' WebSockets must use.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, token) = value.split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
            .then(|| token.to_owned());
    }
    let protocols = headers.get("sec-websocket-protocol")?.to_str().ok()?;
    let encoded = protocols
        .split(',')
        .find_map(|one| one.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
