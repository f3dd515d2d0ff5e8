//! What a certificate says, for people who look at it and for programs that compare.

use sha2::{Digest, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{der_of_pem, hex};
use crate::error::Error;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Common name and organization, as `CN=…, O=…`.
    pub subject: String,
    /// Common name of the authority that signed it.
    pub issuer: String,
    /// Names, addresses and URIs that it is for.
    pub names: Vec<String>,
    /// From when, in seconds since 1970.
    pub not_before: i64,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the whole certificate, hexadecimal.
    pub fingerprint: String,
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it does not parse.
    pub fn of_pem(certificate_pem: &str) -> Result<Self, Error> {
        Self::of_der(&der_of_pem(certificate_pem)?)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn of_der(der: &[u8]) -> Result<Self, Error> {
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|error| Error::Refused(format!("not an X.509 certificate: {error}")))?;
        let issuer = parsed.issuer().iter_common_name().next();
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: issuer.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned(),
            names: names_of(&parsed),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            fingerprint: hex(&Sha256::digest(der)),
        })
    }
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => all.push((*name).to_owned()),
                GeneralName::URI(uri) => all.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => all.extend(address(bytes)),
                _ => {}
            }
        }
    }
    all
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|six| std::net::Ipv6Addr::from(six).to_string())
}

/// Whether an authority has signed a certificate. Nothing else is looked at: not its time, not its purpose.
#[must_use]
pub fn signed_by(certificate_pem: &str, authority_pem: &str) -> bool {
    let (Ok(certificate), Ok(authority)) = (der_of_pem(certificate_pem), der_of_pem(authority_pem))
    else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&certificate) else { return false };
    let Ok((_, authority)) = X509Certificate::from_der(&authority) else { return false };
    certificate.issuer() == authority.subject()
        && certificate.verify_signature(Some(authority.public_key())).is_ok()
}

/// SHA-256 of the first certificate in a PEM text, hexadecimal; empty when there is none.
#[must_use]
pub fn fingerprint(certificate_pem: &str) -> String {
    der_of_pem(certificate_pem).map(|der| hex(&Sha256::digest(der))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Subject};

    #[test]
    fn a_certificate_says_who_it_is_for_and_who_signed_it() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let (one, other) =
            (Authority::generate("one", now).unwrap(), Authority::generate("other", now).unwrap());
        let addresses = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let subject = Subject::Serving { names: vec!["a.b".to_owned()], addresses };
        let issued = one.issue_for(&subject, now, 60).unwrap().certificate_pem;
        let facts = Facts::of_pem(&issued).unwrap();
        assert_eq!(facts.issuer, "one");
        assert_eq!(facts.names, ["a.b", "10.0.0.1", "::1"]);
        assert_eq!(facts.not_after, now.as_second() + 60);
        assert_eq!(facts.fingerprint, fingerprint(&issued));
        assert!(signed_by(&issued, one.certificate_pem()));
        assert!(!signed_by(&issued, other.certificate_pem()));
        // The other one signs for the first: its name and key, another signature.
        let vouched = other.vouch_for(&one).unwrap();
        assert!(signed_by(&vouched, other.certificate_pem()));
        assert!(signed_by(&issued, &vouched));
        assert_eq!(Facts::of_pem(&vouched).unwrap().subject, "CN=one");
    }
}
