//! Request bodies to objects: JSON, YAML and protobuf, checked against the schema, in normal form.
//!
//! [`decode`] is the door. What it refuses is a client's mistake (400) and its text is the one
//! upstream answers with. Answers are JSON; [`encode`] is for clients that take nothing else.

pub mod encode;
pub mod json;
pub mod protobuf;
pub(crate) mod scalar;
pub mod scan;
pub(crate) mod wire;
pub mod yaml;

use std::borrow::Cow;

use serde_json::Value;

use crate::custom::{self, Custom};
use crate::limits::SUMMARY_BYTES_MAX;
use crate::resource::{self, GroupVersionKind, ResourceDef, SubresourceDef};
use crate::schema::TypeId;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl MediaType {
    /// By the `Content-Type` header, parameters ignored; an empty one is JSON. None: 415.
    pub fn from_content_type(header: &str) -> Option<Self> {
        let name = header.split(';').next().unwrap_or("").trim();
        match name.to_ascii_lowercase().as_str() {
            "" | "application/json" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// What the request wants done about unknown and duplicate fields (`fieldValidation=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently
    Ignore,
    /// Drop them and say so in `Warning` headers; the default
    #[default]
    Warn,
    /// Refuse the request
    Strict,
}

impl FieldValidation {
    /// By the query parameter's value; empty is the default. None: an invalid value (422).
    pub fn from_query(value: &str) -> Option<Self> {
        match value {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// What an endpoint takes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The kind, also the default when a body does not say
    pub gvk: GroupVersionKind,
    /// Its struct
    pub schema: TypeId,
    /// Any group version will do (`DeleteOptions` is registered in every one)
    pub any_version: bool,
    /// The schema is a definition's
    pub custom: Option<&'static Custom>,
}

impl ResourceDef {
    /// What a POST or PUT of the resource takes.
    pub fn target(&self) -> Target {
        Target { gvk: self.gvk, schema: self.schema, any_version: false, custom: self.custom }
    }
}

impl SubresourceDef {
    /// What a POST or PUT of the subresource takes.
    pub fn target(&self) -> Target {
        Target { gvk: self.gvk, schema: self.schema, any_version: false, custom: self.custom }
    }
}

impl Target {
    /// The body of a DELETE.
    pub const DELETE_OPTIONS: Self = Self {
        gvk: GroupVersionKind { group: "", version: "v1", kind: "DeleteOptions" },
        schema: crate::schema::ids::META_V1_DELETEOPTIONS,
        any_version: true,
        custom: None,
    };
}

/// Why a body was refused: always a client's mistake (400), the text is the whole message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not even the kind could be read
    #[error("the object provided is unrecognized (must be of type {kind}): {cause} ({summary})")]
    Unrecognised {
        /// What was expected
        kind: &'static str,
        /// Why it could not be read
        cause: String,
        /// The first bytes of the body
        summary: String,
    },
    /// The body is of another kind, or not right for its kind
    #[error("{kind} in version {version:?} cannot be handled as a {expected}: {cause}")]
    CannotBeHandled {
        /// The kind the body has
        kind: String,
        /// The version the body has
        version: String,
        /// What was expected
        expected: &'static str,
        /// What is wrong
        cause: String,
    },
    /// The right kind in another version
    #[error(
        "the API version in the data ({found}) does not match the expected API version ({expected})"
    )]
    VersionMismatch {
        /// The `apiVersion` of the body
        found: String,
        /// The one of the endpoint
        expected: String,
    },
}

impl Error {
    /// What is wrong, without saying with what: patches wrap it in a message of their own.
    pub fn cause(&self) -> String {
        match self {
            Self::Unrecognised { cause, .. } | Self::CannotBeHandled { cause, .. } => cause.clone(),
            Self::VersionMismatch { .. } => self.to_string(),
        }
    }
}

/// An object of the target's kind.
#[derive(Debug)]
pub struct Decoded {
    /// In normal form, unknown fields dropped, `apiVersion` and `kind` set
    pub value: Value,
    /// What strict decoding has to say: `unknown field "spec.foo"`
    pub strict: Vec<String>,
    kind: String,
    version: String,
    expected: &'static str,
}

impl Decoded {
    /// Applies `fieldValidation`: the object and the warnings to send.
    ///
    /// # Errors
    ///
    /// With `Strict`, when there is anything to say.
    pub fn checked(self, validation: FieldValidation) -> Result<(Value, Vec<String>), Error> {
        match validation {
            FieldValidation::Ignore => Ok((self.value, Vec::new())),
            FieldValidation::Warn => Ok((self.value, self.strict)),
            FieldValidation::Strict if self.strict.is_empty() => Ok((self.value, Vec::new())),
            FieldValidation::Strict => Err(Error::CannotBeHandled {
                kind: self.kind,
                version: self.version,
                expected: self.expected,
                cause: format!("strict decoding error: {}", self.strict.join(", ")),
            }),
        }
    }
}

/// Decodes a body as the target's kind.
///
/// # Errors
///
/// The body is malformed, of another kind or version, or has values of wrong types.
pub fn decode(media: MediaType, body: &[u8], target: Target) -> Result<Decoded, Error> {
    if let Some(custom) = target.custom {
        return decode_custom(media, body, target, custom);
    }
    let unrecognised = |cause: String| Error::Unrecognised {
        kind: target.gvk.kind,
        cause,
        summary: summary(body),
    };
    if media == MediaType::Protobuf {
        let envelope = protobuf::open(body).map_err(|e| unrecognised(e.to_string()))?;
        let found = Found::new(&envelope.api_version, &envelope.kind, target);
        found.check(target)?;
        let value = protobuf::decode(envelope.raw, target.schema)
            .map_err(|e| found.cannot(target, e.to_string()))?;
        return Ok(found.decoded(value, Vec::new(), target));
    }
    let converted;
    let (text, mut strict) = match media {
        MediaType::Yaml => {
            converted = yaml::to_json(&String::from_utf8_lossy(body))
                .map_err(|e| unrecognised(e.to_string()))?;
            let strict = match converted.duplicates.as_slice() {
                [] => Vec::new(),
                list => vec![format!("yaml: unmarshal errors:\n  {}", list.join("\n  "))],
            };
            (converted.json.as_slice(), strict)
        }
        MediaType::Json | MediaType::Protobuf => (body, Vec::new()),
    };
    // The object is parsed first and its kind looked at afterwards: nearly always it is right.
    let parsed = json::parse(text, target.schema);
    let meta;
    let (api_version, kind) = match &parsed {
        Ok(parsed) => {
            let text = |name| parsed.value.get(name).and_then(Value::as_str).unwrap_or("");
            (text("apiVersion"), text("kind"))
        }
        Err(_) => {
            meta = type_meta(text).map_err(|cause| {
                unrecognised(format!("couldn't get version/kind; json parse error: {cause}"))
            })?;
            (meta.0.as_str(), meta.1.as_str())
        }
    };
    if api_version.matches('/').count() > 1 {
        return Err(unrecognised(format!("unexpected GroupVersion string: {api_version}")));
    }
    let found = Found::new(api_version, kind, target);
    found.check(target)?;
    let parsed = parsed.map_err(|e| found.cannot(target, e.to_string()))?;
    strict.extend(parsed.strict);
    Ok(found.decoded(parsed.value, strict, target))
}

/// Decodes a body as an object of a custom kind.
fn decode_custom(
    media: MediaType,
    body: &[u8],
    target: Target,
    custom: &Custom,
) -> Result<Decoded, Error> {
    let unrecognised = |cause: String| Error::Unrecognised {
        kind: target.gvk.kind,
        cause,
        summary: summary(body),
    };
    let (mut value, mut strict) = custom::decode::read(media, body).map_err(unrecognised)?;
    let text = |name| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() {
        let shown = value.to_string();
        return Err(unrecognised(format!("Object 'Kind' is missing in '{shown}'")));
    }
    let found = Found::new(&api_version, &kind, target);
    let expected = target.gvk.api_version();
    if found.kind != target.gvk.kind {
        let why = format!("kind: Invalid value: {kind:?}: must be {}", target.gvk.kind);
        return Err(found.cannot(target, why));
    }
    if found.api_version != expected {
        return Err(Error::VersionMismatch { found: found.api_version, expected });
    }
    strict.extend(
        custom::decode::settle(&mut value, custom).map_err(|cause| found.cannot(target, cause))?,
    );
    Ok(found.decoded(value, strict, target))
}

/// Checks and normalises an object that is a tree already: the result of a patch.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_value(value: &Value, target: Target) -> Result<Decoded, Error> {
    decode(MediaType::Json, value.to_string().as_bytes(), target)
}

/// Any JSON or YAML text as a tree, without a schema: patches.
///
/// # Errors
///
/// Malformed text; the message of the parser.
pub fn decode_any(media: MediaType, body: &[u8]) -> Result<Value, String> {
    let text: Cow<'_, [u8]> = match media {
        MediaType::Json => Cow::Borrowed(body),
        MediaType::Yaml => {
            let converted = yaml::to_json(&String::from_utf8_lossy(body));
            Cow::Owned(converted.map_err(|e| e.to_string())?.json)
        }
        MediaType::Protobuf => return Err("a patch cannot be protobuf".to_owned()),
    };
    let mut scanner = scan::Scanner::new(&text);
    let value = scanner.any().map_err(|e| e.to_string())?;
    scanner.end().map_err(|e| e.to_string())?;
    Ok(value)
}

/// `apiVersion` and `kind` of JSON text that is no object of the expected type.
fn type_meta(text: &[u8]) -> Result<(String, String), String> {
    let mut scanner = scan::Scanner::new(text);
    let value = scanner.any().map_err(|e| e.to_string())?;
    scanner.end().map_err(|e| e.to_string())?;
    let found = |value: &Value| match value {
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) | Value::Null => "number",
    };
    let Value::Object(map) = value else {
        let found = found(&value);
        return Err(format!(
            "json: cannot unmarshal {found} into Go value of type struct \
             {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
             Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        ));
    };
    let text = |name: &str| match map.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!(
            "json: cannot unmarshal {} into Go struct field .{name} of type string",
            found(other)
        )),
    };
    Ok((text("apiVersion")?, text("kind")?))
}

/// The kind a body has, defaults applied.
struct Found {
    api_version: String,
    kind: String,
}

impl Found {
    fn new(api_version: &str, kind: &str, target: Target) -> Self {
        let kind = if kind.is_empty() { target.gvk.kind } else { kind };
        let api_version = match api_version {
            "" => target.gvk.api_version(),
            other => other.to_owned(),
        };
        Self { api_version, kind: kind.to_owned() }
    }

    fn check(&self, target: Target) -> Result<(), Error> {
        let expected = target.gvk.api_version();
        if self.kind == target.gvk.kind && (target.any_version || self.api_version == expected) {
            return Ok(());
        }
        let known = resource::split_api_version(&self.api_version).and_then(|(group, version)| {
            resource::schema_of(group, version, &self.kind).map(|schema| (group, schema))
        });
        let Some((group, schema)) = known else {
            return Err(self.cannot(
                target,
                format!(
                    "no kind {:?} is registered for version {:?} in scheme {:?}",
                    self.kind, self.api_version, "pkg/api/legacyscheme/scheme.go:30"
                ),
            ));
        };
        if self.kind == target.gvk.kind && internal(group) == internal(target.gvk.group) {
            let found = self.api_version.clone();
            return Err(Error::VersionMismatch { found, expected });
        }
        Err(self.cannot(
            target,
            format!(
                "converting ({}) to ({}.{}): unknown conversion",
                schema.get().go_name(),
                internal(target.gvk.group),
                target.gvk.kind,
            ),
        ))
    }

    fn cannot(&self, target: Target, cause: String) -> Error {
        Error::CannotBeHandled {
            kind: self.kind.clone(),
            version: self.api_version.rsplit('/').next().unwrap_or("").to_owned(),
            expected: target.gvk.kind,
            cause,
        }
    }

    fn decoded(self, mut value: Value, strict: Vec<String>, target: Target) -> Decoded {
        if let Value::Object(map) = &mut value {
            map.insert("apiVersion".to_owned(), Value::String(target.gvk.api_version()));
            map.insert("kind".to_owned(), Value::String(target.gvk.kind.to_owned()));
        }
        let version = self.api_version.rsplit('/').next().unwrap_or("").to_owned();
        Decoded { value, strict, kind: self.kind, version, expected: target.gvk.kind }
    }
}

/// The package of upstream's internal types of a group: what its conversion errors name.
fn internal(group: &str) -> &str {
    match group {
        "events.k8s.io" => "core",
        _ => resource::package_group(group).unwrap_or(group),
    }
}

/// The start of a body for an error text: as it is when it looks like JSON, else in hex.
fn summary(body: &[u8]) -> String {
    let head = &body[..body.len().min(SUMMARY_BYTES_MAX)];
    let more = if body.len() > SUMMARY_BYTES_MAX { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => {
            let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}

#[cfg(test)]
mod tests;
