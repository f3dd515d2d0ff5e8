//! Log lines: to standard error, as text or JSON.
//!
//! A log that nobody reads must not stop a master: a pipe or terminal that takes nothing gets a moment, then lines are
//! left out, and where they are missing is said as soon as somebody reads again.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{self, LogFormat, Options};

/// What is logged when nothing else is asked for. The libraries' own chatter is left out.
const DEFAULT_FILTER: &str = "info,openraft=error,h2=warn,hyper=warn,sled=warn";

/// What `dev` logs beside the steps that it shows: what somebody should look at.
pub const WARNINGS: &str = "warn,openraft=error";

/// What a reader of the log may take to make room before lines are left out.
const PATIENCE: Duration = Duration::from_millis(50);

/// A pipe that says that it takes something takes so much without waiting (POSIX's `PIPE_BUF` on Linux).
const PART_BYTES: usize = 4096;

/// Words that are a level, in any case of letters.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What a text of the option lets through. A word alone that is no level would silence everything else (it names a part
/// of the program): nobody means that who writes `warning`.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let wrong = || {
        format!(
            "--log-level {text:?}: give error, warn, info, debug, trace, or a filter such as warn,quorate_raft=debug"
        )
    };
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let mut words = text.split(',').map(str::trim).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() || words.any(|word| !word.contains(['=', '[']) && !is_level(word)) {
        bail!(wrong());
    }
    EnvFilter::try_new(text).with_context(wrong)
}

/// Where lines go, as long as they are taken.
#[derive(Debug)]
struct Log(Mutex<Sink>);

#[derive(Debug)]
struct Sink {
    file: File,
    /// Lines that were left out since the last one that was not.
    missing: u64,
}

/// One line.
struct Line<'a>(&'a Mutex<Sink>);

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).line(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.missing > 0 {
            let what = format!("({} lines are missing here: nobody read the log)\n", self.missing);
            if !self.part(what.as_bytes(), Duration::ZERO)? {
                self.missing += 1;
                return Ok(());
            }
            self.missing = 0;
        }
        for part in line.chunks(PART_BYTES) {
            if !self.part(part, PATIENCE)? {
                self.missing += 1;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether it was taken in time.
    fn part(&mut self, part: &[u8], patience: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(patience).map_err(io::Error::other)?;
        let mut wanted = [PollFd::new(&self.file, PollFlags::OUT)];
        // Interrupted: as if it had not been taken.
        let takes = poll(&mut wanted, Some(&limit)).unwrap_or(0) > 0;
        if takes {
            self.file.write_all(part)?;
        }
        Ok(takes)
    }
}

/// Starts logging. `default` is the level when none is set.
pub fn start(options: &Options, default: Option<&str>) -> anyhow::Result<()> {
    let text = options.log_level.as_deref().or(default).unwrap_or(DEFAULT_FILTER);
    let filter = filter(text)?;
    let colour = std::io::stderr().is_terminal() && !config::no_color();
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(Log(Mutex::new(Sink { file, missing: 0 })));
    match options.log_format.unwrap_or(LogFormat::Text) {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_reads_stops_nobody_and_tells_afterwards() {
        use std::io::Read as _;
        let (mut read, write) = io::pipe().unwrap();
        let log = Log(Mutex::new(Sink {
            file: File::from(std::os::fd::OwnedFd::from(write)),
            missing: 0,
        }));
        let line = [vec![b'x'; 999], vec![b'\n']].concat();
        // More than a pipe takes: this would wait for ever.
        for _ in 0..1000 {
            log.make_writer().write_all(&line).unwrap();
        }
        let mut all = vec![0; 1 << 20];
        let count = read.read(&mut all).unwrap();
        assert!(count < 1000 * 1000);
        log.make_writer().write_all(b"after\n").unwrap();
        drop(log);
        let mut text = String::from_utf8(all[..count].to_vec()).unwrap();
        read.read_to_string(&mut text).unwrap();
        let written = text.lines().filter(|line| line.starts_with('x')).count();
        let told =
            format!("({} lines are missing here: nobody read the log)\nafter\n", 1000 - written);
        assert!(text.ends_with(&told), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn what_would_silence_everything_is_refused() {
        for good in ["info", "WARN", "off", "warn,quorate_raft=debug", DEFAULT_FILTER, WARNINGS] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "loud", "warning", "info,loud", "a=b=c", "info,openraft=loud"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.contains("give error, warn, info, debug, trace, or a filter"), "{error}");
        }
    }
}
