//! Masters and node agents on this machine, each a process of the real binary.

use std::path::{Path, PathBuf};

use super::containerd::Containerd;
use super::process::{Process, run_to_end};
use super::scratch::Scratch;
use super::{PATIENCE, PodRange, free_port, step, until};

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
    // In the order in which they go: the directory takes what is left.
    pub agents: Vec<Process>,
    pub masters: Vec<MasterProcess>,
    pub range: PodRange,
    /// Where the masters have their data.
    data: PathBuf,
    /// Further options of each master that is started from now on.
    pub options: Vec<String>,
    /// In the environment of each master that is started from now on.
    pub variables: Vec<(String, String)>,
    pub directory: Scratch,
}

impl Cluster {
    /// As many masters as asked for, all voters.
    pub fn start(masters: usize) -> Self {
        Self::start_in(None, masters)
    }

    /// The same, with further options for each of them.
    pub fn start_with(masters: usize, options: &[&str]) -> Self {
        let mut cluster = Self::start_in(None, 0);
        cluster.options = options.iter().map(ToString::to_string).collect();
        for number in 0..masters {
            cluster.add_master(number, 0);
        }
        cluster
    }

    /// The same, with the masters' data in another place.
    pub fn start_in(data: Option<&Path>, masters: usize) -> Self {
        let directory = Scratch::new("cluster");
        let range = PodRange::claim();
        let data = data.unwrap_or_else(|| directory.path()).to_owned();
        let (masters_before, agents, options) = (Vec::new(), Vec::new(), Vec::new());
        let variables = Vec::new();
        let before = masters_before;
        let mut cluster =
            Self { data, directory, range, masters: before, agents, options, variables };
        for number in 0..masters {
            cluster.add_master(number, 0);
        }
        cluster
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The next master, which joins through the one `via` unless it is the first.
    pub fn add_master(&mut self, number: usize, via: usize) {
        let name = format!("m{number}");
        let data = self.data.join(&name);
        let (api_port, peer_port) = (free_port(), free_port());
        let join = (number > 0).then(|| {
            let token = self.quorate_at(via, &["token", "create", "--role", "server"]);
            (self.masters[via].url(), token.trim().to_owned())
        });
        let process = self.run_master(&name, &data, api_port, peer_port, join);
        self.masters.push(MasterProcess { process, name, data, api_port, peer_port });
        self.masters[number].process.says("ready after");
    }

    /// Runs `quorate server --join` as `add_master` does, to its end.
    pub fn failing_join(&self, name: &str, options: &[&str]) -> String {
        let token = self.token("server");
        let (api, peer) = (free_port(), free_port());
        let (api, peer) = (format!("127.0.0.1:{api}"), format!("127.0.0.1:{peer}"));
        let data = self.data.join(name).display().to_string();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["server", "--name", name, "--data", &data, "--listen", &api]);
        command.args(["--peer-listen", &peer, "--join", &self.masters[0].url()]);
        command.args(["--token", &token]).args(options);
        step(&format!("+ quorate server --join, as {name}, {options:?}"));
        let output = run_to_end(&mut command, b"", PATIENCE);
        assert!(!output.status.success(), "the join of {name} should fail");
        String::from_utf8(output.stderr).unwrap()
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
        let mut arguments = vec!["server", "--name", name, "--data", &data, "--listen", &api];
        arguments.extend(["--peer-listen", &peer, "--kubeconfig", &kubeconfig]);
        arguments.extend(["--cluster-cidr", &self.range.cidr]);
        arguments.extend(self.options.iter().map(String::as_str));
        if let Some((url, token)) = &join {
            arguments.extend(["--join", url, "--token", token]);
        }
        let log = self.directory.path().join(format!("{name}.log"));
        Process::start_in(&log, &arguments, &self.variables)
    }

    /// Starts a killed master again on its data.
    pub fn restart(&mut self, number: usize) {
        let MasterProcess { name, data, api_port, peer_port, .. } = &self.masters[number];
        let process = self.run_master(name, data, *api_port, *peer_port, None);
        self.masters[number].process = process;
    }

    /// Lets a master join anew through another, from an empty directory.
    pub fn rejoin(&mut self, number: usize, via: usize) {
        let token = self.quorate_at(via, &["token", "create", "--role", "server"]);
        let join = Some((self.masters[via].url(), token.trim().to_owned()));
        let MasterProcess { name, data, api_port, peer_port, .. } = &self.masters[number];
        let process = self.run_master(name, data, *api_port, *peer_port, join);
        self.masters[number].process = process;
        self.masters[number].process.says_again("ready after");
    }

    pub fn token(&self, role: &str) -> String {
        let output = self.quorate(&["token", "create", "--role", role]);
        output.trim().to_owned()
    }

    /// Runs a command of the binary against the first master's directory.
    pub fn quorate(&self, arguments: &[&str]) -> String {
        self.quorate_at(0, arguments)
    }

    /// Runs a command of the binary against one master's directory.
    pub fn quorate_at(&self, number: usize, arguments: &[&str]) -> String {
        let output = self.tried_at(number, arguments);
        assert!(
            output.status.success(),
            "quorate {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, of a command that may fail.
    pub fn tried_at(&self, number: usize, arguments: &[&str]) -> std::process::Output {
        step(&format!("+ quorate {} (at {})", arguments.join(" "), self.masters[number].name));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(arguments).arg("--data").arg(&self.masters[number].data);
        run_to_end(&mut command, b"", PATIENCE)
    }

    /// The error line of a command that fails.
    pub fn refused_at(&self, number: usize, arguments: &[&str]) -> String {
        let output = self.tried_at(number, arguments);
        assert!(!output.status.success(), "quorate {arguments:?} should be refused");
        String::from_utf8(output.stderr).unwrap().trim().to_owned()
    }

    /// A node agent that knows all masters. One of the same name goes on with what the former left.
    pub fn add_agent(&mut self, name: &str, containerd: &Containerd) {
        let servers: Vec<String> = self.masters.iter().map(MasterProcess::url).collect();
        let token = self.token("agent");
        let data = self.directory.path().join(name).display().to_string();
        let socket = containerd.socket().display().to_string();
        let cni = containerd.cni_dir().display().to_string();
        let servers = servers.join(",");
        let mut arguments = vec!["agent", "--name", name, "--data", &data, "--server", &servers];
        arguments.extend(["--token", &token, "--runtime", "containerd"]);
        // However full the disk of whoever runs the tests is.
        arguments.extend(["--eviction-hard", "memory.available<100Mi"]);
        arguments.extend(["--containerd-socket", &socket, "--cni-conf-dir", &cni]);
        let log = self.directory.path().join(format!("{name}.log"));
        let process = Process::start(&log, &arguments);
        self.agents.push(process);
    }

    /// A node agent with the built-in runtime, which is given this image.
    pub fn add_builtin_agent(&mut self, name: &str, archive: &Path) {
        let servers: Vec<String> = self.masters.iter().map(MasterProcess::url).collect();
        let token = self.token("agent");
        let data = self.directory.path().join(name);
        let mut import = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
        import.args(["agent", "images", "import", "--data"]).arg(&data).arg(archive);
        let output = run_to_end(&mut import, b"", PATIENCE);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (data, servers) = (data.display().to_string(), servers.join(","));
        let mut arguments = vec!["agent", "--name", name, "--data", &data, "--server", &servers];
        arguments.extend(["--token", &token, "--runtime", "builtin"]);
        arguments.extend(["--eviction-hard", "memory.available<100Mi"]);
        let log = self.directory.path().join(format!("{name}.log"));
        self.agents.push(Process::start(&log, &arguments));
    }

    /// Number of the master that leads, as the master `asked` says.
    pub fn leader_as_seen_by(&self, asked: usize) -> usize {
        let mut leader = None;
        until("a leader is known", PATIENCE, || {
            let status = self.quorate_at(asked, &["status", "-o", "json"]);
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let name = status["leader"].as_str().unwrap_or_default().to_owned();
            leader = self.masters.iter().position(|master| master.name == name);
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Number of the master that leads.
    pub fn leader(&self) -> usize {
        self.leader_as_seen_by(0)
    }

    /// The numbers of all masters but one.
    pub fn others(&self, number: usize) -> Vec<usize> {
        (0..self.masters.len()).filter(|other| *other != number).collect()
    }
}
