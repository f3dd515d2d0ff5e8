//! Calls to a master's API that show the bare answer.

use std::path::Path;

use http::{Method, Request};
use kube::client::Body;
use serde_json::Value;

/// A client of one master.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

impl Api {
    /// As the kubeconfig says, but to `url`.
    pub async fn new(kubeconfig: &Path, url: &str) -> Self {
        let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
        config.cluster_url = url.parse().unwrap();
        Self { client: kube::Client::try_from(config).unwrap() }
    }

    /// The status code and the answer; an error when there was none.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Value), String> {
        let content_type = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Body::from(body))
            .unwrap();
        let response = self.client.send(request).await.map_err(|error| format!("{error:?}"))?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await;
        let bytes = bytes.map_err(|error| format!("{error:?}"))?;
        Ok((code, serde_json::from_slice(&bytes).map_err(|error| error.to_string())?))
    }

    pub async fn get(&self, path: &str) -> Result<(u16, Value), String> {
        self.call(Method::GET, path, Vec::new()).await
    }
}
