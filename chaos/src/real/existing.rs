//! A cluster that is already there: masters that somebody else started, on machines that are reached by `ssh` or by a
//! command. People do this near production, so: nothing is done that was not allowed, a majority stays undisturbed,
//! who is not well at the beginning is not touched, each fault has a guard on its machine that takes it back when this
//! process is gone, and each machine a keeper that removes what was put there.

mod cluster;
pub mod hands;
pub mod namespace;
pub mod plan;
pub mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use hyper::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Connection;
use super::cluster::{Cluster as _, is_ready};
use super::kube::{self, trial};
use super::kubeconfig::Credentials;
use super::masters::Act;
use super::workload::{Shared, lock};
use super::{Options, left, play};
use crate::limits::{BEAT_EVERY, SHOWN_MAX};
use crate::report::Evidence;
use crate::scenario::Fault;
use crate::scenario::fault::Need;
use hands::Hands;
pub use hands::{HANDS, Restart};
use namespace::Namespace;
use reach::Reach;

/// Between two looks at the machines.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Kinds of faults that can be done to masters that somebody else started.
pub const KINDS: [Fault; 16] = [
    Fault::Pause,
    Fault::Stop,
    Fault::Kill,
    Fault::KillAll,
    Fault::RestartLoop,
    Fault::RollingRestart,
    Fault::Isolate,
    Fault::OneWay,
    Fault::Link,
    Fault::Partition,
    Fault::Bridge,
    Fault::Ring,
    Fault::MajoritiesRing,
    Fault::Swizzle,
    Fault::Transfer,
    Fault::Demote,
];

/// Why some of the others cannot, though there are verbs for them.
#[must_use]
pub fn why_not(fault: Fault) -> &'static str {
    match fault {
        Fault::Replace => {
            "it would remove a data directory that is not this run's, and the service that starts the master again \
             would have to know a token"
        }
        Fault::RotateCa => "everybody's kubeconfig would be of no use afterwards",
        Fault::Restore | Fault::QuorumLost => "what was written since would be lost",
        _ => "it needs masters that the run starts itself",
    }
}

/// What is done when nobody allows more: a process that hangs loses nothing, and a signal ends it; nothing has to be
/// started again, and no firewall is touched.
pub const HARMLESS: [Fault; 1] = [Fault::Pause];

/// Where a cluster is.
#[derive(Debug, Clone)]
pub struct Place {
    /// A file with an admin's credentials.
    pub kubeconfig: PathBuf,
    /// The way to each master's machine, in the order of the masters' names.
    pub reaches: Vec<Reach>,
    /// Who starts again what was ended.
    pub restart: Restart,
}

/// One master.
#[derive(Debug)]
struct Master {
    name: String,
    api: SocketAddr,
    peer: Option<IpAddr>,
    reach: Reach,
    hands: Hands,
    /// What it is: its process belongs to whom the commands run as, or is a unit.
    can_restart: bool,
    can_cut: bool,
    process: u32,
}

/// All masters of a cluster that was there.
#[derive(Debug)]
pub struct Existing {
    masters: Vec<Master>,
    credentials: Arc<Credentials>,
    /// Guards that were set so far.
    guards: u64,
    at_most: Duration,
    /// Who was ended: their processes.
    ended: BTreeMap<usize, u32>,
    acts: Mutex<Vec<(Instant, usize, Act)>>,
    /// How often leadership was handed over.
    transfers: u64,
    /// How often masters were made standbys.
    demotions: u64,
    /// Who may be one by this run.
    standbys: BTreeSet<usize>,
    /// Whether anything was put on the machines.
    prepared: bool,
    /// Tell the keepers that this process is there.
    beats: JoinSet<()>,
    /// Masters whose machines were not reached when their keepers were to be told; why.
    silent: Arc<Mutex<BTreeMap<usize, String>>>,
}

impl Existing {
    /// Looks at the cluster, and at each master's machine. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be reached, is not well, or a machine is not the one where its master runs.
    pub async fn find(place: &Place, run: &str) -> anyhow::Result<Self> {
        let (server, credentials) = Credentials::read(&place.kubeconfig)?;
        let credentials = Arc::new(credentials);
        let server = address(&server).await?;
        let status = status(server, &credentials).await?;
        let mut members = status["masters"].as_array().cloned().unwrap_or_default();
        members.sort_by_key(|member| text(member, "name"));
        let names: Vec<String> = members.iter().map(|member| text(member, "name")).collect();
        ensure!(
            names.len() == place.reaches.len(),
            "the cluster has {} masters ({}), and --masters has {}: one for each is needed, in this order",
            names.len(),
            names.join(", "),
            place.reaches.len()
        );
        let mut masters = Vec::new();
        for (index, (member, reach)) in members.iter().zip(&place.reaches).enumerate() {
            let api = address(&text(member, "apiAddress")).await?;
            let peer = address(&text(member, "peerAddress")).await.ok().map(|peer| peer.ip());
            let hands = Hands::new(run, index, (api.ip(), api.port()), &place.restart);
            let (name, reach) = (names[index].clone(), reach.clone());
            let (can_restart, can_cut, process) = (false, false, 0);
            masters.push(Master { name, api, peer, reach, hands, can_restart, can_cut, process });
        }
        let mut found = Self {
            masters,
            credentials,
            guards: 0,
            at_most: Duration::ZERO,
            ended: BTreeMap::new(),
            acts: Mutex::default(),
            transfers: 0,
            demotions: 0,
            standbys: BTreeSet::new(),
            prepared: false,
            beats: JoinSet::new(),
            silent: Arc::default(),
        };
        found.is_well().await?;
        found.probe(&place.restart).await?;
        Ok(found)
    }

    /// How many masters there are.
    #[must_use]
    pub fn masters(&self) -> usize {
        self.masters.len()
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.masters.iter().map(|master| master.name.clone()).collect()
    }

    /// A user of Deployments on the nodes that are there, whose pods are of this image. Changes nothing.
    ///
    /// # Errors
    /// When no node is ready and takes pods.
    pub async fn deployments(&self, image: &str) -> anyhow::Result<Arc<kube::Shared>> {
        let api = self.masters.first().context("a cluster has at least one master")?.api;
        let mut connection = Connection::open(api, &self.credentials).await?;
        let nodes = match connection.call(Method::GET, "/api/v1/nodes", None).await {
            Ok(mut answer) if answer.code == 200 => kube::ending::items(&mut answer.body),
            other => bail!("the nodes of the cluster: {other:?}"),
        };
        let pods = kube::Pods::There { image: image.to_owned() };
        Ok(Arc::new(kube::Shared::new(pods, Some(trial::usable(&nodes)?))))
    }

    /// What cannot be done to them, and why.
    #[must_use]
    pub fn lacks(&self) -> Vec<(Need, String)> {
        super::cluster::Cluster::lacks(self)
    }

    /// What it is, in a few lines for who is asked whether this is to be done.
    #[must_use]
    pub fn words(&self) -> String {
        let line = |master: &Master| {
            let Master { name, api, reach, process, .. } = master;
            format!("  {name:<16} {api:<22} process {process} by {reach}")
        };
        self.masters.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Whether all masters vote, follow one leader and serve.
    async fn is_well(&self) -> anyhow::Result<()> {
        let not = "the cluster is not healthy, and is left alone";
        let mut leaders = Vec::new();
        for (index, master) in self.masters.iter().enumerate() {
            let name = &master.name;
            ensure!(
                is_ready(master.api, &self.credentials).await,
                "{not}: {name} ({}) is not ready",
                master.api
            );
            let status = self.status(index).await.context(not)?;
            ensure!(
                status["answeredBy"] == name.as_str(),
                "{not}: at the address of {name}, {}, {} answers",
                master.api,
                status["answeredBy"]
            );
            for member in status["masters"].as_array().into_iter().flatten() {
                ensure!(
                    member["voter"] == true,
                    "{not}: {} does not vote, says {name}",
                    text(member, "name")
                );
            }
            leaders.push(status["leader"].clone());
        }
        leaders.dedup();
        match leaders.as_slice() {
            [Value::String(_)] => Ok(()),
            _ => bail!("{not}: its masters follow {leaders:?}, not one leader"),
        }
    }

    async fn probe(&mut self, restart: &Restart) -> anyhow::Result<()> {
        let asking = self.masters.iter().map(|master| {
            let script = master.hands.probe();
            async move { master.reach.run(&script).await }
        });
        let told = join_all(asking).await;
        for (master, told) in self.masters.iter_mut().zip(told) {
            let name = master.name.clone();
            let told = told.with_context(|| format!("the machine of {name} ({})", master.api))?;
            let word = |key: &str| {
                let mut lines = told.lines().filter_map(|line| line.split_once(' '));
                lines.find(|(found, _)| *found == key).map(|(_, rest)| rest.trim().to_owned())
            };
            let comm = word("comm").unwrap_or_default();
            ensure!(
                comm.starts_with("quorate"),
                "what listens at {} by {} is {comm:?}, not the master {name}",
                master.api,
                master.reach
            );
            let id = word("pid").and_then(|pid| pid.parse().ok());
            master.process = id.with_context(|| format!("{name} has no process: {told}"))?;
            let unit = word("unit").is_some_and(|unit| !unit.is_empty());
            master.can_restart = unit || restart.supervised || word("own").is_some();
            master.can_cut = word("nft").is_some();
        }
        Ok(())
    }

    /// Puts what is needed on the machines.
    async fn prepare(&mut self) -> anyhow::Result<()> {
        self.prepared = true;
        let putting = self.masters.iter().map(|master| {
            let script = master.hands.prepare();
            async move { master.reach.run(&script).await }
        });
        join_all(putting).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        for (index, master) in self.masters.iter().enumerate() {
            let (reach, hands) = (master.reach.clone(), master.hands.clone());
            let silent = self.silent.clone();
            self.beats.spawn(async move {
                for number in 1.. {
                    tokio::time::sleep(BEAT_EVERY).await;
                    match reach.run(&hands.beat(number)).await {
                        Ok(_) => drop(lock(&silent).remove(&index)),
                        Err(error) => drop(lock(&silent).insert(index, format!("{error:#}"))),
                    }
                }
            });
        }
        Ok(())
    }

    /// Takes everything back for good; what is left in spite of that.
    async fn finish(&mut self) -> Vec<String> {
        if !self.prepared {
            return Vec::new();
        }
        let standbys = self.standbys_left().await;
        self.beats.shutdown().await;
        let finishing = self.masters.iter().map(|master| {
            let script = master.hands.finish();
            async move {
                let name = &master.name;
                match master.reach.run(&script).await {
                    Ok(left) => left.lines().map(|left| format!("{left}, at {name}")).collect(),
                    Err(error) => vec![format!("{name} cannot be asked what is left: {error:#}")],
                }
            }
        });
        let left: Vec<Vec<String>> = join_all(finishing).await;
        [left.concat(), standbys].concat()
    }

    /// Clients and faults, in a namespace of their own that is gone afterwards; what it leaves is for
    /// [`Report::of`](crate::report::Report::of) to check. Where there are Deployments, their image is tried first.
    ///
    /// # Errors
    /// When the namespace cannot be made, the image does not run, or the masters do not answer.
    pub async fn run(
        mut self,
        options: &Options,
        kube: Option<Arc<kube::Shared>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Evidence> {
        super::lay_out(options)?;
        let apis: Vec<SocketAddr> = self.masters.iter().map(|master| master.api).collect();
        let name = format!("quorate-chaos-{}", options.seed);
        let users = (apis.clone(), self.credentials.clone());
        let keys = options.scenario.workload.keys;
        let namespace = Namespace::make(&name, apis, &self.credentials).await?;
        let shared = Arc::new(Shared::new(users, &name, keys));
        let evidence = match self.begin((options, &shared, kube.as_deref()), stop).await {
            Ok(()) => play(options, &mut self, &shared, (kube.map(Ok), stop)).await,
            Err(error) => Err(error.context("nothing was begun")),
        };
        let mut left = self.finish().await;
        options.tell(&format!("removing the namespace {name}"));
        if let Err(error) = namespace.remove().await {
            left.push(format!("the namespace {name}: {error:#}"));
        }
        left.extend(left::look(&options.directory, &[]).await);
        match evidence {
            Ok(evidence) => Ok(Evidence { left: Some(left), ..evidence }),
            Err(error) if left.is_empty() => Err(error),
            Err(error) => Err(error.context(format!("still there: {}", left.join("; ")))),
        }
    }

    /// All that has to be there before the first fault.
    async fn begin(
        &mut self,
        (options, shared, kube): (&Options, &Shared, Option<&kube::Shared>),
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        if let Some(kube) = kube {
            options.tell("trying whether the image of the pods runs on the cluster's nodes");
            tokio::select! {
                biased;
                () = stop.cancelled() => bail!("stopped while the image was tried"),
                tried = Box::pin(trial::run(shared, kube)) => tried?,
            }
        }
        self.prepare().await
    }

    fn note(&self, master: usize, act: Act) {
        lock(&self.acts).push((Instant::now(), master, act));
    }

    /// Asks the machines until they show what is wanted, or long enough.
    async fn until<T>(
        &self,
        holds: impl Fn(&[Vec<String>]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let begin = Instant::now();
        loop {
            let looking = self.masters.iter().map(|master| {
                let script = master.hands.look();
                async move { master.reach.run(&script).await }
            });
            let seen: anyhow::Result<Vec<String>> = join_all(looking).await.into_iter().collect();
            let lines = |text: &String| text.lines().map(str::to_owned).collect();
            match holds(&seen?.iter().map(lines).collect::<Vec<Vec<String>>>()) {
                Ok(shown) => return Ok(shown),
                Err(error) if begin.elapsed() > SHOWN_MAX => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// The address of `https://host:port`, or of `host:port`.
async fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.strip_prefix("https://").unwrap_or(url);
    let host = host.split('/').next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:443") };
    let found = tokio::net::lookup_host(&host).await;
    let mut found = found.with_context(|| format!("cannot find {host:?}"))?;
    found.next().with_context(|| format!("{host:?} has no address"))
}

async fn status(server: SocketAddr, user: &Arc<Credentials>) -> anyhow::Result<Value> {
    let connection = Connection::open(server, user).await;
    let mut connection = connection.with_context(|| format!("the cluster at {server}"))?;
    match connection.call(Method::GET, "/quorate/v1/status", None).await {
        Ok(answer) if answer.code == 200 => Ok(answer.body),
        Ok(answer) if answer.code == 404 => bail!("what answers at {server} is no quorate"),
        Ok(answer) => {
            let message = answer.body["message"].as_str().unwrap_or("no reason");
            bail!("{server} does not tell its status: {} ({message})", answer.code)
        }
        Err(error) => bail!("{server} does not tell its status: {error:?}"),
    }
}
