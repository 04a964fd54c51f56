//! [`SingleFlight`]: of all who want the same thing at the same time, one does it and the others get its result.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Work under way, by what it is about.
pub(crate) struct SingleFlight<K: Clone + Eq + Hash, T> {
    /// Held to find or remove an entry, never while working.
    flights: Mutex<HashMap<K, Arc<Flight<T>>>>,
}

/// Holds the result from when the work is done.
type Flight<T> = tokio::sync::Mutex<Option<T>>;

impl<K: Clone + Eq + Hash, T: Clone> SingleFlight<K, T> {
    pub(crate) fn new() -> Self {
        Self { flights: Mutex::default() }
    }

    /// Does `work`, or waits for whoever is doing it for the same `key`.
    ///
    /// # Cancel safety
    /// When the one who works is dropped, the next in line starts anew.
    pub(crate) async fn run<F: Future<Output = T>>(&self, key: &K, work: impl FnOnce() -> F) -> T {
        let flight = Arc::clone(self.flights().entry(key.clone()).or_default());
        let _cleanup = Cleanup { all: self, key, flight: &flight };
        let mut result = flight.lock().await;
        if let Some(done) = &*result {
            return done.clone();
        }
        let done = work().await;
        *result = Some(done.clone());
        // Who comes from now on wants news.
        self.remove(key, &flight);
        done
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<K, Arc<Flight<T>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, key: &K, flight: &Arc<Flight<T>>) {
        let mut flights = self.flights();
        if flights.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            flights.remove(key);
        }
    }
}

/// Removes a flight that everybody has left.
struct Cleanup<'a, K: Clone + Eq + Hash, T: Clone> {
    all: &'a SingleFlight<K, T>,
    key: &'a K,
    flight: &'a Arc<Flight<T>>,
}

impl<K: Clone + Eq + Hash, T: Clone> Drop for Cleanup<'_, K, T> {
    fn drop(&mut self) {
        // The table's and ours: clones are made under the table's lock only, so a third one may come too late to be
        // seen, but then it does its work on its own, which is all that is lost.
        if Arc::strong_count(self.flight) <= 2 {
            self.all.remove(self.key, self.flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_at_once_cause_the_work_once_and_all_get_its_result() {
        let flights = SingleFlight::new();
        let runs = AtomicUsize::new(0);
        let work = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            runs.fetch_add(1, Ordering::Relaxed)
        };
        let (a, b, c) = tokio::join!(flights.run(&1, work), flights.run(&1, work), flights.run(&2, work));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(flights.run(&1, work).await, 2);
        assert!(flights.flights().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_worker_gives_up_the_next_in_line_works() {
        let flights = SingleFlight::new();
        let slow = async |result: u8| {
            tokio::time::sleep(Duration::from_secs(2)).await;
            result
        };
        let impatient = tokio::time::timeout(Duration::from_secs(1), flights.run(&(), || slow(1)));
        let (gave_up, done) = tokio::join!(impatient, flights.run(&(), || slow(2)));
        assert!(gave_up.is_err());
        assert_eq!(done, 2);
        assert!(flights.flights().is_empty());
    }
}
