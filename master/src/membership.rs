//! What the leader does about the members by itself: learners that have caught up become voters, a join that comes to
//! no end is taken back, and, where that is wanted, masters that have died are taken out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_raft::limits::PROMOTE_LAG_MAX;
use quorate_raft::{LogIndex, MemberStatus, MembershipError, NodeId};
use quorate_store::Masters;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The members are looked at this often.
const INTERVAL: Duration = Duration::from_millis(500);

/// Somebody who could not be taken out is left alone for so long.
const REMOVAL_PAUSE: Duration = Duration::from_secs(10);

/// No master is taken out for being dead when fewer voters than this would be left.
const VOTERS_MIN: usize = 3;

/// When the leader acts without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipRules {
    /// A learner that has not been heard for so long is taken out again: its join has come to nothing.
    pub join_silence_max: Duration,
    /// The same of one that is there, and gets no further.
    pub join_standstill_max: Duration,
    /// A voter that has not been heard for so long is taken out; never by default.
    pub dead_after: Option<Duration>,
}

impl Default for MembershipRules {
    fn default() -> Self {
        Self {
            join_silence_max: Duration::from_secs(120),
            join_standstill_max: Duration::from_secs(900),
            dead_after: None,
        }
    }
}

/// What is known of a member under this leadership.
#[derive(Debug, Clone, Copy)]
struct Seen {
    heard: Instant,
    matched: Option<LogIndex>,
    advanced: Instant,
}

/// Since when each member is silent, or stands still. What was before this leadership is not known, so everybody has
/// all of the time again.
#[derive(Debug, Default)]
struct Watch(BTreeMap<NodeId, Seen>);

impl Watch {
    fn look(&mut self, members: &[MemberStatus], now: Instant) {
        self.0.retain(|id, _| members.iter().any(|known| known.id == *id));
        for known in members {
            let new = Seen { heard: now, matched: known.matched, advanced: now };
            let seen = self.0.entry(known.id).or_insert(new);
            if let Some(heard) = known.last_contact.and_then(|ago| now.checked_sub(ago)) {
                seen.heard = seen.heard.max(heard);
            }
            let is_level = known.lag.is_some_and(|lag| lag <= PROMOTE_LAG_MAX);
            if is_level || seen.matched != known.matched {
                (seen.matched, seen.advanced) = (known.matched, now);
            }
        }
    }

    /// Why a join is not waited for any longer.
    fn gives_up(
        &self,
        known: &MemberStatus,
        rules: &MembershipRules,
        now: Instant,
    ) -> Option<String> {
        let seen = self.0.get(&known.id).filter(|_| !known.voter && !known.member.standby)?;
        let (silent, still) = (now - seen.heard, now - seen.advanced);
        if silent > rules.join_silence_max {
            return Some(format!("it has not answered for {} s", silent.as_secs()));
        }
        // Of a snapshot that is on its way nobody says how far it is.
        (still > rules.join_standstill_max && known.matched.is_some())
            .then(|| format!("it got no further for {} s", still.as_secs()))
    }

    /// Who is dead, and may be taken out.
    fn dead<'a>(
        &self,
        members: &'a [MemberStatus],
        rules: &MembershipRules,
        now: Instant,
    ) -> Option<&'a MemberStatus> {
        let after = rules.dead_after?;
        let voters: Vec<_> = members.iter().filter(|known| known.voter).collect();
        if voters.len() <= VOTERS_MIN {
            return None;
        }
        let silent = |known: &&MemberStatus| {
            self.0.get(&known.id).is_some_and(|seen| now - seen.heard > after)
        };
        voters.into_iter().find(silent)
    }
}

/// Looks after the members for as long as it is not ended; only a leader can.
pub async fn look_after_members(
    masters: Masters,
    rules: MembershipRules,
    ended: CancellationToken,
) {
    let (mut watch, mut led) = (Watch::default(), None);
    let mut not_before = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = ended.cancelled() => return,
        }
        promote(&masters).await;
        let status = masters.status();
        let leads = (status.leader == Some(status.id)).then_some(status.term);
        if led != leads {
            (watch, led) = (Watch::default(), leads);
        }
        if leads.is_none() {
            continue;
        }
        let now = Instant::now();
        watch.look(&with_own(status.members.clone(), status.id), now);
        if now < not_before || status.joint {
            continue;
        }
        let members = with_own(status.members, status.id);
        let hopeless = members.iter().find_map(|known| {
            Some((known, watch.gives_up(known, &rules, now)?, "a join came to no end"))
        });
        let dead = || {
            let dead = watch.dead(&members, &rules, now)?;
            let after = rules.dead_after?.as_secs();
            Some((
                dead,
                format!("it has not answered for more than {after} s"),
                "a master has died",
            ))
        };
        if let Some((gone, why, what)) = hopeless.or_else(dead) {
            tracing::warn!(master = %gone.member, id = %gone.id, why, "{what}: taking it out");
            if let Err(error) = masters.forget(gone.id, gone.voter, VOTERS_MIN).await {
                tracing::warn!(master = %gone.member, %error, "it could not be taken out yet");
                not_before = Instant::now() + REMOVAL_PAUSE;
            }
        }
    }
}

/// A master hears itself.
fn with_own(mut members: Vec<MemberStatus>, own: NodeId) -> Vec<MemberStatus> {
    for known in members.iter_mut().filter(|known| known.id == own) {
        known.last_contact = Some(Duration::ZERO);
    }
    members
}

/// Makes voters of the learners that have caught up: of all in one step, so that no even number comes in between.
async fn promote(masters: &Masters) {
    let status = masters.status();
    if status.leader != Some(status.id) {
        return;
    }
    let level = |known: &&MemberStatus| {
        !known.voter
            && !known.member.standby
            && known.matched.is_some()
            && known.lag.is_some_and(|lag| lag <= PROMOTE_LAG_MAX)
    };
    let level: BTreeSet<NodeId> =
        status.members.iter().filter(level).map(|known| known.id).collect();
    let Some(first) = level.first() else { return };
    let mut promoted = masters.promote(level.clone()).await;
    let one = matches!(
        promoted,
        Err(MembershipError::Silent { .. } | MembershipError::NotCaughtUp { .. })
    );
    if level.len() > 1 && one {
        // One of them has died, or is slow: the others do not wait for it.
        for node in &level {
            promoted = masters.promote(BTreeSet::from([*node])).await;
        }
    }
    match promoted {
        Ok(()) => tracing::info!(learners = ?level, "learners promoted to voters"),
        Err(error) => tracing::debug!(%first, %error, "learner not promoted yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Member;

    const SECOND: Duration = Duration::from_secs(1);

    fn known(id: u64, voter: bool, contact: Option<u64>, lag: Option<u64>) -> MemberStatus {
        MemberStatus {
            id: NodeId(id),
            member: Member { name: format!("m{id}"), ..Member::default() },
            voter,
            matched: lag.map(|lag| LogIndex(1000 - lag)),
            lag,
            last_contact: contact.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_join_that_comes_to_no_end_is_taken_back() {
        let (rules, begin) = (MembershipRules::default(), Instant::now());
        let mut watch = Watch::default();
        let never = known(7, false, None, None);
        watch.look(std::slice::from_ref(&never), begin);
        assert_eq!(watch.gives_up(&never, &rules, begin + 120 * SECOND), None);
        let why = watch.gives_up(&never, &rules, begin + 121 * SECOND).unwrap();
        assert_eq!(why, "it has not answered for 121 s");
        // Who answers, and gets no further, has more time.
        for second in 0..=900 {
            let now = begin + second * SECOND;
            let slow = known(7, false, Some(0), Some(500));
            watch.look(std::slice::from_ref(&slow), now);
            assert_eq!(watch.gives_up(&slow, &rules, now), None, "after {second} s");
        }
        let now = begin + 902 * SECOND;
        let slow = known(7, false, Some(0), Some(500));
        watch.look(std::slice::from_ref(&slow), now);
        assert!(watch.gives_up(&slow, &rules, now).unwrap().contains("no further for"));
        let further = known(7, false, Some(0), Some(499));
        watch.look(std::slice::from_ref(&further), now);
        assert_eq!(watch.gives_up(&further, &rules, now), None);
        // A standby, and a voter, may be away for as long as they like.
        let later = now + 10_000 * SECOND;
        let mut standby = further.clone();
        standby.member.standby = true;
        assert_eq!(watch.gives_up(&standby, &rules, later), None);
        assert_eq!(watch.gives_up(&MemberStatus { voter: true, ..further }, &rules, later), None);
    }

    #[test]
    fn the_dead_go_only_when_that_is_wanted_and_three_stay() {
        let begin = Instant::now();
        let wanted =
            MembershipRules { dead_after: Some(60 * SECOND), ..MembershipRules::default() };
        let four = |contact| -> Vec<MemberStatus> {
            let voter = |id| known(id, true, if id == 4 { contact } else { Some(0) }, Some(0));
            (1..=4).map(voter).collect()
        };
        let mut watch = Watch::default();
        watch.look(&four(None), begin);
        let now = begin + 61 * SECOND;
        watch.look(&four(None), now);
        let dead = |watch: &Watch, members: &[MemberStatus], rules: &MembershipRules| {
            watch.dead(members, rules, now).map(|dead| dead.id.0)
        };
        assert_eq!(dead(&watch, &four(None), &wanted), Some(4));
        assert_eq!(dead(&watch, &four(None), &MembershipRules::default()), None);
        assert_eq!(dead(&watch, &four(None)[1..], &wanted), None, "three stay three");
        watch.look(&four(Some(30)), now);
        assert_eq!(dead(&watch, &four(Some(30)), &wanted), None);
    }
}
