//! Image references, normalised as docker does: `busybox` is `docker.io/library/busybox:latest`.
//!
//! The grammar is that of `distribution/reference`: the part before the first `/` is a registry only when it holds a
//! `.`, a `:` or an upper-case letter, or is `localhost`.

use super::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const NAME_CHARS_MAX: usize = 255;
const TAG_CHARS_MAX: usize = 128;

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, …
    pub registry: String,
    /// `library/busybox`, …
    pub repository: String,
    /// The tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// `sha256:…`. Wins over the tag when both are given.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses and normalises. The error says what is wrong, in words for `InvalidImageName`.
    pub fn parse(text: &str) -> Result<Reference> {
        let bad =
            |why: &str| Err(Error::Invalid(format!("couldn't parse image name \"{text}\": {why}")));
        if text.is_empty() || text.trim() != text {
            return bad("invalid reference format");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return bad("invalid digest"),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return bad("invalid tag");
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first.to_owned(), path.to_owned()),
            _ => (DEFAULT_REGISTRY.to_owned(), name.to_owned()),
        };
        let registry =
            if registry == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return bad("repository name must be lowercase");
        }
        if registry.len() + 1 + repository.len() > NAME_CHARS_MAX {
            return bad("repository name must not be more than 255 characters");
        }
        if !repository.split('/').all(is_path_component) {
            return bad("invalid reference format");
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (_, Some(_)) => None,
            (tag, None) => tag,
        };
        Ok(Reference { registry, repository, tag, digest })
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the text is `sha256:` and 64 hexadecimal digits. Only sha256 is accepted: nothing else is in use.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_CHARS_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_registry(first: &str) -> bool {
    (first.contains('.')
        || first.contains(':')
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase()))
        && first.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b))
}

/// Lower-case words joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    let separators_ok = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
    alnum(first) && alnum(last) && separators_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("index.docker.io/library/x:y", "docker.io/library/x:y".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("gcr.io/a/b/c:T_1.2-3", "gcr.io/a/b/c:T_1.2-3".to_owned()),
            ("a/b__c-d---e.f", "docker.io/a/b__c-d---e.f:latest".to_owned()),
        ];
        for (input, want) in cases {
            assert_eq!(Reference::parse(input).unwrap().to_string(), want, "{input}");
        }
        let both = Reference::parse(&format!("quay.io/a/b:tag@{digest}")).unwrap();
        assert_eq!(both.to_string(), format!("quay.io/a/b@{digest}"));
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let long = "a".repeat(256);
        for input in [
            "",
            " busybox",
            "Busybox",
            "a//b",
            "a/b:",
            "a:b:c",
            "-a",
            "a___b",
            "a..b",
            "x@sha256:12",
            "a/../b",
            &long,
        ] {
            assert!(Reference::parse(input).is_err(), "{input:?} was accepted");
        }
    }
}
