//! A change of the authorities, one step at a time, as somebody asks for it (`quorate certs rotate-ca`). Any master
//! takes the next step: it asks all masters how far they are, and writes the record that all of them follow
//! ([`super::keeper`]). It goes on only when every master has done the step before; asked again, it goes on from
//! wherever it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use quorate_pki::{KeyRing, Phase};
use quorate_state_machine::{GroupResource, View};
use quorate_store::{Admit, Consistency, Masters, Store};
use serde::{Deserialize, Serialize};

use super::Certs;
use super::peers::{self, State};
use super::record::{self, Record};

/// What is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wish {
    /// How far it is to go: `sign` or `done`; nothing: it is only looked at.
    #[serde(default)]
    pub to: Option<Phase>,
    /// Which generation is meant, so that no second change begins where one was to be finished.
    #[serde(default)]
    pub generation: u64,
    /// Finish although there are nodes that have not followed.
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub dry_run: bool,
}

/// Where a change stands.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Of the newest authorities that the cluster has, or gets.
    pub generation: u64,
    /// The generation that the next change would make.
    pub next_generation: u64,
    pub phase: Phase,
    pub under_way: bool,
    pub masters: Vec<MasterStanding>,
    pub nodes: Vec<NodeStanding>,
    /// What is waited for, a line each.
    pub waiting: Vec<String>,
    /// What was done just now, or would be.
    pub did: Option<String>,
    /// The phase that was written just now.
    pub written: Option<Phase>,
    /// Whether what was asked for is there.
    pub reached: bool,
    /// Authorities that sign at some master and of which the record knows nothing (an older one was restored, or it was
    /// deleted).
    #[serde(skip)]
    unrecorded: Option<[String; 3]>,
}

/// How far a master is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterStanding {
    pub name: String,
    pub generation: Option<u64>,
    pub phase: Option<Phase>,
    /// It has the newest authorities.
    pub holds: bool,
    /// Why it does not say.
    pub problem: Option<String>,
}

/// Whether a node has followed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStanding {
    pub name: String,
    /// It has shown a certificate of the newest authority.
    pub moved: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Begin,
    Advance(Phase),
    /// The record is written anew, as the masters are.
    Rewrite,
    Abandon,
    /// Others have to do something first, by themselves.
    Wait(Vec<String>),
    /// People have to.
    Refuse(String),
    Reached,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Somebody has to do something first.
    #[error("{0}")]
    Refused(String),
    /// The same may succeed later.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// What it is done with.
#[derive(Clone)]
pub struct Rotation {
    pub certs: Arc<Certs>,
    pub store: Store,
    pub masters: Masters,
    pub admit: Arc<tokio::sync::OnceCell<Arc<dyn Admit>>>,
}

impl Rotation {
    /// Takes the next step, if one can be taken.
    pub async fn step(&self, wish: &Wish) -> Result<Standing, RotationError> {
        let view = self.store.read(Consistency::Linearizable).await.map_err(anyhow::Error::from)?;
        let record = record::read(&view);
        let keys = self.certs.now().ring.generation();
        let record = record.filter(|record| {
            let possible = record.is_possible(keys);
            if !possible {
                let generation = record.generation;
                tracing::warn!(generation, keys, "the record of the authorities is ignored");
            }
            possible
        });
        let states = peers::states(&self.certs, &self.masters).await;
        let mut standing = standing(record.as_ref(), &states, &nodes_of(&view));
        let Some(to) = wish.to else { return Ok(standing) };
        let next = next(&standing, (wish.generation, to, wish.force));
        match &next {
            Next::Refuse(why) => return Err(RotationError::Refused(why.clone())),
            Next::Wait(lines) => standing.waiting.clone_from(lines),
            Next::Reached => standing.reached = true,
            Next::Begin | Next::Advance(_) | Next::Rewrite | Next::Abandon => {
                standing.did = Some(describe(&next, wish.generation));
                if !wish.dry_run {
                    standing.written = self.take(&next, &standing, record, &view).await?;
                }
            }
        }
        Ok(standing)
    }

    async fn take(
        &self,
        next: &Next,
        standing: &Standing,
        record: Option<Record>,
        view: &Arc<View>,
    ) -> anyhow::Result<Option<Phase>> {
        let admit = self.admit.get().context("this master is starting")?;
        let new = match (next, record, &standing.unrecorded) {
            (Next::Begin, record, _) => self.begin(standing.next_generation, record.as_ref())?,
            (Next::Rewrite, _, Some(authorities)) => {
                self.record(standing.generation, Phase::Sign, authorities.clone())?
            }
            (Next::Advance(phase), Some(record), _) => Record { phase: *phase, ..record },
            (Next::Abandon, Some(record), _) => Record { abandoned: true, ..record },
            _ => return Ok(None),
        };
        record::write(&self.store, admit, view, &new).await?;
        let (generation, phase) = (new.generation, new.phase.name());
        tracing::info!(generation, phase, abandoned = new.abandoned, "authorities: next step");
        Ok(Some(new.phase))
    }

    /// Makes new authorities, or takes those that this master made when it could not tell the others.
    fn begin(&self, generation: u64, seen: Option<&Record>) -> anyhow::Result<Record> {
        let now = Timestamp::now();
        let ring = self.certs.now().ring.clone();
        let waits = ring.generation() == generation && ring.phase() == Phase::Trust;
        if !waits {
            let cluster_id = &self.certs.whose.cluster_id;
            let keys = ring.successor(cluster_id, generation, now)?;
            // Kept before anybody hears of them.
            self.certs.change_ring(|ring| {
                let known = record::read(&self.store.view());
                let known = known.filter(|record| record.is_possible(ring.generation()));
                ensure!(
                    known.as_ref() == seen && may_begin(ring, generation),
                    "somebody else changes the authorities at the same time"
                );
                Ok(ring.with_next(keys, generation)?)
            })?;
        }
        let authorities = self.certs.now().ring.newest().fingerprints();
        self.record(generation, Phase::Trust, authorities)
    }

    fn record(
        &self,
        generation: u64,
        phase: Phase,
        authorities: [String; 3],
    ) -> anyhow::Result<Record> {
        Ok(Record {
            generation,
            phase,
            authorities,
            made_by: self.certs.whose.name.clone(),
            began_at: Timestamp::now().round(jiff::Unit::Second)?.to_string(),
            abandoned: false,
        })
    }
}

/// Whether new keys may come to these: no change is half done, or one whose keys nobody has used.
fn may_begin(ring: &KeyRing, generation: u64) -> bool {
    ring.generation() < generation && ring.phase() != Phase::Sign
}

fn describe(next: &Next, generation: u64) -> String {
    match next {
        Next::Begin => format!(
            "authorities of generation {generation} are made, and believed beside the old ones"
        ),
        Next::Advance(Phase::Sign) => {
            "every master believes the new authorities: they sign from now on".to_owned()
        }
        Next::Advance(_) => "the old authorities are believed no longer".to_owned(),
        Next::Rewrite => format!(
            "authorities of generation {generation} sign and the record of it was lost: it is written again"
        ),
        Next::Abandon => {
            "the new authorities were lost with the masters that had them: they are given up"
                .to_owned()
        }
        Next::Wait(_) | Next::Refuse(_) | Next::Reached => String::new(),
    }
}

fn nodes_of(view: &View) -> BTreeSet<String> {
    let nodes = view.resource(&GroupResource::new("", "nodes"));
    nodes
        .into_iter()
        .flat_map(|all| all.iter())
        .map(|node| node.key.object.name.to_string())
        .collect()
}

/// The common name of an authority of a generation ends in its number: [`quorate_pki::ClusterKeys::successor`].
fn signed_by_generation(issuer: &str, generation: u64) -> bool {
    generation == 1 || issuer.ends_with(&format!(" {generation}"))
}

fn standing(
    record: Option<&Record>,
    states: &[(String, Result<State, String>)],
    nodes: &BTreeSet<String>,
) -> Standing {
    let known = || states.iter().filter_map(|(_, state)| state.as_ref().ok());
    let newest = known().filter(|state| state.phase != Phase::Trust).map(|state| state.generation);
    let recorded = record.is_some_and(Record::under_way);
    let unrecorded = known()
        .filter(|state| {
            let of_it =
                record.is_some_and(|one| !one.abandoned && one.generation >= state.generation);
            state.phase == Phase::Sign && !recorded && !of_it
        })
        .max_by_key(|state| state.generation);
    let generation = match (unrecorded, record) {
        (Some(state), _) => state.generation,
        (None, Some(record)) if recorded => record.generation,
        (None, Some(record)) if !record.abandoned => {
            record.generation.max(newest.max().unwrap_or(1))
        }
        (None, _) => newest.max().unwrap_or(1),
    };
    let under_way = recorded || unrecorded.is_some();
    let phase = match (unrecorded, record) {
        (Some(_), _) => Phase::Sign,
        (None, Some(record)) if recorded => record.phase,
        (None, _) => Phase::Done,
    };
    let wanted = unrecorded.map(|state| &state.authorities);
    let wanted = wanted.or_else(|| record.map(|record| &record.authorities));
    // What a master made and could not tell the others counts for nothing: it may be told yet, or is replaced.
    let used = generation.max(record.map_or(1, |record| record.generation));
    let masters = states.iter().map(|(name, state)| MasterStanding {
        name: name.clone(),
        generation: state.as_ref().ok().map(|state| state.generation),
        phase: state.as_ref().ok().map(|state| state.phase),
        holds: state.as_ref().is_ok_and(|state| {
            let same = wanted.is_none_or(|wanted| *wanted == state.authorities);
            state.generation == generation && (same || !under_way)
        }),
        problem: state.as_ref().err().cloned(),
    });
    let shown = |node: &String| known().filter_map(|state| state.nodes.get(node)).next();
    let nodes = nodes.iter().map(|node| {
        let problem = match shown(node) {
            Some(issuer) if signed_by_generation(issuer, generation) => None,
            Some(_) => Some("its agent still shows an old certificate"),
            None => Some("its agent is not connected"),
        };
        NodeStanding {
            name: node.clone(),
            moved: problem.is_none(),
            problem: problem.map(str::to_owned),
        }
    });
    Standing {
        generation,
        next_generation: used.saturating_add(1),
        phase,
        under_way,
        masters: masters.collect(),
        nodes: nodes.collect(),
        waiting: Vec::new(),
        did: None,
        written: None,
        reached: false,
        unrecorded: unrecorded.map(|state| state.authorities.clone()),
    }
}

/// What `(generation, to, force)` asks for next.
fn next(standing: &Standing, (generation, to, force): (u64, Phase, bool)) -> Next {
    let Standing { masters, nodes, phase, under_way, .. } = standing;
    if let Some(silent) = silence(masters) {
        return Next::Refuse(silent);
    }
    let at_least = |wanted: Phase| {
        let behind = masters.iter().filter(|one| !one.holds || one.phase < Some(wanted));
        behind.map(|one| format!("master {:?} follows", one.name)).collect::<Vec<_>>()
    };
    let other = || {
        Next::Refuse(
            "the authorities were changed by somebody else meanwhile: run the command again"
                .to_owned(),
        )
    };
    if !under_way {
        return match to {
            // Of the change that was asked for, nothing is left to do but what each master does by itself.
            _ if generation == standing.generation && generation > 1 => match at_least(Phase::Done)
            {
                behind if behind.is_empty() => Next::Reached,
                behind => Next::Wait(behind),
            },
            Phase::Sign if generation == standing.next_generation => Next::Begin,
            Phase::Done => Next::Refuse(
                "no change of the authorities is under way: `quorate certs rotate-ca` begins one"
                    .to_owned(),
            ),
            Phase::Trust | Phase::Sign => other(),
        };
    }
    if generation != standing.generation {
        return other();
    }
    if standing.unrecorded.is_some() {
        return Next::Rewrite;
    }
    if !masters.is_empty() && masters.iter().all(|one| !one.holds) {
        return Next::Abandon;
    }
    if *phase == Phase::Trust {
        return match at_least(Phase::Trust) {
            behind if behind.is_empty() => Next::Advance(Phase::Sign),
            behind => Next::Wait(behind),
        };
    }
    let behind = at_least(Phase::Sign);
    if !behind.is_empty() {
        return Next::Wait(behind);
    }
    let old = nodes.iter().filter(|node| !node.moved);
    let old: Vec<String> = old
        .map(|node| {
            format!("node {:?}: {}", node.name, node.problem.as_deref().unwrap_or_default())
        })
        .collect();
    match to {
        Phase::Done if old.is_empty() || force => Next::Advance(Phase::Done),
        Phase::Done => Next::Refuse(format!(
            "there are nodes that have not followed, and could not connect any more: {}. Start their agents, or delete \
             the nodes; or say --force, and let them join again with a token",
            old.join("; ")
        )),
        Phase::Trust | Phase::Sign if old.is_empty() => Next::Reached,
        Phase::Trust | Phase::Sign => Next::Wait(old),
    }
}

/// Which masters say nothing, and what to do about it.
fn silence(masters: &[MasterStanding]) -> Option<String> {
    let silent: Vec<String> = masters
        .iter()
        .filter_map(|one| Some(format!("master {:?} ({})", one.name, one.problem.as_ref()?)))
        .collect();
    let first = masters.iter().find(|one| one.problem.is_some())?;
    Some(format!(
        "not heard of: {}. A master that misses a step would be cut off, so nothing was done. Start it (or upgrade it), or \
         take it out for good with `quorate masters remove {}`, then run the command again",
        silent.join(", "),
        first.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorities(name: &str) -> [String; 3] {
        [name.to_owned(), name.to_owned(), name.to_owned()]
    }

    fn record(phase: Phase) -> Record {
        Record {
            generation: 2,
            phase,
            authorities: authorities("new"),
            made_by: "m0".to_owned(),
            began_at: String::new(),
            abandoned: false,
        }
    }

    fn state(generation: u64, phase: Phase) -> Result<State, String> {
        let name = if generation == 1 { "old" } else { "new" };
        let nodes = [("n1".to_owned(), format!("quorate cluster CA c {generation}"))].into();
        Ok(State { generation, phase, authorities: authorities(name), nodes })
    }

    fn after(
        record: Option<&Record>,
        states: [Result<State, String>; 2],
        wish: (u64, Phase, bool),
    ) -> Next {
        let names = ["m0".to_owned(), "m1".to_owned()];
        let states: Vec<_> = names.into_iter().zip(states).collect();
        next(&standing(record, &states, &BTreeSet::from(["n1".to_owned()])), wish)
    }

    const SIGN: (u64, Phase, bool) = (2, Phase::Sign, false);
    const DONE: (u64, Phase, bool) = (2, Phase::Done, false);

    #[test]
    fn each_step_waits_for_all_masters() {
        use Phase::{Done, Sign, Trust};
        let (trust, sign, done) = (record(Trust), record(Sign), record(Done));
        let first = || state(1, Done);
        assert_eq!(after(None, [first(), first()], SIGN), Next::Begin);
        let waits = Next::Wait(vec!["master \"m1\" follows".to_owned()]);
        assert_eq!(after(Some(&trust), [state(2, Trust), first()], SIGN), waits);
        let all = [state(2, Trust), state(2, Trust)];
        assert_eq!(after(Some(&trust), all, SIGN), Next::Advance(Sign));
        assert_eq!(after(Some(&sign), [state(2, Sign), state(2, Trust)], SIGN), waits);
        let all = || [state(2, Sign), state(2, Sign)];
        assert_eq!(after(Some(&sign), all(), SIGN), Next::Reached);
        assert_eq!(after(Some(&sign), all(), DONE), Next::Advance(Done));
        assert_eq!(after(Some(&done), [state(2, Done), state(2, Sign)], DONE), waits);
        assert_eq!(after(Some(&done), [state(2, Done), state(2, Done)], DONE), Next::Reached);
        // Finished already: no second change begins.
        assert_eq!(after(Some(&done), [state(2, Done), state(2, Done)], SIGN), Next::Reached);
        let again = (3, Sign, false);
        assert_eq!(after(Some(&done), [state(2, Done), state(2, Done)], again), Next::Begin);
    }

    #[test]
    fn who_is_silent_stops_everything_and_is_named() {
        let silent = || Err("no connection".to_owned());
        for record in [None, Some(record(Phase::Trust)), Some(record(Phase::Sign))] {
            let next = after(record.as_ref(), [state(2, Phase::Sign), silent()], DONE);
            let Next::Refuse(why) = next else { panic!("{next:?}") };
            assert!(why.contains("\"m1\" (no connection)"), "{why}");
            assert!(why.contains("quorate masters remove m1"), "{why}");
        }
    }

    #[test]
    fn nodes_that_have_not_followed_are_named_unless_forced() {
        let sign = record(Phase::Sign);
        let with_old = || {
            let mut one = state(2, Phase::Sign).unwrap();
            one.nodes = [("n1".to_owned(), "quorate cluster CA c".to_owned())].into();
            let mut other = one.clone();
            other.nodes.clear();
            [Ok(one), Ok(other)]
        };
        let Next::Refuse(why) = after(Some(&sign), with_old(), DONE) else { panic!() };
        assert!(why.contains("node \"n1\": its agent still shows an old certificate"), "{why}");
        let forced = (2, Phase::Done, true);
        assert_eq!(after(Some(&sign), with_old(), forced), Next::Advance(Phase::Done));
        assert!(matches!(after(Some(&sign), with_old(), SIGN), Next::Wait(_)));
    }

    #[test]
    fn what_was_lost_with_its_maker_is_given_up() {
        let trust = record(Phase::Trust);
        let first = || state(1, Phase::Done);
        assert_eq!(after(Some(&trust), [first(), first()], SIGN), Next::Abandon);
        let given_up = Record { abandoned: true, ..trust };
        let Next::Refuse(_) = after(Some(&given_up), [first(), first()], SIGN) else { panic!() };
        let again = (3, Phase::Sign, false);
        assert_eq!(after(Some(&given_up), [first(), first()], again), Next::Begin);
        // So it is later: all masters of then are gone.
        let sign = record(Phase::Sign);
        assert_eq!(after(Some(&sign), [first(), first()], SIGN), Next::Abandon);
        // Nothing is under way.
        assert!(matches!(after(None, [first(), first()], DONE), Next::Refuse(_)));
    }

    #[test]
    fn what_signs_without_a_record_is_under_way() {
        let old = Record { generation: 1, ..record(Phase::Done) };
        let given_up = Record { abandoned: true, ..record(Phase::Trust) };
        for known in [None, Some(&old), Some(&given_up)] {
            let states = || [state(2, Phase::Sign), state(1, Phase::Done)];
            assert_eq!(after(known, states(), SIGN), Next::Rewrite);
            assert_eq!(after(known, states(), DONE), Next::Rewrite);
            let again = (3, Phase::Sign, false);
            assert!(matches!(after(known, states(), again), Next::Refuse(_)), "no second one");
        }
        // Of a change that has ended: that master ends it by itself.
        let done = record(Phase::Done);
        let states = [state(2, Phase::Sign), state(2, Phase::Done)];
        assert!(matches!(after(Some(&done), states, DONE), Next::Wait(_)));
    }

    #[test]
    fn a_change_begins_where_none_is_half_done() {
        let now = Timestamp::now();
        let first = KeyRing::new(quorate_pki::ClusterKeys::generate("c", now).unwrap());
        let trust = first.with_next(first.successor("c", 2, now).unwrap(), 2).unwrap();
        let sign = trust.signing().unwrap();
        assert!(may_begin(&first, 2) && may_begin(&trust, 3));
        assert!(!may_begin(&trust, 2), "it is there");
        assert!(!may_begin(&sign, 3), "the old ones are still needed");
        assert!(may_begin(&sign.finished().unwrap(), 3));
    }
}
