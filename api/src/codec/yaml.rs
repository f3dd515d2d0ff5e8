//! YAML to JSON text, so that YAML bodies take the same road as JSON ones.
//!
//! Scalars are read as upstream's YAML library does (YAML 1.1: `yes` and `on` are true, `0o7`,
//! `0x1F` and `1_000` are numbers); only the first document counts; `<<` merges. Aliases are
//! shared while reading and expanded while writing, under a limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::scalar;
use crate::limits::{NESTING_DEPTH_MAX, YAML_EXPANDED_BYTES_MAX, YAML_MERGED_KEYS_MAX};

/// Why a text is not YAML that JSON can express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error converting YAML to JSON: yaml: {0}")]
pub struct Error(String);

/// JSON text and what a strict reader has to say about the YAML.
#[derive(Debug)]
pub struct Converted {
    /// JSON text, keys sorted
    pub json: Vec<u8>,
    /// `line 5: key "replicas" already set in map`
    pub duplicates: Vec<String>,
}

#[derive(Clone)]
enum Node {
    /// JSON text of a scalar, and the key it makes (None: cannot be a key)
    Scalar(Rc<(String, Option<String>)>),
    /// Items, and how many levels are below
    List(Rc<Vec<Node>>, usize),
    Map(Rc<BTreeMap<String, Node>>, usize),
}

impl Node {
    fn height(&self) -> usize {
        match self {
            Self::Scalar(_) => 0,
            Self::List(_, height) | Self::Map(_, height) => *height,
        }
    }

    /// One more than the highest. Aliases can nest deeper than the text does, so this is checked
    /// where nodes are made: what is too high is never built (writing and dropping recurse).
    fn above<'n>(nodes: impl Iterator<Item = &'n Node>) -> Result<usize, Error> {
        let height = nodes.map(Self::height).max().unwrap_or(0) + 1;
        if height > NESTING_DEPTH_MAX {
            return Err(Error("exceeded max depth".to_owned()));
        }
        Ok(height)
    }
}

/// Converts the first document of a YAML text.
///
/// # Errors
///
/// Malformed YAML, values JSON does not have (`.inf`), keys that are no scalars, aliases that
/// expand beyond the limit.
pub fn to_json(text: &str) -> Result<Converted, Error> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        anchors: BTreeMap::new(),
        duplicates: Vec::new(),
        depth: 0,
        merges_left: YAML_MERGED_KEYS_MAX,
    };
    let root = loop {
        match reader.next()? {
            None | Some((Event::StreamEnd, _)) => break None,
            Some((Event::StreamStart | Event::DocumentStart(..), _)) => {}
            Some((event, span)) => break Some(reader.node(event, &span)?),
        }
    };
    let mut json = Vec::with_capacity(text.len() + text.len() / 4);
    match root {
        None => json.extend_from_slice(b"null"),
        Some(root) => write(&root, &mut json)?,
    }
    Ok(Converted { json, duplicates: reader.duplicates })
}

struct Reader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    duplicates: Vec<String>,
    depth: usize,
    /// Keys that merges may still copy
    merges_left: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Error> {
        self.events.next_event().transpose().map_err(|error: ScanError| {
            Error(format!("line {}: {}", error.marker().line(), error.info()))
        })
    }

    fn must(&mut self) -> Result<(Event<'t>, Span), Error> {
        self.next()?.ok_or_else(|| Error("unexpected end of stream".to_owned()))
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > NESTING_DEPTH_MAX {
            return Err(Error(format!("line {}: exceeded max depth", span.start.line())));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_ref().map(|tag| tag.suffix().to_owned());
                let plain = matches!(style, ScalarStyle::Plain);
                let node = scalar_node(&text, plain, tag.as_deref())
                    .map_err(|what| Error(format!("line {}: {what}", span.start.line())))?;
                (node, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match self.must()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => list.push(self.node(event, &span)?),
                    }
                }
                let height = Node::above(list.iter())?;
                (Node::List(Rc::new(list), height), anchor)
            }
            Event::MappingStart(_, anchor, _) => (self.mapping()?, anchor),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| {
                    Error(format!("line {}: anchor contains itself", span.start.line()))
                })?;
                (node, 0)
            }
            other => return Err(Error(format!("unexpected {other:?}"))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.depth -= 1;
        Ok(node)
    }

    fn mapping(&mut self) -> Result<Node, Error> {
        let mut map = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.must()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let line = span.start.line();
            let merges =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, &span)?;
            let (event, span) = self.must()?;
            let value = self.node(event, &span)?;
            if merges {
                merged.push((value, line));
                continue;
            }
            let Node::Scalar(scalar) = key else {
                return Err(Error(format!("line {line}: invalid map key")));
            };
            let Some(name) = scalar.1.clone() else {
                return Err(Error(format!("line {line}: unsupported map key of type null")));
            };
            if map.contains_key(&name) {
                let quoted = crate::text::quote(&name);
                self.duplicates.push(format!("line {line}: key {quoted} already set in map"));
            }
            map.insert(name, value);
        }
        for (value, line) in merged {
            self.merge(&mut map, &value).map_err(|what| Error(format!("line {line}: {what}")))?;
        }
        let height = Node::above(map.values())?;
        Ok(Node::Map(Rc::new(map), height))
    }

    /// Copies the keys of a map, or of a list of maps, that are not there yet.
    fn merge(
        &mut self,
        map: &mut BTreeMap<String, Node>,
        value: &Node,
    ) -> Result<(), &'static str> {
        const WRONG: &str = "map merge requires map or sequence of maps as the value";
        match value {
            Node::Map(from, _) => {
                self.merges_left = self
                    .merges_left
                    .checked_sub(from.len())
                    .ok_or("document contains excessive aliasing")?;
                for (key, value) in from.iter() {
                    map.entry(key.clone()).or_insert_with(|| value.clone());
                }
                Ok(())
            }
            Node::List(list, _) => list.iter().try_for_each(|item| match item {
                Node::Map(..) => self.merge(map, item),
                Node::List(..) | Node::Scalar(_) => Err(WRONG),
            }),
            Node::Scalar(_) => Err(WRONG),
        }
    }
}

fn write(node: &Node, out: &mut Vec<u8>) -> Result<(), Error> {
    if out.len() > YAML_EXPANDED_BYTES_MAX {
        return Err(Error("document contains excessive aliasing".to_owned()));
    }
    match node {
        Node::Scalar(scalar) => out.extend_from_slice(scalar.0.as_bytes()),
        Node::List(list, _) => {
            out.push(b'[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Node::Map(map, _) => {
            out.push(b'{');
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(json_string(key).as_bytes());
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn json_string(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn scalar_node(text: &str, plain: bool, tag: Option<&str>) -> Result<Node, String> {
    let string = |text: &str| (json_string(text), Some(text.to_owned()));
    let made = match tag {
        Some("binary") => {
            let canonical = scalar::base64_text(text)
                .map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(canonical);
            string(&String::from_utf8_lossy(&bytes.unwrap_or_default()))
        }
        Some("str") => string(text),
        None | Some("!") if !plain => string(text),
        _ => match resolve(text) {
            Resolved::Null => ("null".to_owned(), None),
            Resolved::Literal(json) => {
                let key = json.to_string();
                (key.clone(), Some(key))
            }
            Resolved::Text => string(text),
            Resolved::NotJson => return Err(format!("json: unsupported value: {text}")),
        },
    };
    Ok(Node::Scalar(Rc::new(made)))
}

enum Resolved<'t> {
    Null,
    Literal(Cow<'t, str>),
    Text,
    /// Infinity and NaN
    NotJson,
}

/// What a plain scalar means.
fn resolve(text: &str) -> Resolved<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Literal(Cow::Borrowed("true"));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Literal(Cow::Borrowed("false"));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Resolved::NotJson,
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Resolved::Text;
    }
    let digits = text.replace('_', "");
    if let Some(integer) = integer(&digits) {
        return Resolved::Literal(Cow::Owned(integer));
    }
    if looks_like_float(&digits)
        && let Ok(float) = digits.trim_start_matches('+').parse::<f64>()
    {
        return if float.is_finite() {
            Resolved::Literal(Cow::Owned(scalar::float(float).to_string()))
        } else {
            Resolved::NotJson
        };
    }
    Resolved::Text
}

/// Go's `ParseInt(text, 0, 64)`, then `ParseUint`.
fn integer(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (if text.starts_with('-') { "-" } else { "" }, rest),
        None => ("", text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if body.starts_with(['+', '-']) {
        return None;
    }
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{body}"), radix) {
        return Some(number.to_string());
    }
    if sign.is_empty() {
        return u64::from_str_radix(body, radix).ok().map(|number| number.to_string());
    }
    None
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let mantissa_is_right = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && digits(fraction),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_is_right && exponent_is_right
}
