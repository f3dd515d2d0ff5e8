//! Pods' network: published ports, two agents on one host, a host without nftables.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use quorate_node_agent::runtime::{
    ContainerConfig, ContainerId, NamespaceMode, PodSandboxConfig, PortMapping, Protocol, Runtime,
    SandboxId,
};
use tokio::io::AsyncReadExt;

use crate::world::{World, can_run};

/// Tells whoever connects which address it sees, then the text.
fn server(text: &str) -> ContainerConfig {
    World::shell(&format!("while true; do nc -l -p 8080 -e sh -c 'echo {text}'; done"))
}

/// What the address says, or nothing when nobody listens there for a while.
async fn said_by(address: SocketAddr, tries: u32) -> String {
    for _ in 0..tries {
        let mut text = String::new();
        let attempt = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.read_to_string(&mut text).await
        };
        match tokio::time::timeout(Duration::from_secs(2), attempt).await {
            Ok(Ok(count)) if count > 0 => return text,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    String::new()
}

/// What the command prints in the container, once it has `part` in it: a server made of `nc` does
/// not listen between two connections.
async fn says(world: &World, container: &ContainerId, command: &str, part: &str) -> String {
    let mut text = String::new();
    for _ in 0..100 {
        (_, text) = world.sh(container, command).await;
        if text.contains(part) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    text
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn published(world: &World, name: &str, host_port: u16, host_ip: &str) -> PodSandboxConfig {
    let mapping = PortMapping {
        protocol: Protocol::Tcp,
        container_port: 8080,
        host_port,
        host_ip: host_ip.into(),
    };
    PodSandboxConfig { port_mappings: vec![mapping], ..world.pod(name) }
}

async fn start(world: &World, pod: &PodSandboxConfig, config: &ContainerConfig) -> SandboxId {
    let sandbox = world.sandbox(pod).await;
    let id = world.runtime.create_container(&sandbox, config, pod).await.unwrap();
    world.runtime.start_container(&id).await.unwrap();
    sandbox
}

fn has_nft() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("nft").is_file())
}

#[tokio::test(flavor = "multi_thread")]
async fn published_ports_lead_to_the_pod_until_it_is_gone() {
    if !can_run("published_ports_lead_to_the_pod_until_it_is_gone") || !has_nft() {
        eprintln!("SKIPPED published_ports_lead_to_the_pod_until_it_is_gone: needs root and nft");
        return;
    }
    let world = World::new(30).await;
    let (everywhere, one) = (free_port(), free_port());
    let first =
        start(&world, &published(&world, "everywhere", everywhere, ""), &server("first")).await;
    let gateway = world.gateway();
    start(&world, &published(&world, "one", one, &gateway), &server("second")).await;
    let at = |host: &str, port: u16| -> SocketAddr { format!("{host}:{port}").parse().unwrap() };
    assert_eq!(said_by(at("127.0.0.1", everywhere), 100).await, "first\n");
    assert_eq!(said_by(at(&gateway, everywhere), 100).await, "first\n");
    assert_eq!(said_by(at(&gateway, one), 100).await, "second\n");
    assert_eq!(said_by(at("127.0.0.1", one), 3).await, "", "published on another address");
    // From a neighbour, through the host's address.
    let (_, neighbour) = world.run("neighbour", &World::shell("sleep 1000")).await;
    let ask = format!("nc -w 5 {gateway} {everywhere}");
    assert_eq!(says(&world, &neighbour, &ask, "first").await, "first\n");
    // A new agent keeps what the old one published.
    let world = world.restart().await;
    assert_eq!(said_by(at("127.0.0.1", everywhere), 100).await, "first\n");
    world.runtime.stop_pod_sandbox(&first).await.unwrap();
    assert_eq!(said_by(at("127.0.0.1", everywhere), 3).await, "");
    assert_eq!(said_by(at(&gateway, one), 100).await, "second\n");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_two_agents_on_a_host_see_each_other() {
    if !can_run("pods_of_two_agents_on_a_host_see_each_other") {
        return;
    }
    let (left, right) = (World::new(31).await, World::new(32).await);
    assert_ne!(left.runtime.network().bridge(), right.runtime.network().bridge());
    // The server tells its connections: it must see the client's own address.
    let script = World::shell("while true; do nc -l -p 8080 -e netstat -tn; done");
    let (target, _) = left.run("target", &script).await;
    let (from, client) = right.run("client", &World::shell("sleep 1000")).await;
    let ip = |status: quorate_node_agent::runtime::SandboxStatus| status.ips[0];
    let target = ip(left.runtime.pod_sandbox_status(&target).await.unwrap());
    let own = ip(right.runtime.pod_sandbox_status(&from).await.unwrap());
    let (code, text) = right.sh(&client, &format!("ping -c 1 -W 5 {target}")).await;
    assert_eq!(code, 0, "{text}");
    let text = says(&right, &client, &format!("nc -w 5 {target} 8080"), "8080").await;
    assert!(text.contains(&format!("{own}:")), "{own} in {text}");
    left.finish().await;
    right.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_the_hosts_network_has_its_name_and_interfaces() {
    if !can_run("a_pod_on_the_hosts_network_has_its_name_and_interfaces") {
        return;
    }
    let world = World::new(33).await;
    let mut pod = world.pod("host");
    pod.security.namespaces.network = NamespaceMode::Node;
    pod.hostname = String::new();
    let sandbox = world.sandbox(&pod).await;
    let bridge = world.runtime.network().bridge();
    let mut config = World::shell(&format!("hostname; ls /sys/class/net | grep {bridge}"));
    config.security.namespaces.network = NamespaceMode::Node;
    let id = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap();
    world.runtime.start_container(&id).await.unwrap();
    let log = World::log(&world.ended(&id).await);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(log, [format!("stdout F {}", name.trim()), format!("stdout F {bridge}")]);
    assert!(world.runtime.pod_sandbox_status(&sandbox).await.unwrap().ips.is_empty());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_family_that_pods_do_not_have_is_said() {
    if !can_run("the_address_family_that_pods_do_not_have_is_said") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = World::open(dir.path()).await;
    let status = runtime.status().await.unwrap();
    assert_eq!(
        (status.network_ready, status.message.as_str()),
        (false, "the node has no pod CIDR yet")
    );
    runtime.update_pod_cidrs(&["fd00:10::/64".into()]).await.unwrap();
    let status = runtime.status().await.unwrap();
    assert!(
        !status.network_ready && status.message.contains("no IPv4 pod CIDR among fd00:10::/64"),
        "{status:?}"
    );
}

/// Runs itself again where no program is found.
#[test]
fn pods_start_without_nftables() {
    if !can_run("pods_start_without_nftables") {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "network::pods_on_a_host_without_nftables", "--ignored", "--nocapture"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by pods_start_without_nftables, with another PATH"]
async fn pods_on_a_host_without_nftables() {
    assert!(!has_nft(), "meant to be run by pods_start_without_nftables");
    let world = World::new(34).await;
    assert!(world.runtime.status().await.unwrap().network_ready);
    let (first, _) = world.run("one", &World::shell("sleep 1000")).await;
    let (_, second) = world.run("two", &World::shell("sleep 1000")).await;
    let address = world.runtime.pod_sandbox_status(&first).await.unwrap().ips[0];
    for target in [address.to_string(), world.gateway()] {
        let (code, text) = world.sh(&second, &format!("ping -c 1 -W 5 {target}")).await;
        assert_eq!(code, 0, "{text}");
    }
    // Without the rules that keep pods off it, the host's loopback is not routed.
    let bridge = world.runtime.network().bridge();
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    assert_eq!(std::fs::read_to_string(Path::new(&path)).unwrap().trim(), "0");
    let pod = published(&world, "published", free_port(), "");
    let err = world.runtime.run_pod_sandbox(&pod).await.unwrap_err();
    assert!(err.to_string().contains("install the package nftables"), "{err}");
    for sandbox in world.runtime.list_pod_sandboxes().await.unwrap() {
        world.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
    }
    // What else `finish` looks at needs nft; the bridge goes with this.
    let _ = world.runtime.network().teardown().await;
}
