//! Which faults come when: drawn from a seed before anything runs, so that a run can be had again with fewer.

use std::time::Duration;

use quorate_points::Point;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::limits::SIM_MASTERS_MAX;

/// What can go wrong in the simulated world.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A process ends; what it wrote is there when it starts again.
    Kill,
    /// All processes end at once.
    KillAll,
    /// Some machines lose power: of what was not synced, any beginning is left.
    PowerLoss,
    /// All machines lose power at once.
    PowerLossAll,
    /// A master stops as with SIGTERM, and is started again.
    Restart,
    /// A process hangs; its clock goes on meanwhile.
    Pause,
    /// A machine hangs with its clock.
    Freeze,
    /// Two sides hear nothing of each other.
    Partition,
    /// One side hears nothing of the other.
    OneWay,
    /// Two halves that hear each other only through one in the middle.
    Bridge,
    /// Each hears only the one before it.
    Ring,
    /// Each sees a majority, no two the same.
    MajoritiesRing,
    /// Messages are late, lost, out of order, or come twice.
    Network,
    /// Syncs take long.
    SlowDisk,
    /// A sync fails; the process ends and is started again.
    FailedSync,
    /// A disk is full for a while.
    FullDisk,
    /// A master's clock goes too fast or too slow.
    Drift,
    /// The leader hands leadership over.
    Transfer,
    /// A machine loses power in the moment after it has given its vote to another.
    LossAfterVote,
    /// The leader, through which alone two halves hear each other, loses power, comes back, and loses it again in the
    /// moment after it has given its vote: whoever forgets a vote elects two.
    SplitVote,
    /// A machine loses power in the moment after it has acknowledged entries of the leader.
    LossAfterAppend,
    /// A bit in the log of a master is not what it was; of one master only in a run, of five or more.
    BitFlip,
    /// A master's disk is replaced by an empty one, and the master asks to be let in again, which it must not be
    /// under the number that it had; once in a run of five masters or more.
    Wipe,
    /// A copy of a master's disk is put back in its place later: the master must find that out, and end for good.
    /// Once in a run of five masters or more.
    RollBack,
    /// Masters end in the moment in which they pass a named point of the code, whenever that is; some lose power.
    CrashPoint,
    /// Another master joins, while there are fewer than five.
    Join,
    /// A master is taken out by its operator, learns that, and joins anew with an empty disk.
    Replace,
    /// The same, and it stays away for a while: five become four, or three.
    Leave,
    /// A master is made a standby by its operator, and then a voter again, at times in the place of another.
    Demote,
    /// The disks of all masters are lost, and the newest backup goes on as a new cluster.
    Restore,
    /// The disks of a majority of the masters are lost, and what the best survivor has goes on as a new cluster.
    Recover,
    /// Somebody sets the wall clocks of machines, forwards or back; they stay so.
    ClockJump,
    /// Agents end; what they run goes on, and is there when they start again.
    AgentKill,
    /// The machines of nodes lose power: what runs on them ends.
    NodeLoss,
    /// Agents hang.
    AgentPause,
    /// Nodes hear nothing of some masters, nor these of them.
    NodePartition,
}

impl Kind {
    /// Whether it needs nodes.
    #[must_use]
    pub fn is_of_nodes(self) -> bool {
        matches!(self, Self::AgentKill | Self::NodeLoss | Self::AgentPause | Self::NodePartition)
    }

    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        <Self as clap::ValueEnum>::value_variants()
    }

    /// Its name, as flags and reports have it.
    #[must_use]
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Simulated milliseconds after the cluster is up.
    pub at_ms: u64,
    /// Milliseconds until it is taken back; for one that ends a process, until that starts again.
    pub lasts_ms: u64,
    /// What.
    pub fault: Kind,
    /// Whom it hits, 0 is the first.
    pub masters: Vec<usize>,
    /// Which nodes it hits, 0 is the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<usize>,
    /// How bad: milliseconds of a late message or a slow sync, thousandths of a clock's rate, free bytes; which
    /// point of all, after how many passes, and whether power is lost; seconds that a clock is set forwards, or,
    /// above [`BACK`], back.
    #[serde(default)]
    pub much: u64,
}

/// All faults of a run, by their time.
pub type Plan = Vec<Step>;

/// Before a master ends at a point it passes that less often than this.
pub const CRASH_PASSES: u64 = 4;

/// A clock is set back by what is above this.
pub const BACK: u64 = 1 << 32;

/// Draws so many faults of these kinds for so many masters and nodes.
#[must_use]
pub fn draw(seed: u64, (masters, nodes): (usize, usize), count: usize, kinds: &[Kind]) -> Plan {
    let kinds: Vec<Kind> =
        kinds.iter().copied().filter(|kind| nodes > 0 || !kind.is_of_nodes()).collect();
    let joins = masters < SIM_MASTERS_MAX && kinds.contains(&Kind::Join);
    let masters = if joins { SIM_MASTERS_MAX } else { masters };
    let mut random = StdRng::seed_from_u64(seed ^ 0x7055_1b1e_fa17);
    let mut plan = Vec::with_capacity(count);
    let (mut at, mut over) = (0, 0);
    while plan.len() < count {
        let Some(fault) = kinds.choose(&mut random).copied() else { break };
        // Some begin while others last.
        let gap = random.random_range(200..4000);
        at = if random.random_range(0..3) == 0 { at + gap / 2 } else { over.max(at) + gap };
        // A few last longer than anybody waits.
        let lasts_ms = match random.random_range(0..16) {
            0 => random.random_range(6000..45_000),
            _ => random.random_range(50..6000),
        };
        over = over.max(at + lasts_ms);
        let mut some: Vec<usize> = (0..masters).collect();
        some.shuffle(&mut random);
        let hit = match fault {
            Kind::KillAll
            | Kind::PowerLossAll
            | Kind::Ring
            | Kind::MajoritiesRing
            | Kind::Network => masters,
            Kind::LossAfterVote | Kind::LossAfterAppend | Kind::CrashPoint => {
                random.random_range(1..=masters)
            }
            Kind::PowerLoss | Kind::Partition | Kind::OneWay => random.random_range(1..=masters),
            Kind::ClockJump | Kind::NodePartition => random.random_range(1..=masters),
            Kind::AgentKill | Kind::NodeLoss | Kind::AgentPause | Kind::Join => 0,
            Kind::Kill | Kind::Pause | Kind::Freeze if random.random_range(0..4) == 0 => {
                random.random_range(1..=masters)
            }
            _ => 1,
        };
        some.truncate(hit);
        let much = match fault {
            Kind::Network => random.random_range(5..800),
            Kind::SlowDisk => random.random_range(20..3000),
            Kind::Drift => random.random_range(500..1500),
            Kind::CrashPoint => {
                let points = u64::try_from(Point::ALL.len()).unwrap_or(1);
                random.random_range(0..points * CRASH_PASSES * 2)
            }
            // From none to what is still enough to delete.
            Kind::FullDisk => random.random_range(0..5) * (16 << 20),
            // From a little to a day and more.
            Kind::ClockJump => {
                let back = if random.random_range(0..2) == 0 { BACK } else { 0 };
                let digits = random.random_range(0..6);
                back + random.random_range(1..10) * 10u64.pow(digits)
            }
            _ => 0,
        };
        let mut hit: Vec<usize> = match fault {
            _ if fault.is_of_nodes() || fault == Kind::ClockJump => (0..nodes).collect(),
            _ => Vec::new(),
        };
        hit.shuffle(&mut random);
        hit.truncate(if nodes > 0 { random.random_range(1..=nodes) } else { 0 });
        plan.push(Step { at_ms: at, lasts_ms, fault, masters: some, nodes: hit, much });
    }
    plan
}

/// When the last fault is over.
#[must_use]
pub fn over(plan: &[Step]) -> Duration {
    let last = plan.iter().map(|step| step.at_ms + step.lasts_ms).max();
    Duration::from_millis(last.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan_with_every_kind() {
        let plan = draw(7, (5, 3), 500, Kind::all());
        assert_eq!(plan, draw(7, (5, 3), 500, Kind::all()));
        assert_ne!(plan, draw(8, (5, 3), 500, Kind::all()));
        for kind in Kind::all() {
            assert!(plan.iter().any(|step| step.fault == *kind), "{kind:?}");
        }
        assert!(plan.is_sorted_by_key(|step| step.at_ms));
        let overlap = plan.windows(2).filter(|two| two[0].at_ms + two[0].lasts_ms > two[1].at_ms);
        assert!(overlap.count() > 50);
        assert!(plan.iter().all(|step| step.masters.iter().all(|master| *master < 5)));
    }
}
