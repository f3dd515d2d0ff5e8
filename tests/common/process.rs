//! Processes that a test starts: none outlives it, and none is waited for without end.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::{PATIENCE, step, until};

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(10);

/// One process of the binary. Killed when dropped.
pub struct Process {
    child: Child,
    pub log: PathBuf,
    /// What those before it have said to the same log.
    begins_at: usize,
}

impl Process {
    pub fn start(log: &Path, arguments: &[&str]) -> Self {
        Self::start_in(log, arguments, &[])
    }

    /// With these variables in its environment, too.
    pub fn start_in(log: &Path, arguments: &[&str], variables: &[(String, String)]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        Self::start_as(log, command, arguments, variables)
    }

    /// The same, with a command that becomes the binary, in a namespace for instance.
    pub fn start_as(
        log: &Path,
        mut command: Command,
        arguments: &[&str],
        variables: &[(String, String)],
    ) -> Self {
        step(&format!("+ quorate {}", arguments.join(" ")));
        let begins_at = std::fs::read_to_string(log).unwrap_or_default().len();
        let out = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .args(arguments)
            .env("QUORATE_LOG_LEVEL", "info,openraft=error")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned(), begins_at }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill_9(&mut self) {
        step(&format!("kill -9 {} ({})", self.child.id(), self.log.display()));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        step(&format!("kill -TERM {pid} ({})", self.log.display()));
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not stop:\n{}", self.text());
            std::thread::sleep(POLL);
        }
    }

    /// The exit status of a process that has ended.
    pub fn stopped(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until this process says so, whatever those before it have said to the same log.
    pub fn says_again(&mut self, text: &str) {
        until(&format!("{text:?} anew in {}", self.log.display()), PATIENCE, || {
            let said = self.own_text();
            assert!(said.contains(text) || self.is_running(), "it has ended:\n{said}");
            said.contains(text)
        });
    }

    /// What this process has said.
    pub fn own_text(&self) -> String {
        self.text().get(self.begins_at..).unwrap_or_default().to_owned()
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
            let from = text.floor_char_boundary(text.len().saturating_sub(6000));
            eprintln!("=== end of {}\n{}\n===", self.log.display(), &text[from..]);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command to its end, with that on its standard input, and gives what it said; fails the test when it does
/// not end in time.
pub fn run_to_end(command: &mut Command, stdin: &[u8], patience: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut input, content) = (child.stdin.take().unwrap(), stdin.to_vec());
    // It may end without having read everything.
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut input, &content)));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read_out = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text).unwrap_or_default()
    });
    let read_err = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| text).unwrap_or_default()
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if began.elapsed() > patience {
            drop(child.kill());
            drop(child.wait());
            break None;
        }
        std::thread::sleep(POLL);
    };
    let (stdout, stderr) = (read_out.join().unwrap(), read_err.join().unwrap());
    writer.join().unwrap();
    let Some(status) = status else {
        panic!(
            "{command:?} does not end within {patience:?}\n{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    };
    Output { status, stdout, stderr }
}

/// A command that goes on beside the test. Killed when dropped.
pub struct Running {
    child: Child,
    seen: std::sync::Arc<std::sync::Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    what: String,
}

impl Running {
    /// Starts it; what it writes to both outputs is kept.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let (mut from, to) = std::io::pipe().unwrap();
        let child = command
            .stdin(Stdio::piped())
            .stdout(to.try_clone().unwrap())
            .stderr(to)
            .spawn()
            .unwrap();
        // The command holds our end of the pipe open: it would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let keep = seen.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(got @ 1..) = from.read(&mut buffer) {
                keep.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..got]));
            }
        });
        Self { child, seen, reader: Some(reader), what }
    }

    /// What it has said so far.
    pub fn text(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has said so.
    pub fn says(&mut self, text: &str) -> String {
        self.says_by(text, |said| said.contains(text))
    }

    /// Waits until what it has said is as wanted.
    pub fn says_by(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        step(&format!("wait for {what:?} from {}", self.what));
        let began = Instant::now();
        loop {
            let (ended, said) = (self.child.try_wait().unwrap(), self.text());
            if holds(&said) {
                return said;
            }
            assert!(ended.is_none(), "{} ended without {what:?}: {ended:?}\n{said}", self.what);
            assert!(began.elapsed() < PATIENCE, "{what:?} not said by {}:\n{said}", self.what);
            std::thread::sleep(POLL);
        }
    }

    /// Types something.
    pub fn types(&mut self, text: &str) {
        step(&format!("type {text:?}"));
        let stdin = self.child.stdin.as_mut().unwrap();
        std::io::Write::write_all(stdin, text.as_bytes()).unwrap();
    }

    /// No more input.
    pub fn closes(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end; gives its exit code and all that it has said.
    pub fn ends(mut self) -> (i32, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "{} does not end:\n{}", self.what, self.text());
            std::thread::sleep(POLL);
        };
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        (status.code().unwrap_or(-1), self.text())
    }

    /// Kills it; gives all that it has said.
    pub fn kill(mut self) -> String {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        self.text()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
