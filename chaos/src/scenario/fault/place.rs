//! Where a process is to end: at a call of the system, or at a named point of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;
use quorate_points::{Point, Who};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::{Serialize, Serializer};

use super::machine::CrashPoint;
use super::{Effect, Phase};
use crate::limits::POWER_OFF;
use crate::scenario::{Parameters, Span};

/// The word for any point of the code that all masters pass.
const ANY: &str = "any";

/// Where a process is to end as if it had been killed just then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At a call of the system: any program has them.
    Call(CrashPoint),
    /// At a point of the code: only a program has them that was built with them.
    Code(Point),
    /// At a point of the code that all masters pass, by chance.
    Any,
}

impl Place {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let calls = CrashPoint::value_variants().iter().map(|point| Self::Call(*point));
        calls.chain(Point::ALL.iter().map(|point| Self::Code(*point))).chain([Self::Any])
    }

    /// Those that are passed all the time: at calls when `calls`, in the code when `code`.
    #[must_use]
    pub fn frequent(calls: bool, code: bool) -> Vec<Self> {
        let calls = CrashPoint::FREQUENT.into_iter().filter(|_| calls).map(Self::Call);
        let passed = |point: &&Point| code && matches!(point.who(), Who::Everybody | Who::Leader);
        calls.chain(Point::ALL.iter().filter(passed).map(|point| Self::Code(*point))).collect()
    }

    /// What has happened there.
    #[must_use]
    pub fn what(self) -> String {
        match self {
            Self::Call(point) => {
                let help = point.to_possible_value().and_then(|value| value.get_help().cloned());
                help.map(|help| help.to_string()).unwrap_or_default()
            }
            Self::Code(point) => point.what().to_owned(),
            Self::Any => "a point of the code that all masters pass, by chance".to_owned(),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|place| place.to_string() == text).ok_or_else(|| {
            let all: Vec<String> = Self::all().map(|place| place.to_string()).collect();
            format!("there is no point {text:?}; there are {}", all.join(", "))
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(point) => point.fmt(f),
            Self::Code(point) => point.fmt(f),
            Self::Any => f.write_str(ANY),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The targets end at a point of the code, for this time that they pass it; `None` for a call of the system. Those that
/// are passed at a start need one: they are killed before.
pub(super) fn phases(
    targets: &BTreeSet<usize>,
    lasts: Span,
    with: &Parameters,
    random: &mut StdRng,
) -> Option<Vec<Phase>> {
    let point = match with.point? {
        Place::Call(_) => return None,
        Place::Code(point) => point,
        Place::Any => {
            let all: Vec<Point> =
                Point::ALL.iter().copied().filter(|p| p.who() == Who::Everybody).collect();
            all[random.random_range(0..all.len())]
        }
    };
    let times = with.times.unwrap_or(1);
    let points: BTreeMap<usize, (Point, u32)> =
        targets.iter().map(|master| (*master, (point, times))).collect();
    let armed = Effect { points, ..Effect::default() };
    if point.who() != Who::Starting {
        return Some(vec![Phase { after: Span(0), effect: armed }]);
    }
    let off = u64::try_from(POWER_OFF.as_millis()).unwrap_or(u64::MAX).min(lasts.0 / 2);
    let dead = Effect { down: targets.clone(), ..armed.clone() };
    Some(vec![Phase { after: Span(0), effect: dead }, Phase { after: Span(off), effect: armed }])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn phases_of(point: Place) -> Option<Vec<Phase>> {
        let with = Parameters { point: Some(point), times: Some(3), ..Parameters::default() };
        phases(&[1].into(), Span(4000), &with, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn each_place_has_its_own_name_and_says_what_it_is() {
        let names: BTreeSet<String> = Place::all().map(|place| place.to_string()).collect();
        assert_eq!(names.len(), Place::all().count());
        for place in Place::all() {
            assert_eq!(place.to_string().parse(), Ok(place));
            assert!(!place.what().is_empty(), "{place}");
        }
        let code = Place::frequent(false, true);
        assert!(code.contains(&Place::Code(Point::LogBeforeSync)) && code.len() > 10);
        assert!(!code.contains(&Place::Code(Point::LogOpened)));
        assert_eq!(Place::frequent(true, false).len(), CrashPoint::FREQUENT.len());
    }

    #[test]
    fn the_guide_has_each_with_what_it_is() {
        let guide = include_str!("../../../../docs/chaos.md");
        for point in Point::ALL {
            let line = format!("| `{point}` | {} |", point.what());
            assert!(guide.contains(&line), "docs/chaos.md lacks: {line}");
        }
        for place in Place::all() {
            assert!(guide.contains(&format!("`{place}`")) || place == Place::Any, "{place}");
        }
    }

    #[test]
    fn a_point_that_is_passed_at_a_start_needs_one() {
        assert_eq!(phases_of(Place::Call(CrashPoint::AfterLogSync)), None);
        let running = phases_of(Place::Code(Point::LogAfterSync)).unwrap();
        assert_eq!(running.len(), 1);
        assert_eq!(running[0].effect.points[&1], (Point::LogAfterSync, 3));
        assert!(running[0].effect.down.is_empty() && !running[0].effect.leaves_majority(2));
        let starting = phases_of(Place::Code(Point::LogOpened)).unwrap();
        assert_eq!(starting[0].effect.down, [1].into());
        assert!(starting[1].effect.down.is_empty());
        assert_eq!(starting[0].effect.points, starting[1].effect.points);
        let drawn = phases_of(Place::Any).unwrap();
        assert_eq!(drawn[0].effect.points[&1].0.who(), Who::Everybody);
    }
}
