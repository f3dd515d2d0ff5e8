//! The log on disk: entries, vote and committed index.
//!
//! [`engine`] is the small trait behind which the ordered store sits (sled in production, faulty
//! ones in tests); [`record`] is what goes into it; `open` checks everything that is there;
//! `writer` is the one thread that owns the engine and commits in groups; `storage` is openraft's
//! side of it.

pub(crate) mod directory;
pub(crate) mod engine;
pub(crate) mod examine;
pub(crate) mod open;
mod pace;
pub(crate) mod record;
pub(crate) mod renewal;
#[cfg(test)]
mod renewal_tests;
pub(crate) mod shared;
pub(crate) mod sled_engine;
pub(crate) mod storage;
#[cfg(test)]
mod tests;
pub(crate) mod witness;
pub(crate) mod writer;
