//! [`AssignedQueue`]: a queue while it belongs to this consumer, and its progress.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::body::{MessageQueue, ProcessQueueInfo, SubscriptionData};
use rocketmq_protocol::{ByteString, QueueOffset};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::flow_control::QueueFlow;
use super::member::now_ms;
use super::offset_store::OffsetStore;
use super::process_queue::ProcessQueue;
use super::queue_lock::QueueLock;
use crate::Error;

/// A queue while it belongs to this consumer. It is given up once and never comes back: when the queue comes again, that
/// is another value, so that late handlers of the first time cannot touch the progress of the second.
pub(super) struct AssignedQueue {
    pub(super) id: MessageQueue,
    pub(super) subscription: Arc<SubscriptionData>,
    /// The broker's lock, where messages are handled in order.
    pub(super) lock: QueueLock,
    flow: QueueFlow,
    /// Held to note what was read or finished.
    unfinished: Mutex<ProcessQueue>,
    /// Something was finished.
    freed: Notify,
    /// Counts the handlers that have messages of it.
    handling: TaskTracker,
    /// Nothing more is read, or given to handlers.
    leaving: CancellationToken,
    /// What handlers say no longer counts. Set once.
    gone: AtomicBool,
    /// What the broker has acknowledged. Held while it is told, so that no older offset overtakes a newer one.
    committed: tokio::sync::Mutex<Option<QueueOffset>>,
    /// When it was last pulled from and last had a message handled, in milliseconds since 1970.
    pulled_at: AtomicI64,
    handled_at: AtomicI64,
    /// The message that keeps failing in its place, and how often it has. Held to look or to change.
    stuck: Mutex<Option<(QueueOffset, i32)>>,
}

/// Queues under the names of their brokers, each of which is asked once.
pub(super) fn by_broker(queues: Vec<Arc<AssignedQueue>>) -> BTreeMap<ByteString, Vec<Arc<AssignedQueue>>> {
    let mut by_broker: BTreeMap<ByteString, Vec<_>> = BTreeMap::new();
    for queue in queues {
        by_broker.entry(queue.id.broker_name.clone()).or_default().push(queue);
    }
    by_broker
}

impl AssignedQueue {
    pub(super) fn new(id: MessageQueue, subscription: Arc<SubscriptionData>, flow: QueueFlow) -> Self {
        Self {
            id,
            subscription,
            lock: QueueLock::new(),
            flow,
            unfinished: Mutex::new(ProcessQueue::new(QueueOffset::ZERO)),
            freed: Notify::new(),
            handling: TaskTracker::new(),
            leaving: CancellationToken::new(),
            gone: AtomicBool::new(false),
            committed: tokio::sync::Mutex::default(),
            pulled_at: AtomicI64::new(0),
            handled_at: AtomicI64::new(0),
            stuck: Mutex::default(),
        }
    }

    /// Notes which message fails again and again, or that none does.
    pub(super) fn stuck(&self, message: Option<(QueueOffset, i32)>) {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    /// The message that keeps failing in its place, and how often it has.
    pub(super) fn stuck_at(&self) -> Option<(QueueOffset, i32)> {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read at `offset`.
    pub(super) fn begin(&self, offset: QueueOffset) {
        *self.unfinished() = ProcessQueue::new(offset);
    }

    /// Where to read on.
    pub(super) fn next(&self) -> QueueOffset {
        self.unfinished().next()
    }

    /// Where to read on, if everything read so far is finished: no larger offset can be committed before the next
    /// answer to a pull.
    pub(super) fn settled(&self) -> Option<QueueOffset> {
        let unfinished = self.unfinished();
        unfinished.committable().filter(|_| unfinished.is_idle())
    }

    /// Behind everything that is finished; `None` until the broker has answered.
    pub(super) fn committable(&self) -> Option<QueueOffset> {
        self.unfinished().committable()
    }

    /// A pull begins.
    pub(super) fn pulling(&self) {
        self.pulled_at.store(now_ms(), Ordering::Relaxed);
    }

    /// Its state, for administrators.
    pub(super) fn info(&self) -> ProcessQueueInfo {
        let unfinished = self.unfinished();
        let held = unfinished.held();
        let (first, last) = unfinished.bounds().unwrap_or_default();
        ProcessQueueInfo {
            cached_msg_count: i32::try_from(held.messages).unwrap_or(i32::MAX),
            cached_msg_max_offset: last,
            cached_msg_min_offset: first,
            cached_msg_size_in_mib: i32::try_from(held.bytes >> 20).unwrap_or(i32::MAX),
            commit_offset: unfinished.committable().unwrap_or_else(|| unfinished.next()),
            dropped: self.is_leaving(),
            locked: self.lock.is_valid(),
            last_consume_timestamp: self.handled_at.load(Ordering::Relaxed),
            last_pull_timestamp: self.pulled_at.load(Ordering::Relaxed),
            ..ProcessQueueInfo::default()
        }
    }

    /// Takes what the broker answered, see [`ProcessQueue::put`].
    pub(super) fn put<M>(
        &self,
        messages: impl IntoIterator<Item = (QueueOffset, usize, M)>,
        next: QueueOffset,
        take: impl FnMut(M),
    ) {
        let mut unfinished = self.unfinished();
        if !self.is_leaving() {
            let added = unfinished.put(messages, next, take);
            self.flow.took(added);
        }
    }

    /// Messages were handled, or stored elsewhere for another try.
    pub(super) fn finish(&self, offsets: impl IntoIterator<Item = QueueOffset>) {
        self.handled_at.store(now_ms(), Ordering::Relaxed);
        let freed = self.unfinished().finish(offsets);
        if freed.messages > 0 {
            self.flow.freed(freed);
            self.freed.notify_one();
        }
    }

    /// Waits until more may be read.
    pub(super) async fn room(&self) {
        loop {
            let (freed, total) = (self.freed.notified(), self.flow.room());
            if self.flow.admits(&self.unfinished()) {
                return;
            }
            tokio::select! {
                () = freed => {}
                () = total => {}
            }
        }
    }

    /// To be held while a handler has messages of it.
    pub(super) fn handling(&self) -> TaskTrackerToken {
        self.handling.token()
    }

    /// Whether a handler has messages of it.
    pub(super) fn is_handled(&self) -> bool {
        !self.handling.is_empty()
    }

    /// Stops reading and giving messages to handlers: the first step of giving the queue up.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
        self.handling.close();
    }

    /// Whether it is being given up.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Waits until it is being given up.
    pub(super) async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Whether it no longer belongs to this consumer. Results of handlers do not count then: the messages come again to
    /// the next owner.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Tells the broker how far everything is finished, unless it knows.
    pub(super) async fn commit(&self, store: &OffsetStore) -> Result<(), Error> {
        let mut committed = self.committed.lock().await;
        let offset = if self.is_gone() { None } else { self.unfinished().committable() };
        self.tell(store, &mut committed, offset).await
    }

    /// Makes `offset` the group's, whatever is finished.
    pub(super) async fn commit_at(&self, store: &OffsetStore, offset: QueueOffset) -> Result<(), Error> {
        let mut committed = self.committed.lock().await;
        self.tell(store, &mut committed, Some(offset)).await
    }

    /// Gives the queue up: lets handlers finish until `patience` ends, and then tells the broker how far everything is
    /// finished.
    pub(super) async fn revoke(&self, store: &OffsetStore, patience: Instant) -> Result<(), Error> {
        self.leave();
        tokio::time::timeout_at(patience, self.handling.wait()).await.ok(); // what is not finished comes again
        let mut committed = self.committed.lock().await;
        let offset = self.forget();
        self.tell(store, &mut committed, offset).await
    }

    /// Waits until no handler has messages of it. It must have been told to leave.
    pub(super) async fn handled(&self) {
        self.handling.wait().await;
    }

    /// Makes known where the group begins in a queue that it had no offset for, so that it begins there after a crash,
    /// too: before, "at the end" would be somewhere else.
    pub(super) async fn settle(&self, store: &OffsetStore, offset: QueueOffset) -> Result<(), Error> {
        let mut committed = self.committed.lock().await;
        self.tell(store, &mut committed, Some(offset).filter(|_| !self.is_gone())).await
    }

    /// Gives the queue up since its lock is lost, and tells its handler. Nothing is committed: another member may have
    /// gone on from what was.
    pub(super) fn lose_lock(&self) {
        self.lock.lose();
        self.abandon();
    }

    /// Gives the queue up and tells nobody: what is not committed comes again to the next owner.
    pub(super) fn abandon(&self) {
        self.leave();
        self.forget();
    }

    /// Gives the queue up to go on at `offset`: lets handlers finish until `patience` ends, and makes it the group's offset,
    /// whatever they have finished.
    pub(super) async fn go_on_at(
        &self,
        store: &OffsetStore,
        offset: QueueOffset,
        patience: Instant,
    ) -> Result<(), Error> {
        self.leave();
        tokio::time::timeout_at(patience, self.handling.wait()).await.ok(); // late results do not count
        let mut committed = self.committed.lock().await;
        self.forget();
        self.tell(store, &mut committed, Some(offset)).await
    }

    async fn tell(
        &self,
        store: &OffsetStore,
        committed: &mut Option<QueueOffset>,
        offset: Option<QueueOffset>,
    ) -> Result<(), Error> {
        if let Some(offset) = offset.filter(|_| offset != *committed && !store.is_quiet()) {
            store.commit(&self.id, offset).await?;
            *committed = Some(offset);
        }
        Ok(())
    }

    /// From now on handlers say nothing that counts. Returns the offset to commit.
    fn forget(&self) -> Option<QueueOffset> {
        self.gone.store(true, Ordering::Release);
        let mut unfinished = self.unfinished();
        let offset = unfinished.committable();
        self.flow.freed(unfinished.clear());
        offset
    }

    fn unfinished(&self) -> MutexGuard<'_, ProcessQueue> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
