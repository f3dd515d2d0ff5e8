//! What happened in a simulation, as one number: two runs of a seed are the same run if it is the same. The lines
//! behind it go to a file where somebody asks for them.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

/// The course so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    digest: DefaultHasher,
    line: String,
    file: Option<BufWriter<File>>,
    events: u64,
}

impl Trace {
    /// Lines go to the file, too.
    pub(super) fn write_to(&mut self, path: &Path) -> io::Result<()> {
        self.file = Some(BufWriter::new(File::create(path)?));
        Ok(())
    }

    /// Something happened.
    pub(super) fn note(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        self.events += 1;
        self.line.clear();
        // Writing to a string does not fail.
        let _ = writeln!(self.line, "{:.6} {what}", at.as_secs_f64());
        self.digest.write(self.line.as_bytes());
        if let Some(file) = &mut self.file {
            // A trace that cannot be written is looked at by somebody, who sees that it ends.
            let _ = file.write_all(self.line.as_bytes());
        }
    }

    /// How much happened, and the number.
    pub(super) fn ended(&mut self) -> (u64, String) {
        if let Some(file) = &mut self.file {
            let _ = file.flush();
        }
        (self.events, format!("{:016x}", self.digest.finish()))
    }
}
