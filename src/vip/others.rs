//! What the other masters say of their virtual addresses: whether they are set as here, and which hardware addresses
//! are theirs. A master that hung or was killed has an address for a moment more than it leads; that is no reason for
//! the next leader not to take it, while a host that is no master is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use quorate_raft::{MemberStatus, NodeId, Status};
use quorate_store::{Masters, Vips};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frames::Mac;

/// They are asked this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// As long as one has never answered, at first.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);

/// Who has not answered so long after the start is away.
const FIRST: Duration = Duration::from_secs(30);

/// What was said longer ago is not of now: an election, and what else there is to wait for, is over by then.
const LATELY: Duration = Duration::from_secs(10);

/// As what a difference stands among the troubles.
const SETTINGS: &str = "settings";

/// What each has said last, and when; it stays when one is silent, which is when it is needed.
#[derive(Debug, Clone, Default)]
pub struct Others(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    masters: BTreeMap<NodeId, (Instant, Vips)>,
    /// In what they differed when they were last asked.
    differ: Option<String>,
}

impl Others {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of the masters may answer under this hardware address.
    pub fn has(&self, mac: &Mac) -> bool {
        self.known().masters.values().any(|(_, vips)| vips.links.contains(mac))
    }

    /// Whether one of them has lately said that it holds the address: then no stranger has it.
    pub fn held_lately(&self, ip: IpAddr) -> bool {
        self.known()
            .masters
            .values()
            .any(|(at, vips)| vips.held.contains(&ip) && at.elapsed() <= LATELY)
    }

    /// Asks all of them.
    pub async fn ask(&self, masters: &Masters) {
        let status = masters.status();
        let moved = elsewhere(&status);
        let asked =
            status.members.iter().filter(|known| known.id != status.id).map(|known| async {
                let about = masters.about(known.id).await?;
                Some((known.id, known.member.name.clone(), about.vips))
            });
        let said: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let (now, differ) = (Instant::now(), differ(&masters.vips().set, &said).or(moved));
        let lasts = {
            let mut known = self.known();
            known.masters.retain(|id, _| status.members.iter().any(|member| member.id == *id));
            known.masters.extend(said.into_iter().map(|(id, _, vips)| (id, (now, vips))));
            std::mem::replace(&mut known.differ, differ.clone()) == differ
        };
        // Who starts may be asked a moment before it knows.
        if lasts {
            note(masters, differ);
        }
    }

    /// Keeps it up to date until `stop`.
    pub async fn follow(self, masters: Masters, stop: CancellationToken) {
        let began = Instant::now();
        loop {
            self.ask(&masters).await;
            let known = self.known().masters.len() + 1;
            let all = known >= masters.status().members.len();
            tokio::select! {
                () = tokio::time::sleep(interval(all, began.elapsed())) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// Until they are asked again, so long after the first time.
fn interval(all_answered: bool, since: Duration) -> Duration {
    if all_answered || since >= FIRST { INTERVAL } else { FIRST_INTERVAL }
}

/// The masters that have other addresses, in words.
fn differ(own: &BTreeSet<IpAddr>, said: &[(NodeId, String, Vips)]) -> Option<String> {
    let text = |set: &BTreeSet<IpAddr>| match set.is_empty() {
        true => "none".to_owned(),
        false => set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    };
    let others = said.iter().filter(|(_, _, vips)| vips.set != *own);
    let others: Vec<String> =
        others.map(|(_, name, vips)| format!("{name} has {}", text(&vips.set))).collect();
    (!others.is_empty()).then(|| {
        format!(
            "the masters were started with different --vip: this one has {}, {}. Give all the same",
            text(own),
            others.join(", ")
        )
    })
}

/// The masters whose API has another port, in words.
fn elsewhere(status: &Status) -> Option<String> {
    let port = |member: &MemberStatus| {
        member.member.api_address.rsplit_once(':').map(|(_, port)| port.to_owned())
    };
    let own = status.members.iter().find(|member| member.id == status.id).and_then(port)?;
    let others = status.members.iter().filter(|member| port(member).as_ref() != Some(&own));
    let others: Vec<&str> = others.map(|member| member.member.api_address.as_str()).collect();
    (!others.is_empty()).then(|| {
        format!(
            "this master's API has port {own}, and others are at {}: who knows the virtual address knows one port. Give \
             all the same with --listen",
            others.join(", ")
        )
    })
}

fn note(masters: &Masters, differ: Option<String>) {
    let before = masters.vips().troubles.get(SETTINGS).cloned();
    if before == differ {
        return;
    }
    match &differ {
        Some(why) => tracing::warn!("{why}"),
        None => {
            tracing::info!("all masters have the same virtual addresses, and the same port, now")
        }
    }
    masters.note_vips(|vips| match differ {
        Some(why) => drop(vips.troubles.insert(SETTINGS.to_owned(), why)),
        None => drop(vips.troubles.remove(SETTINGS)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_answers_is_asked_often_at_first_only() {
        assert_eq!(interval(false, Duration::ZERO), FIRST_INTERVAL);
        assert_eq!(interval(true, Duration::ZERO), INTERVAL);
        assert_eq!(interval(false, FIRST), INTERVAL);
    }

    #[test]
    fn who_has_others_is_named_with_them() {
        let set = |all: &[&str]| all.iter().map(|ip| ip.parse().unwrap()).collect::<BTreeSet<_>>();
        let said = |name: &str, all: &[&str]| {
            (NodeId(2), name.to_owned(), Vips { set: set(all), ..Vips::default() })
        };
        let own = set(&["10.0.0.9", "fd00::9"]);
        assert_eq!(differ(&own, &[said("b", &["fd00::9", "10.0.0.9"])]), None);
        let why = differ(&own, &[said("b", &["10.0.0.8"]), said("c", &[])]).unwrap();
        assert!(why.contains("has 10.0.0.9 and fd00::9, b has 10.0.0.8, c has none"), "{why}");
    }
}
