//! A scenario from a seed.

use quorate_points::Who;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fault::machine::Certificate;
use super::fault::place::Place;
use super::fault::{Direction, Fault, Target};
use super::{Expect, Parameters, Scenario, Shift, Span, Step, Workload, read};

/// Without faults, before the next one.
const QUIET: (Span, Span) = (Span(500), Span(2500));

/// How long a fault lasts.
const LASTS: (Span, Span) = (Span(300), Span(4000));

/// How long a fault of a start lasts at least: on a busy machine a process comes to its first sync after a second.
const STARTS: Span = Span(3000);

/// How long a fault may take that ends when what it is for has come about.
const COMES: Span = Span(20_000);

/// The same of one that waits for certificates to end that live for [`SHORT_LIVED`](crate::limits::SHORT_LIVED).
const OUTLIVES: Span = Span(75_000);

/// What a generated scenario is made from. Same value, same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Chooses everything.
    pub seed: u64,
    /// How many masters.
    pub masters: usize,
    /// How long faults come; longer until each kind had its turn.
    pub lasts: Span,
    /// Kinds of faults.
    pub faults: Vec<Fault>,
    /// What clients do.
    pub workload: Workload,
    /// Where masters may end that meet a `crash-point`; at one at least.
    pub places: Vec<Place>,
}

/// One fault after the other; each kind comes before any comes twice. The leader is met two times of three.
#[must_use]
pub fn generate(wish: &Wish) -> Scenario {
    let mut random = StdRng::seed_from_u64(wish.seed);
    let kinds: Vec<Step> = wish.faults.iter().map(|fault| step(*fault)).collect();
    let mut schedule = read::draw(&kinds, wish.lasts, QUIET, LASTS, &mut random);
    let (mut joined, mut late) = (0, 0);
    for step in &mut schedule {
        step.at = Span(step.at.0 + late);
        let least = if step.fault == Fault::ShortLived {
            OUTLIVES
        } else if step.fault.waits() {
            COMES
        } else if step.fault == Fault::SlowStart {
            STARTS
        } else {
            step.lasts
        };
        late += least.0.saturating_sub(step.lasts.0);
        step.lasts = Span(least.0.max(step.lasts.0));
        let chance = random.random_range(0..6);
        if step.fault == Fault::Join {
            // Half of the masters are there from the beginning; more than the others cannot join.
            let joins = joined < wish.masters / 2;
            step.target = joins.then(|| Target::Master(wish.masters - 1 - joined));
            joined += usize::from(joins);
        } else if step.target.is_some() {
            step.target = Some(match chance {
                0..4 => Target::Leader,
                4 => Target::Any,
                _ if wish.masters > 2 => Target::Minority,
                _ => Target::Any,
            });
        }
        if step.fault == Fault::OneWay {
            let deaf = random.random::<bool>();
            step.with.direction = Some(if deaf { Direction::Deaf } else { Direction::Mute });
        }
        if matches!(step.fault, Fault::ClockJump | Fault::ClockStrobe) {
            // Less and more than what tokens, leases and certificates allow.
            let far: i64 = [1_000, 30_000, 600_000, 7_200_000][random.random_range(0..4)];
            step.with.by = Some(Shift(if random.random::<bool>() { far } else { -far }));
        }
        if step.fault == Fault::CrashPoint {
            let place = wish.places.get(random.random_range(0..wish.places.len().max(1)));
            step.with.point = place.copied();
            step.with.times = Some(random.random_range(1..6));
            if let Some(Place::Code(point)) = place
                && point.who() == Who::Leader
            {
                step.target = Some(Target::Leader);
            }
        }
        if step.fault == Fault::Certificates {
            step.with.certificate = Some(Certificate::ALL[random.random_range(0..4)]);
        }
        if step.fault == Fault::ClockDrift {
            let slow = random.random::<bool>();
            step.with.direction = Some(if slow { Direction::Slow } else { Direction::Fast });
            step.with.monotonic = random.random();
        }
    }
    schedule.retain(|step| step.fault != Fault::Join || step.target.is_some());
    let mut ends = false;
    schedule.retain(|step| !step.fault.ends_run() || !std::mem::replace(&mut ends, true));
    Scenario {
        name: format!("seed-{}", wish.seed),
        description: "Drawn from its seed".into(),
        masters: wish.masters,
        older: Vec::new(),
        seed: Some(wish.seed),
        workload: wish.workload.clone(),
        schedule,
        expect: Expect::default(),
    }
}

fn step(fault: Fault) -> Step {
    let target = fault.has_target().then_some(Target::Any);
    let with = Parameters::default();
    // Who needs no more memory in so short a time is not met, and a slow machine may need more time to forget.
    let required = fault != Fault::Memory && !fault.waits();
    Step { at: Span(0), lasts: Span(0), fault, target, with, required }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(seed: u64) -> Wish {
        Wish {
            seed,
            masters: 5,
            lasts: Span(60_000),
            faults: Fault::all().iter().copied().filter(|fault| !fault.ends_run()).collect(),
            workload: Workload::default(),
            places: Place::frequent(true, true),
        }
    }

    #[test]
    fn same_seed_same_bytes() {
        for seed in 0..50 {
            let yaml = generate(&wish(seed)).to_yaml().unwrap();
            assert_eq!(generate(&wish(seed)).to_yaml().unwrap(), yaml);
            assert_ne!(generate(&wish(seed + 1)).to_yaml().unwrap(), yaml);
            // And the file runs again as it is.
            let again = read::text("generated.yaml", &yaml, 0).unwrap();
            assert_eq!(again, generate(&wish(seed)), "{yaml}");
        }
    }

    #[test]
    fn half_of_the_masters_are_there_before_the_others_join() {
        for masters in 2..=9 {
            let faults = vec![Fault::Join, Fault::Kill];
            let scenario = generate(&Wish { masters, faults, ..wish(9) });
            let absent = scenario.absent();
            assert_eq!(absent.len(), masters / 2);
            assert_eq!(absent.first(), Some(&(masters - masters / 2)));
            let joins = scenario.schedule.iter().filter(|step| step.fault == Fault::Join);
            assert_eq!(joins.count(), absent.len(), "each once");
        }
    }

    #[test]
    fn every_kind_has_its_turn_however_short_the_time() {
        let scenario = generate(&Wish { lasts: Span(1), ..wish(3) });
        let all = wish(3).faults;
        assert_eq!(scenario.schedule.len(), all.len());
        let others = all.iter().filter(|fault| **fault != Fault::Memory && !fault.waits());
        assert!(scenario.required().iter().eq(others));
        let faults = vec![Fault::Kill, Fault::Restore];
        let ending = generate(&Wish { faults, ..wish(3) });
        let ends = ending.schedule.iter().filter(|step| step.fault.ends_run());
        assert_eq!(ends.count(), 1, "however long the run is");
        let long = generate(&Wish { lasts: Span(600_000), ..wish(3) });
        let kills = long.schedule.iter().filter(|step| step.fault == Fault::Kill).count();
        let pauses = long.schedule.iter().filter(|step| step.fault == Fault::Pause).count();
        assert!(kills.abs_diff(pauses) <= 1, "{kills} kills, {pauses} pauses");
    }
}
