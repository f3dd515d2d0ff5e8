//! A client on one master, its node on another.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use quorate_api_server::agents::{AgentHub, ChannelError, MasterDialer};
use quorate_proto::agent::master_proxy_client::MasterProxyClient;
use quorate_proto::agent::{OpenChannel, ProxyFrame};
use quorate_store::Store;
use tokio::io::AsyncReadExt as _;
use tonic::transport::Channel;

use crate::common::{Pki, World};
use crate::fake::dial;
use crate::world::Master;

struct Masters(Vec<(&'static str, Channel)>);

#[async_trait]
impl MasterDialer for Masters {
    async fn dial(&self, master: &str) -> Result<Channel, String> {
        let known = self.0.iter().find(|(name, _)| *name == master);
        known.map(|(_, channel)| channel.clone()).ok_or_else(|| format!("no master {master}"))
    }
}

async fn two() -> (Master, Master) {
    let (store, pki) = (Store::in_memory(), Arc::new(Pki::new()));
    let one = Master::named("m1", store.clone(), pki.clone()).await;
    let two = Master::named("m2", store, pki).await;
    one.world.default_account("default").await;
    let to_two = dial(&two.world, "master:m1", &["system:masters"]).await;
    one.hub.dial_masters_with(Arc::new(Masters(vec![("m2", to_two)])));
    (one, two)
}

/// What the leader's relay does.
fn relay(from: &AgentHub, to: &AgentHub) {
    to.liveness().merge(&from.liveness().all());
}

async fn echo(world: &World) -> Result<String, String> {
    let pods: Api<Pod> = Api::namespaced(world.kube().await, "default");
    let params = AttachParams::default().stderr(false);
    let mut process =
        pods.exec("p", ["echo", "hi"], &params).await.map_err(|error| error.to_string())?;
    let status = process.take_status().unwrap();
    let mut out = String::new();
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(10), status).await.unwrap().unwrap();
    if status.status.as_deref() == Some("Success") {
        Ok(out)
    } else {
        Err(status.message.unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_master_reaches_any_node() {
    let (one, two) = two().await;
    let agent = two.node("n1").await;
    one.pod("p", "n1").await;
    one.running("p").await;
    relay(&two.hub, &one.hub);
    assert_eq!(echo(&one.world).await.unwrap(), "hi\n");
    assert_eq!(echo(&two.world).await.unwrap(), "hi\n");

    // The node moves; the first master has not heard of it when it is asked.
    drop(agent);
    let third = one.node("n1").await;
    assert_eq!(echo(&one.world).await.unwrap(), "hi\n");
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moves_is_found_on_its_new_master() {
    let (one, two) = two().await;
    one.pod("p", "n1").await;
    one.running("p").await;
    let agent = two.node("n1").await;
    relay(&two.hub, &one.hub);
    drop(agent);
    crate::world::eventually("it has left", async || !two.hub.holds("n1")).await;
    let asking = echo(&one.world);
    let moving = async { one.node("n1").await };
    let (answer, _agent) = tokio::join!(asking, moving);
    assert_eq!(answer.unwrap(), "hi\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_survives_the_way() {
    let (one, two) = two().await;
    let _agent = two.node("n1").await;
    let request = quorate_proto::agent::PortForwardRequest { port: 9 };
    let open = OpenChannel {
        request: Some(quorate_proto::agent::open_channel::Request::PortForward(request)),
        ..OpenChannel::default()
    };
    let refused = one.hub.open_through("m2", "n1", open.clone()).await.unwrap_err();
    let ChannelError::Refused(status) = refused else { panic!("{refused:?}") };
    assert_eq!(crate::fake::message_of(&status), "connection refused");
    let nobody = one.hub.open_through("m2", "n9", open.clone()).await.unwrap_err();
    assert_eq!(nobody, ChannelError::NotConnected("n9".to_owned()));
    let nowhere = one.hub.open_through("m9", "n1", open).await.unwrap_err();
    assert_eq!(nowhere, ChannelError::NotConnected("n1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_masters_may_ask_masters() {
    let (_one, two) = two().await;
    for (user, groups) in [("system:node:n1", "system:nodes"), ("someone", "people")] {
        let mut client = MasterProxyClient::new(dial(&two.world, user, &[groups]).await);
        let error = client.proxy(tokio_stream::once(ProxyFrame { frame: None })).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::PermissionDenied);
    }
}
