//! `quorate kubeconfig`: an admin kubeconfig from a master's data directory.

use std::path::PathBuf;

use anyhow::Context;
use quorate_pki::ClusterKeys;

use crate::data_dir;
use crate::kubeconfig::{Access, to_yaml};
use crate::master;
use crate::progress;

#[derive(Debug, clap::Args)]
pub struct KubeconfigArgs {
    /// Data directory of a master on this machine
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA")]
    data: Option<PathBuf>,
    /// URL of the API in the kubeconfig [default: the master's own address]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Name of cluster, user and context
    #[arg(long, value_name = "NAME", default_value = "quorate")]
    name: String,
    /// Merge it into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub fn run(args: KubeconfigArgs) -> anyhow::Result<()> {
    let data = match args.data {
        Some(data) => data,
        None => super::server::found_data_dir()?,
    };
    let cluster = data_dir::read_cluster(&data)?
        .with_context(|| format!("{} is not the data directory of a master", data.display()))?;
    let keys = ClusterKeys::load(&data.join("pki"))?;
    let client = master::admin_certificate(&keys, jiff::Timestamp::now())?;
    let server = args.server.unwrap_or_else(|| format!("https://{}", cluster.api_address));
    let access = Access {
        name: &args.name,
        server: &server,
        ca_pem: keys.cluster.certificate_pem(),
        client: &client,
    };
    match args.kubeconfig {
        None => progress::say_raw(&to_yaml(&access.document())?),
        Some(file) => access.write(&file)?,
    }
    Ok(())
}
