//! How commands, replies and snapshots become bytes: bincode 2 inside a versioned envelope, here
//! and nowhere else. Log entries live for ever, so golden tests hold the bytes.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::command::{Command, Entry, Reply};
use crate::limits::{COMMAND_OPS_MAX, ENTRY_BYTES_MAX};

/// First byte of what this module writes.
const MAGIC: u8 = b'Q';

/// Second byte: the version of the encoding.
const VERSION: u8 = 1;

pub(crate) const CONFIG: Configuration<LittleEndian, Varint, Limit<ENTRY_BYTES_MAX>> =
    bincode::config::standard().with_limit::<ENTRY_BYTES_MAX>();

/// Bytes that are not what they should be, or a value that may not become bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The first byte is wrong: not one of ours.
    #[error("not a Quorate record: it begins with {0:?}")]
    Foreign(Option<u8>),
    /// Written by a version that this one does not know.
    #[error("record of version {0}, this master knows up to {VERSION}: upgrade it")]
    Newer(u8),
    /// The content does not decode: damage, or a command of a newer version.
    #[error("record does not decode")]
    Decode(#[source] bincode::error::DecodeError),
    /// There is more than the record.
    #[error("{0} bytes follow the record")]
    Trailing(usize),
    /// The value cannot be encoded.
    #[error("record does not encode")]
    Encode(#[source] bincode::error::EncodeError),
    /// More than a log entry may hold.
    #[error("log entry of {0} bytes, the limit is {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// More operations than one command may hold.
    #[error("command of {0} operations, the limit is {COMMAND_OPS_MAX}")]
    TooMany(usize),
}

/// A log entry as bytes.
///
/// # Errors
/// When it is beyond the limits of an entry.
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    for proposal in &entry.proposals {
        if let Command::Write(ops) | Command::Txn(ops) = &proposal.command
            && ops.len() > COMMAND_OPS_MAX
        {
            return Err(CodecError::TooMany(ops.len()));
        }
    }
    let bytes = encode(entry)?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(CodecError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// A log entry from its bytes.
///
/// # Errors
/// When the bytes are damaged, or were written by a newer version.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    decode(bytes)
}

/// Replies as bytes, in the order of the entry's proposals.
///
/// # Errors
/// When they cannot be encoded.
pub fn encode_replies(replies: &[Reply]) -> Result<Vec<u8>, CodecError> {
    encode(&replies)
}

/// Replies from their bytes.
///
/// # Errors
/// When the bytes are damaged, or were written by a newer version.
pub fn decode_replies(bytes: &[u8]) -> Result<Vec<Reply>, CodecError> {
    decode(bytes)
}

/// Any record of ours as bytes in the envelope.
///
/// # Errors
/// When it cannot be encoded.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![MAGIC, VERSION];
    bincode::encode_into_std_write(value, &mut bytes, CONFIG).map_err(CodecError::Encode)?;
    // Log entries are kept: growing has left up to as much again unused.
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Any record of ours from its bytes.
///
/// # Errors
/// When the bytes are damaged, or were written by a newer version.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let body = match bytes {
        [MAGIC, VERSION, body @ ..] => body,
        [MAGIC, version, ..] => return Err(CodecError::Newer(*version)),
        _ => return Err(CodecError::Foreign(bytes.first().copied())),
    };
    let (value, used) = bincode::decode_from_slice(body, CONFIG).map_err(CodecError::Decode)?;
    if used != body.len() {
        return Err(CodecError::Trailing(body.len() - used));
    }
    Ok(value)
}
