//! Service account tokens for projected volumes: asked for from a master, kept until 80 % of their life is over.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Tokens, atomic};
use crate::link::{Link, TokenAsk};
use crate::pod::backoff::after;
use crate::pod::spec;
use crate::shared::Shared;

const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;
/// A token is replaced after a day even when it lives longer.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone)]
struct Held {
    token: String,
    refresh_at: Timestamp,
    expires: Timestamp,
}

/// Tokens of all pods, by uid, volume and path.
#[derive(Default)]
pub(crate) struct TokenCache {
    held: Mutex<BTreeMap<(String, String, String), Held>>,
}

impl TokenCache {
    fn get(&self, key: &(String, String, String)) -> Option<Held> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
    }

    /// Forgets a pod's tokens.
    pub(crate) fn forget(&self, uid: &str) {
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.retain(|(owner, _, _), _| owner != uid);
    }

    /// All tokens the pod's volumes need, and when to come again. A token that is still valid is used when no master
    /// gives a new one; a missing one is simply not there.
    pub(crate) async fn collect(&self, pod: &Pod, shared: &Shared) -> (Tokens, Option<Timestamp>) {
        let link = &*shared.link;
        let mut tokens = Tokens::new();
        let mut next: Option<Timestamp> = None;
        let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or(&[]);
        for volume in volumes {
            let sources =
                volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
            for source in sources.filter_map(|source| source.service_account_token.as_ref()) {
                let key = (spec::uid(pod).to_owned(), volume.name.clone(), source.path.clone());
                let ask = TokenAsk {
                    namespace: spec::namespace(pod).to_owned(),
                    service_account: service_account(pod),
                    audiences: source.audience.iter().filter(|a| !a.is_empty()).cloned().collect(),
                    expiration_seconds: source
                        .expiration_seconds
                        .unwrap_or(DEFAULT_EXPIRATION_SECONDS),
                    pod_name: spec::name(pod).to_owned(),
                    pod_uid: spec::uid(pod).to_owned(),
                };
                let dir = shared.paths.volume(&key.0, "projected", &volume.name);
                self.adopt(&key, &atomic::Held(dir));
                if let Some(held) = self.one(&key, ask, link).await {
                    next = Some(next.map_or(held.refresh_at, |old| old.min(held.refresh_at)));
                    tokens.insert((volume.name.clone(), source.path.clone()), held.token);
                }
            }
        }
        (tokens, next)
    }

    /// A token that an earlier run of the agent left in the pod's volume is as good as one just issued.
    fn adopt(&self, key: &(String, String, String), volume: &atomic::Held) {
        if self.get(key).is_some() {
            return;
        }
        let Some(token) = volume.read(&key.2) else { return };
        let Some((issued, expires)) = times(&token) else { return };
        let life = Duration::try_from(expires.duration_since(issued)).unwrap_or_default();
        let refresh_at = after(issued, (life * 4 / 5).min(AGE_MAX));
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.insert(key.clone(), Held { token, refresh_at, expires });
    }

    async fn one(
        &self,
        key: &(String, String, String),
        ask: TokenAsk,
        link: &Link,
    ) -> Option<Held> {
        let now = quorate_chance::now();
        let old = self.get(key).filter(|held| held.expires > now);
        if let Some(held) = old.as_ref().filter(|held| held.refresh_at > now) {
            return Some(held.clone());
        }
        let (token, expires) = match link.token(ask).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(pod = %key.0, %error, "no service account token");
                // A held one is used up to its end, and asked for again soon.
                return old
                    .map(|held| Held { refresh_at: after(now, Duration::from_secs(60)), ..held });
            }
        };
        let life = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
        let held = Held { token, refresh_at: after(now, (life * 4 / 5).min(AGE_MAX)), expires };
        let mut all = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.insert(key.clone(), held.clone());
        Some(held)
    }
}

/// When a token was issued and when it ends, as it says itself.
fn times(token: &str) -> Option<(Timestamp, Timestamp)> {
    let claims = token.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let time = |name: &str| Timestamp::from_second(claims.get(name)?.as_i64()?).ok();
    Some((time("iat")?, time("exp")?))
}

fn service_account(pod: &Pod) -> String {
    let name = spec::spec(pod).and_then(|spec| spec.service_account_name.clone());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_own_times() {
        let claims = serde_json::json!({"iat": 100, "exp": 3700, "sub": "x"}).to_string();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        let (issued, expires) = times(&format!("e30.{claims}.sig")).unwrap();
        assert_eq!((issued.as_second(), expires.as_second()), (100, 3700));
        assert_eq!(times("token of default"), None);
    }
}
