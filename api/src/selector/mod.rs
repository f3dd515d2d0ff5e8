//! Selectors: which objects a list, watch, controller or policy is about.
//!
//! [`label`] reads and matches label selectors (`app=web,tier in (a,b),!old`), [`object`] turns
//! `metav1.LabelSelector` into one, [`field`] handles field selectors (`status.phase!=Failed`).

pub mod field;
pub mod label;
pub mod object;

/// Why a selector cannot be used; the text is the message of the 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub(crate) String);
