//! The world of a test of webhooks: masters, a client at each, a webhook, a namespace that it is for.

use std::path::Path;
use std::time::{Duration, Instant};

use http::{Method, Request};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::hook::Hook;
use super::{PATIENCE, kube, step};

/// An answer: code, warnings, body.
pub struct Answer {
    pub code: u16,
    pub warnings: Vec<String>,
    pub body: Value,
}

impl Answer {
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

#[derive(Clone)]
pub struct Client(::kube::Client);

impl Client {
    pub async fn of(config: &Path, url: &str) -> Self {
        Self(kube::client(config, Some(url)).await)
    }

    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        self.send(method, path, kind, body).await
    }

    pub async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let response = self.0.send(request.body(body.into()).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|one| one.to_str().unwrap().to_owned()).collect();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        Answer { code, warnings, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, &Value::Null).await.body
    }

    pub async fn text(&self, path: &str) -> String {
        self.0.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, body).await
    }

    /// Something that has to be made.
    pub async fn make(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.code, 201, "{path}: {}", answer.body);
        answer.body
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &Value::Null).await
    }

    pub async fn until(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        step(&format!("wait until {what}"));
        let began = Instant::now();
        loop {
            let found = self.get(path).await;
            if holds(&found) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "not in time: {what}: {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
pub const MAPS: &str = "/api/v1/namespaces/hooked/configmaps";
pub const PODS: &str = "/api/v1/namespaces/hooked/pods";
pub const MUTATING: &str = "mutating";
pub const VALIDATING: &str = "validating";

pub fn rule(operations: &[&str], group: &str, version: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

pub fn maps() -> Value {
    rule(&["CREATE", "UPDATE"], "", "v1", "configmaps")
}

pub fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "x:1"}]}})
}

/// The test's world.
pub struct World {
    /// Lives as long as this.
    _cluster: Cluster,
    pub clients: Vec<Client>,
    pub hook: Hook,
}

impl World {
    pub async fn start(masters: usize) -> Self {
        let cluster = Cluster::start(masters);
        let mut clients = Vec::new();
        for master in &cluster.masters {
            clients.push(Client::of(&cluster.kubeconfig(), &master.url()).await);
        }
        let address = machine_address();
        let names = ["judge.hooked.svc", "localhost"];
        let addresses = [Some("127.0.0.1".parse().unwrap()), address];
        let addresses: Vec<_> = addresses.into_iter().flatten().collect();
        let hook = Hook::start(&names, &addresses).await;
        let world = Self { _cluster: cluster, clients, hook };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "hooked", "labels": {"hooks": "yes"}}});
        world.one().make("/api/v1/namespaces", &namespace).await;
        world
    }

    pub fn one(&self) -> &Client {
        &self.clients[0]
    }

    /// Makes a configuration, of webhooks for the one namespace unless they say something else.
    pub async fn configure(&self, kind: &str, name: &str, mut webhooks: Vec<Value>) {
        for webhook in &mut webhooks {
            if webhook["namespaceSelector"].is_null() {
                webhook["namespaceSelector"] = json!({"matchLabels": {"hooks": "yes"}});
            }
        }
        let title = if kind == MUTATING { "Mutating" } else { "Validating" };
        let body = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{title}WebhookConfiguration"), "metadata": {"name": name}, "webhooks": webhooks});
        self.one().make(&format!("{CONFIGURATIONS}/{kind}webhookconfigurations"), &body).await;
        self.hook.calls();
    }

    pub async fn forget(&self, kind: &str, name: &str) {
        let path = format!("{CONFIGURATIONS}/{kind}webhookconfigurations/{name}");
        assert_eq!(self.one().delete(&path).await.code, 200);
    }
}

/// An address of this machine that is not its loopback.
pub fn machine_address() -> Option<std::net::IpAddr> {
    let output = std::process::Command::new("hostname").arg("-I").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter_map(|one| one.parse().ok()).find(std::net::IpAddr::is_ipv4)
}
