//! A simulated node: the real agent on a machine that runs nothing, with a clock of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::SignedDuration;
use quorate_node_agent::pretend::Pretend;
use quorate_node_agent::{Agent, Config, Dial, Io, Usage};
use tokio::sync::oneshot;

use super::being::{self, Being, TRUE_RATE};
use super::host::{Outbox, Sent};
use super::node;
use super::pipe::Pipe;
use crate::real::kube::agents;
use crate::real::kube::image;

/// Endpoints from here on are agents; those before are masters.
pub(super) const AGENTS: usize = 1000;

/// One node.
#[derive(Debug)]
pub(super) struct AgentNode {
    /// Its number among all who send.
    pub(super) endpoint: usize,
    pub(super) name: String,
    /// What runs on it: outlives the agent.
    pub(super) containers: Pretend,
    pub(super) life: Option<Being>,
    pub(super) rate_permille: u64,
    pub(super) wrong: SignedDuration,
    directory: PathBuf,
}

/// What every node's machine has.
fn usage() -> Usage {
    Usage {
        cpus: 8,
        memory_bytes: 32 << 30,
        memory_free_bytes: 24 << 30,
        disk_bytes: 200 << 30,
        disk_free_bytes: 150 << 30,
        pids: 100,
        pids_max: 1 << 22,
        kernel: "6.1.0".to_owned(),
        os_image: "Simulated".to_owned(),
        ..Usage::default()
    }
}

impl AgentNode {
    pub(super) fn new(index: usize, directory: &Path) -> Self {
        let name = agents::node(index);
        let containers = Pretend::default();
        containers.add_image(image::NAME);
        let number = u8::try_from(index + 1).unwrap_or(u8::MAX);
        containers.addresses_from(Ipv4Addr::new(10, 100, number, 0));
        Self {
            endpoint: AGENTS + index,
            directory: directory.join(&name),
            name,
            containers,
            life: None,
            rate_permille: TRUE_RATE,
            wrong: SignedDuration::ZERO,
        }
    }

    /// Begins a life: the agent finds what runs, and dials.
    pub(super) fn start(
        &mut self,
        now: Duration,
        masters: usize,
        outbox: &Outbox,
    ) -> anyhow::Result<()> {
        let being = Being::new(now, self.wrong)?;
        let mut config = Config::new(&self.name, &self.directory);
        config.masters =
            (0..masters).map(|master| format!("https://{}", node::api_address(master))).collect();
        config.usage = Some(usage());
        let last = u8::try_from(self.endpoint - AGENTS + 1).unwrap_or(u8::MAX);
        config.node_ips = vec![Ipv4Addr::new(10, 0, 1, last).into()];
        config.resolv_conf = self.directory.join("resolv.conf");
        config.dial = Some(Arc::new(SimDial { from: self.endpoint, outbox: outbox.clone() }));
        let runtime = Arc::new(self.containers.clone());
        being.spawn(async move {
            match Agent::start(config, runtime).await {
                // It lives as long as its runtime.
                Ok(_agent) => std::future::pending().await,
                Err(error) => panic!("a simulated agent does not start: {error}"),
            }
        });
        self.life = Some(being);
        Ok(())
    }

    /// Ends it, at once; with its machine, what it runs ends, too.
    pub(super) fn crash(&mut self, now: Duration, power: bool) -> bool {
        let Some(life) = self.life.take() else { return false };
        life.end();
        if power {
            self.containers.reboot(being::wall(now));
        }
        true
    }

    pub(super) fn run(&mut self, now: Duration, tick: Duration) {
        if let Some(life) = &mut self.life {
            life.run(now, tick, self.rate_permille);
        }
    }
}

/// Asks the world for connections.
#[derive(Debug)]
struct SimDial {
    from: usize,
    outbox: Outbox,
}

/// Whoever waits for a connection.
pub(super) type Dialling = oneshot::Sender<Option<Pipe>>;

impl Dial for SimDial {
    fn dial(&self, host: &str, _: u16) -> BoxFuture<'static, std::io::Result<Box<dyn Io>>> {
        let to = node::master_of(host);
        let (answer, answered) = oneshot::channel();
        let (from, outbox) = (self.from, self.outbox.clone());
        Box::pin(async move {
            if let Some(to) = to {
                outbox.send(Sent::Dials { from, to, answer });
            }
            match answered.await {
                Ok(Some(pipe)) => Ok(Box::new(pipe) as Box<dyn Io>),
                Ok(None) | Err(_) => Err(std::io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}
