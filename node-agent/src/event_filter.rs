//! Which events are told at all, as client-go's correlator decides it: many that differ in their words alone become one
//! "combined" event, one object's events are rationed, and equal ones share a name and count up. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::limits::{
    EVENT_BURST, EVENT_OBJECTS_MAX, EVENT_REFILL_INTERVAL, EVENT_SIMILAR_INTERVAL,
    EVENT_SIMILAR_MAX,
};

/// What a combined event begins with.
const COMBINED: &str = "(combined from similar events): ";

struct Similar {
    messages: BTreeSet<String>,
    last: Instant,
}

struct Ration {
    left: f64,
    last: Instant,
}

/// Equal events: one Event object.
struct Series {
    name: String,
    count: i32,
    first: Timestamp,
    last: Instant,
}

/// What is told of one more event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) message: String,
    /// Of the Event object: the first of equal ones has given it.
    pub(crate) name: String,
    /// How many of them there were, with this one.
    pub(crate) count: i32,
    /// When the first was.
    pub(crate) first: Timestamp,
}

/// An event as it comes.
pub(crate) struct Said<'a> {
    /// Names what it is about, apart from all other objects.
    pub(crate) object: &'a str,
    /// That object's name.
    pub(crate) object_name: &'a str,
    /// Which part of it.
    pub(crate) field_path: &'a str,
    /// Type and reason.
    pub(crate) kind: &'a str,
    pub(crate) message: &'a str,
}

/// Remembers what was told lately.
#[derive(Default)]
pub(crate) struct Filter {
    similar: BTreeMap<String, Similar>,
    rations: BTreeMap<String, Ration>,
    series: BTreeMap<String, Series>,
    /// In the last name given: no two are the same.
    nanoseconds: i128,
}

impl Filter {
    /// What to tell of an event; `None`: nothing is told.
    pub(crate) fn admit(&mut self, said: &Said<'_>, now: Instant, time: Timestamp) -> Option<Told> {
        let Said { object, object_name, field_path, kind, message } = said;
        let message = self.combine(&format!("{object}\0{kind}"), message, now);
        if !self.take(object, now) {
            return None;
        }
        // Combined ones differ in their words and are one all the same.
        let words = match message.starts_with(COMBINED) {
            true => COMBINED.to_owned(),
            false => format!("{field_path}\0{message}"),
        };
        let key = format!("{object}\0{kind}\0{words}");
        make_room(&mut self.series, &key, |series| series.last);
        let nanoseconds = &mut self.nanoseconds;
        let series = self.series.entry(key).or_insert_with(|| {
            *nanoseconds = time.as_nanosecond().max(*nanoseconds + 1);
            let name = quorate_api::text::event_name(object_name, *nanoseconds);
            Series { name, count: 0, first: time, last: now }
        });
        series.count = series.count.saturating_add(1);
        series.last = now;
        let (name, count, first) = (series.name.clone(), series.count, series.first);
        Some(Told { message, name, count, first })
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

    fn admit(filter: &mut Filter, object: &str, message: &str, now: Instant) -> Option<Told> {
        let said = Said { object, object_name: object, field_path: "", kind: "k", message };
        filter.admit(&said, now, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn equal_events_share_a_name_and_count_up() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        let time = |second| Timestamp::from_second(second).unwrap();
        let mut tell = |path: &str, message: &str, second| {
            let said = Said { object: "o", object_name: "p", field_path: path, kind: "k", message };
            let told = filter.admit(&said, start, time(second)).unwrap();
            (told.name, told.count, told.first)
        };
        let name = |nanoseconds: i128| format!("p.{nanoseconds:x}");
        assert_eq!(tell("a", "x", 1), (name(1_000_000_000), 1, time(1)));
        assert_eq!(tell("a", "x", 2), (name(1_000_000_000), 2, time(1)));
        // In the same moment: other names, in order.
        assert_eq!(tell("b", "x", 2), (name(2_000_000_000), 1, time(2)));
        assert_eq!(tell("a", "y", 2), (name(2_000_000_001), 1, time(2)));
    }

    #[test]
    fn combined_events_are_one() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        let told: Vec<Told> =
            (0..12).map(|n| admit(&mut filter, "p", &format!("m{n}"), start).unwrap()).collect();
        let names: BTreeSet<&str> = told.iter().map(|told| told.name.as_str()).collect();
        assert_eq!((names.len(), told[11].count), (10, 3));
        assert_eq!(told[11].name, told[9].name);
    }

    #[test]
    fn an_objects_events_are_rationed() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        let told = (0..40).filter(|_| admit(&mut filter, "p", "m", start).is_some()).count();
        assert_eq!(told, 25);
        assert!(admit(&mut filter, "other", "m", start).is_some());
        assert!(admit(&mut filter, "p", "m", start + Duration::from_secs(299)).is_none());
        assert!(admit(&mut filter, "p", "m", start + Duration::from_secs(301)).is_some());
        assert!(admit(&mut filter, "p", "m", start + Duration::from_secs(302)).is_none());
    }

    #[test]
    fn many_that_differ_in_words_alone_become_one() {
        let (mut filter, start) = (Filter::default(), Instant::now());
        let mut tell =
            |n: usize, at: Instant| admit(&mut filter, "p", &format!("m{n}"), at).unwrap().message;
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
            admit(&mut filter, &n.to_string(), "m", start + Duration::from_millis(n as u64));
        }
        assert_eq!(filter.similar.len(), EVENT_OBJECTS_MAX);
        assert_eq!(filter.rations.len(), EVENT_OBJECTS_MAX);
        assert_eq!(filter.series.len(), EVENT_OBJECTS_MAX);
        assert!(!filter.rations.contains_key("0"));
    }
}
