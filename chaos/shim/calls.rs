//! Calls on files.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::sync::atomic::Ordering::Relaxed;

use crate::clock::Time;
use crate::control::{ALWAYS, ON_SYNC, ON_WRITE, Text, asked, bytes_of, count, slot, word};
use crate::journal::{
    APPENDS, DIRECTORY, NAMES_LOCK, OURS, Stat, entry, file_of, is_ours, journals, name, number_of,
    path_of, resolve, set_entry,
};
use crate::kernel::{
    AT_FDCWD, EROFS, O_APPEND, O_CLOEXEC, O_CREAT, O_RDWR, O_TRUNC, O_WRONLY, SEEK_CUR, answer,
    fail,
};

/// The error that an operation of this kind is to have now.
pub(crate) fn trouble(on: u64) -> Option<c_int> {
    if asked(slot::DISK_ACTIVE) == 0 {
        return None;
    }
    if on == ON_WRITE && asked(slot::READ_ONLY) != 0 {
        count(slot::FAILED);
        return Some(EROFS);
    }
    if asked(slot::ERROR_ON) != on {
        return None;
    }
    let left = |times: u64| match times {
        0 => None,
        ALWAYS => Some(ALWAYS),
        some => Some(some - 1),
    };
    word(slot::ERROR_TIMES).fetch_update(Relaxed, Relaxed, left).ok()?;
    count(slot::FAILED);
    Some(asked(slot::ERROR) as c_int)
}

/// What a crash point stands at.
pub(crate) const AT_SYNC: u64 = 1;
pub(crate) const AT_WRITE: u64 = 2;
pub(crate) const AT_RENAME: u64 = 3;
pub(crate) const AT_REMOVAL: u64 = 4;

const BEFORE: u64 = 0;
const AFTER: u64 = 1;
const DURING: u64 = 2;

/// Whether the process is to end at a call of this kind, at this moment, on this file.
fn ends(on: u64, when: u64, path: impl FnOnce() -> Option<Text>) -> bool {
    let armed = asked(slot::DISK_ACTIVE) != 0
        && asked(slot::CRASH_ON) == on
        && asked(slot::CRASH_WHEN) == when;
    if !armed {
        return false;
    }
    let Some(path) = path() else { return false };
    let part = bytes_of(word(slot::CRASH_PATH).as_ptr().cast());
    if part.is_empty() || !path.get().windows(part.len()).any(|found| found == part) {
        return false;
    }
    let left = |times: u64| times.checked_sub(1);
    word(slot::CRASH_TIMES).fetch_update(Relaxed, Relaxed, left) == Ok(1)
}

/// As `kill -9` at this moment.
fn end() -> isize {
    count(slot::CRASHED);
    loop {
        kernel!(KILL, kernel!(GETPID), 9);
    }
}

pub(crate) fn crash_before(on: u64, path: impl FnOnce() -> Option<Text>) {
    if ends(on, BEFORE, path) {
        end();
    }
}

pub(crate) fn crash_after(on: u64, path: impl FnOnce() -> Option<Text>) {
    if ends(on, AFTER, path) {
        end();
    }
}

fn slow() {
    let delay = asked(slot::SYNC_DELAY_NS) as i64;
    if asked(slot::DISK_ACTIVE) != 0 && delay > 0 {
        let mut left = Time::of(delay);
        while kernel!(NANOSLEEP, &raw const left, &raw mut left) == -4 {}
        count(slot::SLOWED);
    }
}

fn opened(at: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let open = || answer(kernel!(OPENAT, at, path, flags, mode)) as c_int;
    // The first call loads the control file.
    asked(slot::LOADED);
    if !is_ours() {
        return open();
    }
    let Some(whole) = resolve(at, path) else { return open() };
    let changes = flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) != 0;
    if changes
        && asked(slot::READ_ONLY) != 0
        && let Some(errno) = trouble(ON_WRITE)
    {
        return fail(errno) as c_int;
    }
    let _held = NAMES_LOCK.hold();
    let before = Stat::at(at, path);
    if let Some(stat) = &before
        && journals()
        && flags & O_TRUNC != 0
        && stat.is_file()
        && stat.size() > 0
    {
        let reader = kernel!(OPENAT, at, path, O_CLOEXEC, 0) as c_int;
        let number = number_of(stat.inode());
        if reader >= 0
            && let Some(file) = file_of(number)
        {
            let _held = file.lock.hold();
            file.remember(reader, 2, 0, 0);
        }
        kernel!(CLOSE, reader);
    }
    let fd = open();
    if fd < 0 {
        return fd;
    }
    let Some(stat) = Stat::of(fd) else { return fd };
    let mut value = OURS;
    if stat.is_directory() {
        value |= DIRECTORY;
    } else if stat.is_file() {
        value |= number_of(stat.inode());
        if flags & O_APPEND != 0 {
            value |= APPENDS;
        }
    }
    set_entry(fd, value);
    if before.is_none() && flags & O_CREAT != 0 && journals() {
        if let Some(file) = file_of(value) {
            let _held = file.lock.hold();
            file.forget();
            // The inode may have been another file's.
            let reader = file.reader.swap(0, Relaxed);
            if reader > 0 {
                kernel!(CLOSE, reader);
            }
        }
        name(b'c', 0, stat.inode(), whole.get(), &[]);
    }
    fd
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    opened(AT_FDCWD, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    opened(AT_FDCWD, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    opened(at, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    opened(at, path, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: c_uint) -> c_int {
    opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    set_entry(fd, 0);
    answer(kernel!(CLOSE, fd)) as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    let new = answer(kernel!(DUP, fd)) as c_int;
    set_entry(new, entry(fd));
    new
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(fd: c_int, new: c_int) -> c_int {
    if fd == new {
        // Of a descriptor that is open: itself.
        let open = kernel!(FCNTL, fd, 1) >= 0;
        return if open { fd } else { fail(9) as c_int };
    }
    // SAFETY: as the caller gave it.
    unsafe { dup3(fd, new, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
    let new = answer(kernel!(DUP3, fd, new, flags)) as c_int;
    set_entry(new, entry(fd));
    new
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    let result = answer(kernel!(FCNTL, fd, command, argument)) as c_int;
    // F_DUPFD, F_DUPFD_CLOEXEC.
    if matches!(command, 0 | 1030) {
        set_entry(result, entry(fd));
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: as the caller gave it.
    unsafe { fcntl(fd, command, argument) }
}

/// A write of this many bytes, at a place or where the descriptor stands.
fn wrote(fd: c_int, length: usize, at: Option<i64>, write: impl Fn(usize) -> isize) -> isize {
    let entry = entry(fd);
    if entry == 0 {
        return answer(write(length));
    }
    if let Some(errno) = trouble(ON_WRITE) {
        return fail(errno);
    }
    crash_before(AT_WRITE, || path_of(fd));
    let file = file_of(entry).filter(|_| journals() && length > 0);
    let _held = file.map(|file| file.lock.hold());
    if let Some(file) = file {
        let at = match at {
            _ if entry & APPENDS != 0 => Stat::of(fd).map(|stat| stat.size() as i64),
            Some(at) => Some(at),
            None => Some(kernel!(LSEEK, fd, 0, SEEK_CUR) as i64),
        };
        if let Some(at) = at.and_then(|at| u64::try_from(at).ok()) {
            file.remember(fd, 1, at, length as u64);
        }
    }
    if ends(AT_WRITE, DURING, || path_of(fd)) {
        write(length / 2);
        return end();
    }
    let result = answer(write(length));
    crash_after(AT_WRITE, || path_of(fd));
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, length: usize) -> isize {
    wrote(fd, length, None, |length| kernel!(WRITE, fd, data, length))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    wrote(fd, length, Some(at), |length| kernel!(PWRITE, fd, data, length, at))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, length: usize, at: i64) -> isize {
    wrote(fd, length, Some(at), |length| kernel!(PWRITE, fd, data, length, at))
}

/// Bytes in all parts.
unsafe fn length_of(parts: *const c_void, count: c_int) -> usize {
    let parts = parts.cast::<[usize; 2]>();
    // SAFETY: the kernel reads them too.
    (0..usize::try_from(count).unwrap_or(0)).map(|part| unsafe { (*parts.add(part))[1] }).sum()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const c_void, count: c_int) -> isize {
    // SAFETY: as the caller gave it.
    let length = if entry(fd) == 0 { 0 } else { unsafe { length_of(parts, count) } };
    wrote(fd, length, None, |_| kernel!(WRITEV, fd, parts, count))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(fd: c_int, parts: *const c_void, count: c_int, at: i64) -> isize {
    // SAFETY: as the caller gave it.
    let length = if entry(fd) == 0 { 0 } else { unsafe { length_of(parts, count) } };
    wrote(fd, length, Some(at), |_| kernel!(PWRITEV, fd, parts, count, at, 0))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(
    fd: c_int,
    parts: *const c_void,
    count: c_int,
    at: i64,
) -> isize {
    // SAFETY: as the caller gave it.
    unsafe { pwritev(fd, parts, count, at) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    let cut = || answer(kernel!(FTRUNCATE, fd, length)) as c_int;
    let entry = entry(fd);
    if entry == 0 {
        return cut();
    }
    if let Some(errno) = trouble(ON_WRITE) {
        return fail(errno) as c_int;
    }
    let Some(file) = file_of(entry).filter(|_| journals()) else { return cut() };
    let _held = file.lock.hold();
    if let Ok(length) = u64::try_from(length) {
        file.remember(fd, 2, 0, length);
    }
    cut()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    // SAFETY: as the caller gave it.
    unsafe { ftruncate(fd, length) }
}

fn synced(fd: c_int, sync: impl Fn() -> isize) -> c_int {
    let entry = entry(fd);
    if entry == 0 {
        return answer(sync()) as c_int;
    }
    crash_before(AT_SYNC, || path_of(fd));
    slow();
    if let Some(errno) = trouble(ON_SYNC) {
        return fail(errno) as c_int;
    }
    if asked(slot::DISK_ACTIVE) != 0 && asked(slot::LIES) != 0 {
        count(slot::LIED);
        return 0;
    }
    count(slot::SYNCED);
    let result = sync_known(fd, entry, sync);
    crash_after(AT_SYNC, || path_of(fd));
    result
}

fn sync_known(fd: c_int, entry: u32, sync: impl Fn() -> isize) -> c_int {
    if !journals() {
        return answer(sync()) as c_int;
    }
    if entry & DIRECTORY != 0 {
        let _held = NAMES_LOCK.hold();
        let result = answer(sync()) as c_int;
        if let Some(path) = path_of(fd)
            && result == 0
        {
            name(b's', 0, 0, path.get(), &[]);
        }
        return result;
    }
    let Some(file) = file_of(entry) else { return answer(sync()) as c_int };
    // Nobody writes meanwhile: what is written is either synced or not.
    let _held = file.lock.hold();
    let result = answer(sync()) as c_int;
    if result == 0 {
        file.forget();
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    synced(fd, || kernel!(FSYNC, fd))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    synced(fd, || kernel!(FDATASYNC, fd))
}

/// Slow on a slow disk; it makes nothing safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(fd: c_int, from: i64, count: i64, flags: c_uint) -> c_int {
    if entry(fd) != 0 {
        slow();
    }
    answer(kernel!(SYNC_FILE_RANGE, fd, from, count, flags)) as c_int
}
