//! Where masters are, and what is between them: namespaces where the host allows them, proxies where a scenario needs
//! them or the host allows nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

use anyhow::bail;

use super::network::{API_PORT, Network};
use super::proxy::{Door, Proxies, Who};
use crate::scenario::Scenario;
use crate::scenario::fault::{Fault, Need};

/// Of the API, and of what masters say to each other.
const PORTS: [u16; 2] = [API_PORT, 6444];

/// Of what they say to each other, when a master has moved.
const MOVED_PORT: u16 = 6445;

/// Where one master is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its API.
    pub api: SocketAddr,
    /// Where clients come to: the same, or a proxy before it.
    pub clients: SocketAddr,
    /// Its door for other masters, and the one that it has when it has moved.
    pub peer: [SocketAddr; 2],
    /// The address that it tells the others.
    pub advertise: IpAddr,
}

/// Finds places for all masters of a scenario, and opens proxies when there must be some.
///
/// # Errors
/// When addresses are taken.
pub async fn places(
    scenario: &Scenario,
    network: Option<&Network>,
    seed: u64,
) -> anyhow::Result<(Vec<Place>, Option<Proxies>)> {
    let count = scenario.masters;
    let place = |address: IpAddr, advertise: IpAddr| {
        let [api, peer] = PORTS.map(|port| SocketAddr::new(address, port));
        let peer = [peer, SocketAddr::new(address, MOVED_PORT)];
        Place { api, clients: api, peer, advertise }
    };
    if let Some(network) = network {
        let own = |master| IpAddr::V4(network.address(master));
        let known = |master| IpAddr::V4(network.proxy_address(master));
        if !scenario.needs(Need::Proxies) {
            return Ok(((0..count).map(|master| place(own(master), own(master))).collect(), None));
        }
        let places: Vec<Place> =
            (0..count).map(|master| place(own(master), known(master))).collect();
        let who = Who::Addresses((0..count).map(|master| (own(master), master)).collect());
        let sources = (0..count).map(|master| (master, known(master))).collect();
        let proxies = Proxies::open(&doors(&places), who, sources, seed).await?;
        return Ok((places, Some(proxies)));
    }
    if !scenario.needs(Need::Proxies) && !scenario.needs(Need::Links) {
        let places = (0..count).map(|_| {
            let (api, peer) = (free_address()?, [free_address()?, free_address()?]);
            Ok(Place { api, clients: api, peer, advertise: api.ip() })
        });
        return Ok((places.collect::<anyhow::Result<_>>()?, None));
    }
    // Every address of 127.0.0.0/8 is this machine; other runs have other ones.
    let first = (std::process::id() % 254) as u8;
    let mut why = None;
    for subnet in (0..254).map(|next| (u16::from(first) + next) % 254 + 1) {
        let subnet = u8::try_from(subnet).unwrap_or(1);
        let at = |host: usize| {
            let host = u8::try_from(host).unwrap_or(u8::MAX);
            IpAddr::V4(Ipv4Addr::new(127, 231, subnet, host))
        };
        let mut places: Vec<Place> =
            (0..count).map(|master| place(at(10 + master), at(100 + master))).collect();
        let cuts_clients = scenario.schedule.iter().any(|step| step.fault == Fault::ClientsCut);
        for (master, place) in places.iter_mut().enumerate().filter(|_| cuts_clients) {
            place.clients.set_ip(at(200 + master));
        }
        let who = Who::Processes(Mutex::default());
        match Proxies::open(&doors(&places), who, BTreeMap::new(), seed).await {
            Ok(proxies) => return Ok((places, Some(proxies))),
            Err(error) => why = Some(error),
        }
    }
    bail!("no free addresses in 127.231.0.0/16: {why:?}")
}

fn doors(places: &[Place]) -> Vec<Door> {
    let doors = |(master, place): (usize, &Place)| {
        let others = [place.api, place.peer[0], place.peer[1]].map(|to| {
            let listen = SocketAddr::new(place.advertise, to.port());
            Door { master, listen, to, clients: false }
        });
        let (listen, to) = (place.clients, place.api);
        let clients = (listen != to).then_some(Door { master, listen, to, clients: true });
        others.into_iter().chain(clients)
    };
    places.iter().enumerate().flat_map(doors).collect()
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
