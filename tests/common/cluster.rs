//! Processes of the real binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{free_port, until};

/// Generous: the tests share two cores with whatever else runs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One process of the binary. Killed when dropped.
pub struct Process {
    child: Child,
    pub log: PathBuf,
}

impl Process {
    pub fn start(log: &Path, arguments: &[&str]) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(arguments)
            .env("QUORATE_LOG_LEVEL", "info,openraft=error")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    pub fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not stop:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log says so.
    pub fn says(&mut self, text: &str) {
        until(&format!("{text:?} in {}", self.log.display()), PATIENCE, || {
            let said = self.text();
            assert!(said.contains(text) || self.is_running(), "it has ended:\n{said}");
            said.contains(text)
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.text();
            let from = text.len().saturating_sub(6000);
            let tail = text.get(from..).unwrap_or_default();
            eprintln!("=== end of {}\n{tail}\n===", self.log.display());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A master of a cluster on this machine.
pub struct MasterProcess {
    pub process: Process,
    pub name: String,
    pub data: PathBuf,
    pub api_port: u16,
    pub peer_port: u16,
}

impl MasterProcess {
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }
}

/// Masters and agents on this machine.
pub struct Cluster {
    pub directory: tempfile::TempDir,
    pub masters: Vec<MasterProcess>,
    pub agents: Vec<Process>,
}

impl Cluster {
    /// As many masters as asked for, all voters.
    pub fn start(masters: usize) -> Self {
        let directory = tempfile::Builder::new().prefix("quorate-").tempdir().unwrap();
        let mut cluster = Self { directory, masters: Vec::new(), agents: Vec::new() };
        for number in 0..masters {
            cluster.add_master(number);
        }
        cluster
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn add_master(&mut self, number: usize) {
        let name = format!("m{number}");
        let data = self.directory.path().join(&name);
        let (api_port, peer_port) = (free_port(), free_port());
        let join = (number > 0).then(|| (self.masters[0].url(), self.token("server")));
        let process = self.run_master(&name, &data, api_port, peer_port, join);
        let mut master = MasterProcess { process, name, data, api_port, peer_port };
        master.process.says("ready after");
        self.masters.push(master);
    }

    fn run_master(
        &self,
        name: &str,
        data: &Path,
        api_port: u16,
        peer_port: u16,
        join: Option<(String, String)>,
    ) -> Process {
        let (api, peer) = (format!("127.0.0.1:{api_port}"), format!("127.0.0.1:{peer_port}"));
        let (data, kubeconfig) = (data.display().to_string(), self.kubeconfig());
        let kubeconfig = kubeconfig.display().to_string();
        let mut arguments = vec![
            "server",
            "--name",
            name,
            "--data",
            &data,
            "--listen",
            &api,
            "--peer-listen",
            &peer,
            "--kubeconfig",
            &kubeconfig,
        ];
        if let Some((url, token)) = &join {
            arguments.extend(["--join", url, "--token", token]);
        }
        Process::start(&self.directory.path().join(format!("{name}.log")), &arguments)
    }

    /// Starts a killed master again on its data.
    pub fn restart(&mut self, number: usize) {
        let MasterProcess { name, data, api_port, peer_port, .. } = &self.masters[number];
        let process = self.run_master(name, data, *api_port, *peer_port, None);
        self.masters[number].process = process;
    }

    pub fn token(&self, role: &str) -> String {
        let output = self.quorate(&["token", "create", "--role", role]);
        output.trim().to_owned()
    }

    /// Runs a command of the binary against the first master's directory.
    pub fn quorate(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(arguments)
            .arg("--data")
            .arg(&self.masters[0].data)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "quorate {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A node agent that knows all masters.
    pub fn add_agent(&mut self, name: &str, socket: &Path) {
        let servers: Vec<String> = self.masters.iter().map(MasterProcess::url).collect();
        let token = self.token("agent");
        let data = self.directory.path().join(name).display().to_string();
        let socket = socket.display().to_string();
        let process = Process::start(
            &self.directory.path().join(format!("{name}.log")),
            &[
                "agent",
                "--name",
                name,
                "--data",
                &data,
                "--server",
                &servers.join(","),
                "--token",
                &token,
                "--runtime",
                "containerd",
                "--containerd-socket",
                &socket,
            ],
        );
        self.agents.push(process);
    }

    /// Number of the master that leads, as any living one says.
    pub fn leader(&self) -> usize {
        let status: serde_json::Value =
            serde_json::from_str(&self.quorate(&["status", "-o", "json"])).unwrap();
        let leader = status["leader"].as_str().unwrap().to_owned();
        self.masters.iter().position(|master| master.name == leader).unwrap()
    }
}
