//! The real kubectl.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::process::{Running, run_to_end};
use super::{step, until};

/// The longest that one command of kubectl may take: longer than any `--timeout` that the tests give it.
const COMMAND: Duration = Duration::from_secs(150);

/// kubectl with one kubeconfig, and optionally another server than it names.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    server: Option<String>,
    cache: PathBuf,
}

impl Kubectl {
    /// `None`, with a line that says so, when kubectl is not installed.
    pub fn new(kubeconfig: &Path) -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            eprintln!("SKIPPED: kubectl is not installed, so nothing was tested with it");
            return None;
        }
        let cache = kubeconfig.with_extension("cache");
        Some(Self { kubeconfig: kubeconfig.to_owned(), server: None, cache })
    }

    /// The same, asking one particular master.
    pub fn at(&self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self.clone() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        if let Some(server) = &self.server {
            command.args(["--server", server]);
        }
        command.args(arguments).stdin(Stdio::null()).env_remove("KUBECONFIG");
        command
    }

    /// The whole line, for a shell.
    pub fn line(&self, arguments: &str) -> String {
        let server = self.server.as_ref().map(|url| format!(" --server {url}")).unwrap_or_default();
        format!(
            "kubectl --kubeconfig {} --cache-dir {}{server} {arguments}",
            self.kubeconfig.display(),
            self.cache.display()
        )
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        run_to_end(&mut self.command(arguments), b"", COMMAND)
    }

    /// Starts it, to go on beside the test.
    pub fn start(&self, arguments: &[&str]) -> Running {
        step(&format!("+ kubectl {} &", arguments.join(" ")));
        Running::start(&mut self.command(arguments))
    }

    /// In a pseudo terminal, as a person at one uses it. Needs `script`, which every Debian has.
    pub fn in_terminal(&self, arguments: &str) -> Running {
        step(&format!("+ kubectl {arguments} (in a terminal)"));
        let line = format!("stty cols 91 rows 37; exec {}", self.line(arguments));
        Running::start(Command::new("script").args(["-qefc", &line, "/dev/null"]))
    }

    /// Runs it and gives its output; fails the test when kubectl fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// The same, with something on its standard input.
    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> String {
        step(&format!("+ kubectl {}", arguments.join(" ")));
        let output = run_to_end(&mut self.command(arguments), stdin.as_bytes(), COMMAND);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed:\n{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Runs it and gives its exit code, its output and its complaints.
    pub fn tried(&self, arguments: &[&str], stdin: &str) -> (i32, String, String) {
        step(&format!("+ kubectl {}", arguments.join(" ")));
        let output = run_to_end(&mut self.command(arguments), stdin.as_bytes(), COMMAND);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Runs it and gives what it complains about; fails the test when it succeeds.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let (code, _, complaint) = self.tried(arguments, "");
        assert_ne!(code, 0, "kubectl {arguments:?} should have failed");
        complaint
    }

    /// `kubectl get … -o json`, or null when that fails.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_slice(&self.output(&all).stdout).unwrap_or_default()
    }

    /// One field of one object.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.run(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Waits until `kubectl get …` shows what is wanted.
    pub fn until(
        &self,
        what: &str,
        patience: Duration,
        arguments: &[&str],
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        until(what, patience, || {
            last = self.get(arguments);
            holds(&last)
        });
        last
    }
}
