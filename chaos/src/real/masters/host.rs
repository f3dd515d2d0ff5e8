//! What the host does to the masters, and what it shows of that: processes that are gone or stopped, links that drop.
//!
//! A change is always from what is wrong now to what is to be wrong: two faults at the same time, and the end of one of
//! them, need no thought of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::process::Child;

use super::{Act, Broke, Master, Masters, PEER_LISTEN};
use crate::limits::{ENDED_MAX, SHOWN_MAX};
use crate::real::certificates::spoil;
use crate::real::damage::Damaged;
use crate::scenario::fault::Effect;
use crate::scenario::fault::machine::Harm;

impl Masters {
    /// Makes `to` true, where `from` was.
    ///
    /// # Errors
    /// When the host refuses something.
    pub async fn change(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        self.end_of_bad_disks(from, to).await?;
        self.end_of_hunger(from, to).await?;
        self.change_members(from, to).await?;
        self.change_trust(from, to).await?;
        self.save_backup(from, to).await?;
        // Who is taken out has ended, or is needed.
        let down = to.down.difference(&from.down).filter(|master| !to.replaced.contains(master));
        let (dark, killed): (Vec<usize>, Vec<usize>) =
            down.partition(|master| to.dark.contains_key(master));
        self.kill(&dark, Act::LostPower).await?;
        for master in dark {
            let shims = self.shims.as_mut().context("what is not synced is not known")?;
            shims.lose_power(master, to.dark[&master])?;
        }
        let (asked, killed): (Vec<usize>, Vec<usize>) =
            killed.into_iter().partition(|master| to.asked.contains(master));
        self.kill(&killed, Act::Killed).await?;
        self.ask_to_end(&asked).await?;
        self.change_files(from, to).await?;
        self.change_programs(from, to).await?;
        self.change_addresses(from, to).await?;
        let bad = to.disks.iter().filter(|(_, disk)| disk.may_end()).map(|(master, _)| master);
        for master in bad.chain(to.points.keys()) {
            self.may_end.entry(*master).or_default();
        }
        self.tell_processes(to)?;
        self.let_in_emptied(to).await?;
        for master in from.down.difference(&to.down) {
            self.restart(*master)?;
        }
        self.change_links(from, to)?;
        self.change_disks(from, to)?;
        self.change_nuisances(to).await?;
        let ids = to.throttled.iter().filter_map(|(master, percent)| {
            let id = self.masters[*master].process.as_ref().and_then(Child::id)?;
            Some((*master, (id, *percent)))
        });
        let ids = ids.collect();
        if let Some(processors) = &mut self.processors {
            processors.set(ids)?;
        }
        self.change_memory(to)
    }

    /// Who hangs, and which links are cut or slow.
    fn change_links(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        for master in 0..self.masters.len() {
            let hung = from.paused.contains(&master) && !from.down.contains(&master);
            let hangs = to.paused.contains(&master) && !to.down.contains(&master);
            match (hung, hangs) {
                (false, true) => self.pause(master)?,
                (true, false) if !to.down.contains(&master) => self.resume(master)?,
                _ => {}
            }
            if self.network().is_none() {
                continue;
            }
            let deaf_to = |effect: &Effect| -> BTreeSet<usize> {
                let to_it = effect.cuts.iter().filter(|(_, to)| *to == master);
                to_it.map(|(from, _)| *from).collect()
            };
            let (before, after) = (deaf_to(from), deaf_to(to));
            let network = self.network().context("there are no links to cut")?;
            if before != after {
                network.cut(master, &after)?;
            }
            let unreached = to.unreached.contains(&master);
            if from.unreached.contains(&master) != unreached {
                network.cut_clients(master, unreached)?;
            }
        }
        match &self.proxies {
            Some(proxies) => proxies.set(to, self.network.is_none()),
            None if to.toxics.is_empty() => {}
            None => bail!("there are no proxies"),
        }
        Ok(())
    }

    /// Which clocks and disks go wrong, and who ends at which point of its code.
    fn tell_processes(&mut self, to: &Effect) -> anyhow::Result<()> {
        let shims = self.shims.as_mut().map_or(Ok(()), |shims| shims.set(to));
        shims.and(self.points.as_mut().map_or(Ok(()), |points| points.set(to)))
    }

    /// Fills disks, with bytes or files, and empties them.
    fn change_disks(&self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        for master in to.full.difference(&from.full) {
            self.disks.as_ref().context("no disk can be filled")?.fill(*master)?;
        }
        for master in from.full.difference(&to.full) {
            self.disks.as_ref().context("no disk was filled")?.empty(*master)?;
        }
        for master in to.inodeless.difference(&from.inodeless) {
            self.disks.as_ref().context("no disk can be filled")?.fill_inodes(*master)?;
        }
        for master in from.inodeless.difference(&to.inodeless) {
            self.disks.as_ref().context("no disk was filled")?.empty_inodes(*master)?;
        }
        Ok(())
    }

    /// Damages files of those that do not run, and puts back those of who would not start on them.
    async fn change_files(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        for (master, how) in &to.certificates {
            if from.certificates.get(master) != Some(how) && to.down.contains(master) {
                let Master { data, clients, .. } = &self.masters[*master];
                self.nuisances.spoilt.insert(*master, spoil(data, *how, *clients)?);
            }
        }
        for (master, damage) in &to.damaged {
            if from.damaged.get(master) == Some(damage) || !to.down.contains(master) {
                continue;
            }
            if let Some(shims) = &self.shims {
                shims.forget_unsynced(*master)?;
            }
            if damage.how == Harm::GoBack {
                let kept = self.damaged.remove(master).context("nothing was copied aside")?;
                self.damaged.insert(*master, kept.go_back()?);
                self.may_end.entry(*master).or_default();
                continue;
            }
            let (root, copy) =
                (&self.masters[*master].data, format!("{}.undamaged", self.name(*master)));
            let damaged = Damaged::make(root, &self.directory.join(copy), *damage)?;
            self.damaged.insert(*master, damaged);
            if damage.how != Harm::Keep {
                self.may_end.entry(*master).or_default();
            }
        }
        let over = from.damaged.keys().filter(|master| !to.damaged.contains_key(master));
        for master in over.copied().collect::<Vec<usize>>() {
            self.all_live()?;
            let damaged = self.damaged.remove(&master);
            let refused = self.masters[master].process.is_none() && !to.down.contains(&master);
            if let (Some(damaged), true) = (damaged, refused) {
                damaged.put_back()?;
                if let Some(shims) = &self.shims {
                    shims.forget_unsynced(master)?;
                }
                self.restart(master)?;
            }
            self.may_end.remove(&master);
        }
        Ok(())
    }

    /// Those who are to run another program are asked to end, and started with it.
    async fn change_programs(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        let all: BTreeSet<usize> = from.older.keys().chain(to.older.keys()).copied().collect();
        for master in all {
            // A fault that ends gives back the program of before: the other one.
            let was = self.masters[master].is_older;
            let wanted = match (from.older.get(&master), to.older.get(&master)) {
                (_, Some(wanted)) => *wanted,
                (Some(_), None) => self.at_first.contains(&master),
                (None, None) => was,
            };
            if wanted == was {
                continue;
            }
            self.ask_to_end(&[master]).await?;
            self.masters[master].is_older = wanted;
            if !to.down.contains(&master) {
                self.restart(master)?;
            }
        }
        Ok(())
    }

    /// Those that move end, and start where the others do not expect them; those that go back do the same.
    async fn change_addresses(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        let all: Vec<usize> = from.moved.symmetric_difference(&to.moved).copied().collect();
        self.kill(&all, Act::Killed).await?;
        for master in all {
            let Master { peer, arguments, .. } = &mut self.masters[master];
            arguments.retain(|argument| !argument.starts_with(PEER_LISTEN));
            arguments
                .push(format!("{PEER_LISTEN}{}", peer[usize::from(to.moved.contains(&master))]));
            if !to.down.contains(&master) {
                self.restart(master)?;
            }
            if from.paused.contains(&master) && to.paused.contains(&master) {
                self.pause(master)?;
            }
        }
        Ok(())
    }

    /// Those whose disks are good again, or who no longer end at a point of their code: who was given an error, or came
    /// there, ends, and is started again.
    async fn end_of_bad_disks(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        let ends = |effect: &Effect, master: &usize| {
            effect.points.contains_key(master)
                || effect.disks.get(master).is_some_and(|disk| disk.may_end())
        };
        let all: BTreeSet<usize> = from.disks.keys().chain(from.points.keys()).copied().collect();
        let was = |master: &usize| {
            ends(from, master) && !ends(to, master) && self.may_end.contains_key(master)
        };
        for master in all.into_iter().filter(was).collect::<Vec<usize>>() {
            let begin = Instant::now();
            let (shims, points) = (self.shims.as_ref(), self.points.as_ref());
            let failed = shims.map_or(Ok(false), |shims| shims.gave_errors(master))?;
            let died = from.points.contains_key(&master)
                && points.is_some_and(|points| points.died(master));
            if failed || died {
                while self.state(master).is_some() && begin.elapsed() < ENDED_MAX {
                    tokio::time::sleep(crate::real::POLL).await;
                }
            }
            self.all_live()?;
            if let Some(Some(said)) = self.may_end.remove(&master)
                && !from.disks.contains_key(&master)
                && !died
            {
                // Not where it was to.
                bail!(Broke(said));
            }
            self.tell_processes(to)?;
            if !to.down.contains(&master) && !from.down.contains(&master) {
                self.restart(master)?;
            }
        }
        Ok(())
    }

    /// Takes back what was done to links, disks and processors.
    ///
    /// # Errors
    /// The first thing that could not be taken back; all were tried.
    pub(super) fn restore_host(&mut self) -> anyhow::Result<()> {
        self.proxies.iter().for_each(|proxies| proxies.set(&Effect::default(), true));
        let mut done = Ok(());
        if let Some(processors) = &mut self.processors {
            let back = processors.set(BTreeMap::new());
            done = done.and(back);
        }
        self.end_nuisances();
        if let Some(memories) = &mut self.memories {
            let back = memories.set(&BTreeMap::new());
            done = done.and(back);
        }
        let back = self.tell_processes(&Effect::default());
        done = done.and(back);
        for master in 0..self.count {
            if let Some(disks) = &self.disks {
                let back = disks.empty(master).and_then(|()| disks.empty_inodes(master));
                done = done.and(back);
            }
        }
        done
    }

    /// How often what is wrong by `effect` made somebody wait, so far; `None` when that is not counted.
    #[must_use]
    pub fn met(&self, effect: &Effect) -> Option<u64> {
        let mut met = None;
        if let (Some(proxies), false) = (&self.proxies, effect.toxics.is_empty()) {
            met = Some(proxies.met(effect.toxics.keys()));
        }
        if let (Some(processors), false) = (&self.processors, effect.throttled.is_empty()) {
            met = Some(met.unwrap_or(0) + processors.met(effect.throttled.keys()));
        }
        if let (Some(memories), false) = (&self.memories, effect.starved.is_empty()) {
            met = Some(met.unwrap_or(0) + memories.met(effect.starved.keys()));
        }
        if effect.leads.is_some() {
            met = Some(met.unwrap_or(0) + self.nuisances.verbs.transfers);
        }
        if !effect.besieged.is_empty() {
            met = Some(met.unwrap_or(0) + self.nuisances.flood.met());
        }
        let strange =
            !(effect.clocks.is_empty() && effect.disks.is_empty() && effect.dark.is_empty());
        if let (Some(shims), true) = (&self.shims, strange) {
            met = Some(met.unwrap_or(0) + shims.met(effect).unwrap_or(0));
        }
        if let (Some(points), false) = (&self.points, effect.points.is_empty()) {
            met = Some(met.unwrap_or(0) + points.met(effect));
        }
        met
    }

    /// What can be told of a fault only at its end: what power losses took, who ended.
    #[must_use]
    pub fn told_after(&self, effect: &Effect) -> Vec<String> {
        let mut told = Vec::new();
        for master in effect.damaged.keys() {
            let runs = self.state(*master).is_some();
            if let Some(Ok(what)) = self.damaged.get(master).map(|damaged| &damaged.what) {
                told.push(what.clone());
            }
            told.extend(runs.then(|| format!("{} goes on with that", self.name(*master))));
        }
        for master in effect.dark.keys() {
            let losses = self.shims.as_ref().map(|shims| shims.losses(*master));
            told.extend(losses.map(|losses| format!("{}: {losses}", self.name(*master))));
        }
        told.extend((!effect.besieged.is_empty()).then(|| self.nuisances.flood.said()));
        let may_end = effect.disks.keys().chain(effect.points.keys());
        for master in may_end.chain(effect.damaged.keys()).chain(effect.starved.keys()) {
            if let Some(Some(said)) = self.may_end.get(master) {
                let line = said.lines().next_back().unwrap_or_default();
                told.push(format!("{} ended by itself, saying {line:?}", self.name(*master)));
            }
        }
        told
    }

    /// Waits until the host shows that exactly `effect` is wrong; what it showed.
    ///
    /// # Errors
    /// What it shows instead after [`SHOWN_MAX`].
    pub async fn shows(&mut self, effect: &Effect) -> anyhow::Result<String> {
        let begin = Instant::now();
        loop {
            match self.look(effect) {
                Ok(shown) => return Ok(shown),
                Err(error) if begin.elapsed() > SHOWN_MAX => return Err(error),
                Err(_) => tokio::time::sleep(crate::real::POLL).await,
            }
            self.hold(effect).await;
            // A master gives back what it can do without: that is taken too.
            for master in &effect.full {
                self.disks.as_ref().context("no disk can be filled")?.fill(*master)?;
            }
            for master in &effect.inodeless {
                self.disks.as_ref().context("no disk can be filled")?.fill_inodes(*master)?;
            }
        }
    }

    fn look(&self, effect: &Effect) -> anyhow::Result<String> {
        let mut shown = Vec::new();
        for master in 0..self.masters.len() {
            let name = self.name(master);
            let state = self.state(master);
            match (effect.down.contains(&master), effect.paused.contains(&master), state) {
                (true, _, None) if self.unjoined.contains(&master) => {}
                (true, _, None) => shown.push(format!("{name} does not run")),
                (true, _, Some(_)) => bail!("{name} runs"),
                (false, true, Some('T')) => shown.push(format!("{name} is stopped")),
                (false, true, state) => bail!("{name} is not stopped: {state:?}"),
                // Held back by signals, perhaps.
                (false, false, Some('T')) if effect.throttled.contains_key(&master) => {}
                (false, false, Some('T')) => bail!("{name} is stopped"),
                (false, false, _) => {}
            }
        }
        self.look_at_links(effect, &mut shown)?;
        shown.extend(self.rotation_shown().filter(|_| effect.rotated));
        shown.extend(self.saved_shown().filter(|_| effect.saved));
        for master in 0..self.count() {
            let name = self.name(master);
            if let Some(disks) = &self.disks {
                match (effect.full.contains(&master), disks.is_full(master)?) {
                    (true, true) => {
                        let free = disks.free(master)? >> 10;
                        shown.push(format!("the disk of {name} has {free} KiB free"));
                    }
                    (true, false) => bail!("the disk of {name} has room"),
                    (false, true) => bail!("the disk of {name} is full"),
                    (false, false) => {}
                }
                let (free, none) = disks.inodes(master)?;
                match (effect.inodeless.contains(&master), none) {
                    (true, true) => {
                        shown.push(format!("the disk of {name} has room for {free} more files"));
                    }
                    (true, false) => bail!("the disk of {name} has room for {free} more files"),
                    (false, true) => bail!("the disk of {name} has no room for files"),
                    (false, false) => {}
                }
            }
            let runs = !effect.down.contains(&master);
            self.look_at_machine(effect, master, &mut shown)?;
            if let Some(shims) = &self.shims {
                let id = self.masters[master].process.as_ref().and_then(Child::id);
                // An errand of a moment ago may have ended it.
                let id = id.filter(|_| state(id).is_some());
                let shown_now = shims.shown(master, id)?;
                shown.extend(shown_now.map(|what| format!("{name}: {what}")));
            }
            if let Some(points) = &self.points {
                let id = self.masters[master].process.as_ref().and_then(Child::id);
                let id = id.filter(|_| state(id).is_some());
                let shown_now = points.shown(master, id)?;
                shown.extend(shown_now.map(|what| format!("{name}: {what}")));
            }
            let held = self.processors.as_ref().and_then(|processors| processors.shown(master));
            match (effect.throttled.contains_key(&master) && runs, held) {
                (true, Some(held)) => shown.push(format!("{name} has {held}")),
                (true, None) => bail!("{name} has all of a processor"),
                (false, Some(held)) if runs => bail!("{name} has {held}"),
                (false, _) => {}
            }
        }
        Ok(shown.join("; "))
    }

    /// Damaged files, unread logs, silent connections, certificates, other programs.
    fn look_at_machine(
        &self,
        effect: &Effect,
        master: usize,
        shown: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let (name, runs) = (self.name(master), !effect.down.contains(&master));
        if let (true, Some(damaged)) =
            (effect.damaged.contains_key(&master), self.damaged.get(&master))
        {
            match &damaged.what {
                Ok(what) => shown.push(format!("{name}: {what}")),
                Err(why) => bail!("{why}"),
            }
        }
        if let Some((_, seen)) =
            self.nuisances.verbs.removed.get(&master).filter(|_| effect.replaced.contains(&master))
        {
            shown.push(seen.clone());
        }
        let demoted = self.nuisances.verbs.demoted.get(&master);
        if let Some(seen) = demoted.filter(|_| effect.demoted.contains(&master)) {
            shown.push(seen.clone());
        }
        self.look_at_nuisances(effect, (master, runs), shown)?;
        if let Some(spoilt) =
            self.nuisances.spoilt.get(&master).filter(|_| effect.certificates.contains_key(&master))
        {
            shown.push(format!("{name}: {}", spoilt.what));
        }
        if let Some(door) = self.door(master) {
            let Master { peer: [usual, other], .. } = &self.masters[master];
            let wanted = if effect.moved.contains(&master) { other } else { usual };
            anyhow::ensure!(
                door == *wanted,
                "{name} listens to the others at {door}, not {wanted}"
            );
            if effect.moved.contains(&master) {
                shown.push(format!("{name} listens to the others at {door}, not {usual}"));
            }
        }
        shown.extend(self.look_at_memory(effect, master)?);
        if let (Some(older), Some(found)) = (effect.older.get(&master), self.program(master)) {
            let wanted = self.older.as_ref().filter(|_| *older).unwrap_or(&self.binary);
            if found != wanted.canonicalize()? {
                bail!("{name} runs {}, not {}", found.display(), wanted.display());
            }
            shown.push(format!("{name} runs {}", found.display()));
        }
        Ok(())
    }

    fn look_at_links(&self, effect: &Effect, shown: &mut Vec<String>) -> anyhow::Result<()> {
        if let Some(proxies) = &self.proxies {
            let wrong = proxies.toxics();
            if wrong != effect.toxics {
                bail!("the proxies do {wrong:?}, not {:?}", effect.toxics);
            }
            for ((from, to), toxic) in &wrong {
                shown.push(format!("{} to {}: {toxic}", self.name(*from), self.name(*to)));
            }
            let unreached = proxies.unreached();
            if self.network.is_none() && unreached != effect.unreached {
                bail!("the proxies hold clients of {unreached:?}, not of {:?}", effect.unreached);
            }
            for master in unreached {
                shown.push(format!("what clients send to {} is held", self.name(master)));
            }
            let cuts = proxies.cuts();
            if self.network.is_none() && cuts != effect.cuts {
                bail!("the proxies hold {cuts:?}, not {:?}", effect.cuts);
            }
            for (from, to) in &cuts {
                shown.push(format!(
                    "what {} sends to {} is held",
                    self.name(*from),
                    self.name(*to)
                ));
            }
        }
        if let Some(network) = self.network() {
            for master in 0..self.masters.len() {
                let cut = effect.cuts.iter().filter(|(_, to)| *to == master);
                let wanted: BTreeSet<usize> = cut.map(|(from, _)| *from).collect();
                let found = network.cut_from(master)?;
                if found != wanted {
                    bail!("{} drops from {found:?}, not {wanted:?}", self.name(master));
                }
                let unreached = network.is_cut_from_clients(master)?;
                if unreached != effect.unreached.contains(&master) {
                    let does = if unreached { "drops" } else { "does not drop" };
                    bail!("{} {does} what clients send", self.name(master));
                }
                if unreached {
                    shown.push(format!("{} drops what clients send", self.name(master)));
                }
                if !found.is_empty() {
                    let from: Vec<&str> = found.iter().map(|from| self.name(*from)).collect();
                    shown.push(format!("{} drops from {}", self.name(master), from.join(", ")));
                }
            }
        }
        Ok(())
    }

    /// What the kernel says of its process: `R`, `S`, `T` (stopped) and so on; `None` when there is none.
    #[must_use]
    pub fn state(&self, master: usize) -> Option<char> {
        state(self.masters[master].process.as_ref().and_then(Child::id))
    }

    /// Where its process was told to listen to other masters, as the kernel says.
    fn door(&self, master: usize) -> Option<SocketAddr> {
        let id = self.masters[master].process.as_ref().and_then(Child::id)?;
        let words = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        words.split('\0').find_map(|word| word.strip_prefix(PEER_LISTEN)?.parse().ok())
    }

    /// The file that its process was started from, as the kernel says.
    fn program(&self, master: usize) -> Option<PathBuf> {
        let id = self.masters[master].process.as_ref().and_then(Child::id)?;
        std::fs::read_link(format!("/proc/{id}/exe")).ok()
    }

    /// Whoever ended without being killed is an error: the run has found something.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn all_live(&mut self) -> anyhow::Result<()> {
        // Whose disk is bad may end; that is not looked at twice.
        let may_end: Vec<usize> = self.may_end.keys().copied().collect();
        for master in may_end {
            let Err(error) = self.masters[master].check_alive() else { continue };
            let what = error.downcast::<Broke>()?.to_string();
            self.masters[master].process = None;
            self.note(master, Act::Ended);
            self.may_end.insert(master, Some(what));
        }
        self.masters.iter_mut().try_for_each(super::Master::check_alive)
    }
}

/// What the kernel says of a process that is not dead.
fn state(id: Option<u32>) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id?)).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(") ")?.1.chars().next().filter(|state| !matches!(state, 'Z' | 'X'))
}
