//! Kinds of faults, whom they meet, and what each does over time.
//!
//! What a fault does is a list of [`Phase`]s: from when on which masters are down, paused, cut off.
//! It is computed here, without a clock and without a cluster; `real::nemesis` makes it true.

pub mod machine;
mod phases;
pub mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use machine::{Certificate, Clock, Damage, Disk};
use quorate_points::Point;
use serde::{Deserialize, Serialize};

use super::Span;

/// A kind of fault.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` of the targets, and a restart
    Kill,
    /// `kill -9` of all masters at once, and a restart
    KillAll,
    /// SIGSTOP of the targets, and SIGCONT
    Pause,
    /// Each target is cut off from all others, in both directions
    Isolate,
    /// The targets hear nothing from the others (deaf), or the others nothing from them (mute)
    OneWay,
    /// One link is cut: the two masters at its ends see different majorities
    Link,
    /// The targets are killed and restarted again and again
    RestartLoop,
    /// One master after the other is killed and restarted
    RollingRestart,
    /// The targets on one side, the others on the other, and nothing between
    Partition,
    /// Two halves that see each other only through one master
    Bridge,
    /// Each hears only the one before it
    Ring,
    /// Each sees a majority, and no two see the same (5 masters or more)
    MajoritiesRing,
    /// Links are cut one by one, and healed in another order
    Swizzle,
    /// What passes the targets' links waits
    Delay,
    /// Packets on the targets' links are lost, and sent again by TCP
    Loss,
    /// The targets' links are narrow
    Slow,
    /// Connections of the targets are reset
    Reset,
    /// Connections of the targets stay open, and nothing passes
    HalfOpen,
    /// The targets' disks have no byte left
    DiskFull,
    /// The targets have little of a processor
    Throttle,
    /// The targets' clocks are put forward or back, and then right again
    ClockJump,
    /// The targets' clocks run fast or slow
    ClockDrift,
    /// The targets' clocks jump to and fro
    ClockStrobe,
    /// Syncs of the targets' disks take long
    DiskSlow,
    /// Syncs or writes of the targets' disks fail; who ends by that is started again
    DiskError,
    /// The targets' disks cannot be written; who ends by that is started again
    DiskReadonly,
    /// The targets' disks say that they have synced, and have not
    DiskLies,
    /// The targets lose their power, and what they had not synced in part
    PowerLoss,
    /// The targets end when they come to a certain place, and are started again
    CrashPoint,
    /// A bit of a file of the targets is another when they start again
    BitFlip,
    /// The end of a file of the targets is missing when they start again
    TruncateTail,
    /// The targets' log and vote are gone when they start again
    WipeLog,
    /// Nobody reads the targets' logs
    LogBlocked,
    /// Connections to the targets that say nothing, and stand
    Connections,
    /// Watchers of the targets that do not read what they are sent
    SlowWatchers,
    /// The targets get no more memory; who ends by that is started again
    Memory,
    /// The targets' files are as they were some time ago when they start again
    Rollback,
    /// A master that was not there joins, for good
    Join,
    /// SIGTERM to the targets, which hand over and end, and a restart
    Stop,
    /// The targets run the older program (`--older-binary`), and then this one again
    Downgrade,
    /// The targets, which run the older program, run this one, and then the older one again
    Upgrade,
    /// Clients and watchers do not reach the targets, which hear the other masters
    ClientsCut,
    /// The targets are cut off until the others have forgotten the log that they lack: a snapshot must come
    FallBehind,
    /// Watchers at the targets stop until the history that they lack is forgotten: they must be told so
    ExpiredWatches,
    /// The targets' disks have no room for another file
    DiskInodes,
    /// Clients of the targets that ask for everything, again and again
    ApiFlood,
    /// The targets' serving certificates are no good when they start again
    Certificates,
    /// The targets are killed, and their start takes long
    SlowStart,
    /// The targets come back at another address for the other masters, and go back at the end
    Moved,
    /// Leadership is handed from master to master (`quorate masters transfer-leader`)
    Transfer,
    /// The targets are taken out of the cluster (`quorate masters remove`), lose their files, and join anew at the end
    Replace,
    /// The targets vote no more (`quorate masters demote`), and again at the end (`quorate masters promote`)
    Demote,
    /// The cluster's authorities are changed (`quorate certs rotate-ca`); it ends when the old ones are gone
    RotateCa,
    /// Certificates live for seconds in the whole run; the targets are away until theirs have ended, and others have
    /// been made twice
    ShortLived,
    /// A backup is saved now, and at the end of the run all masters are ended and taken back to it (`quorate backup
    /// restore`)
    Restore,
    /// At the end of the run a majority loses its disks for good while clients write, and a survivor goes on (`quorate
    /// masters recover`)
    QuorumLost,
}

/// What the host must have for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// Links that can be cut.
    Links,
    /// Links that can be slowed and broken: proxies.
    Proxies,
    /// Disks of a limited size.
    Disks,
    /// A way to take processor time away.
    Processor,
    /// A way to take memory away.
    Memory,
    /// A library between masters and libc.
    Shim,
    /// A program with crash points in its code.
    Points,
    /// An older program.
    Older,
}

/// Whom a fault meets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Who leads when the fault begins.
    Leader,
    /// One who does not lead then.
    Follower,
    /// One by chance.
    Any,
    /// Everybody.
    All,
    /// As many as a cluster can lose, by chance.
    Minority,
    /// As few as it cannot lose, by chance.
    Majority,
    /// The master of this number, from 0: `m1` is 0.
    Master(usize),
    /// The node agent of this number, from 0: `n1` is 0.
    Agent(usize),
}

/// Of [`Fault::OneWay`] and [`Fault::ClockDrift`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The targets hear nothing.
    Deaf,
    /// The others hear nothing from them.
    Mute,
    /// The clock runs fast.
    Fast,
    /// The clock runs slow.
    Slow,
}

/// What is wrong on a link, beside cuts. It holds for what goes from one master to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toxic {
    /// Wait, and at most this much more.
    Delay(Span, Span),
    /// Percent of the packets.
    Loss(u8),
    /// KiB each second.
    Slow(u32),
    /// Connections are reset, each time the number changes.
    Reset(u32),
    /// Nothing passes, nothing is closed.
    HalfOpen,
}

/// A direction of a link: who sends, who hears.
pub type Link = (usize, usize);

/// What is wrong at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Processes that do not run.
    pub down: BTreeSet<usize>,
    /// Processes that are stopped.
    pub paused: BTreeSet<usize>,
    /// Links over which nothing passes.
    pub cuts: BTreeSet<Link>,
    /// What is wrong with links.
    pub toxics: BTreeMap<Link, Toxic>,
    /// Disks without space.
    pub full: BTreeSet<usize>,
    /// Disks without room for another file.
    pub inodeless: BTreeSet<usize>,
    /// Whom clients do not reach.
    pub unreached: BTreeSet<usize>,
    /// Who is to lack what the others have forgotten of the log.
    pub behind: BTreeSet<usize>,
    /// Whose watchers are to lack what is forgotten of the history.
    pub asleep: BTreeSet<usize>,
    /// Clients that ask for everything.
    pub besieged: BTreeMap<usize, u32>,
    /// Certificates that are no good at the next start.
    pub certificates: BTreeMap<usize, Certificate>,
    /// Who is at another address for the other masters.
    pub moved: BTreeSet<usize>,
    /// Who is to lead, with the number of the transfer.
    pub leads: Option<(usize, u64)>,
    /// Who is taken out of the cluster.
    pub replaced: BTreeSet<usize>,
    /// Who is a standby.
    pub demoted: BTreeSet<usize>,
    /// The authorities are changed.
    pub rotated: bool,
    /// Who is away until its certificate has ended.
    pub outlived: BTreeSet<usize>,
    /// A backup is saved.
    pub saved: bool,
    /// Percent of a processor that masters have.
    pub throttled: BTreeMap<usize, u8>,
    /// Clocks that are wrong.
    pub clocks: BTreeMap<usize, Clock>,
    /// Disks that go wrong.
    pub disks: BTreeMap<usize, Disk>,
    /// Who ends at which point of its code, when it passes it for which time.
    pub points: BTreeMap<usize, (Point, u32)>,
    /// Those of `down` that lost their power; the number chooses what of the unsynced is left.
    pub dark: BTreeMap<usize, u64>,
    /// Those of `down` that were asked to end.
    pub asked: BTreeSet<usize>,
    /// Files that are damaged.
    pub damaged: BTreeMap<usize, Damage>,
    /// Whose logs nobody reads.
    pub unread: BTreeSet<usize>,
    /// Connections that say nothing.
    pub flooded: BTreeMap<usize, u32>,
    /// Watchers that do not read.
    pub watched: BTreeMap<usize, u32>,
    /// MiB that masters get beside what they have.
    pub starved: BTreeMap<usize, u32>,
    /// Who runs the older program (true) or the newer one, where that is not as it was at the start.
    pub older: BTreeMap<usize, bool>,
}

impl Effect {
    /// What is wrong when both are.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.down.extend(&other.down);
        self.paused.extend(&other.paused);
        self.cuts.extend(&other.cuts);
        self.toxics.extend(&other.toxics);
        self.full.extend(&other.full);
        self.inodeless.extend(&other.inodeless);
        self.unreached.extend(&other.unreached);
        self.behind.extend(&other.behind);
        self.asleep.extend(&other.asleep);
        self.besieged.extend(&other.besieged);
        self.certificates.extend(&other.certificates);
        self.moved.extend(&other.moved);
        self.leads = self.leads.or(other.leads);
        self.replaced.extend(&other.replaced);
        self.demoted.extend(&other.demoted);
        self.rotated |= other.rotated;
        self.outlived.extend(&other.outlived);
        self.saved |= other.saved;
        self.throttled.extend(&other.throttled);
        self.clocks.extend(&other.clocks);
        self.disks.extend(&other.disks);
        self.points.extend(&other.points);
        self.dark.extend(&other.dark);
        self.asked.extend(&other.asked);
        self.damaged.extend(&other.damaged);
        self.unread.extend(&other.unread);
        self.flooded.extend(&other.flooded);
        self.watched.extend(&other.watched);
        self.starved.extend(&other.starved);
        self.older.extend(&other.older);
        self
    }

    /// Whether anything is wrong with a master, its links or its clients.
    #[must_use]
    pub fn disturbs(&self, master: usize) -> bool {
        let sets =
            [&self.down, &self.paused, &self.full, &self.inodeless, &self.unreached, &self.moved];
        let links = self.cuts.iter().chain(self.toxics.keys());
        sets.iter().any(|set| set.contains(&master))
            || links.into_iter().any(|(from, to)| *from == master || *to == master)
            || self.asleep.contains(&master)
            || self.throttled.contains_key(&master)
            || self.clocks.contains_key(&master)
            || self.disks.contains_key(&master)
            || self.points.contains_key(&master)
            || self.damaged.contains_key(&master)
            || self.starved.contains_key(&master)
            || self.besieged.contains_key(&master)
            || self.certificates.contains_key(&master)
    }

    /// Whether a majority of `count` masters runs, every two of it hear each other undisturbed, and clients reach one.
    #[must_use]
    pub fn leaves_majority(&self, count: usize) -> bool {
        let fit: Vec<usize> = (0..count)
            .filter(|master| {
                let sick = [&self.down, &self.paused, &self.full, &self.inodeless, &self.moved];
                // Who does not vote helps nobody; that fewer are enough then is left aside.
                let sick = sick.into_iter().chain([&self.demoted]).collect::<Vec<_>>();
                !sick.iter().any(|set| set.contains(master))
                    && !self.throttled.contains_key(master)
                    && !self.clocks.contains_key(master)
                    && !self.disks.contains_key(master)
                    && !self.points.contains_key(master)
                    && !self.damaged.contains_key(master)
                    && !self.starved.contains_key(master)
            })
            .collect();
        let bad = |a: usize, b: usize| {
            let disturbed = |link| self.cuts.contains(&link) || self.toxics.contains_key(&link);
            disturbed((a, b)) || disturbed((b, a))
        };
        // At most 9 masters: every subset can be looked at.
        (0_u32..1 << fit.len()).any(|subset| {
            let chosen: Vec<usize> = fit
                .iter()
                .enumerate()
                .filter(|(bit, _)| subset >> bit & 1 == 1)
                .map(|(_, master)| *master)
                .collect();
            chosen.len() > count / 2
                && chosen.iter().any(|master| !self.unreached.contains(master))
                && chosen.iter().all(|a| chosen.iter().all(|b| a == b || !bad(*a, *b)))
        })
    }
}

/// From when on what is wrong; until the next phase, or the end of the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// After the fault's beginning.
    pub after: Span,
    /// What is wrong from then on.
    pub effect: Effect,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use clap::ValueEnum as _;
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}

impl fmt::Display for Toxic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(delay, jitter) => write!(f, "{delay} later, and up to {jitter} more"),
            Self::Loss(percent) => write!(f, "{percent} % of the packets lost"),
            Self::Slow(kib) => write!(f, "{kib} KiB/s"),
            Self::Reset(_) => f.write_str("connections reset"),
            Self::HalfOpen => f.write_str("connections half open"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Any => "any",
            Self::All => "all",
            Self::Minority => "minority",
            Self::Majority => "majority",
            Self::Master(index) => return write!(f, "m{}", index + 1),
            Self::Agent(index) => return write!(f, "n{}", index + 1),
        })
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fault {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        clap::ValueEnum::value_variants()
    }

    /// What the host must have.
    #[must_use]
    pub fn need(self) -> Need {
        match self {
            Self::Kill
            | Self::KillAll
            | Self::Pause
            | Self::RestartLoop
            | Self::RollingRestart
            | Self::BitFlip
            | Self::TruncateTail
            | Self::WipeLog
            | Self::LogBlocked
            | Self::Connections
            | Self::SlowWatchers
            | Self::Rollback
            | Self::Join
            | Self::ExpiredWatches
            | Self::ApiFlood
            | Self::Certificates
            | Self::Moved
            | Self::Transfer
            | Self::Replace
            | Self::Demote
            | Self::RotateCa
            | Self::ShortLived
            | Self::Restore
            | Self::QuorumLost
            | Self::Stop => Need::Nothing,
            Self::Memory => Need::Memory,
            Self::Downgrade | Self::Upgrade => Need::Older,
            Self::Isolate
            | Self::OneWay
            | Self::Link
            | Self::Partition
            | Self::Bridge
            | Self::Ring
            | Self::MajoritiesRing
            | Self::ClientsCut
            | Self::FallBehind
            | Self::Swizzle => Need::Links,
            Self::Delay | Self::Loss | Self::Slow | Self::Reset | Self::HalfOpen => Need::Proxies,
            Self::DiskFull | Self::DiskInodes => Need::Disks,
            Self::Throttle => Need::Processor,
            Self::ClockJump
            | Self::ClockDrift
            | Self::ClockStrobe
            | Self::DiskSlow
            | Self::DiskError
            | Self::DiskReadonly
            | Self::DiskLies
            | Self::CrashPoint
            | Self::SlowStart
            | Self::PowerLoss => Need::Shim,
        }
    }

    /// Fewest masters with which it means something.
    #[must_use]
    pub fn masters_min(self) -> usize {
        match self.need() {
            Need::Nothing if matches!(self, Self::Replace | Self::Demote | Self::QuorumLost) => 3,
            Need::Nothing
                if matches!(
                    self,
                    Self::Transfer
                        | Self::Join
                        | Self::Rollback
                        | Self::ExpiredWatches
                        | Self::Moved
                ) =>
            {
                2
            }
            Need::Nothing
            | Need::Disks
            | Need::Processor
            | Need::Memory
            | Need::Shim
            | Need::Points
            | Need::Older => 1,
            Need::Links if self == Self::MajoritiesRing => 5,
            Need::Links if matches!(self, Self::Bridge | Self::Ring | Self::FallBehind) => 3,
            Need::Links if self == Self::ClientsCut => 1,
            Need::Links | Need::Proxies => 2,
        }
    }

    /// Whether somebody is to be named whom it meets.
    #[must_use]
    pub fn has_target(self) -> bool {
        let meets_all = [Self::KillAll, Self::Bridge, Self::Ring, Self::MajoritiesRing];
        !meets_all.contains(&self)
            && !matches!(
                self,
                Self::RollingRestart | Self::Swizzle | Self::Transfer | Self::RotateCa
            )
            && !self.ends_run()
    }

    /// Whether it ends as soon as what it is for has come about, and did not happen when that has not.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::FallBehind | Self::ExpiredWatches | Self::RotateCa | Self::ShortLived)
    }

    /// Whether it takes the whole cluster back, when all else is over: one scenario has one of these at most.
    #[must_use]
    pub fn ends_run(self) -> bool {
        matches!(self, Self::Restore | Self::QuorumLost)
    }

    /// Whether it can meet a node agent.
    #[must_use]
    pub fn meets_agents(self) -> bool {
        matches!(
            self,
            Self::Kill | Self::Pause | Self::RestartLoop | Self::Isolate | Self::ShortLived
        )
    }

    /// Names of the fields that it takes beside `at`, `for`, `target`, `required`.
    #[must_use]
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Delay => &["delay", "jitter"],
            Self::Loss | Self::Throttle => &["percent"],
            Self::Slow => &["kib_per_second"],
            Self::RestartLoop | Self::RollingRestart | Self::Reset | Self::Transfer => &["every"],
            Self::OneWay => &["direction"],
            Self::ClockJump => &["by"],
            Self::ClockStrobe => &["by", "every"],
            Self::ClockDrift => &["percent", "direction", "monotonic"],
            Self::DiskSlow | Self::SlowStart => &["delay"],
            Self::DiskError => &["on", "error", "times"],
            Self::PowerLoss => &["every"],
            Self::CrashPoint => &["point", "times"],
            Self::Connections | Self::SlowWatchers | Self::ApiFlood => &["times"],
            Self::Memory => &["mib"],
            Self::BitFlip | Self::TruncateTail => &["file"],
            Self::Certificates => &["certificate"],
            Self::ShortLived => &["away"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests;
