//! `matchConditions`: expressions that decide whether a webhook is asked at all.
//!
//! Nothing evaluates them yet: configurations that have any are refused when they are written. This is the one place
//! where that is to change, with [`MatchConditions::of`] compiling and [`MatchConditions::hold`] evaluating.

use serde_json::Value;

use crate::admission::Context;
use crate::identity::Identity;

/// The compiled conditions of a webhook.
#[derive(Debug, Default)]
pub(super) struct MatchConditions {
    /// There are some, which nobody can evaluate.
    unknown: bool,
}

impl MatchConditions {
    /// Compiles the `matchConditions` of a webhook.
    pub(super) fn of(conditions: &Value) -> Self {
        Self { unknown: crate::model::has_items(conditions) }
    }

    /// Whether all of them hold for a request: an `AdmissionRequest` with object and old object, made when it is asked
    /// for, by somebody whom the context's authorizer knows. An error is the failure policy's to judge.
    pub(super) fn hold(
        &self,
        _ctx: &Context<'_>,
        _by: &Identity,
        _request: &dyn Fn() -> Value,
    ) -> Result<bool, String> {
        if self.unknown {
            return Err("match conditions are not evaluated by this server".to_owned());
        }
        Ok(true)
    }
}
