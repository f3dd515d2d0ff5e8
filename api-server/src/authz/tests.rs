//! The authorizer over the default roles.

use std::sync::Arc;

use quorate_store::Store;

use super::*;
use crate::admit::ControllerAdmit;
use crate::clock::SystemClock;
use crate::config::ClusterFacts;
use crate::identity::User;

fn user(name: &str, groups: &[&str]) -> Identity {
    Identity::authenticated(User {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::default()
    })
}

fn wanted(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        path: None,
    }
}

async fn booted() -> Authorizer {
    let store = Store::in_memory();
    let webhooks = Arc::new(crate::admission::Webhooks::new(store.clone(), None));
    let facts = ClusterFacts::default();
    let admit = ControllerAdmit::new(store.clone(), facts, Arc::new(SystemClock), webhooks);
    crate::bootstrap::bootstrap(&store.lead().unwrap(), &admit).await.unwrap();
    Authorizer::new(store)
}

#[tokio::test]
async fn default_roles_decide_as_in_kubernetes() {
    let authorizer = booted().await;
    let scheduler = user("system:kube-scheduler", &[]);
    let anybody = user("jane", &[]);
    let node = user("system:node:n1", &["system:nodes"]);
    #[rustfmt::skip]
    let cases = [
        (&scheduler, wanted("create", "", "pods/binding", "a", "p"), true),
        (&scheduler, wanted("get", "", "secrets", "a", "s"), false),
        (&anybody, wanted("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", ""), true),
        (&anybody, wanted("list", "", "pods", "a", ""), false),
        (&node, wanted("patch", "", "nodes/status", "", "n1"), true),
        (&node, wanted("get", "", "secrets", "a", "s"), false),
        (&node, wanted("update", "coordination.k8s.io", "leases", "kube-node-lease", "n1"), true),
        (&node, wanted("update", "coordination.k8s.io", "leases", "kube-node-lease", "n2"), false),
    ];
    for (identity, wanted, allowed) in cases {
        let decision = authorizer.decide(identity, &wanted);
        assert_eq!(
            decision.allowed,
            allowed,
            "{} {wanted:?}: {}",
            identity.name(),
            decision.reason
        );
    }
    let path = |path: &str| Attributes {
        verb: "get".to_owned(),
        path: Some(path.to_owned()),
        ..Attributes::default()
    };
    let anonymous = Identity::anonymous();
    for (open, allowed) in
        [("/healthz", true), ("/version", true), ("/metrics", false), ("/apis", false)]
    {
        assert_eq!(authorizer.decide(&anonymous, &path(open)).allowed, allowed, "{open}");
    }
    assert!(authorizer.decide(&anybody, &path("/apis/apps/v1")).allowed);
}

#[tokio::test]
async fn aggregated_roles_are_filled() {
    let authorizer = booted().await;
    for (role, verb, resource, allowed) in [
        ("view", "get", "pods", true),
        ("view", "get", "secrets", false),
        ("edit", "create", "deployments", true),
        ("admin", "create", "rolebindings", true),
    ] {
        let rules = authorizer.role_rules("ClusterRole", "", role).unwrap();
        let found = rules.iter().any(|rule| {
            rule.verbs.iter().any(|own| own == verb)
                && rule.resources.iter().any(|own| own == resource)
        });
        assert_eq!(found, allowed, "{role} {verb} {resource}");
    }
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let authorizer = booted().await;
    let jane = user("jane", &[]);
    let rule = Rule {
        verbs: vec!["get".to_owned(), "list".to_owned()],
        api_groups: vec![String::new()],
        resources: vec!["pods".to_owned()],
        ..Rule::default()
    };
    let why = authorizer.covers(&jane, "a", &[rule]).unwrap_err();
    assert_eq!(
        why,
        "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions \
         not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"
    );
}
