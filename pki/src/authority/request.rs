//! Certificates that somebody asks for by a request of their own: names and usages are theirs, as far as whoever calls
//! has looked at them.

use jiff::Timestamp;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::{Authority, der_of_pem, validity};
use crate::error::Error;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// Common name.
    pub name: String,
    /// Organizations, which Kubernetes reads as groups.
    pub organizations: Vec<String>,
    /// How many DNS names.
    pub dns_names: usize,
    /// How many addresses.
    pub addresses: usize,
    /// How many e-mail addresses.
    pub emails: usize,
    /// How many URIs.
    pub uris: usize,
}

impl Requested {
    /// Reads a request (PEM).
    ///
    /// # Errors
    /// When it does not parse.
    pub fn read(request_pem: &str) -> Result<Self, Error> {
        let der = der_of_pem(request_pem)?;
        let refused = |error: String| Error::Refused(format!("not a PKCS #10 request: {error}"));
        let (_, request) =
            X509CertificationRequest::from_der(&der).map_err(|error| refused(error.to_string()))?;
        let subject = &request.certification_request_info.subject;
        let mut asked = Self::default();
        for name in subject.iter_common_name() {
            name.as_str().map_err(|error| refused(error.to_string()))?.clone_into(&mut asked.name);
        }
        for organization in subject.iter_organization() {
            let text = organization.as_str().map_err(|error| refused(error.to_string()))?;
            asked.organizations.push(text.to_owned());
        }
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => asked.dns_names += 1,
                    GeneralName::IPAddress(_) => asked.addresses += 1,
                    GeneralName::RFC822Name(_) => asked.emails += 1,
                    GeneralName::URI(_) => asked.uris += 1,
                    _ => {}
                }
            }
        }
        Ok(asked)
    }
}

impl Authority {
    /// Signs a request as it asks: subject and alternative names are its own, usages are those given (the API's words:
    /// `client auth`, …). Good for so many seconds, and never longer than the authority.
    ///
    /// # Errors
    /// When the request does not parse, its signature is wrong, it names more than one organization (of which this
    /// would lose all but one), or a usage is not one that clients and servers have.
    pub fn sign_as_asked(
        &self,
        request_pem: &str,
        usages: &[String],
        now: Timestamp,
        seconds: i64,
    ) -> Result<String, Error> {
        let error = || Error::certificate("cannot sign the certificate request");
        if Requested::read(request_pem)?.organizations.len() > 1 {
            return Err(Error::Refused("it names more than one organization".to_owned()));
        }
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).map_err(error())?;
        let params = &mut request.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match usage.as_str() {
                "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => {
                    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth)
                }
                "server auth" => {
                    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)
                }
                other => return Err(Error::Refused(format!("{other:?} cannot be signed for"))),
            }
        }
        let left = super::ends_at(self.certificate_pem()).map(|end| end - now.as_second());
        validity(params, now, left.map_or(seconds, |left| seconds.min(left)));
        Ok(request.signed_by(&self.issuer).map_err(error())?.pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn request(name: &str, organization: &str, dns: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let names = dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names.extend(names);
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_request_is_read_and_signed_as_it_asks() {
        let authority = Authority::generate("cluster", now()).unwrap();
        let pem = request("system:node:n", "system:nodes", &["n.example.com"]);
        let asked = Requested::read(&pem).unwrap();
        assert_eq!((asked.name.as_str(), asked.dns_names), ("system:node:n", 1));
        assert_eq!(asked.organizations, ["system:nodes"]);
        let usages = ["digital signature", "server auth"].map(str::to_owned);
        let certificate = authority.sign_as_asked(&pem, &usages, now(), 600).unwrap();
        let der = der_of_pem(&certificate).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(parsed.validity().not_after.timestamp(), now().as_second() + 600);
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(format!("{:?}", names.value).contains("n.example.com"));
        assert!(!parsed.is_ca());
    }

    #[test]
    fn what_cannot_be_signed_is_refused() {
        let authority = Authority::generate("cluster", now()).unwrap();
        let pem = request("u", "g", &[]);
        let refused = |pem: &str, usage: &str| {
            authority.sign_as_asked(pem, &[usage.to_owned()], now(), 600).unwrap_err().to_string()
        };
        assert!(refused(&pem, "cert sign").contains("cert sign"));
        assert!(!refused("nonsense", "client auth").is_empty());
        // Longer than the authority nothing lives.
        let years = 100 * 365 * 24 * 3600;
        let usages = ["client auth".to_owned()];
        let certificate = authority.sign_as_asked(&pem, &usages, now(), years).unwrap();
        assert_eq!(
            super::super::ends_at(&certificate),
            super::super::ends_at(authority.certificate_pem())
        );
    }
}
