//! Where upstream's published data is, for the tests that compare with it.
//!
//! It is not part of the repository: a test that misses it says so and passes. What differs on
//! purpose is listed, with its reason, in `docs/compat`; anything else fails.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder `shared/kubernetes-1.36/NAME` beside the workspace (or beside its parent).
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let candidates = ["../shared", "../../shared"];
    let found = candidates
        .iter()
        .map(|shared| workspace().join(shared).join("kubernetes-1.36").join(name))
        .find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: upstream's {name} is not there ({candidates:?} of the workspace)");
    }
    found
}

/// A JSON file of a folder.
pub(crate) fn read(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where two trees differ, one line each, starting with `path`.
pub(crate) fn difference(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, theirs) in b {
                let at = format!("{path} {key}");
                match a.get(key) {
                    Some(ours) => difference(&at, ours, theirs, out),
                    None => out.push(format!("{at}: missing")),
                }
            }
            let more = a.keys().filter(|key| !b.contains_key(*key));
            out.extend(more.map(|key| format!("{path} {key}: not upstream's")));
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: ours {a}, upstream's {b}")),
    }
}

/// Compares differences with the list of explained ones: `# reason` lines, then patterns
/// (`*`, `**`).
/// Fails on a difference nobody explained, and on an explanation of what does not differ.
pub(crate) fn check_explained(list: &str, differences: &[String]) {
    let path = workspace().join("docs/compat").join(list);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let patterns: Vec<&str> =
        text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
    let new: Vec<&String> =
        differences.iter().filter(|d| !patterns.iter().any(|p| matches(p, d))).collect();
    let gone: Vec<&&str> =
        patterns.iter().filter(|p| !differences.iter().any(|d| matches(p, d))).collect();
    for line in new.iter().take(100) {
        eprintln!("new: {line}");
    }
    for line in &gone {
        eprintln!("gone: {line}");
    }
    assert!(
        new.is_empty() && gone.is_empty(),
        "{}: {} new differences, {} that are gone",
        path.display(),
        new.len(),
        gone.len()
    );
}

/// `*` in a pattern stands for any text without spaces, `**` for any text.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    let (after, spaces) = match after.strip_prefix('*') {
        Some(after) => (after, true),
        None => (after, false),
    };
    let end = if spaces { rest.len() } else { rest.find(' ').unwrap_or(rest.len()) };
    (0..=end).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))
}
