//! Log lines: to standard error, as text or JSON.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{self, LogFormat, Options};

/// What is logged when nothing else is asked for. The libraries' own chatter is left out.
const DEFAULT_FILTER: &str = "info,openraft=error,h2=warn,hyper=warn,sled=warn";

/// What `dev` logs beside the steps that it shows: what somebody should look at.
pub const WARNINGS: &str = "warn,openraft=error";

/// Starts logging. `default` is the level when none is set.
pub fn start(options: &Options, default: Option<&str>) -> anyhow::Result<()> {
    let text = options.log_level.as_deref().or(default).unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(text).with_context(|| {
        format!("--log-level {text:?}: give error, warn, info, debug, trace, or a tracing filter")
    })?;
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
