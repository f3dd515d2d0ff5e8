//! Container logs in the CRI format: `<RFC 3339 nano> <stdout|stderr> <F|P> <line>`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::builtin::limits::LOG_LINE_BYTES_MAX;

/// Cuts a stream of bytes into log entries.
#[derive(Debug)]
pub(super) struct Lines {
    stream: &'static str,
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: &'static str) -> Lines {
        Lines { stream, partial: Vec::new() }
    }

    /// The entries that `bytes` complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = LOG_LINE_BYTES_MAX - self.partial.len();
            let newline = bytes.iter().take(room + 1).position(|b| *b == b'\n');
            match newline {
                Some(at) => {
                    self.partial.extend_from_slice(&bytes[..at]);
                    self.entry(now, b'F', out);
                    bytes = &bytes[at + 1..];
                }
                None if bytes.len() > room => {
                    self.partial.extend_from_slice(&bytes[..room]);
                    self.entry(now, b'P', out);
                    bytes = &bytes[room..];
                }
                None => {
                    self.partial.extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
    }

    /// What is left at the end of the stream is a line, too.
    pub(super) fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.entry(now, b'F', out);
        }
    }

    fn entry(&mut self, now: Timestamp, tag: u8, out: &mut Vec<u8>) {
        let head = format!("{now:.9} {} ", self.stream);
        out.extend_from_slice(head.as_bytes());
        out.push(tag);
        out.push(b' ');
        out.append(&mut self.partial);
        out.push(b'\n');
    }
}

/// The log file. A write that fails (disk full) is dropped: a container must not stop for its log.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        if path.as_os_str().is_empty() {
            return Ok(LogFile { path: PathBuf::new(), file: None });
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(LogFile { path: path.to_owned(), file: Some(file) })
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = LogFile::open(&self.path)?;
        Ok(())
    }

    pub(super) fn write(&mut self, entries: &[u8]) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(chunks: &[&[u8]]) -> Vec<String> {
        let now: Timestamp = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
        let (mut lines, mut out) = (Lines::new("stdout"), Vec::new());
        for chunk in chunks {
            lines.push(chunk, now, &mut out);
        }
        lines.finish(now, &mut out);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_joined_and_cut_as_cri_wants() {
        const HEAD: &str = "2026-01-02T03:04:05.000000006Z stdout";
        let f = |text: &str| format!("{HEAD} F {text}");
        assert_eq!(entries(&[b"a\nb", b"c\n", b"\nend"]), [f("a"), f("bc"), f(""), f("end")]);
        let long = vec![b'x'; LOG_LINE_BYTES_MAX];
        let whole = String::from_utf8(long.clone()).unwrap();
        assert_eq!(entries(&[&long, b"\n"]), [f(&whole)]);
        assert_eq!(entries(&[&long, b"y\n"]), [format!("{HEAD} P {whole}"), f("y")]);
    }
}
