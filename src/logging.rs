//! Log lines: to standard error, as text or JSON.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Options};

/// What is logged when nothing else is asked for. The libraries' own chatter is left out.
const DEFAULT_FILTER: &str = "info,openraft=error,h2=warn,hyper=warn,sled=warn";

/// Starts logging. `default` is the level when none is set.
pub fn start(options: &Options, default: Option<&str>) -> anyhow::Result<()> {
    let text = options.log_level.as_deref().or(default).unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(text).with_context(|| {
        format!("--log-level {text:?}: give error, warn, info, debug, trace, or a tracing filter")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format.unwrap_or(LogFormat::Text) {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
