//! A leader that is not fit to lead hands over to a master that is: its disk is full, or too slow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_store::{Alarm, Change, Masters};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The leader looks at itself this often.
const INTERVAL: Duration = Duration::from_millis(500);

/// What lasts for less is no reason.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a try, taken or not, the next one is not before this: leadership that goes to and fro is worse than one
/// that is slow.
const PAUSE: Duration = Duration::from_secs(60);

/// When this master last handed over by itself, whatever leadership that was in.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandedOver(Arc<Mutex<Option<Instant>>>);

impl HandedOver {
    fn lately(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
    }

    fn note(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

/// Since when each alarm of this master has lasted.
#[derive(Debug, Default)]
struct Lasting(BTreeMap<Alarm, Instant>);

impl Lasting {
    /// The alarm for which this master should no longer lead.
    fn look(&mut self, raised: impl IntoIterator<Item = Alarm>, now: Instant) -> Option<Alarm> {
        let unfit = raised.into_iter().filter(|alarm| alarm.unfit_to_lead());
        let since = |alarm| (alarm, self.0.get(&alarm).copied().unwrap_or(now));
        self.0 = unfit.map(since).collect();
        let lasts = |since: &Instant| now.saturating_duration_since(*since) >= PATIENCE;
        self.0.iter().find(|(_, since)| lasts(since)).map(|(alarm, _)| *alarm)
    }
}

/// Looks after that for as long as it is not ended; only a leader has to.
pub(crate) async fn look_after_fitness(
    masters: Masters,
    handed: HandedOver,
    ended: CancellationToken,
) {
    let mut lasting = Lasting::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = ended.cancelled() => return,
        }
        let (status, now) = (masters.status(), Instant::now());
        let Some(alarm) = lasting.look(masters.alarms(), now) else { continue };
        if handed.lately(now) || status.leader != Some(status.id) || status.joint {
            continue;
        }
        let Some(to) = masters.fit_to_lead().await else { continue };
        handed.note(now);
        tracing::warn!(%alarm, to, "this master is not fit to lead: handing over");
        if let Err(error) = masters.change(&Change::Lead { to: Some(to.clone()) }).await {
            tracing::warn!(%alarm, to, %error, "leadership could not be handed over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_and_others_may_not_have_is_a_reason() {
        let (mut lasting, now) = (Lasting::default(), Instant::now());
        let both = [Alarm::SlowDisk, Alarm::Quota];
        assert_eq!(lasting.look(both, now), None);
        assert_eq!(lasting.look([], now + PATIENCE / 2), None);
        assert_eq!(lasting.look(both, now + PATIENCE), None, "it was over in between");
        assert_eq!(lasting.look(both, now + 2 * PATIENCE), Some(Alarm::SlowDisk));
        assert_eq!(lasting.look([Alarm::Quota], now + 4 * PATIENCE), None);
    }
}
