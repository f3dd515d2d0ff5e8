//! The `kube` client, unchanged, against the server.

mod common;

use std::time::Duration;

use common::World;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher;

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_what_a_client_writes() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.kube().await, "default");
    let named = |name: &str| ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &named("before")).await.unwrap();
    let config = watcher::Config::default().streaming_lists();
    let mut events = watcher(maps.clone(), config).boxed();
    let mut seen = Vec::new();
    let mut written = false;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while seen.last().map(String::as_str) != Some("- after") {
        let event = tokio::time::timeout_at(deadline, events.try_next()).await;
        match event.expect("events in time").unwrap().expect("the watch goes on") {
            watcher::Event::InitApply(map) => {
                seen.push(format!("i {}", map.metadata.name.unwrap()))
            }
            watcher::Event::Apply(map) => seen.push(format!("+ {}", map.metadata.name.unwrap())),
            watcher::Event::Delete(map) => seen.push(format!("- {}", map.metadata.name.unwrap())),
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
        if !written && seen.contains(&"i before".to_owned()) {
            written = true;
            maps.create(&PostParams::default(), &named("after")).await.unwrap();
            let patch = serde_json::json!({"data": {"k": "v"}});
            maps.patch("after", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            maps.delete("after", &DeleteParams::default()).await.unwrap();
        }
    }
    assert_eq!(seen, ["i before", "+ after", "+ after", "- after"]);
    let list = maps.list(&ListParams::default().fields("metadata.name=before")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    world.server.shutdown().await;
}
