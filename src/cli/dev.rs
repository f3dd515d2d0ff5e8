//! `quorate dev`: a whole cluster in one process.

use quorate_node_agent::Thresholds;

use super::server::{
    admin_access, default_data_dir, kubeconfig_target, until_ready, wait_and_stop,
};
use crate::config::Options;
use crate::data_dir::DataDir;
use crate::kubeconfig;
use crate::logging;
use crate::master::Master;
use crate::node;
use crate::open_files;
use crate::progress::Progress;
use crate::settings::{Settings, host_port};
use crate::stop::Stop;

pub fn run(options: Options) -> anyhow::Result<()> {
    let options = options.with_file()?;
    logging::start(&options, Some(logging::WARNINGS))?;
    node::refuse_strangers()?;
    open_files::raise();
    super::block_on(serve(options))
}

async fn serve(mut options: Options) -> anyhow::Result<()> {
    let stop = Stop::listen()?;
    let mut progress = Progress::new();
    progress.line(&format!(
        "quorate {} (Kubernetes {})",
        env!("CARGO_PKG_VERSION"),
        super::version::KUBERNETES
    ));
    // In the environment or a shared file they are for others.
    (options.join, options.token, options.token_file) = (None, None, None);
    let mut settings = Settings::new(&options, "127.0.0.1:6443")?;
    // Before anything is started: a kubeconfig that cannot be merged into ends the start.
    let target = kubeconfig_target(&options).map(|file| kubeconfig::check(&file).map(|()| file));
    let Some(kubeconfig) = target.transpose()? else {
        anyhow::bail!("where should the kubeconfig be written? Give --kubeconfig FILE");
    };
    // A developer's disk may be as full as it likes.
    let thresholds = node::thresholds(&options, Thresholds::without_disk())?;
    let path = options.data.clone().unwrap_or_else(|| default_data_dir("dev"));
    let data = DataDir::claim(&path)?;
    data.refuse_agents()?;
    settings.with_past(&options, &data)?;
    settings.for_dev(&data)?;
    progress.done(&format!("data directory {}", data.path().display()));
    let master = stop.or(Master::start(&data, &options, &settings, &mut progress)).await?;
    if !until_ready(&stop, &master, &mut progress).await? {
        master.shutdown().await;
        return Ok(());
    }
    let start = async {
        let local = local_address(&master);
        let access = admin_access(&master, &options, &local)?;
        access.write(&kubeconfig)?;
        let context = &access.name;
        progress.done(&format!("kubeconfig {}, context {context:?}", kubeconfig.display()));
        let credentials = node::local_credentials(&master, &local, &settings.name)?;
        let agent =
            node::Node::start(&data, &options, &settings.name, credentials, thresholds).await?;
        progress.done(&format!("node {:?} with the {} runtime", settings.name, agent.runtime()));
        Ok(agent)
    };
    let agent = stop.or(start).await?;
    progress.line(&format!("ready after {} ms. Try:", progress.total_ms()));
    for command in [
        "kubectl create deployment web --image=docker.io/library/busybox --replicas=3 -- sleep 3600",
        "kubectl rollout status deployment/web",
        "kubectl get pods -o wide",
    ] {
        progress.line(&format!("  {command}"));
    }
    wait_and_stop(&stop, master, Some(agent), progress, std::future::pending()).await.map(drop)
}

/// The API as this machine reaches it.
fn local_address(master: &Master) -> String {
    if master.api_address.ip().is_unspecified() {
        return host_port("127.0.0.1", master.api_address.port());
    }
    master.api_address.to_string()
}
