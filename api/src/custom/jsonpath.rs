//! The JSON paths of printer columns, scales and selectable fields: kubectl's dialect, as far as columns use it.
//!
//! `.spec.replicas`, `.items[0]`, `.items[*].name`, `['a.b']`, `.a\.b`, `[?(@.type=="Ready")].status`, `..name`.

use serde_json::Value;

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Counted from the end when negative.
    Index(i64),
    All,
    Deep(String),
    /// Items of which a path compares with a value.
    Where(JsonPath, Comparison, Value),
    /// Items that have a path.
    Has(JsonPath),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path; braces around it are optional.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        let mut rest = inner;
        while !rest.is_empty() {
            rest = if let Some(after) = rest.strip_prefix("..") {
                let (name, after) = word(after);
                steps.push(Step::Deep(name));
                after
            } else if let Some(after) = rest.strip_prefix('.') {
                let (name, after) = word(after);
                match name.as_str() {
                    "" => {}
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(name)),
                }
                after
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after).ok_or_else(|| "unterminated array".to_owned())?;
                steps.push(bracket(&after[..end])?);
                &after[end + 1..]
            } else {
                let (name, after) = word(rest);
                if name.is_empty() {
                    return Err(format!("unrecognized character in action: {rest}"));
                }
                steps.push(Step::Field(name));
                after
            };
        }
        Ok(Self { steps })
    }

    /// The values that it leads to.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.take(value, &mut next);
            }
            found = next;
        }
        found
    }

    /// The names of a path that is nothing but names.
    #[must_use]
    pub fn names(&self) -> Option<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Index(_) | Step::All | Step::Deep(_) | Step::Where(..) | Step::Has(_) => None,
            })
            .collect()
    }
}

impl Step {
    fn take<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => out.extend(value.get(name)),
            Self::Index(at) => {
                if let Value::Array(list) = value {
                    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
                    let at = if *at < 0 { length + at } else { *at };
                    out.extend(usize::try_from(at).ok().and_then(|at| list.get(at)));
                }
            }
            Self::All => children(value, out),
            Self::Deep(name) => {
                out.extend(value.get(name));
                let mut below = Vec::new();
                children(value, &mut below);
                for child in below {
                    self.take(child, out);
                }
            }
            Self::Where(path, comparison, wanted) => {
                for item in value.as_array().into_iter().flatten() {
                    if path.find(item).first().is_some_and(|found| comparison.holds(found, wanted))
                    {
                        out.push(item);
                    }
                }
            }
            Self::Has(path) => {
                let items = value.as_array().into_iter().flatten();
                out.extend(items.filter(|item| !path.find(item).is_empty()));
            }
        }
    }
}

fn children<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    match value {
        Value::Array(list) => out.extend(list),
        Value::Object(map) => out.extend(map.values()),
        _ => {}
    }
}

impl Comparison {
    fn holds(self, found: &Value, wanted: &Value) -> bool {
        let order = match (found, wanted) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (a, b) => match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => None,
            },
        };
        let Some(order) = order else { return false };
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A name up to the next `.` or `[`; a backslash takes the next character as it is.
fn word(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket that is open ends: not inside quotes or brackets within.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return condition_of(condition);
    }
    text.parse().map(Step::Index).map_err(|_| format!("invalid array index {text}"))
}

fn unquoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('\'').or_else(|| inner('"'))
}

fn condition_of(text: &str) -> Result<Step, String> {
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let path = |text: &str| {
        let text = text.trim();
        JsonPath::parse(text.strip_prefix('@').unwrap_or(text))
    };
    for (sign, comparison) in comparisons {
        if let Some((left, right)) = text.split_once(sign) {
            let right = right.trim();
            let value = match unquoted(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right)
                    .map_err(|_| format!("unrecognized value in a filter: {right}"))?,
            };
            return Ok(Step::Where(path(left)?, comparison, value));
        }
    }
    Ok(Step::Has(path(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_kubectl_goes() {
        let object = json!({
            "spec": {"replicas": 3, "a.b": "dot", "list": [{"n": "x"}, {"n": "y", "m": 1}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"},
            ]},
        });
        let cases = [
            (".spec.replicas", json!([3])),
            ("{.spec.replicas}", json!([3])),
            (".spec.list[0].n", json!(["x"])),
            (".spec.list[-1].n", json!(["y"])),
            (".spec.list[*].n", json!(["x", "y"])),
            (".spec.a\\.b", json!(["dot"])),
            (".spec['a.b']", json!(["dot"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Other')].status", json!(["False"])),
            (".spec.list[?(@.m)].n", json!(["y"])),
            (".spec.list[?(@.m > 0)].n", json!(["y"])),
            ("..n", json!(["x", "y"])),
            (".nothing.there", json!([])),
        ];
        for (path, want) in cases {
            let found = JsonPath::parse(path).expect(path);
            assert_eq!(json!(found.find(&object)), want, "{path}");
        }
        assert!(JsonPath::parse(".a[").is_err());
        assert_eq!(JsonPath::parse(".spec.x").unwrap().names(), Some(vec!["spec", "x"]));
    }
}
