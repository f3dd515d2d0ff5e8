//! Where the masters that answer are, as pods reach them: what stands behind the `kubernetes` Service. The leader
//! follows it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use quorate_store::Masters;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A master that has not answered the leader for so long is not listed.
const MASTER_ALIVE: Duration = Duration::from_secs(5);

/// Which masters answer is looked at this often.
const LIVING_INTERVAL: Duration = Duration::from_secs(1);

/// A host name that is not resolved by then keeps the addresses that it had.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Names are resolved again after this: their addresses may change.
const RESOLVED_FOR: Duration = Duration::from_secs(30);

/// The masters that answer.
pub(crate) struct Living {
    masters: Masters,
    /// Where pods of this host reach the API, beside the masters' own addresses.
    pod_facing: Option<SocketAddr>,
    names: Names,
}

impl Living {
    pub(crate) fn new(masters: Masters, pod_facing: Option<SocketAddr>) -> Self {
        Self { masters, pod_facing, names: Names::default() }
    }

    /// Their API addresses. A loopback address is none: pods have their own.
    pub(crate) async fn now(&mut self) -> Vec<SocketAddr> {
        let status = self.masters.status();
        let mut all = Vec::new();
        for member in &status.members {
            let own = member.id == status.id;
            if own || member.last_contact.is_some_and(|ago| ago < MASTER_ALIVE) {
                all.extend(self.names.address(&member.member.api_address, own).await);
            }
        }
        all.extend(self.pod_facing);
        all.retain(|address| !address.ip().is_loopback());
        all
    }

    /// Keeps the list until `ended`.
    pub(crate) async fn follow(
        mut self,
        living: watch::Sender<Vec<SocketAddr>>,
        ended: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LIVING_INTERVAL) => {}
                () = ended.cancelled() => return,
            }
            let now = self.now().await;
            living.send_if_modified(|known| {
                let changed = *known != now;
                known.clone_from(&now);
                changed
            });
        }
    }
}

/// What host names were resolved to.
#[derive(Default)]
struct Names(BTreeMap<String, Resolved>);

struct Resolved {
    at: tokio::time::Instant,
    address: Option<SocketAddr>,
}

impl Names {
    /// The address of a `host:port`. `own`: of this machine.
    async fn address(&mut self, host_port: &str, own: bool) -> Option<SocketAddr> {
        if let Ok(address) = host_port.parse() {
            return Some(address);
        }
        let known = self.0.get(host_port);
        if let Some(known) = known.filter(|known| known.at.elapsed() < RESOLVED_FOR) {
            return known.address;
        }
        let before = known.and_then(|known| known.address);
        let looked =
            tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(host_port)).await;
        let address = match looked {
            Ok(Ok(found)) => best(found, own),
            Ok(Err(_)) | Err(_) => before,
        };
        if address.is_none() {
            tracing::warn!(
                master = host_port,
                "this name has no address that pods could use: it is not behind the kubernetes Service"
            );
        }
        let at = tokio::time::Instant::now();
        self.0.insert(host_port.to_owned(), Resolved { at, address });
        address
    }
}

/// The address for pods, which have IPv4 first of all. Many systems resolve their own name to a loopback address: then
/// it is the one that this machine has towards others.
fn best(found: impl Iterator<Item = SocketAddr>, own: bool) -> Option<SocketAddr> {
    let all: Vec<SocketAddr> = found.collect();
    let usable = all.iter().filter(|address| !address.ip().is_loopback());
    let one = usable.min_by_key(|address| (address.is_ipv6(), **address)).copied();
    one.or_else(|| {
        let port = all.first()?.port();
        let address = own_address().ok().filter(|_| own)?;
        (!address.is_loopback()).then(|| SocketAddr::new(address, port))
    })
}

/// The address that this machine uses towards the default route. Nothing is sent.
///
/// # Errors
/// When no socket can be had.
pub fn own_address() -> std::io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // Any address outside will do: connecting a datagram socket only looks up the route.
    match socket.connect("192.0.2.1:9") {
        Ok(()) => Ok(socket.local_addr()?.ip()),
        Err(_) => Ok(IpAddr::from([127, 0, 0, 1])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_become_addresses_and_addresses_stay() {
        let mut names = Names::default();
        let address = names.address("10.0.0.1:6443", false).await;
        assert_eq!(address, Some(SocketAddr::from(([10, 0, 0, 1], 6443))));
        // Another machine's loopback address is of no use here.
        assert_eq!(names.address("localhost:6443", false).await, None);
        assert_eq!(names.address("no-such-host.invalid:6443", false).await, None);
        if let Some(own) = names.address("localhost:6444", true).await {
            assert!(!own.ip().is_loopback() && own.port() == 6444, "{own}");
        }
    }

    #[test]
    fn of_several_addresses_pods_get_one_that_they_can_use() {
        let all = ["127.0.1.1:1", "[fd00::1]:1", "10.0.0.9:1", "10.0.0.2:1"];
        let found = all.iter().map(|text| text.parse().unwrap());
        assert_eq!(best(found, false), Some(SocketAddr::from(([10, 0, 0, 2], 1))));
        assert_eq!(best(std::iter::once("127.0.1.1:1".parse().unwrap()), false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_resolved_any_more_keeps_its_address() {
        let known = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut names = Names::default();
        let name = "no-such-host.invalid:1";
        let at = tokio::time::Instant::now();
        names.0.insert(name.to_owned(), Resolved { at, address: Some(known) });
        tokio::time::advance(RESOLVED_FOR * 2).await;
        assert_eq!(names.address(name, false).await, Some(known));
    }
}
