//! [`Steering`]: what users and administrators want of queues beyond having them read on: to go on elsewhere, to
//! pause, or to have them at all.

use std::collections::{BTreeMap, BTreeSet};
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
    /// There are new moves, or other queues chosen.
    pub(super) moved: Notify,
    paused: watch::Sender<BTreeSet<MessageQueue>>,
    /// The queues that the user has chosen, where the group does not divide them.
    assigned: Option<Mutex<BTreeSet<MessageQueue>>>,
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
    /// With queues that the user has chosen, where the group does not divide them.
    pub(super) fn new(assigned: Option<BTreeSet<MessageQueue>>) -> Self {
        Self { assigned: assigned.map(Mutex::new), ..Self::default() }
    }

    /// The user chooses these queues. Returns false where the group divides them.
    pub(super) fn assign(&self, queues: BTreeSet<MessageQueue>) -> bool {
        let Some(assigned) = &self.assigned else { return false };
        *assigned.lock().unwrap_or_else(PoisonError::into_inner) = queues;
        self.moved.notify_one();
        true
    }

    /// Whether the user has chosen this queue.
    pub(super) fn has_chosen(&self, queue: &MessageQueue) -> bool {
        self.assigned().is_some_and(|assigned| assigned.contains(queue))
    }

    /// The queues that the user has chosen.
    pub(super) fn assigned(&self) -> Option<BTreeSet<MessageQueue>> {
        let assigned = self.assigned.as_ref()?;
        Some(assigned.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

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

    /// Reads no more of these for now.
    pub(super) fn pause(&self, queues: impl IntoIterator<Item = MessageQueue>) {
        self.paused.send_modify(|paused| paused.extend(queues));
    }

    /// Reads these again.
    pub(super) fn resume<'a>(&self, queues: impl IntoIterator<Item = &'a MessageQueue>) {
        let queues: BTreeSet<_> = queues.into_iter().collect();
        self.paused.send_modify(|paused| paused.retain(|queue| !queues.contains(queue)));
    }

    /// Waits while `queue` is paused.
    pub(super) async fn resumed(&self, queue: &MessageQueue) {
        self.paused.subscribe().wait_for(|paused| !paused.contains(queue)).await.ok(); // the sender is ours
    }

    fn moves(&self) -> MutexGuard<'_, BTreeMap<MessageQueue, Move>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
