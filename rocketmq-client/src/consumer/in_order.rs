//! Ordered consumption: one task per queue gives its messages to the handler, batch after batch. What fails comes again in its
//! place, and nothing overtakes it. Java: `ConsumeMessageOrderlyService.java`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::assigned_queue::AssignedQueue;
use super::assignment::Assignment;
use super::handler::Batch;
use super::lock_keeper::unlock;
use super::orderly::{OrderlyAck, OrderlyContext, OrderlyListener, consume};
use super::pipeline::Pipeline;
use crate::ReceivedMessage;

/// Shortest time until a batch comes again: a handler that fails at once must not spin. Java: 10 ms.
const SHORTEST_SUSPENSION: Duration = Duration::from_millis(10);
/// Straight to the dead letters, among delay levels.
const DEAD: i32 = -1;
/// How long a handler may keep a queue that another member waits for. Java: `unlockDelayTimeMills`.
const PATIENCE: Duration = Duration::from_secs(20);

/// What makes a consumer an ordered one.
pub(super) struct Ordered {
    pub(super) listener: Arc<dyn OrderlyListener>,
    /// Queues whose handlers may run at the same time.
    pub(super) permits: Arc<Semaphore>,
    /// How long a failed batch waits.
    pub(super) suspend: Duration,
    /// Failures after which a message is a dead letter; never when absent.
    pub(super) max_failures: Option<i32>,
    /// Wakes the keeper of locks when queues were assigned; absent where every member has every queue.
    pub(super) assigned: Option<Arc<Notify>>,
}

/// The messages of one queue on their way to the handler.
pub(super) struct InOrder {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) ordered: Arc<Ordered>,
    pub(super) queue: Arc<AssignedQueue>,
    /// What was read. [Flow control](super::flow_control) bounds it.
    pub(super) inbox: UnboundedReceiver<ReceivedMessage>,
    /// What comes next, before the inbox.
    pub(super) waiting: VecDeque<ReceivedMessage>,
    /// What was handled and not committed.
    pub(super) held: Vec<ReceivedMessage>,
}

impl InOrder {
    /// Has messages handled until the queue is given up or the consumer stops.
    pub(super) async fn run(mut self) {
        let (queue, stop) = (Arc::clone(&self.queue), self.pipeline.stop.clone());
        let _handling = queue.handling();
        loop {
            let (batch, permit) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = queue.left() => return,
                next = self.next() => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let pause = self.handle(batch).await;
            drop(permit);
            if let Some(pause) = pause {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = queue.left() => return,
                    () = tokio::time::sleep(pause.max(SHORTEST_SUSPENSION)) => {}
                }
            }
        }
    }

    /// The next batch, when it is its turn. `None` when nothing more will come.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    async fn next(&mut self) -> Option<(Batch, OwnedSemaphorePermit)> {
        if self.waiting.is_empty() {
            self.waiting.push_back(self.inbox.recv().await?);
        }
        let permit = Arc::clone(&self.ordered.permits).acquire_owned().await.ok()?;
        let size = self.pipeline.settings.batch;
        while self.waiting.len() < size {
            let Ok(message) = self.inbox.try_recv() else { break };
            self.waiting.push_back(message);
        }
        let batch: Arc<[_]> = self.waiting.drain(..size.min(self.waiting.len())).collect();
        Some((Batch::new(batch), permit))
    }

    /// Returns how long nothing of the queue may be handled, if something comes again.
    async fn handle(&mut self, batch: Batch) -> Option<Duration> {
        if self.ordered.assigned.is_some() && !self.queue.lock.is_valid() {
            warn!(queue = %self.queue.id, "lock expired: the queue is given up, and its messages with it");
            self.queue.lose_lock();
            self.pipeline.rebalance.notify_one();
            return None;
        }
        let context = OrderlyContext { lost: self.queue.lock.lost().clone() };
        let begun = Instant::now();
        let outcome = consume(&*self.ordered.listener, batch.clone(), context).await;
        if self.queue.is_gone() {
            debug!(queue = %self.queue.id, "outcome ignored: the queue has moved on, and the messages with it");
            return None;
        }
        let outcome = outcome.unwrap_or_else(|error| {
            warn!(queue = %self.queue.id, offset = offset_of(&batch), messages = batch.len(), %error, "handler failed");
            OrderlyAck::Suspend
        });
        let (done, failed) = match outcome {
            OrderlyAck::Commit | OrderlyAck::Hold => (batch.len(), 0),
            OrderlyAck::Suspend | OrderlyAck::SuspendFor(_) | OrderlyAck::Rollback => (0, batch.len()),
        };
        self.pipeline.consumption.handled(&self.queue.id.topic, done, failed, begun.elapsed());
        match outcome {
            OrderlyAck::Commit => {
                self.queue.stuck(None);
                let done = self.held.iter().chain(&*batch).map(ReceivedMessage::queue_offset);
                self.queue.finish(done);
                self.held.clear();
                None
            }
            OrderlyAck::Hold => {
                self.held.extend(batch.iter().cloned());
                None
            }
            OrderlyAck::Suspend => self.suspend(&batch, self.ordered.suspend).await,
            OrderlyAck::SuspendFor(time) => self.suspend(&batch, time).await,
            OrderlyAck::Rollback => {
                let again = std::mem::take(&mut self.held).into_iter().chain(batch.iter().cloned());
                self.put_back(again.collect());
                Some(self.ordered.suspend)
            }
        }
    }

    /// Puts a failed batch back, but for messages that have failed too often: those become dead letters.
    async fn suspend(&mut self, batch: &Batch, time: Duration) -> Option<Duration> {
        let mut again = Vec::with_capacity(batch.len());
        for message in batch {
            match self.ordered.max_failures {
                Some(max) if message.reconsume_times() >= max && self.give_up(message).await => {}
                _ => again.push(message.after_failure()),
            }
        }
        let first = again.first()?;
        let failures = first.reconsume_times();
        if failures >= 16 && failures & (failures - 1) == 0 {
            error!(queue = %self.queue.id, offset = first.queue_offset().get(), failures, "queue stuck: its handler keeps failing");
        }
        self.queue.stuck(Some((first.queue_offset(), failures)));
        self.put_back(again);
        Some(time)
    }

    /// Makes a dead letter of `message`. Whether that worked.
    async fn give_up(&self, message: &ReceivedMessage) -> bool {
        let (queue, offset) = (&self.queue, message.queue_offset());
        if self.pipeline.store.is_local() {
            warn!(queue = %queue.id, %offset, "message dropped: it has failed too often");
        } else if let Err(error) = self.pipeline.send_back(&queue.id, message, DEAD).await {
            warn!(queue = %queue.id, %offset, %error, "no dead letter made of a message that has failed too often");
            return false;
        }
        queue.stuck(None);
        queue.finish([offset]);
        true
    }

    fn put_back(&mut self, messages: Vec<ReceivedMessage>) {
        for message in messages.into_iter().rev() {
            self.waiting.push_front(message);
        }
    }
}

fn offset_of(batch: &Batch) -> i64 {
    batch.first().map_or(-1, |first| first.queue_offset().get())
}

/// Gives a queue up once its handler has ended, commits, and gives its lock back: only then may another member have it.
/// A handler that goes on for long is told, loses the queue, and its lock expires.
pub(super) async fn release(pipeline: Arc<Pipeline>, assignment: Arc<Assignment>, queue: Arc<AssignedQueue>) {
    queue.leave();
    if tokio::time::timeout(PATIENCE, queue.handled()).await.is_err() {
        warn!(queue = %queue.id, "handler still at work on a queue that belongs to another member; its lock is not renewed");
        queue.lose_lock();
        queue.handled().await;
    }
    if let Err(error) = queue.revoke(&pipeline.store, Instant::now()).await {
        warn!(queue = %queue.id, %error, "queue given up without a commit: some messages will come again");
    }
    let queues = vec![queue];
    if pipeline.ordered.as_ref().is_some_and(|ordered| ordered.assigned.is_some()) {
        unlock(&pipeline, queues.clone()).await;
    }
    assignment.remove(&queues);
    pipeline.rebalance.notify_one();
}
