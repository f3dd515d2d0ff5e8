//! Writing a backup: a stream, so that it can go to a file or over a connection.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::header::Header;
use crate::limits::HEADER_BYTES_MAX;

pub(crate) const MAGIC: &[u8; 8] = b"QRBACK01";
pub(crate) const END: &[u8; 8] = b"QRBEND01";

/// Fast; states are JSON and shrink well with it.
const ZSTD_LEVEL: i32 = 1;

/// Passes on what is written, and sums it up.
struct Summing<W> {
    inner: W,
    sum: Sha256,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sum.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Counting<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a whole backup; `state` writes the state's bytes. Gives how many those were. Blocks.
///
/// # Errors
/// What `out` or `state` fails with, and when the header is longer than [`HEADER_BYTES_MAX`]. What was written is then
/// no backup.
pub fn write<W: Write>(
    out: W,
    header: &Header,
    state: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<u64, Error> {
    let text = serde_json::to_vec(header).map_err(|error| Error::Header(error.to_string()))?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= HEADER_BYTES_MAX);
    let length = length.ok_or_else(|| Error::Header(format!("{} bytes", text.len())))?;
    let mut out = Summing { inner: out, sum: Sha256::new() };
    out.write_all(MAGIC)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&text)?;
    let encoder = zstd::stream::write::Encoder::new(&mut out, ZSTD_LEVEL)?;
    let mut body = Counting { inner: encoder, bytes: 0 };
    state(&mut body)?;
    let bytes = body.bytes;
    body.inner.finish()?;
    out.write_all(END)?;
    out.write_all(&bytes.to_le_bytes())?;
    let sum = out.sum.finalize();
    out.inner.write_all(sum.as_slice())?;
    out.inner.flush()?;
    Ok(bytes)
}
