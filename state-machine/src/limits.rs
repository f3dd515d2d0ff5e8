//! The bounds of replicated state. They are part of the format: every master must use the same.

/// Remembered outcomes of one session. At the limit a further proposal of that session is answered
/// [`crate::command::Reply::SessionFull`] and not executed; a proposer keeps fewer in flight.
pub const SESSION_OUTCOMES_MAX: usize = 4096;

/// Open sessions. Opening one more closes the session that was opened longest ago, whose
/// proposals are then rejected (never executed).
pub const SESSIONS_MAX: usize = 1024;

/// Operations in one command. The codec refuses more, before they reach the log.
pub const COMMAND_OPS_MAX: usize = 10_000;

/// Bytes of one encoded log entry. The codec refuses more, before they reach the log.
pub const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one object as stored. A write beyond it has the outcome
/// [`crate::command::Outcome::TooLarge`] (etcd's default request limit, which Kubernetes' users know).
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024 + 512 * 1024;
