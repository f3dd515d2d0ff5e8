//! The history of each object, as the checks look at it: reads without an answer tell nothing and are left out, and
//! what all masters listed at the end is a read of every object, after everything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::history::{Operation, Outcome};
use crate::model::{
    AppendInput, AppendOutput, Content, Family, Input, Output, RegisterInput, RegisterOutput,
    SetInput, SetOutput, VersionedInput, VersionedOutput,
};
use crate::real::workload::{Recorded, content, elements, register};
use crate::report::Evidence;

/// The client that lists everything at the end of a run.
pub const LAST: u32 = u32::MAX;

/// Operations by object, each object's in order of their calls.
pub type Objects<'a> = BTreeMap<(Family, usize), Vec<&'a Recorded>>;

/// Groups what clients did by object.
#[must_use]
pub fn of<'a>(evidence: &'a Evidence, last: &'a [Recorded]) -> Objects<'a> {
    let mut objects = Objects::new();
    for recorded in evidence.history.iter().chain(last) {
        let input = &recorded.operation.input;
        if !input.is_read() || recorded.operation.output().is_some() {
            objects.entry((input.family(), recorded.key)).or_default().push(recorded);
        }
    }
    for own in objects.values_mut() {
        own.sort_by_key(|recorded| recorded.operation.called);
    }
    objects
}

/// A read, after the end, of every object that clients used: what the first master listed. Nothing when the run did not
/// come so far.
#[must_use]
pub fn last_reads(evidence: &Evidence) -> Vec<Recorded> {
    let Some(list) = evidence.last.first() else { return Vec::new() };
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
    let there: BTreeMap<String, &Value> =
        items.iter().filter_map(|item| Some((name(item)?, item))).collect();
    let used: BTreeSet<(Family, usize)> = evidence
        .history
        .iter()
        .map(|recorded| (recorded.operation.input.family(), recorded.key))
        .collect();
    let reads = used.into_iter().filter_map(|(family, key)| {
        let item = there.get(&family.object(key)).copied();
        let (input, output) = read(family, key, item, &there)?;
        let outcome = Outcome::Done { at: evidence.ended + 2, output };
        let operation = Operation { client: LAST, called: evidence.ended + 1, input, outcome };
        Some(Recorded { key, master: 0, operation, revision: None, under: None })
    });
    reads.collect()
}

/// What a client would have been told; nothing when the object is not what clients write.
fn read(
    family: Family,
    key: usize,
    item: Option<&Value>,
    all: &BTreeMap<String, &Value>,
) -> Option<(Input, Output)> {
    let versioned = || -> Option<Output> {
        Some(Output::Versioned(match item {
            Some(item) => {
                let (serial, content): (u64, Content) = content(item)?;
                VersionedOutput::Is(serial, content)
            }
            None => VersionedOutput::Absent,
        }))
    };
    Some(match family {
        Family::Register => {
            let output = match item {
                Some(item) => RegisterOutput::Value(register::value_of(item)?),
                None => RegisterOutput::Absent,
            };
            (RegisterInput::Read.into(), output.into())
        }
        Family::Append => {
            let list = item.map_or_else(|| Some(Vec::new()), elements)?;
            let output = Output::Append(AppendOutput::Elements(list));
            (Input::Append(AppendInput::Read), output)
        }
        Family::Set => {
            let prefix = format!("{}-", family.object(key));
            let from = all.range(prefix.clone()..).map(|(name, _)| name);
            let own = from.map_while(|name| name.strip_prefix(&prefix)?.parse().ok());
            let output = Output::Set(SetOutput::Elements(own.collect()));
            (Input::Set(SetInput::Read), output)
        }
        Family::Bank => (Input::Bank(VersionedInput::Read), versioned()?),
        Family::Leases => (Input::Lease(VersionedInput::Read), versioned()?),
    })
}
