//! Log lines: to standard error, as text or JSON.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tracing_subscriber::EnvFilter;

use crate::config::{self, LogFormat, Options};

/// What is logged when nothing else is asked for. The libraries' own chatter is left out.
const DEFAULT_FILTER: &str = "info,openraft=error,h2=warn,hyper=warn,sled=warn";

/// What `dev` logs beside the steps that it shows: what somebody should look at.
pub const WARNINGS: &str = "warn,openraft=error";

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

/// Starts logging. `default` is the level when none is set.
pub fn start(options: &Options, default: Option<&str>) -> anyhow::Result<()> {
    let text = options.log_level.as_deref().or(default).unwrap_or(DEFAULT_FILTER);
    let filter = filter(text)?;
    let colour = std::io::stderr().is_terminal() && !config::no_color();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(std::io::stderr);
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
