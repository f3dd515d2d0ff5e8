//! Clients that append to lists, and read them: a list shows the order in which all writes took effect.
//!
//! A list is `metadata.finalizers` of a ConfigMap: the one list in it to whose end JSON patch can add (`/-`), which the
//! master does without the client's having read it. The other half of the appends are updates under the
//! `resourceVersion` of a read. A list of [`LIST_MAX`] elements is left alone, and a new one begun in its place: what
//! checks it does not grow with the run.

use rand::RngExt;
use serde_json::{Value, json};

use super::{Client, Meaning, Request, lock};
use crate::limits::LIST_MAX;
use crate::model::{AppendInput, AppendOutput, Family, Input, Output};
use crate::real::client::Answer;

const FAMILY: Family = Family::Append;

/// Finalizers have a domain.
const DOMAIN: &str = "chaos.quorate/e";

impl Client {
    pub(super) async fn use_list(&mut self) {
        let slot = self.key();
        let key = lock(&self.shared.lists)[slot];
        match self.random.random_range(0..100) {
            0..35 => drop(self.read_list(key).await),
            35..70 => self.push(key).await,
            _ => {
                let Some((elements, object)) = self.read_list(key).await else { return };
                if elements >= LIST_MAX {
                    let next = key + self.shared.keys;
                    let mut lists = lock(&self.shared.lists);
                    lists[slot] = lists[slot].max(next);
                    return;
                }
                self.replace(key, object).await;
            }
        }
    }

    /// How many elements there are, and the object if there is one.
    async fn read_list(&mut self, key: usize) -> Option<(usize, Option<Value>)> {
        let mut count = None;
        let input = Input::Append(AppendInput::Read);
        let answer = self.run(key, input, Request::get(self.path(FAMILY, key)), |answer| {
            let elements = match answer.code {
                200 => elements(&answer.body),
                404 => Some(Vec::new()),
                _ => None,
            };
            count = elements.as_ref().map(Vec::len);
            elements.map(|elements| Output::Append(AppendOutput::Elements(elements))).into()
        });
        let answer = answer.await?;
        Some((count?, (answer.code == 200).then_some(answer.body)))
    }

    /// Without having read.
    async fn push(&mut self, key: usize) {
        let element = self.shared.value();
        let add = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": named(element)}]);
        let request = Request::json_patch(self.path(FAMILY, key), add);
        self.append(key, element, request).await;
    }

    /// At the end of what was read.
    async fn replace(&mut self, key: usize, object: Option<Value>) {
        let element = self.shared.value();
        let request = match object {
            None => Request::post(
                self.all(FAMILY),
                json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": FAMILY.object(key), "finalizers": [named(element)]},
                }),
            ),
            Some(mut object) => {
                let list = object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut);
                let Some(list) = list else { return };
                list.push(json!(named(element)));
                Request::put(self.path(FAMILY, key), object)
            }
        };
        self.append(key, element, request).await;
    }

    async fn append(&mut self, key: usize, element: u64, request: Request) {
        let input = Input::Append(AppendInput::Push(element));
        self.run(key, input, request, |answer| meaning(answer, element)).await;
    }
}

fn meaning(answer: &Answer, element: u64) -> Meaning {
    match answer.code {
        200 | 201 if elements(&answer.body).is_some_and(|list| list.contains(&element)) => {
            Meaning::Output(Output::Append(AppendOutput::Pushed))
        }
        // Not there (yet); there already; overtaken; not there when the patch was tried.
        404 | 409 | 422 => Meaning::Nothing,
        _ => Meaning::Unknown,
    }
}

fn named(element: u64) -> String {
    format!("{DOMAIN}{element}")
}

/// The elements, oldest first; `None` when the object is no list.
#[must_use]
pub fn elements(object: &Value) -> Option<Vec<u64>> {
    let list = object["metadata"]["finalizers"].as_array()?;
    list.iter().map(|name| name.as_str()?.strip_prefix(DOMAIN)?.parse().ok()).collect()
}
