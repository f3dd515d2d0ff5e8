//! All keys that the masters of a cluster share: made at the first start, handed to a master that
//! joins.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use rcgen::KeyPair;

use crate::authority::{self, Authority, Certified};
use crate::error::Error;
use crate::facts::fingerprint;
use crate::files;

const CLUSTER: &str = "cluster-ca";
const PEER: &str = "peer-ca";
const FRONT_PROXY: &str = "front-proxy-ca";
const SERVICE_ACCOUNT: &str = "service-account.key";

/// Names of all shared files below `pki/`, as they travel to a joining master.
pub const SHARED_FILES: [&str; 7] = [
    "cluster-ca.crt",
    "cluster-ca.key",
    "peer-ca.crt",
    "peer-ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    SERVICE_ACCOUNT,
];

/// The keys that all masters share.
pub struct ClusterKeys {
    /// Signs clients', nodes' and serving certificates.
    pub cluster: Authority,
    /// Signs the masters' certificates towards each other.
    pub peer: Authority,
    /// Signs the certificate with which the API server proxies for users.
    pub front_proxy: Authority,
    /// Signs service account tokens (ES256, PKCS #8 PEM).
    pub service_account_pem: String,
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKeys").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl ClusterKeys {
    /// Makes all keys of a new cluster.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate(cluster_id: &str, now: Timestamp) -> Result<Self, Error> {
        let authority =
            |role: &str| Authority::generate(&format!("quorate {role} {cluster_id}"), now);
        let service_account = KeyPair::generate()
            .map_err(Error::certificate("cannot make the service account key"))?;
        Ok(Self {
            cluster: authority("cluster CA")?,
            peer: authority("peer CA")?,
            front_proxy: authority("front proxy CA")?,
            service_account_pem: service_account.serialize_pem(),
        })
    }

    /// New authorities to come after these, told apart by their names. The service account key stays.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn successor(
        &self,
        cluster_id: &str,
        generation: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let authority = |role: &str| {
            Authority::generate(&format!("quorate {role} {cluster_id} {generation}"), now)
        };
        Ok(Self {
            cluster: authority("cluster CA")?,
            peer: authority("peer CA")?,
            front_proxy: authority("front proxy CA")?,
            service_account_pem: self.service_account_pem.clone(),
        })
    }

    /// Fingerprints of the three authorities' certificates: cluster, peer, front proxy.
    #[must_use]
    pub fn fingerprints(&self) -> [String; 3] {
        [&self.cluster, &self.peer, &self.front_proxy]
            .map(|authority| fingerprint(authority.certificate_pem()))
    }

    /// Writes them below a directory, each file mode 0600.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::create_private_dir(directory)?;
        for (name, content) in self.to_files() {
            files::write_private(&directory.join(name), content.as_bytes())?;
        }
        Ok(())
    }

    /// Reads them.
    ///
    /// # Errors
    /// When one is missing or does not parse.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        Self::from_files(|name| files::read(&directory.join(name)))
    }

    /// Name and content of each file.
    #[must_use]
    pub fn to_files(&self) -> Vec<(String, String)> {
        let mut all = Vec::with_capacity(SHARED_FILES.len());
        let authorities =
            [(CLUSTER, &self.cluster), (PEER, &self.peer), (FRONT_PROXY, &self.front_proxy)];
        for (name, authority) in authorities {
            let certified = authority.certified();
            all.push((format!("{name}.crt"), certified.certificate_pem.clone()));
            all.push((format!("{name}.key"), certified.key_pem.clone()));
        }
        all.push((SERVICE_ACCOUNT.to_owned(), self.service_account_pem.clone()));
        all
    }

    /// From the content of each file, wherever it is.
    ///
    /// # Errors
    /// Those of `read`, and when one does not parse.
    pub fn from_files(read: impl Fn(&str) -> Result<String, Error>) -> Result<Self, Error> {
        let authority = |name: &str| {
            Authority::from_pem(Certified {
                certificate_pem: read(&format!("{name}.crt"))?,
                key_pem: read(&format!("{name}.key"))?,
            })
        };
        let service_account_pem = read(SERVICE_ACCOUNT)?;
        KeyPair::from_pem(&service_account_pem)
            .map_err(Error::certificate("cannot read the service account key"))?;
        Ok(Self {
            cluster: authority(CLUSTER)?,
            peer: authority(PEER)?,
            front_proxy: authority(FRONT_PROXY)?,
            service_account_pem,
        })
    }

    /// What a join token pins: the hash of the cluster authority's public key.
    ///
    /// # Errors
    /// When its certificate does not parse.
    pub fn pin(&self) -> Result<String, Error> {
        authority::public_key_hash(&authority::der_of_pem(self.cluster.certificate_pem())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pki");
        let keys = ClusterKeys::generate("c1", now()).unwrap();
        keys.save(&path).unwrap();
        let loaded = ClusterKeys::load(&path).unwrap();
        assert_eq!(loaded.to_files(), keys.to_files());
        assert_eq!(loaded.pin().unwrap(), keys.pin().unwrap());
        let names: Vec<_> = keys.to_files().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, SHARED_FILES);
    }

    #[test]
    fn a_missing_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        ClusterKeys::generate("c1", now()).unwrap().save(directory.path()).unwrap();
        std::fs::remove_file(directory.path().join("peer-ca.key")).unwrap();
        let error = ClusterKeys::load(directory.path()).unwrap_err();
        assert!(error.to_string().ends_with("peer-ca.key"), "{error}");
    }
}
