//! Looking up host names: one look at a time for each name, and only those addresses that an exchange may go to.
//!
//! The system's resolver blocks a thread until it has an answer or gives up, long after our deadline. The threads are
//! those that also serve the disk, so a name that hangs may hold one of them, and all names together half of them.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hyper_util::client::legacy::connect::dns;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use super::Reach;

/// Half of the threads that tokio has for what blocks.
const MOST_LOOKUPS: usize = 256;
/// Part of the time to connect, so that a slow resolver is named as such. It asks its second server after five seconds.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// What was found too late for everybody who asked is kept so long for their next attempt, which comes sooner.
const LATE_ANSWER_KEPT: Duration = Duration::from_secs(30);

/// What came of a look; nothing yet while it is under way.
type Found = Option<Result<Arc<[SocketAddr]>, Arc<str>>>;

/// The looks under way.
#[derive(Clone, Debug)]
pub(super) struct Names {
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<Found>>>>,
    places: Arc<Semaphore>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { under_way: Arc::default(), places: Arc::new(Semaphore::new(MOST_LOOKUPS)) }
    }

    /// Joins the look for this name that is under way, or starts one, which goes on when nobody waits for it any more.
    fn look(&self, name: &str) -> watch::Receiver<Found> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = under_way.get(name) {
            return look.clone();
        }
        let (tell, look) = watch::channel(None);
        under_way.insert(name.to_owned(), look.clone());
        let (name, under_way, places) = (name.to_owned(), self.under_way.clone(), self.places.clone());
        tokio::spawn(async move {
            let place = places.acquire().await;
            let found = match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => Err(error.to_string().into()),
            };
            drop(place);
            let is_found = found.is_ok();
            tell.send_replace(Some(found));
            // Only the table listens.
            if is_found && tell.receiver_count() == 1 {
                tokio::time::sleep(LATE_ANSWER_KEPT).await;
            }
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
        look
    }
}

/// Addresses of one reach. What it gives is what is connected to: there is no second look that could differ.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    pub(super) names: Names,
    pub(super) reach: Reach,
}

/// A name has only addresses that an exchange may not go to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' has only addresses that only this host can reach")]
pub(super) struct OutOfReach {
    name: String,
}

/// The resolver is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the resolver gave no answer within {} s", LOOKUP_TIMEOUT.as_secs())]
struct Slow;

/// A name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct NotFound(Arc<str>);

impl Resolver {
    async fn addresses(self, name: String) -> Result<vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>> {
        let mut look = self.names.look(&name);
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, look.wait_for(Option::is_some)).await;
        let found = found.map_err(|_| Slow)??.clone();
        let found = found.unwrap_or_else(|| Ok([].into())).map_err(NotFound)?;
        let within: Vec<SocketAddr> = found.iter().copied().filter(|address| self.reach.admits(address.ip())).collect();
        if within.is_empty() && !found.is_empty() {
            return Err(OutOfReach { name }.into());
        }
        Ok(within.into_iter())
    }
}

/// As reqwest wants it.
impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.clone().addresses(name.as_str().to_owned());
        Box::pin(async {
            let addresses: Addrs = Box::new(found.await?);
            Ok(addresses)
        })
    }
}

/// As hyper wants it.
impl Service<dns::Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(self.clone().addresses(name.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolved(reach: Reach, name: &str) -> Result<Vec<SocketAddr>, String> {
        let resolver = Resolver { names: Names::new(), reach };
        let found = resolver.addresses(name.to_owned()).await;
        found.map(Iterator::collect).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_name_of_this_host_is_found_or_not_as_the_reach_says() {
        for reach in [Reach::Anywhere, Reach::ThisHost] {
            let found = resolved(reach, "localhost").await.unwrap();
            assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        }
        let error = resolved(Reach::Elsewhere, "localhost").await.unwrap_err();
        assert_eq!(error, "'localhost' has only addresses that only this host can reach");
    }

    #[tokio::test]
    async fn those_who_ask_for_the_same_name_wait_for_the_same_look() {
        let names = Names::new();
        let (first, second) = (names.look("localhost"), names.look("localhost"));
        assert!(first.same_channel(&second));
        let mut waiting = first;
        waiting.wait_for(Option::is_some).await.unwrap();
        while !names.under_way.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!names.look("localhost").same_channel(&second), "a later one gets a fresh look");
    }

    #[tokio::test]
    async fn what_comes_too_late_serves_the_next_attempt() {
        let names = Names::new();
        drop(names.look("localhost"));
        let is_over = |names: &Names| {
            let under_way = names.under_way.lock().unwrap();
            under_way.get("localhost").is_some_and(|look| look.borrow().is_some())
        };
        while !is_over(&names) {
            tokio::task::yield_now().await;
        }
        assert!(names.look("localhost").borrow().as_ref().is_some_and(Result::is_ok), "it is known at once");
    }
}
