//! What runs as the last step before a container's program: `execve` with clean signal dispositions, and a word to the
//! shim when it fails.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use seccompiler::BpfProgram;

use super::seccomp::install;

/// Executes the program; `errors` is a pipe that a successful `execve` closes.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) errors: Rc<File>,
    /// Its system call filters.
    pub(super) filters: Vec<BpfProgram>,
}

fn args(spec: &Spec) -> &[String] {
    let process = spec.process().as_ref();
    process.and_then(|p| p.args().as_deref()).unwrap_or_default()
}

/// `execvp`'s search, with the container's own PATH.
fn find(program: &str, spec: &Spec) -> Result<PathBuf, String> {
    let not_found = |why: &str| Err(format!("exec: \"{program}\": {why}"));
    if program.contains('/') {
        return match Path::new(program).metadata() {
            Ok(meta) if meta.is_dir() => not_found("is a directory"),
            Ok(meta) if meta.permissions().mode() & 0o111 == 0 => not_found("permission denied"),
            Ok(_) => Ok(PathBuf::from(program)),
            Err(_) => not_found("no such file or directory"),
        };
    }
    let env = spec.process().as_ref().and_then(|p| p.env().as_deref()).unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    for dir in path.split(':').filter(|dir| !dir.is_empty()) {
        let candidate = Path::new(dir).join(program);
        let executable = |m: &std::fs::Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
        if candidate.metadata().is_ok_and(|m| executable(&m)) {
            return Ok(candidate);
        }
    }
    not_found("executable file not found in $PATH")
}

impl Executor for Program {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = args(spec);
        let [program, rest @ ..] = args else { return Err(ExecutorError::InvalidArg) };
        let path = find(program, spec).map_err(ExecutorError::Other)?;
        // `exec` of the standard library also gives SIGPIPE and the signal mask back their defaults.
        let mut command = Command::new(&path);
        command.arg0(program).args(rest);
        let err = install::exec(command, self.filters.clone());
        let text = format!("exec {}: {err}", String::from_utf8_lossy(path.as_os_str().as_bytes()));
        let _ = self.errors.as_ref().write_all(text.as_bytes());
        Err(ExecutorError::Other(text))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let bad = ExecutorValidationError::ArgValidationError;
        let program = args(spec).first().ok_or_else(|| bad("no command specified".into()))?;
        find(program, spec).map(drop).map_err(bad)
    }
}

/// The first process of a shared PID namespace: it reaps and otherwise waits to be killed. Nothing is executed, so it
/// costs next to no memory.
#[derive(Clone)]
pub(super) struct Pause;

impl Executor for Pause {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        // Nothing of the shim's may stay open here.
        for fd in 3..1024 {
            let _ = nix::unistd::close(fd);
        }
        loop {
            match rustix::process::wait(rustix::process::WaitOptions::empty()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => std::thread::sleep(std::time::Duration::from_secs(1)),
            }
        }
    }

    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}
