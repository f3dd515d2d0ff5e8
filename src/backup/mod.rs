//! Backups: taken by a running master, and made into a new cluster's directory when there is none.
//!
//! [`take`] is what a backup is made of, [`serve`] gives it to whoever may ask, [`schedule`] keeps some on the master's
//! own disk. [`rebuild`] makes a data directory of a state, for `quorate backup restore` and `quorate masters recover`;
//! [`staging`] puts it in the place of the old one, whole or not at all.

pub mod plan;
pub mod rebuild;
pub mod remote;
pub mod schedule;
pub mod serve;
pub mod staging;
pub mod take;

/// How the names of backups begin that somebody asked for.
pub const SAVED: &str = "saved";

/// How the names of backups begin that a master makes by itself. It removes only such.
pub const SCHEDULED: &str = "scheduled";

/// A moment as it stands in names.
pub fn stamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}
