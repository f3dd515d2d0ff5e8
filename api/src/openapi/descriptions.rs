//! The descriptions of types and fields, unpacked while documents are built and dropped after.

use std::collections::BTreeMap;
use std::io::Read as _;

/// Made by `cargo xtask codegen` from k8s-openapi's sources (Apache-2.0).
static PACKED: &[u8] = include_bytes!("descriptions.txt.gz");

/// Texts by component name and field name.
pub(super) struct Descriptions {
    text: String,
    /// (component, field or nothing) to the range of the JSON string
    ranges: BTreeMap<(String, String), std::ops::Range<usize>>,
}

impl Descriptions {
    pub(super) fn load() -> Self {
        let mut text = String::new();
        let mut unpacker = flate2::read::GzDecoder::new(PACKED);
        unpacker.read_to_string(&mut text).expect("the table is part of the program");
        let mut ranges = BTreeMap::new();
        let mut component = "";
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            let line = line.trim_end_matches('\n');
            let Some((first, rest)) = line.split_once('\t') else { continue };
            let (field, json) = if first.is_empty() {
                rest.split_once('\t').unwrap_or(("", rest))
            } else {
                component = first;
                ("", rest)
            };
            let end = start + line.len();
            ranges.insert((component.to_owned(), field.to_owned()), end - json.len()..end);
        }
        Self { text, ranges }
    }

    /// The text of a component (`field` empty) or of one of its fields.
    pub(super) fn get(&self, component: &str, field: &str) -> Option<String> {
        let range = self.ranges.get(&(component.to_owned(), field.to_owned()))?;
        let text: String = serde_json::from_str(&self.text[range.clone()]).ok()?;
        Some(text).filter(|text| !text.is_empty())
    }
}
