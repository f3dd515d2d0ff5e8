//! From a scenario that fails to one that fails with fewer faults.

/// Leaves away one fault after the other, as long as what is left still fails. Whoever asks runs the candidates and
/// tells what came of each: a run of a cluster, or a function.
#[derive(Debug)]
pub struct Reduction {
    /// Indices that are left of the original list.
    kept: Vec<usize>,
    /// Which of `kept` is left away next.
    next: usize,
    /// Turns without one that could be left away.
    stuck: usize,
}

impl Reduction {
    /// Of a list of this length, which fails.
    #[must_use]
    pub fn new(length: usize) -> Self {
        // From the end: what comes after the failure goes first.
        Self { kept: (0..length).collect(), next: length.saturating_sub(1), stuck: 0 }
    }

    /// What is to be tried next; `None` when everything that is left is needed, one by one.
    #[must_use]
    pub fn candidate(&self) -> Option<Vec<usize>> {
        if self.kept.len() < 2 || self.stuck >= self.kept.len() {
            return None;
        }
        let without = self.kept[self.next];
        Some(self.kept.iter().copied().filter(|index| *index != without).collect())
    }

    /// What came of the last candidate.
    pub fn tell(&mut self, fails: bool) {
        if fails {
            self.kept.remove(self.next);
            self.stuck = 0;
        } else {
            self.stuck += 1;
        }
        let last = self.kept.len().saturating_sub(1);
        self.next = if self.next == 0 { last } else { self.next - 1 };
    }

    /// What is left and known to fail.
    #[must_use]
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reduce(length: usize, fails: impl Fn(&[usize]) -> bool) -> (Vec<usize>, usize) {
        let (mut reduction, mut runs) = (Reduction::new(length), 0);
        while let Some(candidate) = reduction.candidate() {
            runs += 1;
            reduction.tell(fails(&candidate));
        }
        (reduction.kept().to_vec(), runs)
    }

    #[test]
    fn what_is_not_needed_goes() {
        assert_eq!(reduce(8, |kept| kept.contains(&3)).0, [3]);
        assert_eq!(reduce(8, |kept| kept.contains(&0) && kept.contains(&7)).0, [0, 7]);
        assert_eq!(reduce(5, |_| true).0.len(), 1, "a scenario has one fault at least");
        assert_eq!(reduce(5, |_| false), (vec![0, 1, 2, 3, 4], 5));
        assert_eq!((reduce(1, |_| true), reduce(0, |_| true)), ((vec![0], 0), (vec![], 0)));
    }

    #[test]
    fn one_may_need_another_gone_first() {
        // 1 hides the failure of 2 unless 0 is there: needs a second round.
        let fails = |kept: &[usize]| kept.contains(&2) && (!kept.contains(&1) || kept.contains(&0));
        assert_eq!(reduce(3, fails).0, [2]);
    }

    proptest! {
        #[test]
        fn the_rest_fails_and_nothing_of_it_can_go(
            length in 1_usize..12,
            needed in prop::collection::btree_set(0_usize..12, 1..4),
        ) {
            let needed: Vec<usize> = needed.into_iter().filter(|n| *n < length).collect();
            prop_assume!(!needed.is_empty());
            let (kept, runs) = reduce(length, |kept| needed.iter().all(|n| kept.contains(n)));
            prop_assert_eq!(kept, needed);
            prop_assert!(runs <= length * length);
        }
    }
}
