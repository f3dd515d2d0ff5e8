//! Node agents beside the masters: further processes, which are killed, paused and restarted in the same way.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use tokio::process::Command;

use super::{Master, Masters, token};
use crate::limits::READY_MAX;
use crate::real::cluster::Cluster as _;
use crate::real::kube::agents::import;

impl Masters {
    /// Starts an agent on a directory of its own, which is given the image, in the next namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn add_agent(
        &mut self,
        name: &str,
        data: &Path,
        archive: &Path,
    ) -> anyhow::Result<()> {
        import(&self.binary, data, archive).await?;
        let first = &self.masters.first().context("a cluster has at least one master")?;
        let token = token(&self.binary, &first.data, "agent").await?;
        let servers: Vec<String> =
            (0..self.count()).map(|master| format!("https://{}", self.api(master))).collect();
        let arguments = vec![
            "agent".to_owned(),
            format!("--name={name}"),
            format!("--data={}", data.display()),
            format!("--server={}", servers.join(",")),
            format!("--token={token}"),
            "--runtime=builtin".to_owned(),
            // Faults fill disks of masters; how full this host's is proves nothing.
            "--eviction-hard=memory.available<100Mi".to_owned(),
        ];
        let log = first.log.with_file_name(format!("{name}.log"));
        let index = self.masters.len();
        // It has no API; where its node is, the masters know.
        let api = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (name, data) = (name.to_owned(), data.to_owned());
        let is_older = false;
        let (clients, peer, process) = (api, [api; 2], None);
        self.masters.push(Master {
            name,
            api,
            clients,
            data,
            log,
            peer,
            arguments,
            is_older,
            process,
        });
        self.restart(index)
    }

    /// Waits until the node of each agent is ready.
    ///
    /// # Errors
    /// When an agent ended, or not all are ready within [`READY_MAX`].
    pub async fn nodes_ready(&mut self) -> anyhow::Result<()> {
        let (begin, agents) = (Instant::now(), self.agents());
        loop {
            let status = self.status(0).await.unwrap_or_default();
            let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if nodes.iter().filter(|node| node["status"] == "Ready").count() >= agents {
                return Ok(());
            }
            for agent in &mut self.masters[self.count..] {
                agent.check_alive()?;
            }
            if begin.elapsed() > READY_MAX {
                anyhow::bail!("not all {agents} nodes were ready within {READY_MAX:?}");
            }
            tokio::time::sleep(crate::real::POLL).await;
        }
    }
}

/// A process in a network namespace, and in no other of its own: an agent needs the host's control groups.
pub(super) fn command(namespace: &str, binary: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(binary);
    command
}
