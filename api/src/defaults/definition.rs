//! Defaults of definitions of custom kinds.

use serde_json::{Value, json};

use crate::tree;

/// `SetDefaults_CustomResourceDefinitionSpec`.
pub(crate) fn definition(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    if let Some(names) = tree::child_mut(spec, "names") {
        let kind = tree::text(names, "kind").to_owned();
        tree::default_text(names, "singular", &kind.to_lowercase());
        if !kind.is_empty() {
            tree::default_text(names, "listKind", &format!("{kind}List"));
        }
    }
    if !tree::has(spec, "conversion") {
        tree::set(spec, "conversion", json!({"strategy": "None"}));
    }
}
