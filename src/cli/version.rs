//! `quorate version`.

use serde_json::json;

use super::status::Output;
use crate::progress;

/// The Kubernetes API level.
pub use quorate_api::version::KUBERNETES;

/// What `--version` prints.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.0)");

#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

pub fn run(args: VersionArgs) -> anyhow::Result<()> {
    let Some(output) = args.output else {
        progress::say(&format!("quorate {LONG}"));
        return Ok(());
    };
    output.show(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kubernetesVersion": KUBERNETES,
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}
