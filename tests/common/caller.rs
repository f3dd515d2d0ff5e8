//! A client on a machine of a [`Field`]: calls an address again and again over HTTPS, each time on a new connection,
//! and notes when it was answered. Calls do not wait for each other, as those of several users do not.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::api::as_first_user;
use super::field::Field;
use super::{PATIENCE, until};

/// Between the beginnings of two calls.
const INTERVAL: Duration = Duration::from_millis(60);

/// A call that is not answered by then is given up, whatever becomes of it.
const CALL_MAX: Duration = Duration::from_secs(1);

/// What is written.
const MAP: &str = "/api/v1/namespaces/default/configmaps/counter";

/// Someone with a kubeconfig.
#[derive(Clone)]
pub struct User {
    tls: Arc<rustls::ClientConfig>,
}

impl User {
    pub fn new(kubeconfig: &str) -> Self {
        Self { tls: Arc::new(as_first_user(kubeconfig)) }
    }

    /// A connection of its own, with a request on it.
    async fn ask(
        &self,
        to: SocketAddr,
        (method, path): (&str, &str),
        body: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        // The certificate must be good for the address itself.
        let name = ServerName::IpAddress(to.ip().into());
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let mut stream = connector.connect(name, stream).await?;
        let kind =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: vip\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        Ok(stream)
    }

    /// One call: the answer's code and body.
    pub async fn call(
        &self,
        to: SocketAddr,
        what: (&str, &str),
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut stream = self.ask(to, what, body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| std::io::Error::other("no answer"))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Ok((code, body))
    }
}

/// One answered call.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub began: Instant,
    pub ended: Instant,
    pub wrote: bool,
}

/// See the module.
pub struct Caller {
    answered: Arc<Mutex<Vec<Answered>>>,
    failed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Caller {
    /// Begins on that machine. Reads and writes take turns.
    pub fn start(field: &Field, machine: &str, user: &User, to: SocketAddr) -> Self {
        let (answered, failed) = (Arc::<Mutex<Vec<Answered>>>::default(), Arc::default());
        let stop = Arc::<AtomicBool>::default();
        let shared = Shared { user: user.clone(), to, answered: answered.clone(), failed };
        let failed = shared.failed.clone();
        let ended = stop.clone();
        let thread = on(field, machine, async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            for number in 0_u64.. {
                ticks.tick().await;
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                tokio::spawn(shared.clone().turn(number));
            }
        });
        Self { answered, failed, stop, thread: Some(thread) }
    }

    /// Waits until it is answered anew, reads and writes.
    pub fn goes_on(&self) {
        let from = Instant::now();
        until("the caller is answered", PATIENCE, || {
            [true, false]
                .iter()
                .all(|wrote| self.first_after(from, |one| one.wrote == *wrote).is_some())
        });
    }

    /// The first call that ended after a moment.
    pub fn first_after(
        &self,
        moment: Instant,
        which: impl Fn(&Answered) -> bool,
    ) -> Option<Duration> {
        let answered = self.answered.lock().unwrap();
        let later = answered.iter().filter(|one| one.ended > moment && which(one));
        later.map(|one| one.ended - moment).min()
    }

    /// How many calls were not answered with what was asked for.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The longest time in which no call ended well, since a moment.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let answered = self.answered.lock().unwrap();
        let mut ends: Vec<Instant> =
            answered.iter().map(|one| one.ended).filter(|end| *end >= since).collect();
        ends.push(since);
        ends.sort();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[derive(Clone)]
struct Shared {
    user: User,
    to: SocketAddr,
    answered: Arc<Mutex<Vec<Answered>>>,
    failed: Arc<AtomicU64>,
}

impl Shared {
    async fn turn(self, number: u64) {
        let wrote = number.is_multiple_of(2);
        let body = format!(r#"{{"data":{{"number":"{number}"}}}}"#);
        let (what, body) = if wrote { (("PATCH", MAP), body.as_str()) } else { (("GET", MAP), "") };
        let began = Instant::now();
        let call = tokio::time::timeout(CALL_MAX, self.user.call(self.to, what, body)).await;
        match call {
            Ok(Ok((200, _))) => {
                let one = Answered { began, ended: Instant::now(), wrote };
                self.answered.lock().unwrap().push(one);
            }
            _ => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// Makes what the caller writes to.
pub fn make_map(field: &Field, machine: &str, user: &User, to: SocketAddr) {
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"counter"}}"#;
    let path = MAP.rsplit_once('/').unwrap().0;
    let (code, answer) = call(field, machine, user, to, ("POST", path), body).unwrap();
    assert!(code == 201, "{code} {answer}");
}

/// One call from a machine.
pub fn call(
    field: &Field,
    machine: &str,
    user: &User,
    to: SocketAddr,
    (method, path): (&str, &str),
    body: &str,
) -> std::io::Result<(u16, String)> {
    let (user, [method, path, body]) = (user.clone(), [method, path, body].map(str::to_owned));
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let thread = on(field, machine, async move {
        let call = user.call(to, (&method, &path), &body);
        let answer = tokio::time::timeout(PATIENCE, call).await;
        tell.send(answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))).unwrap();
    });
    let answer = told.recv().unwrap();
    thread.join().unwrap();
    answer
}

/// Begins a watch on a machine; the thread ends when its connection does, and says when that was.
pub fn watch(
    field: &Field,
    machine: &str,
    user: &User,
    to: SocketAddr,
) -> std::sync::mpsc::Receiver<Instant> {
    let user = user.clone();
    let (tell, told) = std::sync::mpsc::sync_channel(2);
    let path = format!("{}?watch=true", MAP.rsplit_once('/').unwrap().0);
    drop(on(field, machine, async move {
        let mut stream = user.ask(to, ("GET", &path), "").await.unwrap();
        let mut buffer = [0; 4096];
        // The first bytes: it is there.
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        tell.send(Instant::now()).unwrap();
        while let Ok(1..) = stream.read(&mut buffer).await {}
        tell.send(Instant::now()).unwrap();
    }));
    told.recv_timeout(PATIENCE).expect("the watch begins");
    told
}

/// Runs something on a thread of its own, on that machine.
fn on(
    field: &Field,
    machine: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let namespace = Path::new("/run/netns").join(field.namespace(machine));
    std::thread::spawn(move || {
        let namespace = File::open(namespace).unwrap();
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work);
    })
}
