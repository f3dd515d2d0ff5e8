//! One call of one webhook: sent, judged, counted.

use std::time::Duration;

use quorate_api::resource::ResourceDef;
use quorate_api::status::{Details, GroupResource, Reason, Status};
use serde_json::Value;
use tokio::time::Instant;

use super::Webhooks;
use super::case::Case;
use super::client::CallError;
use super::configuration::{Hook, Kind};
use super::metrics::Rejection;
use super::review::{self, Verdict};
use crate::admission::Context;
use crate::model::text;
use crate::parameters::quoted;
use crate::status_error::{Answer, Refusal};

/// Why a webhook does not let a request go on.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not reached, or what it said makes no sense: the failure policy decides.
    Call(CallError),
    /// It refused.
    Verdict(Refusal),
    /// It is not its fault, and no policy helps.
    Here(Refusal),
}

impl Failure {
    pub(super) fn call(why: String, code: u16) -> Self {
        Self::Call(CallError { message: why, code })
    }
}

/// What a webhook is asked: the objects as it sees them.
pub(super) struct Question<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) shown_as: &'static ResourceDef,
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
}

impl Question<'_> {
    fn request(&self, uid: &str) -> Value {
        review::request(self.case, self.shown_as, uid, (self.object, self.old))
    }

    /// Asks.
    pub(super) async fn ask(&self, hook: &Hook) -> Result<Verdict, Failure> {
        if self.case.asked.dry_run && !hook.is_quiet {
            let name = quoted(&hook.name);
            let why = format!("admission webhook {name} does not support dry run");
            return Err(Failure::Here(Box::new(Status::bad_request(why))));
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                (v1, v1beta1)";
            return Err(Failure::call(why.to_owned(), 400));
        };
        let uid = quorate_chance::uuid().to_string();
        let body = review::review(version, self.request(&uid));
        let answer = hook.client.post(body, hook.timeout).await.map_err(Failure::Call)?;
        let verdict = review::verdict(version, &uid, hook.kind == Kind::Mutating, &answer);
        verdict
            .map_err(|why| Failure::call(format!("received invalid webhook response: {why}"), 503))
    }

    /// Whether its conditions take the request. When nobody can say, it is refused, or the webhook is left out.
    pub(super) fn is_meant(&self, ctx: &Context<'_>, hook: &Hook) -> Answer<bool> {
        let held = hook.conditions.hold(ctx.authorizer, self.case.by, &|| self.request(""));
        held.or_else(|why| {
            tracing::warn!(webhook = hook.name, why, "match conditions could not be evaluated");
            let resource = GroupResource::new(self.case.def.group(), self.case.def.plural);
            let refusal = || Box::new(Status::forbidden(resource, &self.case.name, &why));
            if hook.ignores_failures { Ok(false) } else { Err(refusal()) }
        })
    }
}

impl Webhooks {
    /// What a call means for the request: an error refuses it, `None` means that it failed and does not count.
    pub(super) fn judge<T>(
        &self,
        hook: &Hook,
        case: &Case<'_>,
        began: Instant,
        outcome: Result<T, Failure>,
    ) -> Answer<Option<T>> {
        let count = |code, rejected| {
            let took: Duration = began.elapsed();
            self.metrics.called(hook, case.operation, took, (code, rejected));
        };
        match outcome {
            Ok(verdict) => {
                count(200, None);
                Ok(Some(verdict))
            }
            Err(Failure::Call(error)) if hook.ignores_failures => {
                count(error.code, None);
                self.metrics.failed_open(hook);
                tracing::warn!(
                    webhook = hook.name,
                    why = error.message,
                    "a webhook failed, and is ignored"
                );
                Ok(None)
            }
            Err(Failure::Call(error)) => {
                count(error.code, Some(Rejection::Call));
                tracing::warn!(
                    webhook = hook.name,
                    why = error.message,
                    "a webhook failed: refused"
                );
                let name = quoted(&hook.name);
                let why = format!("failed calling webhook {name}: {}", error.message);
                Err(Box::new(Status::internal_error(&why)))
            }
            Err(Failure::Verdict(refusal)) => {
                count(refusal.code, Some(Rejection::Verdict));
                Err(refusal)
            }
            Err(Failure::Here(refusal)) => {
                count(0, Some(Rejection::Internal));
                Err(refusal)
            }
        }
    }
}

/// The refusal of a webhook, in upstream's words (`webhookerrors.ToStatusErr`).
pub(super) fn refusal(name: &str, given: &Value, warnings: Vec<String>) -> Refusal {
    let by = format!("admission webhook {} denied the request", quoted(name));
    let (message, reason) = (text(&given["message"]), text(&given["reason"]));
    let mut status = Status::unexplained(if !message.is_empty() {
        format!("{by}: {message}")
    } else if !reason.is_empty() {
        format!("{by}: {reason}")
    } else {
        format!("{by} without explanation")
    });
    let code = given["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    status.code = if (400..600).contains(&code) { code } else { 400 };
    status.reason = serde_json::from_value::<Reason>(given["reason"].clone()).unwrap_or_default();
    let details = serde_json::from_value::<Option<Details>>(given["details"].clone());
    status.details = details.ok().flatten().map(Box::new);
    status.aside.warnings = warnings;
    status.aside.settled = true;
    Box::new(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_say_who_and_why() {
        let cases = [
            (
                json!(null),
                400,
                "",
                "admission webhook \"w\" denied the request without explanation",
            ),
            (
                json!({"message": "no", "code": 403}),
                403,
                "",
                "admission webhook \"w\" denied the request: no",
            ),
            (
                json!({"reason": "Forbidden", "code": 200}),
                400,
                "Forbidden",
                "admission webhook \"w\" denied the request: Forbidden",
            ),
            (
                json!({"reason": "OfMine", "message": "m", "code": 418}),
                418,
                "",
                "admission webhook \"w\" denied the request: m",
            ),
        ];
        for (given, code, reason, message) in cases {
            let status = refusal("w", &given, Vec::new());
            assert_eq!((status.code, status.message.as_str()), (code, message), "{given}");
            assert_eq!(serde_json::to_value(status.reason).unwrap(), json!(reason), "{given}");
            assert_eq!(status.status, "Failure");
        }
        let details =
            json!({"details": {"name": "x", "causes": [{"field": "spec", "message": "bad"}]}});
        let status = refusal("w", &details, Vec::new());
        assert_eq!(status.details.unwrap().causes[0].field, "spec");
    }
}
