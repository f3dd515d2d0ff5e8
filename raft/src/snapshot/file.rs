//! One snapshot file.
//!
//! ```text
//! "QRSNAP01"  header length (4)  header (codec::SnapshotHeader)
//! the state, zstd
//! "QRSNEND1"  state bytes (8)  crc32 of all before the trailer (4)  crc32 of the trailer (4)
//! ```
//! Numbers are little endian. A file without a good trailer is not a snapshot.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_points::{self as points, Point};

use crate::codec::{self, SnapshotHeader};
use crate::error::Corruption;
use crate::machine::SnapshotWriter;
use crate::raft_types::{LogId, SnapshotMeta};

const MAGIC: &[u8; 8] = b"QRSNAP01";
const END: &[u8; 8] = b"QRSNEND1";
const TRAILER: u64 = 24;
const HEADER_BYTES_MAX: u32 = 1024 * 1024;
const COPY_BYTES: usize = 256 * 1024;
/// Fast; states are JSON and shrink well with it.
const ZSTD_LEVEL: i32 = 1;

/// A complete, checked snapshot.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) header: Arc<SnapshotHeader>,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// CRC of the file up to the trailer.
    pub(crate) checksum: u32,
    pub(crate) state_bytes: u64,
    /// Where the compressed state begins.
    body: u64,
}

impl SnapshotFile {
    /// Of the last entry that is in it. Ordered like the log; `None` for the empty state.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.header.last_log_id.map(Into::into)
    }

    pub(crate) fn last_index(&self) -> Option<u64> {
        self.last_log_id().map(|id| id.index)
    }

    pub(crate) fn meta(&self) -> Result<SnapshotMeta, Corruption> {
        self.header.meta().map_err(|error| damaged(&self.path, "header", error))
    }

    /// The same file under another name.
    pub(crate) fn renamed(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// The state, decompressed while it is read.
    pub(crate) fn read_state(&self) -> io::Result<impl Read + use<>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.body))?;
        let body = file.take(self.bytes - self.body - TRAILER);
        zstd::stream::read::Decoder::new(body)
    }
}

/// `<index>-<term>.snap`.
pub(crate) fn name(last: Option<LogId>) -> String {
    let (index, term) = last.map_or((0, 0), |id| (id.index, id.leader_id.term));
    format!("{index:020}-{term:020}.snap")
}

fn damaged(path: &Path, record: &str, problem: impl ToString) -> Corruption {
    Corruption { path: path.to_owned(), record: record.to_owned(), problem: problem.to_string() }
}

struct Summing<W> {
    inner: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
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

/// Writes a complete file and syncs it (not its directory). Blocks.
pub(crate) fn write(path: &Path, header: &SnapshotHeader, state: SnapshotWriter) -> io::Result<()> {
    let file = File::create(path)?;
    let mut out = Summing {
        inner: BufWriter::with_capacity(COPY_BYTES, &file),
        hasher: crc32fast::Hasher::new(),
    };
    let header = codec::encode_header(header);
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&header)?;
    let mut encoder = zstd::stream::write::Encoder::new(&mut out, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    let mut body = Counting { inner: encoder, bytes: 0 };
    state(&mut body)?;
    let state_bytes = body.bytes;
    body.inner.finish()?;
    points::pass(Point::SnapshotHalfWritten);
    let mut trailer = Vec::with_capacity(24);
    trailer.extend_from_slice(END);
    trailer.extend_from_slice(&state_bytes.to_le_bytes());
    trailer.extend_from_slice(&out.hasher.clone().finalize().to_le_bytes());
    trailer.extend_from_slice(&crc32fast::hash(&trailer).to_le_bytes());
    out.inner.write_all(&trailer)?;
    out.inner.flush()?;
    drop(out);
    file.sync_all()
}

/// Reads a whole file and checks every byte of it. Blocks.
pub(crate) fn verify(path: &Path, cluster_id: &str) -> Result<SnapshotFile, Corruption> {
    let io = |error: io::Error| damaged(path, "the snapshot", error);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut reader = BufReader::with_capacity(COPY_BYTES, file);
    let mut hasher = crc32fast::Hasher::new();
    let mut head = [0; 12];
    if bytes < TRAILER + head.len() as u64 {
        return Err(damaged(path, "the snapshot", "cut off"));
    }
    reader.read_exact(&mut head).map_err(io)?;
    hasher.update(&head);
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let body = 12 + u64::from(length);
    if !head.starts_with(MAGIC) || length > HEADER_BYTES_MAX || body + TRAILER > bytes {
        return Err(damaged(path, "header", "not the start of a snapshot"));
    }
    let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
    reader.read_exact(&mut header).map_err(io)?;
    hasher.update(&header);
    let mut left = bytes - TRAILER - body;
    let mut buffer = vec![0; COPY_BYTES];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        reader.read_exact(&mut buffer[..want]).map_err(io)?;
        hasher.update(&buffer[..want]);
        left -= want as u64;
    }
    let mut trailer = [0; 24];
    reader.read_exact(&mut trailer).map_err(io)?;
    if !trailer.starts_with(END) || crc32fast::hash(&trailer[..20]).to_le_bytes() != trailer[20..] {
        return Err(damaged(path, "trailer", "damaged or cut off"));
    }
    let checksum = hasher.finalize();
    if checksum.to_le_bytes() != trailer[16..20] {
        return Err(damaged(path, "the snapshot", "the checksum does not match"));
    }
    let header: SnapshotHeader =
        codec::decode_header(&header).map_err(|error| damaged(path, "header", error))?;
    if header.cluster_id != cluster_id {
        let problem = format!("it is of cluster {}, not of {cluster_id}", header.cluster_id);
        return Err(damaged(path, "header", problem));
    }
    header.meta().map_err(|error| damaged(path, "header", error))?;
    let mut state_bytes = [0; 8];
    state_bytes.copy_from_slice(&trailer[8..16]);
    Ok(SnapshotFile {
        path: path.to_owned(),
        header: Arc::new(header),
        bytes,
        checksum,
        state_bytes: u64::from_le_bytes(state_bytes),
        body,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::codec::{DiskLogId, DiskMembership};

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            cluster_id: "c".into(),
            last_log_id: Some(DiskLogId { term: 2, node: 1, index: 40 }),
            membership_log_id: Some(DiskLogId { term: 1, node: 1, index: 0 }),
            membership: DiskMembership {
                configs: vec![BTreeSet::from([1])],
                members: BTreeMap::from([(1, crate::types::Member::default())]),
            },
            state_bytes: 7,
        }
    }

    fn written(dir: &Path, state: &'static [u8]) -> PathBuf {
        let path = dir.join("x.snap");
        write(&path, &header(), Box::new(move |out| out.write_all(state))).unwrap();
        path
    }

    #[test]
    fn state_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), b"the state");
        let file = verify(&path, "c").unwrap();
        assert_eq!(file.last_index(), Some(40));
        assert_eq!(file.state_bytes, 9);
        let mut state = Vec::new();
        file.read_state().unwrap().read_to_end(&mut state).unwrap();
        assert_eq!(state, b"the state");
        let error = verify(&path, "other").unwrap_err();
        assert!(error.to_string().contains("of cluster c, not of other"), "{error}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), b"the state");
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(verify(&path, "c").is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(verify(&path, "c").is_err(), "cut at {cut}");
        }
    }
}
