//! Clients that ask one master for everything, again and again, and do not wait when they are told to.
//!
//! They come as a user of their own: the administrators, as whom all other clients of a run come, are let in however
//! many wait, as upstream's API priority and fairness has it. A master may refuse them with 429 as long as it says when
//! to come again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Limited};
use hyper::Method;
use hyper::header::RETRY_AFTER;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::client::Connection;
use super::held::{Held, Wanted};
use super::kubeconfig::Credentials;
use super::workload::lock;
use crate::limits::{ANSWER_BYTES_MAX, API_FLOOD_PACE, CALL_MAX, NAMED_MAX};

/// As whom they come.
const USER: &str = "quorate-chaos-flood";

/// What each asks for: consistent lists of all there is, large ones among them.
const ASKED: [&str; 3] = [
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/api/v1/configmaps",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
];

/// What they were told.
#[derive(Debug, Default)]
struct Told {
    lists: AtomicU64,
    refused: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// All such clients of a run.
#[derive(Debug, Default)]
pub struct ApiFlood {
    clients: Held<AbortOnDropHandle<()>>,
    told: Arc<Told>,
}

impl ApiFlood {
    /// Lets so many come to each of these, and those to others end.
    pub async fn set(&mut self, wanted: &Wanted, user: &Arc<Credentials>) {
        if let (Some((api, _)), true) = (wanted.values().next(), self.clients.is_empty()) {
            // Another master may have done it before; without the right they are refused, which is told.
            if let Err(error) = permit(*api, user).await {
                tracing::warn!(%error, "whoever is to ask for everything may not");
            }
        }
        let told = self.told.clone();
        let open = |api| {
            let (told, user) = (told.clone(), user.clone());
            async move { anyhow::Ok(AbortOnDropHandle::new(tokio::spawn(ask(api, user, told)))) }
        };
        self.clients.set(wanted, open).await;
    }

    /// Takes all back.
    pub fn clear(&mut self) {
        self.clients.clear();
    }

    /// How many come to a master; `None` when none was asked for.
    #[must_use]
    pub fn shown(&self, master: usize) -> Option<usize> {
        self.clients.shown(master)
    }

    /// Answers so far.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.told.lists.load(Ordering::Relaxed) + self.told.refused.load(Ordering::Relaxed)
    }

    /// What they were told so far, in words.
    #[must_use]
    pub fn said(&self) -> String {
        let (lists, refused) = (&self.told.lists, &self.told.refused);
        let (lists, refused) = (lists.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
        format!("so far {lists} lists of everything, and {refused} times 429")
    }

    /// Answers that nobody should get; the first ones.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.told.wrong).clone()
    }
}

/// Lets that user read everything.
async fn permit(api: SocketAddr, user: &Arc<Credentials>) -> anyhow::Result<()> {
    let mut connection = Connection::open(api, user).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    match connection.call(Method::POST, path, Some(&binding)).await {
        Ok(answer) if matches!(answer.code, 201 | 409) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Waits until a master knows of that right: rules that were made at another are behind there for a moment, as with
/// upstream's informers. Whoever is refused for longer than [`CALL_MAX`] is told so later on.
async fn is_permitted(api: SocketAddr, user: &Arc<Credentials>) {
    let knows = async {
        loop {
            if let Ok(connection) = Connection::open(api, user).await
                && let Ok(response) = connection.of(USER).send(Method::GET, ASKED[0], None).await
                && response.status().as_u16() != 403
            {
                return;
            }
            tokio::time::sleep(API_FLOOD_PACE).await;
        }
    };
    // What it does not know by then, the lists show.
    let _ = timeout(CALL_MAX, knows).await;
}

async fn ask(api: SocketAddr, user: Arc<Credentials>, told: Arc<Told>) {
    is_permitted(api, &user).await;
    let mut next = 0;
    loop {
        if let Ok(connection) = Connection::open(api, &user).await {
            let mut connection = connection.of(USER);
            while let Ok(Ok(())) =
                timeout(CALL_MAX, list(&mut connection, ASKED[next % ASKED.len()], &told)).await
            {
                next += 1;
                tokio::time::sleep(API_FLOOD_PACE).await;
            }
        }
        tokio::time::sleep(API_FLOOD_PACE).await;
    }
}

async fn list(connection: &mut Connection, path: &str, told: &Told) -> anyhow::Result<()> {
    let response = connection.send(Method::GET, path, None).await?;
    let (code, waits) = (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER));
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    body.map_err(|error| anyhow::anyhow!(error))?;
    match judge(code, waits) {
        Judged::List => told.lists.fetch_add(1, Ordering::Relaxed),
        Judged::Refused => told.refused.fetch_add(1, Ordering::Relaxed),
        // A master without a quorum says so, and tells nothing of the flood.
        Judged::Elsewhere => 0,
        Judged::Wrong(what) => {
            let mut wrong = lock(&told.wrong);
            if wrong.len() < NAMED_MAX {
                wrong.push(format!("{path}: {what}"));
            }
            0
        }
    };
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    List,
    Refused,
    Elsewhere,
    Wrong(String),
}

/// What an answer means for who asks for everything.
fn judge(code: u16, waits: bool) -> Judged {
    match code {
        200 => Judged::List,
        429 if waits => Judged::Refused,
        429 => Judged::Wrong("429 without Retry-After".to_owned()),
        503 | 504 => Judged::Elsewhere,
        _ => Judged::Wrong(code.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_to_say_when_to_come_again() {
        assert_eq!((judge(200, false), judge(429, true)), (Judged::List, Judged::Refused));
        assert_eq!(judge(429, false), Judged::Wrong("429 without Retry-After".to_owned()));
        assert_eq!(judge(503, false), Judged::Elsewhere);
        for code in [403, 500] {
            assert_eq!(judge(code, true), Judged::Wrong(code.to_string()));
        }
    }
}
