//! `quorate version`.

use serde_json::json;

use crate::progress;

/// The Kubernetes API level.
pub const KUBERNETES: &str = "v1.36.0";

/// What `--version` prints.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.0)");

#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<super::status::Output>,
}

pub fn run(args: VersionArgs) -> anyhow::Result<()> {
    if args.output.is_some() {
        let version =
            json!({"version": env!("CARGO_PKG_VERSION"), "kubernetesVersion": KUBERNETES});
        progress::say(&serde_json::to_string_pretty(&version)?);
    } else {
        progress::say(&format!("quorate {LONG}"));
    }
    Ok(())
}
