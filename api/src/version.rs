//! Which Kubernetes this is: one version for the server, the nodes and the command line.

/// The Kubernetes version whose API is served.
pub const KUBERNETES: &str = "v1.36.0";

/// The same with our own as build metadata, as `/version` and the nodes say it.
pub const FULL: &str = concat!("v1.36.0", "+quorate", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_version_is_semantic() {
        let (version, build) = FULL.split_once('+').unwrap();
        assert_eq!(version, KUBERNETES);
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        assert!(build.split('.').all(word), "{build}");
    }
}
