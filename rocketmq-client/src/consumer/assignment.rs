//! [`Assignment`]: the queues that belong to this consumer now, each with the task that reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::body::MessageQueue;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::assigned_queue::AssignedQueue;

/// The queues that belong to this consumer now.
#[derive(Default)]
pub(super) struct Assignment {
    /// Held to look or to change, never while waiting.
    queues: Mutex<BTreeMap<MessageQueue, Assigned>>,
    /// A queue came.
    pub(super) came: Notify,
}

struct Assigned {
    queue: Arc<AssignedQueue>,
    fetch: JoinHandle<()>,
    /// It is being given up, which takes until its handlers end. It cannot be taken again before.
    releasing: bool,
}

impl Assigned {
    /// Whether somebody still reads it.
    fn is_read(&self) -> bool {
        !self.queue.is_leaving() && !self.fetch.is_finished()
    }
}

impl Assignment {
    pub(super) fn add(&self, queue: Arc<AssignedQueue>, fetch: JoinHandle<()>) {
        self.lock().insert(queue.id.clone(), Assigned { queue, fetch, releasing: false });
        self.came.notify_waiters();
    }

    /// These will be [removed](Self::remove) later.
    pub(super) fn releasing(&self, queues: &[Arc<AssignedQueue>]) {
        let mut assigned = self.lock();
        for queue in queues {
            if let Some(assigned) = assigned.get_mut(&queue.id) {
                assigned.releasing = true;
            }
        }
    }

    pub(super) fn remove(&self, queues: &[Arc<AssignedQueue>]) {
        let mut assigned = self.lock();
        for queue in queues {
            assigned.remove(&queue.id);
        }
    }

    /// This one, if it belongs to this consumer.
    pub(super) fn get(&self, queue: &MessageQueue) -> Option<Arc<AssignedQueue>> {
        self.lock().get(queue).map(|assigned| Arc::clone(&assigned.queue))
    }

    /// All of them.
    pub(super) fn queues(&self) -> Vec<Arc<AssignedQueue>> {
        self.lock().values().map(|assigned| Arc::clone(&assigned.queue)).collect()
    }

    /// What has to change so that the queues of `topic` are `wanted`: those to give up, and those to take. A queue that is
    /// no longer read, because its offset was moved, is both. One that is still being given up is neither.
    pub(super) fn difference(
        &self,
        topic: &str,
        wanted: &BTreeSet<MessageQueue>,
    ) -> (Vec<Arc<AssignedQueue>>, Vec<MessageQueue>) {
        let assigned = self.lock();
        let of_topic = assigned.values().filter(|assigned| assigned.queue.id.topic == topic);
        let (kept, given_up): (Vec<_>, Vec<_>) = of_topic.partition(|assigned| {
            assigned.releasing || (wanted.contains(&assigned.queue.id) && assigned.is_read())
        });
        let kept: BTreeSet<_> = kept.into_iter().map(|assigned| &assigned.queue.id).collect();
        let taken = wanted.iter().filter(|queue| !kept.contains(queue)).cloned().collect();
        (given_up.into_iter().map(|assigned| Arc::clone(&assigned.queue)).collect(), taken)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageQueue, Assigned>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
