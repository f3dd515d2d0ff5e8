//! Discovery and OpenAPI documents of a cluster with custom kinds: those of the resource table, and theirs.
//!
//! Made from the kinds that are served at one moment, each document when it is first asked for. What a version of a
//! group publishes is taken over from the documents before when nothing of it has changed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::version;
use crate::discovery::{self, Aggregated};
use crate::document::Document;
use crate::openapi::{self, CustomDocuments};
use crate::resource::{self, ResourceDef};

type Kinds = Vec<&'static ResourceDef>;

/// The documents. See the module.
#[derive(Debug, Default)]
pub struct Documents {
    /// Kinds by group and version; versions most preferred first.
    groups: BTreeMap<&'static str, Vec<(&'static str, Kinds)>>,
    group_list: OnceLock<Document>,
    aggregated: [OnceLock<Document>; 2],
    lists: OnceLock<BTreeMap<(String, String), Document>>,
    openapi: OnceLock<BTreeMap<String, Document>>,
    /// Documents of OpenAPI v3 that are known already.
    known: BTreeMap<String, (Kinds, Document)>,
    index: OnceLock<Document>,
    v2: OnceLock<(Document, Document)>,
}

impl Documents {
    /// The documents of these kinds; `before`: those that were served until now.
    #[must_use]
    pub fn new(kinds: impl Iterator<Item = &'static ResourceDef>, before: Option<&Self>) -> Self {
        let mut groups: BTreeMap<&'static str, Vec<(&'static str, Kinds)>> = BTreeMap::new();
        // A group of the table is what the table says it is.
        let built_in = |name: &str| resource::groups().iter().any(|group| group.name == name);
        for def in kinds.filter(|def| !built_in(def.group())) {
            let versions = groups.entry(def.group()).or_default();
            match versions.iter_mut().find(|(version, _)| *version == def.version()) {
                Some((_, kinds)) => kinds.push(def),
                None => versions.push((def.version(), vec![def])),
            }
        }
        for versions in groups.values_mut() {
            versions.sort_by(|(a, _), (b, _)| version::compare(a, b));
            for (_, kinds) in versions {
                kinds.sort_by_key(|def| def.plural);
            }
        }
        Self { groups, known: before.map(Self::all_known).unwrap_or_default(), ..Self::default() }
    }

    fn all_known(&self) -> BTreeMap<String, (Kinds, Document)> {
        let Some(documents) = self.openapi.get() else { return self.known.clone() };
        let known = self.versions().filter_map(|(group, version, kinds)| {
            let path = format!("apis/{group}/{version}");
            let document = documents.get(&path)?.clone();
            Some((path, (kinds.clone(), document)))
        });
        known.collect()
    }

    fn versions(&self) -> impl Iterator<Item = (&'static str, &'static str, &Kinds)> {
        self.groups.iter().flat_map(|(group, versions)| {
            versions.iter().map(|(version, kinds)| (*group, *version, kinds))
        })
    }

    /// Group versions, as paths: `/apis/G`, `/apis/G/V`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let groups = self.groups.keys().map(|group| format!("/apis/{group}"));
        let versions =
            self.versions().map(|(group, version, _)| format!("/apis/{group}/{version}"));
        groups.chain(versions).collect()
    }

    fn group_values(&self) -> Vec<Value> {
        let names = |versions: &[(&'static str, Kinds)]| -> Vec<&'static str> {
            versions.iter().map(|(version, _)| *version).collect()
        };
        self.groups
            .iter()
            .map(|(group, versions)| discovery::group_of(group, &names(versions)))
            .collect()
    }

    /// `/apis`, legacy.
    pub fn group_list(&self) -> &Document {
        self.group_list.get_or_init(|| discovery::group_list_with(self.group_values()))
    }

    /// `/apis`, aggregated.
    pub fn aggregated(&self, version: Aggregated) -> &Document {
        let at = match version {
            Aggregated::V2 => 0,
            Aggregated::V2Beta1 => 1,
        };
        self.aggregated[at].get_or_init(|| {
            let more = self.groups.iter().map(|(group, versions)| {
                let versions: Vec<Value> = versions
                    .iter()
                    .map(|(version, kinds)| {
                        discovery::version_discovery(version, kinds.iter().copied())
                    })
                    .collect();
                serde_json::json!({"metadata": {"name": group}, "versions": versions})
            });
            let list = discovery::group_discovery_list_with(version, false, more.collect());
            discovery::document(&list)
        })
    }

    /// `/apis/G` of a custom group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Value> {
        let mut group = self
            .group_values()
            .into_iter()
            .find(|group| group.get("name") == Some(&name.into()))?;
        crate::tree::set(&mut group, "kind", "APIGroup");
        crate::tree::set(&mut group, "apiVersion", "v1");
        Some(group)
    }

    /// `/apis/G/V` of a custom group.
    pub fn resource_list(&self, group: &str, version: &str) -> Option<&Document> {
        let lists = self.lists.get_or_init(|| {
            let list = |(group, version, kinds): (&'static str, &'static str, &Kinds)| {
                let list = discovery::resource_list_of(group, version, kinds.iter().copied());
                ((group.to_owned(), version.to_owned()), discovery::document(&list))
            };
            self.versions().map(list).collect()
        });
        lists.get(&(group.to_owned(), version.to_owned()))
    }

    fn documents(&self) -> &BTreeMap<String, Document> {
        self.openapi.get_or_init(|| {
            let make = CustomDocuments::load();
            let mut documents = BTreeMap::new();
            for group in self.groups.keys() {
                documents.insert(format!("apis/{group}"), make.group(group));
            }
            for (group, version, kinds) in self.versions() {
                let path = format!("apis/{group}/{version}");
                let same = |before: &Kinds| {
                    before.len() == kinds.len()
                        && before.iter().zip(kinds).all(|(a, b)| std::ptr::eq(*a, *b))
                };
                let known = self.known.get(&path).filter(|(before, _)| same(before));
                let document = match known {
                    Some((_, document)) => document.clone(),
                    None => make.version(group, version, kinds),
                };
                documents.insert(path, document);
            }
            documents
        })
    }

    /// A document of OpenAPI v3 by its path below `/openapi/v3/`.
    pub fn openapi(&self, path: &str) -> Option<&Document> {
        self.documents().get(path)
    }

    /// `/openapi/v3`.
    pub fn index(&self) -> &Document {
        self.index.get_or_init(|| openapi::index_with(self.documents().iter()))
    }

    /// `/openapi/v2` as JSON and as protobuf.
    pub fn v2(&self) -> &(Document, Document) {
        self.v2.get_or_init(|| openapi::v2_with(self.documents().values()))
    }
}
