//! Writes what nodes report of their pods and of themselves: many reports in one proposal, each
//! against the exact version it was merged into, conflicts merged again.

use std::sync::Arc;

use bytes::Bytes;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Key, ObjectKey, Op, Outcome, Revision, View};
use quorate_store::{Consistency, Write};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::hub::Inner;
use crate::limits::{
    REPORT_BATCH_BYTES_MAX, REPORT_BATCH_MAX, REPORT_RETRIES_MAX, REPORTS_WAITING_MAX,
};

/// What a node reports.
#[derive(Debug)]
pub(super) enum Report {
    /// The status of one of its pods.
    Pod { key: ObjectKey, uid: String, status: Bytes },
    /// A deleted pod whose containers are all gone.
    PodGone { key: ObjectKey, uid: String },
    /// Its own status.
    Node { status: Bytes },
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// It is in the store, or changes nothing.
    Done,
    /// The object (with that uid) no longer exists.
    Gone,
    /// Not written; why.
    Refused(String),
}

struct Job {
    node: String,
    report: Report,
    answer: oneshot::Sender<Written>,
}

/// The queue of reports of all nodes that are connected here.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    queue: mpsc::Sender<Job>,
}

impl Reports {
    /// Starts the task that writes.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (queue, jobs) = mpsc::channel(REPORTS_WAITING_MAX);
        // Weakly, so that dropping the hub ends it.
        inner.tasks.spawn(run(Arc::downgrade(inner), inner.stop.clone(), jobs));
        Self { queue }
    }

    /// Queues one report; reports are written in the order of these calls. Waits while the queue is
    /// full: the agent's stream then waits too.
    pub(super) async fn queue(&self, node: &str, report: Report) -> Answered {
        let (answer, answered) = oneshot::channel();
        let job = Job { node: node.to_owned(), report, answer };
        // A closed queue drops the job, and with it the answer.
        let _ = self.queue.send(job).await;
        Answered(answered)
    }
}

/// The answer to a queued report, to come.
#[derive(Debug)]
pub(super) struct Answered(oneshot::Receiver<Written>);

impl Answered {
    pub(super) async fn wait(self) -> Written {
        let stopped = || Written::Refused("this master is stopping".to_owned());
        self.0.await.unwrap_or_else(|_| stopped())
    }
}

async fn run(
    inner: std::sync::Weak<Inner>,
    stop: CancellationToken,
    mut jobs: mpsc::Receiver<Job>,
) {
    let mut batch = Vec::with_capacity(REPORT_BATCH_MAX);
    loop {
        tokio::select! {
            received = jobs.recv_many(&mut batch, REPORT_BATCH_MAX) => if received == 0 { return },
            () = stop.cancelled() => return,
        }
        let Some(inner) = inner.upgrade() else { return };
        write(&inner, std::mem::take(&mut batch)).await;
    }
}

/// Writes a batch; what conflicts is merged into the newer version and written again.
async fn write(inner: &Inner, mut jobs: Vec<Job>) {
    let mut seen = Revision(0);
    let mut confirmed = false;
    for _ in 0..REPORT_RETRIES_MAX {
        if seen > Revision(0)
            && let Err(error) = inner.store.read(Consistency::AtLeast(seen)).await
        {
            return refuse_all(jobs, &error.to_string());
        }
        let mut ops = Vec::with_capacity(jobs.len());
        let mut pending = Vec::with_capacity(jobs.len());
        let mut view = inner.store.view();
        for job in jobs {
            let mut planned = plan(inner, &view, &job).await;
            if matches!(planned, Err(Written::Gone)) && !confirmed {
                // This master may lag behind the one that the object was created on, and a node stops
                // what it is told is gone.
                view = match inner.store.read(Consistency::Linearizable).await {
                    Ok(view) => view,
                    Err(error) => {
                        drop(job.answer.send(Written::Refused(error.to_string())));
                        continue;
                    }
                };
                confirmed = true;
                planned = plan(inner, &view, &job).await;
            }
            match planned {
                Ok(op) => {
                    ops.push(op);
                    pending.push(job);
                }
                Err(written) => drop(job.answer.send(written)),
            }
        }
        if ops.is_empty() {
            return;
        }
        jobs = Vec::new();
        // One after the other, so that of two reports of one object the later one stays.
        let mut pending = pending.into_iter();
        for ops in portions(ops) {
            let portion: Vec<Job> = pending.by_ref().take(ops.len()).collect();
            let outcomes = match inner.store.write(ops).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    refuse_all(portion, &error.to_string());
                    continue;
                }
            };
            for (job, outcome) in portion.into_iter().zip(outcomes) {
                let written = match outcome {
                    Outcome::Done(_) => Written::Done,
                    Outcome::Conflict(revision) => {
                        seen = seen.max(revision);
                        jobs.push(job);
                        continue;
                    }
                    Outcome::NotFound | Outcome::OtherUid(_) => Written::Gone,
                    other => Written::Refused(format!("{other:?}")),
                };
                drop(job.answer.send(written));
            }
        }
        if jobs.is_empty() {
            return;
        }
    }
    refuse_all(jobs, "the object changes too often");
}

/// Proposals of a size that fits well into one log entry, in order.
fn portions(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut portions: Vec<Vec<Op>> = Vec::new();
    let mut bytes = usize::MAX;
    for op in ops {
        bytes = bytes.saturating_add(op.weight());
        if bytes > REPORT_BATCH_BYTES_MAX {
            bytes = op.weight();
            portions.push(Vec::new());
        }
        if let Some(portion) = portions.last_mut() {
            portion.push(op);
        }
    }
    portions
}

fn refuse_all(jobs: Vec<Job>, why: &str) {
    for job in jobs {
        drop(job.answer.send(Written::Refused(why.to_owned())));
    }
}

/// The operation that a report comes to now, or its answer when there is nothing to write.
async fn plan(inner: &Inner, view: &Arc<View>, job: &Job) -> Result<Op, Written> {
    let refused = |why: String| Written::Refused(why);
    let write = match &job.report {
        Report::Node { status } => {
            let key = Key::new("", "nodes", "", &job.node);
            let stored = view.get(&key).ok_or(Written::Gone)?.clone();
            let object = with_status(&stored, status, &[]).map_err(refused)?;
            Write::Update { stored, object, subresource: "status" }
        }
        Report::Pod { key, uid, status } => {
            let stored = own_pod(view, key, uid, &job.node)?;
            let object = with_status(&stored, status, &POD_OWNED).map_err(refused)?;
            Write::Update { stored, object, subresource: "status" }
        }
        Report::PodGone { key, uid } => {
            let stored = own_pod(view, key, uid, &job.node)?;
            if stored.image.header.deletion.is_none() {
                // Nobody asked for it: a node ends pods, it does not delete them.
                return Err(Written::Refused(format!("pod {key} is not being deleted")));
            }
            Write::Delete { stored, grace_period_seconds: Some(0), propagation: "Background" }
        }
    };
    let admit = inner.late().ok_or_else(|| refused("this master is starting".to_owned()))?;
    let user = format!("system:node:{}", job.node);
    match admit.admit.admit(view, &user, write).await {
        Ok(Some(op)) => Ok(op),
        Ok(None) => Err(Written::Done),
        Err(error) if error.code == 404 => Err(Written::Gone),
        Err(error) => Err(refused(error.to_string())),
    }
}

fn own_pod(view: &View, key: &ObjectKey, uid: &str, node: &str) -> Result<StoredRef, Written> {
    let full = Key { resource: GroupResource::new("", "pods"), object: key.clone() };
    let stored = view.get(&full).filter(|stored| stored.uid() == uid).ok_or(Written::Gone)?;
    // NodeRestriction: a node speaks for the pods that are bound to it.
    if super::desired::node_of(stored).as_deref() != Some(node) {
        return Err(Written::Refused(format!("pod {key} is not bound to node {node}")));
    }
    Ok(stored.clone())
}

/// Fields of a pod's status that its node owns: what the node does not send is not there. All others
/// stay as they are.
const POD_OWNED: [&str; 14] = [
    "phase",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "resourceClaimStatuses",
    "allocatedResources",
    "resources",
];

/// The stored object with the reported status merged in: owned fields replaced, conditions by type.
fn with_status(stored: &StoredRef, report: &[u8], owned: &[&str]) -> Result<Value, String> {
    let mut object: Value = serde_json::from_slice(&stored.to_json()).map_err(|e| e.to_string())?;
    let report: Map<String, Value> = serde_json::from_slice(report)
        .map_err(|error| format!("status does not decode: {error}"))?;
    let mut status = object["status"].as_object().cloned().unwrap_or_default();
    for field in owned {
        status.remove(*field);
    }
    let before = status.remove("conditions");
    for (field, value) in report {
        status.insert(field, value);
    }
    if let Some(before) = before {
        let merged = merge_conditions(before, status.remove("conditions"));
        status.insert("conditions".to_owned(), merged);
    }
    object["status"] = Value::Object(status);
    Ok(object)
}

/// Conditions that a node sets only while they are true.
const WHILE_TRUE: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Conditions as the kubelet's patch leaves them: first those of others (readiness gates), as they are now, then the
/// reported ones in the node's order.
fn merge_conditions(before: Value, reported: Option<Value>) -> Value {
    let list = |value: Value| match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let reported = reported.map(list).unwrap_or_default();
    let mut merged = list(before);
    merged.retain(|known| {
        let name = known["type"].as_str().unwrap_or_default();
        !WHILE_TRUE.contains(&name) && !reported.iter().any(|new| new["type"] == known["type"])
    });
    merged.extend(reported);
    Value::Array(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state_machine::{Header, Image, Stored};
    use serde_json::json;

    fn stored(status: &Value) -> StoredRef {
        let text = format!(r#"{{"metadata":{{}},"status":{status}}}"#);
        let image =
            Image { header: Header::default(), bytes: Bytes::from(text), revision_offset: 13 };
        Arc::new(Stored::new(Key::new("", "pods", "d", "p"), Revision(3), image))
    }

    #[test]
    fn a_node_replaces_what_it_owns_and_nothing_else() {
        let before = json!({
            "phase": "Failed", "reason": "Evicted", "qosClass": "Burstable",
            "nominatedNodeName": "n2",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "example.com/gate", "status": "True"},
                {"type": "PodResizePending", "status": "True"},
                {"type": "Ready", "status": "False"},
            ],
        });
        let report = json!({
            "phase": "Running",
            "conditions": [
                {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"},
                {"type": "PodScheduled", "status": "True"},
            ],
        });
        let object =
            with_status(&stored(&before), report.to_string().as_bytes(), &POD_OWNED).unwrap();
        assert_eq!(
            object["status"],
            json!({
                "phase": "Running", "qosClass": "Burstable", "nominatedNodeName": "n2",
                "conditions": [
                    {"type": "example.com/gate", "status": "True"},
                    {"type": "Initialized", "status": "True"},
                    {"type": "Ready", "status": "True"},
                    {"type": "PodScheduled", "status": "True"},
                ],
            })
        );
        assert_eq!(object["metadata"]["resourceVersion"], "3");
    }

    #[test]
    fn large_batches_are_cut_in_order() {
        let op = |size: usize| {
            let bytes = Bytes::from(vec![0; size]);
            let image = Image { header: Header::default(), bytes, revision_offset: 0 };
            let key = Key::new("", "pods", "d", &size.to_string());
            Op::Update { key, expect: Revision(1), image }
        };
        let half = REPORT_BATCH_BYTES_MAX / 2;
        let portions = portions(vec![op(10), op(half), op(half + 1), op(20), op(4 * half), op(1)]);
        let sizes: Vec<Vec<usize>> = portions
            .iter()
            .map(|portion| portion.iter().map(|op| op.weight() - op_overhead()).collect())
            .collect();
        assert_eq!(sizes, [vec![10, half], vec![half + 1, 20], vec![4 * half], vec![1]]);
        assert!(super::portions(Vec::new()).is_empty());
    }

    fn op_overhead() -> usize {
        let image = Image { header: Header::default(), bytes: Bytes::new(), revision_offset: 0 };
        let key = Key::new("", "pods", "d", "p");
        Op::Update { key, expect: Revision(1), image }.weight()
    }

    #[test]
    fn a_report_that_is_no_object_is_refused() {
        let error = with_status(&stored(&json!({})), b"[]", &POD_OWNED).unwrap_err();
        assert!(error.starts_with("status does not decode"), "{error}");
    }
}
