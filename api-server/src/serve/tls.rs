//! TLS of the API port: our certificate, and client certificates when a client shows one.
//!
//! As upstream's server, the handshake takes any certificate whose key the client holds; whether the cluster's CA has
//! signed it is looked at afterwards ([`Tls::examine`]). So a client with a foreign or expired certificate gets a 401
//! that says so, and may still prove who it is with a token.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::TlsAcceptor;

use crate::authn::{CertificateIdentity, Shown};
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

/// What turns accepted sockets into TLS streams, and tells who is at their other end.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Tls {
    pub(crate) fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ca in certificates(&material.client_ca_pem, "client CA")? {
            roots.add(ca).map_err(TlsError::Certificate)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::ClientCa)?;
        let key = PrivateKeyDer::from_pem_slice(material.private_key_pem.as_bytes())
            .map_err(|source| TlsError::Pem { what: "serving key", source })?;
        let chain = certificates(&material.certificate_chain_pem, "serving certificate")?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(Arc::new(AnyCertificate(verifier.clone())))
            .with_single_cert(chain, key)
            .map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), verifier })
    }

    /// What the chain proves that a client has shown.
    pub(super) fn examine(&self, chain: Option<&[CertificateDer<'static>]>) -> Shown {
        let Some((leaf, intermediates)) = chain.and_then(<[_]>::split_first) else {
            return Shown::Nothing;
        };
        match self.verifier.verify_client_cert(leaf, intermediates, UnixTime::now()) {
            Ok(_) => CertificateIdentity::of(leaf)
                .map_or(Shown::Nothing, |identity| Shown::Certificate(Arc::new(identity))),
            Err(error) => {
                tracing::debug!(%error, "a client's certificate proves nothing");
                Shown::Stranger
            }
        }
    }
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
