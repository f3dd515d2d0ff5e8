//! The node agent as part of this binary: who it is, and with which runtime it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use quorate_node_agent::builtin::image::archive::import;
use quorate_node_agent::builtin::image::{ImageStore, Reference};
use quorate_node_agent::builtin::{BuiltinConfig, BuiltinRuntime};
use quorate_node_agent::cri::CriRuntime;
use quorate_node_agent::network::PodNetwork;
use quorate_node_agent::{
    Agent, Config, Paths, Thresholds, Tls, keep_masters, known_masters, runtime_auto_detect,
};
use quorate_pki::facts::signed_by;
use quorate_pki::ring::Circle;
use quorate_pki::{authority, files};

use crate::cli::{ImagesCommand, default_data_dir};
use crate::config::{Options, Runtime};
use crate::data_dir::{self, DataDir};
use crate::join::{self, NodeCredentials};
use crate::master::Master;
use crate::node_renewal::{self, CERTIFICATE, NodeRenewal};
use crate::progress::{self, Progress};
use crate::settings::{host_name, split};

/// The end of a certificate in a PEM text.
const CERTIFICATE_ENDS: &str = "-----END CERTIFICATE-----";

/// Containers, their volumes and their network are root's to make: whoever else starts a node is told so before
/// anything is made or a token spent.
pub fn refuse_strangers() -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "a node runs containers, which needs root: start as root (sudo). `quorate server`, a master without a node, \
         needs no root"
    )
}

/// What the node is called: what its certificate says, once it has one, else as asked for, else as the machine.
pub fn name(data: &DataDir, options: &Options) -> anyhow::Result<String> {
    let certificate = data.pki().join(CERTIFICATE);
    let wanted = options.name.clone();
    if !certificate.exists() {
        let name = wanted.map_or_else(host_name, Ok)?;
        join::check_name(&name)?;
        return Ok(name);
    }
    let known = authority::common_name(&files::read(&certificate)?);
    let known = known.as_deref().and_then(|user| user.strip_prefix("system:node:"));
    let known = known.with_context(|| format!("{} is not a node's", certificate.display()))?;
    if wanted.is_some_and(|wanted| wanted != known) {
        bail!(
            "{} belongs to node {known:?}: leave --name away, or give the other node a directory of its own with --data",
            data.path().display()
        );
    }
    Ok(known.to_owned())
}

/// How little may be free on the node: as asked for, else `usual`.
pub fn thresholds(options: &Options, usual: Thresholds) -> anyhow::Result<Thresholds> {
    match options.eviction_hard.as_deref() {
        Some(text) => text.parse().with_context(|| format!("--eviction-hard {text:?}")),
        None => Ok(usual),
    }
}

/// Who the node is: as its directory says, or as the masters certify it.
pub async fn credentials(
    data: &DataDir,
    options: &Options,
    name: &str,
    progress: &Progress,
) -> anyhow::Result<NodeCredentials> {
    let servers = split(options.server.as_deref());
    let pki = data.pki();
    if pki.join(CERTIFICATE).exists() {
        let mut known = NodeCredentials { masters: servers.clone(), ..node_renewal::read(&pki)? };
        known.masters.extend(known_masters(data.path()));
        // One that ends soon is replaced when a token is at hand, and still counts when that fails. So is one of
        // authorities that the token is not for: they may be gone.
        let (ends_soon, has_ended) = age(&known.certificate_pem);
        let renewed = match options.join_token()? {
            Some(token) if ends_soon || !is_of(&known, token.pin()) => {
                Some(join(data, options, name, servers, progress).await)
            }
            _ => None,
        };
        match renewed {
            Some(Ok(credentials)) => return Ok(credentials),
            Some(Err(error)) if has_ended => return Err(error),
            Some(Err(error)) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the node's certificate was not renewed"
                );
            }
            None if has_ended => bail!(
                "the certificate of node {name:?} has expired: start once with --server and --token"
            ),
            None => {}
        }
        if known.masters.is_empty() {
            bail!("--server URL[,URL...] is needed: {} names no masters", data.path().display());
        }
        return Ok(known);
    }
    join(data, options, name, servers, progress).await
}

/// Has the masters certify the node, and keeps what they say.
async fn join(
    data: &DataDir,
    options: &Options,
    name: &str,
    servers: Vec<String>,
    progress: &Progress,
) -> anyhow::Result<NodeCredentials> {
    let pki = data.pki();
    if servers.is_empty() {
        bail!("--server URL[,URL...] is needed: where are the masters?");
    }
    let token = options.join_token()?.context(
        "--token is needed to join: `quorate token create --role agent` on a master prints one",
    )?;
    let mut told = |why: &str| progress.line(&format!("    {why}"));
    let mut credentials = join::join_node(&servers, &token, name, &mut told).await?;
    files::create_private_dir(&pki)?;
    // Never a key beside the certificate of another one.
    if let Err(error) = std::fs::remove_file(pki.join(CERTIFICATE))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| pki.join(CERTIFICATE).display().to_string());
    }
    node_renewal::keep_joined(&pki, &credentials)?;
    credentials.masters.extend(servers);
    keep_masters(data.path(), &credentials.masters);
    Ok(credentials)
}

/// Whether the authority that a token pins is known, and has signed the node's certificate: one that is believed beside
/// it may be gone by now.
fn is_of(known: &NodeCredentials, pin: &str) -> bool {
    known.ca_pem.split_inclusive(CERTIFICATE_ENDS).any(|one| {
        let hash = authority::der_of_pem(one).and_then(|der| authority::public_key_hash(&der));
        hash.is_ok_and(|hash| hash == pin) && signed_by(&known.certificate_pem, one)
    })
}

/// Whether a certificate ends soon, and whether it has.
fn age(certificate_pem: &str) -> (bool, bool) {
    let now = jiff::Timestamp::now();
    (authority::wants_renewal(certificate_pem, now), authority::has_ended(certificate_pem, now))
}

/// The node beside a master in the same process.
pub fn local_credentials(
    master: &Master,
    address: &str,
    name: &str,
) -> anyhow::Result<NodeCredentials> {
    let certs = &master.certs;
    let used = certs.now();
    let (ring, mark) = (&used.ring, used.mark());
    let (subject, now) = (join::node_subject(name), jiff::Timestamp::now());
    let issued = ring.keys().cluster.issue_for(&subject, now, certs.lifetime)?;
    Ok(NodeCredentials {
        ca_pem: ring.bundle_pem(Circle::Cluster),
        certificate_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
        masters: vec![format!("https://{address}")],
        mark,
    })
}

/// A running node agent.
pub struct Node {
    agent: Agent,
    runtime: String,
}

impl Node {
    /// Starts the agent.
    pub async fn start(
        data: &DataDir,
        options: &Options,
        name: &str,
        credentials: NodeCredentials,
        thresholds: Thresholds,
    ) -> anyhow::Result<Self> {
        let mut config = Config::new(name, data.path());
        // Beside a master the certificate is made at each start.
        let kept = data.cluster()?.is_none().then(|| data.pki());
        let is_agent = kept.is_some();
        let mut renewal = NodeRenewal::new(name, kept, &credentials);
        if is_agent {
            renewal = renewal.joining_again(options, &credentials.masters);
        }
        config.renewal = Some(Arc::new(renewal));
        config.masters = credentials.masters;
        config.tls = Some(Tls {
            ca_pem: credentials.ca_pem,
            certificate_pem: credentials.certificate_pem,
            key_pem: credentials.key_pem,
        });
        config.labels = labels(options.node_labels.as_deref())?;
        config.thresholds = thresholds;
        let socket = options.containerd_socket.as_deref();
        let Chosen { runtime, called, network, is_cri } =
            choose_runtime(options.runtime, socket, data).await?;
        config.network = Some(network);
        if is_cri {
            let directory = options.cni_conf_dir.clone();
            config.cni_conf_dir = Some(directory.unwrap_or_else(|| "/etc/cni/net.d".into()));
        }
        let agent = Agent::start(config, runtime).await.context("the node agent cannot start")?;
        Ok(Self { agent, runtime: called })
    }

    /// What the container runtime is called.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// Stops the agent; its pods keep running and are adopted by the next one.
    pub async fn shutdown(self) {
        self.agent.shutdown().await;
    }
}

/// A container runtime that was chosen.
struct Chosen {
    runtime: Arc<dyn quorate_node_agent::runtime::Runtime>,
    /// What people call it.
    called: String,
    network: PodNetwork,
    is_cri: bool,
}

async fn choose_runtime(
    wanted: Option<Runtime>,
    socket: Option<&Path>,
    data: &DataDir,
) -> anyhow::Result<Chosen> {
    let usual = Path::new("/run/containerd/containerd.sock");
    match wanted.unwrap_or(Runtime::Auto) {
        Runtime::Containerd => {
            let socket = socket.unwrap_or(usual);
            if !socket.exists() {
                bail!(
                    "there is no container runtime at {}: start containerd, or give \
                     --containerd-socket PATH",
                    socket.display()
                );
            }
            cri(CriRuntime::new(socket), format!("containerd ({})", socket.display()), data)
        }
        Runtime::Auto => match runtime_auto_detect(socket).await {
            Some(runtime) => cri(runtime, "containerd".to_owned(), data),
            None => builtin(data).await,
        },
        Runtime::Builtin => builtin(data).await,
    }
}

fn cri(runtime: CriRuntime, called: String, data: &DataDir) -> anyhow::Result<Chosen> {
    let network = PodNetwork::new(data.path(), &data.agent().join("network"))?;
    Ok(Chosen { runtime: Arc::new(runtime), called, network, is_cri: true })
}

async fn builtin(data: &DataDir) -> anyhow::Result<Chosen> {
    let config = BuiltinConfig::new(&data.agent());
    let runtime = BuiltinRuntime::open(config)
        .await
        .context("the built-in container runtime cannot start")?;
    let network = runtime.network().clone();
    Ok(Chosen { runtime: Arc::new(runtime), called: "built-in".to_owned(), network, is_cri: false })
}

fn labels(text: Option<&str>) -> anyhow::Result<BTreeMap<String, String>> {
    split(text)
        .into_iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => bail!("--node-labels {label:?}: give key=value"),
        })
        .collect()
}

/// `quorate agent images …`.
pub fn images(command: ImagesCommand) -> anyhow::Result<()> {
    match command {
        ImagesCommand::Import { file, data, name } => {
            let data = images_data_dir(data)?;
            let store = image_store(&data)?;
            let name = name.as_deref().map(Reference::parse).transpose()?;
            for image in import(&store, &file, name.as_ref())? {
                let tags: Vec<&str> = image.tags.iter().map(String::as_str).collect();
                let (tags, data) = (tags.join(" "), data.display());
                progress::say(&format!("imported {tags} {} into {data}", image.id));
            }
        }
        ImagesCommand::List { data } => {
            let rows: Vec<Vec<String>> = image_store(&images_data_dir(data)?)?
                .list()?
                .iter()
                .map(|image| {
                    let tags: Vec<&str> = image.tags.iter().map(String::as_str).collect();
                    let size = image.size_bytes().div_ceil(1024 * 1024);
                    vec![tags.join(","), image.id.clone(), format!("{size} MiB")]
                })
                .collect();
            progress::say_raw(&progress::table(&["IMAGE", "ID", "SIZE"], &rows));
        }
        ImagesCommand::Remove { image, data } => {
            let store = image_store(&images_data_dir(data)?)?;
            store.remove(&image, &BTreeSet::new())?;
            progress::say(&format!("removed {image}"));
        }
    }
    Ok(())
}

fn image_store(data: &Path) -> anyhow::Result<ImageStore> {
    Ok(ImageStore::open(&Paths::new(data).root().join("images"))?)
}

/// Whose images: those of the directory that was given, else of the agent or dev cluster in its usual place. Of both
/// the one that runs.
fn images_data_dir(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(data) = given {
        let outer = data.parent().filter(|_| data.join("images").is_dir());
        if let Some(outer) = outer.filter(|outer| outer.join("quorate.lock").exists()) {
            bail!(
                "{} is a part of a data directory: give --data {}",
                data.display(),
                outer.display()
            );
        }
        return Ok(data);
    }
    let usual = ["agent", "dev"].map(default_data_dir);
    let running: Vec<&PathBuf> = usual.iter().filter(|data| data_dir::is_held(data)).collect();
    let there: Vec<&PathBuf> = usual.iter().filter(|data| data.join("agent").is_dir()).collect();
    match (running.as_slice(), there.as_slice()) {
        ([one], _) | ([], [one]) => Ok((*one).clone()),
        ([], []) => Ok(default_data_dir("agent")),
        _ => bail!("both an agent and a dev cluster are on this machine: choose with --data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_pki::Authority;

    #[test]
    fn a_token_is_of_the_authority_that_signed_the_certificate() {
        let now = jiff::Timestamp::now();
        let [old, new] = ["old", "new"].map(|name| Authority::generate(name, now).unwrap());
        let pin = |authority: &Authority| {
            let der = authority::der_of_pem(authority.certificate_pem()).unwrap();
            authority::public_key_hash(&der).unwrap()
        };
        let issued = old.issue(&join::node_subject("n"), now).unwrap();
        let known = NodeCredentials {
            ca_pem: format!("{}{}", new.certificate_pem(), old.certificate_pem()),
            certificate_pem: issued.certificate_pem,
            key_pem: issued.key_pem,
            masters: Vec::new(),
            mark: 0,
        };
        assert!(is_of(&known, &pin(&old)));
        assert!(!is_of(&known, &pin(&new)), "it is believed, and the certificate is another's");
    }
}
