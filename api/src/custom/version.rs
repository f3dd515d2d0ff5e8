//! Which of several versions is preferred: `v2` before `v1` before `v2beta1` before `v1alpha1` before anything else.

use std::cmp::{Ordering, Reverse};

/// How far a version has come, when its name says so: stage, major, minor.
fn parsed(name: &str) -> Option<(u8, u64, u64)> {
    let rest = name.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok().filter(|major| *major > 0)?;
    let rest = &rest[digits..];
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    for (stage, word) in [(1, "beta"), (0, "alpha")] {
        if let Some(minor) = rest.strip_prefix(word) {
            return minor
                .parse()
                .ok()
                .filter(|minor| *minor > 0)
                .map(|minor| (stage, major, minor));
        }
    }
    None
}

/// The order of versions, most preferred first.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => Reverse(a).cmp(&Reverse(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn the_order_is_upstreams() {
        let order = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
        ];
        let mut mixed = order;
        mixed.reverse();
        mixed.sort_by(|a, b| compare(a, b));
        assert_eq!(mixed, order);
    }
}
