//! A client that writes large objects over and over, so that masters forget what is old: entries of the log behind
//! snapshots, and the history of ConfigMaps. Its objects are elsewhere than those of the workload.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Method;
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::client::{Connection, NoAnswer};
use super::kubeconfig::Credentials;
use crate::limits::{FILLER_BYTES, FILLER_OBJECTS};

/// Where its objects are.
const PATH: &str = "/api/v1/namespaces/kube-system/configmaps";

/// Writes until it is dropped.
#[derive(Debug, Default)]
pub struct Filler {
    writing: Option<(Vec<SocketAddr>, AbortOnDropHandle<()>)>,
}

impl Filler {
    /// From now on it writes at the first of these that takes it; at none it does not.
    pub fn set(&mut self, apis: Vec<SocketAddr>, user: &Arc<Credentials>) {
        if apis.is_empty() {
            self.writing = None;
        } else if self.writing.as_ref().is_none_or(|(before, _)| *before != apis) {
            let task = tokio::spawn(write(apis.clone(), user.clone()));
            self.writing = Some((apis, AbortOnDropHandle::new(task)));
        }
    }
}

async fn write(apis: Vec<SocketAddr>, user: Arc<Credentials>) {
    // Nothing that could be compressed.
    let text = Alphanumeric.sample_string(&mut rand::rng(), FILLER_BYTES);
    let mut number = 0_u64;
    for api in apis.iter().cycle() {
        if let Ok(mut connection) = Connection::open(*api, &user).await {
            while put(&mut connection, &text, number).await.is_ok() {
                number += 1;
            }
        }
        tokio::time::sleep(super::POLL).await;
    }
}

async fn put(connection: &mut Connection, text: &str, number: u64) -> Result<(), NoAnswer> {
    let name = format!("quorate-chaos-filler-{}", number % FILLER_OBJECTS as u64);
    let body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"number": number.to_string(), "text": text},
    });
    let path = format!("{PATH}/{name}");
    let answer = connection.call(Method::PUT, &path, Some(&body)).await?;
    let answer = match answer.code {
        404 => connection.call(Method::POST, PATH, Some(&body)).await?,
        _ => answer,
    };
    match answer.code {
        200 | 201 | 409 => Ok(()),
        code => Err(NoAnswer::Unknown(anyhow::anyhow!("{code}"))),
    }
}
