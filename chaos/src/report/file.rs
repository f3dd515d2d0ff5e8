//! `report.json`: what was found, and the evidence that it was found in, so that an old run can be checked again.
//!
//! The form has a version: a newer one is refused. The evidence has a checksum: a damaged file tells nothing rather
//! than something wrong. Its size is bounded by [`OPERATIONS_MAX`](crate::limits::OPERATIONS_MAX): an operation takes
//! about 80 bytes, and a change is there once, however many watchers were sent it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Evidence, Process, Report};
use crate::check::disaster::Disaster;
use crate::check::membership::Membership;
use crate::check::watch::{Change, Gone, Kind, Relist, Revision, Sent, Watcher};
use crate::history::{Operation, Outcome, Tick};
use crate::limits::REPORT_BYTES_MAX;
use crate::model::{Input, Output, RegisterInput, RegisterOutput};
use crate::real::Options;
use crate::real::course::Trouble;
use crate::real::kube;
use crate::real::nemesis::{Injected, Skipped};
use crate::real::observer::Observed;
use crate::real::workload::{Recorded, Resource, Told};
use crate::scenario::expect::Health;
use crate::scenario::read;

/// The form that is written, and the newest that is read.
const VERSION: u32 = 1;

/// Tells the file from any other JSON.
const FORMAT: &str = "quorate-chaos-report";

/// Its name in a run's directory.
pub const NAME: &str = "report.json";

#[derive(Serialize)]
struct Written<'a> {
    format: &'a str,
    version: u32,
    #[serde(flatten)]
    report: &'a Report,
    evidence_crc32: u32,
    evidence: &'a RawValue,
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Deserialize)]
struct Body<'a> {
    evidence_crc32: u32,
    #[serde(borrow)]
    evidence: &'a RawValue,
}

/// The evidence as it is written: the same, with what there is much of in a short form.
#[derive(Serialize, Deserialize)]
struct Short {
    options: ShortOptions,
    began: Timestamp,
    ended: Tick,
    lasted: Duration,
    stopped: bool,
    troubles: Vec<Trouble>,
    faults: Vec<Injected>,
    skipped: Vec<Skipped>,
    health: Vec<Health>,
    healed: Option<Duration>,
    operations: Vec<ShortOperation>,
    /// Each change that anybody was told of, once.
    changes: Vec<ShortChange>,
    /// Indices of changes.
    acknowledged: Vec<usize>,
    watchers: Vec<ShortWatcher>,
    refused: Vec<String>,
    marker: Option<Revision>,
    last: Vec<Value>,
    #[serde(default)]
    contents: Vec<Told>,
    #[serde(default)]
    memberships: Vec<Membership>,
    #[serde(default)]
    disaster: Option<Disaster>,
    #[serde(default)]
    kube: Option<kube::Evidence>,
    #[serde(default)]
    left: Option<Vec<String>>,
    processes: Vec<Process>,
    observed: Observed,
}

#[derive(Serialize, Deserialize)]
struct ShortOptions {
    binary: PathBuf,
    #[serde(default)]
    older: Option<PathBuf>,
    directory: PathBuf,
    #[serde(default)]
    names: Vec<String>,
    seed: u64,
    command: String,
    /// As it is in its own file: YAML.
    scenario: String,
}

/// Object, master, client, called, answered, asked, told, the revision that was told, the one that was asked for.
#[derive(Serialize, Deserialize)]
struct ShortOperation(
    usize,
    usize,
    u32,
    Tick,
    Option<Tick>,
    ShortInput,
    Option<ShortOutput>,
    #[serde(default)] Option<Revision>,
    #[serde(default)] Option<Revision>,
);

/// Registers, which were there first, without a word before.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ShortInput {
    Register(RegisterInput),
    Other(Input),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ShortOutput {
    Register(RegisterOutput),
    Other(Output),
}

/// Revision, object, kind, digest.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct ShortChange(Revision, String, Kind, u64);

#[derive(Serialize, Deserialize)]
struct ShortWatcher {
    name: String,
    #[serde(default)]
    resource: Resource,
    from: Revision,
    sent: Vec<ShortSent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Gone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relists: Vec<Relist>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ShortSent {
    /// When, and which change.
    Event(Tick, usize),
    /// When, and `[revision]`.
    Bookmark(Tick, [Revision; 1]),
}

/// The file that is meant by it or by its directory.
#[must_use]
pub fn path(given: &Path) -> PathBuf {
    if given.is_dir() { given.join(NAME) } else { given.to_owned() }
}

/// Writes it; what is there is replaced as a whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, report: &Report, evidence: &Evidence) -> anyhow::Result<()> {
    let text = serde_json::value::to_raw_value(&shorten(evidence)?)?;
    let written = Written {
        format: FORMAT,
        version: VERSION,
        report,
        evidence_crc32: crc32fast::hash(text.get().as_bytes()),
        evidence: &text,
    };
    let part = path.with_extension("json.part");
    let writing = || -> anyhow::Result<()> {
        let mut file = BufWriter::new(File::create(&part)?);
        serde_json::to_writer(&mut file, &written)?;
        file.write_all(b"\n")?;
        file.into_inner()?.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(())
    };
    writing().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the evidence of a run.
///
/// # Errors
/// One line: the file cannot be read, is none of ours, newer than this program, or damaged.
pub fn load(path: &Path) -> anyhow::Result<Evidence> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut text = String::new();
    file.take(REPORT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {name}"))?;
    if text.len() as u64 > REPORT_BYTES_MAX {
        bail!("{name} has more than {REPORT_BYTES_MAX} bytes: no run writes so much");
    }
    parse(&text).map_err(|why| anyhow::anyhow!("{name} {why}"))
}

fn parse(text: &str) -> Result<Evidence, String> {
    let damaged = |error: serde_json::Error| format!("is damaged, or no report at all: {error}");
    let head: Head = match serde_json::from_str(text) {
        Ok(head) => head,
        Err(error) if error.is_data() => {
            return Err(
                "is no report that can be checked again (reports of old versions had no evidence)"
                    .into(),
            );
        }
        Err(error) => return Err(damaged(error)),
    };
    if head.format != FORMAT {
        return Err(format!("is no report of a chaos run, but {:?}", head.format));
    }
    if head.version > VERSION {
        let version = head.version;
        return Err(format!(
            "is of version {version}, this program knows {VERSION}: use the one that wrote it, or a newer one"
        ));
    }
    let body: Body = serde_json::from_str(text).map_err(damaged)?;
    if crc32fast::hash(body.evidence.get().as_bytes()) != body.evidence_crc32 {
        return Err("is damaged: the checksum of its evidence is another".into());
    }
    let short: Short = serde_json::from_str(body.evidence.get()).map_err(damaged)?;
    lengthen(short)
}

fn shorten(evidence: &Evidence) -> anyhow::Result<Short> {
    let mut changes = Changes::default();
    Ok(Short {
        options: ShortOptions {
            binary: evidence.options.binary.clone(),
            older: evidence.options.older.clone(),
            directory: evidence.options.directory.clone(),
            names: evidence.options.names.clone(),
            seed: evidence.options.seed,
            command: evidence.options.command.clone(),
            scenario: evidence.options.scenario.to_yaml()?,
        },
        began: evidence.began,
        ended: evidence.ended,
        lasted: evidence.lasted,
        stopped: evidence.stopped,
        troubles: evidence.troubles.clone(),
        faults: evidence.injected.clone(),
        skipped: evidence.skipped.clone(),
        health: evidence.health.clone(),
        healed: evidence.healed,
        operations: evidence.history.iter().map(short_operation).collect(),
        acknowledged: evidence
            .acknowledged
            .iter()
            .map(|(revision, change)| changes.index(*revision, change))
            .collect(),
        watchers: evidence
            .watchers
            .iter()
            .enumerate()
            .map(|(index, watcher)| ShortWatcher {
                name: watcher.name.clone(),
                resource: evidence.resources.get(index).copied().unwrap_or_default(),
                from: watcher.from,
                sent: short_sent(watcher, evidence.arrivals.get(index), &mut changes),
                gone: watcher.gone.clone(),
                relists: watcher.relists.clone(),
            })
            .collect(),
        changes: changes.all,
        refused: evidence.refused.clone(),
        marker: evidence.marker,
        last: evidence.last.clone(),
        contents: evidence.contents.clone(),
        memberships: evidence.memberships.clone(),
        disaster: evidence.disaster.clone(),
        kube: evidence.kube.clone(),
        left: evidence.left.clone(),
        processes: evidence.processes.clone(),
        observed: evidence.observed.clone(),
    })
}

fn short_operation(recorded: &Recorded) -> ShortOperation {
    let Recorded { key, master, operation, revision, under } = recorded;
    let input = match &operation.input {
        Input::Register(input) => ShortInput::Register(input.clone()),
        other => ShortInput::Other(other.clone()),
    };
    let output = operation.output().map(|output| match output {
        Output::Register(output) => ShortOutput::Register(output.clone()),
        other => ShortOutput::Other(other.clone()),
    });
    ShortOperation(
        *key,
        *master,
        operation.client,
        operation.called,
        operation.returned(),
        input,
        output,
        *revision,
        *under,
    )
}

fn short_sent(
    watcher: &Watcher,
    arrivals: Option<&Vec<Tick>>,
    changes: &mut Changes,
) -> Vec<ShortSent> {
    let at = |index: usize| arrivals.and_then(|at| at.get(index)).copied().unwrap_or_default();
    let sent = watcher.sent.iter().enumerate();
    sent.map(|(index, sent)| match sent {
        Sent::Event(revision, change) => {
            ShortSent::Event(at(index), changes.index(*revision, change))
        }
        Sent::Bookmark(revision) => ShortSent::Bookmark(at(index), [*revision]),
    })
    .collect()
}

/// Every change once.
#[derive(Default)]
struct Changes {
    all: Vec<ShortChange>,
    known: HashMap<ShortChange, usize>,
}

impl Changes {
    fn index(&mut self, revision: Revision, change: &Change) -> usize {
        let short = ShortChange(revision, change.key.clone(), change.kind, change.digest);
        *self.known.entry(short).or_insert_with_key(|short| {
            self.all.push(short.clone());
            self.all.len() - 1
        })
    }
}

fn long_options(short: ShortOptions) -> Result<Options, String> {
    let ShortOptions { binary, older, directory, names, seed, command, scenario } = short;
    let scenario = read::text("its scenario", &scenario, seed).map_err(|error| {
        format!("is damaged, or of another version: {error}").replace('\n', "; ")
    })?;
    Ok(Options {
        binary,
        older,
        directory,
        scenario,
        seed,
        names,
        beyond_quorum: true,
        command,
        say: |_| {},
        rewrite: None,
    })
}

fn lengthen(short: Short) -> Result<Evidence, String> {
    let change = |index: usize| {
        let found = short.changes.get(index);
        let found = found.ok_or_else(|| format!("is damaged: there is no change {index}"))?;
        let ShortChange(revision, key, kind, digest) = found;
        Ok::<_, String>((*revision, Change { key: key.clone(), kind: *kind, digest: *digest }))
    };
    let options = long_options(short.options)?;
    let (mut watchers, mut arrivals, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    for watcher in short.watchers {
        let (mut sent, mut at) = (Vec::new(), Vec::new());
        for found in watcher.sent {
            let (when, what) = match found {
                ShortSent::Event(when, index) => {
                    let (revision, change) = change(index)?;
                    (when, Sent::Event(revision, change))
                }
                ShortSent::Bookmark(when, [revision]) => (when, Sent::Bookmark(revision)),
            };
            sent.push(what);
            at.push(when);
        }
        let ShortWatcher { name, from, gone, relists, .. } = watcher;
        watchers.push(Watcher { name, from, sent, gone, relists });
        arrivals.push(at);
        resources.push(watcher.resource);
    }
    let acknowledged =
        short.acknowledged.iter().map(|index| change(*index)).collect::<Result<_, _>>()?;
    let history = short.operations.into_iter().map(long_operation).collect::<Result<_, _>>()?;
    Ok(Evidence {
        options,
        began: short.began,
        ended: short.ended,
        lasted: short.lasted,
        stopped: short.stopped,
        troubles: short.troubles,
        injected: short.faults,
        skipped: short.skipped,
        health: short.health,
        healed: short.healed,
        history,
        acknowledged,
        watchers,
        resources,
        arrivals,
        refused: short.refused,
        marker: short.marker,
        last: short.last,
        contents: short.contents,
        memberships: short.memberships,
        disaster: short.disaster,
        kube: short.kube,
        left: short.left,
        processes: short.processes,
        observed: short.observed,
    })
}

fn long_operation(short: ShortOperation) -> Result<Recorded, String> {
    let ShortOperation(key, master, client, called, answered, input, told, revision, under) = short;
    let input = match input {
        ShortInput::Register(input) => Input::Register(input),
        ShortInput::Other(input) => input,
    };
    let told = told.map(|output| match output {
        ShortOutput::Register(output) => Output::Register(output),
        ShortOutput::Other(output) => output,
    });
    let outcome = match (answered, told) {
        (Some(at), Some(output)) => Outcome::Done { at, output },
        (None, None) => Outcome::Unknown,
        _ => return Err(format!("is damaged: half an answer to client {client}")),
    };
    let operation = Operation { client, called, input, outcome };
    Ok(Recorded { key, master, operation, revision, under })
}
