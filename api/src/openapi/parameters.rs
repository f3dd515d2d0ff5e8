//! What parameters are for, in the words of Kubernetes' own documents: generated references and `kubectl explain` have
//! no others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One parameter in a line: what names it, and its text as a JSON string (Kubernetes' API reference, Apache-2.0).
static TEXTS: &str = include_str!("parameters.txt");

static BY_NAME: LazyLock<BTreeMap<&str, String>> = LazyLock::new(|| {
    let lines = TEXTS.lines().filter_map(|line| line.split_once('\t'));
    lines.filter_map(|(name, text)| Some((name, serde_json::from_str(text).ok()?))).collect()
});

/// The text of a query parameter: `of` is the options struct of a stream, `log`, `patch`, or nothing.
pub(super) fn query(of: &str, name: &str) -> Option<&'static str> {
    let own = BY_NAME.get(format!("{of}.{name}").as_str());
    own.or_else(|| BY_NAME.get(name)).map(String::as_str)
}

/// The text of a part of the path.
pub(super) fn path(name: &str) -> &'static str {
    BY_NAME.get(format!("{{{name}}}").as_str()).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_text() {
        assert_eq!(BY_NAME.len(), TEXTS.lines().count());
        assert!(query("patch", "fieldManager") != query("", "fieldManager"));
        assert!(query("log", "container") != query("PodExecOptions", "container"));
        assert_eq!(query("log", "pretty"), query("", "pretty"));
        assert_eq!(path("path"), "path to the resource");
    }
}
