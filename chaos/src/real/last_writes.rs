//! Clients that each write one object of their own, over and over, until nobody answers: what was acknowledged just
//! before a quorum is lost, and with which revision.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Connection, NoAnswer};
use super::kubeconfig::Credentials;
use super::workload::{Resource, Shared};
use crate::check::disaster::Write;
use crate::limits::{CALL_MAX, FINISHED_MAX};

/// Names of their objects begin so.
const PREFIX: &str = "last-";

/// See the module. They end with this value.
#[derive(Debug)]
pub struct LastWrites {
    clients: JoinSet<Vec<Write>>,
    stop: Arc<AtomicBool>,
}

impl LastWrites {
    /// One client at each master, which stays with it.
    #[must_use]
    pub fn start(
        shared: &Shared,
        (masters, user): (&[usize], &Arc<Credentials>),
        api: impl Fn(&usize) -> SocketAddr,
    ) -> Self {
        let (mut clients, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for master in masters {
            let place = (shared.path(Resource::ConfigMaps), format!("{PREFIX}{master}"));
            clients.spawn(write(api(master), user.clone(), place, stop.clone()));
        }
        Self { clients, stop }
    }

    /// Tells them to stop; what they wrote, when each has its last answer or has given up.
    ///
    /// # Errors
    /// When they do not end, or have written too little to say anything.
    pub async fn end(mut self) -> anyhow::Result<Vec<Write>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(writes) = timeout(FINISHED_MAX, self.clients.join_next())
            .await
            .context("the last writes do not come to an end")?
        {
            all.extend(writes?);
        }
        let acknowledged = all.iter().filter(|write| write.acknowledged.is_some()).count();
        ensure!(acknowledged > 0, "nothing was written before the quorum was lost");
        Ok(all)
    }

    /// What one of their objects holds; `None` for other objects.
    #[must_use]
    pub fn value(object: &Value) -> Option<u64> {
        let name = object["metadata"]["name"].as_str()?;
        name.starts_with(PREFIX).then(|| object["data"]["value"].as_str()?.parse().ok())?
    }
}

/// Writes until told to stop, or until it is not known whether a write was done: that is the last one.
async fn write(
    api: SocketAddr,
    user: Arc<Credentials>,
    (path, name): (String, String),
    stop: Arc<AtomicBool>,
) -> Vec<Write> {
    let (mut writes, begin) = (Vec::new(), Instant::now());
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) && begin.elapsed() < CALL_MAX {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match Connection::open(api, &user).await {
                Ok(connection) => connection,
                Err(_) => {
                    tokio::time::sleep(super::POLL).await;
                    continue;
                }
            },
        };
        let value = writes.len() as u64 + 1;
        let data = json!({"value": value.to_string()});
        let made = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data,
        });
        let answer = if writes.is_empty() {
            connection.call(Method::POST, &path, Some(&made)).await
        } else {
            let body = json!({ "data": data });
            connection.call(Method::PATCH, &format!("{path}/{name}"), Some(&body)).await
        };
        let version = |body: &Value| body["metadata"]["resourceVersion"].as_str()?.parse().ok();
        let acknowledged = match answer {
            Ok(answer) if matches!(answer.code, 200 | 201) => version(&answer.body),
            Err(NoAnswer::NotSent(_)) => continue,
            _ => None,
        };
        writes.push(Write { object: name.clone(), value, acknowledged });
        if acknowledged.is_none() {
            break;
        }
        kept = Some(connection);
    }
    writes
}
