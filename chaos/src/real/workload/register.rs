//! Clients that read, write, compare-and-set and delete a few ConfigMaps.
//!
//! Every value that is written is new, so a `resourceVersion` that is still current means the same
//! as a value that is still there: an update under a `resourceVersion` is a compare-and-set.

use rand::RngExt;
use serde_json::{Value, json};

use super::{Client, Meaning, Request};
use crate::model::{Family, RegisterInput, RegisterOutput};
use crate::real::client::Answer;

const FAMILY: Family = Family::Register;

impl Client {
    pub(super) async fn use_register(&mut self) {
        let key = self.key();
        match self.random.random_range(0..100) {
            0..40 => drop(self.read_register(key).await),
            40..70 => {
                if let Some((from, version)) = self.read_register(key).await {
                    self.swap_register(key, from, version).await;
                }
            }
            70..85 => self.patch_register(key).await,
            85..95 => self.create_register(key).await,
            _ => self.delete_register(key).await,
        }
    }

    /// The value and its resource version.
    async fn read_register(&mut self, key: usize) -> Option<(u64, String)> {
        let request = Request::get(self.path(FAMILY, key));
        let answer = self.run(key, RegisterInput::Read.into(), request, |answer| {
            match answer.code {
                200 => value_of(&answer.body).map(RegisterOutput::Value),
                404 => Some(RegisterOutput::Absent),
                _ => None,
            }
            .into()
        });
        let answer = answer.await.filter(|answer| answer.code == 200)?;
        let version = answer.body["metadata"]["resourceVersion"].as_str()?.to_owned();
        Some((value_of(&answer.body)?, version))
    }

    async fn swap_register(&mut self, key: usize, from: u64, version: String) {
        let to = self.shared.value();
        let mut body = object(key, to);
        body["metadata"]["resourceVersion"] = json!(version);
        let input = RegisterInput::Swap { from, to };
        self.run(key, input.into(), Request::put(self.path(FAMILY, key), body), written).await;
    }

    async fn patch_register(&mut self, key: usize) {
        let value = self.shared.value();
        let request =
            Request::patch(self.path(FAMILY, key), json!({"data": {"v": value.to_string()}}));
        self.run(key, RegisterInput::Patch(value).into(), request, |answer| match answer.code {
            // Overtaken too often by others' writes, as kube-apiserver has it: nothing happened, and nothing is told.
            409 => Meaning::Nothing,
            _ => written(answer),
        })
        .await;
    }

    async fn create_register(&mut self, key: usize) {
        let value = self.shared.value();
        let request = Request::post(self.all(FAMILY), object(key, value));
        self.run(key, RegisterInput::Create(value).into(), request, written).await;
    }

    async fn delete_register(&mut self, key: usize) {
        let request = Request::delete(self.path(FAMILY, key));
        self.run(key, RegisterInput::Delete.into(), request, written).await;
    }
}

fn written(answer: &Answer) -> Meaning {
    match answer.code {
        200 | 201 => Some(RegisterOutput::Written),
        404 => Some(RegisterOutput::Absent),
        409 => Some(RegisterOutput::Refused),
        _ => None,
    }
    .into()
}

fn object(key: usize, value: u64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FAMILY.object(key)},
        "data": {"v": value.to_string()},
    })
}

/// The value.
#[must_use]
pub fn value_of(object: &Value) -> Option<u64> {
    object["data"]["v"].as_str()?.parse().ok()
}
