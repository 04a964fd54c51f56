//! [`FlowControl`]: how much a consumer holds before it stops reading.
//!
//! A queue that has reached its limit, or a consumer that has reached its total, reads on as soon as handlers have
//! finished enough. Since a read is asked for before its size is known, each queue may exceed a limit by one read.

use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::process_queue::{Held, ProcessQueue};

/// Where reading stops. Java: `pullThresholdForQueue`, `pullThresholdSizeForQueue`, `consumeConcurrentlyMaxSpan` of
/// `consumer/DefaultMQPushConsumer.java`; the total is our own, so that memory does not grow with the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) queue: Held,
    /// Offsets between the first unfinished and the last message of a queue.
    pub(super) span: i64,
    pub(super) total: Held,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: Held { messages: 1000, bytes: 100 << 20 },
            span: 2000,
            total: Held { messages: 10_000, bytes: 256 << 20 },
        }
    }
}

/// How much a consumer holds before it stops reading.
#[derive(Debug, Default)]
pub(super) struct FlowControl {
    limits: Limits,
    /// All queues together. Held for an addition.
    held: Mutex<Held>,
    room: Notify,
}

impl FlowControl {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether more may be read into `queue`.
    pub(super) fn admits(&self, queue: &ProcessQueue) -> bool {
        below(queue.held(), self.limits.queue)
            && queue.span() < self.limits.span
            && below(*self.lock(), self.limits.total)
    }

    /// Ends when the total has room again. To miss nothing, make it before asking [`FlowControl::admits`].
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    pub(super) fn took(&self, more: Held) {
        let mut held = self.lock();
        held.messages += more.messages;
        held.bytes += more.bytes;
    }

    pub(super) fn freed(&self, less: Held) {
        let mut held = self.lock();
        let was_full = !below(*held, self.limits.total);
        held.messages -= less.messages;
        held.bytes -= less.bytes;
        if was_full && below(*held, self.limits.total) {
            self.room.notify_waiters();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn below(held: Held, limit: Held) -> bool {
    held.messages < limit.messages && held.bytes < limit.bytes
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::QueueOffset;

    use super::*;

    const LIMITS: Limits =
        Limits { queue: Held { messages: 3, bytes: 100 }, span: 50, total: Held { messages: 5, bytes: 200 } };

    fn queue(messages: &[(i64, usize)]) -> ProcessQueue {
        let mut queue = ProcessQueue::new(QueueOffset::ZERO);
        let messages = messages.iter().map(|&(offset, bytes)| (QueueOffset::new(offset), bytes, ()));
        queue.put(messages, QueueOffset::ZERO, |()| {});
        queue
    }

    #[test]
    fn count_bytes_and_span_each_stop_a_queue() {
        let flow = FlowControl::new(LIMITS);
        assert!(flow.admits(&queue(&[(0, 10), (49, 10)])));
        assert!(!flow.admits(&queue(&[(0, 1), (1, 1), (2, 1)])), "count");
        assert!(!flow.admits(&queue(&[(0, 100)])), "bytes");
        assert!(!flow.admits(&queue(&[(0, 1), (50, 1)])), "span");
    }

    #[tokio::test]
    async fn the_total_stops_every_queue_until_something_is_finished() {
        let flow = FlowControl::new(LIMITS);
        flow.took(Held { messages: 5, bytes: 50 });
        let room = flow.room();
        assert!(!flow.admits(&queue(&[])));
        flow.freed(Held { messages: 1, bytes: 10 });
        room.await;
        assert!(flow.admits(&queue(&[])));
    }
}
