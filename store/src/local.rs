//! A store without Raft: one process decides alone, in memory. For tests and simulations of
//! everything above the store; the commands go through the same codec as in production.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quorate_state_machine::{
    Command, Entry, GroupResource, LogIndex, Machine, Op, Outcome, Proposal, Reply, Revision, codec,
};
use tokio::sync::watch as signal;

use crate::consensus::{Consensus, Fence, Leadership, PublishedViews};
use crate::error::Error;

/// See the module.
#[derive(Debug)]
pub(crate) struct LocalConsensus {
    machine: Mutex<Machine>,
    published: PublishedViews,
    leadership: signal::Sender<Leadership>,
}

impl LocalConsensus {
    pub(crate) fn new() -> Self {
        Self {
            machine: Mutex::new(Machine::default()),
            published: PublishedViews::default(),
            leadership: signal::channel(Leadership::Leader { term: 1 }).0,
        }
    }

    fn decide(&self, command: Command) -> Result<Vec<Outcome>, Error> {
        let entry = Entry { proposals: vec![Proposal { session: None, command }] };
        let bytes = codec::encode_entry(&entry).map_err(Error::TooLarge)?;
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let index = LogIndex(machine.view().index().0 + 1);
        let replies = machine
            .apply(index, Some(&bytes))
            .map_err(|error| Error::Stopped { reason: error.to_string() })?;
        self.published.publish(machine.view());
        match replies.into_iter().next() {
            Some(Reply::Decided(outcomes)) => Ok(outcomes),
            other => Err(Error::Stopped { reason: format!("unexpected reply {other:?}") }),
        }
    }
}

#[async_trait]
impl Consensus for LocalConsensus {
    fn published(&self) -> &PublishedViews {
        &self.published
    }

    fn leadership(&self) -> signal::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn fence(&self) -> Option<Fence> {
        Some(Fence::Local)
    }

    async fn read_index(&self, _deadline: Duration) -> Result<LogIndex, Error> {
        Ok(self.published.view().index())
    }

    async fn caught_up_once(&self, _deadline: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn write(
        &self,
        ops: Vec<Op>,
        all_or_nothing: bool,
        _deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        self.decide(if all_or_nothing { Command::Txn(ops) } else { Command::Write(ops) })
    }

    async fn write_fenced(
        &self,
        _fence: &Fence,
        ops: Vec<Op>,
        all_or_nothing: bool,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        self.write(ops, all_or_nothing, deadline).await
    }

    async fn write_reserved(
        &self,
        _fence: &Fence,
        ops: Vec<Op>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        self.write(ops, false, deadline).await
    }

    async fn compact(
        &self,
        _fence: &Fence,
        bounds: Vec<(GroupResource, Revision)>,
        _deadline: Duration,
    ) -> Result<(), Error> {
        self.decide(Command::Compact(bounds)).map(|_| ())
    }
}
