//! One line of a CRI log: `<RFC 3339 nano> <stdout|stderr> <P|F>[:tags] <content>`. Pure.

use jiff::Timestamp;

/// A parsed line; `content` without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) time_text: &'a str,
    pub(super) time: Timestamp,
    pub(super) stderr: bool,
    /// The program has not ended the line here: the runtime cut it.
    pub(super) partial: bool,
    pub(super) content: &'a [u8],
}

/// `None` for what is no such line (a torn write after a crash).
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time_text = std::str::from_utf8(parts.next()?).ok()?;
    let time = time_text.parse().ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = parts.next()?.split(|byte| *byte == b':').next()? == b"P";
    Some(Line { time_text, time, stderr, partial, content: parts.next().unwrap_or(b"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_kinds() {
        let show = |text: &str| match parse(text.as_bytes()) {
            None => "none".to_owned(),
            Some(line) => format!(
                "{}{}:{}",
                if line.stderr { "err" } else { "out" },
                if line.partial { "+" } else { "" },
                String::from_utf8_lossy(line.content)
            ),
        };
        for (text, expected) in [
            ("2026-11-20T10:00:00.123456789Z stdout F hello world\n", "out:hello world"),
            ("2026-11-20T10:00:00.1+01:00 stderr P part", "err+:part"),
            ("2026-11-20T10:00:00Z stdout F ", "out:"),
            ("2026-11-20T10:00:00Z stdout F", "out:"),
            ("2026-11-20T10:00:00Z stdout P:x y", "out+:y"),
            ("garbage", "none"),
            ("", "none"),
        ] {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }
}
