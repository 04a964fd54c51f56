//! [`Dispatch`]: makes appended records readable in their queues and tells who waits for them.
//!
//! There is no thread and no polling. Whoever appended tries to become the dispatcher; if somebody is at it already, that one sees the new
//! record too and dispatches it. Records are dispatched in log order, each once.

use std::sync::atomic::{AtomicI64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use rocketmq_protocol::message::{StoredMessageRef, SysFlag, property, stored};
use rocketmq_protocol::name::SCHEDULE_TOPIC;
use rocketmq_protocol::{LogPosition, TagHash};
use tracing::error;

use super::arrival::Arrival;
use super::commit_log::{BLANK_HEADER, CommitLog, is_queued};
use super::consume_queue::ConsumeQueue;
use super::queue_table::QueueTable;
use super::unit::Unit;

type Listener = Box<dyn Fn(&Arrival<'_>) + Send + Sync>;

pub(super) struct Dispatch {
    /// Everything before is dispatched. Moved under `listeners` only.
    position: AtomicI64,
    /// Store timestamp of the last dispatched record.
    timestamp: AtomicI64,
    /// Held by the dispatcher.
    listeners: Mutex<Vec<Listener>>,
    queue_units: QueueUnits,
}

/// Which unit a record has in which queue.
pub(super) struct QueueUnits {
    /// Delay of each level in ms, level 1 first.
    delays_ms: Vec<i64>,
}

impl QueueUnits {
    pub(super) fn new(delay_levels: &[Duration]) -> Self {
        let ms = |delay: &Duration| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Self { delays_ms: delay_levels.iter().map(ms).collect() }
    }

    /// The unit of a record, if it has one.
    pub(super) fn of(&self, message: &StoredMessageRef<'_>) -> Option<Unit> {
        if !is_queued(message.sys_flag()) {
            return None;
        }
        let tag_hash = match message.topic() {
            SCHEDULE_TOPIC => self.due_time(message).unwrap_or_else(|| message.tag_hash()),
            _ => message.tag_hash(),
        };
        let size = i32::try_from(message.total_size()).ok()?;
        Some(Unit { position: message.physical_offset(), size, tag_hash })
    }

    /// When a delayed message is due. Java: `CommitLog.checkMessageAndReturnSize`, `ScheduleMessageService.computeDeliverTimestamp`.
    fn due_time(&self, message: &StoredMessageRef<'_>) -> Option<TagHash> {
        let level: usize =
            message.properties().get(property::DELAY)?.parse().ok().filter(|level| *level > 0)?;
        let delay = self.delays_ms.get(level - 1).or(self.delays_ms.last()).copied().unwrap_or(1000);
        Some(TagHash::new(message.store_timestamp().saturating_add(delay)))
    }
}

impl Dispatch {
    /// Everything before `position` is in the queues already.
    pub(super) fn new(position: LogPosition, timestamp: i64, queue_units: QueueUnits) -> Self {
        Self {
            position: AtomicI64::new(position.get()),
            timestamp: AtomicI64::new(timestamp),
            listeners: Mutex::default(),
            queue_units,
        }
    }

    pub(super) fn position(&self) -> LogPosition {
        LogPosition::new(self.position.load(Ordering::Acquire))
    }

    pub(super) fn timestamp(&self) -> i64 {
        self.timestamp.load(Ordering::Acquire)
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Sees to it that everything appended so far gets dispatched: by this thread, or by the one that is at it. `likely` is the queue that
    /// was appended to, which then need not be looked up again.
    pub(super) fn run(&self, log: &CommitLog, queues: &QueueTable, likely: Option<&Arc<ConsumeQueue>>) {
        loop {
            // Between publishing a record and trying the lock, and between releasing the lock and looking for records: so of an appender that
            // finds the lock taken and a dispatcher that is just leaving, at least one sees the other.
            fence(Ordering::SeqCst);
            if self.position() >= log.end() {
                return;
            }
            let listeners = match self.listeners.try_lock() {
                Ok(listeners) => listeners,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while self.dispatch_file(log, queues, likely, &listeners) {}
        }
    }

    /// Dispatches what there is in the file at the current position. False if there was nothing.
    fn dispatch_file(
        &self,
        log: &CommitLog,
        queues: &QueueTable,
        likely: Option<&Arc<ConsumeQueue>>,
        listeners: &[Listener],
    ) -> bool {
        let from = self.position();
        // Log files are deleted oldest first, and never the one that is appended to.
        let Some(file) = log.file_at(from.max(log.start())) else { return false };
        let base = file.base();
        let readable = file.readable();
        let start = usize::try_from(from.get() - base.get()).unwrap_or(0);
        let mut at = start;
        while let Some(rest) = readable.get(at..).filter(|rest| !rest.is_empty()) {
            match StoredMessageRef::parse(rest) {
                Ok(message) => {
                    self.dispatch_message(&message, queues, likely, listeners);
                    at += message.total_size();
                }
                Err(_) if is_blank(rest) => at = log.file_size(),
                Err(error) => {
                    // Appends are checked, so this is damage: what cannot be told apart cannot be dispatched.
                    error!(position = %base.plus(at as i64), %error, "unreadable record in the commit log, skipping what follows it");
                    at = readable.len();
                }
            }
            self.position.store(base.plus(at as i64).get(), Ordering::Release);
        }
        at > start
    }

    fn dispatch_message(
        &self,
        message: &StoredMessageRef<'_>,
        queues: &QueueTable,
        likely: Option<&Arc<ConsumeQueue>>,
        listeners: &[Listener],
    ) {
        self.timestamp.store(message.store_timestamp(), Ordering::Release);
        let inner_batch = message.sys_flag().contains(SysFlag::INNER_BATCH); // an ordinary queue cannot have it
        let Some(unit) = self.queue_units.of(message).filter(|_| !inner_batch) else { return };
        let (topic, queue_id, offset) = (message.topic(), message.queue_id(), message.queue_offset());
        let added = match likely.filter(|likely| likely.is(topic, queue_id)) {
            Some(queue) => queues.put_to(queue, offset, unit),
            None => queues.put(topic, queue_id, offset, unit),
        };
        if !added {
            return;
        }
        let arrival = Arrival {
            topic,
            queue_id,
            queue_offset: offset,
            tag_hash: unit.tag_hash,
            position: unit.position,
            size: message.total_size(),
            store_timestamp: message.store_timestamp(),
            properties: message.properties(),
        };
        for listener in listeners {
            listener(&arrival);
        }
    }
}

/// Whether these bytes end a file.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.get(4..BLANK_HEADER).is_some_and(|magic| *magic == stored::MAGIC_BLANK.to_be_bytes())
}
