//! A library that is loaded before libc and records what a process does to the files below one
//! directory: every write, truncation, sync, rename and removal, in order, with its bytes.
//!
//! `tests/power_loss.rs` compiles it (it needs nothing but `std`) and loads it with `LD_PRELOAD`.
//! One lock is held across each call and its record, so the order in the log is the real one.
//!
//! Record: kind (1), descriptor or flag (8), offset (8), path length (4), data length (8), path,
//! data; numbers little endian.
// This file exists for its unsafe code: there is no other way to stand between a program and libc.
#![allow(unsafe_code, unused_unsafe, clippy::missing_safety_doc)]

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::os::raw::c_ulong;
use std::sync::{Mutex, MutexGuard, OnceLock};

const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const AT_FDCWD: c_int = -100;
#[cfg(target_arch = "x86_64")]
const SYS_WRITE: c_long = 1;
#[cfg(target_arch = "aarch64")]
const SYS_WRITE: c_long = 64;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn syscall(number: c_long, ...) -> c_long;
    fn lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
}

struct State {
    log: c_int,
    root: String,
    open: HashMap<c_int, String>,
}

static STATE: OnceLock<Option<Mutex<State>>> = OnceLock::new();

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

macro_rules! real {
    ($name:literal, fn($($arg:ty),*) -> $ret:ty) => {{
        static REAL: OnceLock<usize> = OnceLock::new();
        let address = *REAL.get_or_init(|| {
            // SAFETY: the name is a C string; libc has the symbol.
            unsafe { dlsym(RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) as usize }
        });
        // SAFETY: libc's function of that name has this signature.
        unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($arg),*) -> $ret>(address) }
    }};
}

fn real_open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let open = real!("open64", fn(*const c_char, c_int, c_uint) -> c_int);
    // SAFETY: as the caller gave it.
    unsafe { open(path, flags, mode) }
}

/// The state, unless nothing is to be recorded or we are called by ourselves.
fn enter() -> Option<MutexGuard<'static, State>> {
    if INSIDE.get() {
        return None;
    }
    INSIDE.set(true);
    let state = STATE.get_or_init(|| {
        let root = std::env::var("QUORATE_RECORD_DIRECTORY").ok()?;
        let log = std::env::var("QUORATE_RECORD_LOG").ok()? + "\0";
        let flags = O_CREAT | 0o1 | 0o2000;
        let log = real_open(log.as_ptr().cast(), flags, 0o600);
        Some(Mutex::new(State { log, root, open: HashMap::new() }))
    });
    let guard = state.as_ref().map(|state| state.lock().unwrap_or_else(|e| e.into_inner()));
    if guard.is_none() {
        INSIDE.set(false);
    }
    guard
}

fn leave(guard: Option<MutexGuard<'static, State>>) {
    if guard.is_some() {
        drop(guard);
        INSIDE.set(false);
    }
}

impl State {
    fn record(&self, kind: u8, number: i64, offset: i64, path: &str, data: &[u8]) {
        let mut record = Vec::with_capacity(29 + path.len() + data.len());
        record.push(kind);
        record.extend_from_slice(&number.to_le_bytes());
        record.extend_from_slice(&offset.to_le_bytes());
        record.extend_from_slice(&u32::try_from(path.len()).unwrap_or(0).to_le_bytes());
        record.extend_from_slice(&(data.len() as u64).to_le_bytes());
        record.extend_from_slice(path.as_bytes());
        record.extend_from_slice(data);
        let mut rest = &record[..];
        while !rest.is_empty() {
            // SAFETY: the buffer is ours and as long as we say.
            let count = unsafe { syscall(SYS_WRITE, self.log, rest.as_ptr(), rest.len()) };
            if count <= 0 {
                std::process::abort();
            }
            rest = &rest[count as usize..];
        }
    }

    fn path(&self, path: *const c_char) -> Option<String> {
        // SAFETY: the caller gave libc a C string.
        let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
        path.starts_with(&self.root).then(|| path.to_owned())
    }
}

fn opened(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let mut state = enter();
    let fd = real_open(path, flags, mode);
    if let Some(state) = &mut state
        && fd >= 0
        && let Some(path) = state.path(path)
    {
        let flag = i64::from(flags & O_CREAT != 0) + 2 * i64::from(flags & O_TRUNC != 0);
        state.record(b'o', flag, 0, &path, &[]);
        state.open.insert(fd, path);
    }
    leave(state);
    fd
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    opened(path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    opened(path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    if at == AT_FDCWD {
        return opened(path, flags, mode);
    }
    unsafe {
        real!("openat", fn(c_int, *const c_char, c_int, c_uint) -> c_int)(at, path, flags, mode)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    if at == AT_FDCWD {
        return opened(path, flags, mode);
    }
    unsafe {
        real!("openat64", fn(c_int, *const c_char, c_int, c_uint) -> c_int)(at, path, flags, mode)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    let mut state = enter();
    if let Some(state) = &mut state {
        state.open.remove(&fd);
    }
    let result = unsafe { real!("close", fn(c_int) -> c_int)(fd) };
    leave(state);
    result
}

fn wrote(
    state: &Option<MutexGuard<'static, State>>,
    fd: c_int,
    at: i64,
    data: *const c_void,
    count: isize,
) {
    if let Some(state) = state
        && count > 0
        && let Some(path) = state.open.get(&fd)
    {
        // SAFETY: libc has just read that many bytes from there.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), count as usize) };
        state.record(b'w', 0, at, path, data);
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, length: usize) -> isize {
    let state = enter();
    let count =
        unsafe { real!("write", fn(c_int, *const c_void, usize) -> isize)(fd, data, length) };
    let at = if state.as_ref().is_some_and(|state| state.open.contains_key(&fd)) && count > 0 {
        (unsafe { lseek64(fd, 0, 1) }) - count as i64
    } else {
        0
    };
    wrote(&state, fd, at, data, count);
    leave(state);
    count
}

fn pwrote(name: bool, fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    let state = enter();
    let count = if name {
        unsafe {
            real!("pwrite64", fn(c_int, *const c_void, usize, i64) -> isize)(fd, data, length, at)
        }
    } else {
        unsafe {
            real!("pwrite", fn(c_int, *const c_void, usize, i64) -> isize)(fd, data, length, at)
        }
    };
    wrote(&state, fd, at, data, count);
    leave(state);
    count
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    pwrote(false, fd, data, length, at)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    pwrote(true, fd, data, length, at)
}

/// Not used by what is tested; recorded as a kind that fails the replay, should that change.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const c_void, count: c_int) -> isize {
    let state = enter();
    let result =
        unsafe { real!("writev", fn(c_int, *const c_void, c_int) -> isize)(fd, parts, count) };
    if let Some(state) = &state
        && let Some(path) = state.open.get(&fd)
    {
        state.record(b'?', 0, 0, path, b"writev");
    }
    leave(state);
    result
}

fn truncated(fd: c_int, length: i64) -> c_int {
    let state = enter();
    let result = unsafe { real!("ftruncate64", fn(c_int, i64) -> c_int)(fd, length) };
    if let Some(state) = &state
        && result == 0
        && let Some(path) = state.open.get(&fd)
    {
        state.record(b't', 0, length, path, &[]);
    }
    leave(state);
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    truncated(fd, length)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    truncated(fd, length)
}

fn synced(data: bool, fd: c_int) -> c_int {
    let state = enter();
    let result = if data {
        unsafe { real!("fdatasync", fn(c_int) -> c_int)(fd) }
    } else {
        unsafe { real!("fsync", fn(c_int) -> c_int)(fd) }
    };
    if let Some(state) = &state
        && result == 0
        && let Some(path) = state.open.get(&fd)
    {
        state.record(b's', 0, 0, path, &[]);
    }
    leave(state);
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    synced(false, fd)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    synced(true, fd)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let state = enter();
    let result = unsafe { real!("rename", fn(*const c_char, *const c_char) -> c_int)(from, to) };
    if let Some(state) = &state
        && result == 0
        && let (Some(from), Some(to)) = (state.path(from), state.path(to))
    {
        state.record(b'r', 0, 0, &from, to.as_bytes());
    }
    leave(state);
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let state = enter();
    let result = unsafe { real!("unlink", fn(*const c_char) -> c_int)(path) };
    if let Some(state) = &state
        && result == 0
        && let Some(path) = state.path(path)
    {
        state.record(b'u', 0, 0, &path, &[]);
    }
    leave(state);
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_ulong) -> c_int {
    let state = enter();
    let result = unsafe { real!("mkdir", fn(*const c_char, c_ulong) -> c_int)(path, mode) };
    if let Some(state) = &state
        && result == 0
        && let Some(path) = state.path(path)
    {
        state.record(b'm', 0, 0, &path, &[]);
    }
    leave(state);
    result
}
