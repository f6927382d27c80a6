//! Connections of clients that may be slow, many, or hostile: each costs a bounded piece of memory for a bounded time, and
//! a new one is always let in.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// At once; a scraper, a prober and some people are a handful. One more, and the oldest is closed: whoever holds
/// connections open must not keep a liveness probe out.
const MOST_CONNECTIONS: usize = 128;
/// Bytes of a request's head, and of what waits to be written of a reply's.
const BUFFER: usize = 16 * 1024;
/// For a request's head, counted from the connection's start or the last reply.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After this, a connection takes no further request.
const LIFE: Duration = Duration::from_secs(30);
/// A reply that is under way then has this long to be read.
const LAST_REPLY: Duration = Duration::from_secs(10);
/// When the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections until `shutdown` resolves; then lets replies that are under way finish.
pub(super) async fn serve(listener: TcpListener, routes: Router, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let stopping = CancellationToken::new();
    let mut open = Open::default();
    let mut accepting = true;
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                accepting = true;
                open.admit(connection(stream, routes.clone(), stopping.clone())).await;
            }
            // The client's own doing: it went away before it was let in.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                if std::mem::take(&mut accepting) {
                    tracing::warn!(%error, "cannot accept HTTP connections; raise the limit of open files");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.cancel();
    while let Some(ended) = open.tasks.join_next().await {
        note(ended);
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// The connections, oldest first.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Open {
    async fn admit(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.tasks.try_join_next() {
            note(ended);
        }
        self.oldest_first.retain(|connection| !connection.is_finished());
        while self.tasks.len() >= MOST_CONNECTIONS {
            if let Some(oldest) = self.oldest_first.pop_front() {
                oldest.abort();
            }
            if let Some(ended) = self.tasks.join_next().await {
                note(ended);
            }
        }
        self.oldest_first.push_back(self.tasks.spawn(connection));
    }
}

/// A connection that was closed for a newer one is no news; a panic is a fault of this program.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended.map_err(JoinError::try_into_panic)
        && error.is_ok()
    {
        tracing::error!("an HTTP request failed, which is a fault of this program, please report it");
    }
}

async fn connection(stream: TcpStream, routes: Router, stopping: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopping.cancelled() => None,
        () = tokio::time::sleep(LIFE) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REPLY, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "an HTTP connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_is_let_in_and_the_oldest_makes_room() {
        let mut open = Open::default();
        let (gone, mut is_gone) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..MOST_CONNECTIONS + 3 {
            let gone = gone.clone();
            open.admit(async move {
                let _held = scopeguard(number, gone);
                std::future::pending::<()>().await;
            })
            .await;
            // Let it start, so that it has something to drop.
            tokio::task::yield_now().await;
            assert!(open.tasks.len() <= MOST_CONNECTIONS);
        }
        assert_eq!((is_gone.recv().await, is_gone.recv().await, is_gone.recv().await), (Some(0), Some(1), Some(2)));
        assert!(is_gone.try_recv().is_err());
        assert!(open.oldest_first.len() <= MOST_CONNECTIONS);
    }

    /// Says which connection was dropped.
    fn scopeguard(number: usize, gone: tokio::sync::mpsc::UnboundedSender<usize>) -> impl Drop {
        struct Guard(usize, tokio::sync::mpsc::UnboundedSender<usize>);
        impl Drop for Guard {
            fn drop(&mut self) {
                let _ = self.1.send(self.0);
            }
        }
        Guard(number, gone)
    }
}
