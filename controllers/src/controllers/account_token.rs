//! Account tokens: Secrets of type `kubernetes.io/service-account-token` hold the token of the account
//! that their annotation names.
//!
//! Desired: token, CA and namespace in each such Secret, and no such Secret without its account.
//! Writes: these three, the annotation with the account's uid, and the deletion.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_state_machine::Key;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{Meta, decode, to_value};
use crate::plan::{Ctx, Plan, after};
use crate::resources::SERVICE_ACCOUNTS;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// How long a new Secret waits for its account, which one manifest may bring after it.
const ACCOUNT_AWAITED: Duration = Duration::from_secs(10);

/// A Secret, as far as it is looked at here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Secret {
    metadata: Meta,
    r#type: String,
    data: BTreeMap<String, String>,
    immutable: bool,
}

/// What is to be done for one Secret.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key).filter(|found| found.image.header.deletion.is_none())
    else {
        return plan;
    };
    let secret: Secret = decode(stored).unwrap_or_default();
    let annotation = |name: &str| secret.metadata.annotations.get(name).map_or("", String::as_str);
    let name = annotation(ACCOUNT);
    if secret.r#type != TYPE || name.is_empty() {
        return plan;
    }
    let account = ctx.world.get(&SERVICE_ACCOUNTS.key(&key.object.namespace, name));
    let known_uid = annotation(ACCOUNT_UID);
    let account = account.filter(|account| known_uid.is_empty() || account.uid() == known_uid);
    let Some(account) = account else {
        let end = after(secret.metadata.created(), ACCOUNT_AWAITED);
        if end > ctx.now {
            plan.wake_at(end, ctx.now);
        } else {
            plan.delete(stored);
        }
        return plan;
    };
    let mut data = secret.data.clone();
    fill(ctx, (&key.object.namespace, name, account.uid()), &key.object.name, &mut data);
    let annotated = !known_uid.is_empty();
    if !secret.immutable && (data != secret.data || !annotated) {
        let mut object = to_value(stored);
        object["data"] = json!(data);
        object["metadata"]["annotations"][ACCOUNT_UID] = Value::from(account.uid());
        plan.update(stored, object, "");
    }
    plan
}

/// Adds what is missing, and puts right an old CA.
fn fill(
    ctx: &Ctx<'_>,
    account: (&str, &str, &str),
    secret: &str,
    data: &mut BTreeMap<String, String>,
) {
    let lacks =
        |data: &BTreeMap<String, String>, key: &str| data.get(key).is_none_or(String::is_empty);
    if !ctx.config.root_ca_pem.is_empty() {
        data.insert("ca.crt".to_owned(), STANDARD.encode(&ctx.config.root_ca_pem));
    }
    if lacks(data, "namespace") {
        data.insert("namespace".to_owned(), STANDARD.encode(account.0));
    }
    if lacks(data, "token")
        && let Some(signer) = &ctx.config.account_tokens
        && let Some(token) = signer.token(account, secret)
    {
        data.insert("token".to_owned(), STANDARD.encode(token));
    }
}
