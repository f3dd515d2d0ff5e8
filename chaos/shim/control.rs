//! The control file, the paths of a run, and a lock.

use core::ffi::c_char;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use crate::kernel::{AT_FDCWD, O_CLOEXEC, O_RDWR, getenv};

/// Words of the control file; those up to 31 are written by the harness, the others here.
pub(crate) mod slot {
    pub const CLOCK_SEQUENCE: usize = 1;
    pub const CLOCK_ACTIVE: usize = 2;
    pub const JUMP_NS: usize = 3;
    pub const STROBE_NS: usize = 4;
    pub const STROBE_EVERY_NS: usize = 5;
    pub const DRIFT_PERCENT: usize = 6;
    pub const DRIFT_SINCE_NS: usize = 7;
    pub const MONOTONIC_NS: usize = 8;
    pub const MONOTONIC_PERCENT: usize = 9;
    pub const DISK_ACTIVE: usize = 10;
    pub const SYNC_DELAY_NS: usize = 11;
    pub const ERROR: usize = 12;
    pub const ERROR_ON: usize = 13;
    pub const ERROR_TIMES: usize = 14;
    pub const READ_ONLY: usize = 15;
    pub const LIES: usize = 16;
    pub const JOURNALS: usize = 17;
    pub const CRASH_ON: usize = 18;
    pub const CRASH_WHEN: usize = 19;
    pub const CRASH_TIMES: usize = 20;
    pub const LOADED: usize = 32;
    pub const SHIFTED: usize = 33;
    pub const SLOWED: usize = 34;
    pub const FAILED: usize = 35;
    pub const LIED: usize = 36;
    pub const JOURNALED: usize = 37;
    pub const SYNCED: usize = 38;
    pub const UNTRACKED: usize = 39;
    pub const CRASHED: usize = 40;
    /// Text that ends with 0: part of the path at which the process ends.
    pub const CRASH_PATH: usize = 64;
    pub const ALL: usize = 512;
}

pub(crate) const ON_SYNC: u64 = 1;
pub(crate) const ON_WRITE: u64 = 2;
/// In `ERROR_TIMES`: until it is taken back.
pub(crate) const ALWAYS: u64 = u64::MAX;

/// What nothing is asked of, as long as there is no control file.
pub(crate) static NOTHING: [AtomicU64; slot::ALL] = [const { AtomicU64::new(0) }; slot::ALL];
pub(crate) static CONTROL: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());

pub(crate) fn word(index: usize) -> &'static AtomicU64 {
    let mut base = CONTROL.load(Acquire);
    if base.is_null() {
        base = start();
    }
    // SAFETY: it is mapped for the life of the process, and has that many words.
    unsafe { &*base.add(index) }
}

pub(crate) fn asked(index: usize) -> u64 {
    word(index).load(Relaxed)
}

pub(crate) fn count(index: usize) {
    word(index).fetch_add(1, Relaxed);
}

pub(crate) const PATH_MAX: usize = 4096;

/// Text whose length is known, in a place that does not move.
pub(crate) struct Text {
    pub(crate) bytes: [u8; PATH_MAX],
    pub(crate) length: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; PATH_MAX], length: 0 }
    }

    /// Too much makes it empty: no path of ours.
    pub(crate) fn push(&mut self, more: &[u8]) {
        // One byte is left for the end.
        if self.length + more.len() >= PATH_MAX {
            self.length = 0;
            return;
        }
        self.bytes[self.length..self.length + more.len()].copy_from_slice(more);
        self.length += more.len();
        self.bytes[self.length] = 0;
    }

    pub(crate) fn push_number(&mut self, mut number: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn pointer(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
}

/// The directory that goes wrong, and the one beside it for control and journals. Written once, at the start.
static mut ROOT: Text = Text::new();
static mut BESIDE: Text = Text::new();
pub(crate) static STARTING: AtomicU32 = AtomicU32::new(0);

pub(crate) fn root() -> &'static [u8] {
    // SAFETY: it is not written any more once there is a control file.
    unsafe { (*(&raw const ROOT)).get() }
}

pub(crate) fn beside(what: &[u8]) -> Text {
    let mut text = Text::new();
    // SAFETY: as above.
    text.push(unsafe { (*(&raw const BESIDE)).get() });
    text.push(what);
    text
}

/// A C string's bytes.
pub(crate) fn bytes_of(text: *const c_char) -> &'static [u8] {
    if text.is_null() {
        return &[];
    }
    let mut length = 0;
    // SAFETY: libc gives a string that ends.
    while unsafe { *text.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: so long is it.
    unsafe { core::slice::from_raw_parts(text.cast(), length) }
}

#[cold]
pub(crate) fn start() -> *mut AtomicU64 {
    if STARTING.swap(1, AcqRel) == 1 {
        // Another thread is at it: until then nothing is asked.
        return (&raw const NOTHING).cast_mut().cast();
    }
    // SAFETY: only one comes here; nobody reads before the control file is there.
    let (root, place) = unsafe { (&mut *(&raw mut ROOT), &mut *(&raw mut BESIDE)) };
    // SAFETY: C strings.
    root.push(bytes_of(unsafe { getenv(c"QUORATE_CHAOS_ROOT".as_ptr()) }));
    place.push(bytes_of(unsafe { getenv(c"QUORATE_CHAOS_SHIM".as_ptr()) }));
    let mut control = (&raw const NOTHING).cast_mut().cast::<AtomicU64>();
    if root.length > 0 && place.length > 0 {
        let path = beside(b"/control");
        let fd = kernel!(OPENAT, AT_FDCWD, path.pointer(), O_RDWR | O_CLOEXEC, 0);
        if fd >= 0 {
            // Read and written, shared.
            let mapped = kernel!(MMAP, 0, slot::ALL * 8, 3, 1, fd, 0);
            if mapped > 0 {
                control = mapped as *mut AtomicU64;
            }
            kernel!(CLOSE, fd);
        }
    }
    CONTROL.store(control, Release);
    word(slot::LOADED).store(kernel!(GETPID) as u64, Relaxed);
    control
}

extern "C" fn at_load() {
    word(0);
}

#[used]
#[unsafe(link_section = ".init_array")]
pub(crate) static AT_LOAD: extern "C" fn() = at_load;

pub(crate) struct Lock(AtomicU32);

impl Lock {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        if self.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            while self.0.swap(2, Acquire) != 0 {
                // Wait, private, while it is 2.
                kernel!(FUTEX, &raw const self.0, 128, 2, 0);
            }
        }
        Held(self)
    }
}

pub(crate) struct Held<'a>(&'a Lock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.0.0.swap(0, Release) == 2 {
            kernel!(FUTEX, &raw const self.0.0, 129, 1);
        }
    }
}
