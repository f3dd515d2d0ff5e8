//! What a kubeconfig says of a cluster: where it is, whom it is to be believed, and as whom to come. It may be replaced
//! by another one while clients come, as its user's is after a change of the authorities.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, bail};
use base64::Engine as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::limits::DISTRUST_MAX;

/// As whom clients come, and whom they believe: all who share it have another one from [`Credentials::renew`] on.
#[derive(Debug)]
pub struct Credentials {
    now: RwLock<Arc<Identity>>,
    distrust: Mutex<Vec<Distrust>>,
}

/// What one kubeconfig has.
#[derive(Debug)]
pub struct Identity {
    /// The cluster's CA, and a client certificate if there is one.
    pub tls: Arc<ClientConfig>,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Calls that are under way with it.
    calls: AtomicUsize,
}

/// A call that is under way: as long as this value is there.
#[derive(Debug)]
pub struct Calling(Arc<Identity>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Somebody did not believe a master, or a master not them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// Which master.
    pub api: SocketAddr,
    /// What was said.
    pub why: String,
}

impl Identity {
    /// Calls that are under way with it.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Credentials {
    /// As whom to come now.
    #[must_use]
    pub fn now(&self) -> Arc<Identity> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever comes from now on has those of `other`. What was used so far.
    pub fn renew(&self, other: &Self) -> Arc<Identity> {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, other.now())
    }

    /// A call begins with what a connection was opened with; `None` when there are others now.
    #[must_use]
    pub fn call(&self, opened: &Arc<Identity>) -> Option<Calling> {
        // First it counts, then it is looked: who waits for the end of all calls misses none.
        opened.calls.fetch_add(1, Ordering::SeqCst);
        let calling = Calling(opened.clone());
        Arc::ptr_eq(&self.now(), opened).then_some(calling)
    }

    /// Notes that somebody was not believed: the first [`DISTRUST_MAX`].
    pub fn distrusted(&self, api: SocketAddr, why: String) {
        let mut all = self.distrust.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < DISTRUST_MAX {
            all.push(Distrust { api, why });
        }
    }

    /// What was noted so far.
    #[must_use]
    pub fn distrust(&self) -> Vec<Distrust> {
        self.distrust.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A copy, which is not renewed with it.
    #[must_use]
    pub fn of_identity(identity: Arc<Identity>) -> Self {
        Self { now: RwLock::new(identity), distrust: Mutex::default() }
    }

    /// Those of the current context, behind the server that it names: a URL.
    ///
    /// # Errors
    /// When the file cannot be read, or has no credentials of a kind that is known: a client certificate or a token.
    pub fn read(kubeconfig: &Path) -> anyhow::Result<(String, Self)> {
        let name = kubeconfig.display();
        let text = fs::read_to_string(kubeconfig).with_context(|| format!("reading {name}"))?;
        let config: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("{name} is not YAML"))?;
        let beside = kubeconfig.parent().unwrap_or_else(|| Path::new("."));
        Self::of(&config, beside).with_context(|| format!("kubeconfig {name}"))
    }

    fn of(config: &Value, beside: &Path) -> anyhow::Result<(String, Self)> {
        let context = match config["current-context"].as_str() {
            Some(name) if !name.is_empty() => named(config, "contexts", name)?["context"].clone(),
            // With one of each there is nothing to choose.
            _ => Value::Null,
        };
        let part = |list: &str, field: &str| match context[field].as_str() {
            Some(name) => named(config, list, name),
            None => config[list].get(0).with_context(|| format!("there are no {list}")),
        };
        let (cluster, user) =
            (&part("clusters", "cluster")?["cluster"], &part("users", "user")?["user"]);
        let server = cluster["server"].as_str().unwrap_or_default().to_owned();
        if cluster["insecure-skip-tls-verify"] == true {
            bail!(
                "its cluster is not verified (insecure-skip-tls-verify): give it a certificate-authority"
            );
        }
        let authority = pem(cluster, "certificate-authority", beside)?
            .context("its cluster has no certificate-authority")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let bearer = match (user["token"].as_str(), user["tokenFile"].as_str()) {
            (Some(token), _) => Some(token.to_owned()),
            (None, Some(file)) => {
                let file = beside.join(file);
                let token = fs::read_to_string(&file);
                Some(
                    token.with_context(|| format!("reading {}", file.display()))?.trim().to_owned(),
                )
            }
            (None, None) => None,
        };
        let certificate = pem(user, "client-certificate", beside)?;
        let tls = match (certificate, pem(user, "client-key", beside)?) {
            (Some(chain), Some(key)) => {
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
            }
            _ if bearer.is_some() => builder.with_no_client_auth(),
            _ => bail!(
                "its user has neither a client certificate with a key nor a token; commands (exec) and passwords \
                 are not known here"
            ),
        };
        let (tls, calls) = (Arc::new(tls), AtomicUsize::new(0));
        Ok((server, Self::of_identity(Arc::new(Identity { tls, bearer, calls }))))
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> anyhow::Result<&'a Value> {
    let all = config[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|entry| entry["name"] == name);
    found.with_context(|| format!("there is no {name:?} in its {list}"))
}

/// What `FIELD-data` holds, or the file that `FIELD` names.
fn pem(part: &Value, field: &str, beside: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(text) = part[format!("{field}-data")].as_str() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
        return Ok(Some(decoded.with_context(|| format!("{field}-data is not base64"))?));
    }
    let Some(file) = part[field].as_str() else { return Ok(None) };
    let file = beside.join(file);
    fs::read(&file).map(Some).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_used_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let of = |config: Value| {
            let error = Credentials::of(&config, directory.path()).unwrap_err();
            format!("{error:#}")
        };
        fs::write(directory.path().join("ca.pem"), "").unwrap();
        let cluster = json!([{"name": "c", "cluster": {"server": "https://a:1", "certificate-authority": "ca.pem"}}]);
        let exec = json!([{"name": "u", "user": {"exec": {"command": "aws"}}}]);
        let said = of(json!({"clusters": cluster, "users": exec}));
        assert!(said.contains("neither a client certificate"), "{said}");
        let said = of(json!({"clusters": [], "users": []}));
        assert!(said.contains("there are no clusters"), "{said}");
        let contexts = json!([{"name": "x", "context": {"cluster": "c", "user": "v"}}]);
        let said = of(json!({
            "current-context": "x", "contexts": contexts, "clusters": cluster, "users": exec,
        }));
        assert!(said.contains("there is no \"v\" in its users"), "{said}");
        let token = json!([{"name": "u", "user": {"token": "t"}}]);
        let config = json!({"clusters": cluster, "users": token});
        let (server, credentials) = Credentials::of(&config, directory.path()).unwrap();
        let bearer = credentials.now().bearer.clone();
        assert_eq!((server.as_str(), bearer.as_deref()), ("https://a:1", Some("t")));
    }

    #[test]
    fn who_shares_them_comes_with_the_new_ones_and_old_calls_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let of = |token: &str| {
            let user = json!([{"name": "u", "user": {"token": token}}]);
            let cluster = json!([{"name": "c", "cluster": {
                "server": "https://a:1", "certificate-authority-data": "",
            }}]);
            Credentials::of(&json!({"clusters": cluster, "users": user}), directory.path())
        };
        let shared = of("old").unwrap().1;
        let opened = shared.now();
        let calling = shared.call(&opened).unwrap();
        let old = shared.renew(&of("new").unwrap().1);
        assert_eq!(shared.now().bearer.as_deref(), Some("new"));
        assert!(shared.call(&opened).is_none(), "it is to connect again");
        assert_eq!(old.calls(), 1);
        drop(calling);
        assert_eq!(old.calls(), 0);
    }
}
