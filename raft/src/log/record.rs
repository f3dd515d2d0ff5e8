//! Records of the engine: their keys, and the envelope with version, length and CRC.
//!
//! Key: `e` + index (8, big endian) + part (2, big endian) for entries, `s` for the state record,
//! `i` for the identity. Value: `version (1) crc32 (4) body`; the CRC covers key and body, so a
//! record in the wrong place is noticed too. An entry is cut into parts of at most
//! `RECORD_BYTES_MAX`; the body of part 0 starts with the number of parts (2).

use bytes::{Bytes, BytesMut};
use quorate_mutants::{self as mutants, Mutant};

use super::engine::Batch;
use crate::codec::{self, DiskIdentity, DiskState, Kind};
use crate::limits::RECORD_BYTES_MAX;

/// Version of the envelope.
const VERSION: u8 = 1;
const HEADER: usize = 5;
const PARTS: usize = 2;
const BODY_MAX: usize = RECORD_BYTES_MAX - HEADER - PARTS;

pub(crate) const STATE_KEY: &[u8] = b"s";
pub(crate) const IDENTITY_KEY: &[u8] = b"i";

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("cut off")]
    Short,
    #[error("written by a newer version ({0})")]
    Version(u8),
    #[error("checksum is {found:08x}, should be {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("part {0} is missing")]
    Missing(u16),
    #[error("key is not one of ours")]
    Key,
}

pub(crate) fn entry_key(index: u64, part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(11);
    key.push(b'e');
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// The half-open range of keys of the entries `from..to`.
pub(crate) fn entry_range(from: u64, to: u64) -> (Vec<u8>, Vec<u8>) {
    (entry_key(from, 0), entry_key(to, 0))
}

pub(crate) fn parse_entry_key(key: &[u8]) -> Result<(u64, u16), RecordError> {
    let [b'e', rest @ ..] = key else { return Err(RecordError::Key) };
    let rest: &[u8; 10] = rest.try_into().map_err(|_| RecordError::Key)?;
    let [a, b, c, d, e, f, g, h, i, j] = *rest;
    Ok((u64::from_be_bytes([a, b, c, d, e, f, g, h]), u16::from_be_bytes([i, j])))
}

fn checksum(key: &[u8], body: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    for part in body {
        hasher.update(part);
    }
    hasher.finalize()
}

fn seal_parts(key: &[u8], body: &[&[u8]]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER + body.iter().map(|part| part.len()).sum::<usize>());
    value.push(VERSION);
    value.extend_from_slice(&checksum(key, body).to_le_bytes());
    for part in body {
        value.extend_from_slice(part);
    }
    value
}

/// Puts a body into its envelope.
pub(crate) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    seal_parts(key, &[body])
}

/// Takes a body out of its envelope.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], RecordError> {
    let [version, a, b, c, d, body @ ..] = value else { return Err(RecordError::Short) };
    if *version != VERSION {
        return Err(RecordError::Version(*version));
    }
    let expected = u32::from_le_bytes([*a, *b, *c, *d]);
    let found = checksum(key, &[body]);
    if found != expected && !mutants::is(Mutant::ChecksumIgnored) {
        return Err(RecordError::Checksum { found, expected });
    }
    Ok(body)
}

/// Adds the record that says whose log it is.
pub(crate) fn put_identity(batch: &mut Batch, identity: &DiskIdentity) {
    let encoded = codec::encode(Kind::Identity, identity);
    batch.put(IDENTITY_KEY.to_vec(), seal(IDENTITY_KEY, &encoded));
}

/// Adds the record of vote, commit and end of the log.
pub(crate) fn put_state(batch: &mut Batch, state: &DiskState) {
    let encoded = codec::encode(Kind::State, state);
    batch.put(STATE_KEY.to_vec(), seal(STATE_KEY, &encoded));
}

/// Adds the records of one encoded entry; gives how many there are.
pub(crate) fn put_entry(batch: &mut Batch, index: u64, encoded: &[u8]) -> u16 {
    let count = encoded.len().div_ceil(BODY_MAX).max(1);
    let count = u16::try_from(count).expect("PROPOSAL_BYTES_MAX is far below 65536 parts");
    let mut chunks = encoded.chunks(BODY_MAX);
    for part in 0..count {
        let key = entry_key(index, part);
        let body = chunks.next().unwrap_or_default();
        let value = if part == 0 {
            seal_parts(&key, &[&count.to_le_bytes(), body])
        } else {
            seal_parts(&key, &[body])
        };
        batch.put(key, value);
    }
    count
}

/// Puts the parts of entries together again while records are shown in order.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    index: u64,
    next: u16,
    count: u16,
    encoded: BytesMut,
}

/// A complete encoded entry.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) index: u64,
    pub(crate) parts: u16,
    pub(crate) encoded: Bytes,
}

impl Assembler {
    /// Takes the next record. Gives an entry when it was its last part.
    pub(crate) fn push(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Assembled>, RecordError> {
        let (index, part) = parse_entry_key(key)?;
        let body = open(key, value)?;
        if part != self.next || (part > 0 && index != self.index) {
            return Err(RecordError::Missing(self.next));
        }
        let body = if part == 0 {
            let [low, high, body @ ..] = body else { return Err(RecordError::Short) };
            self.index = index;
            self.count = u16::from_le_bytes([*low, *high]);
            body
        } else {
            body
        };
        self.encoded.extend_from_slice(body);
        self.next += 1;
        if self.next < self.count {
            return Ok(None);
        }
        // A copy of its own size: the buffer has grown beyond it, and the newest entries are kept.
        let encoded = Bytes::copy_from_slice(&self.encoded);
        self.encoded.clear();
        self.next = 0;
        Ok(Some(Assembled { index, parts: self.count, encoded }))
    }

    /// To be called after the last record: no entry may be half there.
    pub(crate) fn finish(&self) -> Result<(), RecordError> {
        if self.next == 0 { Ok(()) } else { Err(RecordError::Missing(self.next)) }
    }

    /// The entry that is being put together.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(records: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<Assembled>, RecordError> {
        let mut assembler = Assembler::default();
        let mut entries = Vec::new();
        for (key, value) in records {
            entries.extend(assembler.push(key, value)?);
        }
        assembler.finish()?;
        Ok(entries)
    }

    fn records(index: u64, encoded: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut batch = Batch::default();
        put_entry(&mut batch, index, encoded);
        batch.changes.into_iter().map(|(key, value)| (key, value.unwrap())).collect()
    }

    #[test]
    fn entries_of_any_size_come_back() {
        for size in [0, 1, BODY_MAX - 1, BODY_MAX, BODY_MAX + 1, 3 * BODY_MAX, 3 << 20] {
            let encoded: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let records = records(9, &encoded);
            assert!(records.iter().all(|(_, value)| value.len() <= RECORD_BYTES_MAX));
            let entries = assemble(&records).unwrap();
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0].index, 9);
            assert_eq!(usize::from(entries[0].parts), records.len());
            assert_eq!(entries[0].encoded, encoded);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = records(9, b"some entry");
        for byte in 0..good[0].1.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[0].1[byte] ^= 1 << bit;
                assert!(assemble(&bad).is_err(), "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn misplaced_and_missing_parts_are_noticed() {
        let good = records(9, &vec![1; 2 * BODY_MAX]);
        assert_eq!(assemble(&good[..1]).unwrap_err(), RecordError::Missing(1));
        assert_eq!(assemble(&good[1..]).unwrap_err(), RecordError::Missing(0));
        let moved = vec![(entry_key(10, 0), good[0].1.clone())];
        assert!(matches!(assemble(&moved).unwrap_err(), RecordError::Checksum { .. }));
    }
}
