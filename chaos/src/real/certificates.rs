//! Serving certificates of masters that are no good, and those that masters serve.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use quorate_pki::authority::{CERTIFICATE_DAYS, RENEW_DAYS, der_of_pem};
use quorate_pki::{ClusterKeys, Subject, files};
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::note_distrust;
use super::kubeconfig::Credentials;
use crate::limits::CONNECT_MAX;
use crate::scenario::fault::machine::Certificate;

/// Days by which the time of one that is no good has passed, is short of its end, or is still to come.
const FAR_DAYS: i64 = 30;

/// What was done to a master's certificate.
#[derive(Debug)]
pub struct Spoilt {
    /// In words.
    pub what: String,
    /// The one that it must not serve: of before when it is missing.
    der: Vec<u8>,
}

/// Puts a certificate that is no good into the files of a master that does not run.
///
/// # Errors
/// When its keys cannot be read, or its files not be written.
pub fn spoil(data: &Path, how: Certificate, api: SocketAddr) -> anyhow::Result<Spoilt> {
    let directory = data.join("pki");
    let certificate = directory.join("serving.crt");
    let days = match how {
        Certificate::Missing => {
            let text = fs::read_to_string(&certificate)
                .with_context(|| certificate.display().to_string())?;
            fs::remove_file(&certificate)?;
            let what = "its serving certificate is gone".to_owned();
            return Ok(Spoilt { what, der: der_of_pem(&text)? });
        }
        Certificate::Expired => -CERTIFICATE_DAYS - FAR_DAYS,
        Certificate::Ending => RENEW_DAYS - FAR_DAYS - CERTIFICATE_DAYS,
        Certificate::Early => FAR_DAYS,
    };
    let keys = ClusterKeys::load(&directory)?;
    let addresses = vec![api.ip()];
    let subject = Subject::Serving { names: vec!["localhost".to_owned()], addresses };
    let made = Timestamp::now() + SignedDuration::from_hours(days * 24);
    let issued = keys.cluster.issue(&subject, made)?;
    files::write_private(&directory.join("serving.key"), issued.key_pem.as_bytes())?;
    files::write_private(&certificate, issued.certificate_pem.as_bytes())?;
    let what = format!("its serving certificate is {}, made {days} days from now", how.name());
    Ok(Spoilt { what, der: der_of_pem(&issued.certificate_pem)? })
}

impl Spoilt {
    /// Whether a master serves another one now, which clients believe; which, in words.
    ///
    /// # Errors
    /// Why not.
    pub async fn replaced(
        &self,
        api: SocketAddr,
        user: &Arc<Credentials>,
    ) -> anyhow::Result<String> {
        let served = timeout(CONNECT_MAX, served(api, user)).await.context("no answer")??;
        anyhow::ensure!(served != self.der, "it serves the one that is no good");
        Ok(format!("it serves another one, {}", short(&served)))
    }
}

/// What a master shows, when it is believed: made by the cluster's authority, for this address, and for now.
///
/// # Errors
/// Why not.
pub async fn served(api: SocketAddr, user: &Arc<Credentials>) -> anyhow::Result<Vec<u8>> {
    let tcp = TcpStream::connect(api).await?;
    let connector = tokio_rustls::TlsConnector::from(user.now().tls.clone());
    let stream = connector.connect(ServerName::from(api.ip()), tcp).await;
    let stream =
        stream.map_err(anyhow::Error::from).inspect_err(|error| note_distrust(user, api, error))?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(chain.first().context("an empty chain")?.to_vec())
}

/// The beginning of a certificate's hash.
fn short(der: &[u8]) -> String {
    let hash = Sha256::digest(der);
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use quorate_pki::authority::wants_renewal;

    use super::*;

    #[test]
    fn each_is_no_good_and_another_than_before() {
        let directory = tempfile::tempdir().unwrap();
        let keys = ClusterKeys::generate("c", Timestamp::now()).unwrap();
        keys.save(&directory.path().join("pki")).unwrap();
        let api = "127.0.0.1:1".parse().unwrap();
        let file = directory.path().join("pki/serving.crt");
        for how in [Certificate::Expired, Certificate::Ending, Certificate::Early] {
            let spoilt = spoil(directory.path(), how, api).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(der_of_pem(&text).unwrap(), spoilt.der);
            assert!(wants_renewal(&text, Timestamp::now()), "{how:?}");
            assert!(spoilt.what.contains(how.name()), "{}", spoilt.what);
        }
        let before = der_of_pem(&fs::read_to_string(&file).unwrap()).unwrap();
        let spoilt = spoil(directory.path(), Certificate::Missing, api).unwrap();
        assert!(!file.exists() && spoilt.der == before);
    }
}
