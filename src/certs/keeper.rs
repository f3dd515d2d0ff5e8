//! What a master does about its certificates by itself: makes them anew in time, and follows the record of a change of
//! the authorities, whenever it comes to see it. It only ever goes forward, so it may be ended at any point and begin
//! again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quorate_pki::{KeyRing, Phase};
use quorate_store::{Masters, Store};
use tokio_util::sync::CancellationToken;

use super::record::{self, Record};
use super::{Certs, peers};

/// How often is looked whether anything is to be done.
const INTERVAL: Duration = Duration::from_millis(250);

/// After something that failed.
const RETRY: Duration = Duration::from_secs(2);

/// The next thing to do about the authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Get the new ones from another master, and believe them.
    Fetch,
    /// The new ones sign.
    Sign,
    /// The old ones go.
    Finish,
}

fn step(ring: &KeyRing, record: &Record) -> Step {
    if record.abandoned || record.generation < ring.generation() {
        return Step::Nothing;
    }
    // The same number, and others: they were made here, and never became the cluster's.
    let held = ring.generation() == record.generation
        && ring.newest().fingerprints() == record.authorities;
    if !held {
        return Step::Fetch;
    }
    match (ring.phase(), record.phase) {
        (Phase::Trust, Phase::Sign | Phase::Done) => Step::Sign,
        (Phase::Sign, Phase::Done) => Step::Finish,
        (Phase::Trust, Phase::Trust)
        | (Phase::Sign, Phase::Trust | Phase::Sign)
        | (Phase::Done, _) => Step::Nothing,
    }
}

/// Runs until `stop`.
pub async fn keep(certs: Arc<Certs>, store: Store, masters: Masters, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        let wait = match turn(&certs, &store, &masters).await {
            Ok(()) => {
                told.clear();
                INTERVAL
            }
            Err(error) => {
                // Each reason once: it may last.
                let why = format!("{error:#}");
                if why != told {
                    tracing::warn!(why, "this master's certificates cannot be brought up to date");
                    told = why;
                }
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn turn(certs: &Certs, store: &Store, masters: &Masters) -> anyhow::Result<()> {
    certs.renew_if_due(Timestamp::now())?;
    let Some(record) = record::read(&store.view()) else { return Ok(()) };
    let ring = certs.now().ring.clone();
    anyhow::ensure!(
        record.is_possible(ring.generation()),
        "the record of the authorities is of generation {}, and the keys here are of {}: it is ignored, and \
         `quorate certs rotate-ca` writes another",
        record.generation,
        ring.generation()
    );
    match step(&ring, &record) {
        Step::Nothing => Ok(()),
        Step::Fetch => {
            let Record { generation, authorities, .. } = &record;
            let keys = peers::fetch(certs, masters, *generation, authorities).await?;
            certs.change_ring(|ring| Ok(ring.with_next(keys, *generation)?))
        }
        Step::Sign => certs.change_ring(|ring| Ok(ring.signing()?)),
        Step::Finish => certs.change_ring(|ring| Ok(ring.finished()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_pki::ClusterKeys;

    #[test]
    fn each_master_follows_the_record_and_never_goes_back() {
        let now = Timestamp::now();
        let first = KeyRing::new(ClusterKeys::generate("c", now).unwrap());
        let trust = first.with_next(first.successor("c", 2, now).unwrap(), 2).unwrap();
        let sign = trust.signing().unwrap();
        let done = sign.finished().unwrap();
        let record = |phase| Record {
            generation: 2,
            phase,
            authorities: trust.newest().fingerprints(),
            made_by: "m0".to_owned(),
            began_at: String::new(),
            abandoned: false,
        };
        let steps = |phase| [&first, &trust, &sign, &done].map(|ring| step(ring, &record(phase)));
        use Step::{Fetch, Finish, Nothing, Sign};
        assert_eq!(steps(Phase::Trust), [Fetch, Nothing, Nothing, Nothing]);
        assert_eq!(steps(Phase::Sign), [Fetch, Sign, Nothing, Nothing]);
        assert_eq!(steps(Phase::Done), [Fetch, Sign, Finish, Nothing]);
        // What was made here and did not become the cluster's gives way.
        let other = first.with_next(first.successor("c", 2, now).unwrap(), 2).unwrap();
        assert_eq!(step(&other, &record(Phase::Trust)), Fetch);
        // A state of an earlier time (a restore) changes nothing.
        let later = done.with_next(done.successor("c", 3, now).unwrap(), 3).unwrap();
        assert_eq!(step(&later, &record(Phase::Sign)), Nothing);
        let abandoned = Record { abandoned: true, ..record(Phase::Trust) };
        assert_eq!(step(&first, &abandoned), Nothing);
    }
}
