//! Clients that add elements to sets, and list them: each element is a ConfigMap, and a set is a label.
//!
//! Half of the lists come in pages: all pages together are what was there at one moment, that of the first one. A set
//! of [`SET_MAX`] elements is left alone, and a new one begun in its place.

use std::collections::BTreeSet;

use rand::RngExt;
use serde_json::{Value, json};

use super::{Client, Meaning, Request, lock, revision_of};
use crate::limits::SET_MAX;
use crate::model::{Family, Input, Output, SetInput, SetOutput};
use crate::real::client::NoAnswer;

const FAMILY: Family = Family::Set;

/// The label that tells the set.
const LABEL: &str = "chaos-set";

/// Elements of a page.
const PAGE: usize = 7;

impl Client {
    pub(super) async fn use_set(&mut self) {
        let slot = self.key();
        let key = lock(&self.shared.sets)[slot].0;
        match self.random.random_range(0..100) {
            0..40 => self.add(slot, key).await,
            40..70 => self.list_set(key, None).await,
            _ => self.list_set(key, Some(PAGE)).await,
        }
    }

    async fn add(&mut self, slot: usize, key: usize) {
        {
            let mut sets = lock(&self.shared.sets);
            let (current, count) = &mut sets[slot];
            if *count >= SET_MAX && *current == key {
                (*current, *count) = (key + self.shared.keys, 0);
                return;
            }
            *count += 1;
        }
        let element = self.shared.value();
        let name = member(key, element);
        let labels = json!({LABEL: key.to_string()});
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
        });
        let (called, request) = (self.shared.tick(), Request::post(self.all(FAMILY), body));
        let told = match self.call(&request).await {
            Ok(answer) => {
                self.acknowledge(&name, &request.method, &answer);
                let meaning = match answer.code {
                    201 => Meaning::Output(Output::Set(SetOutput::Added)),
                    _ => Meaning::Unknown,
                };
                (meaning, revision_of(&answer.body), None)
            }
            Err(NoAnswer::NotSent(_)) => return,
            Err(NoAnswer::Unknown(_)) => (Meaning::Unknown, None, None),
        };
        self.record(key, called, Input::Set(SetInput::Add(element)), told);
    }

    /// A list that breaks off tells nothing.
    async fn list_set(&mut self, key: usize, limit: Option<usize>) {
        let called = self.shared.tick();
        let (mut elements, mut twice, mut revision) = (BTreeSet::new(), None, None);
        let mut next = None;
        loop {
            let mut path = format!("{}?labelSelector={LABEL}%3D{key}", self.all(FAMILY));
            if let Some(limit) = limit {
                path.push_str(&format!("&limit={limit}"));
            }
            if let Some(next) = &next {
                path.push_str(&format!("&continue={next}"));
            }
            let answer = match self.call(&Request::get(path)).await {
                Ok(answer) if answer.code == 200 => answer,
                Ok(_) | Err(_) => return,
            };
            let Some(page) = members(key, &answer.body) else { return };
            for element in page {
                if !elements.insert(element) {
                    twice = Some(element);
                }
            }
            revision = revision.or_else(|| revision_of(&answer.body));
            let more = answer.body["metadata"]["continue"].as_str().unwrap_or_default();
            if more.is_empty() {
                break;
            }
            next = Some(more.to_owned());
        }
        let output = match twice {
            Some(element) => SetOutput::Twice(element),
            None => SetOutput::Elements(elements),
        };
        let told = (Meaning::Output(Output::Set(output)), revision, None);
        self.record(key, called, Input::Set(SetInput::Read), told);
    }
}

fn member(key: usize, element: u64) -> String {
    format!("{}-{element}", FAMILY.object(key))
}

fn members(key: usize, list: &Value) -> Option<Vec<u64>> {
    let prefix = format!("{}-", FAMILY.object(key));
    let items = list["items"].as_array()?;
    let name =
        |item: &Value| item["metadata"]["name"].as_str()?.strip_prefix(&prefix)?.parse().ok();
    items.iter().map(name).collect()
}
