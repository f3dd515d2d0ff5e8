//! `quorate agent images …`: images of the built-in runtime, for machines without a registry.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Import a docker archive, an OCI archive, or an OCI layout directory
    Import {
        /// Archive or directory
        file: PathBuf,
        /// Data directory of the agent (or of `quorate dev`)
        #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
        data: Option<PathBuf>,
        /// Name for an image that the archive does not name
        #[arg(long, value_name = "REF")]
        name: Option<String>,
    },
    /// List images
    List {
        /// Data directory of the agent (or of `quorate dev`)
        #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
        data: Option<PathBuf>,
    },
    /// Remove an image
    Remove {
        /// Which
        image: String,
        /// Data directory of the agent (or of `quorate dev`)
        #[arg(long, value_name = "DIR", env = "QUORATE_DATA", hide_env_values = true)]
        data: Option<PathBuf>,
    },
}

pub fn run(command: ImagesCommand) -> anyhow::Result<()> {
    crate::node::images(command)
}
