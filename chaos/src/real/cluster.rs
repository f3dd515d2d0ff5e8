//! What a run needs of a cluster, whoever started its masters: the harness ([`Masters`](super::masters::Masters)), or
//! somebody before it ([`Existing`](super::existing::Existing)).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use hyper::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::client::Connection;
use super::kubeconfig::Credentials;
use super::masters::Act;
use super::workload::Shared;
use crate::check::disaster::Disaster;
use crate::limits::LEADER_MAX;
use crate::scenario::Fault;
use crate::scenario::fault::{Effect, Need};

/// As `quorate masters transfer-leader` does it.
pub(crate) const TRANSFER: &str = "/quorate/v1/masters/transfer-leader";

/// Masters that can be asked, and harmed.
pub(crate) trait Cluster {
    /// How many masters there are.
    fn count(&self) -> usize;

    /// How many node agents run beside them, behind them in numbering.
    fn agents(&self) -> usize;

    /// The name of a master or agent.
    fn name(&self, index: usize) -> &str;

    /// Where a master's API is.
    fn api(&self, master: usize) -> SocketAddr;

    /// As whom to come.
    fn credentials(&self) -> &Arc<Credentials>;

    /// What cannot be done here, and why.
    fn lacks(&self) -> Vec<(Need, String)>;

    /// Whoever ended without being killed is an error: the run has found something.
    fn all_live(&mut self) -> anyhow::Result<()>;

    /// Masters whose process ended by itself, with how: each is told once.
    fn ended(&mut self) -> anyhow::Result<Vec<String>>;

    /// The next change is for so long at most.
    fn lasting(&mut self, at_most: Duration);

    /// Whether what is wrong may become this now; if not, why.
    async fn may_become(&mut self, now: &Effect, then: &Effect) -> Result<(), String>;

    /// Makes `to` true, where `from` was.
    async fn change(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()>;

    /// Waits until it shows that exactly `effect` is wrong; what it showed.
    async fn shows(&mut self, effect: &Effect) -> anyhow::Result<String>;

    /// How often what is wrong by `effect` made somebody wait, so far; `None` when that is not counted.
    fn met(&self, effect: &Effect) -> Option<u64>;

    /// Waits until who was started on damaged files has refused to go on, or serves: a slow machine takes longer than a
    /// short fault.
    async fn decided(&mut self, effect: &Effect);

    /// What can be told of a fault only at its end.
    fn told_after(&self, effect: &Effect) -> Vec<String>;

    /// Whether what a fault waits for that does this has come about, and what shows it; if not, what lacks.
    async fn come_about(&mut self, _: &Effect) -> Result<String, String> {
        Err("nobody can tell here".to_owned())
    }

    /// After a fault that did this was taken back, and `now` is wrong: what was seen of what had to follow from it, or
    /// what did not follow.
    async fn follows(&mut self, _: &Effect, _now: &Effect) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// Carries out what ends the run, when clients and watchers have ended; `None` when it cannot be done.
    async fn end_in_disaster(
        &mut self,
        _: &Shared,
        _: Fault,
        _seed: u64,
    ) -> anyhow::Result<Option<Disaster>> {
        Ok(None)
    }

    /// Whether it makes sense to ask a master something.
    fn may_answer(&self, master: usize, now: &Effect) -> bool {
        !now.down.contains(&master) && !now.paused.contains(&master)
    }

    /// Takes back every fault, whatever it was.
    async fn restore(&mut self) -> anyhow::Result<()>;

    /// Whether anything is still wrong that the run did.
    async fn nothing_left(&mut self) -> anyhow::Result<()>;

    /// What was done to processes so far, and when.
    fn acts(&self) -> Vec<(Instant, usize, Act)>;

    /// What a master says of the cluster (`quorate status -o json`).
    async fn status(&self, master: usize) -> anyhow::Result<Value> {
        let mut connection = Connection::open(self.api(master), self.credentials()).await?;
        match connection.call(Method::GET, "/quorate/v1/status", None).await {
            Ok(answer) if answer.code == 200 => Ok(answer.body),
            other => bail!("status of {}: {other:?}", self.name(master)),
        }
    }

    /// What a member is, as the first says who answers: `leader`, `follower`, `learner`; `None` when it is no member,
    /// or nobody answers.
    async fn role_of(&self, name: &str) -> Option<String> {
        for master in 0..self.count() {
            let Ok(Ok(status)) = timeout(LEADER_MAX, self.status(master)).await else { continue };
            let members = status["masters"].as_array()?;
            let found = members.iter().find(|member| member["name"] == name)?;
            return found["role"].as_str().map(str::to_owned);
        }
        None
    }

    /// Who leads, as those say who are not disturbed; as anybody says when none of them does.
    async fn leader_beside(&self, effect: &Effect) -> Option<usize> {
        let answering =
            |master: &usize| !effect.down.contains(master) && !effect.paused.contains(master);
        let links = effect.cuts.iter().chain(effect.toxics.keys()).flat_map(|(a, b)| [*a, *b]);
        let disturbed: BTreeSet<usize> = links.chain(effect.unreached.iter().copied()).collect();
        let (last, first): (Vec<usize>, Vec<usize>) =
            (0..self.count()).filter(answering).partition(|master| disturbed.contains(master));
        for master in first.into_iter().chain(last) {
            let Ok(Ok(status)) = timeout(LEADER_MAX, self.status(master)).await else { continue };
            let members = status["masters"].as_array()?;
            let leader = members.iter().find(|member| member["role"] == "leader");
            let name = leader.and_then(|leader| leader["name"].as_str());
            let found = (0..self.count()).find(|master| Some(self.name(*master)) == name);
            // One that is known to be dead does not lead any more, whoever says so.
            if let Some(found) = found.filter(|found| !effect.down.contains(found)) {
                return Some(found);
            }
        }
        None
    }
}

/// Whether a master answers `/readyz`.
pub(crate) async fn is_ready(api: SocketAddr, user: &Arc<Credentials>) -> bool {
    let Ok(mut connection) = Connection::open(api, user).await else { return false };
    connection.call(Method::GET, "/readyz", None).await.is_ok_and(|answer| answer.code == 200)
}
