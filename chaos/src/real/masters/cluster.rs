//! The harness's own masters as a [`Cluster`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Act, Masters};
use crate::check::disaster::Disaster;
use crate::limits::DECIDED_MAX;
use crate::real::cluster::{Cluster, is_ready};
use crate::real::kubeconfig::Credentials;
use crate::real::network::Network;
use crate::real::workload::Shared;
use crate::scenario::Fault;
use crate::scenario::fault::{Effect, Need};

impl Cluster for Masters {
    fn count(&self) -> usize {
        self.count
    }

    fn agents(&self) -> usize {
        self.masters.len() - self.count
    }

    fn name(&self, index: usize) -> &str {
        &self.masters[index].name
    }

    fn api(&self, master: usize) -> SocketAddr {
        self.masters[master].clients
    }

    fn credentials(&self) -> &Arc<Credentials> {
        &self.tls
    }

    fn lacks(&self) -> Vec<(Need, String)> {
        crate::real::lacks(&self.binary, self.older.as_deref())
    }

    fn all_live(&mut self) -> anyhow::Result<()> {
        Masters::all_live(self)
    }

    fn ended(&mut self) -> anyhow::Result<Vec<String>> {
        Masters::ended(self)
    }

    /// They end with this process: nothing need be taken back elsewhere.
    fn lasting(&mut self, _: Duration) {}

    /// Anything may be done to them.
    async fn may_become(&mut self, _: &Effect, _: &Effect) -> Result<(), String> {
        Ok(())
    }

    async fn change(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        Masters::change(self, from, to).await
    }

    async fn shows(&mut self, effect: &Effect) -> anyhow::Result<String> {
        Masters::shows(self, effect).await
    }

    fn met(&self, effect: &Effect) -> Option<u64> {
        Masters::met(self, effect)
    }

    async fn decided(&mut self, effect: &Effect) {
        let begin = Instant::now();
        for master in effect.damaged.keys().chain(effect.certificates.keys()) {
            let lives = || self.state(*master).is_some() && begin.elapsed() < DECIDED_MAX;
            while lives() && !is_ready(self.masters[*master].api, &self.tls).await {
                tokio::time::sleep(crate::real::POLL).await;
            }
        }
    }

    fn told_after(&self, effect: &Effect) -> Vec<String> {
        Masters::told_after(self, effect)
    }

    async fn come_about(&mut self, effect: &Effect) -> Result<String, String> {
        self.has_come_about(effect).await
    }

    async fn follows(&mut self, done: &Effect, now: &Effect) -> Result<Vec<String>, String> {
        self.has_followed(done, now).await
    }

    fn may_answer(&self, master: usize, now: &Effect) -> bool {
        self.state(master).is_some() && !now.paused.contains(&master)
    }

    async fn end_in_disaster(
        &mut self,
        shared: &Shared,
        fault: Fault,
        seed: u64,
    ) -> anyhow::Result<Option<Disaster>> {
        Masters::end_in_disaster(self, shared, fault, seed).await
    }

    async fn restore(&mut self) -> anyhow::Result<()> {
        self.let_in_emptied(&Effect::default()).await?;
        Masters::restore(self)
    }

    async fn nothing_left(&mut self) -> anyhow::Result<()> {
        match self.network().map_or(Ok(0), Network::cuts)? {
            0 => Ok(()),
            cuts => bail!("{cuts} links are still cut after the end of all faults"),
        }
    }

    fn acts(&self) -> Vec<(Instant, usize, Act)> {
        Masters::acts(self)
    }
}
