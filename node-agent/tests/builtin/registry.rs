//! A small registry on the loopback, as misbehaved as a test wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How it asks who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    Nobody,
    /// `user` with `secret`.
    Basic,
    /// A bearer token, which its token endpoint gives to everybody.
    Token,
}

#[derive(Debug, Default)]
struct Content {
    /// Path below `/v2/` to media type and body.
    documents: BTreeMap<String, (String, Vec<u8>)>,
    /// Answers with only half of these, once each.
    broken: Vec<String>,
    asked: Vec<String>,
}

/// The registry; it serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) address: String,
    content: Arc<Mutex<Content>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    pub(crate) async fn start(auth: Auth) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let content: Arc<Mutex<Content>> = Arc::default();
        let (shared, own) = (content.clone(), address.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), auth, own.clone()));
            }
        });
        Registry { address, content, task }
    }

    pub(crate) fn put(&self, path: &str, media_type: &str, body: &[u8]) {
        let mut content = self.content.lock().unwrap();
        content.documents.insert(path.to_owned(), (media_type.to_owned(), body.to_owned()));
    }

    /// The next answer with this path breaks off in the middle.
    pub(crate) fn break_once(&self, path: &str) {
        self.content.lock().unwrap().broken.push(path.to_owned());
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.content.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }
}

async fn serve(mut stream: TcpStream, content: Arc<Mutex<Content>>, auth: Auth, own: String) {
    let mut head = Vec::new();
    let mut chunk = [0_u8; 4096];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&chunk[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let given = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let (status, kind, extra, body, cut) = answer(&path, given.as_deref(), &content, auth, &own);
    let length = body.len();
    let sent = if cut { length / 2 } else { length };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n{extra}\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body[..sent]).await;
    let _ = stream.shutdown().await;
}

type Answer = (&'static str, String, String, Vec<u8>, bool);

fn answer(
    path: &str,
    given: Option<&str>,
    content: &Mutex<Content>,
    auth: Auth,
    own: &str,
) -> Answer {
    let json = "application/json".to_owned();
    if path.starts_with("/token") {
        return ("200 OK", json, String::new(), br#"{"token": "let-me-in"}"#.to_vec(), false);
    }
    let wanted = match auth {
        Auth::Nobody => None,
        Auth::Basic => Some(("Basic dXNlcjpzZWNyZXQ=", "Basic realm=\"test\"".to_owned())),
        Auth::Token => {
            let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"test\"");
            Some(("Bearer let-me-in", challenge))
        }
    };
    if let Some((wanted, challenge)) = wanted
        && given != Some(wanted)
    {
        let body =
            br#"{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}"#;
        let extra = format!("WWW-Authenticate: {challenge}\r\n");
        return ("401 Unauthorized", json, extra, body.to_vec(), false);
    }
    let name = path.trim_start_matches("/v2/");
    if name.is_empty() {
        return ("200 OK", json, String::new(), b"{}".to_vec(), false);
    }
    let mut content = content.lock().unwrap();
    content.asked.push(name.to_owned());
    let cut = content.broken.iter().position(|broken| broken == name);
    if let Some(at) = cut {
        content.broken.remove(at);
    }
    match content.documents.get(name) {
        Some((kind, body)) => ("200 OK", kind.clone(), String::new(), body.clone(), cut.is_some()),
        None => {
            let body =
                br#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
            ("404 Not Found", json, String::new(), body.to_vec(), false)
        }
    }
}
