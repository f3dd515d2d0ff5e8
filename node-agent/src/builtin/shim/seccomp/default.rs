//! The profile of `RuntimeDefault`: equal in effect to the default of docker and containerd on a current kernel.
//!
//! What is not named here fails with `EPERM`. Names that exist for 32-bit programs only are left out: those programs
//! cannot run under a filter of ours. Names unknown on this architecture are skipped.

use super::profile::{Action, Argument, Compare, Profile, Rule};

/// Allowed to everyone, grouped by what they are for.
const ALWAYS: &[&str] = &[
    // files and directories
    "access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 \
     fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync \
     flock fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 inotify_add_watch inotify_init \
     inotify_init1 inotify_rm_watch ioctl lchown link linkat lseek lstat mkdir mkdirat mknod mknodat \
     name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read \
     readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile splice stat statfs statx \
     symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice \
     write writev cachestat",
    // extended attributes
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr \
     lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    // waiting for files
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
     eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit poll ppoll pselect6 select signalfd \
     signalfd4",
    // memory
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect \
     mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages",
    // network
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg \
     sendto setsockopt shutdown socketpair",
    // between processes
    "futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list mq_getsetattr mq_notify mq_open \
     mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop set_robust_list \
     shmat shmctl shmdt shmget",
    // processes and threads
    "execve execveat exit exit_group fork getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid \
     gettid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv \
     process_vm_writev ptrace restart_syscall rseq sched_get_priority_max sched_get_priority_min sched_getaffinity \
     sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr \
     sched_setparam sched_setscheduler sched_yield set_thread_area get_thread_area set_tid_address setpgid \
     setpriority setrlimit setsid tgkill tkill uretprobe vfork wait4 waitid",
    // signals
    "pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_tgsigqueueinfo sigaltstack",
    // users and rights
    "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid landlock_add_rule \
     landlock_create_ruleset landlock_restrict_self seccomp setfsgid setfsuid setgid setgroups setregid setresgid \
     setresuid setreuid setuid",
    // time
    "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep \
     setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create \
     timerfd_gettime timerfd_settime times",
    // the machine
    "getrandom sysinfo uname",
];

/// Allowed with the capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount \
         syslog umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday clock_settime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

#[cfg(target_arch = "x86_64")]
const OF_ARCHITECTURE: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "aarch64")]
const OF_ARCHITECTURE: &str = "sync_file_range2";

/// `AF_VSOCK` reaches the hypervisor, past every network namespace.
const AF_VSOCK: u64 = 40;
/// `CLONE_NEWNS`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`, `NEWCGROUP`: no new namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn allow(text: &str, arguments: Vec<Argument>) -> Rule {
    Rule { names: names(text), action: Action::Allow, arguments }
}

fn argument(compare: Compare, value: u64) -> Argument {
    Argument { index: 0, compare, value }
}

/// The profile of a container with these capabilities (`CAP_…`).
pub(super) fn profile(capabilities: &[String]) -> Profile {
    let has = |name: &str| capabilities.iter().any(|c| c.strip_prefix("CAP_") == Some(name));
    let mut rules: Vec<Rule> = ALWAYS.iter().map(|text| allow(text, Vec::new())).collect();
    rules.push(allow(OF_ARCHITECTURE, Vec::new()));
    let granted = WITH_CAPABILITY.iter().filter(|(capability, _)| has(capability));
    rules.extend(granted.map(|(_, text)| allow(text, Vec::new())));
    rules.push(allow("socket", vec![argument(Compare::NotEqual, AF_VSOCK)]));
    rules.extend(
        PERSONALITIES.map(|value| allow("personality", vec![argument(Compare::Equal, value)])),
    );
    if !has("SYS_ADMIN") {
        rules.push(allow("clone", vec![argument(Compare::MaskedEqual(NEW_NAMESPACES), 0)]));
        // Its flags are in memory, where no filter looks. The C library falls back to clone.
        rules.push(Rule {
            names: names("clone3"),
            action: Action::Errno(ENOSYS),
            arguments: Vec::new(),
        });
    }
    Profile { default: Action::Errno(EPERM), rules }
}
