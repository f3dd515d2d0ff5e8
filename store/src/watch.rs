//! Watchers: cursors into the history of a resource. They hold no queue, so a slow one costs
//! nothing; one that falls off the history gets [`Expired`].

use quorate_mutants::{self as mutants, Mutant};
use quorate_state_machine::history::ChangeRef;
use quorate_state_machine::{Expired, GroupResource, Revision};

use crate::error::Error;
use crate::limits::WATCH_BATCH_CHANGES_MAX;
use crate::store::Store;

/// A cursor into the changes of one resource.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    resource: GroupResource,
    after: Revision,
    epoch: u64,
    published: tokio::sync::watch::Receiver<Revision>,
}

/// What a watcher got.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Changes, oldest first.
    pub changes: Vec<ChangeRef>,
    /// All changes of the resource up to this revision have now been given: what a bookmark says.
    pub up_to: Revision,
}

impl Watch {
    pub(crate) fn new(store: Store, resource: GroupResource, after: Revision) -> Self {
        let published = store.published_of(&resource);
        let skipped = u64::from(after.0 > 0 && mutants::is(Mutant::WatchSkipsAfterResume));
        let after = Revision(after.0 + skipped);
        let epoch = store.epoch();
        Self { store, resource, after, epoch, published }
    }

    /// The revision up to which this cursor has given everything.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.after
    }

    /// The next changes, as soon as there are any.
    ///
    /// # Errors
    /// [`Error::Expired`] when the history no longer holds them; [`Error::Stopped`] when the master
    /// stops.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let mut changes = Vec::new();
            self.visit(|change| {
                changes.push(change.clone());
                changes.len() < WATCH_BATCH_CHANGES_MAX
            })?;
            if !changes.is_empty() {
                return Ok(Batch { changes, up_to: self.after });
            }
            self.changed().await?;
        }
    }

    /// Shows the changes that there are now, oldest first, until `visit` says that it wants no more,
    /// and moves on behind them. Does not wait: the position becomes newer also without a change.
    ///
    /// # Errors
    /// [`Expired`] when the history no longer holds what comes next, or when this master's state was found damaged
    /// since the watch began: then what it has given may not be true.
    pub fn visit(&mut self, mut visit: impl FnMut(&ChangeRef) -> bool) -> Result<(), Expired> {
        // Before the look: what is published meanwhile wakes again.
        self.published.mark_unchanged();
        let view = self.store.view();
        if self.store.is_cut(self.epoch) {
            return Err(Expired { asked: self.after, compacted: view.revision() });
        }
        let mut up_to = view.revision().max(self.after);
        if mutants::is(Mutant::WatchGoesBack) {
            up_to = view.revision();
        }
        if let Some(resource) = view.resource(&self.resource) {
            for change in resource.changes_after(self.after)? {
                if !visit(change) {
                    up_to = change.revision;
                    break;
                }
            }
        }
        self.after = up_to;
        Ok(())
    }

    /// Moves on without a look: the caller has what happened up to `revision` from another watcher
    /// of the same resource, which began where this one is.
    pub fn skip_to(&mut self, revision: Revision) {
        self.after = self.after.max(revision);
    }

    /// Waits until the resource has changed since the last look.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the master stops.
    pub async fn changed(&mut self) -> Result<(), Error> {
        self.published
            .changed()
            .await
            .map_err(|_| Error::Stopped { reason: "the store is closed".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use quorate_state_machine::{Header, Image, Key, Op};

    use super::*;

    async fn create(store: &Store, resource: &str, name: &str) -> Revision {
        let bytes = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#).into_bytes().into();
        let image = Image { header: Header::default(), bytes, revision_offset: 13 };
        let key = Key::new("", resource, "", name);
        let outcomes = store.write(vec![Op::Create { key, image, namespace: None }]).await.unwrap();
        outcomes[0].done().unwrap()
    }

    #[tokio::test]
    async fn a_watcher_sleeps_while_other_resources_change() {
        let store = Store::in_memory();
        create(&store, "nodes", "before").await;
        let mut watch = store.watch(GroupResource::new("", "nodes"), store.view().revision());
        watch.visit(|_| true).unwrap();
        create(&store, "namespaces", "other").await;
        assert!(watch.changed().now_or_never().is_none(), "woken by another resource");
        let created = create(&store, "nodes", "after").await;
        assert!(watch.changed().now_or_never().is_some(), "not woken by its own resource");
        let mut seen = Vec::new();
        watch
            .visit(|change| {
                seen.push(change.revision);
                true
            })
            .unwrap();
        assert_eq!(seen, [created]);
        assert!(watch.changed().now_or_never().is_none(), "woken by what it has seen");
    }

    #[tokio::test]
    async fn a_position_moves_with_the_store_and_with_what_others_have_seen() {
        let store = Store::in_memory();
        let first = create(&store, "nodes", "a").await;
        let second = create(&store, "nodes", "b").await;
        let mut watch = store.watch(GroupResource::new("", "nodes"), Revision(0));
        watch.visit(|_| false).unwrap();
        assert_eq!(watch.position(), first, "stopped after one change");
        watch.skip_to(second);
        let third = create(&store, "namespaces", "c").await;
        watch.visit(|change| panic!("{change:?} was skipped")).unwrap();
        assert_eq!(watch.position(), third, "what happened elsewhere counts too");
    }
}
