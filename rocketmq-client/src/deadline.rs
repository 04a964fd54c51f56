//! [`Deadline`]: the one limit that a call has. Connecting, waiting for others and all attempts count.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// What `Instant` can surely add: more than any caller waits.
const FOREVER: Duration = Duration::from_secs(86_400 * 365);

/// The time by which a call must be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: Instant,
    at: Instant,
}

impl Deadline {
    /// Now and `limit`.
    pub(crate) fn after(limit: Duration) -> Self {
        let started = Instant::now();
        Self { started, at: started + limit.min(FOREVER) }
    }

    /// What is left; zero when it is over.
    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// When it is over.
    pub(crate) fn at(self) -> Instant {
        self.at
    }

    /// How long it has been running.
    pub(crate) fn elapsed(self) -> Duration {
        self.started.elapsed()
    }

    /// The same, but no longer than `limit` from now.
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { started: self.started, at: self.at.min(Instant::now() + limit.min(FOREVER)) }
    }

    /// One of `parts` equal parts of what is left.
    pub(crate) fn share(self, parts: usize) -> Self {
        self.within(self.left() / u32::try_from(parts).unwrap_or(u32::MAX).max(1))
    }

    /// Runs `work` unless it takes longer; then it is dropped.
    pub(crate) async fn run<F: Future>(self, doing: &'static str, work: F) -> Result<F::Output, Error> {
        tokio::time::timeout_at(self.at, work)
            .await
            .map_err(|_| Error::Timeout { doing, waited: self.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shares_and_limits_never_go_beyond_the_whole() {
        let deadline = Deadline::after(Duration::from_secs(3));
        assert_eq!(deadline.share(3).left(), Duration::from_secs(1));
        assert_eq!(deadline.within(Duration::from_secs(9)).left(), Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(deadline.left(), Duration::ZERO);
        assert_eq!(deadline.elapsed(), Duration::from_secs(4));
        let error = deadline.run("waiting", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.to_string(), "waiting was not done after 4s");
    }

    #[test]
    fn a_limit_beyond_the_clock_is_no_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        assert!(Deadline::after(Duration::MAX).left() > Duration::from_secs(86_400));
    }
}
