//! What is asked of a simulation when it is over: the same checks as of a run with real processes.

use std::collections::BTreeSet;

use quorate_store::Consistency;

use super::client;
use super::world::World;
use crate::check::linear::{self, Verdict};
use crate::check::watch::Log;
use crate::history::well_formed;
use crate::model::Register;

/// What was found, and by which check.
pub(super) type Found = (&'static str, String);

/// Everything that can be said when all is quiet.
pub(super) fn all(world: &mut World) -> anyhow::Result<Vec<Found>> {
    let mut found = std::mem::take(&mut world.broken);
    found.extend(world.rest()?);
    found.extend(world.membership());
    found.extend(agreement(world)?.into_iter().map(|text| ("agreement", text)));
    world.over();
    found.extend(one_leader(world).into_iter().map(|text| ("leaders", text)));
    found.extend(linearizable(world).into_iter().map(|text| ("linearizable", text)));
    found.extend(watches(world, true).into_iter().map(|text| ("watches", text)));
    Ok(found)
}

/// What can be said when all is lost: of those who watch, nobody need have been told of the last changes.
pub(super) fn until_now(world: &World) -> Vec<Found> {
    let mut found = Vec::new();
    found.extend(one_leader(world).into_iter().map(|text| ("leaders", text)));
    found.extend(linearizable(world).into_iter().map(|text| ("linearizable", text)));
    found.extend(watches(world, false).into_iter().map(|text| ("watches", text)));
    found
}

/// Election safety (Raft, figure 3): at most one leader in a term.
fn one_leader(world: &World) -> Vec<String> {
    let two = world.leaders.iter().filter(|(_, leaders)| leaders.len() > 1);
    two.map(|(term, leaders)| format!("term {term} had the leaders {leaders:?}")).collect()
}

fn linearizable(world: &World) -> Vec<String> {
    let all: Vec<_> = world.history.iter().map(|(_, operation)| operation.clone()).collect();
    if let Err(error) = well_formed(&all) {
        return vec![format!("the harness recorded nonsense: {error}")];
    }
    let mut found = Vec::new();
    let keys: BTreeSet<usize> = world.history.iter().map(|(key, _)| *key).collect();
    for key in keys {
        let own = world.history.iter().filter(|(found, _)| *found == key);
        let mut own: Vec<_> = own.map(|(_, operation)| operation.clone()).collect();
        own.sort_by_key(|operation| operation.called);
        match linear::check(&Register, &own) {
            Verdict::Linearizable(_) => {}
            Verdict::Violation(violation) => {
                let wrong = &own[violation.operation];
                found.push(format!("register-{key}: nothing explains {wrong:?}"));
            }
            Verdict::Undecided { steps } => {
                found.push(format!("register-{key}: given up after {steps} steps"));
            }
        }
    }
    found
}

fn watches(world: &World, at_end: bool) -> Vec<String> {
    let mut log = Log::default();
    let mut found = Vec::new();
    // What comes after that somebody may not have been told of, such as deletions, of which answers do not tell when.
    let known = world.watchers.iter().map(|watcher| watcher.at()).max().unwrap_or_default();
    for (revision, change) in &world.acknowledged {
        if !at_end && *revision > known {
            continue;
        }
        found.extend(log.tell(*revision, change.clone()).err().map(|error| error.to_string()));
    }
    for watcher in &world.watchers {
        found.extend(log.tell_all(&watcher.told).err().map(|error| error.to_string()));
    }
    found.extend(log.check_kinds().err().map(|error| error.to_string()));
    for watcher in &world.watchers {
        found.extend(log.check(&watcher.told).err().map(|error| error.to_string()));
        let last = log.last().unwrap_or_default();
        if at_end && watcher.at() < last {
            let (name, at) = (&watcher.told.name, watcher.at());
            found.push(format!("{name} was told nothing after {at}, though {last} was long ago"));
        }
    }
    found
}

/// Every master has the same objects at the same revisions.
fn agreement(world: &mut World) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    let lost: Vec<bool> = world.nodes.iter().map(|node| node.lost).collect();
    for master in (0..world.nodes.len()).filter(|master| !lost[*master]) {
        let told = world.ask(master, |up| {
            let store = up.store.clone();
            async move {
                let view = store.read(Consistency::Linearizable).await.ok()?;
                let objects = view
                    .resource(&client::resource())?
                    .range("", None)
                    .filter(|object| client::is_ours(&object.key));
                Some(
                    objects
                        .map(|o| (o.key.clone(), o.revision, client::value(o)))
                        .collect::<Vec<_>>(),
                )
            }
        });
        match told {
            Ok(objects) => all.push(objects),
            Err(error) => return Ok(vec![format!("{error:#}")]),
        }
    }
    let same = all.windows(2).all(|pair| pair[0].is_some() && pair[0] == pair[1]);
    Ok(if same { Vec::new() } else { vec![format!("masters disagree in the end: {all:?}")] })
}
