//! One client: finds it a master, then passes bytes on.
//!
//! What a client says before it has heard anything is the beginning of a TLS handshake, with which nothing has happened
//! yet: it is said again to the next master when one does not answer. So also a master that hangs, whose kernel takes
//! connections as ever, costs a client seconds and no error.

use std::io;

use anyhow::bail;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::members::{Master, Members};
use crate::limits::{
    PROXY_ANSWER_MAX, PROXY_CONNECT_MAX, PROXY_HELLO_BYTES_MAX, PROXY_HELLO_MAX, PROXY_SEARCH_MAX,
    PROXY_SEARCH_PAUSE,
};
use crate::progress;

/// Bytes that are read at once.
const BUFFER: usize = 16 * 1024;

/// Forwards one client until either side ends, or its master is given up.
pub(super) async fn forward(mut client: TcpStream, members: &Members) {
    // Where it cannot be switched off, it is only slower.
    drop(client.set_nodelay(true));
    match find(&mut client, members).await {
        Ok(Some((mut server, master))) => {
            let passing = tokio::io::copy_bidirectional(&mut client, &mut server);
            tokio::select! {
                // How it ended, both ends know themselves.
                _ = passing => {}
                () = master.given_up() => {}
            }
        }
        // The client has gone.
        Ok(None) => {}
        Err(error) => progress::tell(&format!("a client was cut off: {error:#}")),
    }
}

/// A master that has begun to answer the client; its first bytes are passed on. `None` when the client went away.
async fn find(
    client: &mut TcpStream,
    members: &Members,
) -> anyhow::Result<Option<(TcpStream, Master)>> {
    let mut hello = Vec::new();
    match timeout(PROXY_HELLO_MAX, more(client, &mut hello)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false) | Err(_)) => return Ok(None),
        Err(_) => bail!("it said nothing for {} s", PROXY_HELLO_MAX.as_secs()),
    }
    let until = Instant::now() + PROXY_SEARCH_MAX;
    loop {
        for master in members.in_order() {
            match ask(client, &mut hello, &master).await? {
                Asked::Answers(server, first) => {
                    return Ok(client.write_all(&first).await.ok().map(|()| (server, master)));
                }
                Asked::Silent => {}
                Asked::ClientGone => return Ok(None),
            }
            if Instant::now() >= until {
                break;
            }
        }
        if Instant::now() >= until {
            bail!("no master answered within {} s", PROXY_SEARCH_MAX.as_secs());
        }
        tokio::time::sleep(PROXY_SEARCH_PAUSE).await;
    }
}

/// What became of one master.
enum Asked {
    /// With its first bytes.
    Answers(TcpStream, Vec<u8>),
    Silent,
    ClientGone,
}

/// Says to a master what the client has said so far, and what it goes on to say, until the master answers.
async fn ask(
    client: &mut TcpStream,
    hello: &mut Vec<u8>,
    master: &Master,
) -> anyhow::Result<Asked> {
    let connecting = TcpStream::connect(master.address());
    let Ok(Ok(mut server)) = timeout(PROXY_CONNECT_MAX, connecting).await else {
        return Ok(Asked::Silent);
    };
    drop(server.set_nodelay(true));
    let (mut said, mut first) = (0, vec![0; BUFFER]);
    let until = Instant::now() + PROXY_ANSWER_MAX;
    loop {
        if server.write_all(&hello[said..]).await.is_err() {
            return Ok(Asked::Silent);
        }
        said = hello.len();
        tokio::select! {
            read = server.read(&mut first) => match read {
                Ok(0) | Err(_) => return Ok(Asked::Silent),
                Ok(count) => {
                    first.truncate(count);
                    return Ok(Asked::Answers(server, first));
                }
            },
            read = more(client, hello) => match read {
                Ok(true) => {}
                Ok(false) | Err(_) => return Ok(Asked::ClientGone),
            },
            () = tokio::time::sleep_until(until) => return Ok(Asked::Silent),
        }
        if hello.len() > PROXY_HELLO_BYTES_MAX {
            bail!("it said {} bytes before it had heard anything", hello.len());
        }
    }
}

/// Reads what a client says; whether there was something. Nothing is lost when it is dropped while it waits.
async fn more(client: &mut TcpStream, hello: &mut Vec<u8>) -> io::Result<bool> {
    hello.reserve(BUFFER);
    Ok(client.read_buf(hello).await? > 0)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    /// A client whose other end is forwarded to these.
    async fn client_of(masters: &[String]) -> TcpStream {
        let (front, address) = listener().await;
        let members = Members::of(masters);
        tokio::spawn(async move { forward(front.accept().await.unwrap().0, &members).await });
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn what_a_silent_master_was_told_the_next_one_hears_whole() {
        // The kernel takes connections for who hangs; nobody does for who is dead.
        let (_hung, hung) = listener().await;
        let (dead, dead_address) = listener().await;
        drop(dead);
        let (living, address) = listener().await;
        let mut client = client_of(&[hung, dead_address, address]).await;
        client.write_all(b"hel").await.unwrap();
        let served = tokio::spawn(async move {
            let mut server = living.accept().await.unwrap().0;
            let mut heard = [0; 5];
            server.read_exact(&mut heard).await.unwrap();
            server.write_all(b"yes").await.unwrap();
            let mut more = Vec::new();
            server.read_to_end(&mut more).await.unwrap();
            (heard, more)
        });
        client.write_all(b"lo").await.unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"yes");
        client.write_all(b" and more").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(served.await.unwrap(), (*b"hello", b" and more".to_vec()));
    }

    #[tokio::test]
    async fn a_client_that_says_too_much_before_it_hears_anything_is_cut_off() {
        let (_hung, hung) = listener().await;
        let mut client = client_of(&[hung]).await;
        // However much of it is taken.
        drop(client.write_all(&vec![0; PROXY_HELLO_BYTES_MAX + 1]).await);
        let began = Instant::now();
        let read = client.read(&mut [0; 8]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        assert!(began.elapsed() < PROXY_SEARCH_MAX, "at once, not when the search is over");
    }
}
