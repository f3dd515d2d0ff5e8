//! The world: one clock, one list of what is to happen, and masters that live from tick to tick.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use quorate_pki::{Authority, ClusterKeys};
use quorate_raft::host::{PeerResponse, Presence, Undelivered};
use quorate_raft::{FIRST_NODE_ID, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::OVER;
use super::agent::{AgentNode, Dialling};
use super::client::{self, Asked, Told};
use super::disaster::Era;
use super::host::{self, Exchange, Outbox, Packed, Sent, Waiting};
use super::joins::Admitted;
use super::judge::Found;
use super::kube::{Kube, Used};
use super::lines::Connection;
use super::node::{self, Common, Node, Start, Up, slot};
use super::pipe::{Line, Side};
use super::plan::{Kind, Plan};
use super::points::Points;
use super::trace::Trace;
use super::users::{Client, Follower, UnderWay};
use crate::check::memberships::Course;
use crate::check::watch::{self, Watcher};
use crate::history::Operation;
use crate::limits::{
    SIM_BOOT_MAX, SIM_COMPACT_EVERY, SIM_HISTORY_CHANGES, SIM_HISTORY_CHANGES_WITH_NODES, SIM_TICK,
};
use crate::model::{RegisterInput, RegisterOutput};

/// Ticks between two looks at every master.
const LOOK_EVERY: u64 = 8;

/// Ticks between two looks at the members.
const MEMBERS_EVERY: u64 = 4 * LOOK_EVERY;

/// Ticks after which agents live for as many: they have less to do.
const AGENTS_EVERY: u64 = 4;

/// What a master says whose files are of an earlier time.
const WENT_BACK: &str = "are of an earlier time";

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    Arrives {
        from: usize,
        to: usize,
        /// Who they were when it was sent, as their certificates say.
        ids: (NodeId, NodeId),
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
    /// A master without a number asks for one.
    Joins {
        joiner: usize,
    },
    JoinerIsTold {
        joiner: usize,
        number: u64,
        admitted: Admitted,
    },
    /// An operator wants a standby to vote again.
    Promotes {
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
        number: u64,
    },
    /// The leader forgets old changes.
    Compacts,
    /// A call of an agent reaches a master.
    Rings {
        from: usize,
        to: usize,
        answer: Dialling,
    },
    /// What is under way on a connection arrives.
    Flows {
        line: Line,
        to: Side,
    },
    /// The user of Deployments does the next thing.
    Uses,
    UserIsTold {
        step: u64,
        used: Used,
    },
    UserGivesUp {
        step: u64,
    },
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

/// A vote: its term, and for whom.
pub(super) type Voted = (u64, u64);

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
    pub(super) agents: Vec<AgentNode>,
    pub(super) lines: BTreeMap<Line, Connection>,
    /// Calls that nobody hears.
    pub(super) unanswered: Vec<(usize, Dialling)>,
    pub(super) kube: Kube,
    pub(super) weather: Weather,
    /// Links that carry nothing, and how many faults want that: from, to.
    pub(super) cuts: BTreeMap<(usize, usize), u32>,
    /// Those that each step of the plan has cut.
    pub(super) cut_by: BTreeMap<usize, Vec<(usize, usize)>>,
    pub(super) common: Common,
    /// Who waits for a number, and for the answer to which question.
    pub(super) joining: BTreeMap<usize, u64>,
    /// All that were ever given.
    pub(super) numbers: BTreeSet<NodeId>,
    /// All memberships that masters had.
    pub(super) members: Course,
    /// The faults are over.
    pub(super) healed: bool,
    /// The time since all was lost last.
    pub(super) era: Era,
    pub(super) plan: Plan,
    /// What happened, how often.
    pub(super) faults: BTreeMap<Kind, usize>,
    pub(super) history: Vec<(usize, Operation<RegisterInput, RegisterOutput>)>,
    pub(super) watchers: Vec<Follower>,
    pub(super) acknowledged: Vec<(u64, watch::Change)>,
    /// Who led in each term, as masters said.
    pub(super) leaders: BTreeMap<u64, BTreeSet<u64>>,
    pub(super) broken: Vec<Found>,
    /// Of each master: the highest vote that it has given before its last start, and since.
    pub(super) votes: Vec<(Voted, Voted)>,
    /// Revision and hash after an index, and who said so first.
    pub(super) states: BTreeMap<u64, (usize, u64, u128)>,
    pub(super) trace: Trace,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
    pub(super) outbox: Outbox,
    waiting: BTreeMap<Exchange, Exchanging>,
    /// Who loses power when it has answered a request of this method.
    pub(super) traps: Vec<(usize, &'static str)>,
    doomed: Vec<usize>,
    pub(super) points: Points,
    /// How often masters ended at which point.
    pub(super) passed: BTreeMap<&'static str, usize>,
    connections: BTreeMap<(usize, usize), Presence>,
    pub(super) clients: Vec<Client>,
    pub(super) under_way: BTreeMap<u64, UnderWay>,
    pub(super) values: u64,
    pub(super) callers: u32,
    pub(super) directory: PathBuf,
    pub(super) calling: bool,
    pub(super) keys: usize,
    ticks: u64,
    beat: Arc<AtomicU64>,
    /// How finely time is cut.
    tick: Duration,
}

pub(super) fn tick_of(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    /// A cluster of so many masters, all of them voters, and so many nodes.
    pub(super) fn new(
        seed: u64,
        (masters, agents): (usize, usize),
        clients: usize,
        (directory, beat): (PathBuf, Arc<AtomicU64>),
    ) -> anyhow::Result<Self> {
        let now = jiff::Timestamp::now();
        let keys = (agents > 0).then(|| ClusterKeys::generate("simulation", now)).transpose()?;
        let outbox = Outbox::default();
        let mut world = Self {
            now: Duration::ZERO,
            random: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            agents: Vec::new(),
            lines: BTreeMap::new(),
            unanswered: Vec::new(),
            kube: Kube::default(),
            weather: Weather::FAIR,
            cuts: BTreeMap::new(),
            cut_by: BTreeMap::new(),
            common: Common::new(Authority::generate("simulation", now)?, keys),
            joining: BTreeMap::new(),
            numbers: BTreeSet::new(),
            members: Course::default(),
            healed: false,
            era: Era::default(),
            plan: Plan::new(),
            faults: BTreeMap::new(),
            history: Vec::new(),
            watchers: Vec::new(),
            acknowledged: Vec::new(),
            leaders: BTreeMap::new(),
            broken: Vec::new(),
            votes: vec![Default::default(); masters],
            states: BTreeMap::new(),
            trace: Trace::default(),
            queue: BinaryHeap::new(),
            number: 0,
            outbox: outbox.clone(),
            waiting: BTreeMap::new(),
            traps: Vec::new(),
            doomed: Vec::new(),
            points: Points::new(&outbox),
            passed: BTreeMap::new(),
            connections: BTreeMap::new(),
            clients: Vec::new(),
            under_way: BTreeMap::new(),
            values: 0,
            callers: 0,
            directory,
            calling: false,
            keys: 6,
            ticks: 0,
            beat,
            tick: SIM_TICK * u32::try_from(1 + seed % 3).unwrap_or(1),
        };
        world.found()?;
        for position in 1..masters {
            world.join(position)?;
        }
        for agent in 0..agents {
            world.agents.push(AgentNode::new(agent, &world.directory));
            world.start_agent(agent)?;
        }
        for client in 0..clients {
            let master = client % masters;
            world.clients.push(Client { master, known: BTreeMap::new() });
        }
        world.later(SIM_COMPACT_EVERY, Event::Compacts);
        for watcher in 0..masters {
            let told = Watcher { name: format!("watcher {}", watcher + 1), ..Watcher::default() };
            world.watchers.push(Follower::new(told, watcher));
            world.later(Duration::ZERO, Event::Follows { watcher, number: 0 });
        }
        Ok(world)
    }

    fn found(&mut self) -> anyhow::Result<()> {
        self.add(0, FIRST_NODE_ID)?;
        let founded = self.ask(0, |up| {
            let masters = up.masters.clone();
            async move { masters.initialize().await.map_err(|error| error.to_string()) }
        })?;
        founded.map_err(anyhow::Error::msg)
    }

    fn add(&mut self, position: usize, id: NodeId) -> anyhow::Result<()> {
        let seed = self.random.random();
        let mut node = Node::new(position, &self.common, seed);
        node.admit(id, &self.common)?;
        self.numbers.insert(id);
        self.nodes.push(node);
        self.start(position)
    }

    /// As `quorate server --join` has it: admitted, started empty, promoted when it is level.
    fn join(&mut self, position: usize) -> anyhow::Result<()> {
        let member = node::member(position);
        let admitted = self.retry(|world| {
            world.ask(0, |up| {
                let (masters, member) = (up.masters.clone(), member.clone());
                async move { masters.admit(&member).await.map_err(|error| error.to_string()) }
            })
        })?;
        self.add(position, admitted)?;
        self.retry(|world| {
            world.ask(0, |up| {
                let masters = up.masters.clone();
                async move {
                    masters.promote([admitted].into()).await.map_err(|error| error.to_string())
                }
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
    pub(super) fn ask<T, F>(&mut self, master: usize, work: impl Fn(&Up) -> F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let until = self.now + SIM_BOOT_MAX;
        let work = loop {
            if let Some(work) = self.nodes[master].up(&work) {
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
            for (position, node) in self.nodes.iter_mut().enumerate() {
                self.points.lives(Some(position));
                node.run(self.now, self.tick);
            }
            self.points.lives(None);
            if self.ticks.is_multiple_of(AGENTS_EVERY) {
                let tick = self.tick * u32::try_from(AGENTS_EVERY).unwrap_or(1);
                for agent in &mut self.agents {
                    agent.run(self.now, tick);
                }
            }
            let sent = self.outbox.take();
            self.carry_until_ends(sent);
            for master in std::mem::take(&mut self.doomed) {
                self.crash(master, true);
                self.starts_soon(master);
            }
            self.ticks += 1;
            self.beat.store(self.ticks, Ordering::Relaxed);
            if self.ticks.is_multiple_of(LOOK_EVERY) {
                self.look_at_leavers()?;
                if self.ticks.is_multiple_of(MEMBERS_EVERY) {
                    self.look_at_stillborn()?;
                }
                self.look();
            }
        }
        Ok(())
    }

    /// No more time passes, and nobody need watch whether it does.
    pub(super) fn over(&self) {
        self.beat.store(OVER, Ordering::Relaxed);
    }

    /// A number that nothing else has.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn later(&mut self, after: Duration, event: Event) {
        self.number += 1;
        let due = Due { at: self.now + after, number: self.number, event };
        self.queue.push(Reverse(due));
    }

    pub(super) fn travel(&mut self) -> Duration {
        self.random.random_range(self.weather.least..=self.weather.most)
    }

    pub(super) fn chance(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.random.random_range(0..1000) < of_thousand
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub(super) fn carry(&mut self, sent: Sent) {
        let travel = self.travel();
        self.trace.note(self.now, format_args!("{}", sent.told()));
        match sent {
            Sent::Request { from, to, request, answer } => {
                let Some(to) = self.nodes.iter().position(|node| node.id == to) else {
                    // Its `send` fails when the asker has gone.
                    let _ = answer.send(Err(Undelivered::NotConnected));
                    return;
                };
                let ids = (self.nodes[from].id, self.nodes[to].id);
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
                let is_call = self.waiting.get(&exchange).is_some_and(|one| one.method == "Call");
                // Raft's own messages may come twice. What is called once is carried out once at most over TCP: were it
                // not, the refusal of one copy would say nothing of the other.
                if self.chance(self.weather.twice) && !is_call {
                    let (again, request) = (self.travel(), request.clone());
                    self.later(again, Event::Arrives { from, to, ids, exchange, request });
                }
                self.later(travel, Event::Arrives { from, to, ids, exchange, request });
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
            Sent::Seen { cursor, changes, up_to, .. } => self.seen(cursor, changes, up_to),
            Sent::Lost { cursor, error, .. } => {
                let follower = &self.watchers[cursor.watcher];
                if follower.number == cursor.number && follower.stale.is_some() {
                    self.past_is_gone(cursor.watcher);
                } else if follower.number == cursor.number {
                    let name = &self.watchers[cursor.watcher].told.name;
                    self.broken.push(("watches", format!("{name} was ended: {error}")));
                }
            }
            Sent::Joined { joiner, number, admitted, .. } => {
                self.later(travel, Event::JoinerIsTold { joiner, number, admitted });
            }
            Sent::BackedUp { era, backup, .. } => self.backed_up(era, *backup),
            Sent::Dials { from, to, answer } => self.dials(from, to, answer),
            Sent::Bytes { line, side, bytes, .. } => self.writes(line, side, bytes),
            Sent::Used { step, used, .. } => self.later(travel, Event::UserIsTold { step, used }),
            Sent::Bound { bound, .. } => self.bound(bound),
            Sent::Voted { from, vote, given } => self.voted(from, vote, given),
            Sent::Applied { from, index, revision, hash } => {
                self.applied(from, index, (revision, hash))
            }
        }
    }

    fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Arrives { from, to, ids, exchange, request } => {
                self.arrives((from, to), ids, exchange, request);
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
                if self.nodes[master].life.is_none() && self.nodes[master].takes_part() {
                    self.start(master)?;
                }
            }
            Event::Joins { joiner } => self.joins(joiner),
            Event::JoinerIsTold { joiner, number, admitted } => {
                self.joiner_is_told(joiner, number, admitted)?;
            }
            Event::Promotes { master } => self.promotes(master),
            Event::Begins { step } => self.begin(step)?,
            Event::Ends { step } => self.end(step)?,
            Event::Follows { watcher, number } => self.follows(watcher, number),
            Event::Rings { from, to, answer } => self.rings(from, to, answer),
            Event::Flows { line, to } => self.flows(line, to),
            Event::Uses => self.uses(),
            Event::UserIsTold { step, used } => self.used(step, Some(used)),
            Event::UserGivesUp { step } => self.used(step, None),
            Event::Compacts => {
                let leave = match self.agents.len() {
                    0 => SIM_HISTORY_CHANGES,
                    _ => SIM_HISTORY_CHANGES_WITH_NODES,
                };
                for node in &self.nodes {
                    if let Some(store) = node.up(|up| up.store.clone()) {
                        node.spawn(client::compact(store, leave));
                    }
                }
                self.backs_up();
                self.later(SIM_COMPACT_EVERY, Event::Compacts);
            }
        }
        Ok(())
    }

    fn arrives(
        &mut self,
        (from, to): (usize, usize),
        (id, meant): (NodeId, NodeId),
        exchange: Exchange,
        request: Packed,
    ) {
        if self.cuts.contains_key(&(from, to)) {
            return;
        }
        let life = self.nodes[to].life.as_ref().filter(|_| self.nodes[to].id == meant);
        let Some(life) = life else {
            let why = Undelivered::Broken;
            return self.later(Duration::ZERO, Event::Broke { exchange, why });
        };
        let Some(service) = life.wire.service() else {
            let why = Undelivered::NotConnected;
            return self.later(Duration::ZERO, Event::Broke { exchange, why });
        };
        let wire = life.wire.clone();
        // What the dead have sent still comes; their connection has ended with them.
        if self.nodes[from].id == id && self.nodes[from].life.is_some() {
            let connected = || service.connected(id);
            self.connections.entry((from, to)).or_insert_with(connected);
        }
        self.nodes[to].spawn(host::answer(wire, service, id, exchange, request));
    }

    pub(super) fn start(&mut self, master: usize) -> anyhow::Result<()> {
        self.trace.note(self.now, format_args!("m{} starts", master + 1));
        let (directory, outbox) = (self.directory.clone(), self.outbox.clone());
        self.nodes[master].start(master, self.now, &directory, &outbox)
    }

    /// Somebody watches the process.
    pub(super) fn starts_soon(&mut self, master: usize) {
        let down = Duration::from_millis(self.random.random_range(0..100));
        self.later(down, Event::Starts { master });
    }

    /// Who says that it leads.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| {
            let leadership = node.up(|up| up.store.leadership())?;
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
        let (before, since) = &mut self.votes[master];
        *before = (*before).max(*since);
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
        self.hang_up(master, power);
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
        let now = self.history.iter().filter(|(_, operation)| operation.output().is_some());
        self.era.answered_before + now.count()
    }

    // === what is looked at all the time ===

    fn look(&mut self) {
        if self.ticks.is_multiple_of(MEMBERS_EVERY) {
            if let Some(leader) = self.leader() {
                self.look_at_voters(leader);
            }
            self.look_at_members();
        }
        let mut refused = Vec::new();
        for (position, node) in self.nodes.iter().enumerate() {
            let Some(life) = &node.life else { continue };
            let told = match &*slot(&life.slot) {
                Start::Done(up) => {
                    let leadership = up.store.leadership();
                    if let quorate_store::Leadership::Leader { term, .. } = *leadership.borrow() {
                        self.leaders.entry(term).or_default().insert(node.id.0);
                    }
                    match &*up.masters.fatal().borrow() {
                        Some(_) if node.disk.harmed() || life.stopping => continue,
                        // It found out.
                        Some(fatal) if node.hurt && fatal.to_string().contains(WENT_BACK) => {
                            refused.push(position);
                            continue;
                        }
                        Some(fatal) => format!("m{} ended by itself: {fatal}", position + 1),
                        None => continue,
                    }
                }
                Start::Failed(_) if node.disk.harmed() => continue,
                Start::Failed(_) if node.hurt => {
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
