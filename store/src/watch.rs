//! Watchers: cursors into the history of a resource. They hold no queue, so a slow one costs
//! nothing; one that falls off the history gets [`Expired`].

use quorate_state_machine::history::ChangeRef;
use quorate_state_machine::{Expired, GroupResource, Revision};

use crate::error::Error;
use crate::limits::WATCH_BATCH_CHANGES_MAX;
use crate::store::{Published, Store};

/// A cursor into the changes of one resource.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    resource: GroupResource,
    after: Revision,
    published: tokio::sync::watch::Receiver<Published>,
}

/// What a watcher got.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Changes, oldest first; may be empty when only other resources changed.
    pub changes: Vec<ChangeRef>,
    /// All changes of the resource up to this revision have now been given: what a bookmark says.
    pub up_to: Revision,
}

impl Watch {
    pub(crate) fn new(store: Store, resource: GroupResource, after: Revision) -> Self {
        let published = store.published();
        Self { store, resource, after, published }
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
            self.published.borrow_and_update();
            let batch = self.ready()?;
            if !batch.changes.is_empty() {
                return Ok(batch);
            }
            self.changed().await?;
        }
    }

    /// What there is now, without waiting: possibly no change, but a newer position.
    ///
    /// # Errors
    /// [`Expired`] when the history no longer holds what comes next.
    pub fn ready(&mut self) -> Result<Batch, Expired> {
        let view = self.store.view();
        let mut changes = Vec::new();
        let mut up_to = view.revision().max(self.after);
        if let Some(resource) = view.resource(&self.resource) {
            for change in resource.changes_after(self.after)? {
                if changes.len() == WATCH_BATCH_CHANGES_MAX {
                    up_to = changes.last().map_or(self.after, |last: &ChangeRef| last.revision);
                    break;
                }
                changes.push(change.clone());
            }
        }
        self.after = up_to;
        Ok(Batch { changes, up_to })
    }

    /// Waits until something was published since the last look.
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
