//! `cargo xtask codegen`: writes the schema tables of `api` from the tables of facts in
//! `api/schema`, and the descriptions from k8s-openapi's sources.
//!
//! The output is checked in, so that a build needs no generator; a test regenerates and compares.
//! Start reading at [`run`]; `table` parses, `emit` prints, `descriptions` extracts.

mod descriptions;
mod emit;
mod table;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Flags of `cargo xtask codegen`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare only, and fail when the checked-in files are stale
    #[arg(long)]
    check: bool,
}

/// One generated file: where it goes and what is in it.
struct Output {
    path: PathBuf,
    content: Content,
}

enum Content {
    Text(String),
    /// Kept with gzip; compared after unpacking, since another zlib packs differently
    Packed(String),
}

/// Regenerates the files, or with `--check` compares them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    for output in outputs(&workspace())? {
        let path = &output.path;
        if !args.check {
            let bytes = match output.content {
                Content::Text(text) => text.into_bytes(),
                Content::Packed(text) => pack(&text)?,
            };
            std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
            continue;
        }
        let there = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let same = match output.content {
            Content::Text(text) => text.into_bytes() == there,
            Content::Packed(text) => text == unpack(&there)?,
        };
        if !same {
            bail!("{} is stale: run `cargo xtask codegen`", path.display());
        }
    }
    Ok(())
}

fn pack(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(text.as_bytes())?;
    Ok(packer.finish()?)
}

fn unpack(bytes: &[u8]) -> anyhow::Result<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn outputs(workspace: &Path) -> anyhow::Result<Vec<Output>> {
    let folder = workspace.join("api/schema");
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    // The second has the same head, which the parser takes off the whole.
    let own = read("own.tsv")?;
    let own = own.split_once('\n').map_or("", |(_, rows)| rows);
    let fields = format!("{}{own}", read("fields.tsv")?);
    let table = table::Table::parse(&fields, &read("types.tsv")?)?;
    Ok(vec![
        Output {
            path: workspace.join("api/src/schema/generated.rs"),
            content: Content::Text(emit::rust(&table)?),
        },
        Output {
            path: workspace.join("api/src/openapi/descriptions.txt.gz"),
            content: Content::Packed(format!(
                "{}{}",
                descriptions::table(workspace)?,
                read("own-descriptions.txt")?
            )),
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Someone edits a table and forgets to regenerate: this names the command.
    #[test]
    fn generated_files_are_up_to_date() {
        run(&Args { check: true }).unwrap();
    }
}
