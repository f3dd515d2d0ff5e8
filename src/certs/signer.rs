//! Signs what is asked of the cluster's authority through the API (CertificateSigningRequests). Its key stays here: the
//! controllers hand requests in and get certificates.

use jiff::Timestamp;
use quorate_controllers::{CertificateSigner, Requested};
use quorate_pki::authority::{self, request};
use quorate_pki::ring::Circle;

use super::Certs;

impl CertificateSigner for Certs {
    fn read(&self, request_pem: &str) -> Result<Requested, String> {
        let asked = request::Requested::read(request_pem).map_err(|error| error.to_string())?;
        let request::Requested { name, organizations, dns_names, addresses, emails, uris } = asked;
        Ok(Requested { name, organizations, dns_names, addresses, emails, uris })
    }

    fn sign(
        &self,
        request_pem: &str,
        usages: &[String],
        now: Timestamp,
        seconds: i64,
    ) -> Result<String, String> {
        let used = self.now();
        let signed = used.ring.keys().cluster.sign_as_asked(request_pem, usages, now, seconds);
        let certificate = signed.map_err(|error| error.to_string())?;
        // While the authorities change, with what leads there who knows only the old one.
        used.ring.chain_pem(Circle::Cluster, &certificate).map_err(|error| error.to_string())
    }

    fn ends_at(&self, certificate_pem: &str) -> Option<i64> {
        authority::ends_at(certificate_pem)
    }
}
