//! Match conditions: expressions that must all hold for a policy, or a webhook, to be asked.

use quorate_api::policy::env::Names;
use quorate_api::policy::{self, Condition};
use quorate_cel::limits::COST_OF_CONDITIONS_MAX;
use quorate_cel::{Budget, Error, Value};
use serde_json::Value as Json;

use super::asked::Asked;
use crate::authz::Authorizer;
use crate::identity::Identity;

/// Conditions, compiled.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    all: Vec<Condition>,
}

impl Conditions {
    /// Compiles the `matchConditions` of a webhook, which has no parameters.
    pub(crate) fn of(conditions: &Json) -> Self {
        Self { all: policy::conditions(conditions, Names { params: false, authorizer: true }) }
    }

    /// Whether all hold for a request: an `AdmissionRequest` with its `object` and `oldObject`, made when it is needed.
    ///
    /// An error is the failure policy's to judge: upstream's words for it.
    pub(crate) fn hold(
        &self,
        authorizer: &Authorizer,
        by: &Identity,
        request: &dyn Fn() -> Json,
    ) -> Result<bool, String> {
        if self.all.is_empty() {
            return Ok(true);
        }
        let request = &request();
        let asked =
            Asked::new(request, (&request["object"], &request["oldObject"]), (authorizer, by));
        hold(&self.all, &asked)
    }
}

/// Whether all conditions hold. One that does not decides, whatever becomes of the others.
pub(super) fn hold(conditions: &[Condition], asked: &Asked<'_>) -> Result<bool, String> {
    let mut budget = Budget::new(COST_OF_CONDITIONS_MAX);
    let mut errors = Vec::new();
    for condition in conditions {
        let value = match &condition.program {
            Ok(program) => program.evaluate(asked, &mut budget),
            Err(why) => Err(Error::Failed(format!("compilation error: {why}"))),
        };
        match value {
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(_) => {}
            Err(error @ Error::OutOfBudget) => return Err(error.to_string()),
            Err(error) => {
                let text = &condition.expression;
                errors.push(format!("expression '{text}' resulted in error: {error}"));
            }
        }
    }
    match errors.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}
