//! The table's rows are consistent, and say what upstream's discovery says.

use super::*;

#[test]
fn resources_are_found_by_path_and_by_kind() {
    let deployments = lookup("apps", "v1", "deployments").unwrap();
    assert_eq!(deployments.kind(), "Deployment");
    assert_eq!(deployments.api_version(), "apps/v1");
    assert_eq!(deployments.schema.get().full_name(), "apps/v1.Deployment");
    assert!(std::ptr::eq(by_kind("apps", "v1", "Deployment").unwrap(), deployments));
    assert!(lookup("apps", "v2", "deployments").is_none());
    assert!(lookup("", "v1", "deployments").is_none());
    let scale = deployments.subresource("scale").unwrap();
    assert_eq!(scale.gvk.api_version(), "autoscaling/v1");
}

#[test]
fn each_row_is_consistent() {
    for def in all() {
        assert!(
            groups().iter().any(|g| g.name == def.group() && g.versions.contains(&def.version())),
            "{def:?}"
        );
        assert_eq!(def.schema.get().name, def.kind());
        assert_eq!(schema_of(def.group(), def.version(), def.kind()), Some(def.schema));
        assert!(def.verbs.is_sorted_by_key(|v| v.name()), "{}", def.plural);
        assert_eq!(def.has(Verb::List), def.list_schema.is_some(), "{}", def.plural);
        if let Some(list) = def.list_schema {
            assert_eq!(list.get().name, def.list_kind());
        }
        assert!(def.subresources.is_sorted_by_key(|sub| sub.name), "{}", def.plural);
        for sub in def.subresources {
            assert_eq!(sub.schema.get().name, sub.gvk.kind);
            assert!(sub.verbs.is_sorted_by_key(|v| v.name()));
        }
        if let Storage::As { group, version, plural } = def.storage {
            assert_eq!(lookup(group, version, plural).unwrap().storage, Storage::Own);
        }
    }
    assert_eq!(BY_PLURAL.len(), all().len(), "no two rows have one path");
    assert_eq!(BY_KIND.len(), all().len(), "no two rows have one kind");
}

#[test]
fn api_versions_split_and_join() {
    assert_eq!(split_api_version("v1"), Some(("", "v1")));
    assert_eq!(split_api_version("apps/v1"), Some(("apps", "v1")));
    assert_eq!(split_api_version("a/b/c"), None);
    assert_eq!(api_version("", "v1"), "v1");
}

#[test]
fn storage_version_hashes_are_upstreams() {
    let hash = |group, plural| lookup(group, "v1", plural).unwrap().storage_version_hash();
    assert_eq!(hash("apps", "deployments").as_deref(), Some("8aSe+NMegvE="));
    assert_eq!(hash("", "pods").as_deref(), Some("xPOwRZ+Yhw8="));
    assert_eq!(hash("authentication.k8s.io", "tokenreviews"), None);
}

#[test]
fn kinds_are_known_served_or_not() {
    let name =
        |group, version, kind| schema_of(group, version, kind).map(|id| id.get().full_name());
    assert_eq!(name("batch", "v1", "Job").as_deref(), Some("batch/v1.Job"));
    assert_eq!(name("policy", "v1", "DeleteOptions").as_deref(), Some("meta/v1.DeleteOptions"));
    assert_eq!(name("rbac.authorization.k8s.io", "v1", "Role").as_deref(), Some("rbac/v1.Role"));
    assert_eq!(name("", "v1", "Container"), None, "a struct, but no kind");
    assert_eq!(name("example.com", "v1", "Status"), None);
    assert_eq!(name("apps", "v9", "Status"), None);
}
