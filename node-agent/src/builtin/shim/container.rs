//! One container in the shim: its process, its streams, its log and its status on disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use jiff::Timestamp;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::Executor;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use super::executor::Program;
use super::log::{Lines, LogFile};
use super::protocol::{FailureKind, Inbox};
use crate::builtin::cgroup::Cgroup;
use crate::builtin::limits::PIPE_READ_BYTES;
use crate::builtin::record::{self, ContainerRecord, SandboxDir, SandboxRecord, StatusRecord};
use crate::runtime::ContainerState;

/// A refusal with its kind, as it goes to the agent.
pub(super) type Failure = (FailureKind, String);

/// An attached reader of a container's output.
pub(super) struct Sink {
    pub(super) fd: OwnedFd,
    pub(super) pending: Vec<u8>,
}

/// One output stream of a container.
pub(super) struct Output {
    pub(super) fd: OwnedFd,
    pub(super) is_stderr: bool,
    lines: Lines,
    pub(super) sinks: Vec<Sink>,
}

/// A container and all that the shim holds for it.
pub(super) struct Managed {
    pub(super) record: ContainerRecord,
    pub(super) status: StatusRecord,
    pub(super) spec: Value,
    /// System call filters of all its processes.
    pub(super) filters: Vec<seccompiler::BpfProgram>,
    dir: PathBuf,
    cgroup: Cgroup,
    log: LogFile,
    pub(super) outputs: Vec<Output>,
    /// The writing end of its stdin, or its terminal.
    pub(super) stdin: Option<OwnedFd>,
    /// Attached writers, and what of theirs waits to be taken.
    pub(super) source: Option<OwnedFd>,
    pub(super) pending_in: Vec<u8>,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) kill_at: Option<Instant>,
    /// The status on disk is not the present one.
    unsaved: bool,
    /// Connections to answer when it has ended.
    pub(super) stop_waiters: Vec<u64>,
    pub(super) attach_waiters: Vec<u64>,
}

/// How the streams of a new process are given to libcontainer.
pub(super) enum Stdio {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal; its master comes back from [`launch`].
    Terminal,
}

/// What to start with libcontainer.
pub(super) enum Launch<'a> {
    /// A container from its bundle; it waits to be started.
    Init { bundle: &'a Path },
    /// A process in a running container, from a process file; it runs.
    Tenant { process: &'a Path },
}

/// Starts a process with libcontainer. Gives its pid and, with a terminal, the master.
pub(super) fn launch(
    dir: &SandboxDir,
    id: &str,
    what: &Launch<'_>,
    executor: impl Executor + 'static,
    stdio: Stdio,
) -> Result<(i32, Option<OwnedFd>), String> {
    let text = |err: &dyn std::error::Error| innermost(err);
    let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(dir.state())
        .map_err(|err| text(&err))?
        .with_executor(executor);
    let mut console = None;
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        Stdio::Terminal => {
            let socket = Console::open(&dir.0).map_err(|err| text(&err))?;
            builder = builder.with_console_socket(Some(&socket.path));
            console = Some(socket);
        }
    }
    let pid = match what {
        Launch::Init { bundle } => {
            let built = builder.as_init(*bundle).with_systemd(false).with_detach(true).build();
            let container = built.map_err(|err| text(&err))?;
            container.pid().map(nix29_pid).ok_or("the container has no process")?
        }
        Launch::Tenant { process } => {
            let builder = builder.as_tenant().with_process(Some(process)).with_detach(true);
            builder.build().map_err(|err| text(&err))?.as_raw()
        }
    };
    let master = console.map(|socket| socket.receive()).transpose().map_err(|err| text(&err))?;
    Ok((pid, master))
}

/// libcontainer has its own version of `nix`.
fn nix29_pid<P: std::fmt::Display>(pid: P) -> i32 {
    pid.to_string().parse().unwrap_or(0)
}

/// The cause that says something; libcontainer's outer texts only say where.
fn innermost(err: &dyn std::error::Error) -> String {
    let mut err = err;
    while let Some(source) = err.source() {
        err = source;
    }
    plain(&err.to_string())
}

/// Without what libcontainer says of itself before what its executor said.
fn plain(text: &str) -> String {
    let text = text.trim_matches('\0');
    let said = text.rsplit_once("error in executing process : ").map_or(text, |(_, said)| said);
    said.to_owned()
}

#[cfg(test)]
#[test]
fn what_the_executor_said_is_told_alone() {
    let text =
        "exec process failed with error error in executing process : exec: \"/nope\": no such file";
    assert_eq!(plain(text), "exec: \"/nope\": no such file");
    assert_eq!(plain("\0cannot mount\0"), "cannot mount");
}

/// A socket that takes a terminal's master.
struct Console {
    listener: UnixListener,
    path: PathBuf,
    _dir: File,
}

impl Console {
    fn open(dir: &Path) -> io::Result<Console> {
        let dir_fd = File::open(dir)?;
        let _ = fs::remove_file(dir.join("console.sock"));
        // Short whatever the data directory's length: a socket's path may have 108 bytes.
        let path = PathBuf::from(format!("/proc/self/fd/{}/console.sock", dir_fd.as_raw_fd()));
        Ok(Console { listener: UnixListener::bind(&path)?, path, _dir: dir_fd })
    }

    fn receive(self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        let mut inbox = Inbox::default();
        while inbox.fds.is_empty() && inbox.receive(&stream)? {}
        let _ = fs::remove_file(&self.path);
        inbox.fds.pop().ok_or_else(|| io::Error::other("no terminal came"))
    }
}

/// A pipe whose ends an `execve` closes.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

pub(super) fn dev_null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

pub(super) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// `SIGTERM`, `TERM` or `15`.
pub(super) fn signal(name: &str) -> Option<Signal> {
    let name = name.trim().to_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return Signal::from_named_raw(number);
    }
    let long = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let signal: nix::sys::signal::Signal = long.parse().ok()?;
    Signal::from_named_raw(signal as i32)
}

/// Sends a signal to a process that is our child, or to its group too.
pub(super) fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Best effort: lowering needs a capability that the host may have taken from us.
pub(super) fn set_oom_score(pid: i32, score: i64) {
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
}

impl Managed {
    /// Mounts the root and writes the bundle.
    pub(super) fn create(
        dir: &SandboxDir,
        sandbox: &SandboxRecord,
        record: ContainerRecord,
        joins: Option<i32>,
    ) -> Result<Managed, Failure> {
        let other = |err: io::Error| (FailureKind::Other, err.to_string());
        let own = dir.container(&record.id);
        super::rootfs::prepare(&record, &own).map_err(|err| {
            (FailureKind::Other, format!("cannot mount the root file system: {err}"))
        })?;
        let rootfs = own.join("rootfs");
        let invalid = |text: String| (FailureKind::Invalid, text);
        let user = super::user::resolve(&record, &rootfs).map_err(invalid)?;
        let parts = super::spec::Parts {
            dir,
            sandbox,
            record: &record,
            user: &user,
            rootfs: &rootfs,
            joins,
        };
        let (spec, filters) = super::spec::build(&parts).map_err(invalid)?;
        if let Some(cwd) = spec["process"]["cwd"].as_str() {
            make_working_dir(&rootfs, cwd);
        }
        let bundle = own.join("bundle");
        fs::create_dir_all(&bundle).map_err(other)?;
        fs::write(bundle.join("config.json"), spec.to_string()).map_err(other)?;
        let status = StatusRecord::default();
        record::write(&own.join("status.json"), &status).map_err(other)?;
        Ok(Managed {
            cgroup: Cgroup(sandbox.cgroup.clone()).child(&record.id),
            log: LogFile::open(&record.log_path).map_err(other)?,
            record,
            status,
            spec,
            filters,
            dir: own,
            outputs: Vec::new(),
            stdin: None,
            source: None,
            pending_in: Vec::new(),
            pidfd: None,
            kill_at: None,
            unsaved: false,
            stop_waiters: Vec::new(),
            attach_waiters: Vec::new(),
        })
    }

    /// Starts the process. On failure the container is `Exited` with code 128.
    pub(super) fn start(&mut self, dir: &SandboxDir) -> Result<(), Failure> {
        if self.status.state != ContainerState::Created {
            return Err((
                FailureKind::Other,
                format!("container {} was started before", self.record.id),
            ));
        }
        let started = self.launch(dir);
        if let Err(text) = &started {
            self.cgroup.kill();
            self.close_streams();
            self.status.state = ContainerState::Exited;
            self.status.exit_code = 128;
            self.status.reason = "StartError".into();
            self.status.message.clone_from(text);
            self.status.started_at = Some(Timestamp::UNIX_EPOCH);
            self.status.finished_at = Some(Timestamp::now());
        }
        self.save();
        started.map_err(|text| (FailureKind::Start, text))
    }

    fn launch(&mut self, dir: &SandboxDir) -> Result<(), String> {
        let io = |err: io::Error| err.to_string();
        let (errors_read, errors_write) = pipe().map_err(io)?;
        let program =
            Program { errors: Rc::new(File::from(errors_write)), filters: self.filters.clone() };
        let stdio =
            if self.record.config.tty { Stdio::Terminal } else { self.pipes().map_err(io)? };
        let bundle = self.dir.join("bundle");
        let what = Launch::Init { bundle: &bundle };
        let (pid, master) = launch(dir, &self.record.id, &what, program, stdio)?;
        if let Some(master) = master {
            set_nonblocking(&master).map_err(io)?;
            self.stdin = Some(master.try_clone().map_err(io)?);
            self.outputs.push(Output::new(master, false));
        }
        set_oom_score(pid, self.record.config.resources.oom_score_adj);
        let raw = Pid::from_raw(pid).ok_or("the container has no process")?;
        let pidfd =
            rustix::process::pidfd_open(raw, PidfdFlags::empty()).map_err(|e| e.to_string())?;
        self.status.pid = pid;
        let mut container =
            libcontainer::container::Container::load(dir.state().join(&self.record.id))
                .map_err(|err| innermost(&err))?;
        container.start().map_err(|err| innermost(&err))?;
        let mut error = String::new();
        let mut errors = File::from(errors_read).take(4096);
        let _ = errors.read_to_string(&mut error);
        if !error.is_empty() {
            return Err(error);
        }
        self.pidfd = Some(pidfd);
        self.status.state = ContainerState::Running;
        self.status.started_at = Some(Timestamp::now());
        Ok(())
    }

    fn pipes(&mut self) -> io::Result<Stdio> {
        let stdin = if self.record.config.stdin {
            let (read, write) = pipe()?;
            set_nonblocking(&write)?;
            self.stdin = Some(write);
            read
        } else {
            dev_null()?
        };
        let mut output = |is_stderr| -> io::Result<OwnedFd> {
            let (read, write) = pipe()?;
            set_nonblocking(&read)?;
            self.outputs.push(Output::new(read, is_stderr));
            Ok(write)
        };
        Ok(Stdio::Pipes { stdin, stdout: output(false)?, stderr: output(true)? })
    }

    /// Writes the status; the disk being full must not stop the shim.
    fn save(&mut self) {
        let written = record::write(&self.dir.join("status.json"), &self.status);
        if let Err(err) = &written {
            super::complain(&format!("cannot write the status of {}: {err}", self.record.id));
        }
        self.unsaved = written.is_err();
    }

    /// Tries again to write a status that could not be written.
    pub(super) fn save_if_unsaved(&mut self) {
        if self.unsaved {
            self.save();
        }
    }

    /// Moves what the container wrote into its log and to its attached readers. `false` when the stream ended.
    pub(super) fn pump_output(&mut self, index: usize) -> bool {
        let Some(output) = self.outputs.get_mut(index) else { return false };
        let mut chunk = vec![0_u8; PIPE_READ_BYTES];
        let now = Timestamp::now();
        let mut entries = Vec::new();
        let open = match rustix::io::read(&output.fd, &mut chunk[..]) {
            Ok(0) => false,
            Ok(count) => {
                output.lines.push(&chunk[..count], now, &mut entries);
                for sink in &mut output.sinks {
                    sink.pending.extend_from_slice(&chunk[..count]);
                }
                output.flush_sinks();
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            // A terminal says EIO when its last process is gone.
            Err(_) => false,
        };
        if !open {
            output.lines.finish(now, &mut entries);
        }
        self.log.write(&entries);
        open
    }

    /// Takes what an attached writer sends to the container's stdin.
    pub(super) fn pump_source(&mut self) {
        let Some(source) = &self.source else { return };
        let mut chunk = vec![0_u8; PIPE_READ_BYTES];
        match rustix::io::read(source, &mut chunk[..]) {
            Ok(0) => self.end_source(),
            Ok(count) => self.pending_in.extend_from_slice(&chunk[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => self.end_source(),
        }
        self.pump_stdin();
    }

    fn end_source(&mut self) {
        self.source = None;
        if self.record.config.stdin_once && !self.record.config.tty && self.pending_in.is_empty() {
            self.stdin = None;
        }
    }

    /// Writes what waits for the container's stdin.
    pub(super) fn pump_stdin(&mut self) {
        if self.pending_in.is_empty() {
            return;
        }
        let Some(stdin) = &self.stdin else { return self.pending_in.clear() };
        match rustix::io::write(stdin, &self.pending_in) {
            Ok(count) => drop(self.pending_in.drain(..count)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.pending_in.clear(),
        }
        if self.pending_in.is_empty() && self.source.is_none() {
            self.end_source();
        }
    }

    /// The process ended.
    pub(super) fn ended(&mut self, exit_code: i32) {
        // With a PID namespace of its own nothing is left; with a shared one, what it started goes with it.
        self.cgroup.kill();
        for index in 0..self.outputs.len() {
            // Bounded by the pipe's size: nobody writes any more.
            for _ in 0..64 {
                let before = self.outputs[index].sinks.iter().any(|s| !s.pending.is_empty());
                if !self.pump_output(index) || before || !self.outputs[index].readable() {
                    break;
                }
            }
            let (now, mut entries) = (Timestamp::now(), Vec::new());
            self.outputs[index].lines.finish(now, &mut entries);
            self.log.write(&entries);
        }
        let oom = self.cgroup.oom_kills() > 0;
        self.status.state = ContainerState::Exited;
        self.status.exit_code = exit_code;
        self.status.finished_at = Some(Timestamp::now());
        self.status.reason = match (oom, exit_code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        }
        .into();
        self.close_streams();
        self.pidfd = None;
        self.kill_at = None;
        self.save();
    }

    fn close_streams(&mut self) {
        for output in &mut self.outputs {
            output.drain_sinks();
        }
        self.outputs.clear();
        self.stdin = None;
        self.source = None;
    }

    /// Whether its process lives.
    pub(super) fn is_running(&self) -> bool {
        self.pidfd.is_some()
    }

    pub(super) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    /// Unmounts and removes all but the log. The process must be gone.
    pub(super) fn remove(&self, dir: &SandboxDir) -> io::Result<()> {
        self.cgroup.kill();
        let rootfs = self.dir.join("rootfs");
        match nix::mount::umount2(&rootfs, nix::mount::MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(err) => return Err(err.into()),
        }
        let _ = fs::remove_dir_all(dir.state().join(&self.record.id));
        if let Err(err) = self.cgroup.remove() {
            super::complain(&format!("cannot remove the cgroup of {}: {err}", self.record.id));
        }
        match fs::remove_dir_all(&self.dir) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }
}

/// The working directory is made when missing, as every runtime does; symlinks stay inside.
fn make_working_dir(rootfs: &Path, cwd: &str) {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(mut dir) = rustix::fs::open(rootfs, flags, Mode::empty()) else { return };
    let mut so_far = PathBuf::new();
    let Ok(root) = dir.try_clone() else { return };
    for part in Path::new(cwd).components() {
        let std::path::Component::Normal(name) = part else { continue };
        let _ = rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755));
        so_far.push(name);
        match rustix::fs::openat2(&root, &so_far, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(next) => dir = next,
            Err(_) => return,
        }
    }
}

impl Output {
    fn new(fd: OwnedFd, is_stderr: bool) -> Output {
        let lines = Lines::new(if is_stderr { "stderr" } else { "stdout" });
        Output { fd, is_stderr, lines, sinks: Vec::new() }
    }

    /// Whether an attached reader is behind: then the container waits, as at a terminal.
    pub(super) fn blocked(&self) -> bool {
        self.sinks.iter().any(|sink| !sink.pending.is_empty())
    }

    fn readable(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.fd, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok()
            && fds[0].revents().contains(rustix::event::PollFlags::IN)
    }

    /// Writes what waits for attached readers; those that hung up go.
    pub(super) fn flush_sinks(&mut self) {
        self.sinks.retain_mut(|sink| {
            if sink.pending.is_empty() {
                return true;
            }
            match rustix::io::write(&sink.fd, &sink.pending) {
                Ok(count) => {
                    sink.pending.drain(..count);
                    true
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
                Err(_) => false,
            }
        });
    }

    /// The last bytes; a reader that does not take them within the pipe's size loses them.
    fn drain_sinks(&mut self) {
        self.flush_sinks();
        for sink in &mut self.sinks {
            let mut file = File::from(std::mem::replace(
                &mut sink.fd,
                match dev_null() {
                    Ok(fd) => fd,
                    Err(_) => return,
                },
            ));
            let _ = file.write_all(&sink.pending);
        }
    }
}
