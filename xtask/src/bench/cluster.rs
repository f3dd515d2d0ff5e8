//! Masters as real processes on free ports, each with a directory of its own on a real disk. They
//! die with the value that holds them.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::client::{self, Client};
use super::{limits, say};

/// One master.
pub(crate) struct Master {
    /// `m0`, `m1`, …
    pub(crate) name: String,
    /// Where its API listens
    pub(crate) port: u16,
    /// Its own arguments, to start it again
    arguments: Vec<String>,
    data: PathBuf,
    log: PathBuf,
    process: Child,
}

/// A cluster of masters.
pub(crate) struct Cluster {
    /// In the order in which they joined
    pub(crate) masters: Vec<Master>,
    /// Admin credentials
    pub(crate) tls: Arc<ClientConfig>,
    /// From exec to `ready after`, of each
    pub(crate) started_in: Vec<Duration>,
    binary: PathBuf,
    /// Deleted after the masters are gone: fields drop in this order
    _directory: TempDir,
}

impl Cluster {
    /// Starts the first master and lets the others join it.
    pub(crate) async fn start(
        binary: &Path,
        masters: usize,
        directory: TempDir,
    ) -> anyhow::Result<Self> {
        let kubeconfig = directory.path().join("kubeconfig");
        let mut started_in = Vec::new();
        let mut running: Vec<Master> = Vec::new();
        for number in 0..masters {
            let name = format!("m{number}");
            let data = directory.path().join(&name);
            let (port, peer_port) = free_ports()?;
            let mut arguments = vec![
                "server".to_owned(),
                format!("--name={name}"),
                format!("--data={}", data.display()),
                format!("--listen=127.0.0.1:{port}"),
                format!("--peer-listen=127.0.0.1:{peer_port}"),
                format!("--kubeconfig={}", kubeconfig.display()),
                "--log-level=warn".to_owned(),
            ];
            if let Some(first) = running.first() {
                let token = server_token(binary, &first.data).await?;
                arguments.push(format!("--join=https://127.0.0.1:{}", first.port));
                arguments.push(format!("--token={token}"));
            }
            let log = directory.path().join(format!("{name}.log"));
            let begin = Instant::now();
            let process = spawn(binary, &arguments, &log).await?;
            started_in.push(begin.elapsed());
            say(&format!("{name}: ready after {} ms", begin.elapsed().as_millis()));
            running.push(Master { name, port, arguments, data, log, process });
        }
        let tls = client::tls(&kubeconfig)?;
        let binary = binary.to_owned();
        Ok(Self { masters: running, tls, started_in, binary, _directory: directory })
    }

    /// Stops a master in good order and starts it again on its directory: time from exec to ready.
    pub(crate) async fn restart(&mut self, number: usize) -> anyhow::Result<Duration> {
        let master = &mut self.masters[number];
        stop(&mut master.process).await?;
        let begin = Instant::now();
        master.process = spawn(&self.binary, &master.arguments, &master.log).await?;
        Ok(begin.elapsed())
    }

    /// Sends a signal to a master's process.
    pub(crate) fn signal(&self, number: usize, signal: Signal) -> anyhow::Result<()> {
        let id = self.masters[number].process.id().context("the master is gone")?;
        let id = Pid::from_raw(id.cast_signed()).context("no process has the number 0")?;
        Ok(rustix::process::kill_process(id, signal)?)
    }

    /// Starts a master again whose process was told to end.
    pub(crate) async fn start_again(&mut self, number: usize) -> anyhow::Result<()> {
        let master = &mut self.masters[number];
        let ended = timeout(limits::STOP_MAX, master.process.wait()).await;
        ended.with_context(|| format!("{} does not end", master.name))??;
        master.process = spawn(&self.binary, &master.arguments, &master.log).await?;
        Ok(())
    }

    /// Waits until every master answers a consistent read.
    pub(crate) async fn all_serve(&self) -> anyhow::Result<()> {
        for master in &self.masters {
            let begin = Instant::now();
            loop {
                let asking = async {
                    let client = Client::connect(master.port, &self.tls, 1).await?;
                    client.get("/api/v1/namespaces/default").await
                };
                match asking.await {
                    Ok(_) => break,
                    Err(error) if begin.elapsed() > limits::START_MAX => return Err(error),
                    Err(_) => tokio::time::sleep(limits::POLL).await,
                }
            }
        }
        Ok(())
    }

    /// The masters' places in `masters`: the leader, and some follower when there is one.
    pub(crate) async fn leader_and_follower(&self) -> anyhow::Result<(usize, Option<usize>)> {
        let deadline = Instant::now() + limits::LEADER_MAX;
        loop {
            let client = Client::connect(self.masters[0].port, &self.tls, 1).await?;
            let status = client.get("/quorate/v1/status").await;
            let leader = status.as_ref().ok().and_then(|status| status["leader"].as_str());
            let place = leader.and_then(|name| self.masters.iter().position(|m| m.name == name));
            if let Some(leader) = place {
                return Ok((leader, (0..self.masters.len()).find(|place| *place != leader)));
            }
            if Instant::now() > deadline {
                bail!("no leader after {:?}: {status:?}", limits::LEADER_MAX);
            }
            tokio::time::sleep(limits::POLL).await;
        }
    }

    /// Connections to one master.
    pub(crate) async fn client(&self, number: usize) -> anyhow::Result<Client> {
        Client::connect(self.masters[number].port, &self.tls, limits::CONNECTIONS).await
    }

    /// Resident memory of all masters, bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.masters.iter().map(|master| resident_bytes(&master.process)).sum()
    }

    /// What the directories of all masters take on disk, bytes.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        self.masters.iter().map(|master| disk_bytes(&master.data)).sum()
    }

    /// Stops all masters.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for master in self.masters.iter_mut().rev() {
            stop(&mut master.process).await?;
        }
        Ok(())
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?.port(), two.local_addr()?.port()))
}

async fn server_token(binary: &Path, data: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(binary);
    command.args(["token", "create", "--role", "server", "--data"]).arg(data).kill_on_drop(true);
    let output = timeout(limits::START_MAX, command.output())
        .await
        .context("`quorate token create` did not end")??;
    if !output.status.success() {
        bail!("quorate token create: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Starts a master and waits for the line that says that it is ready.
async fn spawn(binary: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Child> {
    let stderr = std::fs::File::options().create(true).append(true).open(log)?;
    let mut process = Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let stdout = process.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("ready after ") {
                return Ok(());
            }
        }
        bail!("the master ended before it was ready")
    };
    let outcome = match timeout(limits::START_MAX, ready).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("not ready after {:?}", limits::START_MAX)),
    };
    outcome.with_context(|| format!("{}\n{}", arguments[1], end_of(log)))?;
    // Reads on, so that the master never waits for its standard output.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(process)
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(limits::LOG_LINES_SHOWN)..].join("\n")
}

async fn stop(process: &mut Child) -> anyhow::Result<()> {
    let id = process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(id) = id {
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
    }
    if timeout(limits::STOP_MAX, process.wait()).await.is_err() {
        say(&format!("a master did not stop in {:?}: killing it", limits::STOP_MAX));
        process.kill().await?;
    }
    Ok(())
}

fn resident_bytes(process: &Child) -> anyhow::Result<u64> {
    let id = process.id().context("the master is gone")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    parse_resident_bytes(&status).context("no VmRSS in /proc")
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Blocks in use, as `du` counts them. Files may vanish meanwhile.
fn disk_bytes(path: &Path) -> anyhow::Result<u64> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(0) };
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += disk_bytes(&entry?.path())?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_proc() {
        let status = "Name:\tquorate\nVmPeak:\t   99 kB\nVmRSS:\t  1234 kB\nThreads:\t3\n";
        assert_eq!(parse_resident_bytes(status), Some(1234 * 1024));
        assert_eq!(parse_resident_bytes("Name:\tx\n"), None);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(parse_resident_bytes(&own).unwrap() > 100_000);
    }

    #[test]
    fn disk_use_counts_all_levels() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("below")).unwrap();
        let before = disk_bytes(directory.path()).unwrap();
        let file = std::fs::File::create(directory.path().join("below/file")).unwrap();
        std::io::Write::write_all(&mut &file, &vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        assert!(disk_bytes(directory.path()).unwrap() >= before + (1 << 20));
        assert_eq!(disk_bytes(&directory.path().join("none")).unwrap(), 0);
    }
}
