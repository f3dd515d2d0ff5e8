//! `quorate status --watch`: the same screen again and again, from whichever master answers.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{Output, screen, text, whole_soon};
use crate::client::ApiClient;
use crate::progress;
use crate::stop::Stop;

/// What a terminal is taken for that does not say how large it is.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Shows what there is until somebody asks to stop.
pub(super) async fn run(
    client: ApiClient,
    interval: Duration,
    output: Option<Output>,
) -> anyhow::Result<()> {
    let stop = Stop::listen()?;
    let in_place = output.is_none() && io::stdout().is_terminal();
    let mut watched = Watched { client, others: Vec::new(), last: None };
    let mut view = View { in_place, output, shown: 0, essence: None };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.requested() => return Ok(()),
        }
        tokio::select! {
            looked = watched.look() => view.show(&looked?)?,
            () = stop.requested() => return Ok(()),
        }
    }
}

/// Whom to ask.
struct Watched {
    /// Who answered last, and so is asked first.
    client: ApiClient,
    /// URLs of the masters that were known last.
    others: Vec<String>,
    last: Option<Value>,
}

impl Watched {
    /// What the first master says that answers. When none does, what was known last, with that said; an error when
    /// nothing ever was.
    async fn look(&mut self) -> anyhow::Result<Value> {
        let mut why = None;
        let others: Vec<ApiClient> =
            self.others.iter().filter_map(|url| self.client.at(url).ok()).collect();
        for client in std::iter::once(self.client.clone()).chain(others) {
            match whole_soon(&client).await {
                Ok(status) => {
                    let masters = status["masters"].as_array().into_iter().flatten();
                    let addresses = masters.filter_map(|master| master["apiAddress"].as_str());
                    self.others = addresses.map(|address| format!("https://{address}")).collect();
                    self.last = Some(status.clone());
                    self.client = client;
                    return Ok(status);
                }
                Err(error) => {
                    why.get_or_insert(error);
                }
            }
        }
        let why = why.unwrap_or_else(|| anyhow!("there is no master to ask"));
        match &self.last {
            Some(last) => Ok(unanswered(last.clone(), &why)),
            None => Err(why),
        }
    }
}

/// What was known, when nobody answers any more.
fn unanswered(mut status: Value, why: &anyhow::Error) -> Value {
    for master in status["masters"].as_array_mut().into_iter().flatten() {
        master["answers"] = "no".into();
    }
    status["leader"] = Value::Null;
    status["summary"] = format!("NO MASTER ANSWERS, this is what was known last: {why:#}").into();
    status
}

/// What is on the screen.
struct View {
    in_place: bool,
    output: Option<Output>,
    /// Lines that can be written anew.
    shown: usize,
    /// What was shown last, as far as it matters.
    essence: Option<Value>,
}

impl View {
    fn show(&mut self, status: &Value) -> anyhow::Result<()> {
        if self.in_place {
            let (columns, rows) = size();
            let now = jiff::Timestamp::now().strftime("%H:%M:%S UTC").to_string();
            let lines = fitting(&screen(status), &now, columns, rows);
            progress::say_raw(&redrawn(self.shown, &lines));
            self.shown = lines.len();
            return Ok(());
        }
        let essence = essence(status);
        if self.essence.as_ref() == Some(&essence) {
            return Ok(());
        }
        let first = self.essence.replace(essence).is_none();
        if let Some(output) = self.output {
            return output.show(status);
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let apart = if first { "" } else { "\n" };
        progress::say_raw(&format!("{apart}--- {now}\n{}", screen(status)));
        Ok(())
    }
}

/// What of it is news: not how far the log is, which changes all the time.
fn essence(status: &Value) -> Value {
    let rows = |list: &str, fields: &[&str]| -> Vec<Vec<String>> {
        let row = |row: &Value| fields.iter().map(|field| text(&row[*field])).collect();
        status[list].as_array().into_iter().flatten().map(row).collect()
    };
    json!([
        status["leader"],
        status["term"],
        text(&status["summary"]).split(": ").next(),
        rows("masters", &["name", "nodeId", "role", "answers", "apiAddress", "version"]),
        rows("alarms", &["alarm", "master"]),
        rows("nodes", &["name", "status", "pods", "address", "version"]),
    ])
}

/// The lines that a terminal has room for, with a head.
fn fitting(screen: &str, now: &str, columns: usize, rows: usize) -> Vec<String> {
    let head = format!("{now}, Ctrl-C ends");
    let cut = |line: &str| line.chars().take(columns).collect::<String>();
    // The last row stays free: the cursor is there.
    let room = rows.saturating_sub(1).max(1);
    let mut lines: Vec<String> =
        std::iter::once(head.as_str()).chain(screen.lines()).map(cut).collect();
    if lines.len() > room {
        let more = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(cut(&format!("... {more} more lines")));
    }
    lines
}

/// The lines in place of those that are there: each is cleared behind its end, and all below.
fn redrawn(shown: usize, lines: &[String]) -> String {
    let mut out = if shown > 0 { format!("\x1b[{shown}A\r") } else { String::new() };
    for line in lines {
        out.push_str(&format!("{line}\x1b[K\n"));
    }
    out.push_str("\x1b[J");
    out
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_cut_to_the_terminal() {
        let lines = fitting("abcdef\nb\nc\nd\n", "now", 4, 4);
        assert_eq!(lines, ["now,", "abcd", "... "]);
        let lines = fitting("abcdef\nb\n", "now", 40, 24);
        assert_eq!(lines, ["now, Ctrl-C ends", "abcdef", "b"]);
    }

    #[test]
    fn lines_take_the_place_of_those_before() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(redrawn(0, &lines), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert!(redrawn(5, &lines).starts_with("\x1b[5A\ra\x1b[K\n"));
    }

    #[test]
    fn progress_of_the_log_is_no_news_and_a_leader_is() {
        let status = |leader: &str, applied: u64| {
            json!({"leader": leader, "term": 3, "summary": "s", "revision": applied,
                "masters": [{"name": "a", "appliedIndex": applied, "lastContactMs": applied}]})
        };
        assert_eq!(essence(&status("a", 7)), essence(&status("a", 8)));
        assert_ne!(essence(&status("a", 7)), essence(&status("b", 7)));
        let lost = unanswered(status("a", 7), &anyhow!("refused"));
        assert_ne!(essence(&status("a", 7)), essence(&lost));
        assert!(screen(&lost).contains("NO MASTER ANSWERS"), "{}", screen(&lost));
    }
}
