//! What the authorities issue for one master: for its API, towards the other masters, and towards their APIs.

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use quorate_pki::facts::signed_by;
use quorate_pki::{Certified, KeyRing, Subject, authority, files};

use crate::tls;

/// Whom the certificates are for.
#[derive(Debug, Clone)]
pub struct Whose {
    pub cluster_id: String,
    pub node_id: u64,
    /// The master's name.
    pub name: String,
    /// DNS names under which clients reach its API.
    pub names: Vec<String>,
    /// And addresses.
    pub addresses: Vec<IpAddr>,
}

impl Whose {
    /// What is asked for, in a form that can be compared: it stands beside the serving certificate.
    fn wanted(&self) -> String {
        format!("{} {:?} {:?}\n", self.cluster_id, self.names, self.addresses)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Leaves {
    /// Kept on disk, so that a master that starts again shows the same.
    pub serving: Certified,
    /// Made at each start, valid as long as its authority.
    pub peer: Certified,
    /// Made at each start.
    pub client: Certified,
}

impl Leaves {
    /// The serving certificate of before when it still does, and new ones of the others.
    pub fn open(
        directory: &Path,
        whose: &Whose,
        lifetime: i64,
        ring: &KeyRing,
    ) -> anyhow::Result<Self> {
        let mut leaves = Self::issue(whose, lifetime, ring)?;
        match kept(directory, whose, ring) {
            Some(serving) => leaves.serving = serving,
            None => leaves.save(directory, whose)?,
        }
        Ok(leaves)
    }

    /// New ones.
    pub fn issue(whose: &Whose, lifetime: i64, ring: &KeyRing) -> anyhow::Result<Self> {
        let (keys, now) = (ring.keys(), Timestamp::now());
        let Whose { cluster_id, node_id, name, names, addresses } = whose.clone();
        let client = Subject::Client {
            name: format!("quorate:master:{name}"),
            group: "system:masters".to_owned(),
        };
        let serving = Subject::Serving { names, addresses };
        Ok(Self {
            serving: keys.cluster.issue_for(&serving, now, lifetime)?,
            peer: keys.peer.issue(&Subject::Peer { cluster_id, node_id }, now)?,
            client: keys.cluster.issue_for(&client, now, lifetime)?,
        })
    }

    /// Keeps the serving certificate for the next start.
    pub fn save(&self, directory: &Path, whose: &Whose) -> anyhow::Result<()> {
        // Ended in between, the two do not fit together: the next start makes others.
        files::write_private(&directory.join("serving.key"), self.serving.key_pem.as_bytes())?;
        let certificate = self.serving.certificate_pem.as_bytes();
        files::write_private(&directory.join("serving.crt"), certificate)?;
        files::write_private(&directory.join("serving.names"), whose.wanted().as_bytes())?;
        Ok(())
    }
}

/// The serving certificate on disk, when it is for these names, in its time, of the authority that signs now, and its
/// key is beside it.
fn kept(directory: &Path, whose: &Whose, ring: &KeyRing) -> Option<Certified> {
    let read = |name: &str| files::read(&directory.join(name)).ok();
    let known = Certified { certificate_pem: read("serving.crt")?, key_pem: read("serving.key")? };
    let good = read("serving.names")? == whose.wanted()
        && !authority::wants_renewal(&known.certificate_pem, Timestamp::now())
        && signed_by(&known.certificate_pem, ring.keys().cluster.certificate_pem())
        && tls::server_config(&known).is_ok();
    good.then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_pki::ClusterKeys;
    use quorate_pki::authority::CERTIFICATE_SECONDS;

    #[test]
    fn a_serving_certificate_is_kept_as_long_as_it_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let keys = ClusterKeys::generate("c", Timestamp::now()).unwrap();
        let ring = KeyRing::new(keys);
        let mut whose = Whose {
            cluster_id: "c".to_owned(),
            node_id: 1,
            name: "m0".to_owned(),
            names: vec!["m0".to_owned()],
            addresses: vec!["127.0.0.1".parse().unwrap()],
        };
        let open = |whose: &Whose, ring: &KeyRing| {
            Leaves::open(path, whose, CERTIFICATE_SECONDS, ring).unwrap().serving.certificate_pem
        };
        let first = open(&whose, &ring);
        assert_eq!(open(&whose, &ring), first);
        whose.names.push("other".to_owned());
        let second = open(&whose, &ring);
        assert_ne!(second, first, "it has other names");
        let sign = ring.with_next(ring.successor("c", 2, Timestamp::now()).unwrap(), 2).unwrap();
        assert_eq!(open(&whose, &sign), second, "the same authority signs");
        let sign = sign.signing().unwrap();
        let third = open(&whose, &sign);
        assert_ne!(third, second, "another authority signs");
        // Ended between the two files.
        let other = Leaves::issue(&whose, CERTIFICATE_SECONDS, &sign).unwrap().serving;
        files::write_private(&path.join("serving.key"), other.key_pem.as_bytes()).unwrap();
        assert_ne!(open(&whose, &sign), third, "its key is not beside it");
    }
}
