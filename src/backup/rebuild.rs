//! A data directory of one master, with which a new cluster goes on from a state.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use quorate_api::resource;
use quorate_pki::KeyRing;
use quorate_raft::offline::{Seed, seed};
use quorate_raft::{LogIndex, Member, Term};
use quorate_state_machine::{GroupResource, Leap, Machine, Revision};
use serde::Serialize;

use super::staging::Staging;
use crate::data_dir::{self, ClusterFile};
use crate::settings::Network;

/// What a directory is made of.
pub struct Rebuild<'a> {
    /// The state.
    pub machine: &'a Machine,
    /// The last log entry and the highest term that the old cluster is known to have had.
    pub last: (LogIndex, Term),
    /// Who the master is to be.
    pub member: Member,
    /// What all masters agree on.
    pub network: Network,
    /// What the cluster shares.
    pub keys: KeyRing,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// The new cluster's name.
    pub cluster_id: String,
    /// Its master.
    pub name: String,
    /// That one's number.
    pub node_id: u64,
    /// The revision that the state had.
    pub from_revision: u64,
    /// The one with which the cluster begins.
    pub revision: u64,
    /// How many objects there are.
    pub objects: u64,
}

/// Fills a directory. Blocks.
pub fn rebuild(staging: &Staging, what: Rebuild<'_>) -> anyhow::Result<Rebuilt> {
    let path = staging.path();
    let old = what.machine.view();
    let (last, term) = what.last;
    let now = Timestamp::now();
    let index = beyond(last.0.max(old.index().0), now);
    let revisions = beyond(old.revision().0, now) - old.revision().0;
    let leap = Leap { index: quorate_state_machine::LogIndex(index), revisions };
    let machine = what.machine.leapt(leap, watchable())?;
    let view = machine.view();
    let (revision, objects) = (view.revision(), count(&machine));
    let cluster_id = uuid::Uuid::new_v4().to_string();
    let plan = Seed {
        data_dir: path,
        cluster_id: &cluster_id,
        member: what.member.clone(),
        index: LogIndex(index),
        term: Term(term.0 + 1),
        state_bytes: view.weight(),
    };
    let node = seed(&plan, Box::new(move |out| machine.write_snapshot(out)))
        .context("the new log cannot be made")?;
    what.keys.save(&path.join("pki"))?;
    let cluster = ClusterFile {
        version: 1,
        cluster_id: cluster_id.clone(),
        node_id: node.0,
        name: what.member.name.clone(),
        peer_address: what.member.peer_address,
        api_address: what.member.api_address,
        network: what.network,
        has_log: true,
    };
    // Last: a directory with this file is complete.
    data_dir::write_cluster(path, &cluster)?;
    Ok(Rebuilt {
        cluster_id,
        name: what.member.name,
        node_id: node.0,
        from_revision: old.revision().0,
        revision: revision.0,
        objects,
    })
}

/// How many objects a state has.
pub fn count(machine: &Machine) -> u64 {
    machine.view().resources().map(|(_, resource)| resource.len() as u64).sum()
}

/// All that somebody may have watched.
fn watchable() -> impl Iterator<Item = GroupResource> {
    let stored = resource::all().iter().filter_map(|def| def.storage_key());
    stored.map(|(group, plural)| GroupResource::new(group, plural))
}

/// A state from its bytes, which must be what is said of it.
pub fn machine_of(backup: &mut quorate_backup::Backup<std::fs::File>) -> anyhow::Result<Machine> {
    let header = backup.header().clone();
    let mut state = backup.state()?;
    let machine = Machine::read_snapshot(&mut state).context("its state does not decode")?;
    let view = machine.view();
    let same = view.revision() == Revision(header.revision)
        && format!("{:032x}", view.hash()) == header.state_hash;
    anyhow::ensure!(same, "its state is not the one that it says it has");
    Ok(machine)
}

/// A number after all that anybody can have seen by now.
fn beyond(known: u64, now: Timestamp) -> u64 {
    Leap::beyond(known, u64::try_from(now.as_millisecond()).unwrap_or_default())
}

/// The member that a directory's master was, or a new one with addresses that it corrects when it starts.
pub fn member(name: Option<&str>, known: Option<&ClusterFile>) -> anyhow::Result<Member> {
    let name = match (name, known) {
        (Some(name), _) => name.to_owned(),
        (None, Some(known)) => known.name.clone(),
        (None, None) => crate::settings::host_name()?,
    };
    crate::join::check_name(&name)?;
    let address = |known: Option<&String>, port: u16| {
        known.cloned().unwrap_or_else(|| crate::settings::host_port("127.0.0.1", port))
    };
    Ok(Member {
        name,
        peer_address: address(known.map(|known| &known.peer_address), 6444),
        api_address: address(known.map(|known| &known.api_address), 6443),
        // The only master votes.
        standby: false,
    })
}

/// The keys in a directory, if it has them all.
pub fn keys_in(directory: &Path) -> anyhow::Result<Option<KeyRing>> {
    let pki = directory.join("pki");
    if !pki.join(quorate_pki::keys::SHARED_FILES[0]).exists() {
        return Ok(None);
    }
    Ok(Some(KeyRing::load(&pki)?))
}
