//! Client certificates: the common name is the user, the organizations are the groups (apiserver's
//! `x509.CommonNameUserConversion`). The chain was verified at the connection's begin (`serve/tls.rs`);
//! here it is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::identity::{Identity, User};

/// What a connection's client certificate says of its peer.
#[derive(Debug, Clone, Default)]
pub(crate) enum Shown {
    /// There is none, or one that names nobody.
    #[default]
    Nothing,
    /// One that the cluster's CA has not signed, or that does not count now.
    Stranger,
    /// One of the cluster.
    Certificate(Arc<CertificateIdentity>),
    /// None, but the caller vouches for its peer.
    Vouched(Identity),
}

impl Shown {
    /// What the certificate says, if there is one that counts when the connection begins.
    pub(crate) fn facts(&self) -> Option<&CertificateFacts> {
        match self {
            Self::Certificate(certificate) => Some(&certificate.proof),
            Self::Nothing | Self::Stranger | Self::Vouched(_) => None,
        }
    }

    /// Who it is for; `Err`: it was shown and proves nothing.
    pub(crate) fn at(&self, now: Timestamp) -> Result<Option<Identity>, ()> {
        match self {
            Self::Nothing => Ok(None),
            Self::Stranger => Err(()),
            Self::Certificate(certificate) => certificate.at(now).map(Some).ok_or(()),
            Self::Vouched(identity) => Ok(Some(identity.clone())),
        }
    }
}

/// Whether certificates of an authority still count: it may be given up while connections with them are open. Clones
/// are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Believed(Arc<AtomicBool>);

impl Believed {
    pub(crate) fn yes() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(crate) fn set(&self, believed: bool) {
        self.0.store(believed, Ordering::Release);
    }
}

/// Who a certificate is for, and from when until when.
#[derive(Debug, Clone)]
pub(crate) struct CertificateIdentity {
    identity: Identity,
    proof: CertificateFacts,
    believed: Believed,
}

/// What a client's certificate says beside who it is for; an extension of gRPC requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Common name of the authority that signed it.
    pub issuer: String,
    /// From when, in seconds since 1970.
    pub not_before: i64,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
}

impl CertificateIdentity {
    /// Reads a certificate (DER). `None` when it names nobody.
    pub(crate) fn of(der: &[u8], believed: Believed) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        if name.is_empty() {
            return None;
        }
        let groups = subject
            .iter_organization()
            .filter_map(|group| group.as_str().ok())
            .map(str::to_owned)
            .collect();
        let digest: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
        let extra = BTreeMap::from([(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![format!("X509SHA256={digest}")],
        )]);
        let user = User { name: name.to_owned(), uid: String::new(), groups, extra };
        let issuer = certificate.issuer().iter_common_name().next();
        let proof = CertificateFacts {
            issuer: issuer.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        };
        Some(Self { identity: Identity::authenticated(user), proof, believed })
    }

    /// The identity, if the certificate counts at this time: connections outlive certificates and authorities.
    pub(crate) fn at(&self, now: Timestamp) -> Option<Identity> {
        let now = now.as_second();
        let in_time = self.proof.not_before <= now && now <= self.proof.not_after;
        (in_time && self.believed.0.load(Ordering::Acquire)).then(|| self.identity.clone())
    }
}
