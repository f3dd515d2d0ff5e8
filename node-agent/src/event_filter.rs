//! Which events are told at all, as client-go's correlator decides it: many that differ in their words alone become one
//! "combined" event, and one object's events are rationed. Counting up equal ones is the masters' part. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    EVENT_BURST, EVENT_OBJECTS_MAX, EVENT_REFILL_INTERVAL, EVENT_SIMILAR_INTERVAL,
    EVENT_SIMILAR_MAX,
};

/// What a combined event begins with; the masters find it by these words.
const COMBINED: &str = "(combined from similar events): ";

struct Similar {
    messages: BTreeSet<String>,
    last: Instant,
}

struct Ration {
    left: f64,
    last: Instant,
}

/// Remembers what was told lately.
#[derive(Default)]
pub(crate) struct Filter {
    similar: BTreeMap<String, Similar>,
    rations: BTreeMap<String, Ration>,
}

impl Filter {
    /// The message to tell of an object's event; `None`: nothing is told. `kind` is everything of the event but object
    /// and message.
    pub(crate) fn admit(
        &mut self,
        object: &str,
        kind: &str,
        message: &str,
        now: Instant,
    ) -> Option<String> {
        let message = self.combine(&format!("{object}\0{kind}"), message, now);
        self.take(object, now).then_some(message)
    }

    fn combine(&mut self, key: &str, message: &str, now: Instant) -> String {
        make_room(&mut self.similar, key, |similar| similar.last);
        let similar = self
            .similar
            .entry(key.to_owned())
            .or_insert_with(|| Similar { messages: BTreeSet::new(), last: now });
        if now.duration_since(similar.last) > EVENT_SIMILAR_INTERVAL {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(message.to_owned());
        if similar.messages.len() < EVENT_SIMILAR_MAX {
            return message.to_owned();
        }
        similar.messages.pop_first();
        format!("{COMBINED}{message}")
    }

    fn take(&mut self, object: &str, now: Instant) -> bool {
        make_room(&mut self.rations, object, |ration| ration.last);
        let ration = self
            .rations
            .entry(object.to_owned())
            .or_insert_with(|| Ration { left: EVENT_BURST, last: now });
        let passed: Duration = now.duration_since(ration.last);
        let refill = passed.as_secs_f64() / EVENT_REFILL_INTERVAL.as_secs_f64();
        ration.left = (ration.left + refill).min(EVENT_BURST);
        ration.last = now;
        let some = ration.left >= 1.0;
        if some {
            ration.left -= 1.0;
        }
        some
    }
}

/// Forgets the oldest entry when a new one would be too many.
fn make_room<T>(map: &mut BTreeMap<String, T>, key: &str, last: impl Fn(&T) -> Instant) {
    if map.len() >= EVENT_OBJECTS_MAX && !map.contains_key(key) {
        let oldest = map.iter().min_by_key(|(_, entry)| last(entry)).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            map.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_events_are_rationed() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        let told = (0..40).filter(|_| filter.admit("p", "k", "m", start).is_some()).count();
        assert_eq!(told, 25);
        assert!(filter.admit("other", "k", "m", start).is_some());
        assert!(filter.admit("p", "k", "m", start + Duration::from_secs(299)).is_none());
        assert!(filter.admit("p", "k", "m", start + Duration::from_secs(301)).is_some());
        assert!(filter.admit("p", "k", "m", start + Duration::from_secs(302)).is_none());
    }

    #[test]
    fn many_that_differ_in_words_alone_become_one() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        let mut tell =
            |n: usize, at: Instant| filter.admit("p", "k", &format!("m{n}"), at).unwrap();
        for n in 0..9 {
            assert_eq!(tell(n, start), format!("m{n}"));
        }
        assert_eq!(tell(9, start), "(combined from similar events): m9");
        assert_eq!(tell(10, start), "(combined from similar events): m10");
        // After ten quiet minutes they are told one by one again.
        let later = start + Duration::from_secs(601);
        assert_eq!(tell(11, later), "m11");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        for n in 0..EVENT_OBJECTS_MAX + 5 {
            filter.admit(&n.to_string(), "k", "m", start + Duration::from_millis(n as u64));
        }
        assert_eq!(filter.similar.len(), EVENT_OBJECTS_MAX);
        assert_eq!(filter.rations.len(), EVENT_OBJECTS_MAX);
        assert!(!filter.rations.contains_key("0"));
    }
}
