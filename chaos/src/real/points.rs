//! Orders to masters to end at a named point of their code, and what became of them. How they hear of it is in the
//! crate `quorate-points`: files in a directory of each.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use quorate_points::{DIED, DIRECTORY, LISTENS, ORDER, Point, TAKEN};

use crate::scenario::fault::Effect;

/// The orders of a run.
#[derive(Debug)]
pub struct Points {
    masters: Vec<Orders>,
    /// Bytes of log after which masters take a snapshot.
    snapshot_bytes: u64,
}

#[derive(Debug)]
struct Orders {
    directory: PathBuf,
    now: Option<(Point, u32)>,
    /// Of the last one, whether it holds or not.
    number: u32,
}

impl Points {
    /// Whether this program can be ended at points of its code; if not, why, and what to do.
    ///
    /// # Errors
    /// The reason, in a sentence.
    pub fn possible(binary: &Path) -> Result<(), String> {
        let name =
            format!("quorate-chaos-points-{}-{:x}", std::process::id(), rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        let listens = Self::try_on(binary, &directory);
        // What is left says nothing.
        drop(fs::remove_dir_all(&directory));
        match listens {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "{} was built without crash points in its code: `cargo build --release --features crash-points` \
                 builds a program with them, for --binary",
                binary.display()
            )),
            Err(error) => {
                Err(format!("whether masters have crash points cannot be tried: {error:#}"))
            }
        }
    }

    fn try_on(binary: &Path, directory: &Path) -> anyhow::Result<bool> {
        fs::create_dir(directory)?;
        let mut command = Command::new(binary);
        command.arg("version").env(DIRECTORY, directory).stdin(Stdio::null());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(directory.join(LISTENS).exists())
    }

    /// A directory for each of so many masters, which take a snapshot after so many bytes of log.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(directory: &Path, count: usize, snapshot_bytes: u64) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)?;
        let orders = |number: usize| -> anyhow::Result<Orders> {
            let directory = directory.join(format!("m{number}.points"));
            fs::create_dir(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            Ok(Orders { directory, now: None, number: 0 })
        };
        let masters = (1..=count).map(orders).collect::<anyhow::Result<_>>()?;
        Ok(Self { masters, snapshot_bytes })
    }

    /// What a master's process is started with. It takes snapshots often, so that it passes the points there.
    #[must_use]
    pub fn environment(&self, master: usize) -> [(&'static str, OsString); 2] {
        [
            (DIRECTORY, self.masters[master].directory.clone().into()),
            (quorate_points::SNAPSHOT_BYTES, self.snapshot_bytes.to_string().into()),
        ]
    }

    /// Tells each master at which point it is to end from now on.
    ///
    /// # Errors
    /// When an order cannot be written.
    pub fn set(&mut self, effect: &Effect) -> anyhow::Result<()> {
        for (master, orders) in self.masters.iter_mut().enumerate() {
            let wanted = effect.points.get(&master).copied();
            if wanted == orders.now {
                continue;
            }
            orders.now = wanted;
            orders.number += u32::from(wanted.is_some());
            let path = orders.directory.join(ORDER);
            let beside = path.with_extension("new");
            let written =
                fs::write(&beside, orders.text()).and_then(|()| fs::rename(&beside, &path));
            written.with_context(|| format!("cannot write to {}", path.display()))?;
        }
        Ok(())
    }

    /// At which point a master ends, in words; `None` when at none.
    ///
    /// # Errors
    /// When its process, `id`, has not taken the order.
    pub fn shown(&self, master: usize, id: Option<u32>) -> anyhow::Result<Option<String>> {
        let orders = &self.masters[master];
        let Some((point, times)) = orders.now else { return Ok(None) };
        let words = format!("it ends at {point}, the time of number {times}");
        let Some(id) = id.filter(|_| !orders.died()) else { return Ok(Some(words)) };
        let listens = orders.read(LISTENS);
        if listens != id.to_string() || orders.read(TAKEN) != orders.text() {
            bail!(
                "process {id} has not taken the order to end at {point}; process {listens:?} listens"
            );
        }
        Ok(Some(words))
    }

    /// How many processes ended at points, of those masters that are told to by `effect`.
    #[must_use]
    pub fn met(&self, effect: &Effect) -> u64 {
        let told = effect.points.keys().filter_map(|master| self.masters.get(*master));
        told.map(|orders| orders.read(DIED).lines().count() as u64).sum()
    }

    /// Whether a process of this master ended as its last order said.
    #[must_use]
    pub fn died(&self, master: usize) -> bool {
        self.masters[master].died()
    }
}

impl Orders {
    fn text(&self) -> String {
        let order = |(point, times)| format!("{} {point} {times}", self.number);
        self.now.map(order).unwrap_or_default()
    }

    /// What is not there is empty.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    fn died(&self) -> bool {
        let own = format!("{} ", self.number);
        self.read(DIED).lines().any(|line| line.starts_with(&own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(point: Point) -> Effect {
        Effect { points: [(1, (point, 2))].into(), ..Effect::default() }
    }

    #[test]
    fn an_order_counts_only_when_a_process_has_died_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut points = Points::make(directory.path(), 2, 1 << 20).unwrap();
        let own = directory.path().join("m2.points");
        points.set(&effect(Point::LogBeforeSync)).unwrap();
        assert_eq!(fs::read_to_string(own.join(ORDER)).unwrap(), "1 log.before-sync 2");
        assert_eq!(points.shown(0, Some(7)).unwrap(), None);
        let error = points.shown(1, Some(7)).unwrap_err().to_string();
        assert!(
            error.contains("process 7 has not taken the order to end at log.before-sync"),
            "{error}"
        );
        fs::write(own.join(LISTENS), "7").unwrap();
        fs::write(own.join(TAKEN), "1 log.before-sync 2").unwrap();
        assert!(points.shown(1, Some(7)).unwrap().unwrap().contains("log.before-sync"));
        assert!(points.shown(1, Some(8)).is_err(), "another process");
        assert!(!points.died(1) && points.met(&effect(Point::LogBeforeSync)) == 0);
        fs::write(own.join(DIED), "1 log.before-sync 2\n").unwrap();
        assert!(points.died(1) && points.met(&effect(Point::LogBeforeSync)) == 1);
        points.set(&Effect::default()).unwrap();
        assert_eq!(fs::read_to_string(own.join(ORDER)).unwrap(), "");
        assert!(points.died(1), "of the last one");
        points.set(&effect(Point::LogBeforeSync)).unwrap();
        assert!(!points.died(1), "not of this one");
    }

    #[test]
    fn a_program_that_does_not_listen_is_told_from_one_that_does() {
        let error = Points::possible(Path::new("/bin/true")).unwrap_err();
        assert!(
            error.contains("built without crash points") && error.contains("--binary"),
            "{error}"
        );
        let error = Points::possible(Path::new("/nowhere")).unwrap_err();
        assert!(error.contains("cannot start /nowhere"), "{error}");
    }
}
