//! What a kubeconfig says of a cluster: where it is, whom it is to be believed, and as whom to come.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// As whom clients come, and whom they believe.
#[derive(Debug)]
pub struct Credentials {
    /// The cluster's CA, and a client certificate if there is one.
    pub tls: Arc<ClientConfig>,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
}

impl Credentials {
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
        Ok((server, Self { tls: Arc::new(tls), bearer }))
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
        assert_eq!((server.as_str(), credentials.bearer.as_deref()), ("https://a:1", Some("t")));
    }
}
