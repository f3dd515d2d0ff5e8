//! Faults, one after the other, chosen from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use super::masters::Masters;
use crate::history::Tick;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` of one master, and a restart
    Kill,
    /// `kill -9` of all masters at once, and a restart
    KillAll,
    /// SIGSTOP of one master, and SIGCONT
    Pause,
    /// One master is cut off from all others, in both directions
    Isolate,
    /// One master hears nothing from the others, or the others nothing from it
    OneWay,
    /// One link is cut: the two masters at its ends see different majorities
    Link,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::KillAll, Self::Pause, Self::Isolate, Self::OneWay, Self::Link];

    /// Whether it needs links that can be cut.
    #[must_use]
    pub fn needs_network(self) -> bool {
        matches!(self, Self::Isolate | Self::OneWay | Self::Link)
    }
}

/// A fault that was there.
#[derive(Debug, Clone, Serialize)]
pub struct Injected {
    /// Which.
    pub fault: Fault,
    /// In words.
    pub what: String,
    /// Its beginning.
    pub from: Tick,
    /// Its end.
    pub to: Tick,
}

/// Chooses and carries out faults.
#[derive(Debug)]
pub struct Nemesis {
    random: StdRng,
    kinds: Vec<Fault>,
    /// Kinds that have not had their turn in this round: each comes before any comes twice.
    round: Vec<Fault>,
}

impl Nemesis {
    /// Same seed, same faults (as far as the same master leads).
    #[must_use]
    pub fn new(seed: u64, kinds: Vec<Fault>) -> Self {
        Self { random: StdRng::seed_from_u64(seed), kinds, round: Vec::new() }
    }

    /// Time without faults, before the next one.
    pub fn quiet(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(500..2500))
    }

    /// Injects the next fault, waits, and takes it back.
    ///
    /// # Errors
    /// When it cannot be injected or taken back, or a master does not come back: the run is over.
    pub async fn next(
        &mut self,
        masters: &mut Masters,
        tick: &dyn Fn() -> Tick,
    ) -> anyhow::Result<Option<Injected>> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
        }
        if self.round.is_empty() {
            return Ok(None);
        }
        let fault = self.round.swap_remove(self.random.random_range(0..self.round.len()));
        let target = self.target(masters).await;
        let lasts = Duration::from_millis(self.random.random_range(300..4000));
        let (inward, other) = (self.random.random::<bool>(), self.other(masters, target));
        let from = tick();
        let name = masters.name(target).to_owned();
        let count = masters.count();
        let others = || (0..count).filter(|index| *index != target);
        let what = match fault {
            Fault::Kill => {
                masters.kill(target).await?;
                format!("{name} killed")
            }
            Fault::KillAll => {
                for master in 0..count {
                    masters.kill(master).await?;
                }
                "all killed".to_owned()
            }
            Fault::Pause => {
                masters.pause(target)?;
                format!("{name} paused")
            }
            Fault::Isolate => {
                others().try_for_each(|other| cut(masters, &[(target, other), (other, target)]))?;
                format!("{name} isolated")
            }
            Fault::OneWay if inward => {
                others().try_for_each(|other| cut(masters, &[(other, target)]))?;
                format!("{name} deaf")
            }
            Fault::OneWay => {
                others().try_for_each(|other| cut(masters, &[(target, other)]))?;
                format!("{name} mute")
            }
            Fault::Link => {
                cut(masters, &[(target, other), (other, target)])?;
                format!("{name} and {} cut apart", masters.name(other))
            }
        };
        tracing::info!(fault = what, "injected");
        tokio::time::sleep(lasts).await;
        match fault {
            Fault::Kill => masters.restart(target)?,
            Fault::KillAll => (0..count).try_for_each(|master| masters.restart(master))?,
            Fault::Pause => masters.resume(target)?,
            Fault::Isolate | Fault::OneWay | Fault::Link => {
                masters.network().map_or(Ok(()), super::network::Network::heal)?;
            }
        }
        let to = tick();
        masters.ready().await?;
        Ok(Some(Injected { fault, what, from, to }))
    }

    /// The leader, two times of three.
    async fn target(&mut self, masters: &Masters) -> usize {
        let any = self.random.random_range(0..masters.count());
        if self.random.random_range(0..3) == 0 {
            return any;
        }
        masters.leader().await.unwrap_or(any)
    }

    fn other(&mut self, masters: &Masters, target: usize) -> usize {
        if masters.count() < 2 {
            return target;
        }
        (target + self.random.random_range(1..masters.count())) % masters.count()
    }
}

fn cut(masters: &Masters, links: &[(usize, usize)]) -> anyhow::Result<()> {
    let Some(network) = masters.network() else { return Ok(()) };
    links.iter().filter(|(from, to)| from != to).try_for_each(|(from, to)| network.cut(*from, *to))
}
