//! What becomes of one more event: client-go's `EventCorrelator` (spam filter, aggregation of
//! similar events, counting of equal ones) as a value. No clock, no I/O.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use jiff::Timestamp;

use super::{EventDraft, Regarding};
use crate::limits::{
    RECORDER_KEYS_MAX, RECORDER_PENDING_EVENTS_MAX, RECORDER_SIMILAR_EVENTS_MAX,
    RECORDER_SIMILAR_WINDOW, RECORDER_SPAM_BURST, RECORDER_SPAM_REFILL,
};

const COMBINED: &str = "(combined from similar events): ";

/// One Event object: the latest of a series of equal events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Name of the Event object.
    pub name: String,
    /// What is said, with the message of the latest.
    pub draft: EventDraft,
    /// How often.
    pub count: u32,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Correlator {
    buckets: Bounded<(&'static str, Regarding), Bucket>,
    similar: Bounded<Similar, Messages>,
    series: Bounded<SeriesKey, Series>,
    pending: VecDeque<SeriesKey>,
    waiting: HashSet<SeriesKey>,
    dropped: u64,
}

/// Equal but for the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Similar {
    component: &'static str,
    regarding: Regarding,
    warning: bool,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SeriesKey {
    similar: Similar,
    /// `None` for the combined one.
    message: Option<String>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Debug)]
struct Messages {
    seen: HashSet<String>,
    last: Timestamp,
}

impl Correlator {
    /// Takes one event; whether something waits to be written because of it.
    pub fn observe(&mut self, draft: EventDraft, now: Timestamp) -> bool {
        if !self.may_speak(&draft, now) {
            self.dropped += 1;
            return false;
        }
        let key = self.series_key(&draft, now);
        let combined = key.message.is_none();
        let series = self.series.entry(key.clone(), || Series {
            name: event_name(&draft.regarding.name, now),
            draft: draft.clone(),
            count: 0,
            first: now,
            last: now,
        });
        series.count = series.count.saturating_add(1);
        series.last = now;
        series.draft.message =
            if combined { format!("{COMBINED}{}", draft.message) } else { draft.message };
        self.enqueue(key);
        true
    }

    /// Takes out up to `max` that wait, oldest first.
    pub fn take_due(&mut self, max: usize) -> Vec<Series> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some(key) = self.pending.pop_front()
        {
            self.waiting.remove(&key);
            due.extend(self.series.get(&key).cloned());
        }
        due
    }

    /// Events dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A token bucket per object and speaker, as client-go's spam filter.
    fn may_speak(&mut self, draft: &EventDraft, now: Timestamp) -> bool {
        let key = (draft.component, draft.regarding.clone());
        let bucket =
            self.buckets.entry(key, || Bucket { tokens: f64::from(RECORDER_SPAM_BURST), at: now });
        let seconds = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        let refilled = bucket.tokens + seconds / RECORDER_SPAM_REFILL.as_secs_f64();
        bucket.tokens = refilled.min(f64::from(RECORDER_SPAM_BURST));
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// Many similar events with different messages become one combined series.
    fn series_key(&mut self, draft: &EventDraft, now: Timestamp) -> SeriesKey {
        let similar = Similar {
            component: draft.component,
            regarding: draft.regarding.clone(),
            warning: draft.warning,
            reason: draft.reason,
        };
        let messages =
            self.similar.entry(similar.clone(), || Messages { seen: HashSet::new(), last: now });
        if now.duration_since(messages.last).unsigned_abs() > RECORDER_SIMILAR_WINDOW {
            messages.seen.clear();
        }
        messages.last = now;
        if messages.seen.len() < RECORDER_SIMILAR_EVENTS_MAX
            || messages.seen.contains(&draft.message)
        {
            messages.seen.insert(draft.message.clone());
        }
        let full = messages.seen.len() >= RECORDER_SIMILAR_EVENTS_MAX;
        SeriesKey { similar, message: (!full).then(|| draft.message.clone()) }
    }

    fn enqueue(&mut self, key: SeriesKey) {
        if !self.waiting.insert(key.clone()) {
            return;
        }
        self.pending.push_back(key);
        if self.pending.len() > RECORDER_PENDING_EVENTS_MAX
            && let Some(oldest) = self.pending.pop_front()
        {
            self.waiting.remove(&oldest);
            self.dropped += 1;
        }
    }
}

/// client-go: name of the object, a dot, the time in nanoseconds as hex.
fn event_name(object: &str, now: Timestamp) -> String {
    // 253 is the limit of names; the suffix takes 17.
    let object: String = object.chars().take(230).collect();
    format!("{object}.{:x}", now.as_nanosecond())
}

/// A map that forgets the quarter that was used longest ago when it is full.
#[derive(Debug)]
struct Bounded<K, V> {
    map: HashMap<K, (u64, V)>,
    used: u64,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), used: 0 }
    }
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(|(_, value)| value)
    }

    fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if self.map.len() >= RECORDER_KEYS_MAX && !self.map.contains_key(&key) {
            let mut ages: Vec<u64> = self.map.values().map(|(used, _)| *used).collect();
            ages.sort_unstable();
            let bound = ages[RECORDER_KEYS_MAX / 4];
            self.map.retain(|_, (used, _)| *used > bound);
        }
        self.used += 1;
        let used = self.used;
        let slot = self.map.entry(key).or_insert_with(|| (used, make()));
        slot.0 = used;
        &mut slot.1
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn draft(object: &str, message: &str) -> EventDraft {
        EventDraft {
            component: "test",
            regarding: Regarding { name: object.to_owned(), ..Regarding::default() },
            warning: false,
            reason: "Tested",
            message: message.to_owned(),
        }
    }

    fn said(correlator: &mut Correlator) -> Vec<(String, u32)> {
        correlator
            .take_due(usize::MAX)
            .into_iter()
            .map(|series| (series.draft.message, series.count))
            .collect()
    }

    #[test]
    fn equal_events_are_one_with_a_count() {
        let mut correlator = Correlator::default();
        for _ in 0..3 {
            assert!(correlator.observe(draft("a", "x"), start()));
        }
        assert_eq!(said(&mut correlator), [("x".to_owned(), 3)]);
        correlator.observe(draft("a", "x"), start() + SignedDuration::from_secs(60));
        assert_eq!(said(&mut correlator), [("x".to_owned(), 4)]);
    }

    #[test]
    fn the_tenth_different_message_is_combined() {
        let mut correlator = Correlator::default();
        for number in 0..12 {
            correlator.observe(draft("a", &number.to_string()), start());
        }
        let said = said(&mut correlator);
        assert_eq!(said.len(), 10);
        assert_eq!(said[9], ("(combined from similar events): 11".to_owned(), 3));
    }

    #[test]
    fn an_object_that_talks_too_much_is_not_heard_until_its_bucket_refills() {
        let mut correlator = Correlator::default();
        let heard = (0..100).filter(|_| correlator.observe(draft("a", "x"), start())).count();
        assert_eq!(heard, RECORDER_SPAM_BURST as usize);
        assert!(correlator.observe(draft("b", "x"), start()), "others are heard");
        let later = start() + SignedDuration::from_secs(301);
        assert!(correlator.observe(draft("a", "x"), later));
        assert!(!correlator.observe(draft("a", "x"), later));
    }

    #[test]
    fn the_oldest_waiting_event_makes_room() {
        let mut correlator = Correlator::default();
        for number in 0..=RECORDER_PENDING_EVENTS_MAX {
            correlator.observe(draft(&number.to_string(), "x"), start());
        }
        let due = correlator.take_due(usize::MAX);
        assert_eq!(due.len(), RECORDER_PENDING_EVENTS_MAX);
        assert_eq!(due[0].draft.regarding.name, "1");
        assert_eq!(correlator.dropped(), 1);
    }
}
