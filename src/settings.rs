//! What a master is started with: the options, checked, with what its directory knows already.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use jiff::SignedDuration;
use quorate_api::quantity::Quantity;
use quorate_master::MembershipRules;
use quorate_pki::JoinToken;
use quorate_pki::authority::CERTIFICATE_SECONDS;
use quorate_raft::Timing;
use quorate_raft::limits::STATE_BYTES_MAX;
use quorate_store::limits::SCRUB_INTERVAL;
use serde::{Deserialize, Serialize};

use crate::config::Options;
use crate::data_dir::{ClusterFile, DataDir};
use crate::join;
use crate::restart::Restart;
use crate::vip;

/// `--join-timeout` is no shorter: a master needs a moment to start after it was admitted.
const JOIN_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// `--certificate-lifetime` is no shorter: nodes need a moment to get their next one.
const CERTIFICATE_LIFETIME_MIN: Duration = Duration::from_secs(30);

/// `--remove-dead-masters-after` is no shorter: a machine that starts again is not dead.
const DEAD_MASTERS_AFTER_MIN: Duration = Duration::from_secs(60);

/// `--scrub-interval` is no shorter: nothing else would be done.
const SCRUB_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// Pairs of ranges (pods, Services) that `dev` tries, in order.
const DEV_RANGES: std::ops::RangeInclusive<u8> = 21..=60;

/// What all masters of a cluster must agree on. Fixed when the cluster is made: kept in
/// `cluster.json`, told to masters that join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Addresses of Services.
    #[serde(with = "as_text")]
    pub service_cidr: IpNet,
    /// Addresses of pods.
    #[serde(with = "as_text")]
    pub cluster_cidr: IpNet,
    /// DNS domain of Services.
    pub cluster_domain: String,
}

/// A range as `10.42.0.0/16`.
mod as_text {
    use ipnet::IpNet;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(net: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(net)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Default for Network {
    fn default() -> Self {
        let net = |second| IpNet::V4(ipnet::Ipv4Net::new_assert([10, second, 0, 0].into(), 16));
        Self {
            service_cidr: net(43),
            cluster_cidr: net(42),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

/// What of [`Network`] the options ask for.
#[derive(Debug, Clone, Default)]
pub struct NetworkWish {
    service_cidr: Option<IpNet>,
    cluster_cidr: Option<IpNet>,
    cluster_domain: Option<String>,
}

impl NetworkWish {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        Self::parse([
            text(&options.service_cidr),
            text(&options.cluster_cidr),
            text(&options.cluster_domain),
        ])
    }

    /// From the ranges of Services and of pods and the domain; an empty text asks for nothing.
    pub fn parse(
        [service_cidr, cluster_cidr, cluster_domain]: [String; 3],
    ) -> anyhow::Result<Self> {
        let cidr = |flag: &str, text: &str| {
            let parse = |text: &str| {
                text.parse::<IpNet>().ok().map(|net| net.trunc()).with_context(|| {
                    format!("{flag} {text:?} is not an address range such as 10.42.0.0/16")
                })
            };
            Some(text).filter(|text| !text.is_empty()).map(parse).transpose()
        };
        Ok(Self {
            service_cidr: cidr("--service-cidr", &service_cidr)?,
            cluster_cidr: cidr("--cluster-cidr", &cluster_cidr)?,
            cluster_domain: Some(cluster_domain).filter(|domain| !domain.is_empty()),
        })
    }

    /// As [`NetworkWish::parse`] takes it.
    pub fn texts(&self) -> [String; 3] {
        let text = |net: Option<IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
        [
            text(self.service_cidr),
            text(self.cluster_cidr),
            self.cluster_domain.clone().unwrap_or_default(),
        ]
    }

    /// The network of a new cluster.
    pub fn fresh(&self) -> anyhow::Result<Network> {
        self.over(Network::default())
    }

    fn over(&self, default: Network) -> anyhow::Result<Network> {
        let network = Network {
            service_cidr: self.service_cidr.unwrap_or(default.service_cidr),
            cluster_cidr: self.cluster_cidr.unwrap_or(default.cluster_cidr),
            cluster_domain: self.cluster_domain.clone().unwrap_or(default.cluster_domain),
        };
        let (pods, services) = (network.cluster_cidr, network.service_cidr);
        if pods.contains(&services) || services.contains(&pods) {
            bail!("--cluster-cidr {pods} and --service-cidr {services} overlap: give two ranges");
        }
        Ok(network)
    }

    /// The network that the cluster has; an option that asks for another one is refused.
    pub fn check(&self, has: &Network) -> anyhow::Result<()> {
        let text = |wish: Option<IpNet>| wish.map(|net| net.to_string());
        let differing = [
            ("service-cidr", text(self.service_cidr), has.service_cidr.to_string()),
            ("cluster-cidr", text(self.cluster_cidr), has.cluster_cidr.to_string()),
            ("cluster-domain", self.cluster_domain.clone(), has.cluster_domain.clone()),
        ]
        .into_iter()
        .find(|(_, wish, has)| wish.as_ref().is_some_and(|wish| wish != has));
        match differing {
            None => Ok(()),
            Some((flag, wish, has)) => bail!(
                "--{flag} {}: this cluster has {has} since it was made, and that cannot be changed. \
                 Leave the option away",
                wish.unwrap_or_default()
            ),
        }
    }
}

/// What a master is started with.
pub struct Settings {
    pub name: String,
    pub listen: SocketAddr,
    pub peer_listen: SocketAddr,
    /// Host under which others reach this master.
    pub advertise: String,
    pub extra_names: Vec<String>,
    /// Addresses that the leader has.
    pub vip: Option<vip::Setting>,
    pub network: NetworkWish,
    pub timing: Timing,
    pub join: Option<(String, JoinToken)>,
    /// Whether it joins without looking first whether it can.
    pub skip_preflight: bool,
    /// Whether it joins as a standby.
    pub standby: bool,
    /// Asked for over the API, where the process can be restarted.
    pub restart: Option<Restart>,
    pub membership: MembershipRules,
    /// How often a master looks whether its state is what was decided.
    pub scrub_interval: Duration,
    /// What the state may take; 0 for no quota.
    pub quota: u64,
    /// How long certificates that this master issues live.
    pub certificate_seconds: i64,
    /// A further address for the API, of this host only: where its pods reach it when `listen` is the
    /// loopback address.
    pub pod_facing: Option<SocketAddr>,
    /// While it is held, no other `dev` on this machine takes the same ranges.
    _ranges: Option<UnixDatagram>,
}

impl Settings {
    /// From the options; `listen` is the default address of the API.
    pub fn new(options: &Options, listen: &str) -> anyhow::Result<Self> {
        let text = options.listen.as_deref().unwrap_or(listen);
        let listen = parse_address("--listen", text)?;
        let peer_listen = match &options.peer_listen {
            Some(text) => parse_address("--peer-listen", text)?,
            None => SocketAddr::new(listen.ip(), 6444),
        };
        let name = match &options.name {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        join::check_name(&name)?;
        let advertise = match &options.advertise {
            Some(host) => check_host("--advertise", host)?,
            None if listen.ip().is_unspecified() => own_address()?.to_string(),
            None => listen.ip().to_string(),
        };
        let join = match (&options.join, options.join_token()?) {
            (Some(url), Some(token)) => Some((url.clone(), token)),
            (None, None) => None,
            (Some(_), None) => {
                bail!("--join needs --token (from `quorate token create` on a master)")
            }
            (None, Some(_)) => bail!("--token is given without --join URL: join which cluster?"),
        };
        let standby = options.standby.unwrap_or_default();
        let vip = vip::Setting::new(options, listen, &advertise)?;
        Ok(Self {
            name,
            listen,
            peer_listen,
            advertise,
            extra_names: split(options.tls_san.as_deref()),
            vip,
            network: NetworkWish::new(options)?,
            timing: timing(options)?,
            join,
            standby,
            skip_preflight: options.skip_preflight.unwrap_or_default(),
            restart: None,
            membership: membership(options)?,
            scrub_interval: scrub_interval(options)?,
            quota: quota(options)?,
            certificate_seconds: certificate_seconds(options)?,
            pod_facing: None,
            _ranges: None,
        })
    }

    /// What a directory that has been used before adds: a name that was not given is the one it had,
    /// and one that was given must be that.
    pub fn with_past(&mut self, options: &Options, data: &DataDir) -> anyhow::Result<()> {
        let Some(ClusterFile { name, network, .. }) = data.cluster()? else { return Ok(()) };
        if options.name.as_ref().is_some_and(|wanted| *wanted != name) {
            bail!(
                "{} belongs to master {name:?}: leave --name away, or give {:?} a directory of its \
                 own with --data",
                data.path().display(),
                self.name
            );
        }
        self.name = name;
        self.network.check(&network)
    }

    /// For a whole cluster on this machine. A new one takes ranges that nothing here uses. It also
    /// listens on the first address of the first node's pod range, which that node's bridge will
    /// have: pods cannot reach the host's loopback address.
    pub fn for_dev(&mut self, data: &DataDir) -> anyhow::Result<()> {
        let network = match data.cluster()? {
            Some(cluster) => cluster.network,
            None => {
                if self.network.cluster_cidr.is_none() && self.network.service_cidr.is_none() {
                    self.take_free_ranges();
                }
                self.network.fresh()?
            }
        };
        if self._ranges.is_none() {
            self._ranges = reserve(network.cluster_cidr);
        }
        if self.listen.ip().is_loopback() && self.listen.port() != 0 {
            let gateway = network.cluster_cidr.hosts().next();
            self.pod_facing = gateway.map(|ip| SocketAddr::new(ip, self.listen.port()));
        }
        Ok(())
    }

    fn take_free_ranges(&mut self) {
        let used = routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
        for half in DEV_RANGES {
            let net = |second| IpNet::V4(ipnet::Ipv4Net::new_assert([10, second, 0, 0].into(), 16));
            let (pods, services) = (net(2 * half), net(2 * half + 1));
            let taken =
                |net: &IpNet| used.iter().any(|used| used.contains(net) || net.contains(used));
            if taken(&pods) || taken(&services) {
                continue;
            }
            if let Some(reserved) = reserve(pods) {
                (self.network.cluster_cidr, self.network.service_cidr) =
                    (Some(pods), Some(services));
                self._ranges = Some(reserved);
                return;
            }
        }
    }
}

/// Says to every other `dev` on this machine that a range is taken, for as long as the socket is
/// held. Nothing is sent or read: only the name counts. `None`: somebody else has it.
fn reserve(pods: IpNet) -> Option<UnixDatagram> {
    let name = format!("quorate-pods-{pods}");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).ok()?;
    UnixDatagram::bind_addr(&address).ok()
}

/// The networks that this machine has routes to, its default route apart.
fn routes(table: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let number = |word: Option<&str>| u32::from_str_radix(word?, 16).ok().map(u32::swap_bytes);
        let (network, mask) = (number(words.next())?, number(words.nth(5))?);
        let net = ipnet::Ipv4Net::with_netmask(network.into(), mask.into()).ok()?;
        (net.prefix_len() > 0).then_some(IpNet::V4(net))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// As Kubernetes writes it: `90s`, `2m`, `1h30m`.
fn duration(flag: &str, text: &str, min: Duration) -> anyhow::Result<Duration> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    let duration = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
    let Some(duration) = duration else {
        bail!("{flag} {text:?} is not a duration: write for instance 90s, 2m or 1h30m");
    };
    if duration < min {
        bail!("{flag} {text} is too short: {min:?} is the least");
    }
    Ok(duration)
}

fn scrub_interval(options: &Options) -> anyhow::Result<Duration> {
    let text = options.scrub_interval.as_deref();
    let asked = text.map(|text| duration("--scrub-interval", text, SCRUB_INTERVAL_MIN));
    Ok(asked.transpose()?.unwrap_or(SCRUB_INTERVAL))
}

fn quota(options: &Options) -> anyhow::Result<u64> {
    let Some(text) = options.quota_backend_bytes.as_deref() else { return Ok(STATE_BYTES_MAX) };
    let bytes =
        Quantity::parse(text.trim()).ok().and_then(|quantity| u64::try_from(quantity.value()).ok());
    bytes.with_context(|| {
        format!("--quota-backend-bytes {text:?}: give a number of bytes such as 8589934592, or 8Gi; 0 for no quota")
    })
}

fn certificate_seconds(options: &Options) -> anyhow::Result<i64> {
    let Some(text) = options.certificate_lifetime.as_deref() else {
        return Ok(CERTIFICATE_SECONDS);
    };
    let lifetime = duration("--certificate-lifetime", text, CERTIFICATE_LIFETIME_MIN)?;
    Ok(i64::try_from(lifetime.as_secs())?)
}

fn membership(options: &Options) -> anyhow::Result<MembershipRules> {
    let default = MembershipRules::default();
    let (join, dead) = (&options.join_timeout, &options.remove_dead_masters_after);
    let join = join.as_deref().map(|text| duration("--join-timeout", text, JOIN_TIMEOUT_MIN));
    let dead = dead
        .as_deref()
        .map(|text| duration("--remove-dead-masters-after", text, DEAD_MASTERS_AFTER_MIN));
    Ok(MembershipRules {
        join_silence_max: join.transpose()?.unwrap_or(default.join_silence_max),
        dead_after: dead.transpose()?,
        ..default
    })
}

fn timing(options: &Options) -> anyhow::Result<Timing> {
    let default = Timing::default();
    let millis = |value: Option<u64>, default| value.map_or(default, Duration::from_millis);
    let timing = Timing {
        heartbeat: millis(options.raft_heartbeat_ms, default.heartbeat),
        election_min: millis(options.raft_election_min_ms, default.election_min),
        election_max: millis(options.raft_election_max_ms, default.election_max),
    };
    let Timing { heartbeat, election_min, election_max } = timing;
    if heartbeat.is_zero() || heartbeat >= election_min || election_min >= election_max {
        bail!(
            "raft timing {} / {} / {} ms: the heartbeat must be shorter than the smallest election \
             timeout, and that shorter than the largest",
            heartbeat.as_millis(),
            election_min.as_millis(),
            election_max.as_millis()
        );
    }
    Ok(timing)
}

/// Parts of a comma-separated text.
pub fn split(text: Option<&str>) -> Vec<String> {
    let parts = text.unwrap_or_default().split(',');
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn parse_address(flag: &str, text: &str) -> anyhow::Result<SocketAddr> {
    text.parse().ok().with_context(|| {
        format!("{flag} {text:?}: give address and port, such as 0.0.0.0:6443 or [::]:6443")
    })
}

/// A host name or address, without a port.
fn check_host(flag: &str, text: &str) -> anyhow::Result<String> {
    let plain = text.trim_start_matches('[').trim_end_matches(']');
    if plain.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        bail!(
            "{flag} {text:?}: nobody can be reached there; give this machine's host name or address"
        );
    }
    if plain.parse::<IpAddr>().is_ok() || (!plain.is_empty() && !plain.contains([':', '/', ' '])) {
        return Ok(plain.to_owned());
    }
    bail!("{flag} {text:?}: give a host name or an address, without scheme and port")
}

/// The machine's name, as a node's or master's default.
pub fn host_name() -> anyhow::Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() {
        bail!("this machine has no host name: give one with --name");
    }
    Ok(name)
}

/// The address that this machine uses towards the default route.
fn own_address() -> anyhow::Result<IpAddr> {
    let what = "cannot find out this machine's address: give one with --advertise";
    quorate_master::own_address().context(what)
}

/// `host:port`, with an IPv6 address in brackets.
pub fn host_port(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(result: anyhow::Result<T>) -> String {
        format!("{:#}", result.err().unwrap())
    }

    #[test]
    fn routes_are_read_without_the_default_one() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
             eth0\t00000000\t010AA8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             qbr0\t00002A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(routes(table), ["10.42.0.0/24".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn a_range_is_taken_once() {
        let net: IpNet = "10.199.0.0/16".parse().unwrap();
        let held = reserve(net).unwrap();
        assert!(reserve(net).is_none());
        drop(held);
        assert!(reserve(net).is_some());
    }

    #[test]
    fn a_cluster_keeps_its_ranges() {
        let options = Options { service_cidr: Some("10.9.0.0/16".into()), ..Options::default() };
        let wish = NetworkWish::new(&options).unwrap();
        let made = wish.fresh().unwrap();
        assert_eq!(made.service_cidr.to_string(), "10.9.0.0/16");
        wish.check(&made).unwrap();
        NetworkWish::default().check(&made).unwrap();
        assert_eq!(
            error(wish.check(&Network::default())),
            "--service-cidr 10.9.0.0/16: this cluster has 10.43.0.0/16 since it was made, and that \
             cannot be changed. Leave the option away"
        );
    }

    #[test]
    fn wrong_values_are_refused_with_an_example() {
        let of = |options: Options| error(Settings::new(&options, "127.0.0.1:6443"));
        let default = Options::default;
        for (options, text) in [
            (Options { listen: Some("6443".into()), ..default() }, "such as 0.0.0.0:6443"),
            (Options { advertise: Some("a:1".into()), ..default() }, "without scheme and port"),
            (Options { advertise: Some("0.0.0.0".into()), ..default() }, "nobody can be reached"),
            (Options { cluster_cidr: Some("10.1".into()), ..default() }, "such as 10.42.0.0/16"),
            (Options { raft_heartbeat_ms: Some(300), ..default() }, "raft timing 300 / 200 / 400"),
            (Options { name: Some("A b".into()), ..default() }, "cannot be a name"),
            (Options { join: Some("https://a:1".into()), ..default() }, "--join needs --token"),
        ] {
            let said = of(options);
            assert!(said.contains(text), "{said}");
        }
    }
}
