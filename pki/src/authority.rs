//! A certificate authority and the certificates it issues.

pub mod request;

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::error::Error;

/// Lifetime of an authority: ten years, as kubeadm's.
pub const AUTHORITY_DAYS: i64 = 3650;

/// Lifetime of what an authority issues: one year, as kubeadm's.
pub const CERTIFICATE_DAYS: i64 = 365;

/// The same, in seconds.
pub const CERTIFICATE_SECONDS: i64 = CERTIFICATE_DAYS * DAY_SECONDS;

/// Certificates are made anew when they have less than this left, or less than a third of their time.
pub const RENEW_DAYS: i64 = 60;

/// Of that time so much (one part of) is left to chance, so that not all are made anew at once.
const RENEW_JITTER_PART: i64 = 10;

/// A certificate is valid a little before it was made, for clocks that are behind.
const BACKDATE_SECONDS: i64 = 300;

const DAY_SECONDS: i64 = 24 * 3600;

/// The DNS name in every master's peer certificate: TLS wants a name to check; who the peer is, the
/// URI says.
pub const PEER_DNS_NAME: &str = "master.quorate.internal";

/// A certificate with its key, both PEM. `Debug` does not show the key.
#[derive(Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified").field("certificate_pem", &self.certificate_pem).finish()
    }
}

/// Whom a certificate is for, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A client of the API: Kubernetes reads the common name as user, the organization as group.
    /// (One group: `rcgen` keeps one value for each kind of name.)
    Client {
        /// User name.
        name: String,
        /// Group; empty for none.
        group: String,
    },
    /// The API's serving certificate.
    Serving {
        /// DNS names.
        names: Vec<String>,
        /// Addresses.
        addresses: Vec<IpAddr>,
    },
    /// A master towards the others: names cluster and node id, and nothing else is looked at. Valid as long as the
    /// authority: it is made at each start and never stored, and masters whose clocks differ, or that run for years,
    /// must go on talking to each other.
    Peer {
        /// Which cluster.
        cluster_id: String,
        /// Raft node id.
        node_id: u64,
    },
}

impl Subject {
    /// The URI that binds a peer's certificate to cluster and node id.
    #[must_use]
    pub fn peer_uri(cluster_id: &str, node_id: u64) -> String {
        format!("quorate://{cluster_id}/master/{node_id}")
    }

    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let name = &mut params.distinguished_name;
        match self {
            Self::Client { name: user, group } => {
                name.push(DnType::CommonName, user.as_str());
                if !group.is_empty() {
                    name.push(DnType::OrganizationName, group.as_str());
                }
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Self::Serving { names, addresses } => {
                name.push(DnType::CommonName, "quorate");
                for dns in names {
                    params.subject_alt_names.push(SanType::DnsName(dns.as_str().try_into()?));
                }
                params
                    .subject_alt_names
                    .extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Self::Peer { cluster_id, node_id } => {
                name.push(DnType::CommonName, format!("quorate master {node_id}"));
                let uri = Self::peer_uri(cluster_id, *node_id);
                let dns = PEER_DNS_NAME.try_into()?;
                params.subject_alt_names.push(SanType::DnsName(dns));
                params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        Ok(params)
    }
}

/// A certificate authority with its key.
pub struct Authority {
    certified: Certified,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certified", &self.certified).finish()
    }
}

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate(name: &str, now: Timestamp) -> Result<Self, Error> {
        let error = || Error::certificate(format!("cannot make the authority {name}"));
        let key = KeyPair::generate().map_err(error())?;
        let mut params = authority_params(name);
        validity(&mut params, now, AUTHORITY_DAYS * DAY_SECONDS);
        let certificate_pem = params.self_signed(&key).map_err(error())?.pem();
        Self::from_pem(Certified { certificate_pem, key_pem: key.serialize_pem() })
    }

    /// An authority from its certificate and key.
    ///
    /// # Errors
    /// When they do not parse.
    pub fn from_pem(certified: Certified) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&certified.key_pem)
            .map_err(Error::certificate("cannot read the key of an authority"))?;
        let issuer = Issuer::from_ca_cert_pem(&certified.certificate_pem, key)
            .map_err(Error::certificate("cannot read the certificate of an authority"))?;
        Ok(Self { certified, issuer })
    }

    /// Certificate and key.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.certified
    }

    /// The certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certified.certificate_pem
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// When a name cannot be in a certificate, or no key can be made.
    pub fn issue(&self, subject: &Subject, now: Timestamp) -> Result<Certified, Error> {
        self.issue_for(subject, now, CERTIFICATE_SECONDS)
    }

    /// The same, good for so many seconds (a peer's: as long as the authority).
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_for(
        &self,
        subject: &Subject,
        now: Timestamp,
        seconds: i64,
    ) -> Result<Certified, Error> {
        let error = || Error::certificate(format!("cannot issue a certificate for {subject:?}"));
        let key = KeyPair::generate().map_err(error())?;
        let mut params = subject.params().map_err(error())?;
        match subject {
            Subject::Peer { .. } => self.own_validity(&mut params)?,
            Subject::Client { .. } | Subject::Serving { .. } => {
                validity(&mut params, now, seconds);
            }
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(error())?;
        Ok(Certified { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// From the first to the last second of the authority itself.
    fn own_validity(&self, params: &mut CertificateParams) -> Result<(), Error> {
        let der = der_of_pem(self.certificate_pem())?;
        let (_, own) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| Error::Refused(format!("not an X.509 certificate: {error}")))?;
        params.not_before = own.validity().not_before.to_datetime();
        params.not_after = own.validity().not_after.to_datetime();
        Ok(())
    }

    /// Signs a request. Only the key is taken from it: names and usages are `subject`'s, whatever
    /// the request asks for.
    ///
    /// # Errors
    /// When the request does not parse or its signature is wrong.
    pub fn sign_request(
        &self,
        request_pem: &str,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<String, Error> {
        self.sign_request_for(request_pem, subject, now, CERTIFICATE_SECONDS)
    }

    /// The same, good for so many seconds.
    ///
    /// # Errors
    /// As [`Authority::sign_request`].
    pub fn sign_request_for(
        &self,
        request_pem: &str,
        subject: &Subject,
        now: Timestamp,
        seconds: i64,
    ) -> Result<String, Error> {
        let error = || Error::certificate("cannot sign the certificate request");
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).map_err(error())?;
        request.params = subject.params().map_err(error())?;
        validity(&mut request.params, now, seconds);
        Ok(request.signed_by(&self.issuer).map_err(error())?.pem())
    }

    /// A certificate of another authority's name and key that this one has signed: shown beside what the other one
    /// issues, it leads whoever trusts this one only to that.
    ///
    /// # Errors
    /// When a certificate does not parse.
    pub fn vouch_for(&self, other: &Self) -> Result<String, Error> {
        let error = || Error::certificate("cannot sign for another authority");
        let key = KeyPair::from_pem(&other.certified.key_pem).map_err(error())?;
        let name = common_name(other.certificate_pem())
            .ok_or_else(|| Error::Refused("an authority has no name".to_owned()))?;
        let mut params = authority_params(&name);
        self.own_validity(&mut params)?;
        Ok(params.signed_by(&key, &self.issuer).map_err(error())?.pem())
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// A new key and a request for a certificate: what a node sends when it joins.
///
/// # Errors
/// When no key can be made.
pub fn request(name: &str) -> Result<(String, String), Error> {
    let error = || Error::certificate("cannot make a certificate request");
    let key = KeyPair::generate().map_err(error())?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(&key).map_err(error())?.pem().map_err(error())?;
    Ok((key.serialize_pem(), request))
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo) in lower-case hex: what a join token
/// pins, as kubeadm's `--discovery-token-ca-cert-hash` does.
///
/// # Errors
/// When the certificate does not parse.
pub fn public_key_hash(certificate_der: &[u8]) -> Result<String, Error> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate_der)
        .map_err(|error| Error::Refused(format!("not an X.509 certificate: {error}")))?;
    Ok(hex(&Sha256::digest(certificate.public_key().raw)))
}

/// The DER of the first certificate in a PEM text.
///
/// # Errors
/// When there is none.
pub fn der_of_pem(certificate_pem: &str) -> Result<Vec<u8>, Error> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
        .map_err(|error| Error::Refused(format!("not a PEM certificate: {error}")))?;
    Ok(pem.contents)
}

/// The common name in a certificate's subject; `None` when it has none or does not parse.
#[must_use]
pub fn common_name(certificate_pem: &str) -> Option<String> {
    let der = der_of_pem(certificate_pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// Whether a certificate is to be made anew: it does not parse, has less than [`RENEW_DAYS`] or a third of its time
/// left, or is not valid yet, since it was made when the clock was ahead.
#[must_use]
pub fn wants_renewal(certificate_pem: &str, now: Timestamp) -> bool {
    renewal_at(certificate_pem)
        .is_none_or(|(from, at)| from > now.as_second() || at < now.as_second())
}

/// As [`wants_renewal`], for who cannot make one itself: one that is not valid yet is left alone, since whoever made it
/// may go by another clock, and the next one would be no different.
#[must_use]
pub fn is_near_end(certificate_pem: &str, now: Timestamp) -> bool {
    renewal_at(certificate_pem).is_none_or(|(_, at)| at < now.as_second())
}

/// From when a certificate is valid, and when it is to be made anew: a little earlier than it has to be, by an amount
/// that its key decides, so that of many that were made at once not all come back at once.
fn renewal_at(certificate_pem: &str) -> Option<(i64, i64)> {
    let (from, until) = time_of(certificate_pem)?;
    let lifetime = until - from - BACKDATE_SECONDS;
    let margin = (RENEW_DAYS * DAY_SECONDS).min(lifetime / 3);
    let chance = i64::from(*Sha256::digest(certificate_pem.as_bytes()).first()?);
    Some((from, until - margin - margin * chance / (RENEW_JITTER_PART * 256)))
}

/// Whether a certificate is of no use any more: it does not parse, or its time is over.
#[must_use]
pub fn has_ended(certificate_pem: &str, now: Timestamp) -> bool {
    time_of(certificate_pem).is_none_or(|(_, until)| until < now.as_second())
}

/// How long a certificate was made for, in seconds; `None` when it does not parse.
#[must_use]
pub fn lifetime(certificate_pem: &str) -> Option<i64> {
    time_of(certificate_pem).map(|(from, until)| until - from - BACKDATE_SECONDS)
}

/// Until when a certificate is valid, in seconds since 1970; `None` when it does not parse.
#[must_use]
pub fn ends_at(certificate_pem: &str) -> Option<i64> {
    time_of(certificate_pem).map(|(_, until)| until)
}

/// From when until when a certificate is valid, in seconds since 1970.
fn time_of(certificate_pem: &str) -> Option<(i64, i64)> {
    let der = der_of_pem(certificate_pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn validity(params: &mut CertificateParams, now: Timestamp, seconds: i64) {
    let at = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(now.as_second() - BACKDATE_SECONDS);
    params.not_after = at(now.as_second() + seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn parse(pem: &str, check: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>)) {
        let der = der_of_pem(pem).unwrap();
        check(&x509_parser::parse_x509_certificate(&der).unwrap().1);
    }

    #[test]
    fn a_client_certificate_names_user_and_group() {
        let authority = Authority::generate("cluster", now()).unwrap();
        let subject =
            Subject::Client { name: "admin".to_owned(), group: "system:masters".to_owned() };
        let issued = authority.issue(&subject, now()).unwrap();
        parse(&issued.certificate_pem, |certificate| {
            let subject = certificate.subject();
            let name = subject.iter_common_name().next().unwrap().as_str().unwrap();
            assert_eq!(name, "admin");
            let groups: Vec<_> =
                subject.iter_organization().map(|group| group.as_str().unwrap()).collect();
            assert_eq!(groups, ["system:masters"]);
            parse(authority.certificate_pem(), |authority| {
                certificate.verify_signature(Some(authority.public_key())).unwrap();
            });
        });
    }

    #[test]
    fn a_masters_certificate_does_not_depend_on_its_clock() {
        let authority = Authority::generate("peers", now()).unwrap();
        let subject = Subject::Peer { cluster_id: "c".to_owned(), node_id: 3 };
        let ahead = now() + jiff::SignedDuration::from_hours(20_000);
        let issued = authority.issue(&subject, ahead).unwrap();
        parse(&issued.certificate_pem, |certificate| {
            parse(authority.certificate_pem(), |authority| {
                assert_eq!(certificate.validity(), authority.validity());
            });
        });
    }

    #[test]
    fn a_request_gets_the_names_that_the_signer_gives_it() {
        let authority = Authority::generate("cluster", now()).unwrap();
        let (_, request) = request("system:masters please").unwrap();
        let subject =
            Subject::Client { name: "system:node:a".to_owned(), group: "system:nodes".to_owned() };
        let certificate = authority.sign_request(&request, &subject, now()).unwrap();
        parse(&certificate, |certificate| {
            let text = certificate.subject().to_string();
            assert!(text.contains("system:node:a") && !text.contains("please"), "{text}");
            assert!(!certificate.is_ca());
        });
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let authority = Authority::generate("cluster", now()).unwrap();
        let subject = Subject::Client { name: "a".to_owned(), group: "g".to_owned() };
        let error = authority.sign_request("nonsense", &subject, now()).unwrap_err();
        assert_eq!(error.to_string(), "cannot sign the certificate request");
    }

    #[test]
    fn certificates_are_renewed_in_time() {
        let authority = Authority::generate("cluster", now()).unwrap();
        let subject = Subject::Client { name: "a".to_owned(), group: "g".to_owned() };
        let issued = authority.issue(&subject, now()).unwrap().certificate_pem;
        let later = |days: i64| now() + jiff::SignedDuration::from_secs(days * DAY_SECONDS);
        // A tenth of the margin is left to chance.
        assert!(!wants_renewal(&issued, later(CERTIFICATE_DAYS - RENEW_DAYS - 7)));
        assert!(wants_renewal(&issued, later(CERTIFICATE_DAYS - RENEW_DAYS + 1)));
        assert!(wants_renewal(&issued, later(-1)), "it was made when the clock was ahead");
        assert!(!is_near_end(&issued, later(-1)), "who did not make it goes by its end only");
        assert!(is_near_end(&issued, later(CERTIFICATE_DAYS - RENEW_DAYS + 1)));
        assert_eq!(lifetime(&issued), Some(CERTIFICATE_SECONDS));
        assert!(wants_renewal("nonsense", now()) && is_near_end("nonsense", now()));
        // A short one is renewed in its last third.
        let short = authority.issue_for(&subject, now(), 600).unwrap().certificate_pem;
        let after = |seconds: i64| now() + jiff::SignedDuration::from_secs(seconds);
        assert!(!wants_renewal(&short, after(370)) && wants_renewal(&short, after(401)));
        assert!(!has_ended(&issued, later(CERTIFICATE_DAYS)));
        assert!(has_ended(&issued, later(CERTIFICATE_DAYS + 1)));
        assert!(!has_ended(&issued, later(-1)) && has_ended("nonsense", now()));
    }

    #[test]
    fn no_key_is_in_a_debug_text() {
        let authority = Authority::generate("cluster", now()).unwrap();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }
}
