//! Completion indexes of an Indexed Job, as its status writes them: `0,2-4`.

use std::collections::BTreeSet;

/// A set of indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// What does not parse, or is `end` or more, is left out: completions may have become fewer.
    pub(super) fn parse(text: &str, end: i32) -> Self {
        let range = |part: &str| -> Option<(i32, i32)> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let ranges = text.split(',').filter_map(range);
        Self(ranges.flat_map(|(first, last)| first.max(0)..=last.min(end - 1)).collect())
    }

    pub(super) fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> i32 {
        i32::try_from(self.0.intersection(&other.0).count()).unwrap_or(i32::MAX)
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }
}

impl std::fmt::Display for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut ranges: Vec<(i32, i32)> = Vec::new();
        for index in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => ranges.push((*index, *index)),
            }
        }
        for (number, (first, last)) in ranges.into_iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                // As upstream: two in a row are no range.
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_written_as_upstream_does() {
        for text in ["", "0", "0,1", "1-3", "1,3-5,7", "0,2,3,9"] {
            assert_eq!(Indexes::parse(text, 10).to_string(), text);
        }
        assert_eq!(Indexes::parse("0-9,12,x,-1", 8).to_string(), "0-7");
        let mut some = Indexes::parse("1", 10);
        assert!(some.insert(2) && !some.insert(1) && some.insert(3));
        assert_eq!((some.to_string().as_str(), some.len()), ("1-3", 3));
        assert!(some.contains(2) && !some.contains(4));
    }
}
