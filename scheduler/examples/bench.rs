//! Pods bound per second, on one thread, with a store in memory.
//!
//!     cargo run --release -p quorate-scheduler --example bench -- [NODES] [PODS]

#[path = "../tests/support/mod.rs"]
mod support;

use quorate_scheduler::{Config, Metrics, Parts, Profile, Scheduler, Seed};
use quorate_store::{Clock, Recorder, Store};
use serde_json::{Value, json};
use tokio::time::Instant;

fn main() -> std::io::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let nodes = numbers.next().unwrap_or(500);
    let pods = numbers.next().unwrap_or(5000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(nodes, pods))
}

fn objects(nodes: usize, pods: usize) -> Vec<Value> {
    let node = |i: usize| {
        let zone = format!("zone-{}", i % 3);
        support::node_json(
            &format!("node-{i:05}"),
            json!({
                "metadata": {"labels": {"topology.kubernetes.io/zone": zone, "disk": "ssd"}},
                "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"}},
            }),
        )
    };
    let pod = |i: usize| support::pod_json(&format!("pod-{i:06}"), support::asks("100m", "128Mi"));
    (0..nodes).map(node).chain((0..pods).map(pod)).collect()
}

async fn run(nodes: usize, pods: usize) -> std::io::Result<()> {
    let store = Store::in_memory();
    for chunk in objects(nodes, pods).chunks(1000) {
        support::create(&store, chunk).await;
    }
    let mut out = std::io::stdout();
    let began = Instant::now();
    let clock = Clock::system();
    let recorder = Recorder::new(clock.clone());
    let parts = Parts { clock, recorder, metrics: Metrics::default() };
    let leader = store.lead().ok_or_else(|| std::io::Error::other("no leader"))?;
    let created = store.view().revision();
    let scheduler = Scheduler::start(leader, Config::new(Seed(1)), parts);
    let mut published = store.published();
    let last = quorate_state_machine::Revision(created.0 + pods as u64);
    published
        .wait_for(|published| published.revision >= last)
        .await
        .map_err(std::io::Error::other)?;
    report(&mut out, "bound, from a cold start", pods, began)?;
    scheduler.stop().await;
    decisions(&mut out, nodes, pods)
}

/// The pure part alone: decide and assume.
fn decisions(out: &mut impl std::io::Write, nodes: usize, pods: usize) -> std::io::Result<()> {
    let mut objects = objects(nodes, pods);
    let waiting: Vec<_> = objects.split_off(nodes).into_iter().map(support::info).collect();
    let mut view = support::view(objects, Vec::new());
    let profile = Profile::default();
    let mut seed = Seed(1);
    let began = Instant::now();
    for pod in &waiting {
        match profile.decide(&view, pod, Seed(seed.draw())) {
            quorate_scheduler::Decision::Bind { node, .. } => view.assume(pod.clone(), node),
            quorate_scheduler::Decision::Unschedulable(why) => {
                return Err(std::io::Error::other(why.message));
            }
        }
    }
    report(out, "decided", pods, began)
}

fn report(
    out: &mut impl std::io::Write,
    what: &str,
    pods: usize,
    began: Instant,
) -> std::io::Result<()> {
    let seconds = began.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(pods).unwrap_or(u32::MAX)) / seconds;
    writeln!(out, "{pods} pods {what}: {seconds:.3} s, {rate:.0} pods/s")
}
