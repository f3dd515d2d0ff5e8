//! Clocks that are wrong.

use core::ffi::{c_int, c_long, c_void};
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use core::sync::atomic::{AtomicI64, AtomicUsize};

use crate::control::{asked, count, slot, word};
use crate::kernel::{answer, dlsym, kernel, number};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

pub(crate) const SECOND: i64 = 1_000_000_000;

impl Time {
    pub(crate) fn total(self) -> i64 {
        self.seconds.wrapping_mul(SECOND).wrapping_add(self.nanoseconds)
    }

    pub(crate) fn of(total: i64) -> Self {
        Self { seconds: total.div_euclid(SECOND), nanoseconds: total.rem_euclid(SECOND) }
    }
}

pub(crate) type ClockGettime = unsafe extern "C" fn(c_int, *mut Time) -> c_int;

pub(crate) const REALTIME: c_int = 0;
pub(crate) const MONOTONIC: c_int = 1;

pub(crate) fn true_clock(clock: c_int, into: *mut Time) -> c_int {
    static REAL: AtomicUsize = AtomicUsize::new(0);
    let mut address = REAL.load(Relaxed);
    if address == 0 {
        // libc's: it does not go to the kernel.
        // SAFETY: RTLD_NEXT, and a C string.
        address = unsafe { dlsym(-1_isize as *mut c_void, c"clock_gettime".as_ptr()) } as usize;
        REAL.store(address, Relaxed);
    }
    if address == 0 {
        return answer(kernel!(CLOCK_GETTIME, clock, into)) as c_int;
    }
    // SAFETY: libc's function of that name has this signature.
    unsafe { core::mem::transmute::<usize, ClockGettime>(address)(clock, into) }
}

/// How far the two clocks are from the truth now.
pub(crate) fn shifts() -> (i64, i64) {
    let mut now = Time { seconds: 0, nanoseconds: 0 };
    true_clock(MONOTONIC, &mut now);
    let now = now.total();
    let signed = |index| asked(index) as i64;
    loop {
        let before = word(slot::CLOCK_SEQUENCE).load(Acquire);
        let mut real = signed(slot::JUMP_NS);
        let every = signed(slot::STROBE_EVERY_NS);
        if every > 0 && (now / every) % 2 == 1 {
            real = real.wrapping_add(signed(slot::STROBE_NS));
        }
        // Who sees it first begins it.
        let began = word(slot::DRIFT_SINCE_NS);
        let began = began.compare_exchange(0, now as u64, Relaxed, Relaxed).unwrap_or_else(|at| at);
        let since = if began == 0 { 0 } else { now.wrapping_sub(began as i64).max(0) };
        real = real.wrapping_add(since / 100 * signed(slot::DRIFT_PERCENT));
        let monotonic =
            signed(slot::MONOTONIC_NS).wrapping_add(since / 100 * signed(slot::MONOTONIC_PERCENT));
        core::sync::atomic::fence(Acquire);
        if before % 2 == 0 && word(slot::CLOCK_SEQUENCE).load(Relaxed) == before {
            return (real, monotonic);
        }
    }
}

/// The latest moment of the monotonic clock that was told: it does not go back.
static LATEST: AtomicI64 = AtomicI64::new(0);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, into: *mut Time) -> c_int {
    let result = true_clock(clock, into);
    if result != 0 || asked(slot::CLOCK_ACTIVE) == 0 || into.is_null() {
        return result;
    }
    let (real, monotonic) = shifts();
    // SAFETY: libc has just written it.
    let told = unsafe { &mut *into };
    match clock {
        // And the coarse one.
        REALTIME | 5 if real != 0 => {
            *told = Time::of(told.total().wrapping_add(real));
            count(slot::SHIFTED);
        }
        MONOTONIC if monotonic != 0 => {
            let now = told.total().wrapping_add(monotonic);
            *told = Time::of(LATEST.fetch_max(now, Relaxed).max(now));
            count(slot::SHIFTED);
        }
        // Raw, coarse, boot time.
        4 | 6 | 7 if monotonic != 0 => *told = Time::of(told.total().wrapping_add(monotonic)),
        _ => {}
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(into: *mut Time, _zone: *mut c_void) -> c_int {
    let mut now = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: it is ours.
    let result = unsafe { clock_gettime(REALTIME, &mut now) };
    if result == 0 && !into.is_null() {
        // SAFETY: the caller's, with microseconds in the second place.
        unsafe { *into = Time { seconds: now.seconds, nanoseconds: now.nanoseconds / 1000 } };
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(into: *mut i64) -> i64 {
    let mut now = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: it is ours.
    unsafe { clock_gettime(REALTIME, &mut now) };
    if !into.is_null() {
        // SAFETY: the caller's.
        unsafe { *into = now.seconds };
    }
    now.seconds
}

/// Waits of the standard library until a moment of the monotonic clock: the kernel has the true one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    const WAIT_BITSET: usize = 9;
    const BY_REALTIME: usize = 256;
    let mut until = Time { seconds: 0, nanoseconds: 0 };
    let mut limit = d;
    let waits = number as usize == number::FUTEX && b & 127 == WAIT_BITSET && d != 0;
    if waits && asked(slot::CLOCK_ACTIVE) != 0 {
        let (real, monotonic) = shifts();
        let shift = if b & BY_REALTIME == 0 { monotonic } else { real };
        // SAFETY: the kernel would read it too.
        until = Time::of(unsafe { *(d as *const Time) }.total().wrapping_sub(shift));
        if until.seconds >= 0 {
            limit = &raw const until as usize;
        }
    }
    // SAFETY: as the caller gave it.
    let result = unsafe { kernel(number as usize, [a, b, c, limit, e, f]) };
    let _ = &until;
    answer(result) as c_long
}
