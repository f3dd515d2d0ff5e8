//! Every bound of this crate: what it limits and what happens when it is reached.

/// Bytes of a header. A longer one is not written, and a file that says it has one is damaged.
pub const HEADER_BYTES_MAX: u32 = 1024 * 1024;

/// Bytes that are read and checked at once.
pub const COPY_BYTES: usize = 256 * 1024;

/// Bytes of a passphrase. A longer one is refused: it is some other file.
pub const PASSPHRASE_BYTES_MAX: usize = 4096;

/// Bytes of the shortest passphrase that seals keys. A shorter one is refused.
pub const PASSPHRASE_BYTES_MIN: usize = 8;

/// Memory that making a key of a passphrase takes, KiB. So much has whoever tries passphrases to spend on each.
pub const ARGON2_MEMORY_KIB: u32 = 64 * 1024;

/// How often that memory is gone through.
pub const ARGON2_PASSES: u32 = 3;

/// The most memory that a file may ask for when its keys are opened, KiB. A file that asks for more is refused.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// The most passes that a file may ask for. A file that asks for more is refused.
pub const ARGON2_PASSES_MAX: u32 = 64;
