//! The part of a run in which faults are injected: how it goes on, what a person is told meanwhile, and how it ends
//! early, by hand or because a master broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::cluster::Cluster;
use super::masters::Broke;
use super::nemesis::{Done, Nemesis};
use super::workload::{Shared, lock};
use crate::limits::OPERATIONS_MAX;

/// Between two rewritings of the line that shows how far the run is.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// Between two such lines where lines cannot be rewritten.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// Something that should not have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What.
    pub what: String,
    /// Whether the masters are to blame: the verdict is fail. Else the harness had a problem: unknown.
    pub broke: bool,
}

impl Trouble {
    /// Of the harness, unless the error says that masters broke.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        Self { what: format!("{error:#}"), broke: error.is::<Broke>() }
    }
}

/// How the faults went.
#[derive(Debug, Default)]
pub struct Course {
    /// What was done.
    pub done: Done,
    /// What went wrong.
    pub troubles: Vec<Trouble>,
    /// It was stopped by hand.
    pub stopped: bool,
    /// How long there were faults.
    pub lasted: Duration,
}

impl Course {
    /// Whether nothing cut it short.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.stopped && self.troubles.is_empty()
    }

    pub(super) fn trouble(&mut self, error: &anyhow::Error) {
        self.troubles.push(Trouble::of(error));
    }
}

/// A line about how far something is.
struct Line<'a> {
    options: &'a Options,
    shared: &'a Arc<Shared>,
    begin: Instant,
    faults: &'a AtomicUsize,
    shown: (Instant, usize),
    told: Instant,
}

/// Why work ended.
enum End<T> {
    Done(T),
    Stopped,
    /// Nothing more can be recorded.
    Full,
}

impl Line<'_> {
    /// Shows the line until the work is done, or somebody asks to stop before, or too much is recorded.
    async fn during<T>(
        &mut self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> End<T> {
        tokio::pin!(work);
        let mut every = interval(SHOWN_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                done = &mut work => return End::Done(done),
                _ = every.tick() => {
                    let operations = lock(&self.shared.history).len();
                    if operations >= OPERATIONS_MAX {
                        return End::Full;
                    }
                    self.show(operations);
                }
            }
        }
    }

    fn show(&mut self, operations: usize) {
        let now = Instant::now();
        let every = if self.options.rewrite.is_some() { SHOWN_EVERY } else { TOLD_EVERY };
        if now.duration_since(self.told) < every {
            return;
        }
        self.told = now;
        let (at, before) = std::mem::replace(&mut self.shown, (now, operations));
        let rate = operations.saturating_sub(before) as f64
            / now.duration_since(at).as_secs_f64().max(f64::EPSILON);
        let total = self.options.scenario.lasts().duration();
        let line = line(self.begin.elapsed(), total, rate, self.faults.load(Ordering::Relaxed));
        match self.options.rewrite {
            Some(rewrite) => rewrite(&line),
            None => (self.options.say)(&line),
        }
    }
}

fn line(elapsed: Duration, total: Duration, rate: f64, faults: usize) -> String {
    let plural = if faults == 1 { "" } else { "s" };
    let (elapsed, total) = (elapsed.as_secs(), total.as_secs());
    format!("{elapsed:>4}/{total} s   {rate:>5.0} operations/s   {faults} fault{plural}")
}

/// Carries out the scenario, unless something ends it early. When it returns, no fault is there any more, or the
/// trouble says so.
pub(super) async fn inject<C: Cluster>(
    options: &Options,
    masters: &mut C,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) -> Course {
    let lacks = masters.lacks();
    let (begin, faults) = (Instant::now(), AtomicUsize::new(0));
    let mut course = Course::default();
    let mut line = Line { options, shared, begin, faults: &faults, shown: (begin, 0), told: begin };
    let mut nemesis =
        Nemesis::new(&options.scenario, options.seed, (&lacks, options.beyond_quorum));
    let tell = |text: &str| {
        faults.fetch_add(1, Ordering::Relaxed);
        options.tell(text);
    };
    let tick = || shared.tick();
    let end = line.during(stop, Box::pin(nemesis.run(masters, (&tick, &tell)))).await;
    match end {
        End::Done(Ok(())) => {}
        End::Done(Err(error)) => course.trouble(&error),
        End::Stopped => course.stopped = true,
        End::Full => course
            .trouble(&anyhow!("{OPERATIONS_MAX} operations are recorded, as many as a run can")),
    }
    course.lasted = begin.elapsed();
    if !course.is_whole() {
        if course.stopped {
            options.tell("stopped: taking back all faults, then checking what there is");
        }
        // One of them may be what ended the course.
        match masters.ended() {
            Ok(ended) => {
                ended.into_iter().for_each(|what| course.trouble(&Broke::new(what).into()));
            }
            Err(error) => course.trouble(&error),
        }
        if let Err(error) = masters.restore().await {
            course.trouble(&error.context("a fault could not be taken back"));
        }
        nemesis.abandon(masters.count(), shared.tick());
        course.troubles.dedup();
    } else if options.rewrite.is_some() {
        options.tell("the faults are over");
    }
    course.done = nemesis.done;
    course
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_how_far_it_is() {
        let text = line(Duration::from_millis(12_900), Duration::from_secs(60), 812.4, 1);
        assert_eq!(text, "  12/60 s     812 operations/s   1 fault");
        assert!(
            line(Duration::from_secs(99_999), Duration::from_secs(99_999), 1e5, 9999).len() < 79
        );
    }

    #[test]
    fn who_is_to_blame() {
        assert!(Trouble::of(&Broke::new("m1 ended".into()).into()).broke);
        assert!(Trouble::of(&anyhow::Error::from(Broke::new("m1".into())).context("late")).broke);
        assert!(!Trouble::of(&anyhow::anyhow!("no nft")).broke);
    }
}
