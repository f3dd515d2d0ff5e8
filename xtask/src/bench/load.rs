//! A closed loop: that many workers, each with one operation in flight, until the count or the
//! time is used up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// How much to do: whatever ends first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// Workers, each with one operation in flight
    pub(crate) in_flight: usize,
    /// Operations in all
    pub(crate) operations: usize,
    /// No operation begins after this time
    pub(crate) time: Duration,
}

/// What was done.
#[derive(Debug)]
pub(crate) struct Load {
    elapsed: Duration,
    /// Sorted
    latencies: Vec<Duration>,
}

impl Load {
    /// Operations that succeeded.
    pub(crate) fn done(&self) -> usize {
        self.latencies.len()
    }

    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        per_second(self.done(), self.elapsed)
    }

    /// Latency at this quantile (0 to 1), milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        quantile_of(&self.latencies, quantile).as_secs_f64() * 1e3
    }
}

/// Nearest rank in a sorted list; zero when it is empty.
fn quantile_of(sorted: &[Duration], quantile: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the length")]
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// A count over a time.
pub(crate) fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// Calls `operation(worker, number)` until the amount is done. The first error ends it: a master
/// that refuses work is not fast.
pub(crate) async fn load<F, Fut>(amount: Amount, operation: F) -> anyhow::Result<Load>
where
    F: Fn(usize, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..amount.in_flight {
        let (next, operation) = (next.clone(), operation.clone());
        workers.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= amount.operations || start.elapsed() >= amount.time {
                    return anyhow::Ok(latencies);
                }
                let begin = Instant::now();
                operation(worker, number).await?;
                latencies.push(begin.elapsed());
            }
        });
    }
    let mut latencies = Vec::with_capacity(amount.operations);
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker??);
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    Ok(Load { elapsed, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let ms = |n: u64| Duration::from_millis(n);
        let hundred: Vec<_> = (1..=100).map(ms).collect();
        for (list, quantile, expected) in [
            (&hundred[..], 0.5, ms(50)),
            (&hundred[..], 0.99, ms(99)),
            (&hundred[..], 1.0, ms(100)),
            (&hundred[..1], 0.5, ms(1)),
            (&[][..], 0.5, ms(0)),
        ] {
            assert_eq!(quantile_of(list, quantile), expected, "{quantile} of {}", list.len());
        }
    }

    #[tokio::test]
    async fn every_number_is_used_once_and_an_error_ends_it() {
        let amount = Amount { in_flight: 7, operations: 100, time: Duration::from_secs(60) };
        let sum = Arc::new(AtomicUsize::new(0));
        let total = sum.clone();
        let done = load(amount, move |_, number| {
            let total = total.clone();
            async move {
                total.fetch_add(number, Ordering::Relaxed);
                Ok(())
            }
        });
        assert_eq!(done.await.unwrap().done(), 100);
        assert_eq!(sum.load(Ordering::Relaxed), 99 * 100 / 2);
        let failed = load(amount, |_, number| async move {
            anyhow::ensure!(number != 50, "number 50");
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err().to_string(), "number 50");
    }
}
