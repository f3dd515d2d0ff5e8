//! The disks of a majority of the masters are lost for good, and what the best of the survivors has goes on as a new
//! cluster, which the others join: with the code of `quorate masters recover`.
//!
//! Acknowledged writes may be lost, as is meant; but no other than those that the survivor did not know to be decided:
//! up to there it must have the state that everybody had.

use std::io;

use bytes::Bytes;
use quorate_raft::offline::Survivor;
use quorate_raft::{LogEntry, RestoreError, SnapshotWriter, StateMachine, Term};
use quorate_state_machine::{LogIndex, Machine};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::disaster::{Anew, at_once};
use super::faults::remove;
use super::world::World;

/// What is read of a survivor, as `quorate masters recover` reads it.
#[derive(Default)]
struct Replay {
    machine: Machine,
    /// Index, revision and hash after each entry.
    states: Vec<(u64, u64, u128)>,
    failed: Option<String>,
}

impl StateMachine for Replay {
    fn apply(&mut self, batch: Vec<LogEntry>) -> Vec<Bytes> {
        for entry in batch {
            if self.failed.is_none() {
                let applied = self.machine.apply(LogIndex(entry.index.0), entry.payload.as_deref());
                self.failed = applied.err().map(|error| error.to_string());
                let view = self.machine.view();
                self.states.push((view.index().0, view.revision().0, view.hash()));
            }
        }
        Vec::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let machine = self.machine.clone();
        Box::new(move |out| machine.write_snapshot(out))
    }

    fn restore(&mut self, input: &mut dyn io::Read) -> Result<(), RestoreError> {
        self.machine = Machine::read_snapshot(input)?;
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.machine.view().weight()
    }
}

impl World {
    /// A majority is lost, and the best survivor goes on alone; whether anybody was there who can.
    pub(super) fn loses_quorum(&mut self) -> anyhow::Result<bool> {
        if !self.agents.is_empty() {
            return Ok(false);
        }
        let whole = self.nodes.iter().enumerate().filter(|(_, node)| {
            node.takes_part() && node.has_lived && !node.hurt && node.leaving.is_none()
        });
        let mut whole: Vec<usize> = whole.map(|(master, _)| master).collect();
        whole.shuffle(&mut self.random);
        let minority = (self.nodes.len() - 1) / 2;
        whole.truncate(self.random.random_range(1..=minority.max(1)));
        for master in 0..self.nodes.len() {
            let power = self.chance(500);
            self.crash(master, power);
        }
        let mut best: Option<((Term, quorate_raft::LogIndex), usize, Survivor)> = None;
        for master in whole {
            match self.survivor(master)? {
                // One that had only just joined has nothing.
                Ok(found) if found.standing().members.is_empty() => {}
                Ok(found) => {
                    let rank = (found.standing().last_term, found.standing().last);
                    let is_better = best.as_ref().is_none_or(|(known, ..)| *known < rank);
                    if is_better {
                        best = Some((rank, master, found));
                    }
                }
                Err(error) => {
                    let text = format!("what m{} has cannot be read: {error}", master + 1);
                    self.broken.push(("recover", text));
                }
            }
        }
        let Some((_, founder, survivor)) = best else {
            for master in 0..self.nodes.len() {
                self.starts_soon(master);
            }
            return Ok(false);
        };
        let standing = survivor.standing().clone();
        let mut replay = Replay::default();
        survivor.replay(&mut replay)?;
        drop(survivor);
        let known = standing.committed.0;
        for (index, revision, hash) in std::mem::take(&mut replay.states) {
            if index <= known && self.states.contains_key(&index) {
                self.applied(founder, index, (revision, hash));
            }
        }
        let at = replay.machine.view().index().0;
        let failed = replay.failed.take().unwrap_or_default();
        if at < standing.last.0 || !failed.is_empty() {
            let text = format!(
                "m{} has entries up to {}, and what was made of them ends with {at} {failed}",
                founder + 1,
                standing.last
            );
            self.broken.push(("recover", text));
        }
        let (index, term) = (standing.last.0, standing.term.0);
        let what = format!("what it had up to entry {index}, of which {known} were decided");
        self.begins_anew(Anew { founder, machine: replay.machine, index, term, what })?;
        Ok(true)
    }

    /// What a master that does not run has.
    fn survivor(
        &mut self,
        master: usize,
    ) -> anyhow::Result<Result<Survivor, quorate_raft::StartError>> {
        let node = &self.nodes[master];
        let directory = self.directory.join(&node.member.name);
        let scratch = directory.with_extension("survivor");
        remove(&scratch)?;
        let disk = node.disk.copy();
        let cluster = node.cluster().to_owned();
        let found =
            at_once(Survivor::open_on(&directory, (&cluster, node.id), &scratch, |path| {
                disk.open_in(path)
            }))?;
        remove(&scratch)?;
        Ok(found)
    }
}
