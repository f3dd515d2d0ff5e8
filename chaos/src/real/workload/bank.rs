//! Clients that move money between accounts. A Kubernetes API has no transaction over several objects, so all accounts
//! of a bank are in one ConfigMap, which is replaced under the `resourceVersion` that was read.

use rand::RngExt;
use serde_json::{Map, Value, json};

use super::{Client, Meaning, Request};
use crate::model::{Content, Family, Input, Output, VersionedInput, VersionedOutput};
use crate::real::client::Answer;

const FAMILY: Family = Family::Bank;

/// Accounts of a bank.
pub const ACCOUNTS: usize = 5;

/// What is in each account at first.
pub const OPENING: i64 = 100;

/// The most that is moved at once.
const MOST: i64 = 40;

impl Client {
    pub(super) async fn use_bank(&mut self) {
        let key = self.key();
        let Some(read) = self.read_versioned(FAMILY, key).await else { return };
        let Some((serial, content, version)) = read else {
            self.open_bank(key).await;
            return;
        };
        let Content::Balances(mut balances) = content else { return };
        if balances.len() < 2 || self.random.random_range(0..100) < 30 {
            return;
        }
        let from = self.random.random_range(0..balances.len());
        let to = (from + self.random.random_range(1..balances.len())) % balances.len();
        let amount = self.random.random_range(1..=MOST);
        if balances[from] < amount {
            return;
        }
        balances[from] -= amount;
        balances[to] += amount;
        let next = self.shared.value();
        let body = object(key, next, &balances, Some(&version));
        let content = Content::Balances(balances);
        let input = Input::Bank(VersionedInput::Update { from: serial, to: next, content });
        self.run(key, input, Request::put(self.path(FAMILY, key), body), written).await;
    }

    async fn open_bank(&mut self, key: usize) {
        let (serial, balances) = (self.shared.value(), vec![OPENING; ACCOUNTS]);
        let body = object(key, serial, &balances, None);
        let input = Input::Bank(VersionedInput::Create(serial, Content::Balances(balances)));
        self.run(key, input, Request::post(self.all(FAMILY), body), written).await;
    }

    /// What is there, with its resource version; `Some(None)` when nothing is.
    pub(super) async fn read_versioned(
        &mut self,
        family: Family,
        key: usize,
    ) -> Option<Option<(u64, Content, String)>> {
        let input = match family {
            Family::Leases => Input::Lease(VersionedInput::Read),
            _ => Input::Bank(VersionedInput::Read),
        };
        let answer = self.run(key, input, Request::get(self.path(family, key)), |answer| {
            let output = match answer.code {
                200 => super::content(&answer.body)
                    .map(|(serial, content)| VersionedOutput::Is(serial, content)),
                404 => Some(VersionedOutput::Absent),
                _ => None,
            };
            output.map(Output::Versioned).into()
        });
        let answer = answer.await?;
        match answer.code {
            200 => {
                let (serial, content) = super::content(&answer.body)?;
                let version = answer.body["metadata"]["resourceVersion"].as_str()?.to_owned();
                Some(Some((serial, content, version)))
            }
            404 => Some(None),
            _ => None,
        }
    }
}

pub(super) fn written(answer: &Answer) -> Meaning {
    let output = match answer.code {
        200 | 201 => Some(VersionedOutput::Written),
        404 => Some(VersionedOutput::Absent),
        409 => Some(VersionedOutput::Refused),
        _ => None,
    };
    output.map(Output::Versioned).into()
}

fn object(key: usize, serial: u64, balances: &[i64], version: Option<&str>) -> Value {
    let mut data: Map<String, Value> = balances
        .iter()
        .enumerate()
        .map(|(account, balance)| (format!("a{account}"), json!(balance.to_string())))
        .collect();
    data.insert("serial".to_owned(), json!(serial.to_string()));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FAMILY.object(key), "resourceVersion": version},
        "data": data,
    })
}

/// Serial and balances.
pub(super) fn content(object: &Value) -> Option<(u64, Content)> {
    let data = object["data"].as_object()?;
    let serial = data.get("serial")?.as_str()?.parse().ok()?;
    let accounts = data.keys().filter(|name| name.starts_with('a')).count();
    let balance = |account| data.get(&format!("a{account}"))?.as_str()?.parse().ok();
    Some((serial, Content::Balances((0..accounts).map(balance).collect::<Option<_>>()?)))
}
