//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch.
//!
//! Each takes the current object and a patch and gives the patched object; nothing is changed in
//! place, so a failed patch leaves no half-done object behind.

use serde_json::Value;

use crate::limits::JSON_PATCH_OPERATIONS_MAX;
use crate::schema::TypeId;
use crate::status::Status;

mod order;
mod strategic;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch itself makes no sense (400).
    #[error("{0}")]
    Malformed(String),
    /// Too many JSON patch operations (413).
    #[error(
        "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {0}"
    )]
    TooManyOperations(usize),
    /// The patch does not fit the object: a test failed, a path is missing (422). The reason is
    /// for the log: upstream does not tell it to the client.
    #[error("the server rejected our request due to an error in our request")]
    Rejected(String),
    /// What upstream's strategic merge gives back without classifying it (500, the text alone).
    #[error("{0}")]
    Unclassified(String),
}

impl Error {
    /// The answer to the client.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Error::Malformed(message) => Status::bad_request(message.clone()),
            Error::TooManyOperations(_) => Status::request_entity_too_large(&self.to_string()),
            Error::Rejected(_) => Status::unprocessable(),
            Error::Unclassified(message) => Status::unclassified(message.clone()),
        }
    }
}

/// Applies a JSON patch.
pub fn json(object: &Value, patch: &Value) -> Result<Value, Error> {
    let Some(operations) = patch.as_array() else {
        let found = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        return Err(Error::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type \
             []handlers.jsonPatchOp"
        )));
    };
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(Error::TooManyOperations(operations.len()));
    }
    // An operation that is unknown, or lacks a path, is found when it is applied.
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Error::Rejected(e.to_string()))?;
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch.0).map_err(|e| Error::Rejected(e.to_string()))?;
    Ok(patched)
}

/// Applies a JSON merge patch, which must be an object.
pub fn merge(object: &Value, patch: &Value) -> Result<Value, Error> {
    if !patch.is_object() {
        return Err(Error::Malformed("invalid JSON merge patch: not an object".to_owned()));
    }
    let mut patched = object.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

/// Applies a strategic merge patch to an object of a built-in type.
pub fn strategic(object: &Value, patch: &Value, schema: TypeId) -> Result<Value, Error> {
    strategic::apply(object, patch, schema)
}

#[cfg(test)]
mod tests;
