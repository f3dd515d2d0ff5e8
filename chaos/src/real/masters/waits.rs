//! What some faults wait for, and what has to follow when they are over: a snapshot to who had fallen behind, a new
//! beginning to whose history was forgotten, a new certificate instead of one that is no good, a vote to who was taken
//! out and joined anew, new authorities at everybody.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::timeout;

use super::Masters;
use crate::limits::{FOLLOWED_MAX, LEADER_MAX};
use crate::real::cluster::Cluster as _;
use crate::real::follower::HISTORY;
use crate::scenario::fault::Effect;

/// A master that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    /// The last entry of its log.
    last: u64,
    /// The last entry that nobody else has any more.
    purged: u64,
}

impl Masters {
    /// Whether those who were cut off lack entries that nobody has any more, and watchers history.
    pub(super) async fn has_come_about(&mut self, effect: &Effect) -> Result<String, String> {
        let mut shown = Vec::new();
        for master in &effect.behind {
            let behind = self.falls_behind(*master, effect).await?;
            self.nuisances.behind.insert(*master, behind);
            let (name, Behind { last, purged }) = (self.name(*master), behind);
            shown.push(format!(
                "{name} had entries up to {last}, and all others had forgotten those up to {purged}"
            ));
        }
        if !effect.outlived.is_empty() {
            shown.push(self.certificates_have_ended(effect).await?);
        }
        if effect.rotated {
            shown.push(self.rotation_is_over().await?);
        }
        for master in &effect.asleep {
            shown.push(self.history_is_gone(*master).await?);
        }
        Ok(shown.join("; "))
    }

    async fn falls_behind(&self, master: usize, effect: &Effect) -> Result<Behind, String> {
        let last = self.told(master, &["log", "last"]).await?;
        let mut purged = u64::MAX;
        for other in (0..self.count).filter(|other| !effect.behind.contains(other)) {
            if self.unjoined.contains(&other) {
                continue;
            }
            purged = purged.min(self.told(other, &["log", "purged"]).await.unwrap_or(0));
        }
        if purged == u64::MAX || purged <= last {
            let name = self.name(master);
            return Err(format!(
                "{name} had entries up to {last}, and somebody the next ones: forgotten were those up to {purged}"
            ));
        }
        Ok(Behind { last, purged })
    }

    /// Whether all masters have forgotten what the watchers at this one lack, which sleep.
    async fn history_is_gone(&self, master: usize) -> Result<String, String> {
        let name = self.name(master);
        let nobody = || format!("nobody watches ConfigMaps at {name}");
        let last = self
            .nuisances
            .sleep
            .as_ref()
            .and_then(|sleep| sleep.last(master))
            .ok_or_else(nobody)?;
        for other in (0..self.count).filter(|other| !self.unjoined.contains(other)) {
            let gone = self.told(other, &["history", HISTORY]).await.unwrap_or(0);
            if gone <= last {
                let other = self.name(other);
                return Err(format!(
                    "the watcher at {name} had come to {last}, and {other} had forgotten what was up to {gone}"
                ));
            }
        }
        Ok(format!("the watcher at {name} had come to {last}, and that was forgotten"))
    }

    /// A number in what a master says of itself.
    async fn told(&self, master: usize, path: &[&str]) -> Result<u64, String> {
        let name = self.name(master);
        let status = timeout(LEADER_MAX, self.status(master)).await;
        let status = status.map_err(|_| format!("{name} did not answer"))?;
        let status = status.map_err(|error| format!("{error:#}"))?;
        let found = path.iter().fold(&status, |value: &Value, field| &value[*field]);
        Ok(found.as_u64().unwrap_or(0))
    }

    /// Whether what had to follow from a fault has, when nothing else is wrong with who met it.
    pub(super) async fn has_followed(
        &mut self,
        done: &Effect,
        now: &Effect,
    ) -> Result<Vec<String>, String> {
        let mut seen = Vec::new();
        if !done.outlived.is_empty() {
            self.all_are_believed()?;
        }
        if done.rotated {
            seen.push(self.authorities_are_new(now).await?);
        }
        let met = done.behind.iter().chain(&done.asleep).chain(done.certificates.keys());
        let met = met.chain(&done.replaced).chain(&done.demoted).chain(&done.outlived);
        for master in met.copied().collect::<Vec<usize>>() {
            let begin = Instant::now();
            loop {
                if self.state(master).is_none() || now.disturbs(master) {
                    let name = self.name(master);
                    seen.push(format!("{name} met something else: what followed was not seen"));
                    break;
                }
                match self.followed(done, master).await {
                    Ok(what) => {
                        seen.push(format!("{}: {what}", self.name(master)));
                        break;
                    }
                    Err(why) if begin.elapsed() > FOLLOWED_MAX => {
                        let name = self.name(master);
                        return Err(format!("{name} within {FOLLOWED_MAX:?} of the fault: {why}"));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
                if let Err(error) = self.all_live() {
                    return Err(format!("{error:#}"));
                }
            }
        }
        self.nuisances.behind.retain(|master, _| !done.behind.contains(master));
        self.nuisances.verbs.removed.retain(|master, _| !done.replaced.contains(master));
        self.nuisances.verbs.demoted.retain(|master, _| !done.demoted.contains(master));
        self.nuisances.trust.forget(&done.outlived);
        self.nuisances.spoilt.retain(|master, _| !done.certificates.contains_key(master));
        Ok(seen)
    }

    async fn followed(&self, done: &Effect, master: usize) -> Result<String, String> {
        if done.behind.contains(&master)
            && let Some(Behind { last, purged }) = self.nuisances.behind.get(&master)
        {
            let begins = self.told(master, &["log", "purged"]).await?;
            let snapshot = self.told(master, &["log", "snapshot"]).await?;
            if begins <= *last || snapshot < *purged {
                return Err(format!("no snapshot came: its log begins behind {begins}"));
            }
            return Ok(format!(
                "a snapshot up to {snapshot} came, and its log begins behind {begins}"
            ));
        }
        if done.asleep.contains(&master)
            && let Some(sleep) = &self.nuisances.sleep
        {
            let again = sleep.began_anew(master);
            return again.ok_or_else(|| "its watcher was not told that history is gone".to_owned());
        }
        if done.replaced.contains(&master) {
            return self.is_back(master).await;
        }
        if done.outlived.contains(&master) {
            return self.has_another_certificate(master).await;
        }
        if done.demoted.contains(&master) {
            return self.votes_again(master).await;
        }
        match self.nuisances.spoilt.get(&master) {
            Some(spoilt) if done.certificates.contains_key(&master) => {
                let replaced = spoilt.replaced(self.masters[master].api, &self.tls).await;
                replaced.map_err(|error| format!("its certificate was not replaced: {error:#}"))
            }
            _ => Ok("nothing was to follow".to_owned()),
        }
    }
}
