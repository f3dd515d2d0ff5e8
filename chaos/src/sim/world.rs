//! The world: one clock, one list of what is to happen, and masters that live from tick to tick.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use quorate_pki::Authority;
use quorate_raft::host::{PeerResponse, Presence, Undelivered};
use quorate_raft::{FIRST_NODE_ID, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::client::{self, Asked, Told};
use super::host::{self, Cursor, Exchange, Outbox, Packed, Sent, Waiting};
use super::judge::Found;
use super::node::{self, Node, Start, slot};
use super::plan::{Kind, Plan};
use super::trace::Trace;
use crate::check::watch::{self, Sent as WatchSent, Watcher};
use crate::history::{Operation, Outcome};
use crate::limits::{
    SIM_ANSWER_MAX, SIM_BOOT_MAX, SIM_BROKEN_MAX as BROKEN_MAX, SIM_COMPACT_EVERY,
    SIM_STATES_MAX as STATES_MAX, SIM_TICK, SIM_TOLD_MAX as TOLD_MAX,
};
use crate::model::{RegisterInput, RegisterOutput};

/// Ticks between two looks at every master.
const LOOK_EVERY: u64 = 8;

/// What happens at a time.
#[derive(Debug)]
enum Event {
    Arrives {
        from: usize,
        to: usize,
        exchange: Exchange,
        request: Packed,
    },
    Answered {
        from: usize,
        to: usize,
        exchange: Exchange,
        answer: PeerResponse,
    },
    /// The connection of an exchange broke.
    Broke {
        exchange: Exchange,
        why: Undelivered,
    },
    /// A client begins its next operation.
    Calls {
        client: usize,
    },
    Asks {
        operation: u64,
        master: usize,
        asked: Asked,
    },
    Tells {
        operation: u64,
        told: Told,
    },
    /// A client waits no longer.
    GivesUp {
        operation: u64,
    },
    Starts {
        master: usize,
    },
    /// A fault of the plan.
    Begins {
        step: usize,
    },
    Ends {
        step: usize,
    },
    /// A watcher asks a master for what comes next.
    Follows {
        watcher: usize,
    },
    /// The leader forgets old changes.
    Compacts,
}

struct Due {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// How messages travel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) least: Duration,
    pub(super) most: Duration,
    /// Of a thousand.
    pub(super) lost: u32,
    pub(super) twice: u32,
}

impl Weather {
    pub(super) const FAIR: Self = Self {
        least: Duration::from_micros(200),
        most: Duration::from_millis(4),
        lost: 0,
        twice: 0,
    };
}

struct Client {
    master: usize,
    /// What it read last of each object: value and revision.
    known: BTreeMap<usize, (u64, u64)>,
}

/// Sees all changes, at one master after the other.
pub(super) struct Follower {
    pub(super) told: Watcher,
    master: usize,
    /// Of the watch that it has now.
    number: u64,
}

impl Follower {
    /// It was told everything up to there.
    pub(super) fn at(&self) -> u64 {
        self.told.sent.last().map_or(self.told.from, |sent| match sent {
            WatchSent::Event(revision, _) | WatchSent::Bookmark(revision) => *revision,
        })
    }
}

struct UnderWay {
    client: usize,
    number: u32,
    called: Duration,
    asked: Asked,
}

/// A request on its way, or its answer.
struct Exchanging {
    from: usize,
    to: usize,
    method: String,
    waiting: Waiting,
}

/// Everything.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) random: StdRng,
    pub(super) nodes: Vec<Node>,
    pub(super) weather: Weather,
    /// Links that carry nothing, and how many faults want that: from, to.
    pub(super) cuts: BTreeMap<(usize, usize), u32>,
    pub(super) plan: Plan,
    /// What happened, how often.
    pub(super) faults: BTreeMap<Kind, usize>,
    pub(super) history: Vec<(usize, Operation<RegisterInput, RegisterOutput>)>,
    pub(super) watchers: Vec<Follower>,
    pub(super) acknowledged: Vec<(u64, watch::Change)>,
    /// Who led in each term, as masters said.
    pub(super) leaders: BTreeMap<u64, BTreeSet<u64>>,
    pub(super) broken: Vec<Found>,
    /// Revision and hash after an index, and who said so first.
    states: BTreeMap<u64, (usize, u64, u128)>,
    pub(super) trace: Trace,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
    outbox: Outbox,
    waiting: BTreeMap<Exchange, Exchanging>,
    /// Who loses power when it has answered a request of this method.
    pub(super) traps: Vec<(usize, &'static str)>,
    doomed: Vec<usize>,
    connections: BTreeMap<(usize, usize), Presence>,
    clients: Vec<Client>,
    under_way: BTreeMap<u64, UnderWay>,
    values: u64,
    callers: u32,
    directory: PathBuf,
    calling: bool,
    keys: usize,
    ticks: u64,
    /// How finely time is cut.
    tick: Duration,
}

fn tick_of(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    /// A cluster of so many masters, all of them voters.
    pub(super) fn new(
        seed: u64,
        masters: usize,
        clients: usize,
        directory: PathBuf,
    ) -> anyhow::Result<Self> {
        let mut world = Self {
            now: Duration::ZERO,
            random: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            weather: Weather::FAIR,
            cuts: BTreeMap::new(),
            plan: Plan::new(),
            faults: BTreeMap::new(),
            history: Vec::new(),
            watchers: Vec::new(),
            acknowledged: Vec::new(),
            leaders: BTreeMap::new(),
            broken: Vec::new(),
            states: BTreeMap::new(),
            trace: Trace::default(),
            queue: BinaryHeap::new(),
            number: 0,
            outbox: Outbox::default(),
            waiting: BTreeMap::new(),
            traps: Vec::new(),
            doomed: Vec::new(),
            connections: BTreeMap::new(),
            clients: Vec::new(),
            under_way: BTreeMap::new(),
            values: 0,
            callers: 0,
            directory,
            calling: false,
            keys: 6,
            ticks: 0,
            tick: SIM_TICK * u32::try_from(1 + seed % 3).unwrap_or(1),
        };
        let authority = Authority::generate("simulation", jiff::Timestamp::now())?;
        world.found(&authority)?;
        for position in 1..masters {
            world.join(position, &authority)?;
        }
        for client in 0..clients {
            let master = client % masters;
            world.clients.push(Client { master, known: BTreeMap::new() });
        }
        world.later(SIM_COMPACT_EVERY, Event::Compacts);
        for watcher in 0..masters {
            let told = Watcher { name: format!("watcher {}", watcher + 1), ..Watcher::default() };
            world.watchers.push(Follower { told, master: watcher, number: 0 });
            world.later(Duration::ZERO, Event::Follows { watcher });
        }
        Ok(world)
    }

    fn found(&mut self, authority: &Authority) -> anyhow::Result<()> {
        self.add(0, FIRST_NODE_ID, authority)?;
        let founded = self.ask(0, |started| {
            let masters = started.masters.clone();
            async move { masters.initialize().await.map_err(|error| error.to_string()) }
        })?;
        founded.map_err(anyhow::Error::msg)
    }

    fn add(&mut self, position: usize, id: NodeId, authority: &Authority) -> anyhow::Result<()> {
        let seed = self.random.random();
        self.nodes.push(Node::new(position, id, authority, seed)?);
        self.start(position)
    }

    /// As `quorate server --join` has it: admitted, started empty, promoted when it is level.
    fn join(&mut self, position: usize, authority: &Authority) -> anyhow::Result<()> {
        let member = node::member(position);
        let admitted = self.retry(|world| {
            world.ask(0, |started| {
                let (masters, member) = (started.masters.clone(), member.clone());
                async move { masters.admit(&member).await.map_err(|error| error.to_string()) }
            })
        })?;
        self.add(position, admitted, authority)?;
        self.retry(|world| {
            world.ask(0, |started| {
                let masters = started.masters.clone();
                async move { masters.promote(admitted).await.map_err(|error| error.to_string()) }
            })
        })
    }

    fn retry<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        let until = self.now + SIM_BOOT_MAX;
        loop {
            match ask(self)? {
                Ok(value) => return Ok(value),
                Err(error) if self.now > until => bail!("the cluster does not come up: {error}"),
                Err(_) => self.pass(Duration::from_millis(100))?,
            }
        }
    }

    /// Runs something in a living master, and the world until it has ended.
    pub(super) fn ask<T, F>(
        &mut self,
        master: usize,
        work: impl Fn(&quorate_store::Started) -> F,
    ) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let until = self.now + SIM_BOOT_MAX;
        let work = loop {
            if let Some(work) = self.nodes[master].started(&work) {
                break work;
            }
            if self.now > until {
                bail!("m{} does not start: {:?}", master + 1, self.broken);
            }
            self.pass(self.tick)?;
        };
        let (done, mut answer) = tokio::sync::oneshot::channel();
        self.nodes[master].spawn(async move { drop(done.send(work.await)) });
        loop {
            match answer.try_recv() {
                Ok(answer) => return Ok(answer),
                Err(_) if self.now > until => bail!("m{} does not answer", master + 1),
                Err(_) => self.pass(self.tick)?,
            }
        }
    }

    /// Lets the world go on.
    pub(super) fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = self.now + time;
        while self.now < until {
            self.now += self.tick;
            while self.queue.peek().is_some_and(|due| due.0.at <= self.now) {
                if let Some(Reverse(due)) = self.queue.pop() {
                    self.happen(due.event)?;
                }
            }
            for node in &mut self.nodes {
                node.run(self.now, self.tick);
            }
            for sent in self.outbox.take() {
                self.carry(sent);
            }
            for master in std::mem::take(&mut self.doomed) {
                self.crash(master, true);
                self.starts_soon(master);
            }
            self.ticks += 1;
            if self.ticks.is_multiple_of(LOOK_EVERY) {
                self.look();
            }
        }
        Ok(())
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.number += 1;
        let due = Due { at: self.now + after, number: self.number, event };
        self.queue.push(Reverse(due));
    }

    fn travel(&mut self) -> Duration {
        self.random.random_range(self.weather.least..=self.weather.most)
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.random.random_range(0..1000) < of_thousand
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    fn carry(&mut self, sent: Sent) {
        let travel = self.travel();
        self.trace.note(self.now, format_args!("{}", sent.told()));
        match sent {
            Sent::Request { from, to, request, answer } => {
                let Some(to) = self.nodes.iter().position(|node| node.id == to) else {
                    // Its `send` fails when the asker has gone.
                    let _ = answer.send(Err(Undelivered::NotConnected));
                    return;
                };
                self.number += 1;
                let exchange = self.number;
                let method = request.method().to_owned();
                self.waiting.insert(exchange, Exchanging { from, to, method, waiting: answer });
                if self.nodes[to].life.is_none() {
                    let why = Undelivered::NotConnected;
                    return self.later(travel, Event::Broke { exchange, why });
                }
                if self.chance(self.weather.lost) {
                    return;
                }
                if self.chance(self.weather.twice) {
                    let (again, request) = (self.travel(), request.clone());
                    self.later(again, Event::Arrives { from, to, exchange, request });
                }
                self.later(travel, Event::Arrives { from, to, exchange, request });
            }
            Sent::Answer { from, exchange, answer, .. } => {
                let Some(exchanging) = self.waiting.get(&exchange) else { return };
                let to = exchanging.from;
                let method = exchanging.method.as_str();
                if let Some(trap) = self.traps.iter().position(|trap| *trap == (from, method)) {
                    self.traps.swap_remove(trap);
                    self.doomed.push(from);
                }
                if !self.chance(self.weather.lost) {
                    self.later(travel, Event::Answered { from, to, exchange, answer });
                }
            }
            Sent::Told { operation, told, .. } => {
                self.later(travel, Event::Tells { operation, told });
            }
            Sent::Seen { cursor, changes, up_to, .. } => {
                let follower = &mut self.watchers[cursor.watcher];
                if follower.number != cursor.number {
                    return;
                }
                if follower.told.sent.len() > TOLD_MAX {
                    let text = format!("{} was told far more than happened", follower.told.name);
                    if self.broken.len() < BROKEN_MAX {
                        self.broken.push(("watches", text));
                    }
                    return;
                }
                for client::Change { revision, change } in changes {
                    follower.told.sent.push(WatchSent::Event(revision, change));
                }
                follower.told.sent.push(WatchSent::Bookmark(up_to));
            }
            Sent::Lost { cursor, error, .. } => {
                if self.watchers[cursor.watcher].number == cursor.number {
                    let name = &self.watchers[cursor.watcher].told.name;
                    self.broken.push(("watches", format!("{name} was ended: {error}")));
                }
            }
            Sent::Applied { from, index, revision, hash } => {
                self.applied(from, index, (revision, hash))
            }
        }
    }

    /// State machine safety (Raft, figure 3): whoever has applied the same entries has the same state.
    fn applied(&mut self, from: usize, index: u64, state: (u64, u128)) {
        let (first, revision, hash) = *self.states.entry(index).or_insert((from, state.0, state.1));
        if (revision, hash) != state && self.broken.len() < BROKEN_MAX {
            self.broken.push((
                "state",
                format!(
                    "after entry {index} m{} is at revision {revision} with the hash {hash:032x}, \
                     m{} at {} with {:032x}",
                    first + 1,
                    from + 1,
                    state.0,
                    state.1
                ),
            ));
        }
        while self.states.len() > STATES_MAX {
            self.states.pop_first();
        }
    }

    fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Arrives { from, to, exchange, request } => {
                self.arrives(from, to, exchange, request);
            }
            Event::Answered { from, to, exchange, answer } => {
                if !self.cuts.contains_key(&(from, to))
                    && let Some(Exchanging { waiting, .. }) = self.waiting.remove(&exchange)
                {
                    // Whoever asked may wait no longer.
                    let _ = waiting.send(Ok(answer));
                }
            }
            Event::Broke { exchange, why } => {
                if let Some(Exchanging { waiting, .. }) = self.waiting.remove(&exchange) {
                    let _ = waiting.send(Err(why));
                }
            }
            Event::Calls { client } => self.calls(client),
            Event::Asks { operation, master, asked } => self.asks(operation, master, asked),
            Event::Tells { operation, told } => self.tells(operation, Some(told)),
            Event::GivesUp { operation } => self.tells(operation, None),
            Event::Starts { master } => {
                if self.nodes[master].life.is_none() && !self.nodes[master].lost {
                    self.start(master)?;
                }
            }
            Event::Begins { step } => self.begin(step)?,
            Event::Ends { step } => self.end(step)?,
            Event::Follows { watcher } => self.follows(watcher),
            Event::Compacts => {
                for node in &self.nodes {
                    if let Some(store) = node.started(|started| started.store.clone()) {
                        node.spawn(client::compact(store));
                    }
                }
                self.later(SIM_COMPACT_EVERY, Event::Compacts);
            }
        }
        Ok(())
    }

    fn arrives(&mut self, from: usize, to: usize, exchange: Exchange, request: Packed) {
        if self.cuts.contains_key(&(from, to)) {
            return;
        }
        let id = self.nodes[from].id;
        let Some(life) = &self.nodes[to].life else {
            let why = Undelivered::Broken;
            return self.later(Duration::ZERO, Event::Broke { exchange, why });
        };
        let Some(service) = life.wire.service() else {
            let why = Undelivered::NotConnected;
            return self.later(Duration::ZERO, Event::Broke { exchange, why });
        };
        let connected = || service.connected(id);
        self.connections.entry((from, to)).or_insert_with(connected);
        let wire = life.wire.clone();
        self.nodes[to].spawn(host::answer(wire, service, id, exchange, request));
    }

    pub(super) fn start(&mut self, master: usize) -> anyhow::Result<()> {
        self.trace.note(self.now, format_args!("m{} starts", master + 1));
        let (directory, outbox) = (self.directory.clone(), self.outbox.clone());
        self.nodes[master].start(master, &directory, &outbox)
    }

    /// Somebody watches the process.
    pub(super) fn starts_soon(&mut self, master: usize) {
        let down = Duration::from_millis(self.random.random_range(0..100));
        self.later(down, Event::Starts { master });
    }

    /// Who says that it leads.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| {
            let leadership = node.started(|started| started.store.leadership())?;
            let leads = matches!(*leadership.borrow(), quorate_store::Leadership::Leader { .. });
            Some(leads)
        };
        self.nodes.iter().position(|node| leads(node) == Some(true))
    }

    /// The faults of a plan come, from now on.
    pub(super) fn suffer(&mut self, plan: Plan) {
        for (step, fault) in plan.iter().enumerate() {
            self.later(Duration::from_millis(fault.at_ms), Event::Begins { step });
        }
        self.plan = plan;
    }

    pub(super) fn ends(&mut self, step: usize, after: Duration) {
        self.later(after, Event::Ends { step });
    }

    /// The process ends; its connections break, and whoever waits for it is told.
    pub(super) fn crash(&mut self, master: usize, power: bool) {
        if !self.nodes[master].crash(power) {
            return;
        }
        self.trace.note(self.now, format_args!("m{} ends", master + 1));
        // What it had handed out and not sent yet goes with it.
        for sent in self.outbox.take() {
            if sent.from() != master {
                self.carry(sent);
            }
        }
        for watcher in 0..self.watchers.len() {
            if self.watchers[watcher].master == master {
                self.moves(watcher);
            }
        }
        self.connections.retain(|(from, to), _| *from != master && *to != master);
        self.waiting.retain(|_, exchanging| exchanging.from != master);
        let broken: Vec<Exchange> = self
            .waiting
            .iter()
            .filter(|(_, exchanging)| exchanging.to == master)
            .map(|(exchange, _)| *exchange)
            .collect();
        for exchange in broken {
            let travel = self.travel();
            self.later(travel, Event::Broke { exchange, why: Undelivered::Broken });
        }
    }

    /// How many operations had an answer.
    pub(super) fn answered(&self) -> usize {
        self.history.iter().filter(|(_, operation)| operation.output().is_some()).count()
    }

    // === watchers ===

    /// A watcher leaves the master that it is at, and asks another soon.
    fn moves(&mut self, watcher: usize) {
        self.watchers[watcher].number += 1;
        let pause = self.pause();
        self.later(pause, Event::Follows { watcher });
    }

    fn follows(&mut self, watcher: usize) {
        let master = self.random.random_range(0..self.nodes.len());
        let Some(store) = self.nodes[master].started(|started| started.store.clone()) else {
            return self.moves(watcher);
        };
        let follower = &mut self.watchers[watcher];
        follower.master = master;
        follower.number += 1;
        let cursor = Cursor { watcher, number: follower.number };
        let (after, outbox) = (follower.at(), self.outbox.clone());
        self.nodes[master].spawn(client::follow(store, after, master, cursor, outbox));
        // Nobody stays anywhere for ever.
        let stays = Duration::from_millis(self.random.random_range(2000..60_000));
        self.later(stays, Event::Follows { watcher });
    }

    // === clients ===

    /// Clients begin, or stop, to call.
    pub(super) fn clients(&mut self, call: bool) {
        self.calling = call;
        for client in 0..if call { self.clients.len() } else { 0 } {
            let pause = self.pause();
            self.later(pause, Event::Calls { client });
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(50..900))
    }

    fn calls(&mut self, client: usize) {
        if !self.calling {
            return;
        }
        let key = self.random.random_range(0..self.keys);
        self.values += 1;
        let (value, master) = (self.values, self.clients[client].master);
        let known = self.clients[client].known.get(&key).copied();
        let (input, at) = match (self.random.random_range(0..100), known) {
            (40..75, Some((from, at))) => (RegisterInput::Swap { from, to: value }, at),
            (75..92, _) => (RegisterInput::Create(value), 0),
            (92.., _) => (RegisterInput::Delete, 0),
            _ => (RegisterInput::Read, 0),
        };
        let asked = Asked { key, input, at };
        self.number += 1;
        self.callers += 1;
        let (operation, number) = (self.number, self.callers);
        let under_way = UnderWay { client, number, called: self.now, asked: asked.clone() };
        self.under_way.insert(operation, under_way);
        let travel = self.travel();
        self.later(travel, Event::Asks { operation, master, asked });
        self.later(SIM_ANSWER_MAX, Event::GivesUp { operation });
    }

    fn asks(&mut self, operation: u64, master: usize, asked: Asked) {
        let outbox = self.outbox.clone();
        let found = self.nodes[master].started(|started| started.store.clone());
        let Some(store) = found else {
            return self.tells(operation, Some(Told::Refused));
        };
        self.nodes[master].spawn(async move {
            let told = client::carry_out(&store, &asked).await;
            outbox.send(Sent::Told { from: master, operation, told });
        });
    }

    fn tells(&mut self, operation: u64, told: Option<Told>) {
        let Some(UnderWay { client, number, called, asked }) = self.under_way.remove(&operation)
        else {
            return;
        };
        let outcome = match told {
            Some(Told::Done(output, revision)) => {
                let known = &mut self.clients[client].known;
                match (&asked.input, &output) {
                    (RegisterInput::Read, RegisterOutput::Value(value)) => {
                        known.insert(asked.key, (*value, revision));
                    }
                    (
                        RegisterInput::Create(value) | RegisterInput::Swap { to: value, .. },
                        RegisterOutput::Written,
                    ) => {
                        known.insert(asked.key, (*value, revision));
                        let kind = match asked.input {
                            RegisterInput::Create(_) => watch::Kind::Added,
                            _ => watch::Kind::Modified,
                        };
                        let key = client::name(asked.key);
                        let change = watch::Change { key, kind, digest: *value };
                        self.acknowledged.push((revision, change));
                    }
                    _ => drop(known.remove(&asked.key)),
                }
                Some(Outcome::Done { at: tick_of(self.now), output })
            }
            Some(Told::Refused) => None,
            Some(Told::Unknown) | None => Some(Outcome::Unknown),
        };
        let answered = matches!(outcome, Some(Outcome::Done { .. }));
        // A read without an answer tells nothing.
        let tells = answered || asked.input != RegisterInput::Read;
        if let Some(outcome) = outcome.filter(|_| tells) {
            let input = asked.input;
            let operation = Operation { client: number, called: tick_of(called), input, outcome };
            self.history.push((asked.key, operation));
        }
        if !answered {
            self.clients[client].master = self.random.random_range(0..self.nodes.len());
        }
        let pause = self.pause();
        self.later(pause, Event::Calls { client });
    }

    // === what is looked at all the time ===

    fn look(&mut self) {
        let mut refused = Vec::new();
        for (position, node) in self.nodes.iter().enumerate() {
            let Some(life) = &node.life else { continue };
            let told = match &*slot(&life.slot) {
                Start::Done(started) => {
                    let leadership = started.store.leadership();
                    if let quorate_store::Leadership::Leader { term, .. } = *leadership.borrow() {
                        self.leaders.entry(term).or_default().insert(node.id.0);
                    }
                    match &*started.masters.fatal().borrow() {
                        Some(_) if node.disk.harmed() || life.stopping => continue,
                        Some(fatal) => format!("m{} ended by itself: {fatal}", position + 1),
                        None => continue,
                    }
                }
                Start::Failed(_) if node.disk.harmed() => continue,
                Start::Failed(_) if node.flipped => {
                    refused.push(position);
                    continue;
                }
                Start::Failed(error) => format!("m{} does not start: {error}", position + 1),
                Start::Under => continue,
            };
            if !self.broken.iter().any(|(_, known)| *known == told) {
                self.broken.push(("process", told));
            }
        }
        for master in refused {
            self.crash(master, false);
            self.nodes[master].lost = true;
        }
    }
}
