//! Which nodes a pod template asks for: `nodeSelector` and required node affinity, as upstream's `nodeaffinity` reads
//! them. Terms are alternatives, the requirements of a term hold together, an empty term and one that does not parse
//! match nothing.

use serde_json::Value;

use crate::model::Node;

/// The field of a node that affinity can ask for.
const NAME: &str = "metadata.name";

/// Whether a pod of this spec may be on a node as far as its selector and its affinity go.
pub(crate) fn accepts(spec: &Value, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    let selector = spec["nodeSelector"].as_object();
    let selected = selector.is_none_or(|selector| {
        selector.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
    });
    selected && required_terms(spec).is_none_or(|terms| terms.iter().any(|term| holds(term, node)))
}

/// The node that a pod of this spec is for, by the affinity that a daemon set has given it.
pub(crate) fn target(spec: &Value) -> Option<&str> {
    required_terms(spec)?.iter().find_map(|term| {
        let fields = term["matchFields"].as_array()?;
        let name = fields.iter().find(|field| field["key"] == NAME && field["operator"] == "In")?;
        match name["values"].as_array()?.as_slice() {
            [only] => only.as_str(),
            _ => None,
        }
    })
}

fn required_terms(spec: &Value) -> Option<&Vec<Value>> {
    let required =
        &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    if required.is_null() {
        return None;
    }
    required["nodeSelectorTerms"].as_array()
}

fn holds(term: &Value, node: &Node) -> bool {
    let list = |field: &str| term[field].as_array().map_or(&[][..], Vec::as_slice);
    let (labels, fields) = (list("matchExpressions"), list("matchFields"));
    let label = |key: &str| node.metadata.labels.get(key).map(String::as_str);
    let field = |key: &str| (key == NAME).then_some(node.metadata.name.as_str());
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|wanted| meets(wanted, label))
        && fields.iter().all(|wanted| meets(wanted, field))
}

fn meets<'n>(wanted: &Value, value_of: impl Fn(&str) -> Option<&'n str>) -> bool {
    let found = value_of(wanted["key"].as_str().unwrap_or_default());
    let values = wanted["values"].as_array().map_or(&[][..], Vec::as_slice);
    let listed = found.is_some_and(|found| values.iter().any(|value| value == found));
    let numbers = || {
        let [bound] = values else { return None };
        Some((found?.parse::<i64>().ok()?, bound.as_str()?.parse::<i64>().ok()?))
    };
    match wanted["operator"].as_str().unwrap_or_default() {
        "In" => listed,
        "NotIn" => !values.is_empty() && !listed,
        "Exists" => values.is_empty() && found.is_some(),
        "DoesNotExist" => values.is_empty() && found.is_none(),
        "Gt" => numbers().is_some_and(|(found, bound)| found > bound),
        "Lt" => numbers().is_some_and(|(found, bound)| found < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_are_alternatives_and_hold_together() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1",
            "labels": {"disk": "ssd", "cores": "8"}}}))
        .unwrap();
        let labels = |terms: Value| {
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let label = |operator: &str, key: &str, values: Value| {
            labels(json!([{"matchExpressions":
                [{"key": key, "operator": operator, "values": values}]}]))
        };
        let name = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
        for (spec, expected) in [
            (json!({}), true),
            (json!({"nodeSelector": {"disk": "ssd"}}), true),
            (json!({"nodeSelector": {"disk": "hdd"}}), false),
            (json!({"nodeSelector": {"no": "x"}}), false),
            (label("In", "disk", json!(["hdd", "ssd"])), true),
            (label("NotIn", "disk", json!(["ssd"])), false),
            (label("NotIn", "no", json!(["ssd"])), true),
            (label("Exists", "cores", json!([])), true),
            (label("DoesNotExist", "cores", json!([])), false),
            (label("Gt", "cores", json!(["7"])), true),
            (label("Lt", "cores", json!(["8"])), false),
            (label("Gt", "disk", json!(["7"])), false),
            (label("Near", "disk", json!(["ssd"])), false),
            (labels(json!([])), false),
            (labels(json!([{}])), false),
            (labels(json!([{}, {"matchFields": [name("n1")]}])), true),
            (labels(json!([{"matchFields": [name("n2")]}])), false),
        ] {
            assert_eq!(accepts(&spec, &node), expected, "{spec}");
        }
        let spec = labels(json!([{"matchFields": [name("n2")]}]));
        assert_eq!(target(&spec), Some("n2"));
        assert_eq!(target(&json!({})), None);
    }
}
