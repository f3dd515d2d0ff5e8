//! Notices a master whose files are of an earlier time: put back from a copy, or on a disk that lied about its syncs.
//!
//! Such a master has forgotten entries that it acknowledged and votes that it gave. Raft does not expect that: openraft
//! panics in the leader when a follower lacks what it once had, and with others that lack the same, an election could
//! lose acknowledged writes. So each message between masters names the sender's start (a random number), the group
//! commit with which its log began then, and the last one that is on its disk. Each master remembers for each other how
//! far its log was known to be in which start, keeps that in a file, and passes it on with heartbeats, votes and the
//! answers to both. A log that began before what is known of an *earlier* start has lost something:
//!
//! * who is told so by a message checks it against its own log, marks its directory, and ends: it starts no more;
//! * others refuse what it asks, and do not count what it answers.
//!
//! What one remembers of a start is true for ever, however late the message is that tells it. Messages that overtake
//! each other accuse nobody: of a master's starts only the last one lives, and those that are dead mind no refusal. It
//! is noticed as soon as one is heard from who knew better, and not before: nothing in the files themselves tells it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderValue};
use quorate_mutants::{self as mutants, Mutant};
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::error::{Fatal, StartError};
use crate::limits::{HEARD_BYTES_MAX, HEARD_NODES_MAX, HEARD_STARTS_MAX};
use crate::log::shared::Shared;
use crate::mark::Mark;
use crate::types::NodeId;

/// Header: `START BEGAN SYNCED` of the sender.
const LOG: &str = "quorate-log";
/// Header: `NODE START SYNCED`, separated by `;`, that the sender knows.
const HEARD: &str = "quorate-heard";
/// File: what is known of others, as in the header.
const HEARD_FILE: &str = "heard";

/// For each start of a master, up to which group commit its log was known to be on disk.
type Starts = BTreeMap<u64, u64>;

/// What is known of the others.
#[derive(Debug, Default)]
struct Heard {
    of: BTreeMap<NodeId, Starts>,
    /// The same as a header, until something changes: messages are many, and changes few.
    said: Option<HeaderValue>,
    /// What each said last. The same again tells nothing.
    from: BTreeMap<NodeId, String>,
    /// What the file has.
    kept: Option<HeaderValue>,
}

impl Heard {
    /// Of one, or of all.
    fn text(&self, of: Option<NodeId>) -> String {
        let mut text = String::new();
        for (node, starts) in self.of.iter().filter(|(node, _)| of.is_none_or(|of| of == **node)) {
            for (start, synced) in starts {
                let separator = if text.is_empty() { "" } else { ";" };
                // Writing to a string does not fail.
                let _ = write!(text, "{separator}{node} {start:x} {synced}");
            }
        }
        text
    }

    fn all(&mut self) -> HeaderValue {
        if let Some(said) = &self.said {
            return said.clone();
        }
        let said = header(self.text(None));
        self.said = Some(said.clone());
        said
    }

    fn note(&mut self, node: NodeId, start: u64, synced: u64) {
        if self.of.len() >= HEARD_NODES_MAX && !self.of.contains_key(&node) {
            return;
        }
        let starts = self.of.entry(node).or_default();
        if starts.get(&start).is_some_and(|known| *known >= synced) {
            return;
        }
        self.said = None;
        starts.insert(start, synced);
        // The two with the most are what is looked at.
        if starts.len() > HEARD_STARTS_MAX
            && let Some(least) = starts.iter().min_by_key(|(_, synced)| **synced).map(|(s, _)| *s)
        {
            starts.remove(&least);
        }
    }

    /// Takes over what another knows.
    fn learn(&mut self, known: &str) {
        for one in known.split(';') {
            let mut words = one.trim().split(' ');
            let node = words.next().and_then(|word| word.parse().ok()).map(NodeId);
            let start = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            let synced = words.next().and_then(|word| word.parse().ok());
            if let (Some(node), Some(start), Some(synced)) = (node, start, synced) {
                self.note(node, start, synced);
            }
        }
    }
}

/// Numbers, spaces and semicolons, which any header may have.
fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The files of a master are of an earlier time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WentBack {
    node: NodeId,
    known: u64,
    began: u64,
}

/// What this master is in, and what it knows of the others.
#[derive(Debug)]
pub(crate) struct Past {
    own: NodeId,
    start: u64,
    began: u64,
    directory: PathBuf,
    log: Arc<Shared>,
    heard: Mutex<Heard>,
    fatal: watch::Sender<Option<Fatal>>,
}

impl Past {
    /// Reads what was known before.
    pub(crate) fn open(
        directory: &Path,
        own: NodeId,
        log: Arc<Shared>,
        fatal: watch::Sender<Option<Fatal>>,
    ) -> Result<Self, StartError> {
        let read = |name: &str| {
            let path = directory.join(name);
            match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(StartError::Io { path, action: "read", source }),
                Ok(text) => Ok(Some(text)),
            }
        };
        let began = log.lock().sequence;
        let start = quorate_chance::number();
        let directory = directory.to_owned();
        let heard = Mutex::default();
        let past = Self { own, start, began, directory, log, heard, fatal };
        if let Some(text) = read(HEARD_FILE)? {
            // A line that a power loss has cut is left out.
            past.heard().learn(&text);
        }
        Ok(past)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_log(&self) -> HeaderValue {
        header(format!("{:x} {} {}", self.start, self.began, self.log.lock().sequence))
    }

    /// Puts into a request's headers what its receiver must know; with `all` what is known of the others too.
    pub(crate) fn tell(&self, to: NodeId, all: bool, headers: &mut HeaderMap) {
        headers.insert(LOG, self.own_log());
        let mut heard = self.heard();
        let known = if all { heard.all() } else { header(heard.text(Some(to))) };
        headers.insert(HEARD, known);
    }

    /// An answer with what its receiver must know.
    pub(crate) fn answer<T>(&self, body: T) -> tonic::Response<T> {
        let mut answer = tonic::Response::new(body);
        answer.metadata_mut().as_mut().insert(LOG, self.own_log());
        answer
    }

    /// The same, with what is known of all others: to leaders and candidates, who may not know it.
    pub(crate) fn answer_all<T>(&self, body: T) -> tonic::Response<T> {
        let mut answer = self.answer(body);
        answer.metadata_mut().as_mut().insert(HEARD, self.heard().all());
        answer
    }

    /// Takes what a request says, and refuses it when its sender went back, or this master did.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(crate) fn admit(&self, from: NodeId, said: &MetadataMap) -> Result<(), Status> {
        let text = |name: &str| said.get(name).and_then(|value| value.to_str().ok());
        self.hear(from, text(LOG), text(HEARD)).map_err(|back| {
            let mut status = Status::failed_precondition(back.to_string());
            // So that it sees for itself.
            let known = header(self.heard().text(Some(from)));
            status.metadata_mut().as_mut().insert(HEARD, known);
            status
        })
    }

    /// Takes what an answer says; an error when it must not count.
    pub(crate) fn answered(&self, from: NodeId, said: &HeaderMap) -> Result<(), WentBack> {
        let text = |name: &str| said.get(name).and_then(|value| value.to_str().ok());
        self.hear(from, text(LOG), text(HEARD))
    }

    /// A master of a version that says nothing of this is not checked.
    fn hear(&self, from: NodeId, log: Option<&str>, known: Option<&str>) -> Result<(), WentBack> {
        if let Some(known) = known {
            self.learn(from, known);
            self.look_at_own()?;
        }
        let mut words = log.unwrap_or_default().split(' ');
        let start = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let mut number = || words.next()?.parse::<u64>().ok();
        let (Some(start), Some(began), Some(synced)) = (start, number(), number()) else {
            return Ok(());
        };
        // Nothing is relied on that one says who went back.
        self.check(from, start, began)?;
        self.heard().note(from, start, synced);
        Ok(())
    }

    /// Takes over what another knows, unless it said the same before.
    fn learn(&self, from: NodeId, known: &str) {
        let mut heard = self.heard();
        if heard.from.get(&from).is_some_and(|before| before == known) {
            return;
        }
        heard.learn(known);
        if heard.from.len() < HEARD_NODES_MAX || heard.from.contains_key(&from) {
            heard.from.insert(from, known.to_owned());
        }
    }

    /// Whether another start of the node was known to have more than this one began with.
    fn check(&self, node: NodeId, start: u64, began: u64) -> Result<(), WentBack> {
        let heard = self.heard();
        let others =
            heard.of.get(&node).into_iter().flatten().filter(|(other, _)| **other != start);
        match others.map(|(_, synced)| *synced).max() {
            Some(known) if known > began && !mutants::is(Mutant::OldCopyAccepted) => {
                Err(WentBack { node, known, began })
            }
            _ => Ok(()),
        }
    }

    /// Ends this master when others know more of its log than it began with.
    fn look_at_own(&self) -> Result<(), WentBack> {
        self.check(self.own, self.start, self.began).inspect_err(|back| {
            let problem = back.advice(&self.directory);
            let first = self.fatal.send_if_modified(|fatal| {
                let first = fatal.is_none();
                fatal.get_or_insert_with(|| Fatal(problem.clone()));
                first
            });
            if first && let Err(error) = Mark::WentBack.set(&self.directory, &problem) {
                tracing::error!(%error, "the directory of this master cannot be marked");
            }
        })
    }

    /// Forgets those who are no members; writes down what is known of the others. Blocks for a moment; what a power
    /// loss leaves of the file may be old, which is as true.
    pub(crate) fn keep(&self, members: &[NodeId]) -> io::Result<()> {
        let text = {
            let mut heard = self.heard();
            let known = heard.of.len();
            heard.of.retain(|node, _| members.contains(node));
            if heard.of.len() < known {
                heard.said = None;
                // Who is a member again is learned of anew.
                heard.from.clear();
            }
            let text = heard.all();
            if text.len() > HEARD_BYTES_MAX || heard.kept.as_ref() == Some(&text) {
                return Ok(());
            }
            text
        };
        let path = self.directory.join(HEARD_FILE);
        let beside = path.with_extension("new");
        fs::write(&beside, text.as_bytes())?;
        fs::rename(&beside, &path)?;
        self.heard().kept = Some(text);
        Ok(())
    }
}

impl WentBack {
    fn advice(&self, directory: &Path) -> String {
        format!(
            "the files in {} are of an earlier time: others know that group commit {} of this master's log was on \
             disk, and the log began with {} at this start. Writes that it acknowledged may be missing, so it must not \
             vote again. Put the newer files back, if there are any. Or give it up: join a new master from an empty \
             directory under another name with `quorate server --join URL --token T --data DIR --name NAME`",
            directory.display(),
            self.known,
            self.began,
        )
    }
}

impl std::fmt::Display for WentBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, known, began } = self;
        write!(
            f,
            "the files of master {node} are of an earlier time: group commit {known} of its log was on disk, and the \
             log began with {began} at its last start"
        )
    }
}

impl std::error::Error for WentBack {}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(directory: &Path, own: u64, sequence: u64) -> Past {
        let log = Arc::new(Shared::default());
        log.lock().sequence = sequence;
        Past::open(directory, NodeId(own), log, watch::Sender::new(None)).unwrap()
    }

    fn said(of: &Past, to: u64, all: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        of.tell(NodeId(to), all, &mut headers);
        headers
    }

    #[test]
    fn who_began_before_what_is_known_is_refused_and_told() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let knows = past(one.path(), 1, 5);
        let before = past(two.path(), 2, 10);
        knows.answered(NodeId(2), &said(&before, 1, false)).unwrap();
        before.log.lock().sequence = 30;
        knows.answered(NodeId(2), &said(&before, 1, false)).unwrap();
        // Started again with all that it had: what it writes from then on is more than what it began with.
        let again = past(two.path(), 2, 30);
        again.log.lock().sequence = 31;
        knows.answered(NodeId(2), &said(&again, 1, false)).unwrap();
        again.answered(NodeId(1), &said(&knows, 2, false)).unwrap();
        // A message of the start before comes late: it does not count any more, and accuses nobody.
        assert!(knows.answered(NodeId(2), &said(&before, 1, false)).is_err());
        again.answered(NodeId(1), &said(&knows, 2, false)).unwrap();
        // Its files are put back.
        let back = past(two.path(), 2, 12);
        let metadata = MetadataMap::from_headers(said(&back, 1, false));
        let refused = knows.admit(NodeId(2), &metadata).unwrap_err();
        assert!(refused.message().contains("group commit 31 of its log was on disk"), "{refused}");
        assert!(back.fatal.borrow().is_none(), "it does not know yet");
        assert!(back.answered(NodeId(1), &refused.metadata().clone().into_headers()).is_err());
        let fatal = back.fatal.borrow().clone().unwrap().to_string();
        assert!(fatal.contains("Put the newer files back"), "{fatal}");
        let error = Mark::refuse_any(two.path()).unwrap_err();
        assert!(error.to_string().contains("of an earlier time"), "{error}");
    }

    #[test]
    fn a_request_is_enough_to_tell_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let knows = past(one.path(), 1, 5);
        knows.answered(NodeId(2), &said(&past(two.path(), 2, 10), 1, false)).unwrap();
        let back = past(two.path(), 2, 9);
        let asked = MetadataMap::from_headers(said(&knows, 2, false));
        assert!(back.admit(NodeId(1), &asked).is_err() && back.fatal.borrow().is_some());
    }

    #[test]
    fn what_is_known_is_passed_on_and_kept() {
        let directories: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let leader = past(directories[0].path(), 1, 5);
        let other = past(directories[2].path(), 3, 5);
        leader.answered(NodeId(2), &said(&past(directories[1].path(), 2, 10), 1, false)).unwrap();
        other.answered(NodeId(1), &said(&leader, 3, false)).unwrap();
        let back = past(directories[1].path(), 2, 9);
        other.answered(NodeId(2), &said(&back, 3, false)).unwrap();
        other.answered(NodeId(1), &said(&leader, 3, true)).unwrap();
        assert!(other.answered(NodeId(2), &said(&back, 3, false)).is_err(), "it was told");
        let third = past(directories[1].path(), 4, 5);
        third.answered(NodeId(3), &other.answer_all(()).metadata().clone().into_headers()).unwrap();
        assert!(third.answered(NodeId(2), &said(&back, 4, false)).is_err(), "by an answer too");
        leader.keep(&[NodeId(1), NodeId(2), NodeId(3)]).unwrap();
        let leader = past(directories[0].path(), 1, 6);
        assert!(leader.answered(NodeId(2), &said(&back, 1, false)).is_err(), "it was kept");
        leader.keep(&[NodeId(1), NodeId(3)]).unwrap();
        leader.answered(NodeId(2), &said(&back, 1, false)).unwrap();
    }

    #[test]
    fn only_so_much_is_kept_and_nonsense_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let past = past(directory.path(), 1, 5);
        for start in 0..100 {
            past.heard().note(NodeId(2), start, 1000 - start);
        }
        let starts = past.heard().of[&NodeId(2)].clone();
        assert_eq!(starts.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3], "those with the most");
        for node in 0..1000 {
            past.heard().note(NodeId(node), 1, 1);
        }
        assert_eq!(past.heard().of.len(), HEARD_NODES_MAX);
        past.hear(NodeId(2), Some("x y"), Some("1;;2 3;a b c; 1 2 x")).unwrap();
        past.hear(NodeId(2), None, None).unwrap();
    }
}
