//! What a program takes from its machine without asking: random numbers and the wall time.
//!
//! They are the machine's, but in a thread that was given a seed or a clock. The simulated world of `quorate chaos sim`
//! has one thread and one seed, gives each master and agent the clock that it has just then, and so has the same course
//! each time (`docs/decisions/0008-runtimes-with-a-seed.md`).

use std::cell::{Cell, RefCell};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    static CLOCK: Cell<Option<Clock>> = const { Cell::new(None) };
}

/// From now on this thread's numbers follow from the seed; without one they come from the machine again.
pub fn seed(seed: Option<u64>) {
    SEEDED.with_borrow_mut(|seeded| *seeded = seed.map(StdRng::seed_from_u64));
}

/// A random number.
#[must_use]
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// Random bytes.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(seeded) => seeded.fill(&mut bytes),
        None => rand::rng().fill(&mut bytes),
    });
    bytes
}

/// A generator of further numbers, from a random one.
#[must_use]
pub fn rng() -> StdRng {
    StdRng::seed_from_u64(number())
}

/// A random UUID (version 4), as text.
#[must_use]
pub fn uuid() -> String {
    uuid::Builder::from_random_bytes(bytes()).into_uuid().to_string()
}

/// A clock that goes as tokio's does.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// A wall time.
    pub at: Timestamp,
    /// When it was that time.
    pub since: Instant,
}

/// From now on this thread's wall time is this clock's; without one it is the machine's again.
pub fn clock(clock: Option<Clock>) {
    CLOCK.set(clock);
}

/// The wall time.
#[must_use]
pub fn now() -> Timestamp {
    match CLOCK.get() {
        None => Timestamp::now(),
        Some(Clock { at, since }) => {
            let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
            at.saturating_add(passed).unwrap_or(Timestamp::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_no_seed_others() {
        let draw = || (number(), bytes::<16>(), uuid());
        seed(Some(7));
        let first = draw();
        seed(Some(7));
        assert_eq!(draw(), first);
        seed(Some(8));
        assert_ne!(draw(), first);
        seed(None);
        assert_ne!(draw(), draw());
        assert_eq!(uuid().as_bytes()[14], b'4', "version 4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_goes_with_the_runtime() {
        let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        clock(Some(Clock { at, since: Instant::now() }));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(now(), "2030-01-01T00:01:00Z".parse().unwrap());
        clock(None);
        assert!(now() < at || Timestamp::now() >= at);
    }
}
