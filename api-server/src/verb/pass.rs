//! What is sent and not kept as it is (reviews, evictions, bindings, the opening of streams), shown to webhooks.

use serde_json::{Value, json};

use super::Request;
use crate::admission::{self, Asked, Draft, Operation, Ownership};
use crate::model::text;
use crate::status_error::Answer;

/// Lets webhooks change or refuse what was sent; adds to the warnings.
pub(crate) async fn webhooks(
    request: &Request,
    dry_run: bool,
    object: Value,
    warnings: &mut Vec<String>,
) -> Answer<Value> {
    let asked = request.asked(dry_run);
    ask(request, Operation::Create, asked, object, warnings).await
}

/// Lets webhooks refuse the opening of a stream.
pub(crate) async fn connect(request: &Request) -> Answer<()> {
    let options = options(request);
    let asked = Asked::default();
    // Nobody reads warnings on a stream.
    ask(request, Operation::Connect, asked, options, &mut Vec::new()).await.map(|_| ())
}

async fn ask(
    request: &Request,
    operation: Operation,
    asked: Asked,
    object: Value,
    warnings: &mut Vec<String>,
) -> Answer<Value> {
    let target = &request.target;
    let in_path = if target.named { &target.name } else { "" };
    let name = if in_path.is_empty() { text(&object["metadata"]["name"]) } else { in_path };
    let mut draft = Draft {
        def: request.def,
        sub: request.sub.map_or("", |sub| sub.name),
        operation,
        namespace: target.namespace_of(request.def),
        name: name.to_owned(),
        object,
        old: Value::Null,
        warnings: Vec::new(),
        ownership: Ownership::Keep,
        asked,
    };
    let shared = &request.shared;
    let view = shared.store.view();
    let ctx = shared.context(&view);
    admission::webhook::pass(&ctx, request.permitted.identity(), &mut draft).await?;
    warnings.append(&mut draft.warnings);
    Ok(draft.object)
}

/// The options of a stream, which are in its query, as an object.
fn options(request: &Request) -> Value {
    let query = &request.query;
    let kind = request.sub.map_or("", |sub| sub.gvk.kind);
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(flag) {
            options[flag] = json!(true);
        }
    }
    if !query.text("container").is_empty() {
        options["container"] = json!(query.text("container"));
    }
    if kind == "PodExecOptions" {
        options["command"] = query.all("command").collect();
    }
    let ports = query.all("ports").flat_map(|ports| ports.split(','));
    let ports: Vec<i64> = ports.filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = json!(ports);
    }
    options
}
