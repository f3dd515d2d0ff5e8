//! What people see of a master's certificates, and may ask for: a document, and `POST`s for whoever may `post` to these
//! non-resource URLs.

use std::sync::Arc;

use jiff::Timestamp;
use quorate_api::status::Status;
use quorate_api_server::agents::AgentHub;
use quorate_api_server::config::{Action, Actions, Answered};
use quorate_pki::facts::Facts;
use quorate_pki::{Phase, authority};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Certs;
use super::rotation::{Rotation, RotationError, Wish};

/// All certificates of this master, and those of the nodes whose streams it has.
pub const CERTS_PATH: &str = "/quorate/v1/certs";

/// Issues this master's certificates anew: `{}`, or `{"dryRun": true}`.
pub const ROTATE_PATH: &str = "/quorate/v1/certs/rotate";

/// The next step of a change of the authorities: [`Wish`].
pub const ROTATE_CA_PATH: &str = "/quorate/v1/certs/rotate-ca";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rotate {
    #[serde(default)]
    dry_run: bool,
}

/// By name: what is used at this moment, and the authorities that are believed.
pub fn all(certs: &Certs) -> Vec<(String, String)> {
    let now = certs.now();
    let leaves = &now.leaves;
    let mut all = vec![
        ("serving".to_owned(), leaves.serving.certificate_pem.clone()),
        ("client".to_owned(), leaves.client.certificate_pem.clone()),
        ("peer".to_owned(), leaves.peer.certificate_pem.clone()),
    ];
    let mut authorities = |prefix: &str, keys: &quorate_pki::ClusterKeys| {
        let three = [
            ("cluster-ca", &keys.cluster),
            ("peer-ca", &keys.peer),
            ("front-proxy-ca", &keys.front_proxy),
        ];
        all.extend(three.map(|(name, authority)| {
            (format!("{prefix}{name}"), authority.certificate_pem().to_owned())
        }));
    };
    authorities("", now.ring.keys());
    if let Some((phase, other)) = now.ring.other() {
        authorities(if phase == Phase::Trust { "next-" } else { "old-" }, other);
    }
    all
}

/// What [`CERTS_PATH`] shows.
pub fn document(certs: &Certs) -> Value {
    let ring = certs.now().ring.clone();
    let nodes = certs.hub().map(AgentHub::certificates).unwrap_or_default();
    let nodes = nodes.into_iter().map(|(node, facts)| {
        let facts = facts.as_ref();
        json!({
            "name": node,
            "master": certs.whose.name,
            "issued": facts.map(|facts| time(facts.not_before)),
            "expires": facts.map(|facts| time(facts.not_after)),
            "signedBy": facts.map(|facts| &facts.issuer),
        })
    });
    let rows = all(certs).into_iter().filter_map(|(name, pem)| row(certs, &name, &pem));
    json!({
        "clusterId": certs.whose.cluster_id,
        "answeredBy": certs.whose.name,
        "generation": ring.generation(),
        "phase": ring.phase(),
        "certificates": rows.collect::<Vec<_>>(),
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

fn row(certs: &Certs, name: &str, pem: &str) -> Option<Value> {
    let facts = Facts::of_pem(pem).ok()?;
    Some(json!({
        "master": certs.whose.name,
        "name": name,
        "authority": name.ends_with("-ca"),
        "subject": facts.subject,
        "names": facts.names,
        "issued": time(facts.not_before),
        "expires": time(facts.not_after),
        "signedBy": facts.issuer,
        "fingerprint": facts.fingerprint,
        "renewalDue": authority::wants_renewal(pem, Timestamp::now()),
    }))
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// What can be done at which path.
pub fn actions(rotation: Rotation) -> Actions {
    let rotation = Arc::new(rotation);
    Arc::new(move |path| {
        let rotation = rotation.clone();
        let action: Action = match path {
            ROTATE_PATH => Box::new(move |body| Box::pin(async move { rotate(&rotation, &body) })),
            ROTATE_CA_PATH => {
                Box::new(move |body| Box::pin(async move { change(&rotation, &body).await }))
            }
            _ => return None,
        };
        Some(action)
    })
}

fn understood<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Box<Status>> {
    let understood = serde_json::from_slice(body);
    understood.map_err(|error| {
        Box::new(Status::bad_request(format!("the body cannot be understood: {error}")))
    })
}

fn rotate(rotation: &Rotation, body: &[u8]) -> Result<Answered, Box<Status>> {
    let Rotate { dry_run } = understood(body)?;
    if !dry_run {
        rotation.certs.rotate().map_err(|error| {
            Status::internal_error(&format!("no certificates were made: {error:#}"))
        })?;
        tracing::info!("this master's certificates were made anew, as asked for");
    }
    Ok(Answered::Document(document(&rotation.certs)))
}

async fn change(rotation: &Rotation, body: &[u8]) -> Result<Answered, Box<Status>> {
    let wish: Wish = understood(body)?;
    match rotation.step(&wish).await {
        Ok(standing) => serde_json::to_value(standing)
            .map(Answered::Document)
            .map_err(|error| Box::new(Status::internal_error(&error.to_string()))),
        Err(RotationError::Refused(why)) => Err(Box::new(Status::refused(why))),
        Err(error @ RotationError::Failed(_)) => {
            Err(Box::new(Status::service_unavailable(error.to_string())))
        }
    }
}
