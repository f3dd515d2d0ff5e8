//! `quorate kubeconfig`: a kubeconfig for the administrator or another user, from a master's data directory; and a
//! forwarder that keeps one of it working whichever master is lost.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quorate_pki::ring::Circle;
use quorate_pki::{KeyRing, Subject};

use crate::client::ApiClient;
use crate::data_dir;
use crate::kubeconfig::{self, Access, to_yaml, user_of};
use crate::master;
use crate::open_files;
use crate::progress;
use crate::proxy::{Proxy, SERVER_NAME};
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
pub struct KubeconfigArgs {
    /// Data directory of a master on this machine
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// URL of the API in the kubeconfig [default: the master's own address]; with --proxy, where to look for masters
    /// first
    #[arg(long, value_name = "URL[,URL...]", value_delimiter = ',')]
    server: Vec<String>,
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
    /// Stay, and forward connections on this machine to a master that is ready: the kubeconfig then survives the loss
    /// of any of them
    #[arg(long)]
    proxy: bool,
    /// Where --proxy listens, on the loopback: a port, or an address with one; port 0 takes a free one
    #[arg(long, value_name = "PORT|ADDR", default_value = "127.0.0.1:0", value_parser = loopback, requires = "proxy")]
    listen: SocketAddr,
    /// With --proxy, away from the masters: take cluster and user of this kubeconfig's current context, instead of
    /// signing a certificate
    #[arg(long, value_name = "FILE", requires = "proxy", conflicts_with_all = ["data", "user", "group"])]
    from: Option<PathBuf>,
}

pub fn run(args: KubeconfigArgs) -> anyhow::Result<()> {
    if args.proxy {
        return super::block_on(forward(args));
    }
    let server = match args.server.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => bail!("a kubeconfig has one --server: give one, or --proxy to have all"),
    };
    write(&signed(&args, server)?, args.kubeconfig.as_deref())
}

/// With a new certificate, from a master's data directory.
fn signed(args: &KubeconfigArgs, server: Option<String>) -> anyhow::Result<Access> {
    let data = data_directory(args)?;
    let cluster = data_dir::read_cluster(&data)?
        .with_context(|| format!("{} is not the data directory of a master", data.display()))?;
    let ring = KeyRing::load(&data.join("pki"))?;
    let group = match &args.group {
        Some(group) => group.clone(),
        None if args.user == master::ADMIN => master::ADMIN_GROUP.to_owned(),
        None => String::new(),
    };
    let subject = Subject::Client { name: args.user.clone(), group };
    Ok(Access {
        name: args.name.clone(),
        server: server.unwrap_or_else(|| format!("https://{}", cluster.api_address)),
        server_name: None,
        ca_pem: ring.bundle_pem(Circle::Cluster),
        user: user_of(&ring.keys().cluster.issue(&subject, jiff::Timestamp::now())?),
    })
}

fn data_directory(args: &KubeconfigArgs) -> anyhow::Result<PathBuf> {
    match &args.data {
        Some(data) => Ok(data.clone()),
        None => super::server::found_data_dir(),
    }
}

fn write(access: &Access, file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        None => progress::say_raw(&to_yaml(&access.document())?),
        Some(file) => access.write(file)?,
    }
    Ok(())
}

/// Listens, writes the kubeconfig, and forwards until somebody asks to stop.
async fn forward(args: KubeconfigArgs) -> anyhow::Result<()> {
    // Each connection takes two.
    open_files::raise();
    let stop = Stop::listen()?;
    let first = args.server.first().map(String::as_str);
    let (mut access, client) = match &args.from {
        Some(file) => {
            let files = std::slice::from_ref(file);
            let client = ApiClient::of_kubeconfig(files, None, first)?;
            (kubeconfig::current(files, &args.name)?, client)
        }
        None => {
            let client = ApiClient::of_data_dir(&data_directory(&args)?, first)?;
            (signed(&args, None)?, client)
        }
    };
    let given = args.server.iter().map(|url| client.at(url)?.address());
    let seeds = match args.server.is_empty() {
        true => vec![client.address()?],
        false => given.collect::<anyhow::Result<_>>()?,
    };
    let proxy = Proxy::bind(args.listen).await?;
    access.server = proxy.url();
    access.server_name = Some(SERVER_NAME.to_owned());
    write(&access, args.kubeconfig.as_deref())?;
    progress::tell(&format!(
        "forwarding {} to the masters (first {}), context {:?}; Ctrl-C stops",
        access.server,
        seeds.join(", "),
        access.name
    ));
    proxy.run(client.named(SERVER_NAME), seeds, stop.requested()).await;
    Ok(())
}

/// An address on this machine's loopback, or a port of it.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let address = match text.parse::<u16>() {
        Ok(port) => SocketAddr::new(local, port),
        Err(_) => text
            .parse()
            .map_err(|_| "give a port, or an address such as 127.0.0.1:6445".to_owned())?,
    };
    if !address.ip().is_loopback() {
        return Err(
            "it listens for this machine only: give an address such as 127.0.0.1:6445".to_owned()
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_is_listened_on() {
        assert_eq!(loopback("6445"), Ok(SocketAddr::from(([127, 0, 0, 1], 6445))));
        assert_eq!(loopback("[::1]:0").unwrap().port(), 0);
        for wrong in ["0.0.0.0:6445", "10.0.0.1:1", "localhost", "70000"] {
            assert!(loopback(wrong).unwrap_err().contains("127.0.0.1:6445"), "{wrong}");
        }
    }
}
