//! `Impersonate-*` headers: acting as somebody else, for those who may (`kubectl --as`).

use std::collections::BTreeMap;

use http::HeaderMap;
use quorate_api::status::Status;

use crate::authz::{Attributes, Authorizer};
use crate::identity::{
    ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED, User, split_service_account,
};
use crate::parameters::unescape;
use crate::status_error::Answer;

/// The identity that the request is to be made as.
///
/// # Errors
/// 403 when the user may not act as that one.
pub(crate) fn impersonate(
    authorizer: &Authorizer,
    identity: Identity,
    headers: &HeaderMap,
) -> Answer<Identity> {
    let Some(mut wanted) = wanted(headers)? else { return Ok(identity) };
    for attributes in needed(&wanted) {
        authorizer.check(&identity, &attributes)?;
    }
    if let Some((namespace, _)) = split_service_account(&wanted.name)
        && wanted.groups.is_empty()
    {
        wanted.groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    if wanted.name == ANONYMOUS {
        if !wanted.groups.iter().any(|group| group == UNAUTHENTICATED) {
            wanted.groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !wanted.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED)
    {
        wanted.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Identity::of(wanted))
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn wanted(headers: &HeaderMap) -> Answer<Option<User>> {
    let name = headers.get("impersonate-user").map(text).unwrap_or_default();
    let uid = headers.get("impersonate-uid").map(text).unwrap_or_default();
    let groups: Vec<String> = headers.get_all("impersonate-group").iter().map(text).collect();
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix("impersonate-extra-") {
            extra.entry(unescape(key)).or_default().push(text(value));
        }
    }
    if name.is_empty() {
        if uid.is_empty() && groups.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Box::new(Status::internal_error(
            "requested impersonation of groups, uid or extras without impersonating a user",
        )));
    }
    Ok(Some(User { name, uid, groups, extra }))
}

/// What must be allowed for it.
fn needed(user: &User) -> Vec<Attributes> {
    let one =
        |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: None,
        };
    let mut out = vec![match split_service_account(&user.name) {
        Some((namespace, name)) => one("", "serviceaccounts", "", namespace, name),
        None => one("", "users", "", "", &user.name),
    }];
    out.extend(user.groups.iter().map(|group| one("", "groups", "", "", group)));
    if !user.uid.is_empty() {
        out.push(one("authentication.k8s.io", "uids", "", "", &user.uid));
    }
    for (key, values) in &user.extra {
        out.extend(
            values.iter().map(|value| one("authentication.k8s.io", "userextras", key, "", value)),
        );
    }
    out
}
