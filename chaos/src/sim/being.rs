//! What a process of the simulated world lives in: a runtime of one thread with a clock of its own.

use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use quorate_chance::Clock;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// The rate of a clock that is right.
pub(super) const TRUE_RATE: u64 = 1000;

/// When all simulations begin, in seconds since 1970.
const BEGINNING: i64 = 1_767_225_600;

/// The wall time after so much of the world's time.
pub(super) fn wall(now: Duration) -> Timestamp {
    let began = Timestamp::from_second(BEGINNING).unwrap_or(Timestamp::UNIX_EPOCH);
    let passed = SignedDuration::try_from(now).unwrap_or(SignedDuration::MAX);
    began.saturating_add(passed).unwrap_or(Timestamp::MAX)
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// From a start to an end.
#[derive(Debug)]
pub(super) struct Being {
    runtime: Runtime,
    /// When it began, on its own clock, and how much of that clock's time has passed.
    began: Instant,
    lived: Duration,
    /// The wall time then.
    wall: Timestamp,
    /// Does not run until then, of the world's time.
    paused_until: Duration,
    /// Whether its clock goes on meanwhile, and how far it has gone.
    clock_goes_on: bool,
    missed: Duration,
}

impl Being {
    /// One that begins now; its wall clock is wrong by so much.
    pub(super) fn new(now: Duration, wrong: SignedDuration) -> anyhow::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        // What tokio itself draws lots for.
        #[cfg(tokio_unstable)]
        runtime
            .rng_seed(tokio::runtime::RngSeed::from_bytes(&quorate_chance::number().to_le_bytes()));
        let runtime = runtime.build().context("no runtime for a simulated process")?;
        let began = runtime.block_on(async { Instant::now() });
        Ok(Self {
            runtime,
            began,
            lived: Duration::ZERO,
            wall: wall(now).saturating_add(wrong).unwrap_or(Timestamp::MAX),
            paused_until: Duration::ZERO,
            clock_goes_on: true,
            missed: Duration::ZERO,
        })
    }

    /// Does not run until then.
    pub(super) fn pause(&mut self, until: Duration, clock_goes_on: bool) {
        self.paused_until = until;
        self.clock_goes_on = clock_goes_on;
    }

    /// Somebody sets the wall clock.
    pub(super) fn jump(&mut self, by: SignedDuration) {
        self.wall = self.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Lets it live for a while, of the world's time.
    pub(super) fn run(&mut self, now: Duration, tick: Duration, rate_permille: u64) {
        let own = tick * u32::try_from(rate_permille).unwrap_or(1000) / 1000;
        if self.paused_until > now {
            if self.clock_goes_on {
                self.missed += own;
            }
            return;
        }
        // A jump of whole milliseconds: timers are no finer.
        let missed = Duration::from_millis(whole(self.missed));
        self.missed -= missed;
        self.lived += own + missed;
        let until = self.began + Duration::from_millis(whole(self.lived));
        quorate_chance::clock(Some(Clock { at: self.wall, since: self.began }));
        self.runtime.block_on(async move {
            if !missed.is_zero() {
                tokio::time::advance(missed).await;
            }
            tokio::time::sleep_until(until).await;
        });
        quorate_chance::clock(None);
    }

    /// Its clock is the one that is looked at, until what this gives is dropped.
    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Runs something in it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Ends it, at once.
    pub(super) fn end(self) {
        self.runtime.shutdown_background();
    }
}
