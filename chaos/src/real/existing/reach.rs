//! How commands reach a master's machine: by `ssh`, or by a command that runs another one there.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::limits::REACH_MAX;

/// A way to a machine: `ssh://[USER@]HOST[:PORT]` or `exec:COMMAND`.
#[derive(Debug, Clone)]
pub struct Reach {
    way: Way,
    /// One command at a time on each machine, in the order of their beginnings.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Ssh {
        to: String,
        port: Option<u16>,
    },
    /// Words before the command.
    Exec(Vec<String>),
}

impl Reach {
    /// All of a list with commas, such as `ssh://root@a,ssh://root@b` or `exec:docker exec m1,exec:docker exec m2`.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn all(text: &str) -> Result<Vec<Self>, String> {
        // A command may have commas of its own.
        let mut parts: Vec<String> = Vec::new();
        for piece in text.split(',') {
            match parts.last_mut() {
                Some(last) if !piece.starts_with("ssh://") && !piece.starts_with("exec:") => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ => parts.push(piece.to_owned()),
            }
        }
        parts.iter().map(|part| Self::one(part)).collect()
    }

    fn one(text: &str) -> Result<Self, String> {
        let way = if let Some(to) = text.strip_prefix("ssh://") {
            let to = to.trim_end_matches('/');
            let (to, port) = match to.rsplit_once(':') {
                Some((to, port)) if !to.ends_with(']') || !port.contains(']') => {
                    let port = port.parse().map_err(|_| format!("{text}: no port: {port:?}"))?;
                    (to, Some(port))
                }
                _ => (to, None),
            };
            // What begins with a dash would be an option of ssh.
            if to.is_empty() || to.starts_with('-') || to.contains(char::is_whitespace) {
                return Err(format!("{text}: no host; it is to be ssh://[USER@]HOST[:PORT]"));
            }
            Way::Ssh { to: to.to_owned(), port }
        } else if let Some(command) = text.strip_prefix("exec:") {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                return Err(format!(
                    "{text}: no command; it is to be exec:COMMAND, such as exec:docker exec m1"
                ));
            }
            Way::Exec(words)
        } else {
            return Err(format!("{text}: neither a number nor ssh://[USER@]HOST nor exec:COMMAND"));
        };
        Ok(Self { way, turn: Arc::default() })
    }

    /// The words of the command that runs a script there.
    #[must_use]
    pub fn words(&self, script: &str) -> Vec<String> {
        match &self.way {
            Way::Ssh { to, port } => {
                let mut words: Vec<String> =
                    ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
                        .map(String::from)
                        .into();
                words.extend(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
                // The shell there takes it apart.
                words.extend([to.clone(), "--".to_owned(), format!("sh -c {}", quoted(script))]);
                words
            }
            Way::Exec(prefix) => {
                let mut words = prefix.clone();
                words.extend(["sh", "-c", script].map(String::from));
                words
            }
        }
    }

    /// The command as one can give it to a shell.
    #[must_use]
    pub fn command(&self, script: &str) -> String {
        self.words(script).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// Runs a script there; what it said. It goes on when this future is dropped, and the next one waits for it.
    ///
    /// # Errors
    /// When the machine cannot be reached, the script ends with an error, or takes longer than [`REACH_MAX`].
    pub async fn run(&self, script: &str) -> anyhow::Result<String> {
        let (words, turn, name) = (self.words(script), self.turn.clone(), self.to_string());
        let running = tokio::spawn(async move {
            let _turn = turn.lock().await;
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stdin(Stdio::null()).kill_on_drop(true);
            let output = timeout(REACH_MAX, command.output()).await;
            let output =
                output.with_context(|| format!("{name} did not answer in {REACH_MAX:?}"))?;
            let output = output.with_context(|| format!("{name}: cannot run {}", words[0]))?;
            if !output.status.success() {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
                bail!("{name}: {said} ({})", output.status);
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        });
        running.await.context("a command was given up")?
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Ssh { to, port: None } => write!(f, "ssh://{to}"),
            Way::Ssh { to, port: Some(port) } => write!(f, "ssh://{to}:{port}"),
            Way::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

/// As a POSIX shell takes it for one word.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_read() {
        let all = Reach::all("ssh://root@a:2222,exec:docker exec -e A=1,B=2 m2,ssh://b").unwrap();
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["ssh://root@a:2222", "exec:docker exec -e A=1,B=2 m2", "ssh://b"]);
        assert_eq!(
            all[0].command("kill 'x'"),
            r#"ssh -o BatchMode=yes -o ConnectTimeout=5 -p 2222 root@a -- 'sh -c '\''kill '\''\'\'''\''x'\''\'\'''\'''\'''"#
        );
        assert_eq!(all[1].command("a b"), "docker exec -e A=1,B=2 m2 sh -c 'a b'");
    }

    #[test]
    fn what_is_no_way_is_refused() {
        for (text, wanted) in [
            ("three", "neither a number"),
            ("exec:", "no command"),
            ("ssh://", "no host"),
            ("ssh://-oProxyCommand=x", "no host"),
            ("ssh://a:b", "no port"),
        ] {
            let said = Reach::all(text).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[tokio::test]
    async fn a_command_tells_what_it_said_and_how_it_failed() {
        let reach = Reach::all("exec:env A=1").unwrap().remove(0);
        assert_eq!(reach.run("echo $A").await.unwrap(), "1");
        let error = reach.run("echo no; exit 3").await.unwrap_err();
        assert_eq!(error.to_string(), "exec:env A=1: no (exit status: 3)");
        let none = Reach::all("exec:/no/such/program").unwrap().remove(0);
        assert!(none.run("true").await.unwrap_err().to_string().contains("cannot run"));
    }
}
