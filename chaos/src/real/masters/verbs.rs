//! What operators do to masters with `quorate masters`: leadership handed over, a master taken out and joined anew, or
//! made a standby and a voter again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Act, Broke, Masters, token};
use crate::limits::{LEADER_MAX, REFUSED_MAX, REMOVAL_MAX, REMOVED_MAX};
use crate::real::cluster::{Cluster as _, TRANSFER};
use crate::real::members::{Asked, DEMOTE, PAUSE, PROMOTE, ask_any, insist};
use crate::scenario::fault::Effect;

/// As `quorate masters remove` does it.
const REMOVE: &str = "/quorate/v1/masters/remove";

/// What was done with verbs, and came of it.
#[derive(Debug, Default)]
pub(super) struct Verbs {
    /// How often leadership was handed over.
    pub(super) transfers: u64,
    /// Who was taken out, with the number that it had, and what was seen of it.
    pub(super) removed: BTreeMap<usize, (u64, String)>,
    /// Who was made a standby, and what was seen of it.
    pub(super) demoted: BTreeMap<usize, String>,
    /// Whose directory is empty since then: it must be let in before it is started.
    pub(super) emptied: BTreeSet<usize>,
}

impl Masters {
    /// Hands leadership over, and takes masters out.
    pub(super) async fn change_members(
        &mut self,
        from: &Effect,
        to: &Effect,
    ) -> anyhow::Result<()> {
        if let Some((heir, _)) = to.leads.filter(|_| to.leads != from.leads) {
            let name = self.name(heir).to_owned();
            let before = self.leader_beside(to).await;
            let asked = ask_any(self, to, (TRANSFER, json!({ "to": name })), heir).await;
            // It may be down, or cut off: then nobody is made to follow it, which is as it should be.
            let is_new = before != Some(heir) && matches!(asked, Asked::Done);
            self.nuisances.verbs.transfers += u64::from(is_new);
        }
        for master in to.replaced.difference(&from.replaced).copied().collect::<Vec<_>>() {
            self.take_out(master, from, to).await?;
        }
        for master in to.demoted.difference(&from.demoted).copied().collect::<Vec<_>>() {
            self.demote(master, to).await;
        }
        for master in from.demoted.difference(&to.demoted).copied().collect::<Vec<_>>() {
            self.promote(master, to).await;
        }
        Ok(())
    }

    /// A master is made a standby, if the others can do without its vote: [`Masters::shows`] tells.
    async fn demote(&mut self, master: usize, to: &Effect) {
        let name = self.name(master).to_owned();
        // An older program does not know what that is, and nobody is demoted as long as one is there.
        if self.masters[..self.count].iter().any(|master| master.is_older) {
            return;
        }
        match insist(self, DEMOTE, (master, to), "standby").await {
            Ok(()) => {
                self.nuisances.verbs.demoted.insert(master, format!("{name} is a standby"));
            }
            Err(why) => tracing::warn!(name, why, "it was not demoted"),
        }
    }

    /// And a voter again: whether it came to that [`Masters::votes_again`] tells.
    async fn promote(&mut self, master: usize, to: &Effect) {
        let name = self.name(master).to_owned();
        if self.nuisances.verbs.demoted.contains_key(&master)
            && let Err(why) = insist(self, PROMOTE, (master, to), "follower").await
        {
            tracing::warn!(name, why, "it was not promoted");
        }
    }

    /// Whether who was a standby votes again.
    pub(super) async fn votes_again(&self, master: usize) -> Result<String, String> {
        if !self.nuisances.verbs.demoted.contains_key(&master) {
            return Ok("it was not demoted".to_owned());
        }
        match self.role_of(self.name(master)).await.as_deref() {
            Some("leader" | "follower") => Ok("it votes again".to_owned()),
            role => Err(format!("it is {role:?}")),
        }
    }

    /// Who is to be started and has an empty directory is given what it needs to join.
    pub(super) async fn let_in_emptied(&mut self, to: &Effect) -> anyhow::Result<()> {
        let back = |master: &usize| !to.down.contains(master);
        for master in self.nuisances.verbs.emptied.iter().copied().filter(back).collect::<Vec<_>>()
        {
            self.let_in(master, to).await?;
            self.nuisances.verbs.emptied.remove(&master);
        }
        Ok(())
    }

    /// What all masters but one say who run, and answer.
    async fn told_by_others(&self, master: usize) -> Vec<Value> {
        let mut told = Vec::new();
        for other in (0..self.count).filter(|other| *other != master) {
            if self.state(other).is_some()
                && let Ok(Ok(status)) = timeout(LEADER_MAX, self.status(other)).await
            {
                told.push(status);
            }
        }
        told
    }

    /// The number that a master has, as the one says who is furthest; `None` when it is no member, or nobody answers.
    async fn number_of(&self, master: usize) -> Option<u64> {
        let told = self.told_by_others(master).await;
        let newest = told
            .iter()
            .max_by_key(|status| (status["term"].as_u64(), status["appliedIndex"].as_u64()))?;
        let mut members = newest["masters"].as_array()?.iter();
        members.find(|member| member["name"] == self.name(master))?["nodeId"].as_u64()
    }

    /// Whether a majority of all masters say that there is none of that number.
    async fn is_out(&self, master: usize, number: u64) -> bool {
        let lacks = |status: &Value| {
            let members = status["masters"].as_array();
            members.is_some_and(|all| all.iter().all(|member| member["nodeId"] != number))
        };
        let told = self.told_by_others(master).await;
        told.iter().filter(|status| lacks(status)).count() > self.count / 2
    }

    /// A master is taken out. It must end by itself, without an error, and its directory must be refused; then that is
    /// emptied, as after the loss of a disk. When the others need it, it stays: [`Masters::shows`] tells.
    async fn take_out(&mut self, master: usize, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        let name = self.name(master).to_owned();
        // An older program does not know what that is.
        let Some(number) = self.number_of(master).await.filter(|_| !self.masters[master].is_older)
        else {
            return Ok(());
        };
        let (begin, mut patience) = (Instant::now(), REMOVED_MAX);
        let mut others = to.clone();
        others.down.remove(&master);
        loop {
            let asked = ask_any(self, &others, (REMOVE, json!({ "name": name })), master).await;
            let why = match asked {
                Asked::Done => break,
                Asked::Denied(why) => why,
                Asked::Unknown(why) => {
                    // It may come about as long as whoever carries it out may take for it.
                    patience = REMOVAL_MAX;
                    why
                }
            };
            if self.is_out(master, number).await {
                break;
            }
            if begin.elapsed() > patience {
                tracing::warn!(name, why, "it was not taken out");
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let mut seen = format!("{name} is taken out (its number was {number})");
        if from.disturbs(master) || to.moved.contains(&master) {
            // It may never hear of it.
            self.kill(&[master], Act::Killed).await?;
        } else {
            self.ends_as_told(master).await?;
            seen.push_str(", has ended as it was told to");
            let said = self.is_refused(master).await?;
            seen.push_str(&format!(", and its directory is refused: {said:?}"));
        }
        empty(&self.masters[master].data)?;
        if let Some(shims) = &self.shims {
            shims.forget_unsynced(master)?;
        }
        self.nuisances.verbs.removed.insert(master, (number, seen));
        self.nuisances.verbs.emptied.insert(master);
        Ok(())
    }

    async fn ends_as_told(&mut self, master: usize) -> anyhow::Result<()> {
        let Some(mut process) = self.masters[master].process.take() else { return Ok(()) };
        let name = self.name(master).to_owned();
        match timeout(REMOVED_MAX, process.wait()).await {
            Ok(Ok(status)) if status.success() => {
                self.note(master, Act::Stopped);
                Ok(())
            }
            Ok(status) => {
                bail!(Broke::new(format!("{name} was taken out, and ended with {}", status?)))
            }
            Err(_) => {
                process.kill().await?;
                bail!(Broke::new(format!("{name} was taken out, and went on for {REMOVED_MAX:?}")))
            }
        }
    }

    /// Starts it once more on what it has: it must not go on. What it says.
    async fn is_refused(&mut self, master: usize) -> anyhow::Result<String> {
        self.restart(master)?;
        let process = self.masters[master].process.take();
        let mut process = process.context("it was started")?;
        let name = self.name(master).to_owned();
        let Ok(status) = timeout(REFUSED_MAX, process.wait()).await else {
            process.kill().await?;
            bail!(Broke::new(format!("{name} was taken out, and runs on its old directory")));
        };
        self.note(master, Act::Stopped);
        let log = std::fs::read_to_string(&self.masters[master].log).unwrap_or_default();
        let last = log.lines().next_back().unwrap_or_default();
        // Where logs are blocked, what was said comes later.
        let says = last.contains("was removed from the cluster") || !self.logs.is_empty();
        if status?.success() || !says {
            bail!(Broke::new(format!("{name} was taken out, and its start says {last:?}")));
        }
        Ok(last.split(". ").next().unwrap_or(last).to_owned())
    }

    /// What a master of an empty directory needs to join, by one who is well.
    pub(super) async fn let_in(&mut self, master: usize, to: &Effect) -> anyhow::Result<()> {
        let runs = |other: &usize| *other != master && self.masters[*other].process.is_some();
        let door = (0..self.count).filter(runs).min_by_key(|other| to.disturbs(*other));
        let door = &self.masters[door.context("nobody runs whom it could join")?];
        let url = format!("https://{}", door.api);
        let begin = Instant::now();
        let token = loop {
            match token(&self.binary, &door.data, "server").await {
                Ok(token) => break token,
                Err(error) if begin.elapsed() > REMOVED_MAX => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let arguments = &mut self.masters[master].arguments;
        arguments.retain(|word| !word.starts_with("--token") && !word.starts_with("--join"));
        arguments.extend([format!("--join={url}"), format!("--token={token}")]);
        Ok(())
    }

    /// Whether who was taken out votes again, under another number.
    pub(super) async fn is_back(&self, master: usize) -> Result<String, String> {
        let name = self.name(master);
        let Some((before, _)) = self.nuisances.verbs.removed.get(&master) else {
            return Ok("it was not taken out".to_owned());
        };
        match (self.number_of(master).await, self.role_of(name).await.as_deref()) {
            (Some(number), _) if number == *before => {
                Err(format!("it has number {number}, which it had before"))
            }
            (Some(number), Some("leader" | "follower")) => {
                Ok(format!("it votes again, as number {number}"))
            }
            (number, role) => Err(format!("it is {role:?}, with number {number:?}")),
        }
    }
}

/// Takes away all that is in a directory; it may be a mount.
pub(super) fn empty(directory: &std::path::Path) -> anyhow::Result<()> {
    for found in std::fs::read_dir(directory)? {
        let path = found?.path();
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    Ok(())
}
