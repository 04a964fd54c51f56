//! Workers: each takes a delivery, lets the handler have it, and sees to it that every message is finished.
//!
//! A message that failed is finished when its broker has stored it for another try. Where that fails, it stays and is
//! handled again a little later: it is never dropped.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::assigned_queue::AssignedQueue;
use super::dispatch::Delivery;
use super::handler::{Ack, Batch, HandlerError, MessageListener, consume};
use super::pipeline::Pipeline;
use crate::ReceivedMessage;

/// How long a message that could not be sent back waits. Java: `ConsumeMessageConcurrentlyService.java`.
const HANDLE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Delay level of messages whose handler takes too long. Java: `ProcessQueue.java`, `cleanExpiredMsg`.
const STUCK_LEVEL: i32 = 3;

/// What is left to do with a handled batch.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// So many messages from the front are done.
    done: usize,
    /// The delay level for the others.
    delay_level: i32,
}

impl Verdict {
    fn of(outcome: Result<Ack, HandlerError>, batch: usize) -> Result<Self, HandlerError> {
        let (done, delay_level) = match outcome? {
            Ack::All => (batch, 0),
            Ack::First(done) => (done.min(batch), 0),
            Ack::Retry => (0, 0),
            Ack::RetryAfter(level) => (0, i32::from(level)),
            Ack::DeadLetter => (0, -1),
        };
        Ok(Self { done, delay_level })
    }
}

/// Handles deliveries until the dispatcher is closed.
pub(super) async fn work(pipeline: Arc<Pipeline>, listener: Arc<dyn MessageListener>) {
    while let Some(delivery) = pipeline.dispatcher.next().await {
        handle(&pipeline, &*listener, delivery).await;
    }
}

async fn handle(pipeline: &Arc<Pipeline>, listener: &dyn MessageListener, delivery: Delivery) {
    let Delivery { queue, messages } = delivery;
    let _handling = queue.handling();
    let begun = Instant::now();
    let mut handling = pin!(consume(listener, messages.clone()));
    let outcome = match tokio::time::timeout(pipeline.settings.consume_timeout, &mut handling).await {
        Ok(outcome) => outcome,
        Err(_) if pipeline.store.is_local() => handling.await,
        Err(_) => {
            // One message that is stuck must not keep the offset of its queue for ever.
            let limit = pipeline.settings.consume_timeout;
            let offset = messages.first().map_or(-1, |first| first.queue_offset().get());
            warn!(queue = %queue.id, offset, messages = messages.len(), ?limit, "handler takes too long; messages sent back");
            if !queue.is_gone() {
                send_back(pipeline, queue, &messages, STUCK_LEVEL).await;
            }
            handling.await.ok(); // what it says counts no more
            return;
        }
    };
    if queue.is_gone() {
        debug!(queue = %queue.id, "outcome ignored: the queue has moved on, and the messages with it");
        return;
    }
    let verdict = Verdict::of(outcome, messages.len()).unwrap_or_else(|error| {
        let offset = messages.first().map_or(-1, |first| first.queue_offset().get());
        warn!(queue = %queue.id, offset, messages = messages.len(), %error, "handler failed");
        Verdict { done: 0, delay_level: 0 }
    });
    let (done, failed) = messages.split_at(verdict.done);
    pipeline.consumption.handled(&queue.id.topic, done.len(), failed.len(), begun.elapsed());
    queue.finish(done.iter().map(ReceivedMessage::queue_offset));
    if pipeline.store.is_local() {
        // There is no retry through the broker: it would go to any one member.
        if let Some(first) = failed.first() {
            warn!(queue = %queue.id, offset = %first.queue_offset(), messages = failed.len(), "messages dropped: their handler failed");
        }
        queue.finish(failed.iter().map(ReceivedMessage::queue_offset));
    } else {
        send_back(pipeline, queue, failed, verdict.delay_level).await;
    }
}

/// Has messages that failed stored for another try. Where that fails, they are delivered again a little later.
pub(super) async fn send_back(
    pipeline: &Arc<Pipeline>,
    queue: Arc<AssignedQueue>,
    failed: &[ReceivedMessage],
    delay_level: i32,
) {
    let mut kept = Vec::new();
    for message in failed {
        match pipeline.send_back(&queue.id, message, delay_level).await {
            Ok(()) => queue.finish([message.queue_offset()]),
            Err(error) => {
                let offset = message.queue_offset();
                warn!(queue = %queue.id, %offset, %error, again_in = ?HANDLE_AGAIN_AFTER, "message not sent back");
                kept.push(message.after_failure());
            }
        }
    }
    if !kept.is_empty() {
        let again = Delivery { queue, messages: Batch::new(kept) };
        pipeline.tasks.spawn(deliver_later(Arc::clone(pipeline), again));
    }
}

async fn deliver_later(pipeline: Arc<Pipeline>, delivery: Delivery) {
    tokio::select! {
        () = tokio::time::sleep(HANDLE_AGAIN_AFTER) => pipeline.dispatcher.push([delivery]),
        () = delivery.queue.left() => {}
        () = pipeline.stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_handler_says_decides_what_comes_again() {
        let verdict = |ack| Verdict::of(Ok(ack), 3).unwrap();
        assert_eq!(verdict(Ack::All), Verdict { done: 3, delay_level: 0 });
        assert_eq!(verdict(Ack::First(2)), Verdict { done: 2, delay_level: 0 });
        assert_eq!(verdict(Ack::First(9)), Verdict { done: 3, delay_level: 0 });
        assert_eq!(verdict(Ack::Retry), Verdict { done: 0, delay_level: 0 });
        assert_eq!(verdict(Ack::RetryAfter(5)), Verdict { done: 0, delay_level: 5 });
        assert_eq!(verdict(Ack::DeadLetter), Verdict { done: 0, delay_level: -1 });
        assert!(Verdict::of(Err("no".into()), 3).is_err());
    }
}
