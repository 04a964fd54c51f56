//! [`SendOptions`]: what one send does differently.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::MessageQueue;

use super::selector::{MessageQueueSelector, SelectBy, SelectByHash};
use crate::Message;

/// What one send does differently.
///
/// ```
/// use std::time::Duration;
/// use rocketmq_client::SendOptions;
///
/// let same_queue_for_same_order = SendOptions::new().sharding_key("order-42");
/// let first_queue = SendOptions::new().choose(|queues, _message| queues.first());
/// let patient = SendOptions::new().timeout(Duration::from_secs(10));
/// # drop((same_queue_for_same_order, first_queue, patient));
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct SendOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) target: Target,
}

/// Where a message goes.
#[derive(Clone, Default)]
pub(super) enum Target {
    /// To the next queue in turn.
    #[default]
    Turn,
    /// To any queue, of this broker for a start.
    Broker(ByteString),
    Queue(MessageQueue),
    Selected(Arc<dyn MessageQueueSelector>),
}

impl SendOptions {
    /// Nothing different.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limit of this send. Default: the producer's.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The queue to send to, of the message's topic.
    pub fn queue(mut self, queue: MessageQueue) -> Self {
        self.target = Target::Queue(queue);
        self
    }

    /// Messages with the same key go to the same queue, as long as the topic's queues stay the same; Java's
    /// `SelectMessageQueueByHash` agrees on which one.
    pub fn sharding_key(self, key: &str) -> Self {
        self.selector(SelectByHash::of(key))
    }

    /// Chooses the queue.
    pub fn selector(mut self, selector: impl MessageQueueSelector + 'static) -> Self {
        self.target = Target::Selected(Arc::new(selector));
        self
    }

    /// Chooses the queue with a closure.
    pub fn choose<F>(self, choose: F) -> Self
    where
        F: for<'a> Fn(&'a [MessageQueue], &Message) -> Option<&'a MessageQueue> + Send + Sync + 'static,
    {
        self.selector(SelectBy(choose))
    }
}
