//! Forgetting history: changes stay for some minutes, so that watches can resume, and no longer
//! than memory allows.
//!
//! A change is forgotten when it is older than `history_keep`, or when its resource has more than
//! `history_changes_max` changes or `history_bytes_max` bytes of them: a resource that is written
//! very often (Leases, Events, the pods of a large rollout) keeps a shorter past instead of eating
//! the master's memory. At the default of 24 MiB that past is a few seconds at a thousand pods per
//! second, and all five minutes in a quiet cluster. A resource over its limit is cut to three
//! quarters of it, so that a busy one is not compacted at every look. Ages are measured by
//! revisions that the leader notes as time passes, so a new leader keeps everything for one more
//! period; and as time passes, not as the wall clock has it: whoever sets that forwards would end
//! all watches.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_state_machine::{GroupResource, Revision, View};
use quorate_store::{Error, LeaderStore};
use tokio::time::Instant;

use crate::config::ControllersConfig;
use crate::limits::COMPACTION_BY_AGE_PERIOD;

/// Which revision the store had when.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    marks: VecDeque<(Instant, Revision)>,
    by_age: Option<Instant>,
}

impl Compactor {
    /// Looks at the histories and compacts what must go; the error when nothing more can be
    /// written.
    pub(crate) async fn run(
        &mut self,
        store: &LeaderStore,
        config: &ControllersConfig,
        now: Instant,
    ) -> Option<Error> {
        let bounds = self.bounds(&store.view(), config, now);
        if bounds.is_empty() {
            return None;
        }
        match store.compact(bounds).await {
            Ok(()) => None,
            Err(error @ (Error::Deposed | Error::Stopped { .. })) => Some(error),
            Err(error) => {
                tracing::warn!(%error, "history could not be compacted");
                None
            }
        }
    }

    /// What may be forgotten now, per resource.
    fn bounds(
        &mut self,
        view: &View,
        config: &ControllersConfig,
        now: Instant,
    ) -> Vec<(GroupResource, Revision)> {
        let old = self.aged(view.revision(), config.history_keep, now);
        let bound = |resource: &quorate_state_machine::ResourceView| {
            let (changes_max, bytes_max) = (config.history_changes_max, config.history_bytes_max);
            let large = resource
                .compaction_bound(changes_max, bytes_max)
                .and_then(|_| resource.compaction_bound(changes_max / 4 * 3, bytes_max / 4 * 3));
            let is_old = |old: &Revision| {
                let mut changes = resource.changes_after(resource.compacted()).ok()?;
                changes.next().filter(|change| change.revision <= *old).map(|_| ())
            };
            let old = old.filter(|old| is_old(old).is_some());
            large.max(old).filter(|bound| *bound > resource.compacted())
        };
        view.resources()
            .filter_map(|(name, resource)| Some((name.clone(), bound(resource)?)))
            .collect()
    }

    /// The revision up to which changes are too old, when it is time to ask.
    fn aged(&mut self, revision: Revision, keep: Duration, now: Instant) -> Option<Revision> {
        let due = |last: Instant| now.duration_since(last) >= COMPACTION_BY_AGE_PERIOD;
        if !self.by_age.is_none_or(due) {
            return None;
        }
        self.by_age = Some(now);
        Some(self.mark(revision, keep, now))
    }

    /// Remembers the revision of now; gives the newest revision that is older than `keep`.
    fn mark(&mut self, revision: Revision, keep: Duration, now: Instant) -> Revision {
        self.marks.push_back((now, revision));
        let mut old = Revision(0);
        while let Some((at, revision)) = self.marks.front().copied()
            && now.duration_since(at) >= keep
            && self.marks.len() > 1
        {
            old = revision;
            // The newest old mark stays: the next look needs it when no other has aged.
            if self.marks.get(1).is_some_and(|(at, _)| now.duration_since(*at) < keep) {
                break;
            }
            self.marks.pop_front();
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_which_revision_has_aged() {
        let start = Instant::now();
        let keep = Duration::from_secs(60);
        let mut compactor = Compactor::default();
        let cases =
            [(0, 10, 0), (30, 20, 0), (60, 30, 10), (89, 40, 10), (90, 50, 20), (500, 60, 50)];
        for (seconds, revision, expected) in cases {
            let now = start + Duration::from_secs(seconds);
            let old = compactor.mark(Revision(revision), keep, now);
            assert_eq!(old, Revision(expected), "after {seconds} s");
        }
        assert!(compactor.marks.len() <= 3);
    }

    #[tokio::test]
    async fn history_is_cut_by_number_at_once_and_by_age_in_time() {
        let mut cluster = crate::testing::Cluster::new().await;
        let maps = crate::resources::CONFIG_MAPS;
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "default"}});
        cluster.put(maps, object).await;
        for number in 0..99 {
            let edit = |map: &mut serde_json::Value| map["data"] = serde_json::json!({"n": number});
            cluster.edit(maps, "default", "a", edit).await;
        }
        let config = ControllersConfig { history_changes_max: 40, ..ControllersConfig::default() };
        let changes = |cluster: &crate::testing::Cluster| {
            let view = cluster.store.view();
            view.resource(&maps.group_resource()).unwrap().history_size().0
        };
        let (mut compactor, mut now) = (Compactor::default(), Instant::now());
        // Whatever the wall clock says meanwhile.
        cluster.advance(86_400);
        for (seconds, left) in [(0, 30), (0, 30), (60, 30), (299, 0)] {
            now += Duration::from_secs(seconds);
            assert!(compactor.run(&cluster.lead(), &config, now).await.is_none());
            assert_eq!(changes(&cluster), left, "{seconds} s later");
        }
    }
}
