//! What masters have to bear and to serve nevertheless: logs that nobody reads, connections that say nothing, watchers
//! that do not read, clients that ask for everything; and what makes them forget.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::disaster::Saved;
use super::trust::Trust;
use super::verbs::Verbs;
use super::waits::Behind;
use super::{Broke, Masters};
use crate::real::certificates::Spoilt;
use crate::real::filler::Filler;
use crate::real::flood::ApiFlood;
use crate::real::follower::Sleep;
use crate::real::held::{self, Held, Wanted};
use crate::scenario::fault::Effect;

/// All of it that needs something held or remembered, or somebody who goes on.
#[derive(Debug, Default)]
pub(super) struct Nuisances {
    /// Connections that say nothing.
    silent: Held<TcpStream>,
    /// Watchers that do not read.
    slow: Held<TlsStream<TcpStream>>,
    /// Who asks for everything.
    pub(super) flood: ApiFlood,
    /// What makes masters forget.
    filler: Filler,
    /// Watchers of the workload that stop for a time.
    pub(super) sleep: Option<Arc<Sleep>>,
    /// Who was cut off until a snapshot was needed.
    pub(super) behind: BTreeMap<usize, Behind>,
    /// What was done to the membership.
    pub(super) verbs: Verbs,
    /// The backup that the run is taken back to at its end.
    pub(super) saved: Option<Saved>,
    /// A change of the authorities.
    pub(super) trust: Trust,
    /// Whose certificates are no good.
    pub(super) spoilt: BTreeMap<usize, Spoilt>,
}

impl Masters {
    /// Logs that are read or not, connections that only stand, clients that ask too much.
    pub(super) async fn change_nuisances(&mut self, to: &Effect) -> anyhow::Result<()> {
        for (master, pipe) in self.logs.iter().enumerate() {
            pipe.block(to.unread.contains(&master));
        }
        self.hold(to).await;
        let wanted = self.wanted(&to.besieged, to);
        self.nuisances.flood.set(&wanted, &self.tls).await;
        if let [wrong, ..] = self.nuisances.flood.wrong().as_slice() {
            bail!(Broke::new(format!("who asked for everything was answered wrongly: {wrong}")));
        }
        self.nuisances.sleep.iter().for_each(|sleep| sleep.set(&to.asleep));
        let fills = !to.behind.is_empty() || !to.asleep.is_empty();
        let fit = |master: &usize| {
            fills && !to.behind.contains(master) && !self.unjoined.contains(master)
        };
        let apis = (0..self.count).filter(fit).map(|master| self.api(master)).collect();
        self.nuisances.filler.set(apis, &self.tls);
        Ok(())
    }

    /// Opens the connections that are to stand and do not: those of a master that was started again are gone.
    pub(super) async fn hold(&mut self, to: &Effect) {
        let wanted = self.wanted(&to.flooded, to);
        self.nuisances.silent.set(&wanted, held::silent).await;
        let wanted = self.wanted(&to.watched, to);
        let user = &self.tls;
        self.nuisances.slow.set(&wanted, |api| held::watch(api, user.clone())).await;
    }

    /// To whom how many come: to nobody who does not run.
    fn wanted(&self, counts: &BTreeMap<usize, u32>, to: &Effect) -> Wanted {
        let runs = counts.iter().filter(|(master, _)| !to.down.contains(master));
        runs.map(|(master, count)| (*master, (self.api(*master), *count))).collect()
    }

    /// A process of this master is new.
    pub(super) fn forget_held(&mut self, master: usize) {
        self.nuisances.silent.forget(master);
        self.nuisances.slow.forget(master);
    }

    /// Takes all of it back.
    pub(super) fn end_nuisances(&mut self) {
        self.logs.iter().for_each(|pipe| pipe.block(false));
        self.nuisances.silent.clear();
        self.nuisances.slow.clear();
        self.nuisances.flood.clear();
        self.nuisances.filler.set(Vec::new(), &self.tls);
        self.nuisances.trust = Trust::default();
        self.nuisances.sleep.iter().for_each(|sleep| sleep.set(&BTreeSet::new()));
    }

    /// Whether all that is to be there of it is.
    pub(super) fn look_at_nuisances(
        &self,
        effect: &Effect,
        (master, runs): (usize, bool),
        shown: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let name = self.name(master);
        if effect.unread.contains(&master) {
            if !self.logs.get(master).context("no log can be blocked")?.is_full()? {
                bail!("the log of {name} is read");
            }
            shown.push(format!("the pipe of the log of {name} is full"));
        }
        if let (Some(wanted), true) = (effect.flooded.get(&master), runs) {
            let stand = self.nuisances.silent.shown(master);
            let what = format!("silent connections to {name}");
            shown.push(standing(stand, *wanted, &what)?);
        }
        // One that has no memory for them may have ended, or let them go.
        let lives = runs && (self.state(master).is_some() || !self.may_end.contains_key(&master));
        if let (Some(wanted), true) = (effect.watched.get(&master), lives) {
            let stand = self.nuisances.slow.shown(master);
            let wanted = if effect.starved.contains_key(&master) { 0 } else { *wanted };
            let what = format!("watchers of {name} that do not read");
            shown.push(standing(stand, wanted, &what)?);
        }
        if let (Some(wanted), true) = (effect.besieged.get(&master), lives) {
            let stand = self.nuisances.flood.shown(master);
            let what = format!("clients of {name} ask for everything");
            shown.push(standing(stand, *wanted, &what)?);
        }
        if effect.asleep.contains(&master)
            && let Some(sleep) = &self.nuisances.sleep
        {
            let last =
                sleep.last(master).with_context(|| format!("no watcher at {name} sleeps"))?;
            shown.push(format!("the watcher at {name} sleeps, and has come to {last}"));
        }
        Ok(())
    }
}

/// How many stand, in words; an error when too few do.
fn standing(stand: Option<usize>, wanted: u32, what: &str) -> anyhow::Result<String> {
    let stand = stand.unwrap_or(0);
    anyhow::ensure!(!held::is_short(stand, wanted), "{stand} of {wanted} {what}");
    Ok(format!("{stand} {what}"))
}
