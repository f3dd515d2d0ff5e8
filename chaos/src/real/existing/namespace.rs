//! The namespace in which all objects of a run are: made for it, and removed with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::{Value, json};

use crate::limits::NAMESPACE_MAX;
use crate::real::client::{Answer, Connection};
use crate::real::kubeconfig::Credentials;

const NAMESPACES: &str = "/api/v1/namespaces";

/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A namespace that this run made.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    apis: Vec<SocketAddr>,
    credentials: Arc<Credentials>,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Errors
    /// When there is one of this name, or none can be made.
    pub async fn make(
        name: &str,
        apis: Vec<SocketAddr>,
        credentials: &Arc<Credentials>,
    ) -> anyhow::Result<Self> {
        let made = Self { name: name.to_owned(), apis, credentials: credentials.clone() };
        let body = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "quorate-chaos"}},
        });
        let answer = made.call(Method::POST, NAMESPACES, Some(&body)).await?;
        match answer.code {
            201 => Ok(made),
            409 => bail!(
                "there is a namespace {name} already: of a run of the same seed that goes on or was broken off \
                 (kubectl delete namespace {name}), or take another --seed"
            ),
            code => bail!("cannot make the namespace {name}: {code} ({})", message(&answer)),
        }
    }

    /// Removes it, with all that is in it, and waits until it is gone.
    ///
    /// # Errors
    /// When it is still there after [`NAMESPACE_MAX`].
    pub async fn remove(self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let trouble = match self.once().await {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => why,
                Err(error) => format!("{error:#}"),
            };
            if begin.elapsed() > NAMESPACE_MAX {
                bail!("{trouble}; kubectl delete namespace {}", self.name);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// One try; nothing when it is gone, else what there is.
    async fn once(&self) -> anyhow::Result<Option<String>> {
        let path = format!("{NAMESPACES}/{}", self.name);
        let answer = self.call(Method::DELETE, &path, None).await?;
        match answer.code {
            404 => return Ok(None),
            200 | 202 | 409 => {}
            code => return Ok(Some(format!("{code} ({})", message(&answer)))),
        }
        // Lists of a run are finalizers: nobody takes them away but who made them.
        let maps = format!("{path}/configmaps");
        let list = self.call(Method::GET, &maps, None).await?;
        let mut held = 0;
        for object in list.body["items"].as_array().into_iter().flatten() {
            let finalizers = object["metadata"]["finalizers"].as_array();
            if finalizers.is_none_or(Vec::is_empty) {
                continue;
            }
            held += 1;
            let name = object["metadata"]["name"].as_str().context("an object without a name")?;
            let none = json!({"metadata": {"finalizers": Value::Null}});
            self.call(Method::PATCH, &format!("{maps}/{name}"), Some(&none)).await?;
        }
        Ok(Some(format!("it is being deleted; {held} objects had finalizers")))
    }

    /// By any master that answers.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut last = None;
        for api in &self.apis {
            let mut connection = match Connection::open(*api, &self.credentials).await {
                Ok(connection) => connection,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            match connection.call(method.clone(), path, body).await {
                Ok(answer) if answer.code < 500 => return Ok(answer),
                Ok(answer) => last = Some(anyhow::anyhow!("{}: {}", answer.code, message(&answer))),
                Err(error) => last = Some(anyhow::anyhow!("{error:?}")),
            }
        }
        Err(last.context("there are no masters")?)
    }
}

fn message(answer: &Answer) -> &str {
    answer.body["message"].as_str().unwrap_or("no reason")
}
