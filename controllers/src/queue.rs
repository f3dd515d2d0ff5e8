//! Which keys are to be planned, and when: each key once however often it is woken, never while its
//! last writes are on their way, later when they failed. A value: no clock, no tasks.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BACKOFF_BASE, BACKOFF_MAX, KEY_COOLDOWN, WAKE_AFTER_MIN};
use crate::plan::WorkKey;

/// The longest that a change of the world waits because its key's writes keep failing.
const FAILING_KEY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ready: VecDeque<WorkKey>,
    keys: HashMap<WorkKey, State>,
    timers: BTreeSet<(Instant, WorkKey)>,
}

#[derive(Debug, Default)]
struct State {
    queued: bool,
    in_flight: bool,
    /// Woken while in flight.
    woken: bool,
    /// Only the resync asked for it.
    by_resync: bool,
    timer: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
    failure: Option<String>,
}

/// A key to be planned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) key: WorkKey,
    /// Nothing but the resync asked for it: writes of its plan repair what was missed.
    pub(crate) by_resync: bool,
}

/// What became of a key's writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// All took effect; `wrote` is false when there were none.
    Done { wrote: bool },
    /// Somebody else was faster.
    Conflict,
    /// Refused, or not decided.
    Failed(String),
}

impl Queue {
    /// Something that matters to the key has changed.
    pub(crate) fn wake(&mut self, key: WorkKey, now: Instant) {
        let state = self.keys.entry(key.clone()).or_default();
        state.by_resync = false;
        if state.in_flight {
            state.woken = true;
        } else if !state.queued {
            match state.not_before.filter(|not_before| *not_before > now) {
                Some(not_before) => self.set_timer_at_most(&key, not_before),
                None => self.enqueue(key),
            }
        }
    }

    /// The resync asks for the key, unless it is to be planned anyway: it waits, is in flight,
    /// cools down, or failed and has its own timer.
    pub(crate) fn resync(&mut self, key: WorkKey, now: Instant) {
        let state = self.keys.entry(key.clone()).or_default();
        let soon =
            state.failures > 0 || state.not_before.is_some_and(|not_before| not_before > now);
        if !state.in_flight && !state.queued && !soon {
            state.by_resync = true;
            self.enqueue(key);
        }
    }

    /// The next key that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        self.fire(now);
        let key = self.ready.pop_front()?;
        let state = self.keys.entry(key.clone()).or_default();
        state.queued = false;
        state.in_flight = true;
        let by_resync = std::mem::take(&mut state.by_resync);
        Some(Due { key, by_resync })
    }

    /// What the last refusal of the key said.
    pub(crate) fn failure(&self, key: &WorkKey) -> Option<&str> {
        self.keys.get(key)?.failure.as_deref()
    }

    /// A key that was popped is done with; `wake_after` is when its plan wants to be made again.
    pub(crate) fn finish(
        &mut self,
        key: &WorkKey,
        finish: Finish,
        wake_after: Option<Duration>,
        now: Instant,
    ) {
        let Some(state) = self.keys.get_mut(key) else {
            return;
        };
        state.in_flight = false;
        let woken = std::mem::take(&mut state.woken);
        // A plan that sees the wall clock elsewhere than its timer did must not be made again and again.
        let mut at = wake_after.map(|after| now + after.max(WAKE_AFTER_MIN));
        match finish {
            Finish::Done { wrote } => {
                state.failures = 0;
                state.failure = None;
                state.not_before = wrote.then(|| now + KEY_COOLDOWN);
            }
            Finish::Conflict | Finish::Failed(_) => {
                let wait = backoff(state.failures);
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(now + wait.min(FAILING_KEY_PAUSE_MAX));
                state.failure = match finish {
                    Finish::Failed(message) => Some(message),
                    Finish::Conflict | Finish::Done { .. } => state.failure.take(),
                };
                at = Some(at.map_or(now + wait, |at| at.min(now + wait)));
            }
        }
        self.set_timer(key, at);
        if woken {
            self.wake(key.clone(), now);
        }
        self.tidy(key);
    }

    /// When the next timer fires; keys that are ready now need no timer.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Keys that are ready to be planned, timers that have fired not counted.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    fn fire(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            if let Some(state) = self.keys.get_mut(&key) {
                state.timer = None;
                state.by_resync = false;
                if state.in_flight {
                    state.woken = true;
                } else if !state.queued {
                    self.enqueue(key);
                }
            }
        }
    }

    fn enqueue(&mut self, key: WorkKey) {
        if let Some(state) = self.keys.get_mut(&key) {
            state.queued = true;
        }
        self.ready.push_back(key);
    }

    fn set_timer_at_most(&mut self, key: &WorkKey, at: Instant) {
        let current = self.keys.get(key).and_then(|state| state.timer);
        self.set_timer(key, Some(current.map_or(at, |current| current.min(at))));
    }

    fn set_timer(&mut self, key: &WorkKey, at: Option<Instant>) {
        let Some(state) = self.keys.get_mut(key) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut state.timer, at) {
            self.timers.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, key.clone()));
        }
    }

    /// Forgets keys about which there is nothing to remember.
    fn tidy(&mut self, key: &WorkKey) {
        let idle = self.keys.get(key).is_some_and(|state| {
            !state.queued && !state.in_flight && state.timer.is_none() && state.failures == 0
        });
        // A cool-down that is forgotten costs one plan, so keep it only for keys with a timer.
        if idle && self.keys.get(key).is_some_and(|state| state.not_before.is_none()) {
            self.keys.remove(key);
        }
    }

    /// Forgets cool-downs that are over; called now and then.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.keys.retain(|_, state| {
            state.queued
                || state.in_flight
                || state.timer.is_some()
                || state.failures > 0
                || state.not_before.is_some_and(|not_before| not_before > now)
        });
    }
}

fn backoff(failures: u32) -> Duration {
    let factor = 2u32.saturating_pow(failures.min(31));
    BACKOFF_BASE.saturating_mul(factor).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Controller;
    use crate::resources::PODS;

    fn key(name: &str) -> WorkKey {
        WorkKey::new(Controller::PodGc, PODS.key("default", name))
    }

    fn popped(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now))
            .map(|due| due.key.key.object.name.to_string())
            .collect()
    }

    #[test]
    fn a_key_waits_once_however_often_it_is_woken() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for name in ["a", "b", "a", "a"] {
            queue.wake(key(name), now);
        }
        assert_eq!(popped(&mut queue, now), ["a", "b"]);
    }

    #[test]
    fn a_key_in_flight_is_planned_again_only_after_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        assert_eq!(popped(&mut queue, now), ["a"]);
        queue.wake(key("a"), now);
        assert!(popped(&mut queue, now).is_empty());
        queue.finish(&key("a"), Finish::Done { wrote: false }, None, now);
        assert_eq!(popped(&mut queue, now), ["a"]);
    }

    #[test]
    fn a_key_that_wrote_cools_down() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        popped(&mut queue, now);
        queue.finish(&key("a"), Finish::Done { wrote: true }, None, now);
        queue.wake(key("a"), now);
        assert!(popped(&mut queue, now).is_empty());
        assert_eq!(queue.next_timer(), Some(now + KEY_COOLDOWN));
        assert_eq!(popped(&mut queue, now + KEY_COOLDOWN), ["a"]);
    }

    #[test]
    fn who_asks_to_be_woken_at_once_is_woken_a_little_later() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        popped(&mut queue, now);
        queue.finish(&key("a"), Finish::Done { wrote: false }, Some(Duration::ZERO), now);
        assert!(popped(&mut queue, now).is_empty(), "it would never end");
        assert_eq!(popped(&mut queue, now + WAKE_AFTER_MIN), ["a"]);
    }

    #[test]
    fn failures_double_the_wait_and_success_forgets_them() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        for expected_ms in [5, 10, 20, 40] {
            assert_eq!(popped(&mut queue, now), ["a"]);
            queue.finish(&key("a"), Finish::Failed("no".to_owned()), None, now);
            assert_eq!(queue.failure(&key("a")), Some("no"));
            let at = now + Duration::from_millis(expected_ms);
            assert_eq!(queue.next_timer(), Some(at));
            assert!(popped(&mut queue, at - Duration::from_millis(1)).is_empty());
            now = at;
        }
        assert_eq!(popped(&mut queue, now), ["a"]);
        queue.finish(&key("a"), Finish::Done { wrote: false }, None, now);
        assert_eq!((queue.failure(&key("a")), queue.next_timer()), (None, None));
        assert_eq!(backoff(40), BACKOFF_MAX);
    }

    #[test]
    fn the_last_plan_decides_when_to_look_again() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        popped(&mut queue, now);
        let hour = Duration::from_secs(3600);
        queue.finish(&key("a"), Finish::Done { wrote: false }, Some(hour), now);
        queue.wake(key("a"), now);
        assert_eq!(popped(&mut queue, now), ["a"]);
        queue.finish(&key("a"), Finish::Done { wrote: false }, None, now);
        assert_eq!(queue.next_timer(), None);
        assert!(popped(&mut queue, now + hour).is_empty());
    }

    #[test]
    fn only_what_nobody_else_asked_for_counts_as_resync() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.wake(key("a"), now);
        queue.resync(key("a"), now);
        queue.resync(key("b"), now);
        assert_eq!(queue.pop(now), Some(Due { key: key("a"), by_resync: false }));
        assert_eq!(queue.pop(now), Some(Due { key: key("b"), by_resync: true }));
        queue.finish(&key("a"), Finish::Conflict, None, now);
        queue.finish(&key("b"), Finish::Done { wrote: true }, None, now);
        queue.resync(key("a"), now);
        queue.resync(key("b"), now);
        assert_eq!(queue.pop(now), None, "one failed, the other has just written");
    }
}
