//! Reads one container's log, with everything `kubectl logs` can ask for, and follows it while the container runs.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;

use super::format::parse;
use crate::limits::LOG_READ_BYTES;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) since: Option<Timestamp>,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) timestamps: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A place in a log file.
pub(crate) struct Reader {
    path: PathBuf,
    file: std::fs::File,
    buffer: BytesMut,
    options: Options,
    left: u64,
    /// The last line written had no end: the next needs no timestamp.
    within_line: bool,
    /// The log was rotated: nothing more comes into this file, but what came last may not have been read.
    rotated: bool,
}

impl Reader {
    /// Opens the log and finds where to begin.
    pub(crate) fn open(path: &Path, options: Options) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        if let Some(lines) = options.tail_lines {
            let start = tail_offset(&mut file, lines, &options)?;
            file.seek(SeekFrom::Start(start))?;
        }
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        Ok(Reader {
            path: path.to_owned(),
            file,
            buffer: BytesMut::new(),
            options,
            left,
            within_line: false,
            rotated: false,
        })
    }

    /// The byte limit is reached.
    pub(crate) fn full(&self) -> bool {
        self.left == 0
    }

    /// The next piece of output; `None` at the end of what is written so far.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<(bool, Bytes)>> {
        loop {
            if self.full() {
                return Ok(None);
            }
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1).freeze();
                if let Some(output) = self.render(&line) {
                    return Ok(Some(output));
                }
            }
            let mut chunk = vec![0; LOG_READ_BYTES];
            let got = self.file.read(&mut chunk)?;
            if got == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&chunk[..got]);
        }
    }

    /// After the end was reached: when the log was rotated, first goes on with what came into the old file after that,
    /// and asked again in the new one. Says whether there may be more to read.
    pub(crate) fn reopen_if_rotated(&mut self) -> std::io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Ok(current) = std::fs::metadata(&self.path) else { return Ok(false) };
        let ours = self.file.metadata()?;
        if current.ino() == ours.ino() && current.len() >= self.file.stream_position()? {
            return Ok(false);
        }
        if current.ino() != ours.ino() && !std::mem::replace(&mut self.rotated, true) {
            return Ok(true);
        }
        self.rotated = false;
        self.file = std::fs::File::open(&self.path)?;
        self.buffer.clear();
        Ok(true)
    }

    fn render(&mut self, line: &[u8]) -> Option<(bool, Bytes)> {
        let parsed = parse(line)?;
        let wanted = if parsed.stderr { self.options.stderr } else { self.options.stdout };
        if !wanted || self.options.since.is_some_and(|since| parsed.time < since) {
            return None;
        }
        let mut out = BytesMut::with_capacity(line.len());
        if self.options.timestamps && !self.within_line {
            out.put_slice(parsed.time_text.as_bytes());
            out.put_u8(b' ');
        }
        out.put_slice(parsed.content);
        if !parsed.partial {
            out.put_u8(b'\n');
        }
        self.within_line = parsed.partial;
        out.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= out.len() as u64;
        (!out.is_empty()).then(|| (parsed.stderr, out.freeze()))
    }
}

/// Where the last `lines` lines begin, found from the end. Lines of a stream that is not asked for do not count.
fn tail_offset(file: &mut std::fs::File, lines: u64, options: &Options) -> std::io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let counts = |line: &[u8]| {
        parse(line).is_some_and(|line| {
            let wanted = if line.stderr { options.stderr } else { options.stdout };
            wanted && !line.partial
        })
    };
    let mut position = end;
    let mut found = 0;
    // The bytes from `position` to the end of the line that is being looked at.
    let mut rest: Vec<u8> = Vec::new();
    while position > 0 {
        let size = position.min(LOG_READ_BYTES as u64);
        position -= size;
        let mut chunk = vec![0; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut chunk)?;
        chunk.extend_from_slice(&rest);
        rest = chunk;
        // Whole lines, from the last one back; the first may have begun earlier.
        while let Some(start) =
            rest[..rest.len().saturating_sub(1)].iter().rposition(|b| *b == b'\n')
        {
            let line = rest.split_off(start + 1);
            let begin = position + start as u64 + 1;
            if counts(&line) {
                found += 1;
                if found > lines {
                    return Ok(begin + line.len() as u64);
                }
            }
        }
    }
    if counts(&rest) && found == lines {
        return Ok(rest.len() as u64);
    }
    Ok(0)
}

/// The end of a log as plain text: at most that many lines and bytes.
pub(crate) fn tail(path: &Path, lines: usize, bytes: usize) -> std::io::Result<Vec<u8>> {
    let options = Options {
        tail_lines: Some(lines as u64),
        stdout: true,
        stderr: true,
        ..Options::default()
    };
    let mut reader = Reader::open(path, options)?;
    let mut text = Vec::new();
    while let Some((_, part)) = reader.next()? {
        text.extend_from_slice(&part);
    }
    let skip = text.len().saturating_sub(bytes);
    Ok(text.split_off(skip))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn log(dir: &Path) -> PathBuf {
        let path = dir.join("0.log");
        let text = "2026-01-01T00:00:00Z stdout F one\n\
            2026-01-01T00:00:01Z stderr F two\n\
            2026-01-01T00:00:02Z stdout P three,\n\
            2026-01-01T00:00:03Z stdout F three\n\
            torn line\n\
            2026-01-01T00:00:04Z stdout F four\n";
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(path: &Path, options: Options) -> String {
        let mut reader = Reader::open(path, options).unwrap();
        let mut text = String::new();
        while let Some((_, part)) = reader.next().unwrap() {
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        text
    }

    #[test]
    fn what_kubectl_logs_can_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = log(dir.path());
        let all = Options { stdout: true, stderr: true, ..Options::default() };
        let with = |f: fn(&mut Options)| {
            let mut options = all.clone();
            f(&mut options);
            read(&path, options)
        };
        assert_eq!(with(|_| {}), "one\ntwo\nthree,three\nfour\n");
        assert_eq!(with(|o| o.stderr = false), "one\nthree,three\nfour\n");
        assert_eq!(with(|o| o.tail_lines = Some(0)), "");
        assert_eq!(with(|o| o.tail_lines = Some(1)), "four\n");
        assert_eq!(with(|o| o.tail_lines = Some(2)), "three,three\nfour\n");
        assert_eq!(with(|o| o.tail_lines = Some(3)), "two\nthree,three\nfour\n");
        assert_eq!(with(|o| o.tail_lines = Some(4)), "one\ntwo\nthree,three\nfour\n");
        assert_eq!(with(|o| o.tail_lines = Some(99)), "one\ntwo\nthree,three\nfour\n");
        assert_eq!(with(|o| o.limit_bytes = Some(6)), "one\ntw");
        assert_eq!(
            with(|o| o.since = Some("2026-01-01T00:00:03Z".parse().unwrap())),
            "three\nfour\n"
        );
        assert_eq!(
            with(|o| {
                o.timestamps = true;
                o.tail_lines = Some(2);
            }),
            "2026-01-01T00:00:02Z three,three\n2026-01-01T00:00:04Z four\n"
        );
        assert_eq!(tail(&path, 2, 7).unwrap(), b"e\nfour\n");
    }

    #[test]
    fn a_long_log_is_read_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let line =
            |n: usize| format!("2026-01-01T00:00:00Z stdout F line {n} {}\n", "x".repeat(n % 700));
        let text: String = (0..2000).map(line).collect();
        std::fs::write(&path, text).unwrap();
        let options = Options { stdout: true, tail_lines: Some(500), ..Options::default() };
        let got = read(&path, options);
        assert_eq!(got.lines().count(), 500);
        assert!(got.starts_with("line 1500 "));
    }

    #[test]
    fn following_survives_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = log(dir.path());
        let options = Options { stdout: true, tail_lines: Some(0), ..Options::default() };
        let mut reader = Reader::open(&path, options).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        let late = b"2026-01-01T00:00:08Z stdout F late\n";
        std::fs::File::options().append(true).open(&path).unwrap().write_all(late).unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2026-01-01T00:00:09Z stdout F new\n").unwrap();
        assert_eq!(reader.next().unwrap(), Some((false, Bytes::from("late\n"))));
        assert_eq!(reader.next().unwrap(), None);
        // More between the end of the old one and the look at its name.
        let later = b"2026-01-01T00:00:08Z stdout F later\n";
        let old = dir.path().join("0.log.1");
        std::fs::File::options().append(true).open(&old).unwrap().write_all(later).unwrap();
        assert!(reader.reopen_if_rotated().unwrap());
        assert_eq!(reader.next().unwrap(), Some((false, Bytes::from("later\n"))));
        assert_eq!(reader.next().unwrap(), None);
        assert!(reader.reopen_if_rotated().unwrap());
        assert_eq!(reader.next().unwrap(), Some((false, Bytes::from("new\n"))));
    }
}
