//! A change of the cluster's authorities, as `docs/runbooks/certificate-rotation.md` has it, with the commands that
//! people type: `quorate certs rotate-ca` until the new ones sign, a kubeconfig of now for all clients, `--finish`, and
//! another kubeconfig. What is refused, because a master is away, is typed again, on the next master's machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::kubeconfig::{Credentials, Identity};
use super::workload::lock;
use crate::limits::{CALL_MAX, ROTATE_AGAIN, ROTATE_COMMAND_MAX};

/// Where and as whom commands are typed.
#[derive(Debug, Clone)]
pub struct Place {
    /// The program.
    pub binary: PathBuf,
    /// Data directories of the masters, on whose machines it is typed.
    pub data: Vec<PathBuf>,
    /// Where kubeconfigs are put.
    pub directory: PathBuf,
    /// Those of all clients of the run.
    pub credentials: Arc<Credentials>,
}

/// A change that is under way, or over. It ends with this value.
#[derive(Debug)]
pub struct Rotation {
    task: JoinHandle<()>,
    progress: Arc<Mutex<Progress>>,
    /// How much distrust there was before.
    distrust: usize,
}

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    /// What was done, in words.
    did: Vec<String>,
    /// What the last command that was refused said.
    refused: String,
    /// Commands that were refused.
    again: usize,
    /// What clients came with before the first step.
    old: Option<Arc<Identity>>,
    is_over: bool,
}

impl Rotation {
    /// Begins it.
    #[must_use]
    pub fn start(place: Place) -> Self {
        let progress: Arc<Mutex<Progress>> = Arc::default();
        let distrust = place.credentials.distrust().len();
        let told = progress.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = place.change(&told).await {
                lock(&told).refused = format!("{error:#}");
            }
        });
        Self { task, progress, distrust }
    }

    /// How far it is, in words.
    #[must_use]
    pub fn shown(&self) -> String {
        let progress = lock(&self.progress);
        let did = progress.did.last().map_or("the first command is typed", String::as_str);
        format!("the authorities are being changed: {did}")
    }

    /// All that was done, when it is over.
    ///
    /// # Errors
    /// How far it came, and what is in its way.
    pub fn over(&self) -> Result<String, String> {
        let progress = lock(&self.progress);
        let did = progress.did.join(", ");
        match progress.is_over {
            true => Ok(format!("{did}; typed again {} times", progress.again)),
            false => Err(format!("done: {did:?}; refused last: {:?}", progress.refused)),
        }
    }

    /// What clients came with before.
    #[must_use]
    pub fn old(&self) -> Option<Arc<Identity>> {
        lock(&self.progress).old.clone()
    }

    /// How much distrust there was before it.
    #[must_use]
    pub fn distrust(&self) -> usize {
        self.distrust
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Place {
    async fn change(&self, told: &Mutex<Progress>) -> anyhow::Result<()> {
        let note = |what: &str| lock(told).did.push(what.to_owned());
        self.insist(&["certs", "rotate-ca", "--yes"], told).await;
        note("the new authorities sign");
        lock(told).old = Some(self.renew("kubeconfig-signed", told).await?);
        note("all clients have a new kubeconfig");
        self.insist(&["certs", "rotate-ca", "--finish", "--yes"], told).await;
        note("the old authorities are gone");
        self.renew("kubeconfig-finished", told).await?;
        let mut progress = lock(told);
        progress.did.push("and another kubeconfig".to_owned());
        progress.is_over = true;
        Ok(())
    }

    /// Types a command on one machine after the other, until it succeeds.
    async fn insist(&self, words: &[&str], told: &Mutex<Progress>) {
        for data in self.data.iter().cycle() {
            match self.quorate(data, words).await {
                Ok(_) => return,
                Err(error) => {
                    let mut progress = lock(told);
                    progress.refused = format!("{error:#}");
                    progress.again += 1;
                }
            }
            tokio::time::sleep(ROTATE_AGAIN).await;
        }
    }

    /// A kubeconfig of now, for all clients; returns when nothing is under way with the one of before.
    async fn renew(&self, name: &str, told: &Mutex<Progress>) -> anyhow::Result<Arc<Identity>> {
        let file = self.directory.join(name);
        if file.exists() {
            // Of a change before this one.
            std::fs::remove_file(&file)?;
        }
        let argument = format!("--kubeconfig={}", file.display());
        self.insist(&["kubeconfig", &argument], told).await;
        let old = self.credentials.renew(&Credentials::read(&file)?.1);
        let begin = Instant::now();
        // Answers that are waited for have an end; streams of watchers go on.
        while old.calls() > 0 {
            if begin.elapsed() > 2 * CALL_MAX {
                bail!("calls with the kubeconfig of before do not end");
            }
            tokio::time::sleep(super::POLL).await;
        }
        Ok(old)
    }

    async fn quorate(&self, data: &Path, words: &[&str]) -> anyhow::Result<String> {
        let typing = Command::new(&self.binary)
            .args(words)
            .arg(format!("--data={}", data.display()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(ROTATE_COMMAND_MAX, typing).await.context("it does not end")??;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether every master says that no change is under way, and which authorities it has; in words.
    ///
    /// # Errors
    /// Who is behind, or why nobody says it.
    pub async fn is_finished(&self, data: &Path) -> anyhow::Result<String> {
        let list = self.quorate(data, &["certs", "list", "-o", "json"]).await?;
        finished(&serde_json::from_str(&list)?, self.data.len())
    }
}

/// What `quorate certs list` says of the authorities of so many masters.
fn finished(list: &Value, masters: usize) -> anyhow::Result<String> {
    let all = list["authorities"].as_array().context("no authorities are listed")?;
    let first = all.first().context("no master answered")?["generation"].as_u64();
    let behind = all.iter().any(|one| {
        one["phase"] != "done" || one["generation"].as_u64() != first || first < Some(2)
    });
    if behind || all.len() != masters {
        bail!("{} of {masters} masters answered: {}", all.len(), list["authorities"]);
    }
    let generation = first.unwrap_or_default();
    let rows = list["certificates"].as_array().context("no certificates are listed")?;
    let leaves = rows.iter().filter(|row| row["authority"] != true);
    let old: Vec<String> = leaves
        .filter(|row| !row["signedBy"].as_str().unwrap_or("").ends_with(&format!(" {generation}")))
        .map(|row| format!("{} of {}", row["name"], row["master"]))
        .collect();
    if !old.is_empty() {
        bail!("signed by an old authority: {}", old.join(", "));
    }
    Ok(format!("all {masters} masters have authorities of generation {generation} alone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_finished_when_every_master_has_the_same_new_ones_alone() {
        let list = |phases: [&str; 2], generations: [u64; 2], signer: &str| {
            json!({
                "authorities": [
                    {"master": "m1", "generation": generations[0], "phase": phases[0]},
                    {"master": "m2", "generation": generations[1], "phase": phases[1]},
                ],
                "certificates": [
                    {"master": "m1", "name": "cluster-ca", "authority": true, "signedBy": "x"},
                    {"master": "m1", "name": "serving", "authority": false, "signedBy": signer},
                ],
            })
        };
        let done = ["done", "done"];
        let said = finished(&list(done, [2, 2], "quorate-ca 2"), 2).unwrap();
        assert_eq!(said, "all 2 masters have authorities of generation 2 alone");
        for (list, masters) in [
            (list(["done", "sign"], [2, 2], "quorate-ca 2"), 2),
            (list(done, [2, 1], "quorate-ca 2"), 2),
            (list(done, [1, 1], "quorate-ca 1"), 2),
            (list(done, [2, 2], "quorate-ca"), 2),
            (list(done, [2, 2], "quorate-ca 2"), 3),
        ] {
            finished(&list, masters).unwrap_err();
        }
    }
}
