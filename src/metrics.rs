//! Metrics of the whole process: Raft's numbers, read when somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use quorate_raft::{Role, Status};
use quorate_store::Masters;

/// Shows Raft's state as gauges.
#[derive(Debug)]
pub struct RaftCollector(pub Masters);

impl Collector for RaftCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in gauges(&self.0.status()) {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

fn gauges(status: &Status) -> Vec<(&'static str, &'static str, Option<f64>)> {
    #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
    let float = |value: u64| value as f64;
    let index = |index: Option<quorate_raft::LogIndex>| index.map(|index| float(index.0));
    let leads = if status.role == Role::Leader { 1.0 } else { 0.0 };
    vec![
        ("quorate_raft_is_leader", "1 on the leader", Some(leads)),
        (
            "quorate_raft_has_leader",
            "1 when a leader is known",
            Some(if status.leader.is_some() { 1.0 } else { 0.0 }),
        ),
        ("quorate_raft_term", "Raft's term", Some(float(status.term.0))),
        ("quorate_raft_last_log_index", "Last entry in the log", index(status.last_log)),
        ("quorate_raft_applied_index", "Last applied entry", index(status.applied)),
        (
            "quorate_raft_snapshot_index",
            "Last entry of the newest snapshot",
            index(status.snapshot),
        ),
        (
            "quorate_raft_group_commits",
            "Synced writes of the log",
            Some(float(status.group_commits)),
        ),
        (
            "quorate_raft_sync_p99_seconds",
            "99th percentile of the last synced writes",
            status.sync_p99.map(|took| took.as_secs_f64()),
        ),
        ("quorate_state_bytes", "Bytes of the replicated state", Some(float(status.state_bytes))),
        ("quorate_raft_log_bytes", "Bytes of the log", Some(float(status.log_bytes))),
        (
            "quorate_disk_free_bytes",
            "Free bytes on the log's disk",
            Some(float(status.disk_free_bytes)),
        ),
    ]
}
