//! Who may talk: TLS 1.3 with a certificate on both sides from the peers' own CA, and in it the
//! URI with cluster and node id. Both ends check both, on every connection.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{PEER_DNS_NAME, identity_uri};
use crate::config::PeerTls;
use crate::error::StartError;
use crate::types::NodeId;

/// Who a certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) node_id: NodeId,
}

/// Who this master is, and what its next connection begins with.
#[derive(Debug)]
pub(crate) struct Tls {
    configs: ArcSwap<Configs>,
    pub(crate) identity: Identity,
}

/// Ready to use configurations for both ends.
#[derive(Debug)]
struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Configs {
    /// Reads the PEM material; it must be that of `identity`.
    fn new(pem: &PeerTls, identity: &Identity) -> Result<Self, StartError> {
        let bad = |what: &str, error: &dyn ToString| {
            StartError::Tls(format!("{what}: {}", error.to_string()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|error| bad("CA", &error))?;
            roots.add(certificate).map_err(|error| bad("CA", &error))?;
        }
        if roots.is_empty() {
            return Err(StartError::Tls("CA: no certificate in it".to_owned()));
        }
        let chain = CertificateDer::pem_slice_iter(pem.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad("certificate", &error))?;
        let leaf =
            chain.first().ok_or_else(|| StartError::Tls("certificate: none in it".to_owned()))?;
        let found = identity_of(leaf).map_err(|error| bad("certificate", &error))?;
        if found != *identity {
            return Err(StartError::Tls(format!(
                "the certificate is that of {}, this is {}",
                identity_uri(&found.cluster_id, found.node_id),
                identity_uri(&identity.cluster_id, identity.node_id),
            )));
        }
        let key = PrivateKeyDer::from_pem_slice(pem.key_pem.as_bytes())
            .map_err(|error| bad("key", &error))?;
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| bad("CA", &error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| bad("TLS", &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| bad("key", &error))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| bad("TLS", &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| bad("key", &error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show the certificate again; each connection shows it.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

impl Tls {
    /// Reads the PEM material; it must be that of `identity`.
    pub(crate) fn new(pem: &PeerTls, identity: Identity) -> Result<Self, StartError> {
        let configs = ArcSwap::from_pointee(Configs::new(pem, &identity)?);
        Ok(Self { configs, identity })
    }

    /// Connections that begin from now on have this material; those that are open stay as they are.
    pub(crate) fn renew(&self, pem: &PeerTls) -> Result<(), StartError> {
        self.configs.store(Arc::new(Configs::new(pem, &self.identity)?));
        Ok(())
    }

    /// For a connection that this master begins.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.configs.load().client.clone()
    }

    /// For a connection that it accepts.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.configs.load().server.clone()
    }

    /// The name TLS checks.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(PEER_DNS_NAME).expect("the constant is a DNS name")
    }

    /// Whether the other end may be talked to; `expected` when we chose whom to reach.
    pub(crate) fn check(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        expected: Option<NodeId>,
    ) -> Result<NodeId, String> {
        let leaf = chain.and_then(<[_]>::first).ok_or("it showed no certificate")?;
        let found = identity_of(leaf)?;
        if found.cluster_id != self.identity.cluster_id {
            return Err(format!(
                "it is a master of cluster {}, this is cluster {}",
                found.cluster_id, self.identity.cluster_id
            ));
        }
        if found.node_id == self.identity.node_id {
            return Err(format!("it says it is master {}, which is this one", found.node_id));
        }
        match expected {
            Some(expected) if expected != found.node_id => {
                Err(format!("it is master {}, not master {expected}", found.node_id))
            }
            _ => Ok(found.node_id),
        }
    }
}

/// Reads the identity out of a certificate.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("not an X.509 certificate: {error}"))?;
    let names = parsed.extensions().iter().filter_map(|extension| {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return None;
        };
        Some(&names.general_names)
    });
    let mut found = names
        .flatten()
        .filter_map(|name| if let GeneralName::URI(uri) = name { parse_uri(uri) } else { None });
    match (found.next(), found.next()) {
        (Some(identity), None) => Ok(identity),
        (Some(_), Some(_)) => Err("its certificate names more than one master".to_owned()),
        (None, _) => Err("its certificate names no master".to_owned()),
    }
}

fn parse_uri(uri: &str) -> Option<Identity> {
    let (cluster_id, node) = uri.strip_prefix("quorate://")?.split_once("/master/")?;
    let node: u64 = node.parse().ok()?;
    let well_formed = !cluster_id.is_empty() && !cluster_id.contains('/');
    // Only the canonical form, so that two texts never mean the same master.
    (well_formed && identity_uri(cluster_id, NodeId(node)) == uri)
        .then(|| Identity { cluster_id: cluster_id.to_owned(), node_id: NodeId(node) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_uri_names_a_master() {
        let good = parse_uri("quorate://c1/master/7").unwrap();
        assert_eq!(good, Identity { cluster_id: "c1".into(), node_id: NodeId(7) });
        for bad in [
            "quorate://c1/master/07",
            "quorate://c1/master/+7",
            "quorate://c1/master/",
            "quorate:///master/7",
            "quorate://c1/node/7",
            "quorate://c1/x/master/7",
            "https://c1/master/7",
        ] {
            assert_eq!(parse_uri(bad), None, "{bad}");
        }
    }
}
