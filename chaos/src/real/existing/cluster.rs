//! Faults of masters that somebody else started.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::future::join_all;
use serde_json::json;

use super::hands;
use super::{Act, Credentials, Existing, LOOK_EVERY};
use crate::limits::{FIT_MAX, FOLLOWED_MAX};
use crate::real::cluster::{Cluster, TRANSFER, is_ready};
use crate::real::members::{Asked, DEMOTE, PROMOTE, ask_any, insist};
use crate::real::workload::lock;
use crate::scenario::fault::{Effect, Need};

impl Existing {
    /// Asks those who run, the heir last, to make it the leader. Whoever is down or cut off is not made to lead.
    async fn hand_over(&mut self, heir: usize, now: &Effect) {
        let before = self.leader_beside(now).await;
        let body = json!({ "to": self.name(heir) });
        let asked = ask_any(self, now, (TRANSFER, body), heir).await;
        self.transfers += u64::from(before != Some(heir) && matches!(asked, Asked::Done));
    }

    /// Makes masters standbys and voters again, by the API: nothing is done on any machine.
    async fn change_votes(&mut self, from: &Effect, to: &Effect) {
        for master in to.demoted.difference(&from.demoted).copied() {
            let name = self.name(master).to_owned();
            // Noted first: whoever breaks this off takes it back.
            self.standbys.insert(master);
            match insist(self, DEMOTE, (master, to), "standby").await {
                Ok(()) => self.demotions += 1,
                Err(why) => tracing::warn!(name, why, "it was not demoted"),
            }
        }
        for master in from.demoted.difference(&to.demoted).copied() {
            if let Err(why) = insist(self, PROMOTE, (master, to), "follower").await {
                let name = self.name(master);
                tracing::warn!(name, why, "it was not promoted");
            }
        }
    }

    /// Whether a master votes that was a standby.
    async fn votes(&self, master: usize) -> bool {
        matches!(self.role_of(self.name(master)).await.as_deref(), Some("leader" | "follower"))
    }

    /// Who is still a standby by this run, with what to do about it; it is tried once more.
    pub(super) async fn standbys_left(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for master in std::mem::take(&mut self.standbys) {
            let promoted = match self.votes(master).await {
                true => Ok(()),
                false => insist(self, PROMOTE, (master, &Effect::default()), "follower").await,
            };
            if let Err(why) = promoted {
                let name = self.name(master);
                left.push(format!(
                    "{name} is still a standby ({why}): `quorate masters promote {name}`"
                ));
                self.standbys.insert(master);
            }
        }
        left
    }
}

impl Cluster for Existing {
    fn count(&self) -> usize {
        self.masters.len()
    }

    fn agents(&self) -> usize {
        0
    }

    fn name(&self, index: usize) -> &str {
        &self.masters[index].name
    }

    fn api(&self, master: usize) -> SocketAddr {
        self.masters[master].api
    }

    fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    fn lacks(&self) -> Vec<(Need, String)> {
        let elsewhere = "it cannot be done to a cluster that is already there".to_owned();
        let needs = [
            Need::Proxies,
            Need::Disks,
            Need::Processor,
            Need::Memory,
            Need::Shim,
            Need::Points,
            Need::Older,
        ];
        let mut lacks: Vec<_> = needs.map(|need| (need, elsewhere.clone())).into();
        if let Some(master) = self.masters.iter().find(|master| !master.can_cut) {
            let why = format!("cutting links needs nft and root at {}", master.name);
            lacks.push((Need::Links, why));
        } else {
            let places: BTreeSet<IpAddr> = self.masters.iter().filter_map(|m| m.peer).collect();
            if places.len() < self.masters.len() || places.iter().any(IpAddr::is_loopback) {
                let why = "links can be cut only between masters with addresses of their own";
                lacks.push((Need::Links, why.to_owned()));
            }
        }
        lacks
    }

    /// Nobody tells that a process far away ended: whoever does not serve after the faults is found then.
    fn all_live(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn ended(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn lasting(&mut self, at_most: Duration) {
        self.at_most = at_most;
    }

    /// Only when all others serve, and all machines are reached: what somebody else does to the cluster must not come
    /// on top of it, and where a keeper has taken everything back nobody could.
    async fn may_become(&mut self, now: &Effect, then: &Effect) -> Result<(), String> {
        if let Some((master, why)) = lock(&self.silent).first_key_value() {
            return Err(format!("the machine of {} is not reached: {why}", self.name(*master)));
        }
        for master in then.down.difference(&now.down) {
            let Some(found) = self.masters.get(*master) else { continue };
            if !found.can_restart {
                return Err(format!(
                    "{} could not be started again: its process belongs to another user and to no systemd unit",
                    found.name
                ));
            }
        }
        let begin = Instant::now();
        for (index, master) in self.masters.iter().enumerate() {
            let cut = now.cuts.iter().any(|(_, to)| *to == index);
            if now.down.contains(&index) || now.paused.contains(&index) || cut {
                continue;
            }
            while !is_ready(master.api, &self.credentials).await {
                if begin.elapsed() > FIT_MAX {
                    return Err(format!("{} is not ready, and not by a fault", master.name));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn change(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        if let Some((heir, _)) = to.leads.filter(|_| to.leads != from.leads) {
            self.hand_over(heir, to).await;
        }
        self.change_votes(from, to).await;
        let wanted: Vec<Vec<hands::Act>> =
            (0..self.masters.len()).map(|master| self.acts_of(master, from, to)).collect();
        let at_most = self.at_most;
        let mut guards = self.guards;
        let acting = self.masters.iter().zip(&wanted).map(|(master, acts)| {
            let scripts: Vec<String> = acts
                .iter()
                .map(|act| {
                    guards += 1;
                    master.hands.act(act, (guards, at_most))
                })
                .collect();
            async move {
                let mut told = Vec::new();
                for script in scripts {
                    told.push(master.reach.run(&script).await?);
                }
                anyhow::Ok(told)
            }
        });
        let acting: Vec<_> = acting.collect();
        let done = join_all(acting).await;
        self.guards = guards;
        for (master, (acts, told)) in wanted.iter().zip(done).enumerate() {
            let told = told.with_context(|| format!("a fault of {}", self.masters[master].name))?;
            for (act, told) in acts.iter().zip(told) {
                match act {
                    hands::Act::Down { asked } => {
                        let id = told.split(' ').next().and_then(|id| id.parse().ok());
                        self.ended.insert(master, id.unwrap_or(0));
                        self.note(master, if *asked { Act::Stopped } else { Act::Killed });
                    }
                    hands::Act::Up => {
                        self.ended.remove(&master);
                        self.note(master, Act::Started);
                    }
                    hands::Act::Hold => self.note(master, Act::Paused),
                    hands::Act::Wake => self.note(master, Act::Resumed),
                    hands::Act::CutFrom(_) => {}
                }
            }
        }
        Ok(())
    }

    async fn shows(&mut self, effect: &Effect) -> anyhow::Result<String> {
        let wanted: Vec<BTreeSet<String>> = (0..self.masters.len())
            .map(|master| self.deaf_to(master, effect).iter().map(ToString::to_string).collect())
            .collect();
        self.until(|seen| {
            let mut shown = Vec::new();
            for (index, lines) in seen.iter().enumerate() {
                self.look_at(index, (lines, effect, &wanted[index]), &mut shown)?;
            }
            let standbys = effect.demoted.intersection(&self.standbys);
            shown.extend(standbys.map(|one| format!("{} was made a standby", self.name(*one))));
            Ok(shown.join("; "))
        })
        .await
    }

    fn met(&self, effect: &Effect) -> Option<u64> {
        let demoted = (!effect.demoted.is_empty()).then_some(self.demotions);
        effect.leads.map(|_| self.transfers).or(demoted)
    }

    async fn decided(&mut self, _: &Effect) {}

    fn told_after(&self, _: &Effect) -> Vec<String> {
        Vec::new()
    }

    /// Who was a standby must vote again.
    async fn follows(&mut self, done: &Effect, _: &Effect) -> Result<Vec<String>, String> {
        let (begin, mut seen) = (Instant::now(), Vec::new());
        for master in done.demoted.iter().copied().filter(|one| *one < self.masters.len()) {
            let name = self.name(master).to_owned();
            while !self.votes(master).await {
                if begin.elapsed() > FOLLOWED_MAX {
                    return Err(format!("{name} does not vote {FOLLOWED_MAX:?} after the fault"));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.standbys.remove(&master);
            seen.push(format!("{name} votes again"));
        }
        Ok(seen)
    }

    async fn restore(&mut self) -> anyhow::Result<()> {
        let undoing = self.masters.iter().map(|master| {
            let script = master.hands.undo();
            async move { master.reach.run(&script).await }
        });
        let done: anyhow::Result<Vec<_>> = join_all(undoing).await.into_iter().collect();
        done?;
        self.shows(&Effect::default()).await?;
        let left = self.standbys_left().await;
        anyhow::ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    }

    async fn nothing_left(&mut self) -> anyhow::Result<()> {
        self.shows(&Effect::default()).await.context("after the end of all faults").map(drop)
    }

    fn acts(&self) -> Vec<(Instant, usize, Act)> {
        lock(&self.acts).clone()
    }
}

impl Existing {
    /// What is to be done to one master.
    pub(super) fn acts_of(&self, master: usize, from: &Effect, to: &Effect) -> Vec<hands::Act> {
        let mut acts = Vec::new();
        let (was_down, is_down) = (from.down.contains(&master), to.down.contains(&master));
        let (hung, hangs) = (from.paused.contains(&master), to.paused.contains(&master));
        // Who is to end is awake then.
        if hung && (!hangs || (is_down && !was_down)) {
            acts.push(hands::Act::Wake);
        }
        match (was_down, is_down) {
            (false, true) => {
                acts.push(hands::Act::Down { asked: to.asked.contains(&master) });
            }
            (true, false) => acts.push(hands::Act::Up),
            _ => {}
        }
        if hangs && !is_down && (!hung || was_down) {
            acts.push(hands::Act::Hold);
        }
        let cut = self.deaf_to(master, to);
        if cut != self.deaf_to(master, from) {
            acts.push(hands::Act::CutFrom(cut));
        }
        acts
    }

    /// Addresses from which nothing comes in.
    fn deaf_to(&self, master: usize, effect: &Effect) -> BTreeSet<IpAddr> {
        let from = effect.cuts.iter().filter(|(_, to)| *to == master);
        from.filter_map(|(from, _)| self.masters.get(*from)?.peer).collect()
    }

    fn look_at(
        &self,
        index: usize,
        (lines, effect, wanted): (&[String], &Effect, &BTreeSet<String>),
        shown: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let name = &self.masters[index].name;
        let word = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let (down, paused) = (effect.down.contains(&index), effect.paused.contains(&index));
        if down {
            if let Some(lives) = word("lives ") {
                bail!("process {lives} of {name} is still there");
            }
            let process = self.ended.get(&index).copied().unwrap_or(0);
            shown.push(format!("process {process} of {name} is gone"));
        }
        let held = word("held ").and_then(|held| held.split_once(' '));
        match (paused && !down, held) {
            (true, Some((process, "T" | "t"))) => {
                shown.push(format!("process {process} of {name} is stopped"));
            }
            (true, other) => bail!("{name} is not stopped: {other:?}"),
            (false, _) => {
                if word("runs ").is_some_and(|runs| runs.ends_with(" T")) {
                    bail!("{name} is stopped");
                }
            }
        }
        let drops: BTreeSet<String> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("drops "))
            .map(str::to_owned)
            .collect();
        if drops != *wanted {
            bail!("{name} drops from {drops:?}, not {wanted:?}");
        }
        if !drops.is_empty() {
            let from: Vec<&str> = drops.iter().map(String::as_str).collect();
            shown.push(format!("{name} drops from {}", from.join(", ")));
        }
        Ok(())
    }
}
