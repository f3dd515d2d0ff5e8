//! The replicated object store: what the Raft log drives, and nothing else.
//!
//! `Machine::apply(index, entry)` takes one log entry and gives back what each proposal in it came
//! to. The same log gives the same bytes on every master and every version, so nothing here reads a
//! clock, draws a random number, iterates a hash map or does I/O: uids, times and generated names are
//! chosen by the proposer and travel in the command (design, section 1, rule 3).
//!
//! Start reading at [`machine`], then [`command`] (one file per command), [`view`] (what readers
//! see) and [`history`] (what watchers see).
#![deny(clippy::wildcard_enum_match_arm)]

pub mod codec;
pub mod command;
pub mod hash;
pub mod history;
pub mod limits;
pub mod machine;
pub mod names;
pub mod object;
pub mod restore;
pub mod session;
pub mod snapshot;
pub mod view;

pub use command::{Command, Entry, Op, Outcome, Proposal, Reply};
pub use history::{Change, ChangeKind};
pub use machine::{Machine, MachineError};
pub use names::{ClusterLevel, GroupResource, Key, LogIndex, ObjectKey, Revision, Uid};
pub use object::{Header, Image, Stored};
pub use restore::{Leap, TooFar};
pub use session::{SessionId, SessionTag};
pub use view::{Expired, ResourceView, View};
