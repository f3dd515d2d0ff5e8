//! Installs filters in a process that is about to execute a program. This file exists for its unsafe code: no safe
//! interface installs a seccomp filter without also setting `no_new_privs`.

#![allow(unsafe_code, reason = "seccomp(2) takes a pointer")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::sock_filter;
use syscalls::{Sysno, syscall};

/// `SECCOMP_SET_MODE_FILTER`.
const SET_MODE_FILTER: usize = 1;

/// `struct sock_fprog` of linux/filter.h.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const sock_filter,
}

fn install(filter: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = Program { length, instructions: filter.as_ptr() };
    // SAFETY: the kernel copies the program, whose pointer and length are of one slice, and writes nothing.
    let done = unsafe { syscall!(Sysno::seccomp, SET_MODE_FILTER, 0, &raw const program) };
    done.map(drop).map_err(|err| io::Error::from_raw_os_error(err.into_raw()))
}

/// Replaces this process by the program, with the filters in force from the very call that executes it. Returns only
/// when that failed. Needs `no_new_privs` or `CAP_SYS_ADMIN`.
pub(in crate::builtin::shim) fn exec(
    mut command: Command,
    filters: Vec<Vec<sock_filter>>,
) -> io::Error {
    if !filters.is_empty() {
        let all = move || filters.iter().try_for_each(|filter| install(filter));
        // SAFETY: the closure runs in this very, single-threaded process: `exec` does not fork.
        unsafe { command.pre_exec(all) };
    }
    command.exec()
}
