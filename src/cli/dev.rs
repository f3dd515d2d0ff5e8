//! `quorate dev`: a whole cluster in one process.

use anyhow::Context;

use super::server::{default_data_dir, wait_and_stop, write_kubeconfig};
use crate::config::{self, Options};
use crate::data_dir::DataDir;
use crate::logging;
use crate::master::{self, Master, Settings};
use crate::node;
use crate::progress::Progress;

pub fn run(options: Options) -> anyhow::Result<()> {
    let options = options.with_file()?;
    // Steps are shown; of the log only what somebody should look at.
    logging::start(&options, Some("warn"))?;
    super::block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let mut progress = Progress::new(false);
    let mut settings = Settings::new(&options, "127.0.0.1:6443")?;
    settings.face_pods();
    let path = options.data.clone().unwrap_or_else(|| default_data_dir("dev"));
    progress.line(&format!(
        "quorate {} (Kubernetes {})",
        env!("CARGO_PKG_VERSION"),
        super::version::KUBERNETES
    ));
    let data = DataDir::claim(&path)?;
    progress.done(&format!("data directory {}", data.path().display()));
    let master = Master::start(&data, &settings, &mut progress).await?;
    master.ready().await?;
    progress.done("consistent reads");
    let local = local_address(&master);
    let kubeconfig = options
        .kubeconfig
        .clone()
        .or_else(config::default_kubeconfig)
        .context("where should the kubeconfig be written? Give --kubeconfig FILE")?;
    write_kubeconfig(&master, &local, &kubeconfig)?;
    progress.done(&format!("kubeconfig {}, context \"quorate\"", kubeconfig.display()));
    let name = settings.name.clone();
    let credentials = node::local_credentials(&master, &local, &name)?;
    let agent = node::Node::start(&data, &options, &name, credentials).await?;
    progress.done(&format!("node {name:?} with the {} runtime", agent.runtime()));
    progress.line(&format!("ready after {} ms. Try:", progress.total_ms()));
    for command in [
        "kubectl create deployment web --image=docker.io/library/busybox --replicas=3 -- sleep 3600",
        "kubectl rollout status deployment/web",
        "kubectl get pods -o wide",
    ] {
        progress.line(&format!("  {command}"));
    }
    wait_and_stop(master, Some(agent), progress).await
}

/// The API as this machine reaches it.
fn local_address(master: &Master) -> String {
    if master.api_address.ip().is_unspecified() {
        return master::host_port("127.0.0.1", master.api_address.port());
    }
    master.api_address.to_string()
}
