//! Which masters there are, and which of them are ready: asked of the masters themselves as time goes by.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use http::Method;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::ApiClient;
use crate::limits::{
    PROXY_CHECK_INTERVAL, PROXY_CHECK_MAX, PROXY_MASTERS_MAX, PROXY_MEMBERS_INTERVAL,
    PROXY_SILENT_CHECKS,
};
use crate::progress;
use crate::status::STATUS_PATH;

/// Where the masters stand for those who may not see their status.
const SLICE_PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

/// How a master was when it was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nobody has looked yet.
    Unknown,
    Ready,
    /// It answers, and is not ready: it starts, ends, or has no quorum.
    NotReady,
    /// It has not answered so often in a row.
    Silent(u32),
}

/// One master. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Master {
    address: String,
    health: Health,
    /// The masters call it one of them.
    listed: bool,
    /// It was given at the start. It may be a load balancer, or a name that only this machine knows, so it is never
    /// forgotten: where the masters' own addresses cannot be reached from here, it is all there is.
    seed: bool,
    /// Of the connections to it that are there now.
    cut: CancellationToken,
}

impl Master {
    fn new(address: String) -> Self {
        let cut = CancellationToken::new();
        Self { address, health: Health::Unknown, listed: true, seed: false, cut }
    }

    fn given(address: String) -> Self {
        Self { seed: true, ..Self::new(address) }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Completes when nothing is expected of it any more.
    pub(super) async fn given_up(&self) {
        self.cut.cancelled().await;
    }

    /// Takes over what was seen; what to tell of it.
    fn seen(&mut self, answer: Answer) -> Option<&'static str> {
        let before = self.health;
        self.health = match (answer, before) {
            (Answer::Ready, _) => Health::Ready,
            (Answer::NotReady, _) => Health::NotReady,
            (Answer::None, Health::Silent(times)) => Health::Silent(times.saturating_add(1)),
            (Answer::None, _) => Health::Silent(1),
        };
        if self.health == Health::Silent(PROXY_SILENT_CHECKS) {
            // Those that come later are others'.
            std::mem::replace(&mut self.cut, CancellationToken::new()).cancel();
        }
        let silent = |health| matches!(health, Health::Silent(_));
        match self.health {
            Health::Ready if silent(before) || before == Health::NotReady => Some("is ready again"),
            Health::NotReady if before != Health::NotReady => Some("is not ready"),
            Health::Silent(1) => Some("does not answer"),
            Health::Ready | Health::NotReady | Health::Silent(_) | Health::Unknown => None,
        }
    }
}

/// What a master said to the question whether it is ready.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Ready,
    NotReady,
    None,
}

/// The masters. Clones are the same list.
#[derive(Debug, Clone)]
pub(super) struct Members {
    list: Arc<Mutex<Vec<Master>>>,
    turn: Arc<AtomicUsize>,
}

impl Members {
    /// Begins with `seeds` and follows the masters until `stop`.
    pub(super) fn start(client: ApiClient, seeds: Vec<String>, stop: CancellationToken) -> Self {
        let members = Self {
            list: Arc::new(Mutex::new(seeds.into_iter().map(Master::given).collect())),
            turn: Arc::default(),
        };
        let follower =
            Follower { client, members: members.clone(), asked: None, newest: 0, refused: false };
        tokio::spawn(async move {
            tokio::select! {
                () = follower.run() => {}
                () = stop.cancelled() => {}
            }
        });
        members
    }

    /// A list that nobody follows.
    #[cfg(test)]
    pub(super) fn of(addresses: &[String]) -> Self {
        let list = addresses.iter().cloned().map(Master::new).collect();
        Self { list: Arc::new(Mutex::new(list)), turn: Arc::default() }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Master>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All masters, in the order in which a new connection tries them: those that are ready take turns, the others come
    /// after them, as nobody knows whether they still are what they were.
    pub(super) fn in_order(&self) -> Vec<Master> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut all = self.list().clone();
        if !all.is_empty() {
            let first = turn % all.len();
            all.rotate_left(first);
        }
        // Stable: among equals the turns stay.
        all.sort_by_key(|master| match master.health {
            Health::Ready if master.listed => 0,
            Health::Ready => 1,
            Health::Unknown => 2,
            Health::NotReady => 3,
            Health::Silent(_) => 4,
        });
        all
    }

    /// Takes over which masters there are now.
    fn replace(&self, addresses: &[String]) {
        let mut list = self.list();
        list.retain_mut(|master| {
            let was = std::mem::replace(&mut master.listed, addresses.contains(&master.address));
            if was && !master.listed && !master.seed {
                progress::tell(&format!("{} is no master any more", master.address));
            }
            master.listed || master.seed
        });
        for address in addresses.iter().take(PROXY_MASTERS_MAX) {
            if !list.iter().any(|master| master.address == *address) {
                progress::tell(&format!("{address} is a master"));
                list.push(Master::new(address.clone()));
            }
        }
    }
}

/// What keeps the list.
struct Follower {
    client: ApiClient,
    members: Members,
    /// When the members were asked for last.
    asked: Option<Instant>,
    /// As of which entry of the log they are known.
    newest: u64,
    /// That nobody tells has been said.
    refused: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(PROXY_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
            if self.asked.is_none_or(|at| at.elapsed() >= PROXY_MEMBERS_INTERVAL) {
                self.ask().await;
            }
        }
    }

    /// Asks each master whether it is ready.
    async fn look(&self) {
        let addresses: Vec<String> =
            self.members.list().iter().map(|master| master.address.clone()).collect();
        let answers = join_all(addresses.iter().map(|address| self.answer_of(address))).await;
        let mut list = self.members.list();
        for (address, answer) in addresses.iter().zip(answers) {
            let Some(master) = list.iter_mut().find(|master| master.address == *address) else {
                continue;
            };
            if let Some(news) = master.seen(answer) {
                progress::tell(&format!("{address} {news}"));
            }
        }
    }

    async fn answer_of(&self, address: &str) -> Answer {
        let Ok(master) = self.client.at(&format!("https://{address}")) else { return Answer::None };
        match master.call_within(PROXY_CHECK_MAX, Method::GET, "/readyz", None).await {
            Ok(_) => Answer::Ready,
            Err(error) if error.is::<crate::client::Refused>() => Answer::NotReady,
            Err(_) => Answer::None,
        }
    }

    /// Asks the masters that are ready which masters there are, until one tells.
    async fn ask(&mut self) {
        let ready = self.members.in_order().into_iter();
        for master in ready.filter(|master| master.health == Health::Ready) {
            let Ok(client) = self.client.at(&format!("https://{}", master.address)) else {
                continue;
            };
            let get = |path| client.call_within(PROXY_CHECK_MAX, Method::GET, path, None);
            let known = match get(STATUS_PATH).await {
                Ok(status) => of_status(&status),
                Err(error) if error.is::<crate::client::Refused>() => {
                    get(SLICE_PATH).await.ok().and_then(|slice| of_slice(&slice))
                }
                Err(_) => continue,
            };
            self.asked = Some(Instant::now());
            match known {
                // One that is behind may not know yet who has come.
                Some((at, _)) if at < self.newest => continue,
                Some((at, addresses)) => {
                    self.newest = at;
                    self.members.replace(&addresses);
                }
                None if !std::mem::replace(&mut self.refused, true) => progress::tell(
                    "this user may see neither the masters' status nor the EndpointSlice kubernetes: masters \
                     that come later are not found",
                ),
                None => {}
            }
            return;
        }
        // Nobody is as far any more: a backup was restored. The next one who tells is right.
        self.newest = 0;
    }
}

/// The masters' addresses and the entry of the log as of which they are.
type Known = (u64, Vec<String>);

fn of_status(status: &Value) -> Option<Known> {
    let masters = status["masters"].as_array()?.iter();
    let addresses: Vec<String> =
        masters.filter_map(|one| Some(one["apiAddress"].as_str()?.to_owned())).collect();
    (!addresses.is_empty()).then(|| (status["appliedIndex"].as_u64().unwrap_or(0), addresses))
}

fn of_slice(slice: &Value) -> Option<Known> {
    let port = slice["ports"][0]["port"].as_u64()?;
    let endpoints = slice["endpoints"].as_array()?.iter();
    let hosts = endpoints.filter_map(|one| one["addresses"][0].as_str());
    let addresses: Vec<String> =
        hosts
            .map(|host| {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            })
            .collect();
    (!addresses.is_empty()).then_some((0, addresses))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(addresses: &[&str]) -> Members {
        Members::of(&addresses.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
    }

    fn order(members: &Members) -> Vec<String> {
        members.in_order().into_iter().map(|master| master.address).collect()
    }

    #[test]
    fn who_is_ready_takes_turns_and_the_others_come_last() {
        let members = members(&["a:1", "b:1", "c:1"]);
        for (number, answer) in [Answer::Ready, Answer::None, Answer::Ready].into_iter().enumerate()
        {
            members.list()[number].seen(answer);
        }
        assert_eq!(order(&members), ["a:1", "c:1", "b:1"]);
        assert_eq!(order(&members), ["c:1", "a:1", "b:1"]);
        members.list()[2].seen(Answer::NotReady);
        assert_eq!(order(&members)[0], "a:1");
    }

    #[test]
    fn connections_to_a_silent_master_are_cut_once() {
        let mut master = Master::new("a:1".to_owned());
        let connected = master.clone();
        assert_eq!(master.seen(Answer::None), Some("does not answer"));
        assert_eq!(master.seen(Answer::None), None);
        assert!(!connected.cut.is_cancelled());
        master.seen(Answer::None);
        assert!(connected.cut.is_cancelled());
        let later = master.clone();
        master.seen(Answer::None);
        assert!(!later.cut.is_cancelled(), "who connects to it all the same is left alone");
        assert_eq!(master.seen(Answer::Ready), Some("is ready again"));
    }

    #[test]
    fn masters_come_and_go_and_keep_what_is_known_of_them() {
        let members = members(&["a:1", "b:1"]);
        members.list()[1].seen(Answer::Ready);
        members.replace(&["b:1".to_owned(), "c:1".to_owned()]);
        assert_eq!(order(&members), ["b:1", "c:1"]);
        let many: Vec<String> = (0..100).map(|number| format!("m{number}:1")).collect();
        members.replace(&many);
        assert_eq!(members.list().len(), PROXY_MASTERS_MAX);
    }

    #[test]
    fn what_was_given_stays_and_comes_after_the_masters() {
        let members = members(&[]);
        members.list().push(Master::given("lb:1".to_owned()));
        members.list()[0].seen(Answer::Ready);
        members.replace(&["a:1".to_owned()]);
        assert_eq!(order(&members), ["lb:1", "a:1"], "nobody has looked at the other yet");
        members.list()[1].seen(Answer::Ready);
        assert_eq!(order(&members)[0], "a:1");
        members.list()[1].seen(Answer::None);
        assert_eq!(order(&members)[0], "lb:1", "from here the masters cannot be reached");
    }

    #[test]
    fn the_masters_are_read_from_the_status_or_the_slice() {
        let status =
            json!({"appliedIndex": 7, "masters": [{"apiAddress": "a:1"}, {"apiAddress": "b:2"}]});
        assert_eq!(of_status(&status), Some((7, vec!["a:1".to_owned(), "b:2".to_owned()])));
        assert_eq!(of_status(&json!({"masters": []})), None);
        let slice = json!({
            "ports": [{"name": "https", "port": 6443}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}],
        });
        let known = vec!["10.0.0.1:6443".to_owned(), "[fd00::1]:6443".to_owned()];
        assert_eq!(of_slice(&slice), Some((0, known)));
        assert_eq!(of_slice(&json!({"ports": []})), None);
    }
}
