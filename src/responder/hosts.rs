//! How many exchanges one host has at once, whoever sent us there: a certificate's second responder, a redirect.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of every host that is being asked.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    limit: usize,
    places: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

impl Hosts {
    pub(super) fn new(limit: NonZeroUsize) -> Self {
        Self { limit: limit.get(), places: Arc::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Waits for a place at this host; dropping it frees it. None only if places could be closed, which they are not.
    pub(super) async fn place(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        self.places_of(host).acquire_owned().await.ok()
    }

    fn places_of(&self, host: &str) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(host).and_then(Weak::upgrade) {
            return known;
        }
        // Hosts that nobody is asking any more.
        places.retain(|_, places| places.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(self.limit));
        places.insert(host.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_host_being_full_keeps_nobody_from_another() {
        let hosts = Hosts::new(NonZeroUsize::new(2).unwrap());
        let soon = Duration::from_secs(1);
        let first = hosts.place("a.example").await.unwrap();
        let _second = hosts.place("a.example").await.unwrap();
        assert!(tokio::time::timeout(soon, hosts.place("a.example")).await.is_err());
        let _other = hosts.place("b.example").await.unwrap();
        drop(first);
        assert!(tokio::time::timeout(soon, hosts.place("a.example")).await.unwrap().is_some());
        assert_eq!(hosts.places.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn hosts_that_nobody_asks_are_forgotten() {
        let hosts = Hosts::new(NonZeroUsize::new(1).unwrap());
        for number in 0..100 {
            drop(hosts.place(&format!("{number}.example")).await.unwrap());
        }
        assert!(hosts.places.lock().unwrap().len() <= 1);
    }
}
