//! What is looked at before a master joins: both ways between it and the others, its disk, its clock, its version, and
//! whether its name and addresses are free. Nothing changes by it, on either side.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::future::join_all;
use jiff::Timestamp;
use quorate_pki::JoinToken;
use quorate_proto::join::{
    JoinMasterRequest, MasterAddress, PreflightMaster, PreflightReply, PreflightRequest,
};
use quorate_raft::{Member, NodeId};
use quorate_store::Masters;
use rustix::fs::statvfs;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tonic::Code;

use crate::data_dir::FREE_BYTES_NEW;
use crate::join::{dial, master_request};
use crate::reach::{self, Outcomes, Shown, Target};
use crate::settings::NetworkWish;

/// The whole preflight; a cluster that says nothing by then is not joined.
const PREFLIGHT_MAX: Duration = Duration::from_secs(20);

/// A master that asks another to try something waits for so long: longer than the try itself.
const REACH_MAX: Duration = Duration::from_secs(5);

/// A disk whose syncs take longer than this, one in a hundred, holds up every write while it is of the quorum.
const SYNC_WARNING: Duration = Duration::from_millis(10);

/// Syncs that are timed, and for how long at most.
const SYNCS: (usize, Duration) = (100, Duration::from_secs(3));

/// Bytes of each.
const SYNC_BYTES: usize = 4096;

/// Clocks that differ by more make certificates and tokens good too early or too late.
const CLOCK_WARNING: Duration = Duration::from_secs(1);

/// The same, by more than any certificate allows for.
const CLOCK_FAILURE: Duration = Duration::from_secs(60);

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It will work, and not well.
    Warning,
    /// It will not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, and what to do about it.
    pub message: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    fn add(&mut self, name: impl Into<String>, outcome: Outcome, message: impl Into<String>) {
        self.checks.push(Check { name: name.into(), outcome, message: message.into() });
    }

    /// The worst of all.
    pub fn outcome(&self) -> Outcome {
        self.checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Ok)
    }

    /// What is not as it should be.
    pub fn of(&self, outcome: Outcome) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.outcome == outcome)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({ "outcome": self.outcome(), "checks": self.checks })
    }

    /// An error that names all that failed.
    pub fn into_result(self) -> anyhow::Result<()> {
        let failed: Vec<String> = self.of(Outcome::Failed).map(ToString::to_string).collect();
        if failed.is_empty() {
            return Ok(());
        }
        bail!("this master would not get far, so nothing was changed: {}", failed.join("; "))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// What is to be tried.
pub struct Candidate<'a> {
    pub url: &'a str,
    pub token: &'a JoinToken,
    pub member: &'a Member,
    pub wish: &'a NetworkWish,
    /// Where its log is to be.
    pub data: &'a Path,
    /// Bound to its addresses; nobody serves them yet.
    pub listeners: [&'a TcpListener; 2],
}

/// Looks at everything. `None` when the cluster is of a version that cannot be asked.
pub async fn run(candidate: &Candidate<'_>) -> anyhow::Result<Option<Report>> {
    let mut report = Report::default();
    let shown = Shown::new()?;
    let asked = ask(candidate, &shown.pin);
    let asked = tokio::select! {
        asked = tokio::time::timeout(PREFLIGHT_MAX, asked) => asked,
        () = shown.at(&candidate.listeners) => return Ok(None),
    };
    let asked = asked.with_context(|| {
        format!("{} did not answer within {} s", candidate.url, PREFLIGHT_MAX.as_secs())
    })??;
    let Some((reply, round)) = asked else { return Ok(None) };
    report.add("cluster", Outcome::Ok, format!("{} at {}", reply.cluster_id, candidate.url));
    for refusal in &reply.refusals {
        report.add("admission", Outcome::Failed, refusal);
    }
    versions(&mut report, env!("CARGO_PKG_VERSION"), &reply.version);
    clocks(&mut report, reply.clock_ms, round);
    there(&mut report, &reply).await;
    back(&mut report, candidate.member, &reply);
    let (data, state_bytes) = (candidate.data.to_owned(), reply.state_bytes);
    let disk = spawn_blocking(move || {
        let mut report = Report::default();
        disk(&mut report, &data, state_bytes);
        report
    });
    report.checks.extend(disk.await.context("the disk could not be tried")?.checks);
    Ok(Some(report))
}

/// The answer, and between which of our own times it was made.
type Asked = Option<(PreflightReply, [Timestamp; 2])>;

async fn ask(candidate: &Candidate<'_>, pin: &str) -> anyhow::Result<Asked> {
    let (mut client, _) = dial(candidate.url, candidate.token).await?;
    let join = master_request(candidate.token, candidate.member, candidate.wish);
    let begin = Timestamp::now();
    let request = PreflightRequest { join: Some(join), pin: pin.to_owned() };
    match client.preflight(request).await {
        Ok(reply) => Ok(Some((reply.into_inner(), [begin, Timestamp::now()]))),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => bail!("the join was refused: {}", status.message()),
    }
}

fn versions(report: &mut Report, own: &str, theirs: &str) {
    let parts = |version: &str| {
        let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let apart = match (parts(own), parts(theirs)) {
        (Some((a, b)), Some((c, d))) => a == c && b.abs_diff(d) <= 1,
        _ => false,
    };
    if apart {
        report.add("version", Outcome::Ok, format!("{own} here, {theirs} there"));
    } else {
        let why = format!(
            "{own} here, {theirs} there: masters may be one minor version apart. Install {theirs} on this machine"
        );
        report.add("version", Outcome::Failed, why);
    }
}

/// The reply was made between the two times.
fn clocks(report: &mut Report, theirs_ms: i64, [begin, end]: [Timestamp; 2]) {
    let (begin, end) = (begin.as_millisecond(), end.as_millisecond());
    let apart = if theirs_ms < begin { begin - theirs_ms } else { (theirs_ms - end).max(0) };
    let apart = Duration::from_millis(apart.unsigned_abs());
    let seconds = apart.as_secs_f64();
    if apart > CLOCK_FAILURE {
        let why = format!(
            "{seconds:.1} s apart from the other master's: certificates and tokens would not be good. Set it (chrony, \
             systemd-timesyncd)"
        );
        report.add("clock", Outcome::Failed, why);
    } else if apart > CLOCK_WARNING {
        let why =
            format!("{seconds:.1} s apart from the other master's: let both follow a time server");
        report.add("clock", Outcome::Warning, why);
    } else {
        report.add("clock", Outcome::Ok, format!("at most {seconds:.1} s apart"));
    }
}

/// From here to each of the masters.
async fn there(report: &mut Report, reply: &PreflightReply) {
    let tries = reply.masters.iter().map(|known| async move {
        let address = known.master.clone().unwrap_or_default();
        let [peer, api] =
            [&address.peer_address, &address.api_address].map(|address| reach::tcp(address));
        let (peer, api) = tokio::join!(peer, api);
        (known, address, peer, api)
    });
    for (known, address, peer, api) in join_all(tries).await {
        let name = format!("to {}", address.name);
        let problems: Vec<String> =
            [("peer", &address.peer_address, peer), ("API", &address.api_address, api)]
                .into_iter()
                .filter_map(|(what, at, problem)| {
                    Some(format!("{what} address {at}: {}", problem?))
                })
                .collect();
        if problems.is_empty() {
            report.add(
                name,
                Outcome::Ok,
                format!("{} and {}", address.peer_address, address.api_address),
            );
            continue;
        }
        report.add(name, severity(known), problems.join(", "));
    }
}

/// From each of the masters to here.
fn back(report: &mut Report, member: &Member, reply: &PreflightReply) {
    for known in &reply.masters {
        let name = known.master.as_ref().map(|master| master.name.clone()).unwrap_or_default();
        let from = format!("from {name}");
        if !known.silent.is_empty() {
            let why = format!("{name} did not try: {}", known.silent);
            report.add(from, Outcome::Warning, why);
            continue;
        }
        let problems: Vec<String> = [
            ("peer", &member.peer_address, &known.peer_problem),
            ("API", &member.api_address, &known.api_problem),
        ]
        .into_iter()
        .filter(|(_, _, problem)| !problem.is_empty())
        .map(|(what, at, problem)| {
            format!("it does not get through to our {what} address {at}: {problem}")
        })
        .collect();
        if problems.is_empty() {
            report.add(
                from,
                Outcome::Ok,
                format!("{} and {}", member.peer_address, member.api_address),
            );
            continue;
        }
        let advice =
            "see that this is our address (--advertise), and that firewalls let TCP through";
        report.add(from, Outcome::Failed, format!("{}; {advice}", problems.join(", ")));
    }
}

/// A master that is dead itself is no reason to stay away: it may be the one to be replaced.
fn severity(known: &PreflightMaster) -> Outcome {
    if known.silent.is_empty() { Outcome::Failed } else { Outcome::Warning }
}

fn disk(report: &mut Report, data: &Path, state_bytes: u64) {
    let Some(place) = data.ancestors().find(|path| path.is_dir()) else {
        report.add(
            "disk",
            Outcome::Failed,
            format!("there is no directory above {}", data.display()),
        );
        return;
    };
    let at = place.display();
    match statvfs(place) {
        Err(error) => report.add("free space", Outcome::Failed, format!("{at}: {error}")),
        Ok(space) => {
            let free = space.f_bavail * space.f_frsize;
            // Two snapshots and the log between them, beside what an empty directory needs.
            let needed = FREE_BYTES_NEW + 3 * state_bytes;
            let (free_mib, needed_mib) = (free >> 20, needed >> 20);
            if free < needed {
                let why = format!(
                    "{at} has {free_mib} MiB, {needed_mib} MiB are needed: free some, or give another --data"
                );
                report.add("free space", Outcome::Failed, why);
            } else {
                report.add(
                    "free space",
                    Outcome::Ok,
                    format!("{free_mib} MiB, {needed_mib} MiB are needed"),
                );
            }
        }
    }
    match sync_p99(place) {
        Err(error) => {
            report.add("disk", Outcome::Failed, format!("{at} cannot be written: {error}"))
        }
        Ok(p99) => {
            let ms = p99.as_secs_f64() * 1000.0;
            if p99 > SYNC_WARNING {
                let why = format!(
                    "99 of 100 syncs take up to {ms:.1} ms in {at}, {} ms are good: each write waits for it while it is of \
                     the quorum. Use a disk of its own, an SSD",
                    SYNC_WARNING.as_millis()
                );
                report.add("disk", Outcome::Warning, why);
            } else {
                report.add("disk", Outcome::Ok, format!("99 of 100 syncs take up to {ms:.1} ms"));
            }
        }
    }
}

/// A file that goes with its value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is small, and its name says whose it was.
        drop(std::fs::remove_file(&self.0));
    }
}

/// The 99th percentile of writes that are synced, as the log does it.
fn sync_p99(place: &Path) -> io::Result<Duration> {
    let scratch = Scratch(place.join(format!(".quorate-preflight-{}", std::process::id())));
    let mut file = File::create_new(&scratch.0)?;
    let (begin, mut times) = (Instant::now(), Vec::with_capacity(SYNCS.0));
    while times.len() < SYNCS.0 && begin.elapsed() < SYNCS.1 {
        let one = Instant::now();
        file.seek(SeekFrom::Start((times.len() * SYNC_BYTES) as u64))?;
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    Ok(times[(times.len() * 99).div_ceil(100) - 1])
}

/// The masters' end: what each of them meets at the joiner's addresses.
pub async fn masters_reach(
    masters: &Masters,
    join: &JoinMasterRequest,
    pin: &str,
) -> Vec<PreflightMaster> {
    let target = |address: &String| Target { address: address.clone(), pin: pin.to_owned() };
    let targets = [target(&join.peer_address), target(&join.api_address)];
    let body = serde_json::to_vec(&targets).unwrap_or_default();
    let own = masters.id();
    let tries = masters.status().members.into_iter().map(|known| {
        let (targets, body) = (&targets, bytes::Bytes::from(body.clone()));
        async move {
            let outcomes = if known.id == own {
                Ok(reach::all(targets).await)
            } else {
                elsewhere(masters, known.id, body).await
            };
            let (outcomes, silent) = match outcomes {
                Ok(outcomes) => (outcomes, String::new()),
                Err(why) => (Vec::new(), why),
            };
            let mut problems = outcomes.into_iter().map(Option::unwrap_or_default);
            PreflightMaster {
                master: Some(MasterAddress {
                    node_id: known.id.0,
                    name: known.member.name,
                    peer_address: known.member.peer_address,
                    api_address: known.member.api_address,
                }),
                voter: known.voter,
                peer_problem: problems.next().unwrap_or_default(),
                api_problem: problems.next().unwrap_or_default(),
                silent,
            }
        }
    });
    join_all(tries).await
}

async fn elsewhere(
    masters: &Masters,
    node: NodeId,
    body: bytes::Bytes,
) -> Result<Outcomes, String> {
    let reply = masters.reach_from(node, body, REACH_MAX).await?;
    let outcomes: Outcomes = serde_json::from_slice(&reply)
        .map_err(|_| "it is of a version that cannot be asked".to_owned())?;
    if outcomes.len() < 2 {
        return Err("it is of a version that cannot be asked".to_owned());
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(report: &Report) -> (Outcome, &str) {
        assert_eq!(report.checks.len(), 1, "{report:?}");
        (report.checks[0].outcome, &report.checks[0].message)
    }

    #[test]
    fn clocks_and_versions_may_differ_a_little() {
        let time = |ms: i64| Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap();
        let clock = |theirs: i64| {
            let mut report = Report::default();
            clocks(&mut report, time(theirs).as_millisecond(), [time(0), time(400)]);
            report.outcome()
        };
        // Whatever lies between asking and the answer may be right.
        assert_eq!([clock(0), clock(400), clock(1_399), clock(-999)], [Outcome::Ok; 4]);
        assert_eq!([clock(1_500), clock(-1_100)], [Outcome::Warning; 2]);
        assert_eq!([clock(70_000), clock(-70_000)], [Outcome::Failed; 2]);
        let version = |own: &str, theirs: &str| {
            let mut report = Report::default();
            versions(&mut report, own, theirs);
            report.outcome()
        };
        assert_eq!(version("0.1.0", "0.1.7"), Outcome::Ok);
        assert_eq!(version("0.2.0", "0.1.7"), Outcome::Ok);
        assert_eq!(version("0.3.0", "0.1.7"), Outcome::Failed);
        assert_eq!(version("1.1.0", "0.1.7"), Outcome::Failed);
        assert_eq!(version("1.1.0", ""), Outcome::Failed);
    }

    #[test]
    fn a_dead_master_keeps_nobody_away_and_a_wrong_address_does() {
        let member = Member {
            name: "m4".to_owned(),
            peer_address: "d:6444".to_owned(),
            api_address: "d:6443".to_owned(),
            standby: false,
        };
        let from = |peer_problem: &str, silent: &str| {
            let master = PreflightMaster {
                master: Some(MasterAddress { name: "m1".to_owned(), ..MasterAddress::default() }),
                voter: true,
                peer_problem: peer_problem.to_owned(),
                api_problem: String::new(),
                silent: silent.to_owned(),
            };
            let reply = PreflightReply { masters: vec![master], ..PreflightReply::default() };
            let mut report = Report::default();
            back(&mut report, &member, &reply);
            report
        };
        assert_eq!(only(&from("", "")), (Outcome::Ok, "d:6444 and d:6443"));
        assert_eq!(from("", "no connection").outcome(), Outcome::Warning);
        let failed = from("Connection refused", "");
        let error = failed.into_result().unwrap_err().to_string();
        assert!(
            error.contains(
                "from m1: it does not get through to our peer address d:6444: Connection refused"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_disk_is_timed_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        disk(&mut report, &directory.path().join("not/there/yet"), 0);
        assert_eq!(report.checks.len(), 2, "{report:?}");
        assert!(report.checks[1].message.contains("syncs take up to"), "{report:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut report = Report::default();
        disk(&mut report, directory.path(), u64::MAX / 8);
        assert_eq!(report.checks[0].outcome, Outcome::Failed);
    }
}
