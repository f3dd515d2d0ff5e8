//! `quorate masters recover`: when the quorum is lost for good, a new cluster from what one survivor has.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use jiff::Timestamp;
use quorate_pki::KeyRing;
use quorate_raft::offline::{Standing, Survivor};
use quorate_raft::{LogEntry, NodeId, RestoreError, SnapshotWriter, StateMachine};
use quorate_state_machine::{LogIndex, Machine};
use serde_json::{Value, json};

use super::backup::told;
use super::confirm::confirm;
use super::status::Output;
use crate::backup::rebuild::{self, Rebuild, rebuild};
use crate::backup::staging::Staging;
use crate::data_dir::{self, ClusterFile};
use crate::progress;

/// The copy of the survivor's log, in the directory that is being made.
const COPY: &str = "survivor";

#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// Data directory of the survivor, which must not run [default: a usual one]
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Only show what the survivor has, to choose among several; nothing is changed
    #[arg(long, visible_alias = "dry-run")]
    show: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with = "show")]
    yes: bool,
    /// Also from a directory that the other masters have refused, as a removed master's
    #[arg(long, conflicts_with = "show")]
    even_if_refused: bool,
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

pub fn run(args: &RecoverArgs) -> anyhow::Result<()> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => super::server::found_data_dir()?,
    };
    let cluster = data_dir::read_cluster(&data)?
        .with_context(|| format!("{} is not the data directory of a master", data.display()))?;
    let staging = Staging::begin(&data)?;
    let copy = staging.path().join(COPY);
    let survivor = Survivor::open(&data, &cluster.cluster_id, NodeId(cluster.node_id), &copy)
        .map_err(|error| unusable(error, &data))?;
    let machine = replayed(&survivor)?;
    let standing = survivor.standing();
    if args.show {
        return show(args.output, &described(&cluster, standing, &machine));
    }
    if args.output.is_none() {
        show(None, &described(&cluster, standing, &machine))?;
    }
    if let Some(refused) = standing.refused.as_ref().filter(|_| !args.even_if_refused) {
        bail!(
            "the other masters knew more than {} has, and refused it: {refused}. Recover from another survivor. Only when \
             there is none: --even-if-refused",
            data.display()
        );
    }
    if !args.yes {
        confirm(&question(&data, standing))?;
    }
    let standing = standing.clone();
    // The log's store writes for as long as it is open.
    drop(survivor);
    std::fs::remove_dir_all(&copy).with_context(|| format!("cannot delete {}", copy.display()))?;
    let rebuilt = rebuild(
        &staging,
        Rebuild {
            machine: &machine,
            last: (standing.last, standing.term),
            member: rebuild::member(None, Some(&cluster))?,
            network: cluster.network.clone(),
            keys: KeyRing::load(&data.join("pki"))?,
        },
    )?;
    let target = staging.target().to_owned();
    let old = staging.put_in_place()?;
    if let Some(output) = args.output {
        let mut shown = serde_json::to_value(&rebuilt)?;
        shown["data"] = target.display().to_string().into();
        shown["old"] = json!(old.map(|old| old.display().to_string()));
        return output.show(&shown);
    }
    told(&rebuilt, &target, old.as_deref());
    progress::say("Keys stay: kubeconfigs, agents and service account tokens are good as before.");
    Ok(())
}

fn unusable(error: quorate_raft::StartError, data: &Path) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "{} cannot be read as a whole: recover from another survivor, or restore a backup (`quorate backup restore`)",
        data.display()
    ))
}

fn question(data: &Path, standing: &Standing) -> String {
    let others = standing.members.len().saturating_sub(1);
    let refused = match &standing.refused {
        Some(refused) => format!("The others knew more, and refused this one: {refused}. "),
        None => String::new(),
    };
    format!(
        "{refused}Make {} a new cluster of this master alone? Lost is what the {others} other masters had and this one had not: \
         writes that were acknowledged after log entry {}. What this one had and no majority may have had takes \
         effect. The others must never run again on what they have.",
        data.display(),
        standing.last
    )
}

fn described(cluster: &ClusterFile, standing: &Standing, machine: &Machine) -> Value {
    let members: Vec<Value> = standing
        .members
        .iter()
        .map(|(id, member, voter)| {
            json!({
                "name": member.name,
                "nodeId": id.0,
                "voter": voter,
                "peerAddress": member.peer_address,
                "apiAddress": member.api_address,
            })
        })
        .collect();
    let written = standing.written.and_then(|at| Timestamp::try_from(at).ok());
    json!({
        "name": cluster.name,
        "nodeId": cluster.node_id,
        "clusterId": cluster.cluster_id,
        "lastTerm": standing.last_term.0,
        "lastIndex": standing.last.0,
        "committedIndex": standing.committed.0,
        "snapshotIndex": standing.snapshot.map(|index| index.0),
        "term": standing.term.0,
        "revision": machine.view().revision().0,
        "objects": rebuild::count(machine),
        "lastWritten": written.map(|at| at.to_string()),
        "refused": standing.refused,
        "members": members,
    })
}

fn show(output: Option<Output>, shown: &Value) -> anyhow::Result<()> {
    if let Some(output) = output {
        return output.show(shown);
    }
    let text = super::status::text;
    progress::say(&format!(
        "master {} (id {}) of cluster {}",
        text(&shown["name"]),
        text(&shown["nodeId"]),
        text(&shown["clusterId"])
    ));
    for (what, field) in [
        ("last entry's term", "lastTerm"),
        ("last log entry", "lastIndex"),
        ("known to be decided", "committedIndex"),
        ("newest snapshot", "snapshotIndex"),
        ("highest term seen", "term"),
        ("revision", "revision"),
        ("objects", "objects"),
        ("last written", "lastWritten"),
    ] {
        progress::say(&format!("  {what:<22} {}", text(&shown[field])));
    }
    if let Some(refused) = shown["refused"].as_str() {
        progress::say(&format!("  the others refused it:  {refused}"));
    }
    for member in shown["members"].as_array().into_iter().flatten() {
        let role = if member["voter"] == true { "voter" } else { "learner" };
        let (name, id) = (text(&member["name"]), text(&member["nodeId"]));
        let address = text(&member["apiAddress"]);
        progress::say(&format!("  knows {role} {name} (id {id}, {address})"));
    }
    progress::say(
        "Of several survivors recover the one whose last entry has the highest term, and of those the one with the \
         highest last log entry.",
    );
    Ok(())
}

/// The state that the survivor comes to with all of its log.
fn replayed(survivor: &Survivor) -> anyhow::Result<Machine> {
    let mut replay = Replay::default();
    survivor.replay(&mut replay)?;
    if let Some(failed) = replay.failed {
        bail!("{failed}. Restore a backup instead (`quorate backup restore`)");
    }
    Ok(replay.machine)
}

/// The state machine without anybody who reads it.
#[derive(Default)]
struct Replay {
    machine: Machine,
    /// The first entry that it could not take. Nothing is applied after it.
    failed: Option<String>,
}

impl StateMachine for Replay {
    fn apply(&mut self, batch: Vec<LogEntry>) -> Vec<Bytes> {
        for entry in batch {
            if self.failed.is_none() {
                let index = LogIndex(entry.index.0);
                let applied = self.machine.apply(index, entry.payload.as_deref());
                self.failed = applied.err().map(|error| format!("{:#}", anyhow::Error::new(error)));
            }
        }
        Vec::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let machine = self.machine.clone();
        Box::new(move |out| machine.write_snapshot(out))
    }

    fn restore(&mut self, input: &mut dyn io::Read) -> Result<(), RestoreError> {
        self.machine = Machine::read_snapshot(input)?;
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.machine.view().weight()
    }
}
