//! Client certificates: the common name is the user, the organizations are the groups (apiserver's
//! `x509.CommonNameUserConversion`). The chain was verified at the connection's begin (`serve/tls.rs`);
//! here it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Who a certificate is for, and from when until when.
#[derive(Debug, Clone)]
pub(crate) struct CertificateIdentity {
    identity: Identity,
    not_before: i64,
    not_after: i64,
}

impl CertificateIdentity {
    /// Reads a certificate (DER). `None` when it names nobody.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
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
        Some(Self {
            identity: Identity::authenticated(user),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// The identity, if the certificate counts at this time: connections outlive certificates.
    pub(crate) fn at(&self, now: Timestamp) -> Option<Identity> {
        let now = now.as_second();
        (self.not_before <= now && now <= self.not_after).then(|| self.identity.clone())
    }
}
