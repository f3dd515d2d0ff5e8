//! What must hold for any object of any kind, and for any bytes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::codec::{self, MediaType, encode, json, protobuf, yaml};
use crate::normalise::normalise;
use crate::resource::{self, ResourceDef};
use crate::schema::{Field, Kind, TypeId};

/// A small generator, so that one seed makes one object (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// An object of a type as a client might send it: empty values and nulls among the rest.
fn object(dice: &mut Dice, ty: TypeId, depth: u64) -> Value {
    let mut map = Map::new();
    for field in ty.get().fields().iter().filter(|f| !f.type_meta() && f.proto != 0) {
        if dice.below(3 + depth) < 2 {
            map.insert(field.json.to_owned(), field_value(dice, field, depth));
        }
    }
    Value::Object(map)
}

fn field_value(dice: &mut Dice, field: &Field, depth: u64) -> Value {
    if dice.below(12) == 0 { Value::Null } else { value(dice, field.kind, depth) }
}

fn value(dice: &mut Dice, kind: Kind, depth: u64) -> Value {
    let int32 = |dice: &mut Dice| i32::try_from(dice.below(9)).unwrap() - 3;
    match kind {
        Kind::String => {
            Value::from(dice.pick(&["", "a", "ž\n\"\\", "yes", "1", "{}", "\u{1f600}"]))
        }
        Kind::Bool => Value::from(dice.below(2) == 0),
        Kind::Int32 => Value::from(int32(dice)),
        Kind::Int64 => Value::from(i64::from(int32(dice)) * 4_000_000_000),
        Kind::Float => Value::from(f64::from(int32(dice)) / 4.0),
        Kind::Bytes => Value::from(dice.pick(&["", "YQ==", "YWJj\nZGVm", "AAEC"])),
        Kind::Quantity => dice.pick(&["0", "1500m", "1.5", "1Gi", "1e3", "1024Mi"]).into(),
        Kind::Time => dice.pick(&["2024-02-29T12:00:00Z", "2024-02-29T12:00:00.5+02:00"]).into(),
        Kind::MicroTime => {
            dice.pick(&["2024-01-01T00:00:00.123456Z", "1999-12-31T23:59:59.000000Z"]).into()
        }
        Kind::Duration => dice.pick(&["0s", "5s"]).into(),
        Kind::IntOrString => {
            if dice.below(2) == 0 {
                Value::from(int32(dice))
            } else {
                Value::from("25%")
            }
        }
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json | Kind::Any => {
            json!({"f:a": {}, "n": [1, -2.5, null, true, "x"]})
        }
        Kind::SchemaOrBool => Value::from(dice.below(2) == 0),
        Kind::SchemaOrArray => json!({"type": "string"}),
        Kind::SchemaOrStringArray => json!(["a", ""]),
        Kind::Ref(ty) if depth > 7 => Value::Object(Map::new()).tap(|v| normalise(v, ty)),
        Kind::Ref(ty) => object(dice, ty, depth + 1),
        Kind::List(item) => (0..dice.below(3)).map(|_| value(dice, *item, depth + 1)).collect(),
        Kind::Map(item) => {
            let entries =
                (0..dice.below(3)).map(|at| (format!("k{at}"), value(dice, *item, depth + 1)));
            Value::Object(entries.collect())
        }
    }
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for Value {}

fn kind() -> impl Strategy<Value = &'static ResourceDef> {
    (0..resource::all().len()).prop_map(|at| &resource::all()[at])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn each_format_makes_the_same_object(def in kind(), seed in 1u64..) {
        let sent = object(&mut Dice(seed), def.schema, 0);
        let normal = sent.clone().tap(|value| normalise(value, def.schema));
        let again = normal.clone().tap(|value| normalise(value, def.schema));
        prop_assert_eq!(&again, &normal, "normalise is idempotent");
        for (name, text) in [("as sent", &sent), ("normal", &normal)] {
            let parsed = json::parse(text.to_string().as_bytes(), def.schema);
            let parsed = parsed.map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&parsed.value, &normal, "JSON {}", name);
            prop_assert_eq!(&parsed.strict, &Vec::<String>::new());
        }
        let converted = yaml::to_json(&normal.to_string());
        let converted = converted.map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&json::parse(&converted.json, def.schema).unwrap().value, &normal, "YAML");
        let raw = encode::message(&normal, def.schema);
        prop_assert_eq!(&protobuf::decode(&raw, def.schema).unwrap(), &normal, "protobuf");
        let image = crate::image::encode(&normal).unwrap();
        prop_assert_eq!(image.parse(7).unwrap(), serde_json::from_slice::<Value>(&image.served(7)).unwrap());
    }

    #[test]
    fn any_bytes_are_refused_or_read(
        def in kind(),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for media in [MediaType::Json, MediaType::Yaml, MediaType::Protobuf] {
            let _ = codec::decode(media, &body, def.target());
            let _ = codec::decode_any(media, &body);
        }
        let _ = protobuf::decode(&body, def.schema);
    }

    #[test]
    fn damaged_bodies_are_refused_or_read(
        def in kind(),
        seed in 1u64..,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let sent = object(&mut Dice(seed), def.schema, 0);
        let text = sent.to_string().into_bytes();
        let normal = sent.tap(|value| normalise(value, def.schema));
        let raw = encode::body(&def.api_version(), def.kind(), &normal, def.schema);
        let bodies =
            [(MediaType::Json, text.clone()), (MediaType::Yaml, text), (MediaType::Protobuf, raw)];
        for (media, mut body) in bodies {
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if let Ok(decoded) = codec::decode(media, &body, def.target()) {
                let again = decoded.value.clone().tap(|value| normalise(value, def.schema));
                prop_assert_eq!(again, decoded.value, "what is accepted is in normal form");
            }
        }
    }

    #[test]
    fn yaml_text_does_not_hurt(text in "[\\-&*<:{}\\[\\],#|>!?%@'\"a-c0-9. \n\t]{0,80}") {
        let _ = codec::decode_any(MediaType::Yaml, text.as_bytes());
    }
}

#[test]
fn a_protobuf_body_is_what_its_json_is() {
    let def = resource::by_kind("apps", "v1", "Deployment").unwrap();
    let text =
        br#"{"metadata":{"name":"web"},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"b"}},
        "template":{"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c",
        "livenessProbe":{"httpGet":{"port":"http"},"periodSeconds":3}}]}}}}"#;
    let from_json = codec::decode(MediaType::Json, text, def.target()).unwrap().value;
    let body = encode::body("apps/v1", "Deployment", &from_json, def.schema);
    let from_protobuf = codec::decode(MediaType::Protobuf, &body, def.target()).unwrap().value;
    assert_eq!(from_protobuf, from_json);
    assert_eq!(from_json["spec"]["replicas"], 0);
}
