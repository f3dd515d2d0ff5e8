//! Events of the scheduler and the controllers, counted as client-go's recorder counts them.
//!
//! [`Correlator`] is the pure part: what becomes of one more thing that happened (a new Event, one
//! more in a series, a combined one, or nothing because the object talks too much). [`Recorder`] is
//! its handle: recording never waits, and [`Recorder::run`] writes what is due, in batches.

mod correlator;

use std::sync::{Arc, Mutex, PoisonError};

use quorate_state_machine::{Key, Op};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::admit::{Admit, Write};
use crate::clock::{Clock, format_time};
use crate::error::Error;
use crate::limits::{RECORDER_BATCH_EVENTS_MAX, RECORDER_COALESCE};
use crate::store::LeaderStore;

pub use correlator::{Correlator, Series};

/// Which object an event is about: `involvedObject`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Regarding {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// "" when cluster-scoped; the event is then in `default`.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// uid.
    pub uid: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventDraft {
    /// Who says it, such as `replicaset-controller`.
    pub component: &'static str,
    /// What it is about.
    pub regarding: Regarding,
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// Machine-readable, such as `SuccessfulCreate`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Takes events from anywhere and writes them under one leadership. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    correlator: Mutex<Correlator>,
    wake: Notify,
    /// Its events are written on a nearly full disk too.
    reserved: bool,
}

impl Recorder {
    /// A recorder with nothing to write.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::of(clock, false)
    }

    /// The same, whose events are written on a nearly full disk too. For who says that it is.
    #[must_use]
    pub fn reserved(clock: Clock) -> Self {
        Self::of(clock, true)
    }

    fn of(clock: Clock, reserved: bool) -> Self {
        let correlator = Mutex::new(Correlator::default());
        Self { shared: Arc::new(Shared { clock, correlator, wake: Notify::new(), reserved }) }
    }

    /// Takes an event. Never waits: beyond [`crate::limits::RECORDER_PENDING_EVENTS_MAX`] the
    /// oldest that waits is dropped.
    pub fn record(&self, draft: EventDraft) {
        let now = self.shared.clock.now();
        let waits = self.lock().observe(draft, now);
        if waits {
            self.shared.wake.notify_one();
        }
    }

    /// Events that were dropped so far, by the spam filter or by the limit on waiting ones.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped()
    }

    /// Writes what waits until the leadership ends or the store stops; tells why it ended. Dropping
    /// the future stops it at any point: events are best effort.
    pub async fn run(&self, store: &LeaderStore, admit: &dyn Admit, user: &str) -> Error {
        loop {
            self.shared.wake.notified().await;
            // What happens together is written together, and counts instead of repeating itself.
            tokio::time::sleep(RECORDER_COALESCE).await;
            while let Some(due) = self.take_due() {
                match self.write(store, admit, user, due).await {
                    Ok(()) => {}
                    Err(error @ (Error::Deposed | Error::Stopped { .. })) => return error,
                    Err(error) => tracing::warn!(%error, "events could not be written"),
                }
            }
        }
    }

    fn take_due(&self) -> Option<Vec<Series>> {
        let due = self.lock().take_due(RECORDER_BATCH_EVENTS_MAX);
        (!due.is_empty()).then_some(due)
    }

    async fn write(
        &self,
        store: &LeaderStore,
        admit: &dyn Admit,
        user: &str,
        due: Vec<Series>,
    ) -> Result<(), Error> {
        let ops = admitted(store, admit, user, due).await;
        if ops.is_empty() {
            return Ok(());
        }
        // A conflict loses a count and nothing else.
        let written = match self.shared.reserved {
            true => store.write_reserved(ops).await,
            false => store.write(ops).await,
        };
        written.map(|_| ())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Correlator> {
        self.shared.correlator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be written.
async fn admitted(store: &LeaderStore, admit: &dyn Admit, user: &str, due: Vec<Series>) -> Vec<Op> {
    let view = store.view();
    let mut ops: Vec<Op> = Vec::with_capacity(due.len());
    for series in due {
        let key = Key::new("", "events", series.namespace(), &series.name);
        let write = match view.get(&key) {
            Some(stored) => Write::Update {
                stored: stored.clone(),
                object: series.updated(&stored.to_json()),
                subresource: "",
            },
            None => Write::Create { resource: key.resource.clone(), object: series.object() },
        };
        match admit.admit(&view, user, write).await {
            Ok(op) => ops.extend(op),
            // For example in a namespace that is being deleted.
            Err(refused) => tracing::debug!(%refused, event = %key, "event refused"),
        }
    }
    ops
}

impl Series {
    /// The namespace that the event is kept in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self.draft.regarding.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    /// The event as a core/v1 object.
    #[must_use]
    pub fn object(&self) -> Value {
        let regarding = &self.draft.regarding;
        let mut involved = json!({
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "name": regarding.name,
            "uid": regarding.uid,
        });
        if !regarding.namespace.is_empty() {
            involved["namespace"] = json!(regarding.namespace);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": self.name, "namespace": self.namespace() },
            "involvedObject": involved,
            "reason": self.draft.reason,
            "message": self.draft.message,
            "source": { "component": self.draft.component },
            "firstTimestamp": format_time(self.first),
            "lastTimestamp": format_time(self.last),
            "count": self.count,
            "type": if self.draft.warning { "Warning" } else { "Normal" },
            "reportingComponent": self.draft.component,
            "reportingInstance": "",
        })
    }

    fn updated(&self, stored: &[u8]) -> Value {
        let Ok(mut object) = serde_json::from_slice::<Value>(stored) else {
            return self.object();
        };
        object["count"] = json!(self.count);
        object["message"] = json!(self.draft.message);
        object["lastTimestamp"] = json!(format_time(self.last));
        object
    }
}
