//! Service account tokens: issued bound to an audience, a time and often a pod; accepted only while
//! everything they are bound to exists (upstream's `pkg/serviceaccount`).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::{Key, View};
use quorate_store::Consistency;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::secret_token::SecretClaims;
use super::{Authenticated, Authenticator};
use crate::identity::{Identity, User, split_service_account};
use crate::limits::{TOKEN_LEEWAY_SECONDS, TOKEN_SECONDS_DEFAULT};
use crate::status_error::{self, Answer};

/// Signatures that are remembered as good at a time; then all are forgotten.
const VERIFIED_MAX: usize = 2048;

/// What a token is to be for.
#[derive(Debug, Clone, Default)]
pub struct TokenOrder {
    /// Namespace of the service account.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// Its uid, when the caller knows one; another one is refused.
    pub service_account_uid: String,
    /// Audiences; empty: the API server itself.
    pub audiences: Vec<String>,
    /// Lifetime; `None` for the default.
    pub expiration_seconds: Option<i64>,
    /// What the token dies with.
    pub bound: Option<BoundObject>,
}

/// An object that a token is bound to.
#[derive(Debug, Clone, Default)]
pub struct BoundObject {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid, or "" for whichever is there.
    pub uid: String,
}

/// A new token.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The JWT.
    pub token: String,
    /// Seconds since 1970.
    pub expires: i64,
    /// Its audiences.
    pub audiences: Vec<String>,
}

/// The claims of a token of either kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum AnyClaims {
    Bound(Claims),
    OfSecret(SecretClaims),
}

/// The claims of a bound token, by upstream's names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "one_or_many")]
    aud: Vec<String>,
    exp: i64,
    #[serde(default)]
    iat: i64,
    #[serde(default)]
    iss: String,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Private,
    #[serde(default)]
    nbf: i64,
    #[serde(default)]
    sub: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Private {
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Named>,
    serviceaccount: Named,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Named {
    name: String,
    uid: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(input)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}

impl Authenticator {
    pub(super) async fn authenticate_service_account(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<Authenticated, String> {
        match &*self.verify(token)? {
            AnyClaims::Bound(claims) => self.authenticate_bound(claims, wanted).await,
            AnyClaims::OfSecret(claims) => self.authenticate_of_secret(claims, token, wanted).await,
        }
    }

    /// A token that stands in a Secret: it is for the API server and nobody else.
    async fn authenticate_of_secret(
        &self,
        claims: &SecretClaims,
        token: &str,
        wanted: &[String],
    ) -> Result<Authenticated, String> {
        let own = self.own_audiences();
        let audiences: Vec<String> =
            own.into_iter().filter(|one| wanted.is_empty() || wanted.contains(one)).collect();
        if audiences.is_empty() {
            return Err("the token of a secret is for the API server only".to_owned());
        }
        if let Err(why) = claims.check(&self.store.view(), token) {
            let view = self
                .store
                .read(Consistency::Linearizable)
                .await
                .map_err(|error| format!("{why}; {error}"))?;
            claims.check(&view, token)?;
        }
        Ok(Authenticated { identity: claims.identity(), audiences })
    }

    async fn authenticate_bound(
        &self,
        claims: &Claims,
        wanted: &[String],
    ) -> Result<Authenticated, String> {
        let now = self.clock.now().as_second();
        if claims.iss != self.issuer {
            // Not one of ours: nobody here says anything about it.
            return Err(String::new());
        }
        if claims.exp + TOKEN_LEEWAY_SECONDS < now {
            return Err("service account token has expired".to_owned());
        }
        if claims.nbf - TOKEN_LEEWAY_SECONDS > now {
            return Err("service account token is not valid yet".to_owned());
        }
        let own = self.own_audiences();
        let wanted = if wanted.is_empty() { &own } else { wanted };
        let audiences: Vec<String> =
            wanted.iter().filter(|one| claims.aud.contains(one)).cloned().collect();
        if audiences.is_empty() {
            let list = |texts: &[String]| {
                let texts: Vec<String> =
                    texts.iter().map(|text| crate::parameters::quoted(text)).collect();
                format!("[{}]", texts.join(" "))
            };
            return Err(format!(
                "token audiences {} is invalid for the target audiences {}",
                list(&claims.aud),
                list(wanted)
            ));
        }
        if let Err(why) = claims.check(&self.store.view()) {
            // This master may lag behind the one that the account was created on.
            let view = self
                .store
                .read(Consistency::Linearizable)
                .await
                .map_err(|error| format!("{why}; {error}"))?;
            claims.check(&view)?;
        }
        Ok(Authenticated { identity: claims.identity(), audiences })
    }

    fn verify(&self, token: &str) -> Result<Arc<AnyClaims>, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        {
            let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(claims) = verified.get(&digest) {
                return Ok(claims.clone());
            }
        }
        let claims: Arc<AnyClaims> = Arc::new(self.keys.verify(token)?);
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Ok(claims)
    }

    /// Issues a token.
    ///
    /// # Errors
    /// 404, 409 or 400 when the account or the bound object is not there or another one.
    pub(crate) async fn issue(&self, order: &TokenOrder) -> Answer<IssuedToken> {
        let view = self
            .store
            .read(Consistency::Linearizable)
            .await
            .map_err(|error| status_error::of_store(&error))?;
        let account = self.account(&view, order)?;
        let mut private = Private {
            namespace: order.namespace.clone(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: Named { name: order.service_account.clone(), uid: account },
        };
        if let Some(bound) = &order.bound {
            bind(&view, order, bound, &mut private)?;
        }
        let now = self.clock.now().as_second();
        let expires = now + order.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT);
        let audiences =
            if order.audiences.is_empty() { self.own_audiences() } else { order.audiences.clone() };
        let claims = Claims {
            aud: audiences.clone(),
            exp: expires,
            iat: now,
            iss: self.issuer.clone(),
            jti: quorate_chance::uuid(),
            kubernetes: private,
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", order.namespace, order.service_account),
        };
        let token = self.keys.sign(&claims).map_err(|error| {
            tracing::error!(%error, "cannot sign a service account token");
            Status::internal_error("failed to generate token")
        })?;
        Ok(IssuedToken { token, expires, audiences })
    }

    fn account(&self, view: &View, order: &TokenOrder) -> Answer<String> {
        let resource = GroupResource::new("", "serviceaccounts");
        let key = Key::new("", "serviceaccounts", &order.namespace, &order.service_account);
        let Some(stored) = view.get(&key) else {
            return Err(Box::new(Status::not_found(resource, &order.service_account)));
        };
        if !order.service_account_uid.is_empty() && order.service_account_uid != stored.uid() {
            return Err(Box::new(Status::conflict(
                resource,
                &order.service_account,
                &format!(
                    "the UID in the token request ({}) does not match the UID of the service \
                     account ({})",
                    order.service_account_uid,
                    stored.uid()
                ),
            )));
        }
        Ok(stored.uid().to_owned())
    }
}

fn bind(view: &View, order: &TokenOrder, bound: &BoundObject, out: &mut Private) -> Answer<()> {
    let (resource, namespace) = match bound.kind.as_str() {
        "Pod" => ("pods", order.namespace.as_str()),
        "Secret" => ("secrets", order.namespace.as_str()),
        "Node" => ("nodes", ""),
        other => {
            return Err(Box::new(Status::bad_request(format!(
                "cannot bind token to object of type /v1, Kind={other}"
            ))));
        }
    };
    let found = |resource: &str, namespace: &str, name: &str| {
        view.get(&Key::new("", resource, namespace, name)).cloned()
    };
    let Some(stored) = found(resource, namespace, &bound.name) else {
        return Err(Box::new(Status::not_found(GroupResource::new("", resource), &bound.name)));
    };
    if !bound.uid.is_empty() && bound.uid != stored.uid() {
        return Err(Box::new(Status::conflict(
            GroupResource::new("", &bound.kind),
            &bound.name,
            &format!(
                "the UID in the bound object reference ({}) does not match the UID in record. \
                 The object might have been deleted and then recreated",
                bound.uid
            ),
        )));
    }
    let named = Named { name: bound.name.clone(), uid: stored.uid().to_owned() };
    match resource {
        "pods" => {
            let field = |path| crate::model::field_of(&stored, path).unwrap_or_default();
            if field("spec.serviceAccountName") != order.service_account {
                return Err(Box::new(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {} to pod running with different \
                     serviceaccount name.",
                    crate::parameters::quoted(&order.service_account)
                ))));
            }
            let node = field("spec.nodeName");
            if !node.is_empty() {
                let uid = found("nodes", "", &node)
                    .map(|stored| stored.uid().to_owned())
                    .unwrap_or_default();
                out.node = Some(Named { name: node, uid });
            }
            out.pod = Some(named);
        }
        "secrets" => out.secret = Some(named),
        _ => out.node = Some(named),
    }
    Ok(())
}

impl Claims {
    /// Whether everything that the token is bound to is there.
    fn check(&self, view: &View) -> Result<(), String> {
        let private = &self.kubernetes;
        let expected = (private.namespace.as_str(), private.serviceaccount.name.as_str());
        if split_service_account(&self.sub) != Some(expected) {
            return Err("subject and account of the token differ".to_owned());
        }
        let there = |resource: &str, namespace: &str, named: &Named| {
            let stored = view.get(&Key::new("", resource, namespace, &named.name));
            match stored {
                Some(stored) if stored.uid() == named.uid => Ok(()),
                Some(_) | None => Err(format!("the token's {resource} is gone")),
            }
        };
        there("serviceaccounts", &private.namespace, &private.serviceaccount)?;
        if let Some(pod) = &private.pod {
            return there("pods", &private.namespace, pod);
        }
        if let Some(secret) = &private.secret {
            return there("secrets", &private.namespace, secret);
        }
        match &private.node {
            Some(node) => there("nodes", "", node),
            None => Ok(()),
        }
    }

    fn identity(&self) -> Identity {
        let private = &self.kubernetes;
        let mut extra = BTreeMap::new();
        let mut add = |key: &str, value: &str| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        if !self.jti.is_empty() {
            add("credential-id", &format!("JTI={}", self.jti));
        }
        if let Some(pod) = &private.pod {
            add("pod-name", &pod.name);
            add("pod-uid", &pod.uid);
        }
        if let Some(node) = &private.node {
            add("node-name", &node.name);
            if !node.uid.is_empty() {
                add("node-uid", &node.uid);
            }
        }
        Identity::authenticated(User {
            name: self.sub.clone(),
            uid: private.serviceaccount.uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", private.namespace),
            ],
            extra,
        })
    }
}
