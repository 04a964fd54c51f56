//! [`FlowControl`]: how much a consumer holds before it stops reading.
//!
//! A queue that has reached its limit, or a consumer that has reached its total, reads on as soon as handlers have
//! finished enough. Since a read is asked for before its size is known, each queue may exceed a limit by one read.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::process_queue::{Held, ProcessQueue};

/// Where reading stops. Java: `pullThresholdForQueue`, `pullThresholdSizeForQueue`, `pullThresholdForTopic`,
/// `pullThresholdSizeForTopic`, `consumeConcurrentlyMaxSpan` of `consumer/DefaultMQPushConsumer.java`; the total is our own, so
/// that memory does not grow with the queues. Java divides the topic's limit among its queues, so that a busy queue
/// cannot use what the others leave; here it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) queue: Held,
    /// Offsets between the first unfinished and the last message of a queue.
    pub(super) span: i64,
    pub(super) topic: Held,
    pub(super) total: Held,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: Held { messages: 1000, bytes: 100 << 20 },
            span: 2000,
            topic: Held { messages: usize::MAX, bytes: usize::MAX },
            total: Held { messages: 10_000, bytes: 256 << 20 },
        }
    }
}

/// How much a consumer holds before it stops reading.
#[derive(Debug, Default)]
pub(super) struct FlowControl {
    limits: Limits,
    total: Budget,
    /// Of each topic that was read. Held to look up.
    topics: Mutex<BTreeMap<String, Arc<Budget>>>,
}

/// What one queue may hold, with what it shares with others.
#[derive(Debug)]
pub(super) struct QueueFlow {
    flow: Arc<FlowControl>,
    topic: Arc<Budget>,
}

/// What several queues hold together.
#[derive(Debug, Default)]
struct Budget {
    /// Held for an addition.
    held: Mutex<Held>,
    room: Notify,
}

impl FlowControl {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// For a queue of `topic`.
    pub(super) fn queue(self: &Arc<Self>, topic: &str) -> QueueFlow {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = Arc::clone(topics.entry(topic.to_owned()).or_default());
        QueueFlow { flow: Arc::clone(self), topic }
    }
}

impl QueueFlow {
    /// Whether more may be read into `queue`.
    pub(super) fn admits(&self, queue: &ProcessQueue) -> bool {
        let limits = &self.flow.limits;
        below(queue.held(), limits.queue)
            && queue.span() < limits.span
            && self.topic.is_below(limits.topic)
            && self.flow.total.is_below(limits.total)
    }

    /// Ends when topic or total have room again. To miss nothing, make it before asking [`QueueFlow::admits`].
    pub(super) fn room(&self) -> impl Future<Output = ()> {
        let (topic, total) = (self.topic.room.notified(), self.flow.total.room.notified());
        async move {
            tokio::select! {
                () = topic => {}
                () = total => {}
            }
        }
    }

    pub(super) fn took(&self, more: Held) {
        self.topic.took(more);
        self.flow.total.took(more);
    }

    pub(super) fn freed(&self, less: Held) {
        self.topic.freed(less, self.flow.limits.topic);
        self.flow.total.freed(less, self.flow.limits.total);
    }
}

impl Budget {
    fn is_below(&self, limit: Held) -> bool {
        below(*self.lock(), limit)
    }

    fn took(&self, more: Held) {
        let mut held = self.lock();
        held.messages += more.messages;
        held.bytes += more.bytes;
    }

    fn freed(&self, less: Held, limit: Held) {
        let mut held = self.lock();
        let was_full = !below(*held, limit);
        held.messages -= less.messages;
        held.bytes -= less.bytes;
        if was_full && below(*held, limit) {
            self.room.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn below(held: Held, limit: Held) -> bool {
    held.messages < limit.messages && held.bytes < limit.bytes
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::QueueOffset;

    use super::*;

    const LIMITS: Limits = Limits {
        queue: Held { messages: 3, bytes: 100 },
        span: 50,
        topic: Held { messages: 4, bytes: 150 },
        total: Held { messages: 5, bytes: 200 },
    };

    fn queue(messages: &[(i64, usize)]) -> ProcessQueue {
        let mut queue = ProcessQueue::new(QueueOffset::ZERO);
        let messages = messages.iter().map(|&(offset, bytes)| (QueueOffset::new(offset), bytes, ()));
        queue.put(messages, QueueOffset::ZERO, |()| {});
        queue
    }

    #[test]
    fn count_bytes_and_span_each_stop_a_queue() {
        let flow = Arc::new(FlowControl::new(LIMITS)).queue("T");
        assert!(flow.admits(&queue(&[(0, 10), (49, 10)])));
        assert!(!flow.admits(&queue(&[(0, 1), (1, 1), (2, 1)])), "count");
        assert!(!flow.admits(&queue(&[(0, 100)])), "bytes");
        assert!(!flow.admits(&queue(&[(0, 1), (50, 1)])), "span");
    }

    #[tokio::test]
    async fn the_total_stops_every_queue_until_something_is_finished() {
        let all = Arc::new(FlowControl::new(LIMITS));
        let (one, other) = (all.queue("one"), all.queue("other"));
        one.took(Held { messages: 3, bytes: 30 });
        other.took(Held { messages: 2, bytes: 20 });
        let room = other.room();
        assert!(!other.admits(&queue(&[])));
        one.freed(Held { messages: 1, bytes: 10 });
        room.await;
        assert!(other.admits(&queue(&[])));
    }

    #[tokio::test]
    async fn a_topic_that_is_full_leaves_other_topics_alone() {
        let all = Arc::new(FlowControl::new(LIMITS));
        let (one, same, other) = (all.queue("one"), all.queue("one"), all.queue("other"));
        one.took(Held { messages: 4, bytes: 40 });
        let room = same.room();
        assert!(!same.admits(&queue(&[])) && other.admits(&queue(&[])));
        one.freed(Held { messages: 1, bytes: 10 });
        room.await;
        assert!(same.admits(&queue(&[])));
    }
}
