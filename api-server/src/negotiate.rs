//! `Accept`: in which form the client wants its answer.

use http::HeaderMap;
use http::header::ACCEPT;
use quorate_api::status::Status;

use crate::status_error::Answer;

/// What the objects are shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// As themselves.
    Object,
    /// Rows of a `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// `PartialObjectMetadata` or its list, of this version.
    Metadata(&'static str),
}

/// What an answer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    /// Only for who takes nothing else: objects are kept as JSON, and those who prefer protobuf read JSON, too.
    Protobuf,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) encoding: Encoding,
}

impl Form {
    /// Objects as they are kept.
    pub(crate) const STORED: Self = Self { shape: Shape::Object, encoding: Encoding::Json };
}

/// What is served, as upstream's 406 lists it.
const SERVED: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The first form in the header that can be served. `list`: of a collection.
pub(crate) fn form(headers: &HeaderMap, list: bool) -> Answer<Form> {
    first(headers, |clause| served(clause, list))
}

/// The same for what is neither shown in tables nor as metadata alone: reviews, scales.
pub(crate) fn plain(headers: &HeaderMap) -> Answer<Form> {
    first(headers, |clause| served(clause, false).filter(|form| form.shape == Shape::Object))
}

fn first(headers: &HeaderMap, served: impl Fn(&str) -> Option<Form>) -> Answer<Form> {
    let mut clauses: Vec<(u32, String)> = Vec::new();
    for value in headers.get_all(ACCEPT) {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        clauses.extend(text.split(',').map(|clause| (quality(clause), clause.trim().to_owned())));
    }
    clauses.retain(|(_, clause)| !clause.is_empty());
    if clauses.is_empty() {
        return Ok(Form::STORED);
    }
    clauses.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    let forms: Vec<Form> = clauses.iter().filter_map(|(_, clause)| served(clause)).collect();
    let text = forms.iter().find(|form| form.encoding != Encoding::Protobuf);
    let form = text.or_else(|| forms.first()).copied();
    form.ok_or_else(|| Box::new(Status::not_acceptable(SERVED)))
}

/// Thousandths of `q=`, at most one.
fn quality(clause: &str) -> u32 {
    let text = clause.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    let Some((whole, part)) = text.map(|text| text.split_once('.').unwrap_or((text, ""))) else {
        return 1000;
    };
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    let whole: u32 = whole.parse().unwrap_or(0);
    whole.saturating_mul(1000).saturating_add(digits.parse().unwrap_or(0)).min(1000)
}

fn served(clause: &str, list: bool) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = match parts.next()?.to_ascii_lowercase().as_str() {
        "*/*" | "application/*" | "application/json" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return None,
    };
    let (mut target, mut group, mut version) = ("", "", "");
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => target = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let version = match version {
        "v1" => "meta.k8s.io/v1",
        "v1beta1" => "meta.k8s.io/v1beta1",
        _ => "",
    };
    let shape = match (target, group) {
        ("", _) => Shape::Object,
        (_, "meta.k8s.io") if version.is_empty() => return None,
        // Cells are any JSON, for which Kubernetes' protobuf has no message.
        ("Table", "meta.k8s.io") if encoding == Encoding::Protobuf => return None,
        ("Table", "meta.k8s.io") => Shape::Table(version),
        ("PartialObjectMetadata", "meta.k8s.io") if !list => Shape::Metadata(version),
        ("PartialObjectMetadataList", "meta.k8s.io") if list => Shape::Metadata(version),
        _ => return None,
    };
    Some(Form { shape, encoding })
}

/// Whether the answer is to be indented: asked for, or a person's tool without another wish.
pub(crate) fn pretty(headers: &HeaderMap, parameter: Option<&str>) -> bool {
    if let Some(value) = parameter {
        return !matches!(value, "false" | "0");
    }
    let agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_served_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let proto = "application/vnd.kubernetes.protobuf,application/json";
        let meta = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let (json, yaml, binary) = (Encoding::Json, Encoding::Yaml, Encoding::Protobuf);
        let cases = [
            ("", true, Some((Shape::Object, json))),
            ("*/*", true, Some((Shape::Object, json))),
            (table, true, Some((Shape::Table("meta.k8s.io/v1"), json))),
            (proto, true, Some((Shape::Object, json))),
            (meta, true, Some((Shape::Metadata("meta.k8s.io/v1"), json))),
            (meta, false, None),
            ("application/yaml", true, Some((Shape::Object, yaml))),
            ("application/vnd.kubernetes.protobuf", true, Some((Shape::Object, binary))),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", true, None),
            ("application/cbor", true, None),
            (
                "text/html;q=1.0, application/json;q=0.2, application/yaml;q=0.5",
                true,
                Some((Shape::Object, yaml)),
            ),
        ];
        for (accept, list, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            let got = form(&headers, list).ok().map(|form| (form.shape, form.encoding));
            assert_eq!(got, expected, "{accept}");
        }
    }
}
