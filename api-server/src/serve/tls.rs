//! TLS of the API port: our certificate, and client certificates when a client shows one.
//!
//! As upstream's server, the handshake takes any certificate whose key the client holds; whether the cluster's CA has
//! signed it is looked at afterwards ([`Tls::examine`]). So a client with a foreign or expired certificate gets a 401
//! that says so, and may still prove who it is with a token.
//!
//! Certificate, key and authorities can be replaced while connections are open ([`Tls::renew`]).

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::TlsAcceptor;

use crate::authn::{Believed, CertificateIdentity, Shown};
use crate::config::TlsMaterial;

/// The TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text does not parse.
    #[error("{what} is not valid PEM")]
    Pem {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not belong together, or are of no use.
    #[error("the serving certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The client CA is of no use.
    #[error("the client CA cannot be used")]
    ClientCa(#[source] rustls::server::VerifierBuilderError),
    /// Listeners were given and no material.
    #[error("listeners need TLS material: nothing is served in the clear")]
    Missing,
}

/// What turns accepted sockets into TLS streams, and tells who is at their other end. Clones are the same one.
#[derive(Clone)]
pub struct Tls {
    now: Arc<ArcSwap<Material>>,
    /// The authorities that have ever been believed here, by their certificates.
    known: Arc<Mutex<Known>>,
}

type Known = Vec<(CertificateDer<'static>, Arc<Authority>)>;

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// What connections begin with.
pub(super) struct Material {
    pub(super) acceptor: TlsAcceptor,
    authorities: Vec<Arc<Authority>>,
}

/// One that signs clients' certificates.
#[derive(Debug)]
struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
    believed: Believed,
}

impl Tls {
    pub(crate) fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        let known = Arc::new(Mutex::new(Vec::new()));
        let now = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            Material::new(material, &mut known)?
        };
        Ok(Self { now: Arc::new(ArcSwap::from_pointee(now)), known })
    }

    /// Connections that begin from now on are served with this. Those that are open stay; what came over one with a
    /// certificate whose authority is no longer among those of clients is nobody's from now on.
    ///
    /// # Errors
    /// When it cannot be used; then nothing is changed.
    pub fn renew(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Material::new(material, &mut known)?;
        for (_, authority) in known.iter() {
            let stays = next.authorities.iter().any(|stays| Arc::ptr_eq(stays, authority));
            authority.believed.set(stays);
        }
        self.now.store(Arc::new(next));
        Ok(())
    }

    pub(super) fn now(&self) -> Arc<Material> {
        self.now.load_full()
    }
}

impl Material {
    fn new(material: &TlsMaterial, known: &mut Known) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let mut authorities = Vec::new();
        for ca in certificates(&material.client_ca_pem, "client CA")? {
            roots.add(ca.clone()).map_err(TlsError::Certificate)?;
            let same = known.iter().find(|(der, _)| *der == ca);
            let authority = match same {
                Some((_, authority)) => authority.clone(),
                None => {
                    let mut alone = RootCertStore::empty();
                    alone.add(ca.clone()).map_err(TlsError::Certificate)?;
                    let verifier = verifier(alone, &provider)?;
                    let authority = Arc::new(Authority { verifier, believed: Believed::yes() });
                    known.push((ca, authority.clone()));
                    authority
                }
            };
            authorities.push(authority);
        }
        let verifier = verifier(roots, &provider)?;
        let key = PrivateKeyDer::from_pem_slice(material.private_key_pem.as_bytes())
            .map_err(|source| TlsError::Pem { what: "serving key", source })?;
        let chain = certificates(&material.certificate_chain_pem, "serving certificate")?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(Arc::new(AnyCertificate(verifier)))
            .with_single_cert(chain, key)
            .map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), authorities })
    }

    /// What the chain proves that a client has shown.
    pub(super) fn examine(&self, chain: Option<&[CertificateDer<'static>]>) -> Shown {
        let Some((leaf, intermediates)) = chain.and_then(<[_]>::split_first) else {
            return Shown::Nothing;
        };
        let mut problem = None;
        for authority in &self.authorities {
            let now = UnixTime::now();
            match authority.verifier.verify_client_cert(leaf, intermediates, now) {
                Ok(_) => {
                    let identity = CertificateIdentity::of(leaf, authority.believed.clone());
                    return identity
                        .map_or(Shown::Nothing, |identity| Shown::Certificate(Arc::new(identity)));
                }
                Err(error) => problem = Some(error),
            }
        }
        tracing::debug!(?problem, "a client's certificate proves nothing");
        Shown::Stranger
    }
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::ClientCa)
}

/// Takes any certificate, of which the client must hold the key.
#[derive(Debug)]
struct AnyCertificate(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Looked at in `Tls::examine`, before any request is.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, source })
}
