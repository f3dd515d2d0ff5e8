//! What ends a run: all masters are taken back to a backup, or a majority's disks are gone for good and a survivor goes
//! on alone. It is done with the commands of `docs/runbooks/backup-and-restore.md` and `docs/runbooks/quorum-loss.md`
//! when the workload's clients have ended; the others join anew with one command each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use hyper::Method;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::verbs::empty;
use super::{Act, Broke, Masters};
use crate::check::disaster::{Disaster, Listed, Watched};
use crate::check::membership::Membership;
use crate::check::watch::Revision;
use crate::limits::{COMMAND_MAX, CONNECT_MAX, LAST_WRITES, READY_MAX};
use crate::model::Family;
use crate::real::client::Connection;
use crate::real::cluster::{Cluster as _, is_ready};
use crate::real::last_writes::LastWrites;
use crate::real::workload::{Resource, Shared, told};
use crate::scenario::Fault;
use crate::scenario::fault::Effect;

/// The backup that a run goes back to, below its directory.
const BACKUP: &str = "before.backup";

/// A backup that was saved while clients wrote.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    file: PathBuf,
    /// What it has everything up to.
    at: Revision,
    what: String,
}

impl Masters {
    /// Has a master make a backup when a run is to be taken back to it.
    pub(super) async fn save_backup(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        if !to.saved || from.saved || self.nuisances.saved.is_some() {
            return Ok(());
        }
        let file = std::path::absolute(self.directory.join(BACKUP))?;
        let runs = |master: &usize| self.state(*master).is_some_and(|state| state != 'T');
        let mut said = anyhow::anyhow!("nobody runs");
        for master in (0..self.count).filter(runs) {
            let data = &self.masters[master].data;
            match self.quorate(&["backup", "save"], data, &[file.as_os_str()]).await {
                Ok(_) => {
                    let words = ["backup", "inspect", "-o", "json"];
                    let header = self.offline(&words, &[file.as_os_str()]).await?;
                    let header: Value = serde_json::from_str(&header)?;
                    let at = header["revision"].as_u64().context("a backup without revision")?;
                    let objects = &header["objects"];
                    let what = format!("a backup has {objects} objects up to revision {at}");
                    self.nuisances.saved = Some(Saved { file, at, what });
                    return Ok(());
                }
                Err(error) => said = error,
            }
        }
        Err(said.context("no backup was saved"))
    }

    /// What was saved.
    pub(super) fn saved_shown(&self) -> Option<String> {
        self.nuisances.saved.as_ref().map(|saved| saved.what.clone())
    }

    /// Carries out what ends the run; `None` when there is nothing of it.
    pub(super) async fn end_in_disaster(
        &mut self,
        shared: &Shared,
        fault: Fault,
        seed: u64,
    ) -> anyhow::Result<Option<Disaster>> {
        let all: Vec<usize> = (0..self.count).collect();
        if all.iter().any(|master| self.masters[*master].process.is_none()) {
            bail!("{fault}: not all masters run at the end of the faults");
        }
        let (mut told, mut writes) = (Vec::new(), Vec::new());
        let (newest, (certain, at), first) = match (fault, self.nuisances.saved.clone()) {
            (Fault::Restore, None) => return Ok(None),
            (Fault::Restore, Some(saved)) => {
                let newest = self.newest(0, shared).await?;
                self.ask_to_end(&all).await?;
                let first = all.choose_by(seed);
                self.restore_backup(first, &saved, &mut told).await?;
                (newest, (saved.at, saved.at), first)
            }
            _ => {
                let last = LastWrites::start(shared, (&all, self.tls()), |one| self.api(*one));
                tokio::time::sleep(LAST_WRITES).await;
                let (lost, certain, led) = self.lose_majority(seed, &mut told).await?;
                writes = last.end().await?;
                let survivors: Vec<usize> =
                    all.iter().copied().filter(|one| !lost.contains(one)).collect();
                self.ask_to_end(&survivors).await?;
                let (first, term, at) = self.recover(&survivors, &mut told).await?;
                let acknowledged = writes.iter().filter_map(|write| write.acknowledged);
                // Whoever follows the last leader, or is it, has a beginning of its log.
                let certain = if Some(term) == led { at } else { certain.min(at) };
                (acknowledged.max().unwrap_or(at).max(at), (certain, at), first)
            }
        };
        self.begin_anew(first).await?;
        told.push(format!("the others join {} anew", self.name(first)));
        let mut disaster = Disaster {
            fault,
            told,
            at,
            certain,
            newest,
            lists: Vec::new(),
            watches: Vec::new(),
            writes,
            memberships: Vec::new(),
        };
        self.look_afterwards(shared, &mut disaster).await?;
        Ok(Some(disaster))
    }

    /// The newest revision, which is newer than whatever anybody was told.
    async fn newest(&self, master: usize, shared: &Shared) -> anyhow::Result<Revision> {
        let list = self.list(master, &shared.path(Resource::ConfigMaps)).await?;
        revision_of(&list)
    }

    async fn list(&self, master: usize, path: &str) -> anyhow::Result<Value> {
        let mut connection = Connection::open(self.api(master), self.tls()).await?;
        match connection.call(Method::GET, path, None).await {
            Ok(answer) if answer.code == 200 => Ok(answer.body),
            other => bail!("a list of {}: {other:?}", self.name(master)),
        }
    }

    async fn restore_backup(
        &mut self,
        first: usize,
        saved: &Saved,
        told: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let file = [saved.file.as_os_str()];
        self.offline(&["backup", "verify"], &file).await?;
        let data = self.masters[first].data.clone();
        self.quorate(&["backup", "restore", "--yes"], &data, &file).await.map_err(broke)?;
        told.push(format!(
            "all masters were ended, and {} is made of the backup",
            self.name(first)
        ));
        Ok(())
    }

    /// Kills as few as the others cannot do without, all at once, and empties their disks. The others hung for a moment
    /// before, so that they lack something. Who was lost, up to which revision a survivor had applied before, and in
    /// which term those were who are lost.
    async fn lose_majority(
        &mut self,
        seed: u64,
        told: &mut Vec<String>,
    ) -> anyhow::Result<(Vec<usize>, Revision, Option<u64>)> {
        let mut lost: Vec<usize> = (0..self.count).collect();
        lost.shuffle(&mut StdRng::seed_from_u64(seed));
        let survivors = lost.split_off(self.count / 2 + 1);
        let certain = self.most(&survivors, "revision").await.unwrap_or_default();
        for survivor in &survivors {
            self.pause(*survivor)?;
        }
        tokio::time::sleep(LAST_WRITES).await;
        let led = self.most(&lost, "term").await;
        self.kill(&lost, Act::Killed).await?;
        for survivor in &survivors {
            self.resume(*survivor)?;
        }
        for master in &lost {
            self.empty_disk(*master)?;
        }
        let names: Vec<&str> = lost.iter().map(|master| self.name(*master)).collect();
        told.push(format!("the disks of {} are gone for good", names.join(", ")));
        Ok((lost, certain, led))
    }

    /// The most that some masters say of something; `None` when one does not answer.
    async fn most(&self, masters: &[usize], field: &str) -> Option<u64> {
        let mut most = None;
        for master in masters {
            let status = timeout(CONNECT_MAX, self.status(*master)).await.ok()?.ok()?;
            most = most.max(Some(status[field].as_u64()?));
        }
        most
    }

    fn empty_disk(&mut self, master: usize) -> anyhow::Result<()> {
        empty(&self.masters[master].data)?;
        self.shims.as_ref().map_or(Ok(()), |shims| shims.forget_unsynced(master))
    }

    /// A new cluster of the survivor that has most; who, its last entry's term, and up to which revision.
    async fn recover(
        &mut self,
        survivors: &[usize],
        told: &mut Vec<String>,
    ) -> anyhow::Result<(usize, u64, Revision)> {
        let mut best: Option<((u64, u64), usize, Revision)> = None;
        for master in survivors {
            let data = self.masters[*master].data.clone();
            let words = ["masters", "recover", "--show", "-o", "json"];
            let shown = self.quorate(&words, &data, &[]).await.map_err(broke)?;
            let shown: Value = serde_json::from_str(&shown)?;
            let number = |field: &str| {
                shown[field].as_u64().with_context(|| format!("recover --show: no {field}"))
            };
            ensure!(
                shown["refused"].is_null(),
                Broke::new(format!("a survivor is refused: {shown}"))
            );
            let has = (number("lastTerm")?, number("lastIndex")?);
            if best.is_none_or(|(most, _, _)| has > most) {
                best = Some((has, *master, number("revision")?));
            }
        }
        let ((term, index), first, at) = best.context("nobody survives")?;
        let data = self.masters[first].data.clone();
        self.quorate(&["masters", "recover", "--yes"], &data, &[]).await.map_err(broke)?;
        told.push(format!(
            "{} goes on alone with entries up to {index} of term {term}, revision {at}",
            self.name(first)
        ));
        Ok((first, term, at))
    }

    /// Starts the first master of the new cluster, and lets the others join it with nothing.
    async fn begin_anew(&mut self, first: usize) -> anyhow::Result<()> {
        let arguments = &mut self.masters[first].arguments;
        arguments.retain(|word| !word.starts_with("--token") && !word.starts_with("--join"));
        if let Some(shims) = &self.shims {
            shims.forget_unsynced(first)?;
        }
        self.restart(first)?;
        self.until_ready(first).await?;
        let others = (0..self.count).filter(|master| *master != first);
        for master in others.collect::<Vec<usize>>() {
            self.empty_disk(master)?;
            self.let_in(master, &Effect::default()).await?;
            self.restart(master)?;
            self.until_ready(master).await?;
        }
        self.voters().await.map_err(broke)
    }

    async fn until_ready(&mut self, master: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !is_ready(self.masters[master].api, &self.tls).await {
            self.masters[master].check_alive()?;
            let name = self.name(master);
            ensure!(
                begin.elapsed() < READY_MAX,
                Broke::new(format!("{name} was not ready within {READY_MAX:?} in the new cluster"))
            );
            tokio::time::sleep(crate::real::POLL).await;
        }
        Ok(())
    }

    /// What each master has, and what it says to who watches from before.
    async fn look_afterwards(
        &self,
        shared: &Shared,
        disaster: &mut Disaster,
    ) -> anyhow::Result<()> {
        for master in 0..self.count {
            let by = self.name(master).to_owned();
            let (mut objects, mut values, mut revision) = (BTreeMap::new(), BTreeMap::new(), 0);
            for resource in [Resource::ConfigMaps, Resource::Leases] {
                let path = shared.path(resource);
                let list = self.list(master, &path).await?;
                revision = revision_of(&list)?;
                for item in list["items"].as_array().into_iter().flatten() {
                    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    if let Some(value) = LastWrites::value(item) {
                        values.insert(name, value);
                    } else if Family::ALL.iter().any(|one| name.starts_with(one.prefix())) {
                        objects.insert(name, told(item).context("an object without revision")?);
                    }
                }
                for from in [disaster.at, disaster.newest] {
                    let told = self.watched(master, &path, from).await?;
                    disaster.watches.push(Watched { by: by.clone(), from, told });
                }
            }
            disaster.lists.push(Listed { by, revision, objects, values });
            disaster.memberships.extend(Membership::of(&self.status(master).await?));
        }
        Ok(())
    }

    /// What a watch is told that asks for what comes after a revision.
    async fn watched(&self, master: usize, path: &str, from: Revision) -> anyhow::Result<String> {
        let mut connection = Connection::open(self.api(master), self.tls()).await?;
        let path = format!("{path}?watch=true&resourceVersion={from}&timeoutSeconds=2");
        let answer = timeout(2 * CONNECT_MAX, connection.call(Method::GET, &path, None)).await;
        Ok(match answer {
            Ok(Ok(answer)) if answer.body["object"]["code"] == 410 => "410".to_owned(),
            Ok(Ok(answer)) if answer.code == 200 => format!("events: {}", answer.body),
            Ok(Ok(answer)) => answer.code.to_string(),
            Ok(Err(error)) => format!("{error:?}"),
            Err(_) => "nothing".to_owned(),
        })
    }

    /// A command on a master's machine.
    async fn quorate(
        &self,
        words: &[&str],
        data: &Path,
        more: &[&std::ffi::OsStr],
    ) -> anyhow::Result<String> {
        let data = format!("--data={}", data.display());
        let words: Vec<&str> = words.iter().copied().chain([data.as_str()]).collect();
        self.offline(&words, more).await
    }

    async fn offline(&self, words: &[&str], more: &[&std::ffi::OsStr]) -> anyhow::Result<String> {
        let running = Command::new(&self.binary)
            .args(words)
            .args(more)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let name = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        let output = timeout(COMMAND_MAX, running).await;
        let output = output.with_context(|| format!("quorate {name} does not end"))??;
        if !output.status.success() {
            bail!("quorate {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// One of them, by a seed.
trait ChooseBy {
    fn choose_by(&self, seed: u64) -> usize;
}

impl ChooseBy for Vec<usize> {
    fn choose_by(&self, seed: u64) -> usize {
        self[usize::try_from(seed % self.len() as u64).unwrap_or_default()]
    }
}

/// What the product refuses here is what the run looks for.
fn broke(error: anyhow::Error) -> anyhow::Error {
    Broke::new(format!("{error:#}")).into()
}

fn revision_of(list: &Value) -> anyhow::Result<Revision> {
    let version = list["metadata"]["resourceVersion"].as_str();
    version.and_then(|text| text.parse().ok()).context("a list without a resourceVersion")
}
