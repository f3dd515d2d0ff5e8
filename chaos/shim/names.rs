//! Calls on names.

use core::ffi::{c_char, c_int, c_uint};

use crate::calls::{AT_REMOVAL, AT_RENAME, crash_after, crash_before, trouble};
use crate::control::{ON_WRITE, Text, asked, slot};
use crate::journal::{NAMES_LOCK, bury, is_ours, journals, name, resolve};
use crate::kernel::{AT_FDCWD, AT_REMOVEDIR, answer, fail};

/// A change of names below the directory that goes wrong.
fn named(at: c_int, path: *const c_char, change: impl FnOnce(Option<Text>) -> isize) -> c_int {
    asked(slot::LOADED);
    let whole = if is_ours() { resolve(at, path) } else { None };
    if whole.is_none() {
        return answer(change(None)) as c_int;
    }
    if asked(slot::READ_ONLY) != 0
        && let Some(errno) = trouble(ON_WRITE)
    {
        return fail(errno) as c_int;
    }
    if !journals() {
        return answer(change(None)) as c_int;
    }
    let _held = NAMES_LOCK.hold();
    answer(change(whole)) as c_int
}

fn renamed(
    (from_at, from): (c_int, *const c_char),
    (to_at, to): (c_int, *const c_char),
    rename: impl Fn() -> isize,
) -> c_int {
    crash_before(AT_RENAME, || resolve(to_at, to));
    let result = named(from_at, from, |old| {
        let new = resolve(to_at, to);
        let (Some(old), Some(new)) = (old, new) else { return rename() };
        let grave = bury(to_at, to);
        let result = rename();
        if result == 0 {
            name(b'r', grave, 0, old.get(), new.get());
        }
        result
    });
    crash_after(AT_RENAME, || resolve(to_at, to));
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    renamed((AT_FDCWD, from), (AT_FDCWD, to), || kernel!(RENAMEAT, AT_FDCWD, from, AT_FDCWD, to))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_at: c_int,
    from: *const c_char,
    to_at: c_int,
    to: *const c_char,
) -> c_int {
    renamed((from_at, from), (to_at, to), || kernel!(RENAMEAT, from_at, from, to_at, to))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_at: c_int,
    from: *const c_char,
    to_at: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    renamed((from_at, from), (to_at, to), || kernel!(RENAMEAT2, from_at, from, to_at, to, flags))
}

fn removed(at: c_int, path: *const c_char, flags: c_int) -> c_int {
    crash_before(AT_REMOVAL, || resolve(at, path));
    named(at, path, |whole| {
        let remove = || kernel!(UNLINKAT, at, path, flags);
        let Some(whole) = whole else { return remove() };
        let is_directory = flags & AT_REMOVEDIR != 0;
        let grave = if is_directory { 0 } else { bury(at, path) };
        let result = remove();
        if result == 0 {
            name(if is_directory { b'd' } else { b'u' }, grave, 0, whole.get(), &[]);
        }
        result
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    removed(AT_FDCWD, path, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int {
    removed(at, path, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    removed(AT_FDCWD, path, AT_REMOVEDIR)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(at: c_int, path: *const c_char, mode: c_uint) -> c_int {
    named(at, path, |whole| {
        let result = kernel!(MKDIRAT, at, path, mode);
        if let Some(whole) = whole
            && result == 0
        {
            name(b'm', 0, 0, whole.get(), &[]);
        }
        result
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: as the caller gave it.
    unsafe { mkdirat(AT_FDCWD, path, mode) }
}
