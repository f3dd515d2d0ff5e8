//! Kinds of faults, whom they meet, and what each does over time.
//!
//! What a fault does is a list of [`Phase`]s: from when on which masters are down, paused, cut off.
//! It is computed here, without a clock and without a cluster; `real::nemesis` makes it true.

pub mod machine;
pub mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use machine::{Clock, Damage, Disk, Harm, HarmedFile};
use quorate_points::Point;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::{Parameters, Span};
use crate::limits::{CONNECTIONS_MAX, MEMORY_MIB, POWER_OFF, SLOW_WATCHERS_MAX};

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

    /// Whether a majority of `count` masters runs and every two of it hear each other undisturbed.
    #[must_use]
    pub fn leaves_majority(&self, count: usize) -> bool {
        let fit: Vec<usize> = (0..count)
            .filter(|master| {
                let sick = [&self.down, &self.paused, &self.full];
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
            | Self::Swizzle => Need::Links,
            Self::Delay | Self::Loss | Self::Slow | Self::Reset | Self::HalfOpen => Need::Proxies,
            Self::DiskFull => Need::Disks,
            Self::Throttle => Need::Processor,
            Self::ClockJump
            | Self::ClockDrift
            | Self::ClockStrobe
            | Self::DiskSlow
            | Self::DiskError
            | Self::DiskReadonly
            | Self::DiskLies
            | Self::CrashPoint
            | Self::PowerLoss => Need::Shim,
        }
    }

    /// Fewest masters with which it means something.
    #[must_use]
    pub fn masters_min(self) -> usize {
        match self.need() {
            Need::Nothing if matches!(self, Self::Join | Self::Rollback) => 2,
            Need::Nothing
            | Need::Disks
            | Need::Processor
            | Need::Memory
            | Need::Shim
            | Need::Points
            | Need::Older => 1,
            Need::Links if self == Self::MajoritiesRing => 5,
            Need::Links if matches!(self, Self::Bridge | Self::Ring) => 3,
            Need::Links | Need::Proxies => 2,
        }
    }

    /// Whether somebody is to be named whom it meets.
    #[must_use]
    pub fn has_target(self) -> bool {
        let meets_all = [Self::KillAll, Self::Bridge, Self::Ring, Self::MajoritiesRing];
        !meets_all.contains(&self) && !matches!(self, Self::RollingRestart | Self::Swizzle)
    }

    /// Whether it can meet a node agent.
    #[must_use]
    pub fn meets_agents(self) -> bool {
        matches!(self, Self::Kill | Self::Pause | Self::RestartLoop | Self::Isolate)
    }

    /// Names of the fields that it takes beside `at`, `for`, `target`, `required`.
    #[must_use]
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Delay => &["delay", "jitter"],
            Self::Loss | Self::Throttle => &["percent"],
            Self::Slow => &["kib_per_second"],
            Self::RestartLoop | Self::RollingRestart | Self::Reset => &["every"],
            Self::OneWay => &["direction"],
            Self::ClockJump => &["by"],
            Self::ClockStrobe => &["by", "every"],
            Self::ClockDrift => &["percent", "direction", "monotonic"],
            Self::DiskSlow => &["delay"],
            Self::DiskError => &["on", "error", "times"],
            Self::PowerLoss => &["every"],
            Self::CrashPoint => &["point", "times"],
            Self::Connections | Self::SlowWatchers => &["times"],
            Self::Memory => &["mib"],
            Self::BitFlip | Self::TruncateTail => &["file"],
            _ => &[],
        }
    }

    /// What it does to `targets` of `count` masters while it lasts.
    #[must_use]
    pub fn phases(
        self,
        met: (&BTreeSet<usize>, usize),
        lasts: Span,
        with: &Parameters,
        random: &mut StdRng,
    ) -> Vec<Phase> {
        let (targets, count) = met;
        let at_once = |effect| vec![Phase { after: Span(0), effect }];
        let down = |down: BTreeSet<usize>| Effect { down, ..Effect::default() };
        let every = with.every.map_or(1000, |every| every.0.max(1));
        match self {
            Self::Kill => at_once(down(targets.clone())),
            Self::KillAll => at_once(down((0..count).collect())),
            Self::Pause => at_once(Effect { paused: targets.clone(), ..Effect::default() }),
            Self::RestartLoop => strokes(lasts, every, |stroke| {
                down(if stroke.is_multiple_of(2) { targets.clone() } else { BTreeSet::new() })
            }),
            Self::RollingRestart => strokes(lasts, every, |stroke| {
                let next = (stroke / 2) as usize % count.max(1);
                down(if stroke.is_multiple_of(2) { [next].into() } else { BTreeSet::new() })
            }),
            Self::Swizzle => swizzle(count, lasts, random),
            Self::Isolate
            | Self::Partition
            | Self::OneWay
            | Self::Link
            | Self::Bridge
            | Self::Ring
            | Self::MajoritiesRing => {
                at_once(Effect { cuts: self.cuts(met, with, random), ..Effect::default() })
            }
            Self::Delay => {
                let (delay, jitter) = (with.delay.unwrap_or(Span(50)), with.jitter);
                at_once(toxic(met, Toxic::Delay(delay, jitter.unwrap_or(Span(0)))))
            }
            Self::Loss => at_once(toxic(met, Toxic::Loss(with.percent.unwrap_or(20)))),
            Self::Slow => at_once(toxic(met, Toxic::Slow(with.kib_per_second.unwrap_or(64)))),
            Self::HalfOpen => at_once(toxic(met, Toxic::HalfOpen)),
            Self::Reset => strokes(lasts, 2 * every, |stroke| {
                toxic(met, Toxic::Reset(u32::try_from(stroke).unwrap_or(u32::MAX)))
            }),
            Self::DiskFull => at_once(Effect { full: targets.clone(), ..Effect::default() }),
            Self::PowerLoss => power_loss(targets, lasts, with.every, random),
            Self::LogBlocked
            | Self::Connections
            | Self::SlowWatchers
            | Self::Memory
            | Self::Throttle => at_once(self.want(targets, with)),
            Self::Rollback => rollback(targets, lasts),
            // Who is absent is no part of any effect: the nemesis knows.
            Self::Join => at_once(Effect::default()),
            Self::BitFlip | Self::TruncateTail | Self::WipeLog => {
                damage(self, targets, lasts, with.file, random)
            }
            Self::Stop => {
                let (down, asked) = (targets.clone(), targets.clone());
                at_once(Effect { down, asked, ..Effect::default() })
            }
            Self::Downgrade | Self::Upgrade => {
                let is_older = self == Self::Downgrade;
                let older = targets.iter().map(|master| (*master, is_older)).collect();
                at_once(Effect { older, ..Effect::default() })
            }
            Self::CrashPoint => place::phases(targets, lasts, with, random)
                .unwrap_or_else(|| at_once(self.machine(targets, with))),
            Self::ClockJump
            | Self::ClockDrift
            | Self::ClockStrobe
            | Self::DiskSlow
            | Self::DiskError
            | Self::DiskReadonly
            | Self::DiskLies => at_once(self.machine(targets, with)),
        }
    }

    /// Too little, or too much, of what masters live on.
    fn want(self, targets: &BTreeSet<usize>, with: &Parameters) -> Effect {
        let each = |count: u32| targets.iter().map(|master| (*master, count)).collect();
        let times = |usual: u32, most: u32| each(with.times.unwrap_or(usual).min(most));
        let none = Effect::default();
        match self {
            Self::LogBlocked => Effect { unread: targets.clone(), ..none },
            Self::Connections => Effect { flooded: times(1000, CONNECTIONS_MAX), ..none },
            Self::SlowWatchers => Effect { watched: times(100, SLOW_WATCHERS_MAX), ..none },
            Self::Memory => Effect { starved: each(with.mib.unwrap_or(MEMORY_MIB)), ..none },
            _ => {
                let percent = with.percent.unwrap_or(10);
                let throttled = targets.iter().map(|master| (*master, percent)).collect();
                Effect { throttled, ..none }
            }
        }
    }

    /// Wrong clocks and disks.
    fn machine(self, targets: &BTreeSet<usize>, with: &Parameters) -> Effect {
        if matches!(self, Self::ClockJump | Self::ClockDrift | Self::ClockStrobe) {
            let clock = Clock::of(self, with);
            let clocks = targets.iter().map(|master| (*master, clock)).collect();
            return Effect { clocks, ..Effect::default() };
        }
        let disk = Disk::of(self, with);
        let disks = targets.iter().map(|master| (*master, disk)).collect();
        Effect { disks, ..Effect::default() }
    }

    /// Links that a partition of this shape cuts; none for other kinds.
    fn cuts(
        self,
        (targets, count): (&BTreeSet<usize>, usize),
        with: &Parameters,
        random: &mut StdRng,
    ) -> BTreeSet<Link> {
        let on = |master: &usize| targets.contains(master);
        let cut = |is_cut: &dyn Fn(usize, usize) -> bool| {
            pairs(count).filter(|(from, to)| is_cut(*from, *to)).collect()
        };
        match self {
            Self::Isolate => {
                // Node agents are behind the masters.
                let all = targets.last().map_or(count, |last| count.max(last + 1));
                pairs(all).filter(|(from, to)| on(from) || on(to)).collect()
            }
            Self::Partition => cut(&|from, to| on(&from) != on(&to)),
            Self::OneWay if with.direction == Some(Direction::Deaf) => {
                cut(&|from, to| !on(&from) && on(&to))
            }
            Self::OneWay => cut(&|from, to| on(&from) && !on(&to)),
            Self::Link => {
                let others = shuffled(count, random).into_iter().filter(|other| !on(other));
                let ends: Vec<usize> = targets.iter().copied().chain(others).take(2).collect();
                cut(&|from, to| ends.contains(&from) && ends.contains(&to))
            }
            Self::Bridge => {
                let mut order = shuffled(count, random);
                let bridge = order.pop();
                let left: BTreeSet<usize> = order.iter().copied().take(order.len() / 2).collect();
                cut(&|from, to| {
                    let beside = Some(from) != bridge && Some(to) != bridge;
                    beside && left.contains(&from) != left.contains(&to)
                })
            }
            Self::Ring => {
                let place = places(&shuffled(count, random));
                cut(&|from, to| (place[&from] + 1) % count != place[&to])
            }
            Self::MajoritiesRing => {
                let place = places(&shuffled(count, random));
                cut(&|from, to| {
                    let apart = place[&from].abs_diff(place[&to]);
                    apart.min(count - apart) > count / 4
                })
            }
            _ => BTreeSet::new(),
        }
    }
}

/// Every direction of every link.
fn pairs(count: usize) -> impl Iterator<Item = Link> {
    (0..count).flat_map(move |a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)))
}

fn shuffled(count: usize, random: &mut StdRng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(random);
    order
}

fn places(order: &[usize]) -> BTreeMap<usize, usize> {
    order.iter().enumerate().map(|(place, master)| (*master, place)).collect()
}

/// On every link of a target, in both directions.
fn toxic((targets, count): (&BTreeSet<usize>, usize), toxic: Toxic) -> Effect {
    let met = |(from, to): &Link| targets.contains(from) || targets.contains(to);
    let toxics = pairs(count).filter(met).map(|link| (link, toxic)).collect();
    Effect { toxics, ..Effect::default() }
}

/// All targets at once, once until the end or each `every` for a moment.
fn power_loss(
    targets: &BTreeSet<usize>,
    lasts: Span,
    every: Option<Span>,
    random: &mut StdRng,
) -> Vec<Phase> {
    let every = every.map_or(lasts.0, |every| every.0).max(1);
    let mut phases = Vec::new();
    for after in (0..lasts.0.max(1)).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
        let dark = targets.iter().map(|master| (*master, random.random())).collect();
        let effect = Effect { down: targets.clone(), dark, ..Effect::default() };
        phases.push(Phase { after: Span(after), effect });
        let back = after + u64::try_from(POWER_OFF.as_millis()).unwrap_or(u64::MAX).min(every / 2);
        if every < lasts.0 {
            phases.push(Phase { after: Span(back), effect: Effect::default() });
        }
    }
    phases
}

/// The targets are killed, damaged, and started on what is left.
fn damage(
    fault: Fault,
    targets: &BTreeSet<usize>,
    lasts: Span,
    file: Option<HarmedFile>,
    random: &mut StdRng,
) -> Vec<Phase> {
    let how = match fault {
        Fault::TruncateTail => Harm::Cut,
        Fault::WipeLog => Harm::Wipe,
        _ => Harm::Flip,
    };
    let file = file.unwrap_or(HarmedFile::Log);
    let mut damage = |master: &usize| (*master, Damage { how, file, seed: random.random() });
    let damaged: BTreeMap<usize, Damage> = targets.iter().map(&mut damage).collect();
    let off = u64::try_from(POWER_OFF.as_millis()).unwrap_or(u64::MAX).min(lasts.0 / 2);
    let dead = Effect { down: targets.clone(), damaged: damaged.clone(), ..Effect::default() };
    let started = Effect { damaged, ..Effect::default() };
    vec![Phase { after: Span(0), effect: dead }, Phase { after: Span(off), effect: started }]
}

/// The targets are killed for a copy of their files, run on, and are killed again and started on that copy.
fn rollback(targets: &BTreeSet<usize>, lasts: Span) -> Vec<Phase> {
    let off = u64::try_from(POWER_OFF.as_millis()).unwrap_or(u64::MAX).min(lasts.0 / 6);
    let half = lasts.0 / 2;
    let phase = |after, how, is_down| {
        let damage = Damage { how, file: HarmedFile::Log, seed: 0 };
        let damaged = targets.iter().map(|master| (*master, damage)).collect();
        let down = if is_down { targets.clone() } else { BTreeSet::new() };
        Phase { after: Span(after), effect: Effect { down, damaged, ..Effect::default() } }
    };
    vec![
        phase(0, Harm::Keep, true),
        phase(off, Harm::Keep, false),
        phase(half, Harm::GoBack, true),
        phase(half + off, Harm::GoBack, false),
    ]
}

/// Two phases each `every`, while it lasts.
fn strokes(lasts: Span, every: u64, effect: impl Fn(u64) -> Effect) -> Vec<Phase> {
    let half = (every / 2).max(1);
    let count = lasts.0.div_ceil(half).max(1);
    (0..count).map(|stroke| Phase { after: Span(stroke * half), effect: effect(stroke) }).collect()
}

/// A link is cut in each stroke of the first half, and one healed in each of the second.
fn swizzle(count: usize, lasts: Span, random: &mut StdRng) -> Vec<Phase> {
    let mut links: Vec<Link> = pairs(count).filter(|(a, b)| a < b).collect();
    links.shuffle(random);
    let mut healed = links.clone();
    healed.shuffle(random);
    let strokes = 2 * links.len() as u64;
    let mut cuts: BTreeSet<Link> = BTreeSet::new();
    let mut phases = Vec::new();
    for (stroke, (a, b)) in links.iter().chain(&healed).enumerate() {
        if stroke < links.len() {
            cuts.extend([(*a, *b), (*b, *a)]);
        } else {
            cuts.retain(|link| *link != (*a, *b) && *link != (*b, *a));
        }
        let after = Span(lasts.0 * stroke as u64 / strokes.max(1));
        let effect = Effect { cuts: cuts.clone(), ..Effect::default() };
        phases.push(Phase { after, effect });
    }
    phases
}

#[cfg(test)]
mod tests;
