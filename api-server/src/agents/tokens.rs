//! Tokens for the service accounts of nodes' pods: issued as the `token` subresource would, for pods
//! that are bound to the asking node alone (NodeRestriction).

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use quorate_api::status::{GroupResource, Status};
use quorate_proto::agent::TokenRequest;
use quorate_state_machine::Key;

use super::hub::TokenIssuer;
use crate::authn::{BoundObject, TokenOrder};
use crate::limits::{TOKEN_SECONDS_DEFAULT, TOKEN_SECONDS_MAX, TOKEN_SECONDS_MIN};
use crate::model::field_of;
use crate::server::{ApiServer, Shared};
use crate::status_error::Answer;

struct Issuer {
    shared: Arc<Shared>,
}

impl ApiServer {
    /// Issues tokens for nodes' pods, for [`super::AgentHub::ready`].
    #[must_use]
    pub fn token_issuer(&self) -> Arc<dyn TokenIssuer> {
        Arc::new(Issuer { shared: self.shared.clone() })
    }
}

#[async_trait]
impl TokenIssuer for Issuer {
    async fn issue(&self, node: &str, request: &TokenRequest) -> Result<(String, String), Vec<u8>> {
        self.order(node, request).await.map_err(|status| status.to_json())
    }
}

impl Issuer {
    async fn order(&self, node: &str, request: &TokenRequest) -> Answer<(String, String)> {
        let pods = GroupResource::new("", "pods");
        let view = self.shared.newest().await?;
        let key = Key::new("", "pods", &request.namespace, &request.pod_name);
        let pod = view.get(&key).filter(|pod| pod.uid() == request.pod_uid);
        let pod = pod.ok_or_else(|| Box::new(Status::not_found(pods, &request.pod_name)))?;
        if field_of(pod, "spec.nodeName").as_deref() != Some(node) {
            return Err(Box::new(Status::forbidden(
                pods,
                &request.pod_name,
                "node requested token bound to a pod scheduled on a different node",
            )));
        }
        let order = TokenOrder {
            namespace: request.namespace.clone(),
            service_account: request.service_account.clone(),
            service_account_uid: String::new(),
            audiences: request.audiences.clone(),
            expiration_seconds: Some(lifetime(request.expiration_seconds)),
            bound: Some(BoundObject {
                kind: "Pod".to_owned(),
                name: request.pod_name.clone(),
                uid: request.pod_uid.clone(),
            }),
        };
        // Another account than the pod's own is refused there.
        let issued = self.shared.authenticator.issue(&order).await?;
        let expires = Timestamp::from_second(issued.expires).unwrap_or(Timestamp::MAX);
        Ok((issued.token, crate::clock::rfc3339(expires)))
    }
}

/// Seconds within what TokenRequest allows; 0 asks for the default.
fn lifetime(asked: i64) -> i64 {
    if asked == 0 {
        return TOKEN_SECONDS_DEFAULT;
    }
    asked.clamp(TOKEN_SECONDS_MIN, TOKEN_SECONDS_MAX)
}
