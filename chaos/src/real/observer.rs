//! Looks at each master about ten times a second: does it answer, what is it, whom does it follow?
//!
//! What is kept are stretches of time in which a master's state did not change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use anyhow::Context;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::Connection;
use super::workload::{Shared, lock};
use crate::history::Tick;
use crate::limits::{SAMPLE_EVERY, SAMPLE_MAX, STATES_MAX, VIEWS_DIFFER_MAX, VIEWS_MAX};

/// What a master was seen to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answered.
    Up {
        /// `leader`, `follower` or `learner`, as it said of itself.
        role: String,
        /// Its term.
        term: u64,
        /// Whom it took for the leader.
        leader: Option<String>,
    },
    /// It took connections, or had taken one, and did not answer in time.
    Silent,
    /// Nobody was there.
    Down,
}

impl State {
    /// The term in which it was the leader.
    #[must_use]
    pub fn leads(&self) -> Option<u64> {
        match self {
            Self::Up { role, term, .. } if role == "leader" => Some(*term),
            Self::Up { .. } | Self::Silent | Self::Down => None,
        }
    }
}

/// A time in which a master's state did not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Which master.
    pub master: usize,
    /// First look that saw it.
    pub from: Tick,
    /// Last look that saw it.
    pub to: Tick,
    /// What it was.
    pub state: State,
}

/// What the looks told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// In the order in which they began.
    pub stretches: Vec<Stretch>,
    /// How many looks there were.
    pub looks: u64,
    /// Changes that were not kept, beyond [`STATES_MAX`].
    pub dropped: u64,
    /// Revisions of a master that were older than what the same process had told before.
    #[serde(default)]
    pub back: Vec<String>,
    /// How often a master had applied as much as another one that was seen before, and told its state.
    #[serde(default)]
    pub compared: u64,
    /// Where that was another state.
    #[serde(default)]
    pub differ: Vec<String>,
}

/// The state after an entry of the log, and who was seen with it first; the newest [`VIEWS_MAX`].
type Views = BTreeMap<u64, (usize, Value)>;

impl Observed {
    fn add(&mut self, master: usize, at: Tick, state: State) {
        self.looks += 1;
        let full = self.stretches.len() >= STATES_MAX;
        let last = self.stretches.iter_mut().rev().find(|stretch| stretch.master == master);
        match last {
            Some(last) if last.state == state => last.to = at,
            _ if full => self.dropped += 1,
            _ => self.stretches.push(Stretch { master, from: at, to: at, state }),
        }
    }

    /// What a master has after an entry of the log; older ones do not tell.
    fn compare(&mut self, views: &mut Views, master: usize, told: &Value) {
        let Some(index) = told["index"].as_u64() else { return };
        let (first, known) = views.entry(index).or_insert_with(|| (master, told.clone()));
        if *first == master {
            return;
        }
        self.compared += 1;
        if known != told && self.differ.len() < VIEWS_DIFFER_MAX {
            let (first, master) = (*first + 1, master + 1);
            self.differ.push(format!("after entry {index} m{first} has {known}, m{master} {told}"));
        }
        while views.len() > VIEWS_MAX {
            views.pop_first();
        }
    }
}

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Observer {
    observed: Arc<Mutex<Observed>>,
    /// One for each master; they end with this value.
    _looking: JoinSet<()>,
}

impl Observer {
    /// Begins to look at all masters.
    #[must_use]
    pub fn start(shared: &Arc<Shared>) -> Self {
        let observed = Arc::new(Mutex::new(Observed::default()));
        let views = Arc::new(Mutex::new(Views::new()));
        let mut looking = JoinSet::new();
        for master in 0..shared.apis.len() {
            looking.spawn(look(shared.clone(), observed.clone(), views.clone(), master));
        }
        Self { observed, _looking: looking }
    }

    /// What was seen so far.
    #[must_use]
    pub fn observed(&self) -> Observed {
        lock(&self.observed).clone()
    }
}

async fn look(
    shared: Arc<Shared>,
    observed: Arc<Mutex<Observed>>,
    views: Arc<Mutex<Views>>,
    master: usize,
) {
    let mut every = interval(SAMPLE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut connection = None;
    // As the process at the other end of this connection told it.
    let mut newest = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        every.tick().await;
        let at = shared.tick();
        let state = match timeout(SAMPLE_MAX, ask(&shared, master, &mut connection)).await {
            Ok(Ok((state, revision, view))) => {
                lock(&observed).compare(&mut lock(&views), master, &view);
                if revision < newest {
                    let what = format!("m{}: revision {revision} after {newest}", master + 1);
                    lock(&observed).back.push(what);
                }
                newest = revision;
                state
            }
            // A connection that was kept says nothing of the process that is there now.
            Ok(Err(_)) if connection.take().is_some() => {
                newest = 0;
                continue;
            }
            Ok(Err(_)) => State::Down,
            Err(_) => {
                (connection, newest) = (None, 0);
                State::Silent
            }
        };
        lock(&observed).add(master, at, state);
    }
}

async fn ask(
    shared: &Shared,
    master: usize,
    kept: &mut Option<Connection>,
) -> anyhow::Result<(State, u64, Value)> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(shared.apis[master], &shared.tls).await?),
    };
    let answer = connection.call(Method::GET, "/quorate/v1/status", None).await;
    let mut answer = answer.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let state = state(&answer.body).with_context(|| format!("{} to a status", answer.code))?;
    let view = answer.body.get_mut("state").map(Value::take).unwrap_or_default();
    Ok((state, answer.body["revision"].as_u64().unwrap_or(0), view))
}

fn state(status: &Value) -> Option<State> {
    let own = status["answeredBy"].as_str()?;
    let role = status["masters"]
        .as_array()?
        .iter()
        .find(|member| member["name"] == own)
        .and_then(|member| member["role"].as_str())?
        .to_owned();
    let leader = status["leader"].as_str().map(str::to_owned);
    Some(State::Up { role, term: status["term"].as_u64()?, leader })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_changes_are_kept() {
        let mut observed = Observed::default();
        let leads = state(&json!({
            "answeredBy": "m1", "leader": "m1", "term": 3,
            "masters": [{"name": "m2", "role": "follower"}, {"name": "m1", "role": "leader"}],
        }))
        .unwrap();
        assert_eq!(leads.leads(), Some(3));
        for at in 0..5 {
            observed.add(0, at, leads.clone());
            observed.add(1, at, State::Down);
        }
        observed.add(0, 5, State::Silent);
        assert_eq!((observed.looks, observed.stretches.len()), (11, 3));
        assert_eq!((observed.stretches[0].from, observed.stretches[0].to), (0, 4));
    }

    #[test]
    fn states_after_the_same_entry_are_compared() {
        let (mut observed, mut views) = (Observed::default(), Views::new());
        let told = |index: u64, hash: &str| json!({"index": index, "revision": 3, "hash": hash});
        for (master, index) in [(0, 7), (0, 7), (1, 6), (1, 7), (2, 7)] {
            observed.compare(&mut views, master, &told(index, "a"));
        }
        observed.compare(&mut views, 2, &Value::Null);
        assert_eq!((observed.compared, observed.differ.len()), (2, 0));
        observed.compare(&mut views, 1, &told(7, "b"));
        assert!(observed.differ[0].contains("after entry 7 m1"), "{:?}", observed.differ);
    }

    #[test]
    fn an_answer_that_is_no_status_is_none() {
        assert_eq!(state(&json!({"kind": "Status", "code": 503})), None);
    }
}
