//! A quorum that is lost for good: what the survivor says while it waits, and the cluster that is made of what it has.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::process::Output;

use common::cluster::Cluster;
use common::kube::client;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn create(maps: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, ..ConfigMap::default() };
    maps.create(&PostParams::default(), &map).await
}

fn revision(map: &ConfigMap) -> u64 {
    map.metadata.resource_version.as_ref().unwrap().parse().unwrap()
}

fn clusters_id(cluster: &Cluster, number: usize) -> Value {
    let text = std::fs::read_to_string(cluster.masters[number].data.join("cluster.json")).unwrap();
    json(&text)["clusterId"].clone()
}

fn shown(cluster: &Cluster, number: usize) -> Value {
    json(&cluster.quorate_at(number, &["masters", "recover", "--show", "-o", "json"]))
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_says_what_to_do_and_becomes_a_cluster_that_goes_on() {
    let mut cluster = Cluster::start(3);
    let client = client(&cluster.kubeconfig(), Some(&cluster.masters[0].url())).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut last = None;
    for number in 0..20 {
        last = Some(create(&maps, &format!("decided-{number}")).await.unwrap());
    }
    let last = revision(&last.unwrap());
    cluster.masters[1].process.kill_9();
    cluster.masters[2].process.kill_9();

    // Old news are told at once; whoever wants more is told what is wrong.
    let stale = maps.list(&ListParams::default().match_any()).await.unwrap();
    assert_eq!(stale.items.iter().filter(|map| is_ours(map)).count(), 20);
    let read = maps.get("decided-1");
    let (read, write) = tokio::join!(read, create(&maps, "undecided"));
    for refused in [read.unwrap_err(), write.unwrap_err()] {
        let kube::Error::Api(status) = refused else { panic!("{refused}") };
        // The first write may have gone into the log of a leader that had not noticed yet.
        if status.code == 504 {
            assert!(status.message.contains("outcome is unknown"), "{status:?}");
            continue;
        }
        assert_eq!(status.code, 503, "{status:?}");
        for text in ["2 of 3 masters must answer", "m1, m2 do not", "quorate masters recover"] {
            assert!(status.message.contains(text), "{status:?}");
        }
    }

    let held = told(&cluster.tried_at(0, &["masters", "recover", "--yes"]));
    assert!(held.contains("is in use by process"), "{held}");
    cluster.masters[0].process.kill_9();
    let before = clusters_id(&cluster, 0);
    let (one, other) = (shown(&cluster, 0), shown(&cluster, 1));
    for survivor in [&one, &other] {
        assert!(survivor["lastIndex"].as_u64() >= survivor["committedIndex"].as_u64());
        assert_eq!(survivor["members"].as_array().unwrap().len(), 3, "{survivor}");
        assert!(survivor["lastWritten"].is_string() && survivor["refused"].is_null());
    }
    assert!(one["revision"].as_u64().unwrap() >= last, "{one}");
    let ask = told(&cluster.tried_at(0, &["masters", "recover"]));
    assert!(ask.contains("Lost is what the 2 other masters had") && ask.contains("--yes"), "{ask}");
    assert_eq!(clusters_id(&cluster, 0), before, "nothing was done");
    let said = cluster.quorate_at(0, &["masters", "recover", "--yes"]);
    assert!(said.contains("--print-join-command") && said.contains("Keys stay"), "{said}");
    assert_ne!(clusters_id(&cluster, 0), before);
    cluster.restart(0);
    cluster.masters[0].process.says_again("ready after");

    let all = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.iter().filter(|map| is_ours(map)).count(), 20);
    let new = create(&maps, "new").await.unwrap();
    assert!(revision(&new) > last + 1_000_000_000);
    // The lost ones come back: they are a majority of the old cluster, and not let into the new one.
    cluster.restart(1);
    cluster.restart(2);
    cluster.masters[1].process.says_again("ready after");
    let list = json(&cluster.quorate_at(0, &["masters", "list", "-o", "json"]));
    assert_eq!(list["masters"].as_array().unwrap().len(), 1, "{list}");
    let list = json(&cluster.quorate_at(1, &["masters", "list", "-o", "json"]));
    let ids: Vec<u64> = list["masters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|master| master["nodeId"].as_u64().unwrap())
        .collect();
    assert!(ids.iter().all(|id| *id < 1_000_000_000), "{ids:?}");
    create(&maps, "newer").await.unwrap();
    for number in [1, 2] {
        cluster.masters[number].process.kill_9();
        std::fs::remove_dir_all(&cluster.masters[number].data).unwrap();
        cluster.rejoin(number, 0);
    }
    let list = cluster.quorate_at(2, &["masters", "list"]);
    assert!(list.contains("3 voters, quorum 2, survives the loss of 1"), "{list}");
}

fn is_ours(map: &ConfigMap) -> bool {
    map.metadata.name.as_deref().is_some_and(|name| name.starts_with("decided-"))
}
