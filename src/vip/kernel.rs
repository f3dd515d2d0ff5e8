//! A connection to the kernel (netlink) that is made anew when it fails, and on which nothing is waited for without an
//! end: an answer can get lost when the kernel has no memory for it.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rtnetlink::{Error, Handle, new_connection};

/// The kernel answers a request within this, or it is asked once more on a new connection.
const REQUEST_MAX: Duration = Duration::from_millis(500);

/// How often a request is made, each time on another connection.
const TRIES: usize = 2;

/// Why the kernel has not done it.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was asked, and said no.
    #[error("{0}")]
    Refused(Error),
    /// It was not asked, or its answer was not heard.
    #[error("the kernel cannot be asked (netlink): {0}")]
    Unheard(Error),
    #[error("the kernel cannot be asked (netlink): the connection ended")]
    Ended,
    #[error("the kernel did not answer within {} ms (netlink)", REQUEST_MAX.as_millis())]
    Late,
    #[error("no connection to the kernel (netlink): {0}")]
    Closed(#[from] io::Error),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Kernel(Mutex<Option<Arc<Connection>>>);

#[derive(Debug)]
struct Connection {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
    ended: Arc<AtomicBool>,
}

impl Connection {
    fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        let ended = Arc::new(AtomicBool::new(false));
        let watched = Watched { _noted: Noted(ended.clone()), connection };
        let task = tokio::spawn(async move {
            let mut watched = watched;
            (&mut watched.connection).await;
        });
        Ok(Self { handle, task, ended })
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.task.abort();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Its fields are dropped in this order: who hears that the connection ended knows that this was no answer.
struct Watched<C> {
    _noted: Noted,
    connection: C,
}

struct Noted(Arc<AtomicBool>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Kernel {
    /// The one that is open, or a new one. Must be called inside a tokio runtime.
    fn connection(&self) -> io::Result<Arc<Connection>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = kept.as_ref().filter(|open| !open.ended.load(Ordering::Acquire)) {
            return Ok(open.clone());
        }
        let open = Arc::new(Connection::open()?);
        *kept = Some(open.clone());
        Ok(open)
    }

    /// Makes a request that may be made twice. What it gets is all that was to be heard: a connection that ends before
    /// the answer looks like an answer to who makes the request.
    pub async fn ask<T, F>(&self, request: impl Fn(Handle) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut failed = Failed::Late;
        for _ in 0..TRIES {
            let open = self.connection()?;
            let answer = tokio::time::timeout(REQUEST_MAX, request(open.handle.clone())).await;
            failed = match answer {
                Ok(Err(refused @ Error::NetlinkError(_))) => return Err(Failed::Refused(refused)),
                Ok(Ok(_)) if open.ended.load(Ordering::Acquire) => Failed::Ended,
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failed::Unheard(error),
                Err(_) => Failed::Late,
            };
            open.end();
        }
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn addresses(handle: Handle) -> Result<usize, Error> {
        let all: Vec<_> = handle.address().get().execute().try_collect().await?;
        Ok(all.len())
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_answer_fails_in_time_and_the_next_request_has_a_new_connection() {
        let kernel = Kernel::default();
        let before = kernel.connection().unwrap();
        let began = tokio::time::Instant::now();
        let failed = kernel.ask(|_| std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(failed, Err(Failed::Late)), "{failed:?}");
        assert_eq!(began.elapsed(), REQUEST_MAX * 2);
        assert!(!Arc::ptr_eq(&before, &kernel.connection().unwrap()));
    }

    #[tokio::test]
    async fn a_connection_that_ended_is_no_answer_and_is_made_anew() {
        let kernel = Kernel::default();
        let open = kernel.connection().unwrap();
        let abort = open.task.abort_handle();
        drop(open);
        let first = AtomicBool::new(true);
        let asked = kernel.ask(|handle| {
            let first = first.swap(false, Ordering::Relaxed);
            let abort = abort.clone();
            async move {
                if first {
                    abort.abort();
                    // The answer to this request: the end of the connection.
                    return match addresses(handle).await {
                        Err(Error::RequestFailed) => Err(Error::RequestFailed),
                        _ => Ok(usize::MAX),
                    };
                }
                addresses(handle).await
            }
        });
        let heard = asked.await.unwrap();
        assert_ne!(heard, usize::MAX, "what ended was no answer");
        assert!(!first.load(Ordering::Relaxed));
    }
}
