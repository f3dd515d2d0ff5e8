//! Connections between agents and masters, and what happens to agents.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quorate_api_server::identity::User;

use super::agent::{AGENTS, Dialling};
use super::host::Sent;
use super::pipe::{End, Line, Pipe, Side};
use super::world::{Event, World};
use crate::limits::SIM_LINE_STUCK_MAX;

/// What a link did not carry is sent again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    agent: usize,
    master: usize,
    /// Towards the agent, towards the master.
    ways: [Way; 2],
}

/// One direction of it.
#[derive(Debug, Default)]
struct Way {
    end: End,
    /// What is on its way, and when it arrives; no bytes: the end.
    under_way: VecDeque<(Duration, Option<Bytes>)>,
    /// An event will look at it.
    awaited: bool,
    stuck_since: Option<Duration>,
}

fn number(to: Side) -> usize {
    match to {
        Side::Agent => 0,
        Side::Master => 1,
    }
}

impl World {
    /// An agent dials a master.
    pub(super) fn dials(&mut self, from: usize, to: usize, answer: Dialling) {
        let travel = self.travel();
        self.later(travel, Event::Rings { from, to, answer });
    }

    /// The call has arrived.
    pub(super) fn rings(&mut self, from: usize, to: usize, answer: Dialling) {
        if self.is_cut(from, to) || self.is_cut(to, from) {
            // Nobody hears it; the agent waits until it is tired of it.
            self.unanswered.push((from, answer));
            return;
        }
        let user = User {
            name: format!("system:node:{}", self.agents[from - AGENTS].name),
            groups: vec!["system:nodes".to_owned()],
            ..User::default()
        };
        let door = self.nodes[to].up(|up| up.door(user)).flatten();
        let Some(door) = door else {
            let _ = answer.send(None);
            return;
        };
        let line = self.next_number();
        let connection =
            Connection { agent: from, master: to, ways: [Way::default(), Way::default()] };
        let pipe = |from, side: Side| Pipe {
            from,
            line,
            side,
            end: connection.ways[number(side)].end.clone(),
            outbox: self.outbox.clone(),
        };
        let (agents, masters) = (pipe(from, Side::Agent), pipe(to, Side::Master));
        self.lines.insert(line, connection);
        self.nodes[to].spawn(door.serve(masters));
        // Whoever dialled may have gone: then the pipe is dropped, which hangs up.
        let _ = answer.send(Some(agents));
    }

    /// One side has written.
    pub(super) fn writes(&mut self, line: Line, side: Side, bytes: Option<Bytes>) {
        let lost = if self.chance(self.weather.lost) { AGAIN_AFTER } else { Duration::ZERO };
        let arrives = self.now + self.travel() + lost;
        let Some(connection) = self.lines.get_mut(&line) else { return };
        let to = side.other();
        let way = &mut connection.ways[number(to)];
        // In order, as TCP has it.
        let arrives = way.under_way.back().map_or(arrives, |(last, _)| arrives.max(*last));
        way.under_way.push_back((arrives, bytes));
        if !std::mem::replace(&mut way.awaited, true) {
            self.later(arrives.saturating_sub(self.now), Event::Flows { line, to });
        }
    }

    /// What is due arrives.
    pub(super) fn flows(&mut self, line: Line, to: Side) {
        let (now, Some(connection)) = (self.now, self.lines.get(&line)) else { return };
        let ends = match to {
            Side::Agent => (connection.master, connection.agent),
            Side::Master => (connection.agent, connection.master),
        };
        let cut = self.is_cut(ends.0, ends.1);
        let Some(connection) = self.lines.get_mut(&line) else { return };
        let way = &mut connection.ways[number(to)];
        way.awaited = false;
        if cut {
            let since = *way.stuck_since.get_or_insert(now);
            if now - since > SIM_LINE_STUCK_MAX {
                return self.breaks(line);
            }
            way.awaited = true;
            return self.later(AGAIN_AFTER, Event::Flows { line, to });
        }
        way.stuck_since = None;
        while way.under_way.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, bytes)) = way.under_way.pop_front() {
                way.end.arrive(bytes);
            }
        }
        if let Some((next, _)) = way.under_way.front() {
            way.awaited = true;
            let after = next.saturating_sub(now);
            self.later(after, Event::Flows { line, to });
        }
    }

    /// Both ends learn that nothing comes any more.
    fn breaks(&mut self, line: Line) {
        if let Some(connection) = self.lines.remove(&line) {
            connection.ways.iter().for_each(|way| way.end.arrive(None));
        }
    }

    /// Somebody's connections end with it. `silent`: the others are not told, as when a machine is off.
    pub(super) fn hang_up(&mut self, endpoint: usize, silent: bool) {
        let of =
            |connection: &Connection| connection.agent == endpoint || connection.master == endpoint;
        let lines = self.lines.iter().filter(|(_, connection)| of(connection));
        let lines: Vec<Line> = lines.map(|(line, _)| *line).collect();
        for line in lines {
            match silent {
                true => drop(self.lines.remove(&line)),
                false => self.breaks(line),
            }
        }
        self.unanswered.retain(|(from, _)| *from != endpoint);
    }

    /// Whether a link carries nothing.
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    pub(super) fn start_agent(&mut self, index: usize) -> anyhow::Result<()> {
        self.note(format_args!("n{} starts", index + 1));
        let (now, masters, outbox) = (self.now, self.nodes.len(), self.outbox.clone());
        self.agents[index].start(now, masters, &outbox)
    }

    /// The agent ends, alone or with its machine.
    pub(super) fn crash_agent(&mut self, index: usize, power: bool) {
        if !self.agents[index].crash(self.now, power) {
            return;
        }
        self.note(format_args!("n{} ends", index + 1));
        let endpoint = self.agents[index].endpoint;
        for sent in self.outbox.take() {
            if sent.from() != endpoint {
                self.carry(sent);
            }
        }
        self.hang_up(endpoint, power);
    }
}

/// What agents and masters hand to the world of their connections.
pub(super) fn told(sent: &Sent) -> Option<String> {
    match sent {
        Sent::Dials { from, to, .. } => Some(format!("n{} dials m{}", from - AGENTS + 1, to + 1)),
        // Not how many: there are dates in it, which are not as long every day.
        Sent::Bytes { line, side, bytes, .. } => {
            let end = if bytes.is_none() { " the end" } else { "" };
            Some(format!("{line} {side:?}{end}"))
        }
        _ => None,
    }
}
