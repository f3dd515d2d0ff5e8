//! What each kind of fault does over time.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::machine::{Away, Certificate, Clock, Damage, Disk, Harm, HarmedFile};
use super::{Direction, Effect, Fault, Link, Phase, Toxic, place};
use crate::limits::{API_FLOOD_MAX, CONNECTIONS_MAX, MEMORY_MIB, POWER_OFF, SLOW_WATCHERS_MAX};
use crate::scenario::{Parameters, Span};

impl Fault {
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
            | Self::MajoritiesRing
            | Self::Pause
            | Self::Stop
            | Self::ClientsCut
            | Self::FallBehind
            | Self::ExpiredWatches
            | Self::DiskFull
            | Self::DiskInodes
            | Self::Replace
            | Self::Demote
            | Self::ShortLived
            | Self::RotateCa
            | Self::Restore
            | Self::QuorumLost
            | Self::Join
            | Self::Moved => at_once(self.marked(met, with, random)),
            Self::Delay | Self::Loss | Self::Slow | Self::HalfOpen => {
                at_once(toxic(met, self.toxic(with)))
            }
            Self::Reset => strokes(lasts, 2 * every, |stroke| {
                toxic(met, Toxic::Reset(u32::try_from(stroke).unwrap_or(u32::MAX)))
            }),
            Self::Certificates | Self::SlowStart => {
                restart(targets, lasts, self.at_start(targets, with))
            }
            Self::PowerLoss => power_loss(targets, lasts, with.every, random),
            Self::LogBlocked
            | Self::Connections
            | Self::SlowWatchers
            | Self::Memory
            | Self::ApiFlood
            | Self::Downgrade
            | Self::Upgrade
            | Self::Throttle => at_once(self.want(targets, with)),
            Self::Rollback => rollback(targets, lasts),
            Self::Transfer => transfers(shuffled(count, random), lasts, every),
            Self::BitFlip | Self::TruncateTail | Self::WipeLog => {
                damage(self, targets, lasts, with.file, random)
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

    /// What is so for each target alike, without more to say.
    fn marked(
        self,
        met: (&BTreeSet<usize>, usize),
        with: &Parameters,
        random: &mut StdRng,
    ) -> Effect {
        let (all, none) = (met.0.clone(), Effect::default());
        match self {
            Self::Pause => Effect { paused: all, ..none },
            Self::Stop => Effect { down: all.clone(), asked: all, ..none },
            Self::ClientsCut => Effect { unreached: all, ..none },
            Self::ExpiredWatches => Effect { asleep: all, ..none },
            Self::DiskFull => Effect { full: all, ..none },
            Self::DiskInodes => Effect { inodeless: all, ..none },
            Self::Moved => Effect { moved: all, ..none },
            Self::Replace => Effect { down: all.clone(), replaced: all, ..none },
            Self::Demote => Effect { demoted: all, ..none },
            Self::RotateCa => Effect { rotated: true, ..none },
            Self::Restore => Effect { saved: true, ..none },
            // Who is absent is no part of any effect: the nemesis knows. What ends the run comes behind all of them.
            Self::Join | Self::QuorumLost => none,
            Self::ShortLived => match with.away.unwrap_or(Away::Paused) {
                Away::Paused => Effect { paused: all.clone(), outlived: all, ..none },
                Away::Killed => Effect { down: all.clone(), outlived: all, ..none },
            },
            Self::FallBehind => {
                let cuts = Self::Isolate.cuts(met, with, random);
                Effect { cuts, behind: all, ..none }
            }
            _ => Effect { cuts: self.cuts(met, with, random), ..none },
        }
    }

    /// What is wrong with links all the time.
    fn toxic(self, with: &Parameters) -> Toxic {
        match self {
            Self::Loss => Toxic::Loss(with.percent.unwrap_or(20)),
            Self::Slow => Toxic::Slow(with.kib_per_second.unwrap_or(64)),
            Self::HalfOpen => Toxic::HalfOpen,
            _ => Toxic::Delay(with.delay.unwrap_or(Span(50)), with.jitter.unwrap_or(Span(0))),
        }
    }

    /// What a start finds.
    fn at_start(self, targets: &BTreeSet<usize>, with: &Parameters) -> Effect {
        if self == Self::SlowStart {
            return self.machine(targets, with);
        }
        let certificate = with.certificate.unwrap_or(Certificate::Expired);
        let certificates = targets.iter().map(|master| (*master, certificate)).collect();
        Effect { certificates, ..Effect::default() }
    }

    /// Too little, or too much, of what masters live on; another program.
    fn want(self, targets: &BTreeSet<usize>, with: &Parameters) -> Effect {
        let each = |count: u32| targets.iter().map(|master| (*master, count)).collect();
        let times = |usual: u32, most: u32| each(with.times.unwrap_or(usual).min(most));
        let none = Effect::default();
        match self {
            Self::LogBlocked => Effect { unread: targets.clone(), ..none },
            Self::Connections => Effect { flooded: times(1000, CONNECTIONS_MAX), ..none },
            Self::SlowWatchers => Effect { watched: times(100, SLOW_WATCHERS_MAX), ..none },
            Self::ApiFlood => Effect { besieged: times(50, API_FLOOD_MAX), ..none },
            Self::Downgrade | Self::Upgrade => {
                let is_older = self == Self::Downgrade;
                let older = targets.iter().map(|master| (*master, is_older)).collect();
                Effect { older, ..none }
            }
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

/// Each leads in turn, from each `every` on.
fn transfers(order: Vec<usize>, lasts: Span, every: u64) -> Vec<Phase> {
    let heirs = order.iter().copied().cycle().zip(0..lasts.0.div_ceil(every).max(1));
    let phase = |(heir, number): (usize, u64)| {
        let effect = Effect { leads: Some((heir, number)), ..Effect::default() };
        Phase { after: Span(number * every), effect }
    };
    heirs.map(phase).collect()
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

/// The targets are killed, and started again when something is so, which it is until the end.
fn restart(targets: &BTreeSet<usize>, lasts: Span, so: Effect) -> Vec<Phase> {
    let off = u64::try_from(POWER_OFF.as_millis()).unwrap_or(u64::MAX).min(lasts.0 / 2);
    let dead = Effect { down: targets.clone(), ..so.clone() };
    vec![Phase { after: Span(0), effect: dead }, Phase { after: Span(off), effect: so }]
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
    restart(targets, lasts, Effect { damaged, ..Effect::default() })
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
