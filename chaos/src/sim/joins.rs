//! Masters that join while faults come and go, that come back after they were taken out, and one that has lost its
//! directory and asks to be let in again.

use std::time::Duration;

use quorate_raft::NodeId;
use quorate_store::GroupError;
use rand::RngExt as _;

use super::host::Sent;
use super::judge::Found;
use super::node::Node;
use super::world::{Event, World};
use crate::check::membership::{self, Member, Membership};
use crate::limits::{SIM_ANSWER_MAX, SIM_MASTERS_MAX};

/// Of a thousand answers to joiners, those that are lost with the process that was to keep them.
const STILLBORN: u32 = 250;

/// What a joiner is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It has a number.
    As(NodeId),
    /// It will not be let in.
    Refused(String),
    /// Not now.
    Later,
}

impl World {
    /// Another master comes, if there is room; its position.
    pub(super) fn another_master(&mut self) -> anyhow::Result<Option<usize>> {
        if self.nodes.len() >= SIM_MASTERS_MAX {
            return Ok(None);
        }
        let (position, seed) = (self.nodes.len(), self.random.random());
        self.nodes.push(Node::new(position, &self.common, seed));
        self.votes.push(Default::default());
        self.later(Duration::ZERO, Event::Joins { joiner: position });
        Ok(Some(position))
    }

    /// The disk of a master is replaced by an empty one, and the master asks to be let in again.
    pub(super) fn wipe(&mut self, master: usize) -> anyhow::Result<()> {
        self.nodes[master].hurt = true;
        self.loses_disk(master, Duration::ZERO)
    }

    /// It gets an empty one, and asks to be let in some time later.
    pub(super) fn loses_disk(&mut self, master: usize, away: Duration) -> anyhow::Result<()> {
        self.crash(master, true);
        let node = &mut self.nodes[master];
        node.disk.clear();
        node.expel();
        (node.copy, node.went_back) = (None, false);
        // Who comes back is another voter, which has given no vote.
        self.votes[master] = Default::default();
        let directory = self.directory.join(&self.nodes[master].member.name);
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.later(away, Event::Joins { joiner: master });
        Ok(())
    }

    /// A master without a number asks one that lives for it.
    pub(super) fn joins(&mut self, joiner: usize) {
        let node = &self.nodes[joiner];
        if node.is_member() || node.lost || self.joining.contains_key(&joiner) {
            return;
        }
        let asked = self.random.random_range(0..self.nodes.len());
        let Some(masters) = self.nodes[asked].up(|up| up.masters.clone()) else {
            let pause = self.pause();
            return self.later(pause, Event::Joins { joiner });
        };
        let number = self.next_number();
        self.joining.insert(joiner, number);
        let (member, outbox) = (self.nodes[joiner].member.clone(), self.outbox.clone());
        self.nodes[asked].spawn(async move {
            let admitted = match masters.admit(&member).await {
                Ok(id) => Admitted::As(id),
                Err(GroupError::Refused(why)) => Admitted::Refused(why),
                Err(_) => Admitted::Later,
            };
            outbox.send(Sent::Joined { from: asked, joiner, number, admitted });
        });
        let admitted = Admitted::Later;
        self.later(SIM_ANSWER_MAX, Event::JoinerIsTold { joiner, number, admitted });
    }

    /// It hears of one, or waits no longer.
    pub(super) fn joiner_is_told(
        &mut self,
        joiner: usize,
        number: u64,
        admitted: Admitted,
    ) -> anyhow::Result<()> {
        if self.joining.get(&joiner) != Some(&number) {
            return Ok(());
        }
        self.joining.remove(&joiner);
        if let Admitted::As(id) = &admitted
            && !self.numbers.insert(*id)
        {
            let text = format!("m{} was given {id}, which was given before", joiner + 1);
            self.broken.push(("membership", text));
        }
        let stillborn = !self.nodes[joiner].hurt && self.chance(STILLBORN);
        match admitted {
            Admitted::As(id) if !stillborn => {
                self.nodes[joiner].admit(id, &self.common)?;
                return self.start(joiner);
            }
            // As it should be: whoever lost what it promised must not come back as the one who promised it.
            Admitted::Refused(_) if self.nodes[joiner].hurt => {
                self.nodes[joiner].lost = true;
                return Ok(());
            }
            Admitted::Refused(why) => {
                let text = format!("m{} was not let in: {why}", joiner + 1);
                self.broken.push(("membership", text));
                self.nodes[joiner].lost = true;
                return Ok(());
            }
            Admitted::As(_) | Admitted::Later => {}
        }
        let pause = self.pause();
        self.later(pause, Event::Joins { joiner });
        Ok(())
    }

    /// Nobody votes who has never been there (etcd's learners: a member that has nothing yet must not count).
    pub(super) fn look_at_voters(&mut self, leader: usize) {
        let Some(status) = self.nodes[leader].up(|up| up.masters.status()) else { return };
        for voter in status.members.iter().filter(|member| member.voter) {
            let has_run = |node: &Node| {
                (node.id == voter.id && node.has_lived) || node.former.contains(&voter.id)
            };
            let is_known = self.nodes.iter().any(has_run);
            let text = format!("{} votes, and has never run", voter.member.name);
            if !is_known && !self.broken.iter().any(|(_, known)| *known == text) {
                self.broken.push(("membership", text));
            }
        }
    }

    /// Whether everybody who came is a voter, and no change is half done.
    pub(super) fn all_vote(&self) -> bool {
        let Some(status) =
            self.leader().and_then(|leader| self.nodes[leader].up(|up| up.masters.status()))
        else {
            return false;
        };
        let votes = |node: &Node| status.members.iter().any(|m| m.id == node.id && m.voter);
        !status.joint && self.nodes.iter().all(|node| node.lost || votes(node))
    }

    /// In the end all masters know the same members, and all of these vote.
    pub(super) fn membership(&self) -> Vec<Found> {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.member.name.as_str()).collect();
        let mut all = Vec::new();
        for node in self.nodes.iter().filter(|node| !node.lost) {
            if node.went_back {
                let text =
                    format!("{} goes on with what it had at an earlier time", node.member.name);
                return vec![("membership", text)];
            }
            let Some(status) = node.up(|up| up.masters.status()) else {
                return vec![("membership", format!("{} does not say", node.member.name))];
            };
            if status.joint {
                let text = format!("{} knows of a change that is half done", node.member.name);
                return vec![("membership", text)];
            }
            let member = |known: &quorate_raft::MemberStatus| Member {
                name: known.member.name.clone(),
                id: known.id.0,
                voter: known.voter,
            };
            let leader = status.leader.and_then(|id| {
                let known = status.members.iter().find(|known| known.id == id)?;
                Some(known.member.name.clone())
            });
            let members = status.members.iter().map(member).collect();
            all.push(Membership { by: node.member.name.clone(), leader, members });
        }
        membership::wrong(&all, &names).into_iter().map(|text| ("membership", text)).collect()
    }
}
