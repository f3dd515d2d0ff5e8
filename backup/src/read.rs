//! Reading a backup: the header alone, or everything, checked before anything of it is believed.

use std::io::{BufReader, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use crate::error::{Error, damaged};
use crate::header::{FORMAT, Header};
use crate::limits::{COPY_BYTES, HEADER_BYTES_MAX};
use crate::write::{END, MAGIC};

const HEAD: u64 = 12;
const SUM: u64 = 32;
const TRAILER: u64 = 8 + 8 + SUM;

/// A backup whose every byte is as it was written.
#[derive(Debug)]
pub struct Backup<R> {
    input: R,
    header: Header,
    /// Where the compressed state begins, and how long it is.
    body: (u64, u64),
    state_bytes: u64,
    sha256: [u8; 32],
}

/// What a file says of itself. Nothing is checked but that it can be understood.
///
/// # Errors
/// [`Error`]: when it cannot.
pub fn read_header(input: &mut impl Read) -> Result<Header, Error> {
    understand(&header_bytes(input)?.1)
}

/// Whether a file ends as a whole backup does: one that is cut off does not. Nothing else is checked.
///
/// # Errors
/// [`Error::Damaged`] when it does not.
pub fn read_end(input: &mut (impl Read + Seek)) -> Result<(), Error> {
    let cut_off = || damaged("it is cut off");
    let from_end = i64::try_from(TRAILER).unwrap_or_default();
    input.seek(SeekFrom::End(-from_end)).map_err(|_| cut_off())?;
    let mut end = [0; END.len()];
    input.read_exact(&mut end)?;
    if end == *END { Ok(()) } else { Err(cut_off()) }
}

/// The first bytes, and those of the header.
fn header_bytes(input: &mut impl Read) -> Result<([u8; 12], Vec<u8>), Error> {
    let mut head = [0; 12];
    input.read_exact(&mut head).map_err(|_| Error::Foreign)?;
    if !head.starts_with(MAGIC) {
        return Err(Error::Foreign);
    }
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if length > HEADER_BYTES_MAX {
        return Err(damaged("its header is longer than any can be"));
    }
    let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
    input.read_exact(&mut text).map_err(|_| damaged("it ends in its header"))?;
    Ok((head, text))
}

fn understand(text: &[u8]) -> Result<Header, Error> {
    // The version first: what a newer one writes need not decode here.
    let form: serde_json::Value =
        serde_json::from_slice(text).map_err(|_| damaged("its header is no JSON"))?;
    match form["format"].as_u64() {
        Some(format) if format > u64::from(FORMAT) => {
            Err(Error::Newer(u32::try_from(format).unwrap_or(u32::MAX)))
        }
        Some(_) => serde_json::from_value(form)
            .map_err(|error| damaged(format!("its header does not decode: {error}"))),
        None => Err(damaged("its header names no format")),
    }
}

impl<R: Read + Seek> Backup<R> {
    /// Reads all of it and checks it. Blocks.
    ///
    /// # Errors
    /// [`Error`]: nothing of it may be used then.
    pub fn check(mut input: R) -> Result<Self, Error> {
        let length = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(COPY_BYTES, &mut input);
        let (head, text) = header_bytes(&mut reader)?;
        let begin = HEAD + text.len() as u64;
        let Some(body) = length.checked_sub(begin + TRAILER) else {
            return Err(damaged("it is cut off"));
        };
        let mut sum = Sha256::new();
        sum.update(head);
        sum.update(&text);
        let mut left = body + TRAILER - SUM;
        let mut buffer = vec![0; COPY_BYTES];
        let mut end = [0; 16];
        while left > 0 {
            // The last step is the trailer alone, so that it is at hand.
            let step = if left > 16 { left - 16 } else { left };
            let step = usize::try_from(step).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            reader.read_exact(&mut buffer[..step])?;
            sum.update(&buffer[..step]);
            left -= step as u64;
            if left == 0 {
                end.copy_from_slice(&buffer[..16]);
            }
        }
        let mut said = [0; 32];
        reader.read_exact(&mut said)?;
        let sha256: [u8; 32] = sum.finalize().into();
        if sha256 != said || !end.starts_with(END) {
            return Err(damaged("it is cut off, or its checksum does not match"));
        }
        let mut state_bytes = [0; 8];
        state_bytes.copy_from_slice(&end[8..]);
        let header = understand(&text)?;
        let state_bytes = u64::from_le_bytes(state_bytes);
        Ok(Self { input, header, body: (begin, body), state_bytes, sha256 })
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the state, uncompressed.
    pub fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    /// Its checksum, hexadecimal.
    pub fn sha256(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The state, decompressed while it is read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn state(&mut self) -> Result<impl Read + use<'_, R>, Error> {
        let (begin, length) = self.body;
        self.input.seek(SeekFrom::Start(begin))?;
        let body = (&mut self.input).take(length);
        Ok(zstd::stream::read::Decoder::new(body)?)
    }
}
