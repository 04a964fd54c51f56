//! [`QueueLock`]: whether this consumer holds the broker's lock of a queue, without which ordered messages of it must not
//! be handled.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a lock is renewed. Java: `ConsumeMessageOrderlyService.java`, `rocketmq.client.rebalance.lockInterval`.
const RENEW: Duration = Duration::from_secs(20);
/// How long it is believed in after the broker last gave it; the broker itself keeps it for 60 s. Java:
/// `ProcessQueue.java`, `rocketmq.client.rebalance.lockMaxLiveTime`.
const VALID: Duration = Duration::from_secs(30);
/// Pause before a lock is asked for again that somebody else has, or that a broker did not answer for. Java:
/// `RebalanceImpl.java`, 500 ms.
const AGAIN: Duration = Duration::from_millis(500);

/// Whether the lock of one queue is held. Lost once, it stays lost: the queue is then taken anew.
pub(super) struct QueueLock {
    /// When it was first wanted.
    wanted: Instant,
    state: watch::Sender<State>,
    lost: CancellationToken,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// When the request was sent that it was last granted to.
    granted: Option<Instant>,
    asked: Option<Instant>,
}

impl QueueLock {
    pub(super) fn new() -> Self {
        Self { wanted: Instant::now(), state: watch::Sender::default(), lost: CancellationToken::new() }
    }

    /// A broker answered yes to what it was asked at `asked`.
    pub(super) fn grant(&self, asked: Instant) {
        self.state.send_replace(State { granted: Some(asked), asked: Some(asked) });
    }

    /// A broker answered no to what it was asked at `asked`. Whether a lock is lost by that.
    pub(super) fn refuse(&self, asked: Instant) -> bool {
        self.state.send_modify(|state| state.asked = Some(asked));
        self.state.borrow().granted.is_some()
    }

    /// Nobody answered what was asked at `asked`. Whether a lock is lost by that, because it is too old.
    pub(super) fn unanswered(&self, asked: Instant) -> bool {
        self.refuse(asked) && !self.is_valid()
    }

    /// Tells whoever handles messages of the queue that they no longer may.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    /// Cancelled when it is lost.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Waits until it is held for the first time.
    pub(super) async fn held(&self) {
        self.state.subscribe().wait_for(|state| state.granted.is_some()).await.ok(); // we own the sender
    }

    /// Whether messages may be handled now.
    pub(super) fn is_valid(&self) -> bool {
        !self.lost.is_cancelled() && self.state.borrow().granted.is_some_and(|at| at.elapsed() < VALID)
    }

    /// When to ask for it, first or again; never after it is lost.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.lost.is_cancelled() {
            return None;
        }
        let State { granted, asked } = *self.state.borrow();
        Some(match (granted, asked) {
            (_, None) => self.wanted,
            (Some(granted), Some(asked)) if granted == asked => granted + RENEW,
            (_, Some(asked)) => asked + AGAIN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_renewed_every_20_s_and_believed_in_for_30() {
        let (lock, start) = (QueueLock::new(), Instant::now());
        assert_eq!((lock.due(), lock.is_valid()), (Some(start), false));
        assert!(!lock.refuse(start), "what was never held is not lost");
        assert_eq!(lock.due(), Some(start + AGAIN));
        lock.grant(start);
        lock.held().await;
        assert_eq!((lock.due(), lock.is_valid()), (Some(start + RENEW), true));
        tokio::time::advance(RENEW).await;
        assert!(!lock.unanswered(Instant::now()));
        assert_eq!((lock.due(), lock.is_valid()), (Some(start + RENEW + AGAIN), true));
        tokio::time::advance(VALID - RENEW).await;
        assert!(!lock.is_valid() && lock.unanswered(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_says_no_takes_the_lock_at_once_and_for_good() {
        let lock = QueueLock::new();
        lock.grant(Instant::now());
        assert!(lock.refuse(Instant::now()));
        lock.lose();
        lock.grant(Instant::now());
        assert_eq!((lock.is_valid(), lock.due()), (false, None));
    }
}
