//! What a request is about, from its method and path alone.
//!
//! Follows apiserver's `RequestInfoFactory`: the same path gives the same verb, group, resource,
//! subresource, namespace and name that RBAC rules are written against.

use http::Method;
use http::request::Parts;

use crate::parameters::Query;

/// What a request is about. Only [`RequestInfo::of`] makes one from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) verb: &'static str,
    pub(crate) resource: Option<ResourceTarget>,
}

/// The resource that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceTarget {
    /// API group, "" for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name.
    pub resource: String,
    /// Subresource, or "".
    pub subresource: String,
    /// Namespace, or "".
    pub namespace: String,
    /// Name of the object, or "". For collection requests with a field selector for one name, that
    /// name.
    pub name: String,
    /// Path segments after the subresource.
    pub rest: Vec<String>,
    /// The name was in the path.
    pub named: bool,
    /// The one object that the deprecated `/watch/` form of the path is about.
    pub watched: Option<String>,
}

impl RequestInfo {
    /// What the request is about.
    #[must_use]
    pub fn of(parts: &Parts, query: &Query) -> Self {
        let path = parts.uri.path().to_owned();
        let segments: Vec<String> =
            path.trim_matches('/').split('/').map(crate::parameters::unescape).collect();
        let mut resource = resource_of(&segments);
        let legacy_watch = resource.as_mut().is_some_and(take_watch_prefix);
        let named = resource.as_ref().is_some_and(|target| target.named);
        let watching = legacy_watch || query.flag("watch");
        let verb = match &resource {
            None => method_name(&parts.method),
            Some(_) => verb_of(&parts.method, named, watching),
        };
        if let Some(target) = &mut resource
            && !named
            && target.watched.is_none()
            && matches!(verb, "list" | "watch" | "deletecollection")
            && let Some(name) = query.get("fieldSelector").and_then(selected_name)
        {
            target.name = name.to_owned();
        }
        Self { method: parts.method.clone(), path, verb, resource }
    }

    /// Verb as RBAC knows it: `get`, `deletecollection`, …; for other paths the method in lower
    /// case.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Path without query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The resource, when the path names one.
    #[must_use]
    pub fn resource(&self) -> Option<&ResourceTarget> {
        self.resource.as_ref()
    }

    /// Requests that may last: they count neither against the limits in flight nor against the
    /// request timeout.
    #[must_use]
    pub fn long_running(&self) -> bool {
        self.verb == "watch"
            || self.resource.as_ref().is_some_and(|target| {
                matches!(
                    target.subresource.as_str(),
                    "attach" | "exec" | "proxy" | "log" | "portforward"
                )
            })
    }

    /// Whether the request may change something.
    #[must_use]
    pub fn mutating(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

fn verb_of(method: &Method, named: bool, watching: bool) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD if watching && !named => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        _ => "",
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// `/api/VERSION/…` and `/apis/GROUP/VERSION/…` with at least a resource after them.
fn resource_of(segments: &[String]) -> Option<ResourceTarget> {
    let (group, version, rest) = match segments {
        [prefix, version, rest @ ..] if prefix == "api" => ("", version, rest),
        [prefix, group, version, rest @ ..] if prefix == "apis" => (group.as_str(), version, rest),
        _ => return None,
    };
    if rest.is_empty() || version.is_empty() {
        return None;
    }
    let mut target = ResourceTarget {
        group: group.to_owned(),
        version: version.clone(),
        ..ResourceTarget::default()
    };
    fill(&mut target, rest);
    Some(target)
}

fn fill(target: &mut ResourceTarget, rest: &[String]) {
    let rest = match rest {
        // `/namespaces/NS/RESOURCE…`, but `status` and `finalize` belong to the namespace itself.
        [word, namespace, resource, ..]
            if word == "namespaces" && resource != "status" && resource != "finalize" =>
        {
            target.namespace.clone_from(namespace);
            &rest[2..]
        }
        [word, namespace, ..] if word == "namespaces" => {
            target.namespace.clone_from(namespace);
            rest
        }
        _ => rest,
    };
    let mut words = rest.iter().cloned();
    target.resource = words.next().unwrap_or_default();
    if let Some(name) = words.next() {
        target.name = name;
        target.named = true;
    }
    target.subresource = words.next().unwrap_or_default();
    target.rest = words.collect();
}

/// The deprecated `/api/v1/watch/…` form.
fn take_watch_prefix(target: &mut ResourceTarget) -> bool {
    if target.resource != "watch" || !target.named {
        return false;
    }
    let words: Vec<String> = [target.name.clone(), target.subresource.clone()]
        .into_iter()
        .chain(target.rest.drain(..))
        .filter(|word| !word.is_empty())
        .collect();
    *target = ResourceTarget {
        group: std::mem::take(&mut target.group),
        version: std::mem::take(&mut target.version),
        ..ResourceTarget::default()
    };
    fill(target, &words);
    target.watched = std::mem::take(&mut target.named).then(|| target.name.clone());
    true
}

/// The name that a field selector asks for, when it asks for exactly one.
fn selected_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, uri: &str) -> RequestInfo {
        let (parts, ()) =
            http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        RequestInfo::of(&parts, &Query::of(&parts.uri))
    }

    #[test]
    fn paths_say_what_a_request_is_about() {
        #[rustfmt::skip]
        let cases = [
            ("GET", "/api/v1/namespaces", "list", "", "namespaces", "", "", ""),
            ("GET", "/api/v1/namespaces/a", "get", "", "namespaces", "", "a", "a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", "", "namespaces", "finalize", "a", "a"),
            ("PUT", "/api/v1/namespaces/a/status", "update", "", "namespaces", "status", "a", "a"),
            ("GET", "/api/v1/namespaces/a/pods", "list", "", "pods", "", "a", ""),
            ("GET", "/api/v1/namespaces/a/pods/b/log", "get", "", "pods", "log", "a", "b"),
            ("POST", "/api/v1/namespaces/a/pods", "create", "", "pods", "", "a", ""),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "", "pods", "", "a", ""),
            ("DELETE", "/api/v1/namespaces/a/pods/b", "delete", "", "pods", "", "a", "b"),
            ("GET", "/api/v1/nodes?watch=true", "watch", "", "nodes", "", "", ""),
            ("GET", "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn", "watch", "", "nodes", "", "", "n"),
            ("GET", "/api/v1/watch/nodes", "watch", "", "nodes", "", "", ""),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch", "", "pods", "", "a", ""),
            ("GET", "/api/v1/watch/namespaces/a/pods/b", "watch", "", "pods", "", "a", "b"),
            ("GET", "/api/v1/watch/namespaces/a", "watch", "", "namespaces", "", "a", "a"),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch", "apps", "deployments", "scale", "a", "d"),
        ];
        for (method, uri, verb, group, resource, subresource, namespace, name) in cases {
            let info = info(method, uri);
            let target = info.resource.clone().unwrap_or_default();
            assert_eq!(
                (info.verb, &*target.group, &*target.resource, &*target.subresource),
                (verb, group, resource, subresource),
                "{method} {uri}"
            );
            assert_eq!((&*target.namespace, &*target.name), (namespace, name), "{method} {uri}");
        }
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version"] {
            assert_eq!(info("GET", path).resource, None, "{path}");
        }
    }
}
