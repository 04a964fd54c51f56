//! [`Steering`]: what users and administrators want of queues beyond having them read on: to go on elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::MessageQueue;
use tokio::sync::{Notify, watch};

use super::assigned_queue::AssignedQueue;

/// What is wanted of queues. [`Rebalance`](super::rebalance::Rebalance) and
/// [`Fetch`](super::fetch::Fetch) comply.
#[derive(Default)]
pub(super) struct Steering {
    /// Held to look or to change, never while waiting.
    moves: Mutex<BTreeMap<MessageQueue, Move>>,
    /// There are new moves.
    pub(super) moved: Notify,
}

/// That a queue shall be read on elsewhere.
struct Move {
    to: QueueOffset,
    /// What handlers get to finish first.
    patience: Duration,
    /// Dropped when it is read from there.
    _done: watch::Sender<()>,
}

impl Steering {
    /// Has `queue` read on at `offset`: nothing of it that was read before is given out any more, and handlers get
    /// `patience` to finish. What comes back ends when it is done, or when the queue belongs to somebody else.
    pub(super) fn go_on_at(
        &self,
        queue: &AssignedQueue,
        offset: QueueOffset,
        patience: Duration,
    ) -> watch::Receiver<()> {
        let (done, ended) = watch::channel(());
        self.moves().insert(queue.id.clone(), Move { to: offset, patience, _done: done });
        queue.leave();
        self.moved.notify_one();
        ended
    }

    /// Where `queue` is to go on, if somebody has said so, and what handlers get to finish first.
    pub(super) fn target(&self, queue: &MessageQueue) -> Option<(QueueOffset, Duration)> {
        self.moves().get(queue).map(|wanted| (wanted.to, wanted.patience))
    }

    /// `queue` is read from `offset` on, or no longer ours. Where it is wanted elsewhere by now, it leaves again.
    pub(super) fn arrived(&self, queue: &AssignedQueue, offset: QueueOffset) {
        let mut moves = self.moves();
        match moves.get(&queue.id) {
            Some(wanted) if wanted.to == offset => drop(moves.remove(&queue.id)),
            Some(_) => {
                queue.leave();
                self.moved.notify_one();
            }
            None => {}
        }
    }

    fn moves(&self) -> MutexGuard<'_, BTreeMap<MessageQueue, Move>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
