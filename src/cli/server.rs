//! `quorate server` and `quorate agent`.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::config::{self, Options};
use crate::data_dir::{self, DataDir};
use crate::join;
use crate::kubeconfig::Access;
use crate::logging;
use crate::master::{self, Master, Settings};
use crate::node;
use crate::progress::Progress;

/// Where a command keeps its data when no --data is given.
pub fn default_data_dir(role: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/quorate").join(role);
    }
    #[allow(deprecated, reason = "std's own warning is about Windows")]
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("."));
    home.join(".quorate").join(role)
}

/// The data directory of a master on this machine, when there is exactly one in the usual places.
pub fn found_data_dir() -> anyhow::Result<PathBuf> {
    let candidates: Vec<PathBuf> = ["server", "dev"]
        .into_iter()
        .map(default_data_dir)
        .filter(|path| data_dir::read_cluster(path).is_ok_and(|cluster| cluster.is_some()))
        .collect();
    match candidates.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no master's data directory is in its usual place: give it with --data"),
        _ => bail!("both a server and a dev cluster are on this machine: choose with --data"),
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let options = options.with_file()?;
    logging::start(&options, None)?;
    super::block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let mut progress = Progress::new(false);
    let settings = Settings::new(&options, "0.0.0.0:6443")?;
    let path = options.data.clone().unwrap_or_else(|| default_data_dir("server"));
    progress.line(&format!("quorate server {:?} on {}", settings.name, path.display()));
    let data = DataDir::claim(&path)?;
    progress.done("data directory");
    let fresh = data.cluster()?.is_none();
    let master = Master::start(&data, &settings, &mut progress).await?;
    if let (true, Some((url, token))) = (fresh, &settings.join) {
        let follow = join::follow_master(url, token, master.cluster.node_id, |line| {
            progress.done(line);
        });
        tokio::select! {
            joined = follow => joined?,
            reason = master.fatal() => bail!("{reason}"),
            () = super::stopped() => {
                master.shutdown().await;
                bail!("stopped before the join was finished; starting again on the same --data goes on");
            }
        }
    } else if settings.join.is_none() {
        master.ready().await?;
        progress.done("consistent reads");
    }
    if fresh && settings.join.is_none() {
        let file = options.kubeconfig.clone().or_else(config::default_kubeconfig);
        if let Some(file) = file {
            write_kubeconfig(&master, &master.cluster.api_address, &file)?;
            progress.done(&format!("kubeconfig {}", file.display()));
        }
    }
    progress.line(&format!("ready after {} ms", progress.total_ms()));
    wait_and_stop(master, None, progress).await
}

/// Merges the admin's access into a kubeconfig file.
pub fn write_kubeconfig(
    master: &Master,
    address: &str,
    file: &std::path::Path,
) -> anyhow::Result<()> {
    let client = master::admin_certificate(&master.keys, jiff::Timestamp::now())?;
    let access = Access {
        name: "quorate",
        server: &format!("https://{address}"),
        ca_pem: master.keys.cluster.certificate_pem(),
        client: &client,
    };
    access.write(file)
}

/// Serves until Ctrl-C or SIGTERM, or until the store cannot go on.
pub async fn wait_and_stop(
    master: Master,
    agent: Option<node::Node>,
    mut progress: Progress,
) -> anyhow::Result<()> {
    let fatal = tokio::select! {
        () = super::stopped() => None,
        reason = master.fatal() => Some(reason),
    };
    if let Some(reason) = fatal {
        // Nobody knows what is on the disk now: leave at once, and start again from it.
        bail!("{reason}");
    }
    progress.line("stopping (pods keep running)");
    if let Some(agent) = agent {
        agent.shutdown().await;
        progress.done("node agent stopped");
    }
    master.shutdown().await;
    progress.done("master stopped");
    Ok(())
}

pub fn run_agent(options: Options) -> anyhow::Result<()> {
    let options = options.with_file()?;
    logging::start(&options, None)?;
    super::block_on(async {
        let mut progress = Progress::new(false);
        let path = options.data.clone().unwrap_or_else(|| default_data_dir("agent"));
        let name = options.name.clone().map_or_else(master::host_name, Ok)?;
        join::check_name(&name)?;
        progress.line(&format!("quorate agent {name:?} on {}", path.display()));
        let data = DataDir::claim(&path)?;
        progress.done("data directory");
        let credentials = node::credentials(&data, &options, &name).await?;
        progress.done("certificate");
        let node = node::Node::start(&data, &options, &name, credentials).await?;
        progress.done(&format!("node agent with the {} runtime", node.runtime()));
        super::stopped().await;
        progress.line("stopping (pods keep running)");
        node.shutdown().await;
        Ok(())
    })
    .context("the node agent ended")
}
