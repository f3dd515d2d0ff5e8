//! Options of lists and watches: how fresh, from where, how many (metav1 `ListOptions`, its
//! validation, and apiserver's continue tokens).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::{ObjectKey, Revision};
use quorate_store::Consistency;
use serde::{Deserialize, Serialize};

use crate::model::Selection;
use crate::parameters::{Query, quoted};
use crate::status_error::{Answer, Refusal};

/// Which state a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The newest that is as fresh as this.
    Fresh(Consistency),
    /// Exactly this revision.
    Exactly(Revision),
}

/// Options of a list.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    pub(crate) state: State,
    pub(crate) selection: Selection,
    /// 0: no limit.
    pub(crate) limit: usize,
    /// Go on behind this object.
    pub(crate) after: Option<ObjectKey>,
    /// The list was begun with a token.
    pub(crate) continued: bool,
}

/// What a continue token says, in upstream's form.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: i64,
    #[serde(rename = "start")]
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// A revision from its text.
pub(crate) fn revision(text: &str) -> Answer<Revision> {
    text.parse().map(Revision).map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {}: invalid syntax", quoted(text));
        let error = Error::invalid(&Path::new("resourceVersion"), text, why);
        Box::new(Status::bad_request(format!("invalid resource version: {error}")))
    })
}

fn invalid_list_options(errors: &[Error]) -> Refusal {
    Box::new(Status::invalid(GroupResource::new("meta.k8s.io", "ListOptions"), "", errors))
}

impl ListOptions {
    /// Reads and validates them.
    pub(crate) fn of(query: &Query, selection: Selection) -> Answer<Self> {
        validate_match(query, false)?;
        let limit = query.number("limit")?.unwrap_or(0);
        let limit = usize::try_from(limit).unwrap_or(0);
        let text = query.text("resourceVersion");
        let token = query.text("continue");
        if !token.is_empty() {
            if !text.is_empty() && text != "0" {
                return Err(Box::new(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                )));
            }
            let (revision, after) = decode_token(token)?;
            let state = match revision {
                Some(revision) => State::Exactly(revision),
                None => State::Fresh(Consistency::Linearizable),
            };
            return Ok(Self { state, selection, limit, after: Some(after), continued: true });
        }
        let exact = query.text("resourceVersionMatch");
        let state = match (text, exact) {
            ("", _) => State::Fresh(Consistency::Linearizable),
            ("0", _) => {
                // What is asked for in any state comes whole, as from upstream's watch cache.
                let state = State::Fresh(Consistency::Any);
                return Ok(Self { state, selection, limit: 0, after: None, continued: false });
            }
            (text, "Exact") => State::Exactly(revision(text)?),
            // Before there was `resourceVersionMatch`, a limited list was exact.
            (text, "") if limit > 0 => State::Exactly(revision(text)?),
            (text, _) => State::Fresh(Consistency::AtLeast(revision(text)?)),
        };
        Ok(Self { state, selection, limit, after: None, continued: false })
    }
}

/// The rules of `resourceVersionMatch` and `sendInitialEvents`.
pub(crate) fn validate_match(query: &Query, watch: bool) -> Answer<()> {
    let exact = query.text("resourceVersionMatch");
    let path = Path::new("resourceVersionMatch");
    let mut errors = Vec::new();
    let initial = query.get("sendInitialEvents").filter(|value| !value.is_empty());
    if watch {
        if initial.is_some() && exact != "NotOlderThan" {
            errors.push(Error::forbidden(
                &path,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if initial.is_none() && !exact.is_empty() {
            errors.push(Error::forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if !exact.is_empty() && exact != "NotOlderThan" {
            errors.push(Error::not_supported(&path, exact, &["NotOlderThan"]));
        }
        if !exact.is_empty() && !query.text("continue").is_empty() {
            errors.push(Error::forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    } else {
        if !exact.is_empty() {
            if query.text("resourceVersion").is_empty() {
                errors.push(Error::forbidden(
                    &path,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !query.text("continue").is_empty() {
                errors.push(Error::forbidden(
                    &path,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if !matches!(exact, "Exact" | "NotOlderThan") {
                errors.push(Error::not_supported(&path, exact, &["Exact", "NotOlderThan", ""]));
            }
            if exact == "Exact" && query.text("resourceVersion") == "0" {
                errors.push(Error::forbidden(
                    &path,
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        if initial.is_some() {
            errors.push(Error::forbidden(
                &Path::new("sendInitialEvents"),
                "sendInitialEvents is forbidden for list",
            ));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid_list_options(&errors)) }
}

/// The token to go on behind an object; without a revision for a list that may be inconsistent.
pub(crate) fn encode_token(revision: Option<Revision>, last: &ObjectKey) -> String {
    let revision = revision.map_or(-1, |revision| i64::try_from(revision.0).unwrap_or(i64::MAX));
    let token = Token {
        version: TOKEN_VERSION.to_owned(),
        revision,
        // The least key behind it, as upstream writes it.
        start: format!("{}/{}\0", last.namespace, last.name),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn decode_token(text: &str) -> Answer<(Option<Revision>, ObjectKey)> {
    let bad = |why: &str| {
        let message = format!("invalid continue token: continue key is not valid: {why}");
        Box::new(Status::bad_request(message))
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| bad(&base64_error(&error)))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
    if token.version != TOKEN_VERSION {
        return Err(bad(&format!(
            "server does not recognize this encoded version {}",
            token.version
        )));
    }
    let revision = match token.revision {
        0 => return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        revision => u64::try_from(revision).ok().map(Revision),
    };
    if token.start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
    }
    let start = token.start.strip_suffix('\0').unwrap_or(&token.start);
    let (namespace, name) = start
        .split_once('/')
        .filter(|(_, name)| !matches!(*name, "" | "." | ".."))
        .ok_or_else(|| bad(&token.start))?;
    Ok((revision, ObjectKey::new(namespace, name)))
}

/// Go's `base64.CorruptInputError`.
fn base64_error(error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            *at
        }
        base64::DecodeError::InvalidLength(length) => *length,
        base64::DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_foreign_ones_do_not() {
        let key = ObjectKey::new("a", "b");
        let token = encode_token(Some(Revision(7)), &key);
        assert_eq!(decode_token(&token).unwrap(), (Some(Revision(7)), key.clone()));
        assert_eq!(decode_token(&encode_token(None, &key)).unwrap(), (None, key));
        for bad in ["!", "e30", "bm90IGpzb24"] {
            let status = decode_token(bad).unwrap_err();
            assert_eq!(status.code, 400, "{bad}");
            assert!(
                status.message.starts_with("invalid continue token: continue key is not valid: "),
                "{status}"
            );
        }
    }
}
