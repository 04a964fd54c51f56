//! [`OrderlyListener`]: the user's code for messages that must be handled one after the other, and what it says about
//! them. "Later, others first" is nothing it could say.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::handler::{Batch, HandlerError, caught};

/// What became of a batch of an ordered consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderlyAck {
    /// It is done, and so are those before it that were [held](Self::Hold).
    Commit,
    /// It is handled, but not for good: the next batch comes, and what is held comes again after a [roll-back](Self::Rollback), a
    /// crash, or a change of owner.
    Hold,
    /// It comes again, after the consumer's [suspend time](crate::PushConsumerBuilder::suspend_time). Until then nothing of its queue
    /// is handled.
    Suspend,
    /// As [`OrderlyAck::Suspend`], after this time; at least 10 ms.
    SuspendFor(Duration),
    /// It comes again, and before it everything that was held since the last [commit](Self::Commit), after the suspend time.
    Rollback,
}

/// What a handler of an ordered consumer can know of its queue.
#[derive(Clone, Debug)]
pub struct OrderlyContext {
    pub(super) lost: CancellationToken,
}

impl OrderlyContext {
    /// Whether the queue was taken away while its messages are being handled: the broker no longer grants its lock, or
    /// another member has waited long for it. What the handler says counts no more, and somebody else may be handling
    /// the same messages.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until the queue is taken away: to give up long work with `tokio::select!`.
    ///
    /// # Cancel safety
    /// It may be dropped.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// Handles messages of each queue one batch after the other. Closures go to [`ordered`](crate::PushConsumerBuilder::ordered)
/// directly. Java: `MessageListenerOrderly.java`.
#[async_trait]
pub trait OrderlyListener: Send + Sync + 'static {
    /// Handles a batch. An error or a panic is as good as [`OrderlyAck::Suspend`].
    ///
    /// # Cancel safety
    /// It is dropped half-way when the consumer is dropped or its shutdown runs out of time; the batch then comes again.
    async fn consume(&self, messages: Batch, context: OrderlyContext) -> Result<OrderlyAck, HandlerError>;
}

/// A closure as a listener.
pub(super) struct OrderlyFn<F>(pub(super) F);

#[async_trait]
impl<F, Fut> OrderlyListener for OrderlyFn<F>
where
    F: Fn(Batch, OrderlyContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<OrderlyAck, HandlerError>> + Send,
{
    async fn consume(&self, messages: Batch, context: OrderlyContext) -> Result<OrderlyAck, HandlerError> {
        (self.0)(messages, context).await
    }
}

/// The listener's verdict on `messages`; a panic becomes an error.
pub(super) async fn consume(
    listener: &dyn OrderlyListener,
    messages: Batch,
    context: OrderlyContext,
) -> Result<OrderlyAck, HandlerError> {
    caught(listener.consume(messages, context)).await
}
