//! Limits of the harness, and what happens at each.

/// Steps that one key's search for an order may take. Beyond it the verdict is
/// [`Verdict::Undecided`](crate::check::linear::Verdict::Undecided): never "pass".
pub const SEARCH_STEPS_MAX: u64 = 50_000_000;

/// Configurations that one search remembers, so that memory stays bounded (about 100 bytes each).
/// Beyond it the search goes on without remembering new ones: slower, not wrong.
pub const MEMO_MAX: usize = 4_000_000;
