//! `metav1.Status`: the one form in which the API says what went wrong (or that it went well).
//!
//! Reasons, codes, messages and details follow apimachinery's `pkg/api/errors` and the apiserver's
//! response writers. Build one with a constructor; `Display` is its message.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::field;
use crate::text::quote;

/// The words of a failed optimistic update, to be given to [`Status::conflict`].
pub const OBJECT_MODIFIED: &str = "the object has been modified; please apply your changes to \
                                   the latest version and try again";

/// A group and one of its resources, shown as `deployments.apps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// The API group; empty for core.
    pub group: &'a str,
    /// The plural resource name (or a kind, where upstream shows kinds).
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    /// `resource` of `group`.
    #[must_use]
    pub const fn new(group: &'a str, resource: &'a str) -> GroupResource<'a> {
        GroupResource { group, resource }
    }
}

impl fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// The machine-readable reason of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// None given (successes).
    #[default]
    #[serde(rename = "")]
    Unknown,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409: the name is taken.
    AlreadyExists,
    /// 409: the object changed meanwhile, or a precondition failed.
    Conflict,
    /// 410, older form of `Expired`.
    Gone,
    /// 422.
    Invalid,
    /// 500: try again.
    ServerTimeout,
    /// 504: the outcome is unknown.
    Timeout,
    /// 429.
    TooManyRequests,
    /// 400.
    BadRequest,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 500.
    InternalError,
    /// 410.
    Expired,
    /// 503.
    ServiceUnavailable,
}

impl Reason {
    const fn is_unknown(&self) -> bool {
        matches!(self, Reason::Unknown)
    }
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Machine-readable, e.g. `FieldValueInvalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field it is about, as a path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the status is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (in most failures) or the kind (for `Invalid`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Why, field by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; also sent as `Retry-After`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_zero_code(n: &u16) -> bool {
    *n == 0
}

/// The list metadata a status can carry: only an expired list uses it, for a fresh token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// A token with which the list can go on, inconsistently.
    #[serde(default, rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

/// The answer of a request that returns no object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Status {
    kind: String,
    api_version: String,
    /// List metadata, almost always empty.
    #[serde(default)]
    pub metadata: Meta,
    /// `Success` or `Failure`.
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For machines.
    #[serde(default, skip_serializing_if = "Reason::is_unknown")]
    pub reason: Reason,
    /// What it is about. Boxed: errors travel by value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code; 0 (not shown) in the answer of a delete, which is a 200.
    #[serde(default, skip_serializing_if = "is_zero_code")]
    pub code: u16,
    /// What goes with it and is no part of it.
    #[serde(skip)]
    pub aside: Aside,
}

/// What a server does with a status beside showing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Texts of `Warning` headers.
    pub warnings: Vec<String>,
    /// It was decided elsewhere, by somebody who is not to be asked again.
    pub settled: bool,
}

/// Who wanted to do what, for the text of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The verb in lower case.
    pub verb: &'a str,
    /// What it is done to.
    pub target: Target<'a>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A path that is no resource, e.g. `/metrics`.
    Path(&'a str),
    /// A resource.
    Resource {
        /// Its group and name.
        resource: GroupResource<'a>,
        /// The subresource or empty.
        subresource: &'a str,
        /// The namespace or empty.
        namespace: &'a str,
        /// The object's name or empty.
        name: &'a str,
    },
}

impl Status {
    fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Status {
        Status {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: Meta::default(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason,
            details: None,
            code,
            aside: Aside::default(),
        }
    }

    fn about(mut self, resource: GroupResource<'_>, name: &str) -> Status {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.resource.to_owned(),
            ..Details::default()
        }));
        self
    }

    /// With the seconds after which clients ask again by themselves.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// A success without details, e.g. of a binding (201) or a delete-collection.
    #[must_use]
    pub fn success(code: u16) -> Status {
        let mut status = Status::failure(code, Reason::Unknown, "");
        "Success".clone_into(&mut status.status);
        status
    }

    /// The answer of a delete that is complete: details name what is gone.
    #[must_use]
    pub fn deleted(resource: GroupResource<'_>, name: &str, uid: &str) -> Status {
        let mut status = Status::success(200).about(resource, name);
        uid.clone_into(&mut status.details.get_or_insert_default().uid);
        status.code = 0;
        status
    }

    /// 404: no such object.
    #[must_use]
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Status {
        let message = format!("{resource} {} not found", quote(name));
        Status::failure(404, Reason::NotFound, message).about(resource, name)
    }

    /// 404: no such resource.
    #[must_use]
    pub fn resource_not_found() -> Status {
        let message = "the server could not find the requested resource";
        let mut status = Status::failure(404, Reason::NotFound, message);
        status.details = Some(Box::default());
        status
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Status {
        let message = format!("{resource} {} already exists", quote(name));
        Status::failure(409, Reason::AlreadyExists, message).about(resource, name)
    }

    /// 409: every generated name was taken; the client may try again after a second.
    #[must_use]
    pub fn generate_name_conflict(resource: GroupResource<'_>, name: &str) -> Status {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name \
             for the object",
            quote(name)
        );
        Status::failure(409, Reason::AlreadyExists, message).about(resource, name).retry_after(1)
    }

    /// 409: the update or delete cannot be done to this state of the object, because of `why`.
    #[must_use]
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Status::failure(409, Reason::Conflict, message).about(resource, name)
    }

    /// 409: the write was meant for another object of this name; `key` is where upstream keeps it
    /// (`/registry/configmaps/default/a`), which its message shows.
    #[must_use]
    pub fn uid_conflict(
        resource: GroupResource<'_>,
        (name, key): (&str, &str),
        want: &str,
        have: &str,
    ) -> Status {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, \
             AdditionalErrorMsg: Precondition failed: UID in precondition: {want}, UID in object \
             meta: {have}"
        );
        Status::conflict(resource, name, &why)
    }

    /// 409: the object that is to be deleted is not the one that the delete names.
    #[must_use]
    pub fn delete_uid_conflict(
        kind: GroupResource<'_>,
        name: &str,
        want: &str,
        have: &str,
    ) -> Status {
        let why = format!(
            "the UID in the precondition ({want}) does not match the UID in record ({have}). The \
             object might have been deleted and then recreated"
        );
        Status::conflict(kind, name, &why)
    }

    /// 409: the object that is to be deleted has another version than the delete names.
    #[must_use]
    pub fn delete_version_conflict(
        kind: GroupResource<'_>,
        name: &str,
        want: &str,
        have: &str,
    ) -> Status {
        let why = format!(
            "the ResourceVersion in the precondition ({want}) does not match the ResourceVersion \
             in record ({have}). The object might have been modified"
        );
        Status::conflict(kind, name, &why)
    }

    /// 409: fields are owned by other managers (server-side apply).
    #[must_use]
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Status {
        let mut status = Status::failure(409, Reason::Conflict, message);
        status.details = Some(Box::new(Details { causes, ..Details::default() }));
        status
    }

    /// 422: the object of kind `kind` does not validate.
    #[must_use]
    pub fn invalid(kind: GroupResource<'_>, name: &str, errors: &[field::Error]) -> Status {
        let mut message = format!("{kind} {} is invalid", quote(name));
        if !errors.is_empty() {
            message = format!("{message}: {}", field::aggregate(errors));
        }
        let mut status = Status::failure(422, Reason::Invalid, message).about(kind, name);
        status.details.get_or_insert_default().causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.body(),
                field: error.field.clone(),
            })
            .collect();
        status
    }

    /// 422 without causes: the patch does not fit the object.
    #[must_use]
    pub fn unprocessable() -> Status {
        let message = "the server rejected our request due to an error in our request";
        let mut status = Status::failure(422, Reason::Invalid, message);
        status.details = Some(Box::default());
        status
    }

    /// 422: what a patch makes of the object cannot be decoded. `patch` is what upstream shows: the
    /// patched object, or the patch.
    #[must_use]
    pub fn patch_not_decoded(patch: impl Into<serde_json::Value>, why: &str) -> Status {
        let error = field::Error::invalid(&field::Path::new("patch"), patch, why);
        Status::invalid(GroupResource::new("", ""), "", &[error])
    }

    /// 500 without a reason: an error that upstream does not classify; its text is all there is.
    #[must_use]
    pub fn unclassified(message: impl Into<String>) -> Status {
        Status::failure(500, Reason::Unknown, message)
    }

    /// The same refusal, told of an object that is on its way out.
    #[must_use]
    pub fn of_deleted(mut self) -> Status {
        self.message = format!("object is being deleted: {}", self.message);
        self
    }

    /// 400: the request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::failure(400, Reason::BadRequest, message)
    }

    /// 401: who are you?
    #[must_use]
    pub fn unauthorized() -> Status {
        Status::failure(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403: `why` forbids it (admission and the like).
    #[must_use]
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Status {
        let message = if resource.resource.is_empty() && resource.group.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quote(name))
        };
        Status::failure(403, Reason::Forbidden, message).about(resource, name)
    }

    /// 403: the authorizer said no; `reason` is its explanation, often empty.
    #[must_use]
    pub fn unauthorized_action(attributes: &Attributes<'_>, reason: &str) -> Status {
        let (user, verb) = (quote(attributes.user), attributes.verb);
        let (resource, name, mut why) = match attributes.target {
            Target::Path(path) => (
                GroupResource::new("", ""),
                "",
                format!("User {user} cannot {verb} path {}", quote(path)),
            ),
            Target::Resource { resource, subresource, namespace, name } => {
                let full = match subresource {
                    "" => resource.resource.to_owned(),
                    sub => format!("{}/{sub}", resource.resource),
                };
                let scope = match namespace {
                    "" => "at the cluster scope".to_owned(),
                    ns => format!("in the namespace {}", quote(ns)),
                };
                let (full, group) = (quote(&full), quote(resource.group));
                let why = format!(
                    "User {user} cannot {verb} resource {full} in API group {group} {scope}"
                );
                (resource, name, why)
            }
        };
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Status::forbidden(resource, name, &why)
    }

    /// 403: creating in a namespace that is going away.
    #[must_use]
    pub fn namespace_terminating(
        resource: GroupResource<'_>,
        name: &str,
        namespace: &str,
    ) -> Status {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut status = Status::forbidden(resource, name, &why);
        status.details.get_or_insert_default().causes = vec![Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        }];
        status
    }

    /// 405: the path exists, the method does not.
    #[must_use]
    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Status::failure(405, Reason::MethodNotAllowed, message);
        status.details = Some(Box::default());
        status
    }

    /// 405: the resource has no such action.
    #[must_use]
    pub fn method_not_supported(resource: GroupResource<'_>, action: &str) -> Status {
        let kind = quote(&resource.to_string());
        let message = format!("{action} is not supported on resources of kind {kind}");
        Status::failure(405, Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// 406: we cannot answer in any form the client takes.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Status {
        let list = accepted.join(", ");
        let message = format!("only the following media types are accepted: {list}");
        Status::failure(406, Reason::NotAcceptable, message)
    }

    /// 415: we do not read bodies of this type.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {list}"
        );
        Status::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// 413: the body has more than `limit` bytes.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Status {
        Status::request_entity_too_large(&format!("limit is {limit}"))
    }

    /// 413 with an explanation.
    #[must_use]
    pub fn request_entity_too_large(message: &str) -> Status {
        let message = format!("Request entity too large: {message}");
        Status::failure(413, Reason::RequestEntityTooLarge, message)
    }

    /// 429: come back after `seconds`.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Status {
        Status::failure(429, Reason::TooManyRequests, message).retry_after(seconds)
    }

    /// 504: no answer in time; the outcome may be unknown.
    #[must_use]
    pub fn timeout(message: &str, seconds: u32) -> Status {
        Status::failure(504, Reason::Timeout, format!("Timeout: {message}")).retry_after(seconds)
    }

    /// 504: the client asks for a revision that has not been reached.
    #[must_use]
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Status {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut status = Status::timeout(&message, 1);
        status.details.get_or_insert_default().causes = vec![Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }];
        status
    }

    /// 500: could not be completed now, try again.
    #[must_use]
    pub fn server_timeout(resource: GroupResource<'_>, operation: &str, seconds: u32) -> Status {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, \
             please try again."
        );
        Status::failure(500, Reason::ServerTimeout, message)
            .about(resource, operation)
            .retry_after(seconds)
    }

    /// 410: what was asked for is no longer known.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Status {
        Status::failure(410, Reason::Expired, message)
    }

    /// 410: a watch or exact read from before the oldest kept revision.
    #[must_use]
    pub fn too_old_resource_version(wanted: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {wanted} ({oldest})"))
    }

    /// 410: a `continue` token whose view is gone; `fresh` lets the client go on, inconsistently.
    #[must_use]
    pub fn expired_continue(fresh: impl Into<String>) -> Status {
        let mut status = Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             can start a new list without the continue parameter, or use the continue token in \
             this response to retrieve the remainder of the results. Continuing with the \
             provided token results in an inconsistent list - objects that were created, \
             modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        );
        status.metadata.continue_token = fresh.into();
        status
    }

    /// 500: our fault.
    #[must_use]
    pub fn internal_error(message: &str) -> Status {
        let mut status = Status::failure(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
        );
        let cause = Cause { message: message.to_owned(), ..Cause::default() };
        status.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        status
    }

    /// 500 without a reason: what kube-apiserver makes of an error that it does not know.
    #[must_use]
    pub fn unexplained(message: impl Into<String>) -> Status {
        Status::failure(500, Reason::Unknown, message)
    }

    /// 409: what is asked for cannot be done as things are; the text says why.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Status {
        Status::failure(409, Reason::Conflict, message)
    }

    /// 404: what is named does not exist, and is no resource.
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Status {
        Status::failure(404, Reason::NotFound, message)
    }

    /// 503: not now.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Status {
        Status::failure(503, Reason::ServiceUnavailable, message)
    }

    /// The value of the `Retry-After` header, in seconds, if there should be one.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }

    /// The JSON body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const DEPLOYMENTS: GroupResource<'static> = GroupResource::new("apps", "deployments");

    fn check(status: &Status, want: Expect) {
        want.assert_eq(&String::from_utf8(status.to_json()).unwrap());
    }

    #[test]
    fn an_object_that_is_not_there() {
        check(
            &Status::not_found(DEPLOYMENTS, "web"),
            expect![[
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#
            ]],
        );
    }

    #[test]
    fn an_invalid_object_lists_its_causes() {
        let spec = field::Path::new("spec");
        let errors = [
            field::Error::required(&spec.child("selector"), ""),
            field::Error::invalid(&spec.child("replicas"), -1, "must be positive"),
        ];
        check(
            &Status::invalid(GroupResource::new("apps", "Deployment"), "web", &errors),
            expect![[
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Deployment.apps \"web\" is invalid: [spec.selector: Required value, spec.replicas: Invalid value: -1: must be positive]","reason":"Invalid","details":{"name":"web","group":"apps","kind":"Deployment","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.selector"},{"reason":"FieldValueInvalid","message":"Invalid value: -1: must be positive","field":"spec.replicas"}]},"code":422}"#
            ]],
        );
    }

    #[test]
    fn refusals_say_who_may_not_do_what_where() {
        let pods = GroupResource::new("", "pods");
        let at = |subresource, namespace, name| Attributes {
            user: "jane",
            verb: "get",
            target: Target::Resource { resource: pods, subresource, namespace, name },
        };
        let cases = [
            (
                at("log", "default", "p"),
                "pods \"p\" is forbidden: User \"jane\" cannot get resource \"pods/log\" in API \
                 group \"\" in the namespace \"default\"",
            ),
            (
                at("", "", ""),
                "pods is forbidden: User \"jane\" cannot get resource \"pods\" in API group \"\" \
                 at the cluster scope",
            ),
            (
                Attributes { user: "jane", verb: "get", target: Target::Path("/metrics") },
                "forbidden: User \"jane\" cannot get path \"/metrics\"",
            ),
        ];
        for (attributes, want) in cases {
            let status = Status::unauthorized_action(&attributes, "");
            assert_eq!(status.to_string(), want);
            assert_eq!(status.code, 403);
        }
    }

    #[test]
    fn codes_and_reasons_belong_together() {
        let cases = [
            (Status::already_exists(DEPLOYMENTS, "w"), 409, "AlreadyExists"),
            (Status::conflict(DEPLOYMENTS, "w", OBJECT_MODIFIED), 409, "Conflict"),
            (Status::bad_request("x"), 400, "BadRequest"),
            (Status::unauthorized(), 401, "Unauthorized"),
            (Status::method_not_allowed(), 405, "MethodNotAllowed"),
            (Status::not_acceptable(&["application/json"]), 406, "NotAcceptable"),
            (Status::unsupported_media_type(&[]), 415, "UnsupportedMediaType"),
            (Status::body_too_large(3), 413, "RequestEntityTooLarge"),
            (Status::too_many_requests("slow down", 1), 429, "TooManyRequests"),
            (Status::too_large_resource_version(9, 3), 504, "Timeout"),
            (Status::too_old_resource_version(1, 3), 410, "Expired"),
            (Status::expired_continue("t"), 410, "Expired"),
            (Status::internal_error("x"), 500, "InternalError"),
            (Status::server_timeout(DEPLOYMENTS, "create", 1), 500, "ServerTimeout"),
            (Status::service_unavailable("x"), 503, "ServiceUnavailable"),
        ];
        for (status, code, reason) in cases {
            let json: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
            assert_eq!(json["code"], code, "{status}");
            assert_eq!(json["reason"], reason, "{status}");
            let back: Status = serde_json::from_value(json).unwrap();
            assert_eq!(back, status);
        }
    }

    #[test]
    fn a_delete_names_what_is_gone() {
        check(
            &Status::deleted(DEPLOYMENTS, "web", "u-1"),
            expect![[
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"web","group":"apps","kind":"deployments","uid":"u-1"}}"#
            ]],
        );
    }
}
