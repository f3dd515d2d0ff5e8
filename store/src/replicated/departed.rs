//! Sessions of masters that are gone are closed, so that replicated state does not keep their answers
//! for ever. (A master that starts again ends its old session itself, by opening another.)

use std::sync::Arc;

use quorate_raft::{LeadershipState, NodeId, RaftNode};
use quorate_state_machine::{Command, Entry, Proposal, SessionId, codec};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::consensus::PublishedViews;
use crate::limits::{DEPARTED_CHECK_INTERVAL, WRITE_TIMEOUT};

/// Starts the task; it works while this master leads, and ends with its handle.
pub(crate) fn start(raft: RaftNode, published: Arc<PublishedViews>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(DEPARTED_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            close(&raft, &published.sessions()).await;
        }
    }))
}

async fn close(raft: &RaftNode, open: &[SessionId]) {
    let LeadershipState::Leader(leadership) = raft.leadership().borrow().clone() else { return };
    let members: Vec<NodeId> = raft.members().into_iter().map(|member| member.id).collect();
    let gone: Vec<SessionId> =
        open.iter().filter(|id| !members.contains(&NodeId(id.node))).copied().collect();
    if gone.is_empty() {
        return;
    }
    let command = Command::CloseSessions(gone.clone());
    let entry = Entry { proposals: vec![Proposal { session: None, command }] };
    let Ok(payload) = codec::encode_entry(&entry) else { return };
    match raft.propose_fenced_reserved(&leadership, payload.into(), WRITE_TIMEOUT).await {
        Ok(_) => tracing::info!(?gone, "closed the sessions of masters that are gone"),
        // The next look, or the next leader, does it.
        Err(error) => {
            tracing::debug!(%error, "sessions of masters that are gone are not closed yet")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use quorate_pki::{Authority, Subject};
    use quorate_raft::{Config, DiskRule, FIRST_NODE_ID, Member, PeerTls, SnapshotRule, Timing};
    use quorate_state_machine::Key;

    use super::*;
    use crate::{Masters, Started};

    async fn master(directory: &std::path::Path) -> Started {
        let authority = Authority::generate("peers", Timestamp::now()).unwrap();
        let subject = Subject::Peer { cluster_id: "c".to_owned(), node_id: FIRST_NODE_ID.0 };
        let issued = authority.issue(&subject, Timestamp::now()).unwrap();
        let started = Masters::start(Config {
            data_dir: directory.to_owned(),
            cluster_id: "c".to_owned(),
            node_id: FIRST_NODE_ID,
            member: Member { name: "m0".to_owned(), ..Member::default() },
            listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            tls: PeerTls {
                ca_pem: authority.certificate_pem().to_owned(),
                certificate_pem: issued.certificate_pem,
                key_pem: issued.key_pem,
            },
            timing: Timing::default(),
            snapshots: SnapshotRule::default(),
            disk: DiskRule::default(),
            host: Arc::new(quorate_raft::host::Machine),
        })
        .await
        .unwrap();
        started.masters.initialize().await.unwrap();
        started
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let poll = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), poll).await.expect("it should hold in time");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_sessions_of_members_stay() {
        let directory = tempfile::tempdir().unwrap();
        let started = master(directory.path()).await;
        let store = &started.store;
        until(|| store.lead().is_some()).await;
        let sessions = || store.consensus.published().sessions();
        // Opens this master's own.
        let key = Key::new("", "configmaps", "default", "none");
        let op = quorate_state_machine::Op::Delete { key, expect: None, uid: None };
        store.write(vec![op]).await.unwrap();
        let own = sessions();
        assert_eq!(own.len(), 1);
        let gone = SessionId { node: 999, nonce: 1 };
        let proposal = Proposal { session: None, command: Command::OpenSession(gone) };
        let entry = codec::encode_entry(&Entry { proposals: vec![proposal] }).unwrap();
        let opened = started.masters.raft.propose(entry.into(), WRITE_TIMEOUT).await.unwrap();
        let mut published = store.published();
        published.wait_for(|published| published.index.0 > opened.index.0).await.unwrap();
        until(|| sessions() == own).await;
        started.masters.shutdown().await;
    }
}
