//! The shim's loop: one `poll` over its socket, its connections, its processes and their streams.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::container::{
    Failure, Launch, Managed, Sink, Stdio, dev_null, kill, launch, pipe, set_nonblocking,
    set_oom_score, signal,
};
use super::executor::{Pause, Program};
use super::protocol::{self, Envelope, FailureKind, Inbox, Reply, Request, Streams};
use super::{complain, spec};
use crate::builtin::limits::SHIM_CONNECTIONS_MAX;
use crate::builtin::record;
use crate::builtin::record::{ContainerRecord, SandboxDir, SandboxRecord};
use crate::runtime::{ContainerState, NamespaceMode};

/// Orphans of pods in the host's PID namespace are reaped, and statuses that a full disk refused are written again, at
/// least this often.
const REAP_INTERVAL: Duration = Duration::from_secs(10);

struct Connection {
    stream: UnixStream,
    inbox: Inbox,
    /// It has its request and waits for something.
    waiting: bool,
}

struct Exec {
    pid: i32,
    pidfd: OwnedFd,
    connection: u64,
    kill_at: Option<Instant>,
    timed_out: bool,
}

/// What to do with a connection after its request.
enum Outcome {
    Reply(Reply, Option<OwnedFd>),
    Wait,
}

/// What was ready.
#[derive(Debug, Clone)]
enum Token {
    Listener,
    Connection(u64),
    Process,
    Output(String, usize),
    Sink(String, usize),
    Source(String),
    Stdin(String),
}

/// A shim's state.
pub(super) struct Server {
    dir: SandboxDir,
    sandbox: SandboxRecord,
    listener: UnixListener,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    containers: BTreeMap<String, Managed>,
    execs: Vec<Exec>,
    pause_pid: Option<i32>,
    /// The connection that asked for the end.
    shutdown: Option<u64>,
}

impl Server {
    pub(super) fn new(
        dir: SandboxDir,
        sandbox: SandboxRecord,
        listener: UnixListener,
    ) -> io::Result<Server> {
        let mut server = Server {
            dir,
            sandbox,
            listener,
            connections: BTreeMap::new(),
            next_connection: 0,
            containers: BTreeMap::new(),
            execs: Vec::new(),
            pause_pid: None,
            shutdown: None,
        };
        if server.sandbox.config.security.namespaces.pid == NamespaceMode::Pod {
            server.pause_pid = Some(server.start_pause()?);
        }
        Ok(server)
    }

    fn start_pause(&self) -> io::Result<i32> {
        let bundle = self.dir.0.join("pause");
        let rootfs = bundle.join("rootfs");
        fs::create_dir_all(&rootfs)?;
        fs::write(bundle.join("config.json"), spec::pause(&self.sandbox, &rootfs).to_string())?;
        let stdio = Stdio::Pipes { stdin: dev_null()?, stdout: dev_null()?, stderr: dev_null()? };
        let what = Launch::Init { bundle: &bundle };
        let (pid, _) = launch(&self.dir, "pause", &what, Pause, stdio).map_err(|err| {
            io::Error::other(format!("cannot hold the pod's PID namespace: {err}"))
        })?;
        libcontainer::container::Container::load(self.dir.state().join("pause"))
            .and_then(|mut pause| pause.start())
            .map_err(io::Error::other)?;
        Ok(pid)
    }

    /// Serves until told to end.
    pub(super) fn run(&mut self) -> ExitCode {
        loop {
            match self.wait() {
                Ok(ready) => ready.into_iter().for_each(|token| self.ready(&token)),
                Err(err) => complain(&format!("poll: {err}")),
            }
            self.reap();
            self.deadlines();
            if let Some(connection) = self.shutdown
                && self.containers.values().all(|c| !c.is_running())
            {
                self.reply(connection, &Reply::Done, None);
                let _ = fs::remove_file(self.dir.socket());
                return ExitCode::SUCCESS;
            }
        }
    }

    /// Waits for something to happen.
    fn wait(&self) -> io::Result<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut fds = Vec::new();
        let mut add = |token: Token, fd: BorrowedFd<'_>, flags| {
            tokens.push(token);
            // The borrow ends with this call of `wait`.
            fds.push((fd.try_clone_to_owned(), flags));
        };
        if self.connections.len() < SHIM_CONNECTIONS_MAX {
            add(Token::Listener, self.listener.as_fd(), PollFlags::IN);
        }
        for (id, connection) in &self.connections {
            add(Token::Connection(*id), connection.stream.as_fd(), PollFlags::IN);
        }
        for exec in &self.execs {
            add(Token::Process, exec.pidfd.as_fd(), PollFlags::IN);
        }
        for (id, container) in &self.containers {
            if let Some(pidfd) = &container.pidfd {
                add(Token::Process, pidfd.as_fd(), PollFlags::IN);
            }
            for (index, output) in container.outputs.iter().enumerate() {
                if !output.blocked() {
                    add(Token::Output(id.clone(), index), output.fd.as_fd(), PollFlags::IN);
                }
                for sink in output.sinks.iter().filter(|sink| !sink.pending.is_empty()) {
                    add(Token::Sink(id.clone(), index), sink.fd.as_fd(), PollFlags::OUT);
                }
            }
            match (&container.source, &container.stdin) {
                (_, Some(stdin)) if !container.pending_in.is_empty() => {
                    add(Token::Stdin(id.clone()), stdin.as_fd(), PollFlags::OUT);
                }
                (Some(source), _) => add(Token::Source(id.clone()), source.as_fd(), PollFlags::IN),
                _ => {}
            }
        }
        let fds: Vec<(OwnedFd, PollFlags)> =
            fds.into_iter().map(|(fd, flags)| Ok((fd?, flags))).collect::<io::Result<_>>()?;
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|(fd, flags)| PollFd::new(fd, *flags)).collect();
        let timeout = self.timeout();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(0),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
        let ready = polled.iter().zip(tokens).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, token)| token).collect())
    }

    fn timeout(&self) -> Duration {
        let deadlines = self.containers.values().filter_map(|c| c.kill_at);
        let deadlines = deadlines.chain(self.execs.iter().filter_map(|exec| exec.kill_at));
        let until = deadlines.min().map(|at| at.saturating_duration_since(Instant::now()));
        until.unwrap_or(REAP_INTERVAL).min(REAP_INTERVAL)
    }

    fn ready(&mut self, token: &Token) {
        match token {
            Token::Listener => self.accept(),
            Token::Connection(id) => self.receive(*id),
            Token::Process => {}
            Token::Output(id, index) => {
                if let Some(container) = self.containers.get_mut(id)
                    && *index < container.outputs.len()
                    && !container.pump_output(*index)
                {
                    container.outputs.remove(*index);
                }
            }
            Token::Sink(id, index) => {
                let container = self.containers.get_mut(id);
                if let Some(output) = container.and_then(|c| c.outputs.get_mut(*index)) {
                    output.flush_sinks();
                }
            }
            Token::Source(id) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.pump_source();
                }
            }
            Token::Stdin(id) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.pump_stdin();
                }
            }
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok() {
            self.next_connection += 1;
            let connection = Connection { stream, inbox: Inbox::default(), waiting: false };
            self.connections.insert(self.next_connection, connection);
        }
    }

    fn receive(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.inbox.receive(&connection.stream) {
            Ok(true) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            Ok(false) | Err(_) => return drop(self.connections.remove(&id)),
        }
        if connection.waiting {
            return;
        }
        let (request, fds) = match connection.inbox.message::<Envelope>() {
            Ok(Some(envelope)) => (envelope.request, std::mem::take(&mut connection.inbox.fds)),
            Ok(None) => return,
            Err(err) => {
                let message = format!("request not understood: {err}");
                return self.reply(id, &Reply::Failed { kind: FailureKind::Other, message }, None);
            }
        };
        connection.waiting = true;
        match self.handle(id, request, fds) {
            Ok(Outcome::Reply(reply, fd)) => self.reply(id, &reply, fd),
            Ok(Outcome::Wait) => {}
            Err((kind, message)) => self.reply(id, &Reply::Failed { kind, message }, None),
        }
    }

    /// Sends the last answer of a connection.
    fn reply(&mut self, id: u64, reply: &Reply, fd: Option<OwnedFd>) {
        self.send(id, reply, fd.as_ref());
        self.connections.remove(&id);
    }

    fn send(&mut self, id: u64, reply: &Reply, fd: Option<&OwnedFd>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().map(AsFd::as_fd).collect();
        // A reply is small and the first on its connection: a socket's buffer takes it whole.
        let sent = protocol::frame(reply)
            .and_then(|frame| protocol::send(&connection.stream, &frame, &fds));
        if let Err(err) = sent {
            complain(&format!("cannot answer: {err}"));
        }
    }

    fn handle(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) -> Result<Outcome, Failure> {
        let done = || Ok(Outcome::Reply(Reply::Done, None));
        match request {
            Request::Ping => done(),
            Request::Create { container } => self.create(&container).and_then(|()| done()),
            Request::Start { container } => {
                let dir = self.dir.clone();
                self.container(&container)?.start(&dir)?;
                done()
            }
            Request::Stop { container, signal, grace_ms } => {
                self.stop(id, &container, &signal, grace_ms)
            }
            Request::Remove { container } => self.remove(&container).and_then(|()| done()),
            Request::ReopenLog { container } => {
                let reopened = self.container(&container)?.reopen_log();
                reopened.map_err(|err| (FailureKind::Other, err.to_string()))?;
                done()
            }
            Request::Exec { container, command, tty, streams, timeout_ms } => {
                let timeout = timeout_ms.map(Duration::from_millis);
                self.exec(id, &container, &command, tty.then_some(()), streams, fds, timeout)
            }
            Request::Attach { container, streams } => self.attach(id, &container, streams, fds),
            Request::Resize { container, width, height } => {
                if let Some(terminal) = self.container(&container)?.outputs.first() {
                    let size = rustix::termios::Winsize {
                        ws_row: height,
                        ws_col: width,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _ = rustix::termios::tcsetwinsize(&terminal.fd, size);
                }
                done()
            }
            Request::Connect { port } => {
                let socket = connect(port).map_err(|err| (FailureKind::Other, err.to_string()))?;
                Ok(Outcome::Reply(Reply::Done, Some(socket)))
            }
            Request::Shutdown => {
                self.shutdown = Some(id);
                for container in self.containers.values().filter(|c| c.is_running()) {
                    kill(container.status.pid, Signal::KILL);
                }
                Ok(Outcome::Wait)
            }
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Managed, Failure> {
        let missing = || (FailureKind::NotFound, format!("container {id} not found"));
        self.containers.get_mut(id).ok_or_else(missing)
    }

    /// The process whose PID namespace a new container joins.
    fn joins(&self, record: &ContainerRecord) -> Result<Option<i32>, Failure> {
        let security = &record.config.security;
        let Some(target) = &security.pid_target else {
            let shared = security.namespaces.pid == NamespaceMode::Pod;
            return Ok(self.pause_pid.filter(|_| shared));
        };
        match self.containers.get(&target.0).filter(|target| target.is_running()) {
            Some(target) => Ok(Some(target.status.pid)),
            None => {
                Err((FailureKind::Invalid, format!("target container {target} is not running")))
            }
        }
    }

    fn create(&mut self, id: &str) -> Result<(), Failure> {
        let path = self.dir.container(id).join("container.json");
        let record: ContainerRecord = record::read(&path)
            .ok_or_else(|| (FailureKind::Other, format!("cannot read {}", path.display())))?;
        let joins = self.joins(&record)?;
        let container = Managed::create(&self.dir, &self.sandbox, record, joins)?;
        self.containers.insert(id.to_owned(), container);
        Ok(())
    }

    fn stop(
        &mut self,
        connection: u64,
        id: &str,
        name: &str,
        grace_ms: u64,
    ) -> Result<Outcome, Failure> {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.is_running()) else {
            return Ok(Outcome::Reply(Reply::Done, None));
        };
        if grace_ms == 0 {
            kill(container.status.pid, Signal::KILL);
        } else {
            kill(container.status.pid, signal(name).unwrap_or(Signal::TERM));
        }
        let at = Instant::now() + Duration::from_millis(grace_ms);
        // A later stop may shorten the grace, never lengthen it.
        container.kill_at = Some(container.kill_at.map_or(at, |known| known.min(at)));
        container.stop_waiters.push(connection);
        Ok(Outcome::Wait)
    }

    fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        if container.is_running() {
            return Err((FailureKind::Other, format!("container {id} is running")));
        }
        container.remove(&self.dir).map_err(|err| (FailureKind::Other, err.to_string()))?;
        self.containers.remove(id);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one request")]
    fn exec(
        &mut self,
        connection: u64,
        id: &str,
        command: &[String],
        tty: Option<()>,
        streams: Streams,
        fds: Vec<OwnedFd>,
        timeout: Option<Duration>,
    ) -> Result<Outcome, Failure> {
        let other = |err: io::Error| (FailureKind::Other, err.to_string());
        let dir = self.dir.clone();
        let container = self.container(id)?;
        if !container.is_running() {
            return Err((FailureKind::NotFound, format!("container {id} is not running")));
        }
        let process = spec::exec_process(&container.spec, command, tty.is_some());
        let oom_score = container.record.config.resources.oom_score_adj;
        let path = dir.container(id).join("exec.json");
        fs::write(&path, process.to_string()).map_err(other)?;
        let stdio =
            if tty.is_some() { Stdio::Terminal } else { given(streams, fds).map_err(other)? };
        let (_errors, errors) = pipe().map_err(other)?;
        let program =
            Program { errors: Rc::new(File::from(errors)), filters: container.filters.clone() };
        let (pid, master) = launch(&dir, id, &Launch::Tenant { process: &path }, program, stdio)
            .map_err(|text| (FailureKind::Start, text))?;
        set_oom_score(pid, oom_score);
        let raw =
            Pid::from_raw(pid).ok_or_else(|| (FailureKind::Start, "no process".to_owned()))?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
            .map_err(|err| (FailureKind::Other, err.to_string()))?;
        let kill_at = timeout.map(|timeout| Instant::now() + timeout);
        self.execs.push(Exec { pid, pidfd, connection, kill_at, timed_out: false });
        self.send(connection, &Reply::Started, master.as_ref());
        Ok(Outcome::Wait)
    }

    fn attach(
        &mut self,
        connection: u64,
        id: &str,
        streams: Streams,
        fds: Vec<OwnedFd>,
    ) -> Result<Outcome, Failure> {
        let container = self.container(id)?;
        if !container.is_running() {
            return Err((FailureKind::NotFound, format!("container {id} is not running")));
        }
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| if wanted { fds.next() } else { None };
        let (stdin, stdout, stderr) =
            (next(streams.stdin), next(streams.stdout), next(streams.stderr));
        if let Some(fd) = stdin.filter(|_| container.stdin.is_some()) {
            let _ = set_nonblocking(&fd);
            container.source = Some(fd);
        }
        for output in &mut container.outputs {
            let fd = if output.is_stderr { &stderr } else { &stdout };
            if let Some(fd) = fd.as_ref().and_then(|fd| fd.try_clone().ok()) {
                let _ = set_nonblocking(&fd);
                output.sinks.push(Sink { fd, pending: Vec::new() });
            }
        }
        container.attach_waiters.push(connection);
        self.send(connection, &Reply::Started, None);
        Ok(Outcome::Wait)
    }

    /// Collects processes that ended: containers, execs, and orphans that came to us.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let code = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => continue,
            };
            if let Some(at) = self.execs.iter().position(|exec| exec.pid == pid) {
                let exec = self.execs.swap_remove(at);
                let reply = if exec.timed_out {
                    let message = "command timed out".to_owned();
                    Reply::Failed { kind: FailureKind::Timeout, message }
                } else {
                    Reply::Exited { code }
                };
                self.reply(exec.connection, &reply, None);
                continue;
            }
            let ended =
                self.containers.values_mut().find(|c| c.is_running() && c.status.pid == pid);
            if let Some(container) = ended {
                container.ended(code);
                let stops = std::mem::take(&mut container.stop_waiters);
                let attaches = std::mem::take(&mut container.attach_waiters);
                stops.into_iter().for_each(|id| self.reply(id, &Reply::Done, None));
                attaches.into_iter().for_each(|id| self.reply(id, &Reply::Exited { code }, None));
            }
        }
    }

    fn deadlines(&mut self) {
        let now = Instant::now();
        for container in
            self.containers.values_mut().filter(|c| c.kill_at.is_some_and(|at| at <= now))
        {
            container.kill_at = None;
            if container.status.state == ContainerState::Running {
                kill(container.status.pid, Signal::KILL);
            }
        }
        self.containers.values_mut().for_each(Managed::save_if_unsaved);
        for exec in self.execs.iter_mut().filter(|e| e.kill_at.is_some_and(|at| at <= now)) {
            exec.kill_at = None;
            exec.timed_out = true;
            if let Some(group) = Pid::from_raw(exec.pid) {
                // It leads its own session.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            kill(exec.pid, Signal::KILL);
        }
    }
}

/// The streams that came with an exec; what did not come is `/dev/null`.
fn given(streams: Streams, fds: Vec<OwnedFd>) -> io::Result<Stdio> {
    let mut fds = fds.into_iter();
    let mut next = |wanted: bool| match wanted.then(|| fds.next()).flatten() {
        Some(fd) => Ok(fd),
        None => dev_null(),
    };
    let (stdin, stdout, stderr) =
        (next(streams.stdin)?, next(streams.stdout)?, next(streams.stderr)?);
    Ok(Stdio::Pipes { stdin, stdout, stderr })
}

/// Connects inside the pod's network. A loopback connection is made or refused at once, so this does not block.
fn connect(port: u16) -> io::Result<OwnedFd> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let stream =
        std::net::TcpStream::connect_timeout(&v4, Duration::from_secs(2)).or_else(|err| {
            std::net::TcpStream::connect_timeout(&v6, Duration::from_secs(2)).map_err(|_| err)
        })?;
    Ok(stream.into())
}
