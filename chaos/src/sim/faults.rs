//! Faults of the simulated world: how each begins, and how it is taken back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;

use super::agent::AGENTS;
use super::being::TRUE_RATE;
use super::node::{self, slot};
use super::plan::{BACK, Kind, Step};
use super::world::{Weather, World};

/// Masters of which one may be lost for good.
const LOSING_MASTERS_MIN: usize = 5;

/// Of a thousand bits that flip, those in snapshots.
const SNAPSHOT_FLIPS: u32 = 400;

pub(super) fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

impl World {
    /// A fault of the plan begins.
    pub(super) fn begin(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(mut step) = self.plan.get(number).cloned() else { return Ok(()) };
        // A plan is for as many masters as there may be one day.
        let count = self.nodes.len();
        let hit: BTreeSet<usize> = step.masters.iter().map(|master| master % count).collect();
        step.masters = hit.into_iter().collect();
        self.plan[number].masters.clone_from(&step.masters);
        self.note(format_args!("{:?} {:?} begins", step.fault, step.masters));
        let lasts = Duration::from_millis(step.lasts_ms);
        let mut happens = true;
        match step.fault {
            Kind::Kill | Kind::KillAll => {
                for master in &step.masters {
                    self.crash(*master, false);
                }
            }
            Kind::PowerLoss | Kind::PowerLossAll => {
                for master in &step.masters {
                    self.crash(*master, true);
                }
            }
            Kind::Restart => self.stop(&step.masters),
            Kind::Pause | Kind::Freeze => {
                let until = self.now + lasts;
                for master in &step.masters {
                    if let Some(life) = &mut self.nodes[*master].life {
                        life.being.pause(until, step.fault == Kind::Pause);
                    }
                }
            }
            Kind::Partition | Kind::OneWay | Kind::Bridge | Kind::Ring | Kind::MajoritiesRing => {
                self.cut(number, &step);
            }
            Kind::Network => {
                let most = Duration::from_millis(step.much);
                let bad = u32::try_from(step.much % 200).unwrap_or_default();
                self.weather = Weather { least: Duration::ZERO, most, lost: bad, twice: bad / 2 };
            }
            Kind::Drift => {
                for master in &step.masters {
                    self.nodes[*master].rate_permille = step.much;
                }
            }
            Kind::Transfer => self.transfer(),
            Kind::LossAfterVote | Kind::LossAfterAppend => {
                let after = if step.fault == Kind::LossAfterVote { "Vote" } else { "Append" };
                self.traps.extend(step.masters.iter().map(|master| (*master, after)));
            }
            Kind::SlowDisk | Kind::FailedSync | Kind::FullDisk => self.harm(&step),
            Kind::BitFlip
            | Kind::Wipe
            | Kind::SplitVote
            | Kind::CrashPoint
            | Kind::Join
            | Kind::Replace
            | Kind::Leave
            | Kind::Demote
            | Kind::RollBack
            | Kind::Restore
            | Kind::Recover => {
                happens = self.begin_if_it_can(number, &step)?;
            }
            Kind::ClockJump => self.set_clocks(&step),
            Kind::AgentKill | Kind::NodeLoss | Kind::AgentPause | Kind::NodePartition => {
                self.begin_at_nodes(number, &step);
            }
        }
        if happens {
            *self.faults.entry(step.fault).or_insert(0) += 1;
            self.ends(number, lasts);
        }
        Ok(())
    }

    /// Something that is not always possible; whether it has happened.
    fn begin_if_it_can(&mut self, number: usize, step: &Step) -> anyhow::Result<bool> {
        Ok(match step.fault {
            Kind::BitFlip => self.flip(step),
            Kind::SplitVote => self.split_vote(number),
            Kind::Wipe => match step.masters.first() {
                Some(master) if self.one_may_be_lost() => {
                    self.wipe(*master)?;
                    true
                }
                _ => false,
            },
            Kind::Replace | Kind::Leave => {
                // It counts when the master knows.
                self.asks_for_removal(step);
                false
            }
            Kind::Demote => {
                // It counts when it was seen.
                self.asks_for_demotion(step);
                false
            }
            Kind::RollBack => self.copies(step)?,
            Kind::Restore => self.disaster()?,
            Kind::Recover => self.loses_quorum()?,
            Kind::CrashPoint => {
                // It counts when a master comes by.
                self.lay_traps(&step.masters, step.much);
                false
            }
            _ => match self.another_master()? {
                Some(position) => {
                    self.plan[number].masters = vec![position];
                    true
                }
                None => false,
            },
        })
    }

    /// Links carry nothing until the step ends.
    fn cut(&mut self, number: usize, step: &Step) {
        let links = self.links(step);
        for link in &links {
            *self.cuts.entry(*link).or_insert(0) += 1;
        }
        self.cut_by.insert(number, links);
    }

    /// Something happens to nodes.
    fn begin_at_nodes(&mut self, number: usize, step: &Step) {
        let until = self.now + Duration::from_millis(step.lasts_ms);
        match step.fault {
            Kind::AgentKill | Kind::NodeLoss => {
                for node in &step.nodes {
                    self.crash_agent(*node, step.fault == Kind::NodeLoss);
                }
            }
            Kind::AgentPause => {
                for node in &step.nodes {
                    if let Some(life) = &mut self.agents[*node].life {
                        life.pause(until, true);
                    }
                }
            }
            _ => self.cut(number, step),
        }
    }

    /// Something is wrong with disks.
    fn harm(&mut self, step: &Step) {
        match step.fault {
            Kind::SlowDisk => {
                let most = Duration::from_millis(step.much);
                for master in &step.masters {
                    self.nodes[*master].disk.syncs_take(Duration::from_millis(10), most);
                }
            }
            Kind::FailedSync => {
                for master in &step.masters {
                    self.nodes[*master].disk.fail();
                }
            }
            Kind::FullDisk => {
                for master in &step.masters {
                    self.nodes[*master].disk.full(Some(step.much));
                }
            }
            _ => {}
        }
    }

    fn set_clocks(&mut self, step: &Step) {
        let (back, seconds) = (step.much >= BACK, step.much % BACK);
        let seconds = i64::try_from(seconds).unwrap_or_default();
        let by = SignedDuration::from_secs(if back { -seconds } else { seconds });
        for master in &step.masters {
            let node = &mut self.nodes[*master];
            node.wrong = node.wrong.saturating_add(by);
            if let Some(life) = &mut node.life {
                life.being.jump(by);
            }
        }
        for node in &step.nodes {
            let agent = &mut self.agents[*node];
            agent.wrong = agent.wrong.saturating_add(by);
            if let Some(life) = &mut agent.life {
                life.jump(by);
            }
        }
    }

    /// Whether enough are left without it.
    fn one_may_be_lost(&self) -> bool {
        let whole = self.nodes.iter().filter(|node| node.takes_part() && !node.hurt).count();
        let changes = self.nodes.iter().any(|node| node.leaves() || node.demoted.is_some());
        whole == self.nodes.len() && !changes && whole >= LOSING_MASTERS_MIN && self.all_vote()
    }

    /// One bit of one master, if enough are left without it: the one that was met before, when it goes on with that.
    fn flip(&mut self, step: &Step) -> bool {
        let before = self.nodes.iter().position(|node| node.hurt && node.takes_part());
        let masters = match before {
            Some(master) => vec![master],
            None if self.one_may_be_lost() => step.masters.clone(),
            None => return false,
        };
        for master in masters {
            self.crash(master, false);
            if !self.chance(SNAPSHOT_FLIPS) || !self.flip_snapshot(master) {
                self.nodes[master].disk.flip();
            }
            self.nodes[master].hurt = true;
        }
        true
    }

    /// Somebody copies the disk of a master, which goes on.
    fn copies(&mut self, step: &Step) -> anyhow::Result<bool> {
        let Some(master) = step.masters.first().copied().filter(|_| self.one_may_be_lost()) else {
            return Ok(false);
        };
        let directory = self.directory.join(&self.nodes[master].member.name);
        let copy = directory.with_extension("copy");
        remove(&copy)?;
        copy_all(&directory, &copy)?;
        self.nodes[master].copy = Some(self.nodes[master].disk.copy());
        Ok(true)
    }

    /// And puts the copy in the place of what is there now.
    fn puts_back(&mut self, step: &Step) -> anyhow::Result<()> {
        for master in step.masters.iter().copied() {
            let Some(copy) = self.nodes[master].copy.take() else { continue };
            if !self.one_may_be_lost() {
                continue;
            }
            self.crash(master, false);
            self.nodes[master].hurt = true;
            self.nodes[master].went_back = self.nodes[master].disk.put_back(&copy);
            let directory = self.directory.join(&self.nodes[master].member.name);
            remove(&directory)?;
            std::fs::rename(directory.with_extension("copy"), &directory)?;
        }
        Ok(())
    }

    fn split_vote(&mut self, number: usize) -> bool {
        let Some(leader) = self.leader() else { return false };
        self.plan[number].masters = vec![leader];
        let step = self.plan[number].clone();
        self.cut(number, &step);
        self.traps.push((leader, "Vote"));
        self.crash(leader, true);
        self.starts_soon(leader);
        true
    }

    /// It is over.
    pub(super) fn end(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(step) = self.plan.get(number).cloned() else { return Ok(()) };
        self.note(format_args!("{:?} {:?} ends", step.fault, step.masters));
        match step.fault {
            Kind::Kill | Kind::KillAll | Kind::PowerLoss | Kind::PowerLossAll => {}
            Kind::BitFlip | Kind::Wipe | Kind::Join | Kind::CrashPoint => {}
            Kind::Replace | Kind::Leave | Kind::Demote | Kind::Restore | Kind::Recover => {}
            Kind::RollBack => self.puts_back(&step)?,
            Kind::LossAfterVote | Kind::LossAfterAppend => {
                self.traps.retain(|(master, _)| !step.masters.contains(master));
            }
            Kind::Restart | Kind::FailedSync => {
                for master in &step.masters {
                    self.nodes[*master].disk.mend();
                    self.crash(*master, false);
                }
            }
            Kind::Partition
            | Kind::OneWay
            | Kind::Bridge
            | Kind::Ring
            | Kind::MajoritiesRing
            | Kind::NodePartition
            | Kind::SplitVote => {
                for link in self.cut_by.remove(&number).unwrap_or_default() {
                    if let Some(count) = self.cuts.get_mut(&link) {
                        *count -= 1;
                        if *count == 0 {
                            self.cuts.remove(&link);
                        }
                    }
                }
            }
            Kind::Network => self.weather = Weather::FAIR,
            Kind::SlowDisk => {
                for master in &step.masters {
                    self.nodes[*master].disk.syncs_as_usual();
                }
            }
            Kind::FullDisk => {
                for master in &step.masters {
                    self.nodes[*master].disk.full(None);
                }
            }
            Kind::Drift => {
                for master in &step.masters {
                    self.nodes[*master].rate_permille = TRUE_RATE;
                }
            }
            Kind::Pause
            | Kind::Freeze
            | Kind::Transfer
            | Kind::ClockJump
            | Kind::AgentKill
            | Kind::NodeLoss
            | Kind::AgentPause => {}
        }
        // Whoever is down is started again; those whom a later fault ended, too: somebody watches them.
        for master in &step.masters {
            if self.nodes[*master].life.is_none() && self.nodes[*master].takes_part() {
                self.start(*master)?;
            }
        }
        for node in &step.nodes {
            if self.agents[*node].life.is_none() {
                self.start_agent(*node)?;
            }
        }
        Ok(())
    }

    /// Which links carry nothing: from, to.
    fn links(&self, step: &Step) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        let side = |master: usize| step.masters.contains(&master);
        let far = |a: usize, b: usize| (b + count - a) % count;
        let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        // A node is where the master of its number is; what is between masters alone does not concern it.
        let of_nodes = (0..self.agents.len()).flat_map(|node| {
            (0..count)
                .filter(move |master| match step.fault {
                    Kind::NodePartition => step.nodes.contains(&node) && side(*master),
                    Kind::Partition | Kind::OneWay => side(node % count) != side(*master),
                    _ => false,
                })
                .map(move |master| (AGENTS + node, master))
        });
        let of_nodes: Vec<_> =
            of_nodes.flat_map(|(node, master)| [(node, master), (master, node)]).collect();
        let cut = |(a, b): &(usize, usize)| match step.fault {
            Kind::Partition => side(*a) != side(*b),
            Kind::OneWay => side(*a) && !side(*b),
            // The first is the bridge; of the others every second one is on its other side.
            Kind::Bridge | Kind::SplitVote => {
                let bridge = step.masters.first().copied().unwrap_or_default();
                let other = |master: usize| far(bridge, master) % 2 == 0;
                *a != bridge && *b != bridge && other(*a) != other(*b)
            }
            Kind::NodePartition => false,
            Kind::Ring => far(*a, *b) != 1,
            _ => (2..=count.saturating_sub(2)).contains(&far(*a, *b)),
        };
        all.filter(|(a, b)| a != b).filter(cut).chain(of_nodes).collect()
    }

    /// As SIGTERM does it: leadership goes first.
    fn stop(&mut self, masters: &[usize]) {
        for master in masters {
            let found = self.nodes[*master].up(|up| up.masters.clone());
            if let Some(group) = found {
                if let Some(life) = &mut self.nodes[*master].life {
                    life.stopping = true;
                }
                match self.nodes[*master].take_running() {
                    Some(running) => {
                        self.nodes[*master].spawn(async move { running.shutdown().await })
                    }
                    None => self.nodes[*master].spawn(async move { group.shutdown().await }),
                };
            }
        }
    }

    fn transfer(&mut self) {
        for master in 0..self.nodes.len() {
            let found = self.nodes[master].up(|up| up.masters.clone());
            if let Some(group) = found {
                // Whoever does not lead refuses.
                self.nodes[master].spawn(async move { drop(group.transfer_leader(None).await) });
            }
        }
    }

    /// Everything that is still there is taken back, and every master and agent runs. Clocks are right again.
    pub(super) fn heal(&mut self) -> anyhow::Result<()> {
        self.healed = true;
        for node in 0..self.agents.len() {
            let agent = &mut self.agents[node];
            let back = -std::mem::replace(&mut agent.wrong, SignedDuration::ZERO);
            if let Some(life) = &mut agent.life {
                life.pause(Duration::ZERO, true);
                life.jump(back);
            } else {
                self.start_agent(node)?;
            }
        }
        self.cuts.clear();
        self.cut_by.clear();
        self.traps.clear();
        self.points.disarm();
        self.weather = Weather::FAIR;
        for master in 0..self.nodes.len() {
            let node = &mut self.nodes[master];
            node.rate_permille = TRUE_RATE;
            node.disk.mend();
            let back = -std::mem::replace(&mut node.wrong, SignedDuration::ZERO);
            if let Some(life) = &mut node.life {
                life.being.jump(back);
                life.being.pause(Duration::ZERO, true);
            }
            // Whoever ended by itself, as one does whose disk failed, is started again.
            let ended = self.nodes[master].up(|up| up.masters.fatal().borrow().is_some());
            let failed = self.nodes[master]
                .life
                .as_ref()
                .is_some_and(|life| matches!(&*slot(&life.slot), node::Start::Failed(_)));
            if ended == Some(true) || failed {
                self.crash(master, false);
            }
            if self.nodes[master].life.is_none() && self.nodes[master].takes_part() {
                self.start(master)?;
            }
        }
        Ok(())
    }
}
