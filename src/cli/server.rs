//! `quorate server` and `quorate agent`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use quorate_node_agent::Thresholds;
use quorate_pki::JoinToken;

use crate::config::{self, Options};
use crate::data_dir::{self, DataDir};
use crate::join;
use crate::kubeconfig::{self, Access, user_of};
use crate::logging;
use crate::master::{self, Master};
use crate::node;
use crate::open_files;
use crate::progress::Progress;
use crate::restart::{self, Restart};
use crate::settings::Settings;
use crate::stop::Stop;

/// Somebody who waits for a quorum is told so after this.
const QUORUM_NOTICE: Duration = Duration::from_secs(3);

/// Who joins, and is reached by nobody, is told so after this.
const REACH_NOTICE: Duration = Duration::from_secs(15);

/// Where a command keeps its data when no --data is given.
pub fn default_data_dir(role: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/quorate").join(role);
    }
    #[allow(deprecated, reason = "std's own warning is about Windows")]
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("."));
    home.join(".quorate").join(role)
}

/// The data directory of a master that runs on this machine, when there is exactly one in the usual places.
pub fn running_data_dir() -> Option<PathBuf> {
    let running: Vec<PathBuf> =
        usual_data_dirs().into_iter().filter(|path| data_dir::is_held(path)).collect();
    match <[PathBuf; 1]>::try_from(running) {
        Ok([one]) => Some(one),
        Err(_) => None,
    }
}

fn usual_data_dirs() -> Vec<PathBuf> {
    ["server", "dev"]
        .into_iter()
        .map(default_data_dir)
        .filter(|path| data_dir::read_cluster(path).is_ok_and(|cluster| cluster.is_some()))
        .collect()
}

/// The data directory of a master on this machine, when there is exactly one in the usual places, or one that runs.
pub fn found_data_dir() -> anyhow::Result<PathBuf> {
    if let Some(running) = running_data_dir() {
        return Ok(running);
    }
    match usual_data_dirs().as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no master's data directory is in its usual place: give it with --data"),
        _ => bail!("both a server and a dev cluster are on this machine: choose with --data"),
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let options = options.with_file()?;
    logging::start(&options, None)?;
    open_files::raise();
    super::block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let stop = Stop::listen()?;
    let mut progress = Progress::new();
    let mut settings = Settings::new(&options, "0.0.0.0:6443")?;
    let path = options.data.clone().unwrap_or_else(|| default_data_dir("server"));
    let data = DataDir::claim(&path)?;
    data.refuse_agents()?;
    settings.with_past(&options, &data)?;
    let restart = Restart::new();
    settings.restart = Some(restart.clone());
    progress.line(&format!("quorate server {:?}", settings.name));
    progress.done(&format!("data directory {}", data.path().display()));
    let known = data.cluster()?;
    let fresh = known.is_none();
    // The first master's, at its first start; a start that got no further than that left the file out.
    let is_first = match &known {
        Some(cluster) => cluster.node_id == quorate_raft::FIRST_NODE_ID.0,
        None => settings.join.is_none(),
    };
    let kubeconfig =
        kubeconfig_target(&options).filter(|file| is_first && (fresh || !file.exists()));
    let kubeconfig = match (kubeconfig, fresh) {
        (Some(file), true) => kubeconfig::check(&file).map(|()| Some(file))?,
        // A master that has served before does not stay away for that.
        (Some(file), false) => Some(file).filter(|file| kubeconfig::check(file).is_ok()),
        (None, _) => None,
    };
    let starting = Master::start(&data, &options, &settings, &mut progress);
    let master = stop.or(starting).await?;
    let joins = settings.join.as_ref().filter(|_| fresh || !master.has_heard());
    let there = match joins {
        Some(join) => until_joined(&stop, &master, (&settings, join), &mut progress).await?,
        None if until_ready(&stop, &master, &mut progress).await? => Joined::Done,
        None => Joined::Stopped,
    };
    match there {
        Joined::Done => {}
        Joined::Failed(why) => return take_back(&data, master, &why).await,
        Joined::Stopped => {
            let joins = joins.is_some();
            master.shutdown().await;
            if joins {
                bail!(
                    "stopped before the join was finished; starting again on the same --data goes on"
                );
            }
            return Ok(());
        }
    }
    if let Some(file) = kubeconfig {
        let access = admin_access(&master, &options, &master.cluster.api_address)?;
        access.write(&file)?;
        progress.done(&format!("kubeconfig {}, context {:?}", file.display(), access.name));
    }
    progress.line(&format!("ready after {} ms", progress.total_ms()));
    let ended = wait_and_stop(&stop, master, None, progress, restart.requested()).await?;
    if ended == Ended::Restart {
        // The next one claims it.
        drop(data);
        return restart::again();
    }
    Ok(())
}

/// Why a master has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// For good.
    Stop,
    /// To begin anew.
    Restart,
}

/// How far a start has come.
enum Joined {
    Done,
    /// Somebody asked to stop.
    Stopped,
    /// The others have taken this master out again.
    Failed(String),
}

/// Waits until a master that joins votes, or, as a standby, has caught up.
async fn until_joined(
    stop: &Stop,
    master: &Master,
    (settings, (url, token)): (&Settings, &(String, JoinToken)),
    progress: &mut Progress,
) -> anyhow::Result<Joined> {
    let progress = RefCell::new(progress);
    let follow = join::follow_master(url, token, master.cluster.node_id, |line| {
        progress.borrow_mut().done(line);
    });
    let joined =
        async { if settings.standby { master.ready().await } else { master.voter().await } };
    let notice = async {
        tokio::time::sleep(REACH_NOTICE).await;
        if !master.has_heard() {
            progress.borrow().line(&format!("    {}", unreached(&master.cluster.peer_address)));
        }
        std::future::pending().await
    };
    tokio::select! {
        followed = follow => Ok(match followed {
            Ok(()) => Joined::Done,
            Err(error) => Joined::Failed(format!("{error:#}")),
        }),
        () = joined => Ok(Joined::Done),
        reason = master.fatal() => bail!("{reason}"),
        advice = master.removed() => Ok(Joined::Failed(advice)),
        () = stop.requested() => Ok(Joined::Stopped),
        never = notice => never,
    }
}

/// Ends a master that the others have taken out again before it voted. What it leaves is no obstacle to another try
/// when it never heard anything of them.
async fn take_back(data: &DataDir, master: Master, why: &str) -> anyhow::Result<()> {
    let (has_heard, cluster) = (master.has_heard(), master.cluster.clone());
    master.shutdown().await;
    if has_heard {
        bail!(
            "the join failed: {why}. To try again, move {} away or delete it, then join as on a new machine",
            data.path().display()
        );
    }
    let unreached = unreached(&cluster.peer_address);
    data.forget_join(cluster)?;
    bail!("the join failed: {why}. {unreached} Then run the same command again")
}

fn unreached(peer_address: &str) -> String {
    format!(
        "No other master has reached this one at {peer_address}: see that this is its address (--advertise, \
         --peer-listen), and that TCP gets through to it from the machines of the others."
    )
}

/// Where the admin's kubeconfig goes: as told, or where kubectl would add a cluster.
pub fn kubeconfig_target(options: &Options) -> Option<PathBuf> {
    options.kubeconfig.clone().or_else(config::default_kubeconfig)
}

/// The admin's access to the API at an address.
pub fn admin_access(master: &Master, options: &Options, address: &str) -> anyhow::Result<Access> {
    Ok(Access {
        name: options.context.clone().unwrap_or_else(|| "quorate".to_owned()),
        server: format!("https://{address}"),
        server_name: None,
        ca_pem: master.certs.now().ring.bundle_pem(quorate_pki::ring::Circle::Cluster),
        user: user_of(&master::admin_certificate(&master.certs, jiff::Timestamp::now())?),
    })
}

/// Waits until the master serves consistent reads, however long its quorum is away; `false` when
/// somebody asked to stop before, or the others have removed it.
pub async fn until_ready(
    stop: &Stop,
    master: &Master,
    progress: &mut Progress,
) -> anyhow::Result<bool> {
    let ready = master.ready();
    let mut ready = std::pin::pin!(ready);
    let notice = tokio::time::sleep(QUORUM_NOTICE);
    let mut notice = std::pin::pin!(notice);
    let mut told = false;
    loop {
        tokio::select! {
            () = ready.as_mut() => break,
            () = notice.as_mut(), if !told => {
                progress.line("    no quorum yet: waiting for the other masters");
                told = true;
            }
            reason = master.fatal() => bail!("{reason}"),
            advice = master.removed() => {
                progress.line(&advice);
                return Ok(false);
            }
            () = stop.requested() => return Ok(false),
        }
    }
    progress.done("consistent reads");
    Ok(true)
}

/// Serves until somebody asks to stop, or until the store cannot go on.
pub async fn wait_and_stop(
    stop: &Stop,
    master: Master,
    agent: Option<node::Node>,
    mut progress: Progress,
    restart: impl Future<Output = ()>,
) -> anyhow::Result<Ended> {
    let mut ended = Ended::Stop;
    tokio::select! {
        () = stop.requested() => {}
        () = restart => ended = Ended::Restart,
        // As it was told to: what clients have asked is answered, and that is no failure.
        advice = master.removed() => progress.line(&advice),
        // Nobody knows what is on the disk now: leave at once, and start again from it.
        reason = master.fatal() => bail!("{reason}"),
    }
    progress.line("stopping (pods keep running); once more to stop at once");
    progress.begin();
    if let Some(agent) = agent {
        agent.shutdown().await;
        progress.done("node agent stopped");
    }
    master.shutdown().await;
    progress.done("master stopped");
    Ok(ended)
}

pub fn run_agent(options: Options) -> anyhow::Result<()> {
    let options = options.with_file()?;
    logging::start(&options, None)?;
    node::refuse_strangers()?;
    open_files::raise();
    super::block_on(serve_agent(options))
}

async fn serve_agent(options: Options) -> anyhow::Result<()> {
    let stop = Stop::listen()?;
    let mut progress = Progress::new();
    let path = options.data.clone().unwrap_or_else(|| default_data_dir("agent"));
    if let Some(name) = &options.name {
        join::check_name(name)?;
    }
    let thresholds = node::thresholds(&options, Thresholds::default())?;
    let data = DataDir::claim(&path)?;
    data.refuse_masters()?;
    let name = node::name(&data, &options)?;
    progress.line(&format!("quorate agent {name:?}"));
    progress.done(&format!("data directory {}", data.path().display()));
    let start = async {
        let credentials = node::credentials(&data, &options, &name, &progress).await?;
        progress.done("certificate");
        node::Node::start(&data, &options, &name, credentials, thresholds).await
    };
    let node = stop.or(start).await?;
    progress.done(&format!("node agent with the {} runtime", node.runtime()));
    stop.requested().await;
    progress.line("stopping (pods keep running); once more to stop at once");
    progress.begin();
    node.shutdown().await;
    progress.done("node agent stopped");
    Ok(())
}
