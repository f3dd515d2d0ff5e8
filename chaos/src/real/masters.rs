//! The masters of a run: real processes of the real binary, each with a directory of its own, and
//! in a network namespace of its own where the host allows it.

mod agents;
mod cluster;
mod disaster;
mod host;
mod hunger;
mod nuisances;
mod outlived;
mod trust;
mod verbs;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Options;
use super::blocked::LogPipe;
use super::cluster::{Cluster as _, is_ready};
use super::damage::Damaged;
use super::disk::Disks;
use super::follower::Sleep;
use super::kubeconfig::Credentials;
use super::links::{Place, places};
use super::memory::Memories;
use super::network::Network;
use super::points::Points;
use super::processor::Processors;
use super::proxy::Proxies;
use super::shim::Shims;
use super::workload::lock;
use crate::limits::{
    FALL_BEHIND_SNAPSHOT_BYTES, POINTS_SNAPSHOT_BYTES, READY_MAX, SHORT_LIVED, STOP_MAX,
};
use crate::scenario::Scenario;
use crate::scenario::fault::{Fault, Need, Target};
use nuisances::Nuisances;

/// Says where the other masters come to.
const PEER_LISTEN: &str = "--peer-listen=";

/// One master.
#[derive(Debug)]
struct Master {
    name: String,
    api: SocketAddr,
    /// Where clients come to: the same, or a proxy before it.
    clients: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    /// Its door for other masters, and the one that it has when it has moved.
    peer: [SocketAddr; 2],
    arguments: Vec<String>,
    /// It runs, or will run, the older program.
    is_older: bool,
    /// `None` while it is killed.
    process: Option<Child>,
}

/// What was done to a master's process, or what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// It was started.
    Started,
    /// It was killed.
    Killed,
    /// SIGSTOP.
    Paused,
    /// SIGCONT.
    Resumed,
    /// It ended, and nobody had asked for it.
    Ended,
    /// It was killed, and some of what it had not synced is gone.
    LostPower,
    /// It was asked to end, and did.
    Stopped,
}

/// When which process was done what to.
type Acts = Vec<(Instant, usize, Act)>;

/// The masters did not stand what was done to them: no trouble of the harness, but what it looks for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broke(String);

impl Broke {
    /// What happened, in a sentence.
    #[must_use]
    pub fn new(what: String) -> Self {
        Self(what)
    }
}

/// All masters. They end with this value.
#[derive(Debug)]
pub struct Masters {
    /// Masters, and behind them node agents.
    masters: Vec<Master>,
    /// How many of them are masters.
    count: usize,
    binary: PathBuf,
    older: Option<PathBuf>,
    /// Who ran it at first.
    at_first: BTreeSet<usize>,
    directory: PathBuf,
    /// Whose files are damaged.
    damaged: BTreeMap<usize, Damaged>,
    tls: Arc<Credentials>,
    network: Option<Network>,
    /// When which process was done what to.
    acts: Mutex<Acts>,
    proxies: Option<Proxies>,
    processors: Option<Processors>,
    shims: Option<Shims>,
    /// When masters are to end at points of their code.
    points: Option<Points>,
    /// When logs can be blocked: one for each.
    logs: Vec<LogPipe>,
    nuisances: Nuisances,
    memories: Option<Memories>,
    /// Masters that have never run.
    unjoined: BTreeSet<usize>,
    /// Masters that may end by themselves now, and what those said that did.
    may_end: BTreeMap<usize, Option<String>>,
    /// After the masters: they are in use until then.
    disks: Option<Disks>,
}

impl Masters {
    /// Starts the first master and lets the others join it, one after the other.
    ///
    /// # Errors
    /// When one does not start or is not ready within [`READY_MAX`].
    pub async fn start(
        options: &Options,
        (network, seed): (Option<Network>, u64),
    ) -> anyhow::Result<Self> {
        programs(options)?;
        let Options { binary, older, directory, scenario, .. } = options;
        let (places, proxies) = places(scenario, network.as_ref(), seed).await?;
        let directories: Vec<PathBuf> =
            (1..=places.len()).map(|number| directory.join(format!("m{number}"))).collect();
        let disks = scenario.needs(Need::Disks).then(|| Disks::make(&directories)).transpose()?;

        let absent = scenario.absent();
        let shims = shims(binary, directory, &directories, scenario)?;
        let points = points(binary, directory, scenario)?;
        let logs = log_pipes(scenario, directory)?;
        let kubeconfig = directory.join("kubeconfig");
        let (mut masters, mut tls): (Vec<Master>, Option<Arc<Credentials>>) = (Vec::new(), None);
        for (index, Place { api, clients, peer, advertise }) in places.into_iter().enumerate() {
            let name = format!("m{}", index + 1);
            let data = directories[index].clone();
            let mut arguments =
                arguments((&name, &data), (api, peer[0], advertise), (&kubeconfig, scenario));
            arguments.extend((clients != api).then(|| format!("--tls-san={}", clients.ip())));
            if let Some(first) = masters.first() {
                let token = token(binary, &first.data, "server").await?;
                arguments.push(format!("--join=https://{}", first.api));
                arguments.push(format!("--token={token}"));
            }
            let log = directory.join(format!("{name}.log"));
            let is_older = scenario.older.contains(&Target::Master(index));
            let mut master =
                Master { name, api, clients, data, log, peer, arguments, is_older, process: None };
            if absent.contains(&index) {
                // It keeps its token: it may end before it has joined.
                masters.push(master);
                continue;
            }
            let environment = environment(shims.as_ref(), points.as_ref(), index);
            let program = older.as_ref().filter(|_| is_older).unwrap_or(binary);
            let sinks = sinks(logs.get(index), &master.log)?;
            let place = (network.as_ref(), index);
            let process = spawn(program, &master.arguments, environment, sinks, place)?;
            proxies.iter().for_each(|proxies| proxies.process(index, process.id()));
            master.process = Some(process);
            // A token is good for one join; the data directory remembers the rest.
            master.arguments.retain(|argument| !argument.starts_with("--token"));
            master.arguments.retain(|argument| !argument.starts_with("--join"));
            master.first_ready(&kubeconfig, &mut tls).await?;
            masters.push(master);
        }
        let (acts, at_first) = beginning(&masters);
        let masters = Self {
            count: masters.len(),
            masters,
            binary: binary.clone(),
            older: older.clone(),
            at_first,
            directory: directory.clone(),
            damaged: BTreeMap::new(),
            tls: tls.context("a cluster has at least one master")?,
            network,
            acts,
            proxies,
            processors: scenario.needs(Need::Processor).then(Processors::default),
            shims,
            points,
            logs,
            nuisances: Nuisances::default(),
            memories: scenario.needs(Need::Memory).then(Memories::default),
            unjoined: absent,
            may_end: BTreeMap::new(),
            disks,
        };
        masters.voters().await?;
        Ok(masters)
    }

    /// Waits until all are voters.
    async fn voters(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut seen = 0;
        while begin.elapsed() < READY_MAX {
            if let Ok(status) = self.status(0).await {
                let members = status["masters"].as_array();
                seen = members.into_iter().flatten().filter(|m| m["role"] != "learner").count();
                if seen == self.count - self.unjoined.len() {
                    return Ok(());
                }
            }
            tokio::time::sleep(super::POLL).await;
        }
        bail!("{seen} of {} masters became voters within {READY_MAX:?}", self.count)
    }

    /// How many masters there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, master: usize) -> &str {
        &self.masters[master].name
    }

    /// Where clients come to.
    #[must_use]
    pub fn api(&self, master: usize) -> SocketAddr {
        self.masters[master].clients
    }

    /// From now on watchers can be told to stop for a time.
    pub fn tell_watchers(&mut self, sleep: Arc<Sleep>) {
        self.nuisances.sleep = Some(sleep);
    }

    /// The admin's credentials.
    #[must_use]
    pub fn tls(&self) -> &Arc<Credentials> {
        &self.tls
    }

    /// Its links, where there are any to cut.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// `kill -9` of all of these at once, then waits for their ends.
    ///
    /// # Errors
    /// When a process cannot be waited for.
    async fn kill(&mut self, all: &[usize], act: Act) -> anyhow::Result<()> {
        for master in all {
            if let Some(process) = &mut self.masters[*master].process {
                process.start_kill().context("cannot kill")?;
            }
        }
        for master in all {
            if let Some(mut process) = self.masters[*master].process.take() {
                process.wait().await.context("cannot wait for a killed process")?;
                self.note(*master, act);
            }
        }
        Ok(())
    }

    /// SIGTERM to all of these, then waits for their ends.
    ///
    /// # Errors
    /// When one has not ended within [`STOP_MAX`], or did so with an error: it broke.
    async fn ask_to_end(&mut self, all: &[usize]) -> anyhow::Result<()> {
        for master in all {
            self.signal(*master, Signal::TERM)?;
        }
        for master in all {
            let Some(mut process) = self.masters[*master].process.take() else { continue };
            let name = self.name(*master).to_owned();
            match timeout(STOP_MAX, process.wait()).await {
                Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => {
                    self.note(*master, Act::Stopped);
                }
                Ok(status) => bail!(Broke(format!("{name} ended on SIGTERM with {}", status?))),
                Err(_) => {
                    process.kill().await?;
                    bail!(Broke(format!("{name} did not end within {STOP_MAX:?} of SIGTERM")));
                }
            }
        }
        Ok(())
    }

    /// Starts it again, on its directory; does not wait until it is ready.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn restart(&mut self, master: usize) -> anyhow::Result<()> {
        if self.unjoined.remove(&master) {
            // By whoever runs now.
            let door = self.masters[..self.count].iter().find(|other| other.process.is_some());
            let door = door.context("nobody runs whom it could join")?.api;
            let arguments = &mut self.masters[master].arguments;
            arguments.retain(|argument| !argument.starts_with("--join"));
            arguments.push(format!("--join=https://{door}"));
        }
        let found = &mut self.masters[master];
        if found.process.is_none() {
            let (arguments, log) = (&found.arguments, &found.log);
            let environment = match master < self.count {
                true => environment(self.shims.as_ref(), self.points.as_ref(), master),
                false => Vec::new(),
            };
            let place = (self.network.as_ref(), master);
            let older = self.older.as_ref().filter(|_| found.is_older);
            let program = older.unwrap_or(&self.binary);
            let sinks = sinks(self.logs.get(master), log)?;
            let process = spawn(program, arguments, environment, sinks, place)?;
            self.proxies.iter().for_each(|proxies| proxies.process(master, process.id()));
            found.process = Some(process);
            self.forget_held(master);
            self.note(master, Act::Started);
        }
        Ok(())
    }

    /// SIGSTOP: it hangs, its connections stay.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&self, master: usize) -> anyhow::Result<()> {
        self.signal(master, Signal::STOP)?;
        self.note(master, Act::Paused);
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&self, master: usize) -> anyhow::Result<()> {
        self.signal(master, Signal::CONT)?;
        self.note(master, Act::Resumed);
        Ok(())
    }

    fn signal(&self, master: usize, signal: Signal) -> anyhow::Result<()> {
        let id = self.masters[master].process.as_ref().and_then(Child::id);
        let pid = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        match pid {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Ok(()),
        }
    }

    fn note(&self, master: usize, act: Act) {
        lock(&self.acts).push((Instant::now(), master, act));
    }

    /// What was done to processes so far, and when.
    #[must_use]
    pub fn acts(&self) -> Vec<(Instant, usize, Act)> {
        lock(&self.acts).clone()
    }

    /// Masters whose process ended by itself, with how: each is told once.
    ///
    /// # Errors
    /// When a process cannot be asked.
    pub fn ended(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        for index in 0..self.masters.len() {
            if let Err(error) = self.masters[index].check_alive() {
                let what = error.downcast::<Broke>()?.0;
                self.masters[index].process = None;
                self.note(index, Act::Ended);
                match self.may_end.get_mut(&index) {
                    Some(said) => *said = Some(what),
                    None => ended.push(what),
                }
            }
        }
        Ok(ended)
    }

    /// Takes back every fault, whatever it was: links healed, hanging processes woken, dead ones started.
    ///
    /// # Errors
    /// The first thing that could not be taken back; all were tried.
    pub fn restore(&mut self) -> anyhow::Result<()> {
        let mut done = self.network.as_ref().map_or(Ok(()), Network::heal);
        let back = self.restore_host();
        done = done.and(back);
        for master in std::mem::take(&mut self.damaged).into_keys() {
            // Who runs on it has come to terms with it.
            self.may_end.remove(&master);
        }
        for master in 0..self.masters.len() {
            let back = match self.masters[master].process {
                Some(_) => self.signal(master, Signal::CONT),
                None if self.unjoined.contains(&master) => Ok(()),
                None => self.restart(master),
            };
            done = done.and(back);
        }
        done
    }

    /// Waits until all answer `/readyz`.
    ///
    /// # Errors
    /// When one is dead, or not ready within [`READY_MAX`].
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        for index in 0..self.count {
            while !is_ready(self.masters[index].api, &self.tls).await {
                self.masters[index].check_alive()?;
                if begin.elapsed() > READY_MAX {
                    let master = &self.masters[index];
                    let text = format!(
                        "{} was not ready within {READY_MAX:?} after a fault; see {}",
                        master.name,
                        master.log.display()
                    );
                    bail!(Broke(text));
                }
                tokio::time::sleep(super::POLL).await;
            }
        }
        Ok(())
    }
}

impl Master {
    /// Waits until it answers for the first time; the first of all writes the kubeconfig on its way.
    async fn first_ready(
        &mut self,
        kubeconfig: &Path,
        tls: &mut Option<Arc<Credentials>>,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            if tls.is_none() && kubeconfig.exists() {
                *tls = Some(Arc::new(Credentials::read(kubeconfig)?.1));
            }
            if let Some(tls) = tls
                && is_ready(self.api, tls).await
            {
                return Ok(());
            }
            self.check_alive()?;
            if begin.elapsed() > READY_MAX {
                let log = self.log.display();
                bail!("{} was not ready within {READY_MAX:?}; see {log}", self.name);
            }
            tokio::time::sleep(super::POLL).await;
        }
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
        if let Some(status) = ended {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(5)..].join("\n");
            bail!(Broke(format!("{} ended by itself ({status}):\n{tail}", self.name)));
        }
        Ok(())
    }
}

/// Who was started, and who runs the older program at first.
fn beginning(masters: &[Master]) -> (Mutex<Acts>, BTreeSet<usize>) {
    let begun = masters.iter().enumerate().filter(|(_, master)| master.process.is_some());
    let acts = begun.map(|(master, _)| (Instant::now(), master, Act::Started)).collect();
    let older = masters.iter().enumerate().filter(|(_, master)| master.is_older);
    (Mutex::new(acts), older.map(|(master, _)| master).collect())
}

/// One pipe for each master, when the scenario blocks logs.
fn log_pipes(scenario: &Scenario, directory: &Path) -> anyhow::Result<Vec<LogPipe>> {
    if !scenario.schedule.iter().any(|step| step.fault == Fault::LogBlocked) {
        return Ok(Vec::new());
    }
    let log = |number| LogPipe::make(&directory.join(format!("m{number}.log")));
    (1..=scenario.masters).map(log).collect()
}

/// Where a process writes: its pipe, or its log file.
fn sinks(pipe: Option<&LogPipe>, log: &Path) -> anyhow::Result<(Stdio, Stdio)> {
    if let Some(pipe) = pipe {
        return pipe.ends();
    }
    let open = || OpenOptions::new().create(true).append(true).open(log);
    Ok((open()?.into(), open()?.into()))
}

fn spawn(
    binary: &Path,
    arguments: &[String],
    environment: Vec<(&'static str, OsString)>,
    (out, err): (Stdio, Stdio),
    (network, index): (Option<&Network>, usize),
) -> anyhow::Result<Child> {
    let mut command = match network {
        Some(network) if arguments.first().is_some_and(|verb| verb == "agent") => {
            agents::command(&network.namespace(index), binary)
        }
        Some(network) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &network.namespace(index)]).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {}", binary.display()))
}

/// What a master is started with.
fn arguments(
    (name, data): (&str, &Path),
    (api, peer, advertise): (SocketAddr, SocketAddr, IpAddr),
    (kubeconfig, scenario): (&Path, &Scenario),
) -> Vec<String> {
    let mut arguments = vec![
        "server".to_owned(),
        format!("--name={name}"),
        format!("--data={}", data.display()),
        format!("--listen={api}"),
        format!("{PEER_LISTEN}{peer}"),
        format!("--advertise={advertise}"),
        format!("--kubeconfig={}", kubeconfig.display()),
    ];
    if scenario.is_short_lived() {
        arguments.push(format!("--certificate-lifetime={}s", SHORT_LIVED.as_secs()));
    }
    arguments
}

/// Whether each master has a program to run.
fn programs(options: &Options) -> anyhow::Result<()> {
    if options.older.is_none() && !options.scenario.older.is_empty() {
        bail!("the scenario has masters of an older program: give it with --older-binary");
    }
    Ok(())
}

/// The library in the masters' processes, when the scenario needs it and the host can have it.
fn shims(
    binary: &Path,
    directory: &Path,
    roots: &[PathBuf],
    scenario: &Scenario,
) -> anyhow::Result<Option<Shims>> {
    if !scenario.needs(Need::Shim) || Shims::possible(binary).is_err() {
        return Ok(None);
    }
    let journals = scenario.schedule.iter().any(|step| step.fault == Fault::PowerLoss);
    Shims::make(directory, roots, journals).map(Some)
}

/// The directories through which masters are told where to end, when the scenario needs it and the program can.
fn points(binary: &Path, directory: &Path, scenario: &Scenario) -> anyhow::Result<Option<Points>> {
    // With them snapshots are taken sooner, and who is cut off has not to be so for so long.
    let falls = scenario.schedule.iter().any(|step| step.fault == Fault::FallBehind);
    if !(falls || scenario.needs(Need::Points)) || Points::possible(binary).is_err() {
        return Ok(None);
    }
    let bytes = if falls { FALL_BEHIND_SNAPSHOT_BYTES } else { POINTS_SNAPSHOT_BYTES };
    Points::make(directory, scenario.masters, bytes).map(Some)
}

/// What a master is started with.
fn environment(
    shims: Option<&Shims>,
    points: Option<&Points>,
    master: usize,
) -> Vec<(&'static str, OsString)> {
    let shims = shims.into_iter().flat_map(|shims| shims.environment(master));
    shims.chain(points.into_iter().flat_map(|points| points.environment(master))).collect()
}

async fn token(binary: &Path, data: &Path, role: &str) -> anyhow::Result<String> {
    let output = Command::new(binary)
        .args(["token", "create"])
        .arg(format!("--role={role}"))
        .arg(format!("--data={}", data.display()))
        .output()
        .await?;
    if !output.status.success() {
        bail!("quorate token create: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
