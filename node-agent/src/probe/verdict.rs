//! From single outcomes to a verdict: thresholds. Pure.

use k8s_openapi::api::core::v1::Probe;

use super::Kind;

/// What a probe has come to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
}

/// Counts outcomes of one probe.
#[derive(Debug)]
pub(super) struct Counter {
    verdict: Option<Verdict>,
    last: Option<bool>,
    run: i32,
    success_threshold: i32,
    failure_threshold: i32,
}

impl Counter {
    /// `ready`: the container counts as ready already.
    pub(super) fn new(kind: Kind, probe: &Probe, ready: bool) -> Self {
        let verdict = match kind {
            Kind::Liveness => Some(Verdict::Success),
            Kind::Readiness if ready => Some(Verdict::Success),
            Kind::Readiness => Some(Verdict::Failure),
            Kind::Startup => None,
        };
        Counter {
            verdict,
            last: None,
            run: 0,
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
        }
    }

    /// Takes an outcome; gives the verdict when it is new.
    pub(super) fn count(&mut self, success: bool) -> Option<Verdict> {
        self.run = if self.last == Some(success) { self.run + 1 } else { 1 };
        self.last = Some(success);
        let (threshold, verdict) = if success {
            (self.success_threshold, Verdict::Success)
        } else {
            (self.failure_threshold, Verdict::Failure)
        };
        if self.run < threshold || self.verdict == Some(verdict) {
            return None;
        }
        self.verdict = Some(verdict);
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(kind: Kind, success: i32, failure: i32, outcomes: &str) -> String {
        let probe = Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            ..Probe::default()
        };
        let mut counter = Counter::new(kind, &probe, false);
        outcomes
            .chars()
            .map(|c| match counter.count(c == '+') {
                Some(Verdict::Success) => 'S',
                Some(Verdict::Failure) => 'F',
                None => '.',
            })
            .collect()
    }

    #[test]
    fn verdicts_need_their_thresholds() {
        for (kind, success, failure, outcomes, expected) in [
            (Kind::Readiness, 1, 3, "+--+---+", "S.....FS"),
            (Kind::Readiness, 2, 1, "+++-++", ".S.F.S"),
            (Kind::Liveness, 1, 3, "++--+---", ".......F"),
            (Kind::Startup, 1, 2, "-+", ".S"),
            (Kind::Startup, 1, 2, "--", ".F"),
        ] {
            assert_eq!(story(kind, success, failure, outcomes), expected, "{kind:?} {outcomes}");
        }
    }
}
