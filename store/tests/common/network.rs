//! The network between masters of one process: every direction between two of them is a proxy of its
//! own, which can be cut, or swallow the answers to what it delivers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quorate_raft::{NodeId, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing passes, in either direction; connections stay open, as with packets that are dropped.
    Cut,
    /// Requests arrive, answers do not.
    AnswersLost,
    /// Connections break, and new ones break at once.
    Refused,
}

type Links = BTreeMap<(NodeId, NodeId), watch::Sender<Fault>>;

/// All links, made when first used.
#[derive(Clone, Default)]
pub struct Network {
    links: Arc<Mutex<Links>>,
}

impl Network {
    /// The ways of one master to the others.
    pub fn route(&self, from: NodeId) -> Route {
        let network = self.clone();
        Arc::new(move |to, address| network.proxy(from, to, address))
    }

    /// Sets what happens to what `from` asks of `to` (and to the answers).
    pub fn set(&self, from: NodeId, to: NodeId, fault: Fault) {
        let mut links = self.links.lock().unwrap();
        links.entry((from, to)).or_insert_with(|| watch::Sender::new(fault)).send_replace(fault);
    }

    /// Cuts one master off from all others, or joins it again.
    pub fn isolate(&self, node: NodeId, others: &[NodeId], fault: Fault) {
        for other in others.iter().filter(|other| **other != node) {
            self.set(node, *other, fault);
            self.set(*other, node, fault);
        }
    }

    fn proxy(&self, from: NodeId, to: NodeId, address: &str) -> String {
        let fault = {
            let mut links = self.links.lock().unwrap();
            links.entry((from, to)).or_insert_with(|| watch::Sender::new(Fault::None)).subscribe()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap().to_string();
        tokio::spawn(accept(listener, address.to_owned(), fault));
        own
    }
}

async fn accept(listener: std::net::TcpListener, target: String, fault: watch::Receiver<Fault>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((incoming, _)) = listener.accept().await {
        let (target, mut fault) = (target.clone(), fault.clone());
        tokio::spawn(async move {
            if *fault.borrow() == Fault::Refused {
                return;
            }
            // A connection that is made during a cut waits for its end.
            if fault.wait_for(|fault| *fault != Fault::Cut).await.is_err() {
                return;
            }
            let Ok(outgoing) = TcpStream::connect(target).await else { return };
            let (from_asker, to_asker) = incoming.into_split();
            let (from_asked, to_asked) = outgoing.into_split();
            tokio::select! {
                () = copy(from_asker, to_asked, fault.clone(), false) => {}
                () = copy(from_asked, to_asker, fault.clone(), true) => {}
                _ = fault.wait_for(|fault| *fault == Fault::Refused) => {}
            }
        });
    }
}

/// Answers that were swallowed leave a hole in the stream: the connection is of no use afterwards, so
/// it ends with the fault.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    answers: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut swallowed = false;
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        if fault.wait_for(|fault| *fault != Fault::Cut).await.is_err() {
            return;
        }
        if answers && *fault.borrow() == Fault::AnswersLost {
            swallowed = true;
            continue;
        }
        if swallowed || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
