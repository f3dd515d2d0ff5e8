//! What people see while something long runs: one line per finished step, with its time.

use std::io::{self, IsTerminal, Write};

use tokio::time::Instant;

use crate::config;

/// Prints steps to standard output.
#[derive(Debug)]
pub struct Progress {
    colour: bool,
    last: Instant,
    first: Instant,
}

impl Progress {
    /// The clock of the first step begins to run.
    pub fn new() -> Self {
        let colour = io::stdout().is_terminal() && !config::no_color();
        let now = Instant::now();
        Self { colour, last: now, first: now }
    }

    /// The clock of the next step begins to run: what was before it was no step.
    pub fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// A step that is done.
    pub fn done(&mut self, what: &str) {
        let now = Instant::now();
        let took = now.duration_since(self.last).as_millis();
        self.last = now;
        let mark = if self.colour { "\x1b[32m✓\x1b[0m" } else { "✓" };
        self.line(&format!("  {mark} {what:<64} {took:>6} ms"));
    }

    /// A line of its own.
    pub fn line(&self, text: &str) {
        say(text);
    }

    /// Milliseconds since the first step began.
    pub fn total_ms(&self) -> u128 {
        self.first.elapsed().as_millis()
    }
}

/// One line on standard output. A closed pipe (`quorate … | head`) is not an error.
pub fn say(text: &str) {
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// One line on standard error: how far something is.
pub fn tell(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Whether lines on standard error can be written anew.
pub fn can_rewrite() -> bool {
    io::stderr().is_terminal()
}

/// The last line on a terminal's standard error, anew. An empty text takes it away, for a line that stays.
pub fn rewrite(text: &str) {
    let mut out = io::stderr().lock();
    drop(write!(out, "\r\x1b[2K{text}").and_then(|()| out.flush()));
}

/// Text on standard output as it is.
pub fn say_raw(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}

/// One line on standard error: what went wrong, to what, and what to do.
pub fn complain(error: &anyhow::Error) {
    let colour = io::stderr().is_terminal() && !config::no_color();
    let head = if colour { "\x1b[31merror:\x1b[0m" } else { "error:" };
    drop(writeln!(io::stderr().lock(), "{head} {error:#}"));
}

/// Rows as a table with aligned columns, as kubectl prints them.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows =
            [vec!["a".to_owned(), "leader".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "ROLE"], &rows), "NAME   ROLE\na      leader\nbcd\n");
    }
}
