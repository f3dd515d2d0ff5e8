//! OpenAPI v2 as protobuf: messages and field numbers of gnostic's `openapi.v2.Document`, as far as
//! our document has them. This is the only form in which kubectl takes the document.

use serde_json::Value;

/// The document's bytes.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("swagger"));
    let mut info = Message::default();
    let of_info = |name| document.get("info").and_then(|info| info.get(name));
    info.text(1, of_info("title"));
    info.text(2, of_info("version"));
    out.message(2, info);
    out.message(8, named(document.get("paths"), 2, path_item));
    out.message(9, named(document.get("definitions"), 1, schema));
    for requirement in items(document.get("security")) {
        out.message(12, named(Some(requirement), 1, |_| Message::default()));
    }
    out.message(13, named(document.get("securityDefinitions"), 1, security));
    out.0
}

/// A message that is being written. Empty texts and false are left out, as proto3 has it.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint((number << 3) | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u64, message: Self) {
        self.bytes(number, &message.0);
    }

    fn text(&mut self, number: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, list: Option<&Value>) {
        items(list).iter().for_each(|one| self.text(number, Some(one)));
    }

    fn flag(&mut self, number: u64, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    /// What begins with `x-`, each as a text of YAML, of which JSON is a part.
    fn extensions(&mut self, number: u64, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten() {
            if !name.starts_with("x-") {
                continue;
            }
            let mut any = Self::default();
            any.bytes(2, format!("{value}\n").as_bytes());
            let mut one = Self::default();
            one.bytes(1, name.as_bytes());
            one.message(2, any);
            self.message(number, one);
        }
    }
}

/// A message around one field of a message: the form of gnostic's `oneof`s.
fn within(number: u64, message: Message) -> Message {
    let mut out = Message::default();
    out.message(number, message);
    out
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A map is a list of pairs of name and value.
fn named(map: Option<&Value>, number: u64, value: impl Fn(&Value) -> Message) -> Message {
    let mut out = Message::default();
    for (name, one) in map.and_then(Value::as_object).into_iter().flatten() {
        let mut pair = Message::default();
        pair.bytes(1, name.as_bytes());
        pair.message(2, value(one));
        out.message(number, pair);
    }
    out
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(one) = item.get(method) {
            out.message(number, operation(one));
        }
    }
    for one in items(item.get("parameters")) {
        out.message(9, parameter(one));
    }
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, value.get("tags"));
    out.text(3, value.get("description"));
    out.text(5, value.get("operationId"));
    out.texts(6, value.get("produces"));
    out.texts(7, value.get("consumes"));
    for one in items(value.get("parameters")) {
        out.message(8, parameter(one));
    }
    out.message(9, named(value.get("responses"), 1, response));
    out.texts(10, value.get("schemes"));
    out.extensions(13, value);
    out
}

fn response(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, value.get("description"));
    if let Some(one) = value.get("schema") {
        out.message(2, within(1, schema(one)));
    }
    within(1, out)
}

fn parameter(value: &Value) -> Message {
    let mut out = Message::default();
    let place = value.get("in").and_then(Value::as_str).unwrap_or_default();
    if place == "body" {
        out.text(1, value.get("description"));
        out.text(2, value.get("name"));
        out.text(3, value.get("in"));
        out.flag(4, value.get("required"));
        if let Some(one) = value.get("schema") {
            out.message(5, schema(one));
        }
        return within(1, within(1, out));
    }
    out.flag(1, value.get("required"));
    out.text(2, value.get("in"));
    out.text(3, value.get("description"));
    out.text(4, value.get("name"));
    let (kind, unique, own) = if place == "query" { (6, 20, 3) } else { (5, 19, 4) };
    out.text(kind, value.get("type"));
    out.flag(unique, value.get("uniqueItems"));
    within(1, within(2, within(own, out)))
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, value.get("$ref"));
    out.text(2, value.get("format"));
    out.text(4, value.get("description"));
    out.texts(19, value.get("required"));
    if let Some(one) = value.get("additionalProperties") {
        out.message(21, within(1, schema(one)));
    }
    if value.get("type").is_some() {
        let mut kind = Message::default();
        kind.text(1, value.get("type"));
        out.message(22, kind);
    }
    if let Some(one) = value.get("items") {
        out.message(23, within(1, schema(one)));
    }
    if let Some(all) = value.get("properties") {
        out.message(25, named(Some(all), 1, schema));
    }
    out.extensions(31, value);
    out
}

fn security(value: &Value) -> Message {
    let mut out = Message::default();
    for (number, name) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
        out.text(number, value.get(name));
    }
    within(2, out)
}
