//! The one door to the replicated store: propose, read, watch, leadership.
//!
//! Joins `raft` (what is decided, and when) and `state-machine` (what it comes to). API server,
//! scheduler and controllers know only this crate; nothing here knows HTTP.
//!
//! Start reading at [`store`], then [`consensus`] (Raft, or one process in tests), `proposer`
//! (sessions: exactly once across a leader change), [`watch`], [`mirror`] (typed caches),
//! [`admit`] (how controllers' writes become operations) and [`recorder`] (their events).

pub mod admit;
pub mod alarms;
pub mod change;
pub mod clock;
pub mod consensus;
pub mod error;
mod integrity;
pub mod limits;
mod local;
pub mod masters;
pub mod mirror;
pub mod recorder;
mod replicated;
pub mod scrub;
pub mod store;
pub mod vip;
pub mod watch;

pub use admit::{Admit, Refused, Write};
pub use alarms::Alarm;
pub use change::{Change, Changed};
pub use clock::{Clock, ClockHand};
pub use error::Error;
pub use masters::{About, GroupError, Masters, Relay, Started};
pub use mirror::{Mirror, MirrorChange, Typed};
pub use recorder::{EventDraft, Recorder, Regarding};
pub use scrub::{ScrubMeters, Scrubber};
pub use store::{Consistency, LeaderStore, Leadership, Published, Store};
pub use vip::Vips;
pub use watch::{Batch, Watch};
