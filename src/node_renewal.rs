//! A node's certificate, made anew by the masters over the connection that the agent has, and kept for the next start.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use jiff::Timestamp;
use quorate_node_agent::{Renewal, Tls};
use quorate_pki::{authority, files};
use quorate_proto::join::RenewNodeRequest;
use quorate_proto::join::join_client::JoinClient;
use tonic::transport::Channel;

use crate::config::Options;
use crate::join::{self, NodeCredentials};

/// Files of a node's `pki` directory.
pub const CA: &str = "node-ca.crt";
/// The certificate, and since it was first renewed its key behind it: both change in one step.
pub const CERTIFICATE: &str = "node.crt";
/// The key of the certificate that the node joined with.
pub const KEY: &str = "node.key";
/// Under which mark the certificate was made.
const MARK: &str = "node.mark";

/// The beginning of a private key in a PEM text.
const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

/// For so long, or a tenth of the lifetime if that is more, a certificate that was just made is not made anew for its
/// time's sake: when this machine's clock and the master's do not agree, the next one would seem as old. Never longer
/// than half the lifetime: a short one has to be made anew in time.
const REST_MIN: Duration = Duration::from_secs(60);

/// See the module.
pub struct NodeRenewal {
    name: String,
    /// Where it is kept; `None`: the next start gets another one anyway.
    directory: Option<PathBuf>,
    now: Mutex<Held>,
    /// How it joined, and where the masters are, to join again.
    joined: Option<(Options, Vec<String>)>,
}

struct Held {
    certificate_pem: String,
    mark: u64,
    /// When it was made here, by a clock that nobody sets.
    renewed: Option<Instant>,
}

impl Held {
    fn is_due(&self, mark: u64, now: Timestamp, at: Instant) -> bool {
        let rests =
            |since: Instant| at.saturating_duration_since(since) < rest(&self.certificate_pem);
        mark > self.mark
            || (!self.renewed.is_some_and(rests)
                && authority::is_near_end(&self.certificate_pem, now))
    }
}

fn rest(certificate_pem: &str) -> Duration {
    let lifetime = authority::lifetime(certificate_pem).unwrap_or_default();
    let lifetime = Duration::from_secs(u64::try_from(lifetime).unwrap_or_default());
    (lifetime / 10).max(REST_MIN).min(lifetime / 2)
}

impl NodeRenewal {
    /// Of a node that has these now.
    pub fn new(name: &str, directory: Option<PathBuf>, now: &NodeCredentials) -> Self {
        let certificate_pem = now.certificate_pem.clone();
        let held = Held { certificate_pem, mark: now.mark, renewed: None };
        Self { name: name.to_owned(), directory, now: Mutex::new(held), joined: None }
    }

    /// When its certificate has ended it joins again with the token that these options then name, at these masters.
    pub fn joining_again(self, options: &Options, masters: &[String]) -> Self {
        Self { joined: Some((options.clone(), masters.to_vec())), ..self }
    }

    /// As at a start after the end of the certificate.
    async fn joined_again(&self) -> anyhow::Result<Tls> {
        let name = &self.name;
        let (options, masters) = self.joined.as_ref().with_context(|| {
            format!("the certificate of node {name:?} has expired: start it again")
        })?;
        let token = options.join_token()?.with_context(|| {
            format!(
                "the certificate of node {name:?} has expired: start once with --server and --token"
            )
        })?;
        let mut told = |why: &str| tracing::info!(why, "joining again");
        let joined = join::join_node(masters, &token, name, &mut told).await;
        self.take(joined.with_context(|| {
            format!("the certificate of node {name:?} has expired, and it cannot join again")
        })?)
    }

    /// Keeps and uses a new one.
    fn take(&self, credentials: NodeCredentials) -> anyhow::Result<Tls> {
        anyhow::ensure!(
            authority::ends_at(&credentials.certificate_pem).is_some(),
            "the master's answer holds no certificate"
        );
        if let Some(directory) = &self.directory {
            keep(directory, &credentials).context("the new certificate cannot be kept")?;
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.certificate_pem.clone_from(&credentials.certificate_pem);
        now.mark = credentials.mark;
        now.renewed = Some(Instant::now());
        let NodeCredentials { ca_pem, certificate_pem, key_pem, .. } = credentials;
        Ok(Tls { ca_pem, certificate_pem, key_pem })
    }

    async fn renewed(&self, master: Channel) -> anyhow::Result<Tls> {
        let (key_pem, csr_pem) = authority::request(&format!("system:node:{}", self.name))?;
        let reply = JoinClient::new(master).renew_node(RenewNodeRequest { csr_pem }).await;
        let reply = reply.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
        let credentials = NodeCredentials {
            ca_pem: reply.cluster_ca_pem,
            certificate_pem: reply.certificate_pem,
            key_pem,
            masters: reply.masters,
            mark: reply.credentials_mark,
        };
        self.take(credentials)
    }
}

#[async_trait]
impl Renewal for NodeRenewal {
    fn is_due(&self, mark: u64) -> bool {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.is_due(mark, Timestamp::now(), Instant::now())
    }

    async fn renew(&self, master: Channel) -> Result<Tls, String> {
        self.renewed(master).await.map_err(|error| format!("{error:#}"))
    }

    async fn again(&self) -> Option<Result<Tls, String>> {
        let ended = {
            let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            authority::has_ended(&now.certificate_pem, Timestamp::now())
        };
        match ended {
            true => Some(self.joined_again().await.map_err(|error| format!("{error:#}"))),
            false => None,
        }
    }
}

/// Replaces what the next start reads. Ended at any point, that start finds a certificate with its own key.
fn keep(directory: &std::path::Path, new: &NodeCredentials) -> anyhow::Result<()> {
    let write =
        |name: &str, text: &str| files::write_private(&directory.join(name), text.as_bytes());
    // The authorities first: in between they are more than are needed, or those that the next renewal corrects.
    write(CA, &new.ca_pem)?;
    write(CERTIFICATE, &format!("{}{}", new.certificate_pem, new.key_pem))?;
    write(KEY, &new.key_pem)?;
    write(MARK, &format!("{}\n", new.mark))?;
    Ok(())
}

/// Reads what was kept, at a join or since.
pub fn read(directory: &std::path::Path) -> anyhow::Result<NodeCredentials> {
    let read = |name: &str| files::read(&directory.join(name));
    let text = read(CERTIFICATE)?;
    let (certificate_pem, key_pem) = match text.find(KEY_BEGINS) {
        Some(at) => (text[..at].to_owned(), text[at..].to_owned()),
        None => (text, read(KEY)?),
    };
    let mark = read(MARK).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    Ok(NodeCredentials { ca_pem: read(CA)?, certificate_pem, key_pem, masters: Vec::new(), mark })
}

/// Keeps what a join gave.
pub fn keep_joined(directory: &std::path::Path, joined: &NodeCredentials) -> anyhow::Result<()> {
    let write =
        |name: &str, text: &str| files::write_private(&directory.join(name), text.as_bytes());
    write(CA, &joined.ca_pem)?;
    write(KEY, &joined.key_pem)?;
    write(MARK, &format!("{}\n", joined.mark))?;
    // Last: a directory with the certificate is complete.
    write(CERTIFICATE, &joined.certificate_pem)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_pki::{Authority, Subject};

    #[test]
    fn a_renewed_certificate_is_found_with_its_key_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let now = Timestamp::now();
        let ca = Authority::generate("c", now).unwrap();
        let credentials = |mark| {
            let subject =
                Subject::Client { name: "system:node:n".to_owned(), group: String::new() };
            let issued = ca.issue(&subject, now).unwrap();
            NodeCredentials {
                ca_pem: ca.certificate_pem().to_owned(),
                certificate_pem: issued.certificate_pem,
                key_pem: issued.key_pem,
                masters: Vec::new(),
                mark,
            }
        };
        let (first, second) = (credentials(0), credentials(9));
        keep_joined(path, &first).unwrap();
        let read_one = read(path).unwrap();
        assert_eq!((&read_one.key_pem, read_one.mark), (&first.key_pem, 0));
        keep(path, &second).unwrap();
        // Ended before the old key was replaced.
        files::write_private(&path.join(KEY), first.key_pem.as_bytes()).unwrap();
        let found = read(path).unwrap();
        assert_eq!(found.certificate_pem, second.certificate_pem);
        assert_eq!((found.key_pem, found.mark), (second.key_pem.clone(), 9));
        let renewal = NodeRenewal::new("n", None, &second);
        assert!(!renewal.is_due(9) && renewal.is_due(10));
    }

    #[tokio::test]
    async fn who_has_outlived_its_certificate_says_what_to_do() {
        let now = Timestamp::now();
        let ca = Authority::generate("c", now).unwrap();
        let subject = Subject::Client { name: "system:node:n".to_owned(), group: String::new() };
        let of = |made: Timestamp| {
            let issued = ca.issue_for(&subject, made, 60).unwrap();
            NodeCredentials {
                ca_pem: ca.certificate_pem().to_owned(),
                certificate_pem: issued.certificate_pem,
                key_pem: issued.key_pem,
                masters: Vec::new(),
                mark: 0,
            }
        };
        let good = NodeRenewal::new("n", None, &of(now));
        assert!(good.again().await.is_none());
        let ended = of(now - jiff::SignedDuration::from_secs(120));
        let again =
            |renewal: NodeRenewal| async move { renewal.again().await.unwrap().err().unwrap() };
        let said = again(NodeRenewal::new("n", None, &ended)).await;
        assert_eq!(said, "the certificate of node \"n\" has expired: start it again");
        let without = NodeRenewal::new("n", None, &ended);
        let said = again(without.joining_again(&Options::default(), &[])).await;
        assert!(said.ends_with("has expired: start once with --server and --token"), "{said}");
    }

    #[test]
    fn clocks_that_do_not_agree_do_not_make_it_renew_for_ever() {
        let now = Timestamp::now();
        let ca = Authority::generate("c", now).unwrap();
        let subject = Subject::Client { name: "system:node:n".to_owned(), group: String::new() };
        let certificate_pem = ca.issue_for(&subject, now, 6_000).unwrap().certificate_pem;
        let at = Instant::now();
        let after = |seconds| at + Duration::from_secs(seconds);
        let later = |seconds| now + jiff::SignedDuration::from_secs(seconds);
        let joined = Held { certificate_pem: certificate_pem.clone(), mark: 4, renewed: None };
        assert!(!joined.is_due(4, later(-3_600), at), "this clock is behind");
        assert!(joined.is_due(4, later(5_000), at), "its time is nearly over");
        // This clock is ahead: each new one seems as old.
        let renewed = Held { certificate_pem, mark: 4, renewed: Some(at) };
        assert!(!renewed.is_due(4, later(5_000), after(599)));
        assert!(renewed.is_due(4, later(5_000), after(601)));
        assert!(renewed.is_due(5, later(0), at), "the masters ask for another");
    }
}
