//! [`Schedule`]: delivers the messages of the delay levels when their time has come.
//!
//! The queue of each level is in the order of its due times, so only its first message is looked at. Nothing polls: the task waits for the
//! earliest of those times, or for a message to come into a queue that had none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rocketmq_protocol::message::{NewMessage, StoredMessageRef, property};
use rocketmq_protocol::name::{HALF_TOPIC, SCHEDULE_TOPIC};
use rocketmq_protocol::transport::Clock;
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::delay_offsets::DelayOffsets;
use super::delivered::is_delivered;
use crate::store::{AppendError, Arrival, ConfigFileError, QueueEntry, Store, StoreError};

/// Messages delivered from one level before the next one has its turn.
const TURN: usize = 512;
/// Pause after a delivery that the store refused.
const RETRY: Duration = Duration::from_millis(100);

/// Delivers delayed messages.
pub(super) struct Schedule {
    store: Arc<Store>,
    offsets: DelayOffsets,
    levels: Vec<Level>,
    clock: Clock,
    /// Where the last delivered message ends.
    delivered: AtomicI64,
    /// Whether deliveries are forced to disk before they are noted.
    sync: bool,
    save_interval: Duration,
    /// A message came into the queue of a level that had none.
    arrived: Notify,
    /// Something was delivered.
    progressed: Notify,
}

struct Level {
    number: i32,
    delay_ms: i64,
    /// Its queue has no message that is known to wait.
    idle: AtomicBool,
}

impl Level {
    fn queue_id(&self) -> QueueId {
        QueueId::new(self.number - 1)
    }
}

/// How a round over all levels went.
#[derive(Default)]
struct Round {
    /// When the next message is due.
    next_ms: Option<i64>,
    /// More is due already.
    more: bool,
    /// The store refused a message that it may take later.
    refused: Option<String>,
}

/// Why a message was not delivered.
enum Undelivered {
    /// It never will be.
    Lost(String),
    /// It may be later.
    Refused(AppendError),
}

impl Schedule {
    pub(super) fn new(
        store: Arc<Store>,
        offsets: DelayOffsets,
        delays: &[Duration],
        clock: Clock,
        sync: bool,
        save_interval: Duration,
    ) -> Self {
        let level = |(number, delay): (i32, &Duration)| Level {
            number,
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            idle: AtomicBool::new(true),
        };
        let levels: Vec<_> = (1..).zip(delays).map(level).collect();
        for level in &levels {
            let queue_id = level.queue_id();
            let (min, max) =
                (store.min_offset(SCHEDULE_TOPIC, queue_id), store.max_offset(SCHEDULE_TOPIC, queue_id));
            let known = offsets.get(level.number);
            if !(min..=max).contains(&known) {
                warn!(level = level.number, stored = %known, %min, %max, "delay offset outside its queue, corrected");
                offsets.set(level.number, known.max(min).min(max));
            }
        }
        Self {
            store,
            offsets,
            levels,
            clock,
            delivered: AtomicI64::new(0),
            sync,
            save_interval,
            arrived: Notify::new(),
            progressed: Notify::new(),
        }
    }

    /// Takes note of a message that came to wait, in the schedule topic. Called by the store's dispatch.
    pub(super) fn arrived(&self, arrival: &Arrival<'_>) {
        let level = usize::try_from(arrival.queue_id.get()).ok().and_then(|id| self.levels.get(id));
        if level.is_some_and(|level| level.idle.swap(false, Ordering::SeqCst)) {
            self.arrived.notify_one();
        }
    }

    /// Delivers until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        if let Err(error) = self.blocking(Self::pass_delivered).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot tell what was delivered, it may come again"
            );
        }
        let mut well = true;
        loop {
            let round = self.blocking(Self::round).await;
            if let Some(error) = &round.refused {
                if well {
                    error!(error, "delayed messages cannot be delivered, trying again");
                }
            }
            well = round.refused.is_none();
            let next = match (round.more, round.refused) {
                (true, None) => Some(i64::MIN),
                (_, Some(_)) => Some(self.clock.now_ms().saturating_add(RETRY.as_millis() as i64)),
                (false, None) => round.next_ms,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.arrived.notified() => {}
                () = self.clock.sleep_until(next.unwrap_or(i64::MAX)), if next.is_some() => {}
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let schedule = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&schedule)).await;
        done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Passes over what the last run delivered and could not note, as one that is killed cannot. A level delivers in order, so its first
    /// message that was not delivered is the end. Blocks.
    fn pass_delivered(&self) -> Result<(), StoreError> {
        for level in &self.levels {
            let mut next = self.offsets.get(level.number);
            loop {
                let entries = self.store.entries(SCHEDULE_TOPIC, level.queue_id(), next, TURN)?;
                let delivered: Vec<_> = entries
                    .iter()
                    .map_while(|entry| self.was_delivered(entry).then_some(entry.offset))
                    .collect();
                let Some(last) = delivered.last() else { break };
                next = last.plus(1);
                if delivered.len() < entries.len() {
                    break;
                }
            }
            self.note(level, next);
        }
        Ok(())
    }

    fn was_delivered(&self, entry: &QueueEntry) -> bool {
        let Some(record) = self.store.message_at(entry.position) else { return false };
        let Ok(record) = StoredMessageRef::parse(&record) else { return false };
        real_queue(&record)
            .is_some_and(|queue| is_delivered(&self.store, &record, queue, entry.tag_hash.get()))
    }

    /// Delivers what is due, up to a turn of each level. Blocks.
    fn round(&self) -> Round {
        let mut round = Round::default();
        let mut buffer = Vec::new();
        for level in &self.levels {
            if let Err(error) = self.turn(level, &mut round, &mut buffer) {
                round.refused = Some(error.to_string());
            }
        }
        round
    }

    fn turn(&self, level: &Level, round: &mut Round, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        // Before the queue is looked at: what comes into it meanwhile is either seen there or sees this.
        level.idle.store(true, Ordering::SeqCst);
        let offset = self.offsets.get(level.number);
        let entries = self.store.entries(SCHEDULE_TOPIC, level.queue_id(), offset, TURN)?;
        if entries.is_empty() {
            return Ok(());
        }
        level.idle.store(false, Ordering::SeqCst);
        let now = self.clock.now_ms();
        let mut done = offset;
        for entry in &entries {
            let told = entry.tag_hash.get();
            // A clock that was put back, or a level that was made shorter, must not hold a message for longer than its level does.
            let due = if told > now.saturating_add(level.delay_ms) { now } else { told };
            if due > now {
                round.next_ms = Some(round.next_ms.map_or(due, |next| next.min(due)));
                self.note(level, done);
                return Ok(());
            }
            match self.deliver(entry, buffer) {
                Ok(end) => self.delivered.store(end.get(), Ordering::Release),
                Err(Undelivered::Lost(reason)) => {
                    error!(level = level.number, offset = %entry.offset, reason, "delayed message cannot be delivered, skipped");
                }
                Err(Undelivered::Refused(error)) => {
                    round.refused = Some(error.to_string());
                    break;
                }
            }
            done = entry.offset.plus(1);
        }
        self.note(level, done);
        round.more = true;
        Ok(())
    }

    fn note(&self, level: &Level, done: QueueOffset) {
        if done != self.offsets.get(level.number) {
            self.offsets.set(level.number, done);
            self.progressed.notify_one();
        }
    }

    /// Puts one message where it belongs; all but its place stays as it was. Java: `ScheduleMessageService.java`, `messageTimeUp`.
    fn deliver(&self, entry: &QueueEntry, buffer: &mut Vec<u8>) -> Result<LogPosition, Undelivered> {
        let lost = |reason: String| Undelivered::Lost(reason);
        let record =
            self.store.message_at(entry.position).ok_or_else(|| lost("its record is gone".to_owned()))?;
        let record = StoredMessageRef::parse(&record).map_err(|error| lost(error.to_string()))?;
        let (topic, queue_id) =
            real_queue(&record).ok_or_else(|| lost("it does not say where to".to_owned()))?;
        if topic == HALF_TOPIC {
            return Err(lost("half messages are not delivered".to_owned()));
        }
        buffer.clear();
        NewMessage { properties: &[record.properties()], ..moved(&record, topic, queue_id) }
            .encode(buffer)
            .map_err(|error| lost(error.to_string()))?;
        match self.store.append(topic, queue_id, buffer) {
            Ok(appended) => Ok(appended.end),
            Err(error) if error.is_permanent() => Err(lost(error.to_string())),
            Err(error) => Err(Undelivered::Refused(error)),
        }
    }

    /// Notes what was delivered, at once after a pause and every `save_interval` while there is much, until `stop`.
    pub(super) async fn save_progress(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.progressed.notified() => {}
            }
            if let Err(error) = self.save().await {
                error!(error = &error as &dyn std::error::Error, "delay offsets not saved, trying again");
                self.progressed.notify_one();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(self.save_interval) => {}
            }
        }
    }

    /// Notes what was delivered, once that is as safe as any message.
    pub(super) async fn save(&self) -> Result<(), ConfigFileError> {
        let Some(table) = self.offsets.unsaved() else { return Ok(()) };
        if self.sync {
            let delivered = LogPosition::new(self.delivered.load(Ordering::Acquire));
            if let Err(error) = self.store.flushed(delivered).await {
                warn!(%error, "delivered messages are not on disk yet, their delay offsets wait");
                self.progressed.notify_one();
                return Ok(());
            }
        }
        self.offsets.save(table).await
    }
}

/// Where a waiting message belongs.
pub(super) fn real_queue<'a>(record: &StoredMessageRef<'a>) -> Option<(&'a str, QueueId)> {
    let topic = record.properties().get(property::REAL_TOPIC)?;
    let queue_id = record.properties().get(property::REAL_QID)?.parse().ok()?;
    Some((topic, QueueId::new(queue_id)))
}

/// The record on its way to another queue, still without its properties.
pub(super) fn moved<'a>(record: &StoredMessageRef<'a>, topic: &'a str, queue_id: QueueId) -> NewMessage<'a> {
    NewMessage {
        topic,
        queue_id,
        flag: record.flag(),
        sys_flag: record.sys_flag(),
        born_timestamp: record.born_timestamp(),
        born_host: record.born_host(),
        store_host: record.store_host(),
        reconsume_times: record.reconsume_times(),
        prepared_transaction_offset: record.prepared_transaction_offset(),
        body: record.body(),
        properties: &[],
    }
}
