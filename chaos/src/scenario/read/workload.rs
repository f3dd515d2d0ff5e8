//! `workload:` in a scenario: the name of a kind of clients, a list of names, or a mapping with `kinds`, `clients`,
//! `keys`.

use std::fmt;

use clap::ValueEnum as _;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{Reader, Text, is_near};
use crate::limits::{CLIENTS_MAX, KEYS_MAX, NODES_MAX};
use crate::model::Family;
use crate::scenario::Workload;

/// The name of Kubernetes itself as a workload: node agents, Deployments, Services.
pub const KUBERNETES: &str = "kubernetes";

/// Node agents, where their number is not said.
pub const NODES: usize = 2;

/// As it is written.
#[derive(Debug)]
pub(super) enum RawWorkload {
    Kind(String),
    Kinds(Vec<Text>),
    All(Box<RawAll>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAll {
    kinds: Option<Spanned<RawKinds>>,
    clients: Option<Spanned<u64>>,
    keys: Option<Spanned<u64>>,
    nodes: Option<Spanned<u64>>,
}

#[derive(Debug)]
enum RawKinds {
    One(String),
    Many(Vec<Text>),
}

struct AnyForm;

impl<'de> Visitor<'de> for AnyForm {
    type Value = RawWorkload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the name of a workload, a list of names, or a mapping with kinds, clients and keys",
        )
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<RawWorkload, E> {
        Ok(RawWorkload::Kind(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawWorkload, A::Error> {
        all(seq).map(RawWorkload::Kinds)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawWorkload, A::Error> {
        RawAll::deserialize(MapAccessDeserializer::new(map))
            .map(|all| RawWorkload::All(Box::new(all)))
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = RawKinds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a workload, or a list of names")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<RawKinds, E> {
        Ok(RawKinds::One(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawKinds, A::Error> {
        all(seq).map(RawKinds::Many)
    }
}

fn all<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<Text>, A::Error> {
    let mut names = Vec::new();
    while let Some(name) = seq.next_element::<Text>()? {
        names.push(name);
    }
    Ok(names)
}

impl<'de> Deserialize<'de> for RawWorkload {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm)
    }
}

impl<'de> Deserialize<'de> for RawKinds {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Names)
    }
}

impl Reader {
    pub(super) fn workload(&mut self, raw: Option<&Spanned<RawWorkload>>) -> Workload {
        let usual = Workload::default();
        let Some(raw) = raw else { return usual };
        let place = raw.referenced;
        let mut nodes = None;
        let (kinds, clients, keys, field) = match &raw.value {
            RawWorkload::Kind(name) => (vec![(name.as_str(), place)], None, None, "workload"),
            RawWorkload::Kinds(names) => (places(names), None, None, "workload"),
            RawWorkload::All(all) => {
                nodes = self.count("workload.nodes", all.nodes.as_ref(), NODES_MAX);
                let kinds = match all.kinds.as_ref().map(|kinds| (&kinds.value, kinds.referenced)) {
                    None => vec![("register", place)],
                    Some((RawKinds::One(name), place)) => vec![(name.as_str(), place)],
                    Some((RawKinds::Many(names), _)) => places(names),
                };
                (kinds, all.clients.as_ref(), all.keys.as_ref(), "workload.kinds")
            }
        };
        let clients = self.count("workload.clients", clients, CLIENTS_MAX);
        let keys = self.count("workload.keys", keys, KEYS_MAX);
        let mut found: Vec<Family> = Vec::new();
        let mut named = false;
        for (name, place) in kinds {
            if name == KUBERNETES && !named {
                named = true;
                nodes = nodes.or(Some(NODES));
                continue;
            }
            match family(name) {
                Ok(kind) if found.contains(&kind) => {
                    self.refuse(place, format!("{field}: {name} is there twice"));
                }
                Ok(kind) => found.push(kind),
                Err(why) => self.refuse(place, format!("{field}: {why}")),
            }
        }
        let clients = clients.unwrap_or(usual.clients);
        if found.is_empty() && named {
            // Somebody has to see whether the masters answer at all.
            found.push(Family::Register);
        }
        if found.is_empty() {
            self.refuse(place, format!("{field}: there is none in it"));
        } else if clients != 0 && clients < found.len() {
            let what = format!("workload: {clients} clients are too few for {} kinds", found.len());
            self.refuse(place, what);
        }
        Workload {
            kinds: found,
            clients,
            keys: keys.unwrap_or(usual.keys),
            nodes: nodes.unwrap_or(0),
        }
    }
}

fn places(names: &[Text]) -> Vec<(&str, Location)> {
    names.iter().map(|name| (name.value.as_str(), name.referenced)).collect()
}

fn family(name: &str) -> Result<Family, String> {
    Family::from_str(name, false).map_err(|_| {
        let families = Family::ALL.map(|family| family.to_string());
        let all: Vec<String> = families.into_iter().chain([KUBERNETES.to_owned()]).collect();
        let near = all.iter().find(|other| is_near(name, other));
        let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        format!("there is no workload {name:?}{near}; there are {}", all.join(", "))
    })
}
