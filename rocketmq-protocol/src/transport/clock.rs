//! [`Clock`]: the time that name server and broker go by. A test can put it forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// The system's clock, plus what [`Clock::advance`] added. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ahead_ms: AtomicI64,
    moved: Notify,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(system).saturating_add(self.inner.ahead_ms.load(Ordering::Acquire))
    }

    /// Puts the clock forward: everything that waits for a time up to then is due at once.
    pub fn advance(&self, by: Duration) {
        self.inner.ahead_ms.fetch_add(millis(by), Ordering::AcqRel);
        self.inner.moved.notify_waiters();
    }

    /// Waits until the clock shows `at_ms`.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn sleep_until(&self, at_ms: i64) {
        loop {
            let moved = self.inner.moved.notified();
            let left = at_ms.saturating_sub(self.now_ms());
            let Ok(left) = u64::try_from(left) else { return };
            if left == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
                () = moved => {}
            }
        }
    }

    /// Waits for `duration` by this clock.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now_ms().saturating_add(millis(duration))).await;
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advancing_wakes_those_who_wait_for_a_time_up_to_then() {
        let clock = Clock::system();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(3601));
        sleeper.await.unwrap();
    }

    #[tokio::test]
    async fn a_time_that_has_passed_is_not_waited_for() {
        let clock = Clock::system();
        clock.sleep_until(clock.now_ms() - 1).await;
    }
}
