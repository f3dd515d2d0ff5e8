//! Lists and watches all pods at one master after the other, and notes on which node each was ever said to be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::{Binding, Shared, change};
use crate::limits::CONNECT_MAX;
use crate::real::client::{Connection, events};
use crate::real::workload::{self, lock};

/// Before the next master is tried.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Follows until it is told to stop, first at `home`.
pub async fn follow(run: Arc<workload::Shared>, kube: Arc<Shared>, home: usize) {
    let mut master = home;
    while !run.stop.load(Ordering::Relaxed) {
        if let Err(error) = watch(&run, &kube, master).await {
            tracing::debug!(master, %error, "watch of pods ended");
        }
        master = (master + 1) % run.apis.len();
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn watch(run: &workload::Shared, kube: &Shared, master: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(run.apis[master], &run.tls).await?;
    let pods = change::pods(&run.namespace);
    let list = match connection.call(Method::GET, &pods, None).await {
        Ok(answer) if answer.code == 200 => answer.body,
        other => bail!("list: {other:?}"),
    };
    for pod in list["items"].as_array().into_iter().flatten() {
        note(run, kube, pod);
    }
    let from = list["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?;
    let path = format!("{pods}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let response = timeout(CONNECT_MAX, connection.send(Method::GET, &path, None)).await??;
    if response.status().as_u16() != 200 {
        bail!("{}", response.status());
    }
    events(response, &run.stop, |event| match event["type"].as_str() {
        Some("ADDED" | "MODIFIED" | "DELETED") => {
            note(run, kube, &event["object"]);
            Ok(())
        }
        Some("BOOKMARK") => Ok(()),
        _ => bail!("{event}"),
    })
    .await
}

fn note(run: &workload::Shared, kube: &Shared, pod: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(uid), Some(node)) = (text(&pod["metadata"]["uid"]), text(&pod["spec"]["nodeName"]))
    else {
        return;
    };
    let name = text(&pod["metadata"]["name"]).unwrap_or_default();
    let binding = Binding { uid: uid.clone(), pod: name, node: node.clone(), at: run.tick() };
    lock(&kube.bindings).entry((uid, node)).or_insert(binding);
}
