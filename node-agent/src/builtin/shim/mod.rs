//! The shim: one small process per pod, the same binary started again as `quorate shim`.
//!
//! It is single-threaded (so libcontainer may fork), leads its own session, adopts orphans, and lives in its own mount
//! namespace: whatever it mounts vanishes with it. The pod's network, IPC and UTS namespaces are its own and live
//! exactly as long as it and its containers do. It needs no agent: it waits for the next one.
//!
//! Start reading at [`shim_main`], then [`server`](self).

mod container;
mod executor;
mod log;
pub mod protocol;
mod rootfs;
mod seccomp;
mod server;
mod spec;
mod user;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::cgroup::Cgroup;
use super::limits::{OPEN_FILES_SOFT, SHM_BYTES};
use super::record::{self, SandboxDir, SandboxRecord, ShimRecord};
use crate::runtime::NamespaceMode;

/// Last argument of a shim that runs from its sealed program.
const SEALED: &str = "sealed";

/// Name of the hidden subcommand.
pub const SUBCOMMAND: &str = "shim";

/// Runs a shim: `args` are what follows `quorate shim`, namely the sandbox's directory. Must be called before any
/// thread exists. Says `ready` or an error on stdout, then detaches from it.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let Some(dir) = args.next() else {
        complain("usage: shim SANDBOX_DIRECTORY");
        return ExitCode::from(2);
    };
    let dir = SandboxDir(PathBuf::from(dir));
    if args.next().as_deref() != Some(OsStr::new(SEALED)) {
        // Comes back here, sealed; or not at all.
        say(&format!("cannot seal the program: {}\n", seal(&dir)));
        return ExitCode::FAILURE;
    }
    match start(dir) {
        Ok(mut server) => {
            say("ready\n");
            if let Ok(null) = container::dev_null() {
                let _ = rustix::stdio::dup2_stdout(&null);
            }
            server.run()
        }
        Err(err) => {
            say(&format!("{err}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Executes this program again from a read-only mount of it, in a mount namespace of the shim's own. A process that is
/// about to become a container's can be told to execute `/proc/self/exe`, and a container's root could then write to
/// the program of the host through that link (CVE-2019-5736). Through a read-only mount nobody can.
fn seal(dir: &SandboxDir) -> io::Error {
    let exec = || -> io::Result<io::Error> {
        // Taken before the namespace changes: a mount of another one cannot be cloned.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, "/proc/self/exe", flags);
        unshare(CloneFlags::CLONE_NEWNS)?;
        // The host's mounts come in, ours never go out.
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)?;
        let program = match tree {
            Ok(tree) => read_only(&tree, dir)?,
            Err(err) => {
                // The agent was started from another mount namespace, or the kernel is older than 5.2.
                complain(&format!("the program cannot be sealed, and runs as it is: {err}"));
                PathBuf::from("/proc/self/exe")
            }
        };
        let mut command = Command::new(program);
        Ok(command.args(std::env::args_os().skip(1)).arg(SEALED).exec())
    };
    exec().unwrap_or_else(|err| err)
}

/// Mounts the tree of one file read-only in the sandbox's directory.
fn read_only(tree: &OwnedFd, dir: &SandboxDir) -> io::Result<PathBuf> {
    let program = dir.0.join("program");
    fs::File::create(&program)?;
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", CWD, &program, whole)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &program, None::<&str>, flags, None::<&str>)?;
    Ok(program)
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// A line in the shim's own log (its stderr).
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{:.3} {text}", quorate_chance::now());
}

/// The soft limit of open files that programs expect. The agent has raised its own; some programs go through all
/// numbers up to it, or cannot use higher ones.
fn usual_open_files() -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let current =
        limit.maximum.map_or(Some(OPEN_FILES_SOFT), |hard| Some(hard.min(OPEN_FILES_SOFT)));
    let usual = rustix::process::Rlimit { current, ..limit };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, usual)?)
}

fn start(dir: SandboxDir) -> io::Result<server::Server> {
    let sandbox: SandboxRecord =
        record::read(&dir.record()).ok_or_else(|| io::Error::other("cannot read sandbox.json"))?;
    let step =
        |what: &'static str| move |err: nix::Error| io::Error::other(format!("{what}: {err}"));
    nix::unistd::setsid().map_err(step("setsid"))?;
    usual_open_files()?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    let own_pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    container::set_oom_score(own_pid, -998);
    Cgroup(sandbox.cgroup.clone()).child("shim").enter()?;
    namespaces(&sandbox)?;
    shared_memory(&dir, &sandbox)?;
    sysctls(&sandbox)?;
    fs::create_dir_all(dir.state())?;
    fs::create_dir_all(dir.containers())?;
    let listener = listen(&dir)?;
    let own = ShimRecord::of(own_pid).ok_or_else(|| io::Error::other("cannot read /proc"))?;
    record::write(&dir.shim(), &own)?;
    server::Server::new(dir, sandbox, listener)
}

fn namespaces(sandbox: &SandboxRecord) -> io::Result<()> {
    let modes = sandbox.config.security.namespaces;
    let mut flags = CloneFlags::empty();
    if modes.network != NamespaceMode::Node {
        // As in Kubernetes, a pod on the host's network has the host's name, too.
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if modes.ipc != NamespaceMode::Node {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(flags).map_err(|err| io::Error::other(format!("unshare: {err}")))?;
    // What comes in from the host (see [`seal`]) goes on into the containers that want it.
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>)?;
    if modes.network != NamespaceMode::Node && !sandbox.config.hostname.is_empty() {
        nix::unistd::sethostname(&sandbox.config.hostname)?;
    }
    Ok(())
}

fn shared_memory(dir: &SandboxDir, sandbox: &SandboxRecord) -> io::Result<()> {
    if sandbox.config.security.namespaces.ipc == NamespaceMode::Node {
        return Ok(());
    }
    let shm = dir.0.join("shm");
    fs::create_dir_all(&shm)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=1777,size={SHM_BYTES}");
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(())
}

fn sysctls(sandbox: &SandboxRecord) -> io::Result<()> {
    let modes = sandbox.config.security.namespaces;
    for (name, value) in &sandbox.config.sysctls {
        let ours = (name.starts_with("net.") && modes.network != NamespaceMode::Node)
            || ((name.starts_with("kernel.shm")
                || name.starts_with("kernel.msg")
                || name.starts_with("fs.mqueue.")
                || name == "kernel.sem")
                && modes.ipc != NamespaceMode::Node);
        if !ours || name.contains("..") {
            return Err(io::Error::other(format!(
                "sysctl \"{name}\" is not of the pod's namespaces"
            )));
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::write(&path, value)
            .map_err(|err| io::Error::other(format!("sysctl \"{name}\": {err}")))?;
    }
    Ok(())
}

fn listen(dir: &SandboxDir) -> io::Result<UnixListener> {
    let _ = fs::remove_file(dir.socket());
    let dir_fd = fs::File::open(&dir.0)?;
    // Short whatever the data directory's length: a socket's path may have 108 bytes.
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/shim.sock", dir_fd.as_raw_fd()))?;
    fs::set_permissions(dir.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
