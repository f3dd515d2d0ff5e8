//! `cargo xtask bench-failover`: how long nobody can write, and how long the controllers do nothing, when the leader of
//! three masters is killed, hangs, is stopped in order, or hands leadership over. Measured at a client of another
//! master that writes without a pause.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hyper::Method;
use rustix::process::Signal;
use serde_json::json;

use super::client::Client;
use super::cluster::Cluster;
use super::{build, limits, print, say};

/// Options of `cargo xtask bench-failover`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The binary to measure [default: a release build of this workspace]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How often each is done
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Only these, comma-separated
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    only: Vec<What>,
    /// Where the masters' directories go: on the disk that is to be measured [default: target]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What happens to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// `kill -9`
    Kill,
    /// SIGSTOP
    Hang,
    /// SIGTERM: it hands over and ends
    Stop,
    /// `quorate masters transfer-leader`
    Transfer,
}

const ALL: [What; 4] = [What::Kill, What::Hang, What::Stop, What::Transfer];

/// What one round showed.
struct Round {
    /// The longest time between two acknowledged writes.
    gap: Duration,
    /// Until a controller has done something that was asked for after the event.
    controllers: Duration,
    failed: Vec<String>,
}

/// Measures and prints; fails when a request failed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => build()?,
    };
    let directory = args.directory.clone().unwrap_or_else(|| crate::ci::root().join("target"));
    std::fs::create_dir_all(&directory)?;
    let wanted = if args.only.is_empty() { ALL.to_vec() } else { args.only.clone() };
    tokio::runtime::Runtime::new()?.block_on(async {
        let temporary = tempfile::Builder::new().prefix("failover-").tempdir_in(&directory)?;
        let mut cluster = Cluster::start(&binary, 3, temporary).await?;
        let mut table = format!(
            "{:<10} {:>6}   {:<26} {:<26} {}\n",
            "", "rounds", "no write, ms", "no controller, ms", "failed requests"
        );
        let mut failed = Vec::new();
        for what in wanted {
            let mut rounds = Vec::new();
            for number in 0..args.rounds {
                let round = round(&mut cluster, what, number).await?;
                say(&format!(
                    "{what:?} {number}: {} ms, {} ms",
                    round.gap.as_millis(),
                    round.controllers.as_millis()
                ));
                rounds.push(round);
            }
            table.push_str(&row(what, &rounds));
            failed.extend(rounds.into_iter().flat_map(|round| round.failed));
        }
        cluster.stop().await?;
        print(&table);
        if !failed.is_empty() {
            bail!("requests failed:\n{}", failed.join("\n"));
        }
        Ok(())
    })
}

fn row(what: What, rounds: &[Round]) -> String {
    let failed: usize = rounds.iter().map(|round| round.failed.len()).sum();
    format!(
        "{:<10} {:>6}   {:<26} {:<26} {failed}\n",
        format!("{what:?}").to_lowercase(),
        rounds.len(),
        spread(rounds.iter().map(|round| round.gap).collect()),
        spread(rounds.iter().map(|round| round.controllers).collect()),
    )
}

/// Median, 99th percentile and maximum.
fn spread(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let at = |permille: usize| all[((all.len() * permille).div_ceil(1000)).max(1) - 1].as_millis();
    format!("p50 {} p99 {} max {}", at(500), at(990), at(1000))
}

/// Writes at one master, one write after the other.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Writer {
    fn start(client: Client) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, noted): (_, Arc<Mutex<Vec<Instant>>>) = (stop.clone(), acknowledged);
        let acknowledged = noted.clone();
        let task = tokio::spawn(async move {
            let (mut number, mut failed) = (0_u64, Vec::new());
            while !stopped.load(Ordering::Relaxed) && failed.len() < limits::FAILURES_MAX {
                number += 1;
                let value = json!({ "data": { "number": number.to_string() } });
                let path = "/api/v1/namespaces/default/configmaps/failover";
                match client.patch(path, &value).await {
                    Ok(_) => {
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                    }
                    Err(error) => failed.push(format!("{error:#}")),
                }
            }
            failed
        });
        Self { stop, acknowledged, task }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until so many more are acknowledged.
    async fn goes_on(&self, more: usize) -> anyhow::Result<()> {
        let (want, begin) = (self.count() + more, Instant::now());
        while self.count() < want {
            if begin.elapsed() > limits::LEADER_MAX || self.task.is_finished() {
                bail!("writes do not go on");
            }
            tokio::time::sleep(limits::FAILOVER_POLL).await;
        }
        Ok(())
    }

    /// The longest time without an acknowledged write, and what failed.
    async fn finish(self) -> anyhow::Result<(Duration, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.task.await?;
        let times = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let gaps = times.windows(2).map(|two| two[1].duration_since(two[0]));
        Ok((gaps.max().unwrap_or_default(), failed))
    }
}

async fn round(cluster: &mut Cluster, what: What, number: u16) -> anyhow::Result<Round> {
    // Each follower in turn: one of them becomes the leader.
    let (leader, _) = cluster.leader_and_follower().await?;
    let other = (leader + 1 + usize::from(number % 2)) % cluster.masters.len();
    let client = Client::connect(cluster.masters[other].port, &cluster.tls, 1).await?;
    let asker = Client::connect(cluster.masters[other].port, &cluster.tls, 1).await?;
    let map = json!({ "metadata": { "name": "failover" } });
    // It is there from the first round on.
    drop(client.post("/api/v1/namespaces/default/configmaps", &map).await);
    let writer = Writer::start(client);
    writer.goes_on(limits::FAILOVER_WRITES).await?;
    let old = cluster.masters[leader].name.clone();
    if leads(&asker).await?.as_deref() != Some(&*old) {
        bail!("leadership had moved before anything was done");
    }
    let begin = Instant::now();
    match what {
        What::Kill => cluster.signal(leader, Signal::KILL)?,
        What::Hang => cluster.signal(leader, Signal::STOP)?,
        What::Stop => cluster.signal(leader, Signal::TERM)?,
        What::Transfer => {
            let path = "/quorate/v1/masters/transfer-leader";
            asker.call(Method::POST, path, "{}".into()).await?;
        }
    }
    let controllers =
        controllers_work(&asker, &format!("{what:?}-{number}").to_lowercase()).await?;
    let controllers = controllers.duration_since(begin);
    while leads(&asker).await?.is_none_or(|leader| leader == old) {
        if begin.elapsed() > limits::LEADER_MAX {
            bail!("{old} leads on");
        }
        tokio::time::sleep(limits::FAILOVER_POLL).await;
    }
    writer.goes_on(limits::FAILOVER_WRITES).await?;
    let (gap, failed) = writer.finish().await?;
    match what {
        What::Kill | What::Stop => cluster.start_again(leader).await?,
        What::Hang => cluster.signal(leader, Signal::CONT)?,
        What::Transfer => {}
    }
    cluster.all_serve().await?;
    Ok(Round { gap, controllers, failed })
}

/// Who leads, as this master knows.
async fn leads(client: &Client) -> anyhow::Result<Option<String>> {
    let status = client.get("/quorate/v1/status").await?;
    Ok(status["leader"].as_str().map(str::to_owned))
}

/// Makes a namespace, and waits until it has its service account, which a controller makes.
async fn controllers_work(client: &Client, name: &str) -> anyhow::Result<Instant> {
    let name = format!("failover-{name}");
    client.post("/api/v1/namespaces", &json!({ "metadata": { "name": name } })).await?;
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    let begin = Instant::now();
    loop {
        let list = client.get(&path).await?;
        let done = Instant::now();
        if list["items"].as_array().is_some_and(|items| !items.is_empty()) {
            client.call(Method::DELETE, &format!("/api/v1/namespaces/{name}"), "".into()).await?;
            return Ok(done);
        }
        if begin.elapsed() > limits::LEADER_MAX {
            bail!("no service account in {name} after {:?}", limits::LEADER_MAX);
        }
        tokio::time::sleep(limits::FAILOVER_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_of_what_was_measured() {
        let all = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(spread(all), "p50 50 p99 99 max 100");
        assert_eq!(spread(vec![Duration::from_millis(7)]), "p50 7 p99 7 max 7");
    }
}
