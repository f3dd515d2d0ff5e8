//! What happens to the masters, as Events that `kubectl get events` shows: who leads, who has come, votes, or has gone,
//! and alarms. The leader tells, under its leadership. What happened while nobody led, or just before a leader died, is
//! not told later: the status says how things are, events how they came to be.
//!
//! An event names the master's object as upstream's events name nodes: by its name, and by a uid that says which of
//! those that ever had this name. Having no namespace it is kept in `default`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::admit::ControllerAdmit;
use quorate_raft::NodeId;
use quorate_state_machine::Key;
use quorate_store::{Alarm, Clock, EventDraft, LeaderStore, Masters, Recorder, Regarding};
use tokio_util::sync::CancellationToken;

use super::objects::GROUP;

/// Members are looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Alarms of the others are asked for every so many looks.
const LOOKS_PER_ALARMS: u64 = 4;

/// Who says it.
const COMPONENT: &str = "quorate-masters";

/// As whom the events are written.
const USER: &str = "system:quorate-masters";

/// The masters at one moment, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen(BTreeMap<NodeId, One>);

/// One master.
#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    name: String,
    voter: bool,
    alarms: BTreeSet<Alarm>,
}

/// Tells until the leadership ends.
pub(crate) async fn tell(
    masters: Masters,
    lead: LeaderStore,
    admit: Arc<ControllerAdmit>,
    clock: Clock,
) {
    let recorder = Recorder::reserved(clock);
    let look = async {
        let mut before = members(&masters, &Seen::default());
        if let Some(own) = before.0.get(&masters.id()) {
            let leads = format!("{} leads in term {}", own.name, lead.term());
            let elected = draft(masters.id(), &own.name, false, "LeaderElected", leads);
            recorder.record(with_uid(&lead, elected));
        }
        let mut held = BTreeSet::new();
        for number in 0_u64.. {
            let mut now = members(&masters, &before);
            if number.is_multiple_of(LOOKS_PER_ALARMS) {
                ask_alarms(&masters, &mut now).await;
            }
            for news in news(&before, &now) {
                recorder.record(with_uid(&lead, news));
            }
            let holds = masters.vips().held;
            if let Some(own) = now.0.get(&masters.id()) {
                for address in holds.difference(&held) {
                    let message = format!("{} holds the virtual address {address}", own.name);
                    let moved =
                        draft(masters.id(), &own.name, false, "VirtualAddressMoved", message);
                    recorder.record(with_uid(&lead, moved));
                }
            }
            held = holds;
            before = now;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        error = recorder.run(&lead, &*admit, USER) => {
            tracing::debug!(%error, "events of the masters are no longer written");
        }
        () = look => {}
    }
}

/// With the uid of the master's object, where there is one, so that `kubectl describe master` shows it.
fn with_uid(lead: &LeaderStore, mut news: EventDraft) -> EventDraft {
    let key = Key::new(GROUP, "masters", "", &news.regarding.name);
    if let Some(stored) = lead.view().get(&key) {
        stored.uid().clone_into(&mut news.regarding.uid);
    }
    news
}

/// Does something until it is told to end.
pub(crate) async fn until(ended: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = ended.cancelled() => {}
    }
}

/// Who is a member now. Alarms are those that were known before.
fn members(masters: &Masters, before: &Seen) -> Seen {
    let members = masters.status().members.into_iter();
    Seen(
        members
            .map(|member| {
                let known = before.0.get(&member.id);
                let alarms = known.map(|one| one.alarms.clone()).unwrap_or_default();
                (member.id, One { name: member.member.name, voter: member.voter, alarms })
            })
            .collect(),
    )
}

/// Takes over the alarms of those that answer.
async fn ask_alarms(masters: &Masters, now: &mut Seen) {
    // One after the other: there are few, and each has a second.
    for (id, one) in &mut now.0 {
        if let Some(alarms) = masters.alarms_of(*id).await {
            one.alarms = alarms;
        }
    }
}

/// What has happened in between.
fn news(before: &Seen, now: &Seen) -> Vec<EventDraft> {
    let mut all = Vec::new();
    for (id, one) in &now.0 {
        let mut say = |warning, reason, message| {
            all.push(draft(*id, &one.name, warning, reason, message));
        };
        let known = before.0.get(id);
        if known.is_none() {
            say(false, "MasterAdded", format!("{} has joined as number {id}", one.name));
        }
        if one.voter && !known.is_some_and(|known| known.voter) {
            say(
                false,
                "MasterPromoted",
                format!("{} votes; voters now: {}", one.name, voters(now)),
            );
        }
        if !one.voter && known.is_some_and(|known| known.voter) {
            let message = format!("{} is a standby; voters now: {}", one.name, voters(now));
            say(false, "MasterDemoted", message);
        }
        let none = BTreeSet::new();
        let had = known.map_or(&none, |known| &known.alarms);
        for alarm in one.alarms.difference(had) {
            say(true, "AlarmRaised", format!("{alarm} on {}: {}", one.name, alarm.advice()));
        }
        for alarm in had.difference(&one.alarms) {
            say(false, "AlarmCleared", format!("{alarm} on {} is over", one.name));
        }
    }
    for (id, gone) in before.0.iter().filter(|(id, _)| !now.0.contains_key(id)) {
        let message = format!("{} was removed; voters now: {}", gone.name, voters(now));
        all.push(draft(*id, &gone.name, false, "MasterRemoved", message));
    }
    all
}

fn voters(seen: &Seen) -> usize {
    seen.0.values().filter(|one| one.voter).count()
}

fn draft(
    id: NodeId,
    name: &str,
    warning: bool,
    reason: &'static str,
    message: String,
) -> EventDraft {
    let regarding = Regarding {
        api_version: format!("{GROUP}/v1"),
        kind: "Master".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
        // Never given to another one, unlike the name.
        uid: id.0.to_string(),
    };
    EventDraft { component: COMPONENT, regarding, warning, reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(masters: &[(u64, &str, bool, &[Alarm])]) -> Seen {
        let one = |(id, name, voter, alarms): &(u64, &str, bool, &[Alarm])| {
            let (name, alarms) = ((*name).to_owned(), alarms.iter().copied().collect());
            (NodeId(*id), One { name, voter: *voter, alarms })
        };
        Seen(masters.iter().map(one).collect())
    }

    fn told(before: &Seen, now: &Seen) -> Vec<String> {
        let drafts = news(before, now).into_iter();
        drafts.map(|news| format!("{} {}", news.reason, news.message)).collect()
    }

    #[test]
    fn each_step_of_a_replacement_is_told_once() {
        let one = seen(&[(1, "m1", true, &[])]);
        let joined = seen(&[(1, "m1", true, &[]), (9, "m2", false, &[])]);
        let votes = seen(&[(1, "m1", true, &[]), (9, "m2", true, &[])]);
        let left = seen(&[(9, "m2", true, &[])]);
        assert_eq!(told(&one, &one), [""; 0]);
        assert_eq!(told(&one, &joined), ["MasterAdded m2 has joined as number 9"]);
        assert_eq!(told(&joined, &votes), ["MasterPromoted m2 votes; voters now: 2"]);
        assert_eq!(told(&votes, &joined), ["MasterDemoted m2 is a standby; voters now: 1"]);
        assert_eq!(told(&votes, &left), ["MasterRemoved m1 was removed; voters now: 1"]);
        // Between two looks it may have come and been promoted.
        assert_eq!(told(&one, &votes).len(), 2);
    }

    #[test]
    fn the_same_name_under_another_number_is_another_master() {
        let (old, new) = (seen(&[(1, "m1", true, &[])]), seen(&[(9, "m1", true, &[])]));
        assert_eq!(told(&old, &new).len(), 3, "added, promoted, removed");
    }

    #[test]
    fn alarms_are_raised_and_cleared() {
        let fine = seen(&[(1, "m1", true, &[])]);
        let full = seen(&[(1, "m1", true, &[Alarm::NoSpace])]);
        let raised = news(&fine, &full);
        assert!(
            raised[0].warning && raised[0].message.starts_with("NOSPACE on m1: "),
            "{raised:?}"
        );
        assert_eq!(told(&full, &full), [""; 0]);
        assert_eq!(told(&full, &fine), ["AlarmCleared NOSPACE on m1 is over"]);
    }
}
