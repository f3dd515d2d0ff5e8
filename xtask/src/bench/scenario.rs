//! What is measured, in order, on one cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::Client;
use super::cluster::Cluster;
use super::load::{Amount, Load, load, per_second};
use super::pods::Nodes;
use super::report::Figures;
use super::{Name, limits, say};

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    list_objects: usize,
    list_repeats: usize,
    one_in_flight: usize,
    operations: usize,
    time: Duration,
    watchers: usize,
    watch_updates: usize,
    /// Simulated nodes
    pub(crate) nodes: usize,
    /// Pods without a node
    pub(crate) pods: usize,
    /// Replicas of the Deployment
    pub(crate) replicas: usize,
    /// Until all pods are bound; beyond it the row fails
    pub(crate) bound_max: Duration,
}

impl Sizes {
    /// The real ones, or small ones that only show that everything works.
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            return Self {
                list_objects: 500,
                list_repeats: 3,
                one_in_flight: 100,
                operations: 500,
                time: Duration::from_secs(3),
                watchers: 100,
                watch_updates: 50,
                nodes: 20,
                pods: 100,
                replicas: 100,
                bound_max: Duration::from_secs(60),
            };
        }
        Self {
            list_objects: 10_000,
            list_repeats: 5,
            one_in_flight: 5_000,
            operations: 30_000,
            time: Duration::from_secs(10),
            watchers: 100,
            watch_updates: 5_000,
            nodes: 500,
            pods: 5_000,
            replicas: 2_000,
            bound_max: Duration::from_secs(120),
        }
    }
}

const IN_FLIGHT: usize = 64;

/// One cluster with what was measured on it so far.
pub(crate) struct Bench {
    cluster: Cluster,
    sizes: Sizes,
    figures: Figures,
    nodes: Option<Nodes>,
}

impl Bench {
    /// Nothing measured yet.
    pub(crate) fn new(cluster: Cluster, quick: bool) -> Self {
        Self { cluster, sizes: Sizes::new(quick), figures: Figures::new(), nodes: None }
    }

    /// Measures what is wanted, then memory and disk, and stops the masters. What fails does not
    /// keep the rest from being measured.
    pub(crate) async fn run(mut self, wanted: &[Name]) -> anyhow::Result<(Figures, Vec<String>)> {
        let mut failures = Vec::new();
        self.figures.insert("memory.fresh", megabytes(self.cluster.resident_bytes()?));
        for name in wanted {
            say(&format!("{name:?}"));
            let begin = Instant::now();
            match self.measure(*name).await {
                Ok(()) => say(&format!("{name:?}: {:.1} s", begin.elapsed().as_secs_f64())),
                Err(error) => {
                    say(&format!("{name:?}: {error:#}"));
                    failures.push(format!("{name:?}: {error:#}"));
                }
            }
        }
        self.nodes = None;
        self.figures.insert("memory", megabytes(self.cluster.resident_bytes()?));
        self.figures.insert("disk", megabytes(self.cluster.disk_bytes()?));
        if wanted.contains(&Name::Start) && self.cluster.masters.len() == 1 {
            let time = self.cluster.restart(0).await?;
            self.figures.insert("start.loaded", ms(time));
        }
        self.cluster.stop().await?;
        Ok((self.figures, failures))
    }

    async fn measure(&mut self, name: Name) -> anyhow::Result<()> {
        match name {
            Name::Start => self.start().await,
            Name::Create => self.create().await,
            Name::Update => self.update().await,
            Name::Get => self.get().await,
            Name::List => self.list().await,
            Name::Watch => self.watch().await,
            Name::Pods => self.pods().await,
            Name::Deployment => self.deployment().await,
        }
    }

    async fn leader(&self) -> anyhow::Result<Client> {
        let (leader, _) = self.cluster.leader_and_follower().await?;
        self.cluster.client(leader).await
    }

    async fn follower(&self) -> anyhow::Result<Option<Client>> {
        match self.cluster.leader_and_follower().await? {
            (_, Some(follower)) => Ok(Some(self.cluster.client(follower).await?)),
            (_, None) => Ok(None),
        }
    }

    fn amount(&self) -> Amount {
        let Sizes { operations, time, .. } = self.sizes;
        Amount { in_flight: IN_FLIGHT, operations, time }
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        self.figures.insert("start.fresh", ms(self.cluster.started_in[0]));
        if let Some(joined) = self.cluster.started_in.last()
            && self.cluster.started_in.len() > 1
        {
            self.figures.insert("start.join", ms(*joined));
        } else {
            let time = self.cluster.restart(0).await?;
            self.figures.insert("start.existing", ms(time));
        }
        Ok(())
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        namespace(&client, "bench-create").await?;
        let Sizes { one_in_flight, time, .. } = self.sizes;
        let one = Amount { in_flight: 1, operations: one_in_flight, time };
        let done = create_many(&client, "bench-create", "one", one).await?;
        self.latencies(["create.1.rate", "create.1.p50", "create.1.p99"], &done);
        let done = create_many(&client, "bench-create", "many", self.amount()).await?;
        self.latencies(["create.64.rate", "create.64.p50", "create.64.p99"], &done);
        if let Some(client) = self.follower().await? {
            let done = create_many(&client, "bench-create", "follower", self.amount()).await?;
            self.figures.insert("create.follower.rate", done.rate());
            self.figures.insert("create.follower.p50", done.latency_ms(0.5));
        }
        Ok(())
    }

    fn latencies(&mut self, keys: [&'static str; 3], done: &Load) {
        self.figures.insert(keys[0], done.rate());
        self.figures.insert(keys[1], done.latency_ms(0.5));
        self.figures.insert(keys[2], done.latency_ms(0.99));
    }

    async fn update(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        namespace(&client, "bench-update").await?;
        let objects = Updates::create(&client, "bench-update").await?;
        let done = objects.run(&client, self.amount()).await?;
        self.latencies(["update.rate", "update.p50", "update.p99"], &done);
        Ok(())
    }

    async fn get(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        namespace(&client, "bench-get").await?;
        let objects = Amount { operations: 1_000, ..self.amount() };
        create_many(&client, "bench-get", "object", objects).await?;
        let done = get_many(&client, self.amount()).await?;
        self.figures.insert("get.leader.rate", done.rate());
        self.figures.insert("get.leader.p99", done.latency_ms(0.99));
        if let Some(client) = self.follower().await? {
            let done = get_many(&client, self.amount()).await?;
            self.figures.insert("get.follower.rate", done.rate());
            self.figures.insert("get.follower.p99", done.latency_ms(0.99));
        }
        Ok(())
    }

    async fn list(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        namespace(&client, "bench-list").await?;
        let time = self.sizes.bound_max;
        let amount = Amount { in_flight: IN_FLIGHT, operations: self.sizes.list_objects, time };
        let made = create_many(&client, "bench-list", "object", amount).await?;
        if made.done() < self.sizes.list_objects {
            bail!("only {} objects were created in {time:?}", made.done());
        }
        let path = "/api/v1/namespaces/bench-list/configmaps";
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..self.sizes.list_repeats {
            let begin = Instant::now();
            let answer = client.call(Method::GET, path, Bytes::new()).await?;
            times.push(begin.elapsed());
            bytes = answer.len();
        }
        times.sort_unstable();
        self.figures.insert("list.time", ms(times[times.len() / 2]));
        self.figures.insert("list.bytes", megabytes(bytes as u64));
        Ok(())
    }

    async fn watch(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        namespace(&client, "bench-watch").await?;
        let objects = Updates::create(&client, "bench-watch").await?;
        let list = client.get("/api/v1/namespaces/bench-watch/configmaps").await?;
        let revision = list["metadata"]["resourceVersion"].as_str().context("no revision")?;
        let path = format!(
            "/api/v1/namespaces/bench-watch/configmaps?watch=true&resourceVersion={revision}"
        );
        let events = Arc::new(AtomicU64::new(0));
        let mut watchers = JoinSet::new();
        let (leader, _) = self.cluster.leader_and_follower().await?;
        let port = self.cluster.masters[leader].port;
        for _ in 0..self.sizes.watchers {
            // Each has a connection of its own, as watchers in different programs have.
            let client = Client::connect(port, &self.cluster.tls, 1).await?;
            watchers.spawn(count_events(client, path.clone(), events.clone()));
        }
        let updates = self.sizes.watch_updates;
        let begin = Instant::now();
        let done = objects.run(&client, Amount { operations: updates, ..self.amount() }).await?;
        let expected = (done.done() * self.sizes.watchers) as u64;
        while events.load(Ordering::Relaxed) < expected {
            if let Some(ended) = watchers.try_join_next() {
                ended??;
                bail!("a watch ended by itself");
            }
            if begin.elapsed() > self.sizes.bound_max {
                bail!("{} of {expected} events delivered", events.load(Ordering::Relaxed));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let elapsed = begin.elapsed();
        self.figures.insert("watch.events", expected as f64 / elapsed.as_secs_f64());
        self.figures.insert("watch.writes", per_second(done.done(), elapsed));
        Ok(())
    }

    async fn pods(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        let sizes = self.sizes;
        let time = self.nodes(&client).await?.bind_pods(&client, &sizes).await?;
        self.figures.insert("pods.bound", per_second(sizes.pods, time));
        Ok(())
    }

    async fn deployment(&mut self) -> anyhow::Result<()> {
        let client = self.leader().await?;
        let sizes = self.sizes;
        let time = self.nodes(&client).await?.deploy(&client, &sizes).await?;
        self.figures.insert("deployment.time", time.as_secs_f64());
        self.figures.insert("deployment.bound", per_second(sizes.replicas, time));
        Ok(())
    }

    async fn nodes(&mut self, client: &Client) -> anyhow::Result<&Nodes> {
        let nodes = match self.nodes.take() {
            Some(nodes) => nodes,
            None => Nodes::create(client, self.sizes.nodes).await?,
        };
        Ok(self.nodes.insert(nodes))
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Creates a namespace and waits for its service account, without which no pod is admitted.
pub(crate) async fn namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    client.post("/api/v1/namespaces", &object).await?;
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    let begin = Instant::now();
    while let Err(error) = client.get(&path).await {
        if begin.elapsed() > limits::LEADER_MAX {
            return Err(error).context("the namespace has no default service account");
        }
        tokio::time::sleep(limits::POLL).await;
    }
    Ok(())
}

/// A ConfigMap of about one KiB.
fn config_map(name: &str, fill: usize) -> Value {
    let line = format!("{fill:016}");
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "app": "bench" } },
        "data": { "key": line.repeat(57) },
    })
}

async fn create_many(
    client: &Client,
    namespace: &str,
    prefix: &'static str,
    amount: Amount,
) -> anyhow::Result<Load> {
    let path: Arc<str> = format!("/api/v1/namespaces/{namespace}/configmaps").into();
    let client = client.clone();
    load(amount, move |_, number| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            client.post(&path, &config_map(&format!("{prefix}-{number}"), number)).await?;
            Ok(())
        }
    })
    .await
}

async fn get_many(client: &Client, amount: Amount) -> anyhow::Result<Load> {
    let client = client.clone();
    load(amount, move |_, number| {
        let client = client.clone();
        async move {
            // A prime step, so that neighbours in time are not neighbours in the map.
            let object = number * 7919 % 1_000.min(amount.operations);
            let path = format!("/api/v1/namespaces/bench-get/configmaps/object-{object}");
            client.call(Method::GET, &path, Bytes::new()).await?;
            Ok(())
        }
    })
    .await
}

/// Objects that are overwritten, one for each worker, with their revisions.
struct Updates {
    namespace: Arc<str>,
    paths: Arc<[String]>,
    revisions: Arc<[AtomicU64]>,
}

impl Updates {
    async fn create(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
        let (mut paths, mut revisions) = (Vec::new(), Vec::new());
        for worker in 0..IN_FLIGHT {
            let name = format!("object-{worker}");
            let made = client.post(&collection, &config_map(&name, 0)).await?;
            revisions.push(AtomicU64::new(revision(&made)?));
            paths.push(format!("{collection}/{name}"));
        }
        Ok(Self { namespace: namespace.into(), paths: paths.into(), revisions: revisions.into() })
    }

    async fn run(&self, client: &Client, amount: Amount) -> anyhow::Result<Load> {
        let (client, paths, revisions) =
            (client.clone(), self.paths.clone(), self.revisions.clone());
        let namespace = self.namespace.clone();
        load(amount, move |worker, number| {
            let (client, paths, revisions) = (client.clone(), paths.clone(), revisions.clone());
            let namespace = namespace.clone();
            async move {
                let mut object = config_map(&format!("object-{worker}"), number + 1);
                let known = revisions[worker].load(Ordering::Relaxed);
                object["metadata"]["namespace"] = (*namespace).into();
                object["metadata"]["resourceVersion"] = known.to_string().into();
                let body = serde_json::to_vec(&object)?;
                let answer = client.call(Method::PUT, &paths[worker], body.into()).await?;
                revisions[worker].store(revision(&answer)?, Ordering::Relaxed);
                Ok(())
            }
        })
        .await
    }
}

/// The resourceVersion of an answer, by its text: cheaper for the generator than decoding.
fn revision(answer: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(answer)?;
    let rest = text.split_once("\"resourceVersion\":\"").context("no resourceVersion")?.1;
    let digits = rest.split_once('"').context("no resourceVersion")?.0;
    digits.parse().context("resourceVersion is not a number")
}

/// Counts lines, which are events, until the watch ends.
async fn count_events(client: Client, path: String, events: Arc<AtomicU64>) -> anyhow::Result<()> {
    let response = client.send(Method::GET, &path, Bytes::new()).await?;
    if !response.status().is_success() {
        bail!("watch: {}", response.status());
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let data = frame.data_ref().map(|data| &data[..]).unwrap_or_default();
        events.fetch_add(lines(data), Ordering::Relaxed);
    }
    Ok(())
}

/// Number of line ends. In steps whose count fits a byte, which the compiler makes vector code of: the
/// generator shares its cores with the masters.
fn lines(data: &[u8]) -> u64 {
    let count = |step: &[u8]| step.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    data.chunks(usize::from(u8::MAX)).map(|step| u64::from(count(step))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_has_about_one_kib() {
        let bytes = serde_json::to_vec(&config_map("object-12345", 7)).unwrap().len();
        assert!((1_000..1_100).contains(&bytes), "{bytes}");
    }

    #[test]
    fn all_lines_are_counted() {
        assert_eq!(lines(b""), 0);
        assert_eq!(lines(b"a\nb\nc"), 2);
        assert_eq!(lines(&[b'\n'; 1000]), 1000);
    }

    #[test]
    fn the_revision_is_found_in_the_text() {
        assert_eq!(revision(br#"{"metadata":{"resourceVersion":"42"}}"#).unwrap(), 42);
        assert!(revision(br#"{"metadata":{}}"#).is_err());
        assert!(revision(br#"{"resourceVersion":"x"}"#).is_err());
    }
}
