//! Calls to the kernel without libc, which is what is stood before.

use core::arch::asm;
use core::ffi::{c_char, c_int, c_void};

#[cfg(target_arch = "x86_64")]
pub(crate) mod number {
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const PREAD: usize = 17;
    pub const PWRITE: usize = 18;
    pub const WRITEV: usize = 20;
    pub const DUP: usize = 32;
    pub const NANOSLEEP: usize = 35;
    pub const GETPID: usize = 39;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const FSYNC: usize = 74;
    pub const FDATASYNC: usize = 75;
    pub const FTRUNCATE: usize = 77;
    pub const GETCWD: usize = 79;
    pub const FUTEX: usize = 202;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const NEWFSTATAT: usize = 262;
    pub const UNLINKAT: usize = 263;
    pub const RENAMEAT: usize = 264;
    pub const LINKAT: usize = 265;
    pub const READLINKAT: usize = 267;
    pub const SYNC_FILE_RANGE: usize = 277;
    pub const DUP3: usize = 292;
    pub const PWRITEV: usize = 296;
    pub const RENAMEAT2: usize = 316;
    /// In `struct stat`, counted in words of four bytes.
    pub const STAT_MODE: usize = 6;
    pub const STAT_SIZE: usize = 12;
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod number {
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const FSTAT: usize = 80;
    pub const LSEEK: usize = 62;
    pub const MMAP: usize = 222;
    pub const PREAD: usize = 67;
    pub const PWRITE: usize = 68;
    pub const WRITEV: usize = 66;
    pub const DUP: usize = 23;
    pub const NANOSLEEP: usize = 101;
    pub const GETPID: usize = 172;
    pub const KILL: usize = 129;
    pub const FCNTL: usize = 25;
    pub const FSYNC: usize = 82;
    pub const FDATASYNC: usize = 83;
    pub const FTRUNCATE: usize = 46;
    pub const GETCWD: usize = 17;
    pub const FUTEX: usize = 98;
    pub const CLOCK_GETTIME: usize = 113;
    pub const EXIT_GROUP: usize = 94;
    pub const OPENAT: usize = 56;
    pub const MKDIRAT: usize = 34;
    pub const NEWFSTATAT: usize = 79;
    pub const UNLINKAT: usize = 35;
    pub const RENAMEAT: usize = 38;
    pub const LINKAT: usize = 37;
    pub const READLINKAT: usize = 78;
    pub const SYNC_FILE_RANGE: usize = 84;
    pub const DUP3: usize = 24;
    pub const PWRITEV: usize = 70;
    pub const RENAMEAT2: usize = 276;
    pub const STAT_MODE: usize = 4;
    pub const STAT_SIZE: usize = 12;
}

/// A call to the kernel; a negative answer is the error.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn kernel(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the arguments are as the caller's caller gave them to libc.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a[0], in("rsi") a[1],
            in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _,
            lateout("r11") _, options(nostack));
    }
    answer
}

/// A call to the kernel; a negative answer is the error.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn kernel(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the arguments are as the caller's caller gave them to libc.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] as isize => answer, in("x1") a[1],
            in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    answer
}

macro_rules! kernel {
    ($number:ident $(, $arg:expr)*) => {{
        let mut all = [0_usize; 6];
        let given = [$($arg as usize),*];
        let mut at = 0;
        while at < given.len() {
            all[at] = given[at];
            at += 1;
        }
        // SAFETY: see `kernel`.
        unsafe { $crate::kernel::kernel($crate::kernel::number::$number, all) }
    }};
}

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
    pub(crate) fn getenv(name: *const c_char) -> *const c_char;
    pub(crate) fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// As libc answers: -1 and `errno`.
pub(crate) fn answer(result: isize) -> isize {
    if (-4095..0).contains(&result) { fail(-result as c_int) } else { result }
}

pub(crate) fn fail(errno: c_int) -> isize {
    // SAFETY: the address is this thread's.
    unsafe { *__errno_location() = errno };
    -1
}

#[panic_handler]
pub(crate) fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        kernel!(EXIT_GROUP, 134);
    }
}

pub(crate) const O_WRONLY: c_int = 0o1;
pub(crate) const O_RDWR: c_int = 0o2;
pub(crate) const O_CREAT: c_int = 0o100;
pub(crate) const O_TRUNC: c_int = 0o1000;
pub(crate) const O_APPEND: c_int = 0o2000;
pub(crate) const O_CLOEXEC: c_int = 0o2_000_000;
pub(crate) const AT_FDCWD: c_int = -100;
pub(crate) const AT_REMOVEDIR: c_int = 0x200;
pub(crate) const EROFS: c_int = 30;
pub(crate) const SEEK_CUR: c_int = 1;
