//! What a scenario expects of the cluster, beside that nothing is wrong.

use serde::{Deserialize, Serialize};

use super::Span;
use crate::history::Tick;

/// What must hold. Without a limit nothing is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expect {
    /// Of the checks of what clients saw.
    pub verdict: Verdict,
    /// While enough masters are fit.
    #[serde(skip_serializing_if = "Availability::is_empty")]
    pub availability: Availability,
    /// Longest time in which no client had any answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_silence_max: Option<Span>,
    /// From the end of the last fault until every master serves reads and writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healed_within: Option<Span>,
    /// Operations that must have had an answer for the run to say anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_min: Option<usize>,
}

/// What can be expected of the checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// They find nothing.
    #[default]
    Pass,
}

/// Of [`Expect`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Availability {
    /// While nothing changes, and a majority of the masters runs and hears each other undisturbed: longest time without
    /// an acknowledged write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority_writes_within: Option<Span>,
}

impl Availability {
    fn is_empty(&self) -> bool {
        self.majority_writes_within.is_none()
    }
}

/// Whether a majority of the masters was fit, from a tick on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// From when on.
    pub from: Tick,
    /// A majority ran, and heard each other undisturbed.
    pub majority: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    /// Every change of what was wrong, in order; the last is the end.
    pub health: &'a [Health],
    /// When writes were acknowledged, in order.
    pub writes: &'a [Tick],
    /// Longest time without any answer.
    pub silence: Tick,
    /// From the end of the last fault until every master served.
    pub healed: Tick,
    /// Operations with an answer.
    pub answered: usize,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// What was compared, in words.
    pub checked: Vec<String>,
    /// Expectations that do not hold.
    pub broken: Vec<String>,
    /// Expectations of which the run says nothing.
    pub unknown: Vec<String>,
}

fn ticks(span: Span) -> Tick {
    span.0.saturating_mul(1_000_000)
}

fn seconds(ticks: Tick) -> String {
    format!("{:.1} s", std::time::Duration::from_nanos(ticks).as_secs_f64())
}

impl Expect {
    /// Compares.
    #[must_use]
    pub fn judge(&self, seen: &Seen<'_>) -> Judged {
        let mut judged = Judged::default();
        if let Some(max) = self.availability.majority_writes_within {
            judged.availability(max, seen);
        }
        let limits = [
            (self.longest_silence_max, seen.silence, "the longest time without any answer"),
            (self.healed_within, seen.healed, "the time until every master served"),
        ];
        for (max, found, what) in limits {
            let Some(max) = max else { continue };
            let text = format!("{what} {}, {max} is allowed", seconds(found));
            let list = if found > ticks(max) { &mut judged.broken } else { &mut judged.checked };
            list.push(text);
        }
        if let Some(min) = self.answered_min {
            let text = format!("{} operations were answered, {min} are needed", seen.answered);
            let list = if seen.answered < min { &mut judged.unknown } else { &mut judged.checked };
            list.push(text);
        }
        judged
    }
}

impl Judged {
    fn availability(&mut self, max: Span, seen: &Seen<'_>) {
        let (mut looked, mut longest) = (0, 0);
        for pair in seen.health.windows(2) {
            let (from, to) = (pair[0].from, pair[1].from);
            // A shorter time cannot break the promise, so it does not prove it either.
            if !pair[0].majority || to.saturating_sub(from) <= ticks(max) {
                continue;
            }
            looked += 1;
            let mut last = from;
            let inside = seen.writes.iter().filter(|at| (from..=to).contains(*at));
            for at in inside.copied().chain([to]) {
                if at - last > ticks(max) {
                    self.broken.push(format!(
                        "a majority was there, and no write was acknowledged for {} from {} on; \
                         {max} is allowed",
                        seconds(at - last),
                        seconds(last)
                    ));
                }
                longest = longest.max(at - last);
                last = at;
            }
        }
        if looked == 0 {
            self.unknown.push(format!("no time with a majority was longer than {max}"));
        } else {
            let longest = seconds(longest);
            self.checked.push(format!("{looked} times with a majority, a write within {longest}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Tick = 1_000_000_000;

    fn health(list: &[(Tick, bool)]) -> Vec<Health> {
        list.iter()
            .map(|(from, majority)| Health { from: *from * SECOND, majority: *majority })
            .collect()
    }

    fn judge(health: &[Health], writes: &[Tick]) -> Judged {
        let writes: Vec<Tick> = writes.iter().map(|at| at * SECOND).collect();
        let within = Availability { majority_writes_within: Some(Span(3000)) };
        let expect = Expect { availability: within, ..Expect::default() };
        expect.judge(&Seen { health, writes: &writes, ..Seen::default() })
    }

    #[test]
    fn a_majority_writes_in_time() {
        let up = health(&[(0, true), (10, false), (20, true), (25, true)]);
        let good = judge(&up, &[1, 4, 7, 9, 22]);
        assert_eq!((good.broken.len(), good.unknown.len()), (0, 0), "{good:?}");
        assert!(good.checked[0].starts_with("2 times with a majority"), "{good:?}");
        // Nothing is asked while there is none: 10 to 20.
        let late = judge(&up, &[1, 4, 7, 9, 24]);
        assert!(late.broken[0].contains("for 4.0 s from 20.0 s on"), "{late:?}");
        let end = judge(&up, &[1, 4, 22]);
        assert!(end.broken[0].contains("for 6.0 s from 4.0 s on"), "{end:?}");
    }

    #[test]
    fn short_times_say_nothing() {
        let judged = judge(&health(&[(0, true), (2, false), (10, true), (13, true)]), &[]);
        assert_eq!(judged.unknown.len(), 1, "{judged:?}");
        assert_eq!(judged.broken.len(), 0);
    }

    #[test]
    fn limits_are_compared() {
        let expect = Expect {
            longest_silence_max: Some(Span(2000)),
            healed_within: Some(Span(500)),
            answered_min: Some(10),
            ..Expect::default()
        };
        let seen = |silence, healed, answered| {
            expect.judge(&Seen { silence, healed, answered, ..Seen::default() })
        };
        let good = seen(2 * SECOND, SECOND / 2, 10);
        assert_eq!((good.checked.len(), good.broken.len(), good.unknown.len()), (3, 0, 0));
        let bad = seen(2 * SECOND + 1, SECOND, 9);
        assert_eq!((bad.checked.len(), bad.broken.len(), bad.unknown.len()), (0, 2, 1));
    }
}
