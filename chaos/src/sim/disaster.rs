//! The disks of all masters are lost, and a backup that was taken before goes on as a new cluster, which the others
//! join: with the code that `quorate backup restore` has.
//!
//! What was written after the backup is lost, as is meant; what came before the disaster is judged then, and what comes
//! after it is judged by itself. Revisions go on after all that anybody ever saw, and who watches is told that the past
//! is gone.

use std::time::Duration;

use anyhow::Context as _;
use quorate_raft::offline::{Seed, seed_on};
use quorate_raft::{LogIndex, Term};
use quorate_state_machine::{Key, Leap, Machine, Revision};
use quorate_store::{Consistency, Masters, Store};
use rand::RngExt as _;

use super::client;
use super::host::Sent;
use super::judge;
use super::plan::Kind;
use super::world::{Event, World, tick_of};
use crate::check::watch::{self, Watcher};
use crate::history::{Operation, Outcome};
use crate::model::{RegisterInput, RegisterOutput};

/// When simulations are, for those who count from 1970.
const EPOCH_MILLISECONDS: u64 = 1_800_000_000_000;

/// A state of the cluster, as `quorate backup save` takes it.
#[derive(Debug, Clone)]
pub(super) struct Backup {
    bytes: Vec<u8>,
    index: u64,
    term: u64,
}

/// From one disaster to the next.
#[derive(Debug, Default)]
pub(super) struct Era {
    /// The newest.
    backup: Option<Backup>,
    /// The number of the disaster: what was asked before it reaches nobody.
    pub(super) began: u64,
    /// Operations that had an answer before it.
    pub(super) answered_before: usize,
    /// The highest revision that anybody had seen then.
    highest: u64,
}

/// With what a cluster begins after a disaster.
#[derive(Debug)]
pub(super) struct Anew {
    /// The master that begins it.
    pub(super) founder: usize,
    /// The state.
    pub(super) machine: Machine,
    /// The entry that the state is of.
    pub(super) index: u64,
    /// The highest term that is known of.
    pub(super) term: u64,
    /// Where that is from, for the trace.
    pub(super) what: String,
}

/// Does something outside of the world: time passes for nobody meanwhile.
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(work))
}

impl Backup {
    /// What it is, for the trace.
    pub(super) fn told(&self) -> String {
        format!("entry {}, term {}, {} bytes", self.index, self.term, self.bytes.len())
    }
}

/// In the master: takes one.
async fn take(store: Store, masters: Masters) -> Option<Backup> {
    let view = store.read(Consistency::Linearizable).await.ok()?;
    let mut bytes = Vec::new();
    Machine::without_past(&view).write_snapshot(&mut bytes).ok()?;
    Some(Backup { bytes, index: view.index().0, term: masters.status().term.0 })
}

impl World {
    /// Any master takes a backup, when there will be a disaster.
    pub(super) fn backs_up(&mut self) {
        if !self.plan.iter().any(|step| step.fault == Kind::Restore) || !self.agents.is_empty() {
            return;
        }
        let from = self.random.random_range(0..self.nodes.len());
        let up = self.nodes[from].up(|up| (up.store.clone(), up.masters.clone()));
        let Some((store, masters)) = up else { return };
        let (outbox, era) = (self.outbox.clone(), self.era.began);
        self.nodes[from].spawn(async move {
            if let Some(backup) = take(store, masters).await {
                outbox.send(Sent::BackedUp { from, era, backup: Box::new(backup) });
            }
        });
    }

    /// The newest is kept.
    pub(super) fn backed_up(&mut self, era: u64, backup: Backup) {
        let newer = self.era.backup.as_ref().is_none_or(|known| known.index < backup.index);
        if newer && era == self.era.began {
            self.era.backup = Some(backup);
        }
    }

    /// All is lost, and goes on from the newest backup; whether there was one.
    pub(super) fn disaster(&mut self) -> anyhow::Result<bool> {
        let Some(backup) = self.era.backup.clone() else { return Ok(false) };
        let founder = self.random.random_range(0..self.nodes.len());
        let machine = Machine::read_snapshot(&mut backup.bytes.as_slice())?;
        let what = backup.told();
        self.begins_anew(Anew { founder, machine, index: backup.index, term: backup.term, what })?;
        Ok(true)
    }

    /// One master begins a cluster with a state that is of an entry and a term, and the others join it.
    pub(super) fn begins_anew(&mut self, anew: Anew) -> anyhow::Result<()> {
        let Anew { founder, machine: old, index, term, what } = anew;
        self.end_of_era()?;
        for master in 0..self.nodes.len() {
            let node = &mut self.nodes[master];
            (node.hurt, node.lost, node.leaving, node.demoted) = (false, false, None, None);
            let is_member = node.is_member();
            let away = Duration::from_millis(self.random.random_range(0..5000));
            if is_member {
                self.loses_disk(master, away)?;
            } else {
                // Whoever was to join asks anew, and those who had been refused, too.
                self.later(away, Event::Joins { joiner: master });
            }
        }
        let at = u64::try_from(self.now.as_millis())?;
        let at = EPOCH_MILLISECONDS.saturating_add(at);
        let index = Leap::beyond(index, at);
        let from = old.view().revision().0;
        let revisions = Leap::beyond(from, at) - from;
        let leap = Leap { index: quorate_state_machine::LogIndex(index), revisions };
        let machine = old.leapt(leap, [client::resource()])?;
        self.common.cluster = format!("anew-{}", self.era.began);
        self.begins_with(&machine)?;

        let node = &self.nodes[founder];
        let directory = self.directory.join(&node.member.name);
        let plan = Seed {
            data_dir: &directory,
            cluster_id: &self.common.cluster,
            member: node.member.clone(),
            index: LogIndex(index),
            term: Term(term + 1),
            state_bytes: machine.view().weight(),
        };
        let disk = node.disk.clone();
        let state = machine.clone();
        let seeding = seed_on(&plan, Box::new(move |out| state.write_snapshot(out)), |path| {
            disk.open_in(path)
        });
        let id = at_once(seeding)?.context("a directory for the new cluster")?;
        self.note(format_args!("m{} begins anew as {id}, of {what}", founder + 1));
        if !self.numbers.insert(id) {
            self.broken.push(("membership", format!("{id} was given before the disaster")));
        }
        self.nodes[founder].admit(id, &self.common)?;
        self.start(founder)
    }

    /// What was promised until now is judged; nobody hears any more of what was under way.
    fn end_of_era(&mut self) -> anyhow::Result<()> {
        for operation in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.tells(operation, None);
        }
        let found = judge::until_now(self);
        self.broken.extend(found);
        self.era.answered_before = self.answered();
        self.era.highest = self.era.highest.max(self.seen_revision());
        self.history.clear();
        self.acknowledged.clear();
        self.leaders.clear();
        self.joining.clear();
        self.votes.iter_mut().for_each(|votes| *votes = Default::default());
        self.era.began = self.next_number();
        Ok(())
    }

    /// The highest revision that anybody outside was told of.
    fn seen_revision(&self) -> u64 {
        let written = self.acknowledged.iter().map(|(revision, _)| *revision);
        let watched = self.watchers.iter().map(|watcher| watcher.at());
        let known = self.clients.iter().flat_map(|client| client.known.values().map(|one| one.1));
        written.chain(watched).chain(known).max().unwrap_or_default()
    }

    /// What is there when the new cluster begins.
    fn begins_with(&mut self, machine: &Machine) -> anyhow::Result<()> {
        let Revision(revision) = machine.view().revision();
        if revision <= self.era.highest {
            let text = format!(
                "the new cluster begins with revision {revision}, and {} was seen before it",
                self.era.highest
            );
            self.broken.push(("revisions", text));
        }
        let objects = machine.view().resource(&client::resource());
        let objects = objects.into_iter().flat_map(|objects| objects.range("", None));
        let at = tick_of(self.now);
        let mut there = Vec::new();
        for object in objects.filter(|object| client::is_ours(&object.key)) {
            let Key { object: key, .. } = &object.key;
            let number = (0..self.keys).find(|number| *client::name(*number) == *key.name);
            let (Some(number), Some(value)) = (number, client::value(object)) else { continue };
            there.push((number, value));
            self.callers += 1;
            let outcome = Outcome::Done { at, output: RegisterOutput::Written };
            let input = RegisterInput::Create(value);
            let made = Operation { client: self.callers, called: at, input, outcome };
            self.history.push((number, made));
            let (key, kind) = (client::name(number), watch::Kind::Added);
            let change = watch::Change { key, kind, digest: value };
            self.acknowledged.push((object.revision.0, change));
        }
        for client in &mut self.clients {
            // Whoever knows the value that is there knows it with a revision that is no more, which is refused. Of
            // values that are lost that is as it should be.
            client.known.retain(|number, (value, _)| !there.contains(&(*number, *value)));
        }
        for watcher in 0..self.watchers.len() {
            let follower = &mut self.watchers[watcher];
            follower.stale = Some(follower.at());
            let name = follower.told.name.clone();
            follower.told = Watcher { name, from: revision, ..Watcher::default() };
            self.moves(watcher);
        }
        Ok(())
    }

    /// A watch of the past has ended, as it must; the watcher lists, and goes on from there.
    pub(super) fn past_is_gone(&mut self, watcher: usize) {
        self.watchers[watcher].stale = None;
        let pause = self.pause();
        let number = self.watchers[watcher].number;
        self.later(pause, Event::Follows { watcher, number });
    }
}
