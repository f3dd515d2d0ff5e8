//! Interfaces, addresses and routes, by netlink.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};

use super::{Error, Result};

/// Aborts the connection's task when dropped.
struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open() -> Result<Netlink> {
    let (connection, handle, _) =
        new_connection().map_err(Error::io(std::path::Path::new("netlink socket")))?;
    Ok(Netlink { handle, task: tokio::spawn(connection) })
}

fn failed(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { what, source }
}

/// `None` when there is none of that name; that the kernel could not be asked is an error.
async fn index_of(handle: &Handle, name: &str) -> Result<Option<u32>> {
    let mut links = handle.link().get().match_name(name).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(refused))
            if refused.raw_code() == -(nix::Error::ENODEV as i32) =>
        {
            Ok(None)
        }
        Err(source) => Err(Error::Netlink { what: "cannot look for an interface", source }),
    }
}

async fn need_index(handle: &Handle, name: &str, what: &'static str) -> Result<u32> {
    let found = index_of(handle, name).await?;
    found.ok_or(Error::Netlink { what, source: rtnetlink::Error::RequestFailed })
}

/// Makes the bridge with its address, unless it is there. Another interface with an address in the range is an error:
/// its traffic would go astray.
pub(super) async fn ensure_bridge(name: &str, cidr: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
    let netlink = open()?;
    let handle = &netlink.handle;
    let index = match index_of(handle, name).await? {
        Some(index) => index,
        None => {
            let message = LinkBridge::new(name).build();
            handle.link().add(message).execute().await.map_err(failed("cannot add the bridge"))?;
            need_index(handle, name, "the new bridge is not there").await?
        }
    };
    let mut addresses = handle.address().get().execute();
    let mut present = false;
    while let Ok(Some(entry)) = addresses.try_next().await {
        for attribute in &entry.attributes {
            let AddressAttribute::Address(IpAddr::V4(address)) = attribute else { continue };
            if entry.header.index == index && *address == gateway {
                present = true;
            } else if entry.header.index != index && cidr.contains(address) {
                let interface = name_of(handle, entry.header.index).await;
                return Err(Error::InUse { cidr, interface });
            }
        }
    }
    if !present {
        let add = handle.address().add(index, IpAddr::V4(gateway), cidr.prefix_len());
        add.execute().await.map_err(failed("cannot give the bridge its address"))?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(failed("cannot set the bridge up"))
}

async fn name_of(handle: &Handle, index: u32) -> String {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.ok().flatten();
    let name = link.and_then(|link| {
        link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        })
    });
    name.unwrap_or_else(|| index.to_string())
}

/// Connects the network namespace of process `pid` to the bridge.
pub(super) async fn connect(
    bridge: &str,
    veth: &str,
    pid: i32,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<()> {
    let netlink = open()?;
    let handle = &netlink.handle;
    let bridge = need_index(handle, bridge, "the bridge is gone").await?;
    let peer = format!("{veth}p");
    handle
        .link()
        .add(LinkVeth::new(veth, &peer).build())
        .execute()
        .await
        .map_err(failed("cannot add a veth pair"))?;
    let host = need_index(handle, veth, "the new veth is not there").await?;
    let peer_index = need_index(handle, &peer, "the new veth is not there").await?;
    let up = LinkUnspec::new_with_index(host).controller(bridge).up().build();
    handle.link().set(up).execute().await.map_err(failed("cannot connect the veth"))?;
    let moved = LinkUnspec::new_with_index(peer_index).setns_by_pid(pid.unsigned_abs()).build();
    handle
        .link()
        .set(moved)
        .execute()
        .await
        .map_err(failed("cannot move the veth into the pod"))?;
    let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
    let namespace: OwnedFd = std::fs::File::open(&path).map_err(Error::io(&path))?.into();
    let (tx, rx) = tokio::sync::oneshot::channel();
    // A thread of its own enters the pod's namespace and ends there: no other work ever runs on it.
    let spawned = std::thread::Builder::new().name("pod-network".into()).spawn(move || {
        let _ = tx.send(inside(&namespace, peer, address, gateway));
    });
    spawned.map_err(Error::io(&path))?;
    rx.await.unwrap_or(Err(Error::NoCidr))
}

/// Configures the pod's end, on a thread that enters its namespace.
fn inside(namespace: &OwnedFd, peer: String, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
    let here = std::path::Path::new("network namespace");
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|err| Error::io(here)(err.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io(here))?;
    runtime.block_on(async move {
        let netlink = open()?;
        let handle = &netlink.handle;
        let loopback = LinkUnspec::new_with_name("lo").up().build();
        handle.link().set(loopback).execute().await.map_err(failed("cannot set lo up"))?;
        let index = need_index(handle, &peer, "the pod's veth is not there").await?;
        let renamed = LinkUnspec::new_with_index(index).name("eth0").build();
        handle.link().set(renamed).execute().await.map_err(failed("cannot rename eth0"))?;
        let add = handle.address().add(index, IpAddr::V4(address), 32);
        add.execute().await.map_err(failed("cannot add the pod's address"))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await.map_err(failed("cannot set eth0 up"))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
            .output_interface(index)
            .gateway(gateway)
            .onlink()
            .build();
        handle.route().add(route).execute().await.map_err(failed("cannot add the default route"))
    })
}

/// Whether anything is connected to the bridge. What cannot be told counts as yes.
pub(super) async fn has_ports(bridge: &str) -> bool {
    let Ok(netlink) = open() else { return true };
    let index = match index_of(&netlink.handle, bridge).await {
        Ok(Some(index)) => index,
        Ok(None) => return false,
        Err(_) => return true,
    };
    let mut links = netlink.handle.link().get().execute();
    loop {
        match links.try_next().await {
            Ok(Some(link)) => {
                let controller = LinkAttribute::Controller(index);
                if link.attributes.contains(&controller) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Removes an interface. Idempotent.
pub(super) async fn remove(name: &str) -> Result<()> {
    let netlink = open()?;
    match index_of(&netlink.handle, name).await? {
        Some(index) => {
            let removed = netlink.handle.link().del(index).execute().await;
            // Its namespace may have gone in between, and the interface with it.
            match removed {
                Err(_) if index_of(&netlink.handle, name).await?.is_none() => Ok(()),
                other => other.map_err(failed("cannot remove an interface")),
            }
        }
        None => Ok(()),
    }
}
