//! The real kubectl.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::until;

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
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it and gives its output; fails the test when kubectl fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed:\n{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Runs it and gives what it complains about; fails the test when it succeeds.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "kubectl {arguments:?} should have failed");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// `kubectl get … -o json`, or null when that fails.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_slice(&self.output(&all).stdout).unwrap_or_default()
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
