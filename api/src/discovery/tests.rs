//! What we say we serve, against what upstream says it serves.

use super::*;
use crate::upstream;

/// A list of named things as a map, so that what is missing is named.
fn by_name(list: &Value, key: &str) -> Value {
    let entries = list.as_array().unwrap().iter().map(|item| {
        let mut item = item.clone();
        if let Some(subresources) = item.get("subresources") {
            item["subresources"] = by_name(subresources, "subresource");
        }
        (item[key].as_str().unwrap().to_owned(), item)
    });
    Value::Object(entries.collect())
}

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.body).unwrap()
}

#[test]
fn documents_differ_from_upstreams_as_explained() {
    let Some(folder) = upstream::folder("discovery") else { return };
    let mut differences = Vec::new();
    for group in resource::groups().iter().filter(|group| group.name != resource::OWN_GROUP) {
        for version in group.versions {
            let file = match group.name {
                "" => format!("api__{version}.json"),
                name => format!("apis__{name}__{version}.json"),
            };
            let mut theirs = upstream::read(&folder, &file);
            let mut ours = parsed(resource_list(group.name, version).unwrap());
            for list in [&mut ours, &mut theirs] {
                list["resources"] = by_name(&list["resources"], "name");
            }
            let path = api_version(group.name, version);
            upstream::difference(&path, &ours, &theirs, &mut differences);
        }
        if !group.name.is_empty() {
            let theirs = upstream::read(&folder, &format!("apis__{}.json", group.name));
            let ours = api_group(group.name).unwrap();
            upstream::difference(group.name, &ours, &theirs, &mut differences);
        }
    }
    let mut theirs = upstream::read(&folder, "apis.json");
    let mut ours = parsed(api_group_list());
    // The order is part of the document: clients prefer the first.
    let order = |list: &Value| -> Vec<String> {
        let groups = list["groups"].as_array().unwrap().iter();
        groups.map(|group| group["name"].as_str().unwrap().to_owned()).collect()
    };
    let (mut our_order, mut their_order) = (order(&ours), order(&theirs));
    assert_eq!(our_order.pop().as_deref(), Some(resource::OWN_GROUP), "the last one");
    their_order.retain(|name| our_order.contains(name));
    assert_eq!(our_order, their_order);
    for list in [&mut ours, &mut theirs] {
        list["groups"] = by_name(&list["groups"], "name");
    }
    upstream::difference("apis", &ours, &theirs, &mut differences);
    let theirs = upstream::read(&folder, "api.json");
    let address = theirs["serverAddressByClientCIDRs"][0]["serverAddress"].as_str().unwrap();
    upstream::difference("api", &api_versions(address), &theirs, &mut differences);
    upstream::check_explained("discovery.txt", &differences);
}

#[test]
fn aggregated_discovery_is_upstreams() {
    let Some(folder) = upstream::folder("discovery") else { return };
    let theirs = upstream::read(&folder, "aggregated_v2.json");
    let ours = parsed(aggregated(Aggregated::V2, false));
    assert_eq!(ours["apiVersion"], theirs["apiVersion"]);
    assert_eq!(ours["kind"], theirs["kind"]);
    let mut differences = Vec::new();
    for group in ours["items"].as_array().unwrap() {
        let name = group["metadata"]["name"].as_str().unwrap();
        if name == resource::OWN_GROUP {
            continue;
        }
        let all = theirs["items"].as_array().unwrap();
        let upstream_group = all.iter().find(|item| item["metadata"] == group["metadata"]);
        for version in group["versions"].as_array().unwrap() {
            let versions = upstream_group.unwrap()["versions"].as_array().unwrap();
            let other = versions.iter().find(|v| v["version"] == version["version"]).unwrap();
            let (mut ours, mut theirs) = (version.clone(), other.clone());
            for version in [&mut ours, &mut theirs] {
                version["resources"] = by_name(&version["resources"], "resource");
            }
            let path = format!("aggregated {name}");
            upstream::difference(&path, &ours, &theirs, &mut differences);
        }
    }
    upstream::check_explained("discovery-aggregated.txt", &differences);
}

#[test]
fn the_core_group_is_aggregated_under_api() {
    let list = parsed(aggregated(Aggregated::V2Beta1, true));
    assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["metadata"], json!({}));
    let resources = by_name(&list["items"][0]["versions"][0]["resources"], "resource");
    assert_eq!(
        resources["pods"]["subresources"]["eviction"]["responseKind"],
        json!({"group": "policy", "version": "v1", "kind": "Eviction"})
    );
}

#[test]
fn aggregated_discovery_is_negotiated() {
    let parse = Aggregated::from_media_type;
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    assert_eq!(parse(v2), Some(Aggregated::V2));
    assert_eq!(
        parse("application/json; v=v2beta1; as=APIGroupDiscoveryList; g=apidiscovery.k8s.io"),
        Some(Aggregated::V2Beta1)
    );
    assert_eq!(parse("application/json"), None);
    assert_eq!(parse("application/json;as=Table;g=meta.k8s.io;v=v1"), None);
    assert_eq!(Aggregated::V2.content_type(), v2);
}

#[test]
fn unknown_groups_have_no_documents() {
    assert!(resource_list("apps", "v2").is_none());
    assert!(api_group("").is_none());
    assert!(api_group("example.com").is_none());
}

#[test]
fn fields_are_in_the_order_that_scripts_look_for() {
    let text = |document: &Document| String::from_utf8(document.body.to_vec()).unwrap();
    let list = text(resource_list("", "v1").unwrap());
    assert!(list.starts_with(r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"#));
    for part in [
        r#"{"name":"configmaps","singularName":"configmap","namespaced":true,"kind":"ConfigMap","#,
        r#""verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"#,
        r#""],"shortNames":["cm"],"storageVersionHash":"#,
        r#"{"name":"pods/eviction","singularName":"","namespaced":true,"group":"policy","#,
        r#""version":"v1","kind":"Eviction","verbs":["create"]}"#,
    ] {
        assert!(list.contains(part), "{part} in {list}");
    }
    let groups = text(api_group_list());
    let apps = r#"{"name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"#;
    assert!(groups.contains(apps), "{groups}");
    let all = text(aggregated(Aggregated::V2, false));
    let of_deployments = r#"{"resource":"deployments","responseKind":{"group":"","version":"","#;
    assert!(all.contains(of_deployments), "{all}");
}
