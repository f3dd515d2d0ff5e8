//! A library that is loaded before libc into a master's process (`LD_PRELOAD`) and makes its clock and its disk go
//! wrong, as a control file says that the harness writes (`real/shim.rs` has the same table).
//!
//! `build.rs` compiles it, without `std`: it stands between the program and libc, and must need neither. When
//! nothing is asked for, a call costs one load of a mapped word more than without it.
//!
//! * `clock.rs`: `clock_gettime` and its kin, shifted; waits until a moment of a shifted clock are shifted back.
//! * `calls.rs`: syncs that take long, syncs and writes that fail, disks that cannot be written.
//! * `journal.rs`: what is not synced yet is remembered beside the directory, so that the harness can undo it after the
//!   process was killed. For each file, by inode, the bytes that a write or truncation replaced, until the file is
//!   synced; for all names together what was created, renamed and removed, and which directories were synced.
//!
//! Journal of a file, named by its inode: kind (1 write, 2 truncation), offset, length before, length of the write
//! or length after, count of bytes that follow: 8 bytes each, little endian; then the bytes that were there before.
//! A last record that is not whole belongs to a call that was not carried out. Journal of names: kind (`c`reated,
//! `m`ade a directory, `r`enamed, `u`nlinked, removed a `d`irectory, `s`ynced a directory), number of the file in
//! `graves` that was there before or 0, inode, length of path, length of second path: 8 bytes each; then the paths.
//!
//! Not seen: `sendfile`, `splice`, `fallocate`, mapped files, and calls to the kernel past libc. What they do counts
//! as on disk at once, as if the kernel had written it back by itself.
#![no_std]
// This library exists for its unsafe code: there is no other way to stand between a program and libc.
#![allow(unsafe_code, clippy::missing_safety_doc)]

#[macro_use]
mod kernel;

mod calls;
mod clock;
mod control;
mod journal;
mod names;
