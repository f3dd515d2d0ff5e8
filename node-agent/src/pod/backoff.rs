//! Back-off of crashing containers and failing pulls, as the kubelet counts it: nothing before the first restart, then
//! 10 s doubling to 5 min, forgotten after 10 min of peace. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::limits::{BACKOFF_INITIAL, BACKOFF_MAX};

/// How long the next restart waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Wait after the container's end.
    pub(crate) delay: Duration,
    /// When the delay was last raised.
    pub(crate) updated: Timestamp,
}

fn add(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(
        jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX),
    )
    .unwrap_or(Timestamp::MAX)
}

/// `time + duration`, saturating.
pub(crate) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    add(time, duration)
}

/// Until when a container that ended at `finished` has to wait; `None`: it may start now.
pub(crate) fn wait_until(
    entry: Option<&Backoff>,
    finished: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let entry = entry?;
    if expired(entry, finished) {
        return None;
    }
    let until = add(finished, entry.delay);
    (until > now).then_some(until)
}

/// The entry after one more start at `now` of what ended at `ended`.
pub(crate) fn raise(entry: Option<&Backoff>, ended: Timestamp, now: Timestamp) -> Backoff {
    match entry {
        Some(old) if !expired(old, ended) => {
            Backoff { delay: (old.delay * 2).min(BACKOFF_MAX), updated: now }
        }
        _ => Backoff { delay: BACKOFF_INITIAL, updated: now },
    }
}

/// Twice the longest wait without trouble clears the record.
fn expired(entry: &Backoff, at: Timestamp) -> bool {
    at > add(entry.updated, BACKOFF_MAX * 2)
}

/// A duration as Go prints it when cut to milliseconds (`350ms`, `1.204s`, `2m3.5s`), for messages.
pub(crate) fn go_millis(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        1..1000 => format!("{millis}ms"),
        _ => {
            let rest = millis % 1000;
            let whole = go_duration(Duration::from_secs(duration.as_secs()));
            let fraction = format!("{rest:03}");
            match fraction.trim_end_matches('0') {
                "" => whole,
                digits => format!("{}.{digits}s", whole.trim_end_matches('s')),
            }
        }
    }
}

/// A duration as Go prints it (`10s`, `1m20s`, `5m0s`), for messages.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) if minutes < 60 => format!("{minutes}m{seconds}s"),
        (minutes, seconds) => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_10_20_40_up_to_300_seconds() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut entry = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            // The container dies at once; then it waits as told and starts again.
            match wait_until(entry.as_ref(), now, now) {
                Some(until) => {
                    waits.push(until.duration_since(now).as_secs());
                    now = until;
                }
                None => waits.push(0),
            }
            entry = Some(raise(entry.as_ref(), now, now));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        // Eleven good minutes later it starts at once, and counts from the beginning.
        let later = add(now, Duration::from_secs(660));
        assert_eq!(wait_until(entry.as_ref(), later, later), None);
        assert_eq!(raise(entry.as_ref(), later, later).delay, BACKOFF_INITIAL);
    }

    #[test]
    fn durations_read_as_in_go() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
        for (millis, text) in
            [(0, "0s"), (350, "350ms"), (1204, "1.204s"), (2000, "2s"), (123_500, "2m3.5s")]
        {
            assert_eq!(go_millis(Duration::from_millis(millis)), text);
        }
    }
}
