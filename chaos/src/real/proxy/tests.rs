//! On real sockets: what passes, what waits, what breaks.

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::*;
use crate::scenario::Span;

/// A server that answers every line with itself.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// A proxy of master 1 in front of an echo; whoever connects is master 0.
async fn proxied() -> (Proxies, SocketAddr) {
    proxied_for(false).await
}

/// The same, which clients use.
async fn proxied_for(clients: bool) -> (Proxies, SocketAddr) {
    let to = echo().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let listen_other = "127.0.0.1:0".parse().unwrap();
    let other = Door { master: 0, listen: listen_other, to, clients: false };
    let doors = [Door { master: 1, listen, to, clients }, other];
    let who = Who::Addresses([(IpAddr::from([127, 0, 0, 1]), 0)].into());
    (Proxies::open(&doors, who, BTreeMap::new(), 7).await.unwrap(), listen)
}

fn forth(toxic: Toxic) -> Effect {
    Effect { toxics: [((0, 1), toxic)].into(), ..Effect::default() }
}

async fn say(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Longer than any machine of CI needs for a few bytes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a quiet link is looked at.
const QUIET: Duration = Duration::from_millis(300);

#[tokio::test]
async fn everything_passes_when_nothing_is_wrong() {
    let (proxies, at) = proxied().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let text: Vec<u8> = (0..500_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let (mut from, mut to) = stream.split();
    let mut answer = vec![0; text.len()];
    let (sent, read) = tokio::join!(to.write_all(&text), from.read_exact(&mut answer));
    sent.unwrap();
    read.unwrap();
    assert!(answer == text);
    assert_eq!(proxies.met([(0, 1), (1, 0)].iter()), 0);
}

#[tokio::test]
async fn delays_and_narrow_links_take_their_time() {
    let (proxies, at) = proxied().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    for (toxic, bytes) in [
        (Toxic::Delay(Span(250), Span(50)), 10),
        // 10 KiB at 40 KiB a second.
        (Toxic::Slow(40), 10 * 1024),
    ] {
        proxies.set(&forth(toxic), true);
        assert_eq!(proxies.toxics(), [((0, 1), toxic)].into());
        let (begin, before) = (Instant::now(), proxies.met([(0, 1)].iter()));
        assert_eq!(say(&mut stream, &vec![1; bytes]).await.unwrap().len(), bytes);
        assert!(begin.elapsed() >= Duration::from_millis(240), "{toxic:?} {:?}", begin.elapsed());
        assert!(proxies.met([(0, 1)].iter()) > before);
        assert_eq!(proxies.met([(1, 0)].iter()), 0, "the other direction is not met");
    }
    proxies.set(&Effect::default(), true);
    assert!(proxies.toxics().is_empty());
    say(&mut stream, b"again").await.unwrap();
}

#[tokio::test]
async fn what_is_lost_comes_later() {
    let (proxies, at) = proxied().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    proxies.set(&forth(Toxic::Loss(50)), true);
    let begin = Instant::now();
    // One packet each: half of them are lost once or more.
    for _ in 0..10 {
        assert_eq!(say(&mut stream, b"x").await.unwrap(), b"x");
    }
    assert!(proxies.met([(0, 1)].iter()) > 0, "the seed loses some");
    assert!(begin.elapsed() >= RESEND);
}

#[tokio::test]
async fn cut_links_hold_everything_until_they_are_healed() {
    let (proxies, at) = proxied().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    say(&mut stream, b"before").await.unwrap();
    for cut in [(0, 1), (1, 0)] {
        let effect = Effect { cuts: [cut].into(), ..Effect::default() };
        proxies.set(&effect, true);
        assert_eq!(proxies.cuts(), effect.cuts);
        let mut new = TcpStream::connect(at).await.unwrap();
        assert!(timeout(QUIET, say(&mut stream, b"held")).await.is_err());
        assert!(timeout(QUIET, say(&mut new, b"held")).await.is_err());
        assert!(proxies.met([cut].iter()) > 0);
        proxies.set(&Effect::default(), true);
        for stream in [&mut stream, &mut new] {
            let mut answer = [0; 4];
            timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"held");
        }
    }
}

#[tokio::test]
async fn clients_are_held_and_masters_are_not() {
    let (proxies, at) = proxied_for(true).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let cut = Effect { cuts: [(0, 1), (1, 0)].into(), ..Effect::default() };
    proxies.set(&cut, true);
    say(&mut stream, b"not a master's").await.unwrap();
    assert!(proxies.unreached().is_empty());
    let unreached = Effect { unreached: [1].into(), ..Effect::default() };
    proxies.set(&unreached, true);
    assert_eq!((proxies.unreached(), proxies.cuts()), ([1].into(), BTreeSet::new()));
    assert!(timeout(QUIET, say(&mut stream, b"held")).await.is_err());
    proxies.set(&Effect::default(), true);
    let mut answer = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"held");
}

#[tokio::test]
async fn connections_are_reset_each_time() {
    let (proxies, at) = proxied().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    for stroke in 0..3 {
        say(&mut stream, b"there").await.unwrap();
        proxies.set(&forth(Toxic::Reset(stroke)), true);
        let mut byte = [0];
        let read = timeout(PATIENCE, stream.read(&mut byte)).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        // New ones stand until the next stroke.
        stream = TcpStream::connect(at).await.unwrap();
    }
    assert_eq!(proxies.met([(0, 1)].iter()), 3);
}

#[tokio::test]
async fn half_open_connections_stay_and_say_nothing() {
    let (proxies, at) = proxied().await;
    let mut old = TcpStream::connect(at).await.unwrap();
    say(&mut old, b"there").await.unwrap();
    proxies.set(&forth(Toxic::HalfOpen), true);
    let mut new = TcpStream::connect(at).await.unwrap();
    assert!(timeout(QUIET, say(&mut old, b"?")).await.is_err());
    assert!(timeout(QUIET, say(&mut new, b"?")).await.is_err());
    proxies.set(&Effect::default(), true);
    assert!(timeout(QUIET, say(&mut old, b"?")).await.is_err(), "what is dead stays dead");
    let mut after = TcpStream::connect(at).await.unwrap();
    say(&mut after, b"there").await.unwrap();
    assert!(proxies.met([(0, 1)].iter()) >= 2);
}
