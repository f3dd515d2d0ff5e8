//! What masters ask each other about keys, over their own connections, on which each has proved to be a master of the
//! cluster: this is the only way that private keys go, beside a join.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use quorate_api_server::agents::AgentHub;
use quorate_pki::{ClusterKeys, KeyRing, Phase};
use quorate_raft::NodeId;
use quorate_store::Masters;
use serde::{Deserialize, Serialize};

use super::Certs;

/// A master that has not answered by then does not answer.
const ASK_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Question {
    /// How far it is: [`State`].
    State,
    /// The files of its newest keys, when they are of this generation: names and contents, or nothing.
    Keys { generation: u64 },
}

/// How far a master is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub generation: u64,
    pub phase: Phase,
    /// Fingerprints of its newest authorities.
    pub authorities: [String; 3],
    /// Nodes whose streams it has, each with the name of the authority that signed what it showed.
    pub nodes: BTreeMap<String, String>,
}

impl State {
    pub fn of(ring: &KeyRing, hub: Option<&AgentHub>) -> Self {
        let nodes = hub.map(AgentHub::certificates).unwrap_or_default();
        Self {
            generation: ring.generation(),
            phase: ring.phase(),
            authorities: ring.newest().fingerprints(),
            nodes: nodes
                .into_iter()
                .map(|(node, facts)| (node, facts.map(|facts| facts.issuer).unwrap_or_default()))
                .collect(),
        }
    }
}

/// Answers another master. Keys are for members only: a certificate of one that was removed is good for years.
pub fn serve(
    certs: Arc<Certs>,
    masters: &Masters,
    from: NodeId,
    body: Bytes,
) -> BoxFuture<'static, Bytes> {
    let is_member = masters.status().members.iter().any(|member| member.id == from);
    Box::pin(async move {
        let answer = match serde_json::from_slice(&body) {
            Ok(Question::State) => serde_json::to_vec(&certs.state()),
            Ok(Question::Keys { generation }) => {
                let now = certs.now();
                let ring = &now.ring;
                if !is_member {
                    tracing::warn!(from = from.0, "who is no member asked for the cluster's keys");
                }
                let has = is_member && ring.generation() == generation;
                serde_json::to_vec(&if has { ring.newest_files() } else { Vec::new() })
            }
            // Of a newer version.
            Err(_) => return Bytes::new(),
        };
        answer.unwrap_or_default().into()
    })
}

impl Certs {
    /// How far this master is.
    pub fn state(&self) -> State {
        State::of(&self.now().ring, self.hub())
    }
}

async fn ask<T: serde::de::DeserializeOwned>(
    masters: &Masters,
    node: NodeId,
    question: &Question,
) -> anyhow::Result<T> {
    let body = serde_json::to_vec(question)?.into();
    let answer = masters.certificates_of(node, body, ASK_MAX).await;
    let answer = answer.map_err(|why| anyhow::anyhow!(why))?;
    serde_json::from_slice(&answer).context("its answer cannot be understood")
}

/// Every member, by name, with how far it is or why it does not say.
pub async fn states(certs: &Certs, masters: &Masters) -> Vec<(String, Result<State, String>)> {
    let status = masters.status();
    let own = status.id;
    let asked = status.members.into_iter().map(|member| async move {
        let state = if member.id == own {
            Ok(certs.state())
        } else {
            let state = ask(masters, member.id, &Question::State).await;
            state.map_err(|error: anyhow::Error| format!("{error:#}"))
        };
        (member.member.name, state)
    });
    join_all(asked).await
}

/// The keys that have these fingerprints, from whichever other master has them.
pub async fn fetch(
    certs: &Certs,
    masters: &Masters,
    generation: u64,
    authorities: &[String; 3],
) -> anyhow::Result<ClusterKeys> {
    let status = masters.status();
    let mut why = anyhow::anyhow!("there is no other master");
    for member in status.members.into_iter().filter(|member| member.id != status.id) {
        let question = Question::Keys { generation };
        let name = &member.member.name;
        match ask(masters, member.id, &question).await.and_then(|files| keys_of(files, authorities))
        {
            Ok(mut keys) => {
                let own = certs.now();
                keys.service_account_pem.clone_from(&own.ring.keys().service_account_pem);
                tracing::info!(from = name, generation, "got the new authorities");
                return Ok(keys);
            }
            Err(error) => why = error.context(format!("from {name}")),
        }
    }
    Err(why)
}

fn keys_of(files: Vec<(String, String)>, wanted: &[String; 3]) -> anyhow::Result<ClusterKeys> {
    if files.is_empty() {
        bail!("it has not got them");
    }
    let files: BTreeMap<String, String> = files.into_iter().collect();
    let keys = ClusterKeys::from_files(|name| Ok(files.get(name).cloned().unwrap_or_default()))?;
    if keys.fingerprints() != *wanted {
        bail!("it has others");
    }
    Ok(keys)
}
