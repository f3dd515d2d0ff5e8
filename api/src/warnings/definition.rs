//! Definitions of custom kinds: what is kept and not acted on.

use serde_json::Value;

use super::Warnings;
use crate::tree;

/// Rules in CEL are kept and not evaluated; who relies on them should know.
pub(crate) fn definition(definition: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    let spec = tree::get(definition, "spec");
    for (at, version) in tree::list(spec, "versions").iter().enumerate() {
        let schema = tree::at(version, &["schema", "openAPIV3Schema"]);
        let rules = count(schema);
        if rules > 0 {
            warnings.push(format!(
                "spec.versions[{at}].schema.openAPIV3Schema: x-kubernetes-validations ({rules} rules) are kept and \
                 published, but this server does not evaluate them"
            ));
        }
    }
}

fn count(schema: &Value) -> usize {
    match schema {
        Value::Object(map) => {
            let own = tree::list(schema, "x-kubernetes-validations").len();
            own + map.values().map(count).sum::<usize>()
        }
        Value::Array(list) => list.iter().map(count).sum(),
        _ => 0,
    }
}
