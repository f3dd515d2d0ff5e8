//! `quorate kubeconfig`: a kubeconfig for the administrator or another user, from a master's data directory.

use std::path::PathBuf;

use anyhow::Context;
use quorate_pki::{ClusterKeys, Subject};

use crate::data_dir;
use crate::kubeconfig::{Access, to_yaml};
use crate::master;
use crate::progress;

#[derive(Debug, clap::Args)]
pub struct KubeconfigArgs {
    /// Data directory of a master on this machine
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// URL of the API in the kubeconfig [default: the master's own address]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Name of cluster, user and context in the kubeconfig
    #[arg(long, visible_alias = "context", value_name = "NAME", default_value = "quorate")]
    name: String,
    /// Merge it into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// User name in the client certificate
    #[arg(long, value_name = "NAME", default_value = "kubernetes-admin")]
    user: String,
    /// Group in the client certificate; system:masters may do everything
    /// [default: system:masters for the administrator, none for others]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

pub fn run(args: KubeconfigArgs) -> anyhow::Result<()> {
    let data = match args.data {
        Some(data) => data,
        None => super::server::found_data_dir()?,
    };
    let cluster = data_dir::read_cluster(&data)?
        .with_context(|| format!("{} is not the data directory of a master", data.display()))?;
    let keys = ClusterKeys::load(&data.join("pki"))?;
    let group = match args.group {
        Some(group) => group,
        None if args.user == master::ADMIN => master::ADMIN_GROUP.to_owned(),
        None => String::new(),
    };
    let subject = Subject::Client { name: args.user, group };
    let server = args.server.unwrap_or_else(|| format!("https://{}", cluster.api_address));
    let access = Access {
        name: args.name,
        server,
        ca_pem: keys.cluster.certificate_pem().to_owned(),
        client: keys.cluster.issue(&subject, jiff::Timestamp::now())?,
    };
    match args.kubeconfig {
        None => progress::say_raw(&to_yaml(&access.document())?),
        Some(file) => access.write(&file)?,
    }
    Ok(())
}
