//! Extracts the descriptions of types and fields from k8s-openapi's sources.
//!
//! k8s-openapi (Apache-2.0) carries upstream's OpenAPI texts in its `schemars` implementations,
//! in a regular layout that is read line by line. The result is a text table, one type after
//! the other: `COMPONENT<tab>TEXT`, then `<tab>FIELD<tab>TEXT`; the texts are JSON strings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// A type's own text and its fields' texts.
#[derive(Default)]
struct Texts {
    own: String,
    fields: BTreeMap<String, String>,
}

/// The table of all descriptions.
pub(crate) fn table(workspace: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(&sources(workspace)?, &mut files)?;
    let mut types: BTreeMap<String, Texts> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        if let Some((component, texts)) = parse(&text) {
            types.insert(component, texts);
        }
    }
    if types.len() < 500 {
        bail!("only {} types with descriptions: has the layout changed?", types.len());
    }
    let mut out = String::new();
    for (component, texts) in types {
        out.push_str(&format!("{component}\t{}\n", serde_json::to_string(&texts.own)?));
        for (field, text) in texts.fields {
            out.push_str(&format!("\t{field}\t{}\n", serde_json::to_string(&text)?));
        }
    }
    Ok(out)
}

/// The folder with the sources of the version we speak.
fn sources(workspace: &Path) -> anyhow::Result<PathBuf> {
    // Crates of other platforms were not needed for the build: who has only built this may not have them.
    let platform = host()?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform])
        .current_dir(workspace)
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("cargo metadata said {}", String::from_utf8_lossy(&output.stderr))
        })?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|p| p["name"] == "k8s-openapi");
    let manifest = package.context("k8s-openapi is no dependency")?["manifest_path"].as_str();
    let folder = Path::new(manifest.context("no manifest path")?).parent();
    Ok(folder.context("a manifest lies in a folder")?.join("src/v1_36"))
}

/// The platform that the compiler builds for.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn parse(text: &str) -> Option<(String, Texts)> {
    let mut lines = text.lines().skip_while(|line| !line.contains("fn schema_name()"));
    lines.next()?;
    let component = literal(lines.next()?.trim())?;
    let mut texts = Texts::default();
    let mut field = None;
    for line in lines {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim_start();
        match indent {
            12 => {
                if let Some(rest) = line.strip_prefix("\"description\": ") {
                    texts.own = literal(rest)?;
                }
            }
            16 => field = line.starts_with('"').then(|| literal(line)).flatten(),
            20 => {
                let text = line.strip_prefix("\"description\": ").or_else(|| {
                    let (_, rest) = line.split_once(".insert(\"description\".into(), ")?;
                    Some(rest)
                });
                if let (Some(field), Some(text)) = (&field, text) {
                    texts.fields.insert(field.clone(), literal(text)?);
                }
            }
            _ => {}
        }
    }
    Some((component, texts))
}

/// The Rust string literal at the start of a text.
fn literal(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut out = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
}
