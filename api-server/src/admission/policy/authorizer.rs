//! `authorizer`: questions that expressions ask about what somebody may do.

use quorate_cel::value::{self, Opaque};
use quorate_cel::{Error, Value};

use crate::authz::{Attributes, Authorizer};
use crate::identity::{AUTHENTICATED, Identity, SERVICE_ACCOUNT_PREFIX, User};

/// A question, as far as it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// A service account, when it is not about who makes the request.
    who: Option<(String, String)>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Any,
    Path(String),
    Group(String),
    Resource { group: String, resource: String, sub: String, namespace: String, name: String },
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    allowed: bool,
    reason: String,
}

impl Opaque for Question {
    fn runtime_type_name(&self) -> &str {
        match self.what {
            What::Any => "kubernetes.authorization.Authorizer",
            What::Path(_) => "kubernetes.authorization.PathCheck",
            What::Group(_) => "kubernetes.authorization.GroupCheck",
            What::Resource { .. } => "kubernetes.authorization.ResourceCheck",
        }
    }
}

impl Opaque for Decided {
    fn runtime_type_name(&self) -> &'static str {
        "kubernetes.authorization.Decision"
    }
}

/// `authorizer`
pub(super) fn any() -> Value {
    value::opaque(Question { who: None, what: What::Any })
}

/// `authorizer.requestResource`
pub(super) fn about(group: &str, resource: &str, sub: &str, namespace: &str, name: &str) -> Value {
    let [group, resource, sub, namespace, name] =
        [group, resource, sub, namespace, name].map(str::to_owned);
    let what = What::Resource { group, resource, sub, namespace, name };
    value::opaque(Question { who: None, what })
}

/// Calls a function of a question or an answer; `None` when the value is neither.
pub(super) fn call(
    authorizer: &Authorizer,
    by: &Identity,
    target: &Value,
    name: &str,
    args: &[Value],
) -> Option<Result<Value, Error>> {
    if let Some(decided) = value::inside::<Decided>(target) {
        return Some(Ok(match name {
            "allowed" => Value::Bool(decided.allowed),
            "reason" => value::text(&decided.reason),
            "error" => value::text(""),
            "errored" => Value::Bool(false),
            _ => return None,
        }));
    }
    let question = value::inside::<Question>(target)?;
    let mut texts = args.iter().map(|arg| match arg {
        Value::String(text) => text.to_string(),
        _ => String::new(),
    });
    let first = texts.next().unwrap_or_default();
    let second = texts.next().unwrap_or_default();
    let mut next = question.clone();
    match (&mut next.what, name) {
        (_, "check") => return Some(Ok(decide(authorizer, by, question, &first))),
        (What::Any, "path") => next.what = What::Path(first),
        (What::Any, "group") => next.what = What::Group(first),
        (What::Any, "serviceAccount") => next.who = Some((first, second)),
        (What::Group(group), "resource") => {
            next.what = What::Resource {
                group: group.clone(),
                resource: first,
                sub: String::new(),
                namespace: String::new(),
                name: String::new(),
            };
        }
        (What::Resource { sub, .. }, "subresource") => *sub = first,
        (What::Resource { namespace, .. }, "namespace") => *namespace = first,
        (What::Resource { name, .. }, "name") => *name = first,
        // Roles do not know selectors: what they allow without one they allow with it.
        (What::Resource { .. }, "fieldSelector" | "labelSelector") => {}
        _ => return None,
    }
    Some(Ok(value::opaque(next)))
}

fn decide(authorizer: &Authorizer, by: &Identity, question: &Question, verb: &str) -> Value {
    let other = question.who.as_ref().map(|(namespace, name)| {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.to_owned(),
        ];
        let name = format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}");
        Identity::of(User { name, groups: groups.into(), ..User::default() })
    });
    let mut wanted = Attributes { verb: verb.to_owned(), ..Attributes::default() };
    match &question.what {
        What::Any | What::Group(_) => {}
        What::Path(path) => wanted.path = Some(path.clone()),
        What::Resource { group, resource, sub, namespace, name } => {
            wanted.group.clone_from(group);
            wanted.resource.clone_from(resource);
            wanted.subresource.clone_from(sub);
            wanted.namespace.clone_from(namespace);
            wanted.name.clone_from(name);
        }
    }
    let decision = authorizer.decide(other.as_ref().unwrap_or(by), &wanted);
    value::opaque(Decided { allowed: decision.allowed, reason: decision.reason })
}
