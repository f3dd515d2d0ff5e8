//! Backup files: what one says of itself, the state, the keys that it may carry, and its checksum.
//!
//! ```text
//! "QRBACK01"  header length (4)  header (JSON)
//! the state, zstd
//! "QRBEND01"  state bytes (8)  SHA-256 of all before it (32)
//! ```
//! Numbers are little endian. The header stands at the beginning, so that a list of files costs little, and a file can
//! be written while it is sent. The checksum is over everything: a file without a good one is no backup.
//!
//! What the state's bytes mean this crate does not know; nothing here is async, reads a clock, or listens. Start
//! reading at [`header`], then [`write`] and [`read`]; [`keys`] seals private keys with a passphrase, [`file`] is the
//! disk.

pub mod error;
pub mod file;
pub mod header;
pub mod keys;
pub mod limits;
pub mod read;
pub mod write;

pub use error::Error;
pub use header::{FORMAT, Header, Maker, Network};
pub use keys::{Passphrase, SealedKeys};
pub use read::{Backup, read_header};
pub use write::write;
