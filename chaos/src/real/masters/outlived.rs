//! Certificates that live for seconds: who is away until its own has ended, and how often the others have made theirs
//! anew meanwhile. Clients must believe all who were there all the time, and those who come back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Context;
use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use quorate_pki::authority::{der_of_pem, ends_at, has_ended};
use tokio::time::timeout;

use super::Masters;
use crate::limits::{CONNECT_MAX, OUTLIVED, RENEWALS_MIN};
use crate::real::certificates::served;
use crate::real::client::Connection;
use crate::real::cluster::Cluster as _;
use crate::scenario::fault::Effect;

/// As `quorate certs list` asks for it.
const CERTS: &str = "/quorate/v1/certs";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outlived {
    /// What those had who are away: text and bytes.
    had: BTreeMap<usize, (String, Vec<u8>)>,
    /// What others had last, and how many they have made since.
    made: BTreeMap<usize, (Vec<u8>, usize)>,
    /// How much distrust there was before.
    distrust: usize,
}

impl Outlived {
    /// Whether nobody is away for it.
    pub(super) fn is_over(&self) -> bool {
        self.had.is_empty()
    }

    pub(super) fn forget(&mut self, back: &BTreeSet<usize>) {
        self.had.retain(|master, _| !back.contains(master));
    }

    fn saw(&mut self, master: usize, der: Vec<u8>) {
        match self.made.get_mut(&master) {
            Some((last, count)) if *last != der => {
                *count += 1;
                *last = der;
            }
            Some(_) => {}
            None => drop(self.made.insert(master, (der, 0))),
        }
    }

    /// Who has not made enough since, of all that were seen.
    fn slowest(&self) -> Option<(usize, usize)> {
        let counts = self.made.iter().map(|(master, (_, count))| (*master, *count));
        counts.min_by_key(|(_, count)| *count).filter(|(_, count)| *count < RENEWALS_MIN)
    }
}

impl Masters {
    /// What those have who are away from now on.
    pub(super) async fn note_certificates(
        &mut self,
        from: &Effect,
        to: &Effect,
    ) -> anyhow::Result<()> {
        if from.outlived.is_empty() && !to.outlived.is_empty() {
            let distrust = self.tls.distrust().len();
            self.nuisances.trust.outlived = Outlived { distrust, ..Outlived::default() };
        }
        for one in to.outlived.difference(&from.outlived).copied() {
            let pem = self.certificate_file(one)?;
            let der = der_of_pem(&pem)?;
            if one < self.count && self.state(one).is_some() {
                let shown = timeout(CONNECT_MAX, served(self.api(one), &self.tls)).await;
                let shown = shown.context("no answer")?.context("before it is away")?;
                anyhow::ensure!(shown == der, "{} shows another than it has", self.name(one));
            }
            self.nuisances.trust.outlived.had.insert(one, (pem, der));
        }
        Ok(())
    }

    /// What a master or an agent has on its disk.
    fn certificate_file(&self, one: usize) -> anyhow::Result<String> {
        let name = if one < self.count { "serving.crt" } else { "node.crt" };
        let file = self.masters[one].data.join("pki").join(name);
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Whether the certificates of those who are away have ended, and all others have made some since; what of that
    /// lacks. Each is asked over a new connection.
    pub(super) async fn certificates_have_ended(
        &mut self,
        effect: &Effect,
    ) -> Result<String, String> {
        let there = |one: &usize| {
            let runs = self.state(*one).is_some_and(|state| state != 'T');
            runs && !effect.outlived.contains(one) && !self.unjoined.contains(one)
        };
        for one in (0..self.masters.len()).filter(there).collect::<Vec<usize>>() {
            let der = if one < self.count {
                let shown = timeout(CONNECT_MAX, served(self.api(one), &self.tls)).await;
                shown.ok().and_then(Result::ok)
            } else {
                self.certificate_file(one).ok().and_then(|pem| der_of_pem(&pem).ok())
            };
            if let Some(der) = der {
                self.nuisances.trust.outlived.saw(one, der);
            }
        }
        let outlived = &self.nuisances.trust.outlived;
        let (now, mut words) = (Timestamp::now(), Vec::new());
        let long_ago = now - SignedDuration::try_from(OUTLIVED).unwrap_or_default();
        for one in &effect.outlived {
            let name = self.name(*one);
            let (pem, _) =
                outlived.had.get(one).ok_or_else(|| format!("what {name} had is not known"))?;
            let ended = now.as_second() - ends_at(pem).unwrap_or_default();
            if !has_ended(pem, long_ago) {
                return Err(format!("the certificate of {name} has not ended: {ended} s"));
            }
            words.push(format!("the certificate of {name} has ended {ended} s ago"));
        }
        if let Some((slow, count)) = outlived.slowest() {
            return Err(format!("{} has made {count} certificates since", self.name(slow)));
        }
        let made = outlived.made.iter().map(|(one, (_, count))| (self.name(*one), count));
        let made: Vec<String> = made.map(|(name, count)| format!("{name} {count}")).collect();
        Ok(format!("{}; made since then: {}", words.join("; "), made.join(", ")))
    }

    /// Whether nobody was refused, and nobody refused a master, but those who were away.
    pub(super) fn all_are_believed(&self) -> Result<(), String> {
        self.nobody_was_refused(self.nuisances.trust.outlived.distrust)
    }

    /// Whether who was away is there again with another certificate: believed, and a voter; or a node that is connected
    /// with it.
    pub(super) async fn has_another_certificate(&self, one: usize) -> Result<String, String> {
        let known = self.nuisances.trust.outlived.had.get(&one);
        let (pem, der) = known.ok_or_else(|| "what it had is not known".to_owned())?;
        let name = self.name(one);
        if one >= self.count {
            return self.is_connected(name, ends_at(pem).unwrap_or_default()).await;
        }
        let shown = timeout(CONNECT_MAX, served(self.api(one), &self.tls)).await;
        let shown = shown.map_err(|_| "it shows no certificate".to_owned())?;
        let shown = shown.map_err(|error| format!("it is not believed: {error:#}"))?;
        match self.role_of(name).await.as_deref() {
            _ if shown == *der => Err("it shows the one that has ended".to_owned()),
            Some("leader" | "follower") => Ok("it shows another one, and votes".to_owned()),
            role => Err(format!("it is {role:?}")),
        }
    }

    /// Whether a node is connected to some master, with a certificate that ends later than that.
    async fn is_connected(&self, name: &str, later_than: i64) -> Result<String, String> {
        let mut said = format!("{name} is connected to nobody");
        for master in (0..self.count).filter(|master| self.state(*master).is_some()) {
            let Ok(mut connection) = Connection::open(self.api(master), &self.tls).await else {
                continue;
            };
            let Ok(answer) = connection.call(Method::GET, CERTS, None).await else { continue };
            let nodes = answer.body["nodes"].as_array().cloned().unwrap_or_default();
            let Some(node) = nodes.iter().find(|node| node["name"] == name) else { continue };
            let ends = node["expires"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            if ends.is_some_and(|ends| ends.as_second() > later_than) {
                return Ok(format!("it is connected to {}, with another one", self.name(master)));
            }
            said = format!("it is connected with one that ends at {}", node["expires"]);
        }
        Err(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_are_there_must_have_made_enough() {
        let mut outlived = Outlived::default();
        for (master, certificate) in [(0, 1), (1, 1), (0, 1), (0, 2), (1, 2), (0, 3)] {
            outlived.saw(master, vec![certificate]);
        }
        assert_eq!(outlived.slowest(), Some((1, 1)));
        outlived.saw(1, vec![3]);
        assert_eq!(outlived.slowest(), None);
    }
}
