//! [`Timers`]: delivers messages at any time that was asked for, and takes them back.
//!
//! A message waits in the timer topic; which second it waits for stands in the timer log and wheel, in Java's
//! files, so that either broker finds what the other left. When a second begins, its chain is read, and each
//! of its messages delivered at its own millisecond; Java's broker knows seconds only. Nothing polls: the
//! task waits for the next second that has messages, or for one to arrive.
//!
//! The file `timercheck` never claims more than log and wheel have on disk, so that a power cut loses
//! nothing: what they lack is taken in again from the timer topic. They are brought to disk once a second
//! while there is something.

mod checkpoint;
mod log;
mod recovery;
mod wheel;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::message::{NewMessage, Properties, StoredMessageRef, property, tag_hash};
use rocketmq_protocol::transport::Clock;
use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::checkpoint::{TimerCheckFile, TimerCheckpoint};
use self::log::{MAGIC, MAGIC_DELETE, MAGIC_ROLL, TimerLog, Unit};
use self::wheel::{Slot, TimerWheel};
use super::deferral::{TIMER_PROPERTIES, TIMER_TOPIC};
use super::delivered::is_delivered;
use super::schedule::{moved, real_queue};
use crate::store::{AppendError, FlushError, Store};

/// Messages taken in or delivered at a time.
const TURN: usize = 512;
/// Pause after the store or the disk refused something.
const RETRY: Duration = Duration::from_millis(100);
/// Pause between two times that the files are brought to disk, as Java's.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Delivers timer messages.
pub(super) struct Timers {
    store: Arc<Store>,
    clock: Clock,
    folder: PathBuf,
    log_file_size: u64,
    /// Seconds that a message waits in the wheel at most; further ones take several turns.
    roll_window: i64,
    /// Whether deliveries are forced to disk before they are noted.
    sync: bool,
    /// Taken by one round at a time. Empty until there is a first timer message, so that who has none has no
    /// files.
    state: Mutex<Option<State>>,
    arrived: Notify,
    /// A round is over.
    progressed: Notify,
}

struct State {
    wheel: TimerWheel,
    log: TimerLog,
    check: Arc<TimerCheckFile>,
    /// What is in the file: everything before its places in log and topic is on disk.
    checkpoint: TimerCheckpoint,
    /// Where the last delivered message ends.
    delivered: LogPosition,
    /// Next message of the timer topic.
    next: QueueOffset,
    /// Seconds before this are in `due`.
    read: i64,
    /// What is delivered within the second, by due time in ms and order.
    due: BTreeMap<(i64, u64), Due>,
    /// Messages of `due`, by second.
    open: BTreeMap<i64, usize>,
    /// Keys of messages that were taken back.
    taken_back: HashSet<String>,
    sequence: u64,
    /// Whether the last run may have delivered what is due first: it notes whole seconds, and one that is killed notes nothing.
    doubtful: bool,
}

struct Due {
    second: i64,
    unit: Unit,
}

/// How a round went.
#[derive(Default)]
struct Round {
    next_ms: Option<i64>,
    more: bool,
}

/// Why a round stopped.
#[derive(Debug, thiserror::Error)]
enum TimerError {
    #[error("the timer files cannot be used: {0}")]
    Files(#[from] io::Error),
    #[error(transparent)]
    Queue(#[from] crate::store::StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("delivered messages are not on disk yet: {0}")]
    Flush(#[from] FlushError),
}

impl Timers {
    pub(super) fn new(
        store: Arc<Store>,
        clock: Clock,
        folder: PathBuf,
        log_file_size: u64,
        roll_window: i64,
        sync: bool,
    ) -> Self {
        Self {
            store,
            clock,
            folder,
            log_file_size,
            roll_window,
            sync,
            state: Mutex::default(),
            arrived: Notify::new(),
            progressed: Notify::new(),
        }
    }

    /// A message came into the timer topic. Called by the store's dispatch.
    pub(super) fn arrived(&self) {
        self.arrived.notify_one();
    }

    /// Delivers until `stop`, then notes what is left.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.deliver_due(&stop), self.save_progress(&stop));
        let closed = self.blocking(Self::close).await;
        if let Err(error) = closed.and(self.save().await) {
            error!(%error, "timers not noted, some messages may be delivered again");
        }
    }

    async fn deliver_due(self: &Arc<Self>, stop: &CancellationToken) {
        let mut well = true;
        loop {
            let round = self.blocking(Self::round).await;
            self.progressed.notify_one();
            let next = match &round {
                Ok(Round { more: true, .. }) => Some(i64::MIN),
                Ok(round) => round.next_ms,
                Err(error) => {
                    if well {
                        error!(%error, "timer messages cannot be delivered, trying again");
                    }
                    Some(self.clock.now_ms().saturating_add(RETRY.as_millis() as i64))
                }
            };
            well = round.is_ok();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.arrived.notified() => {}
                () = self.clock.sleep_until(next.unwrap_or(i64::MAX)), if next.is_some() => {}
            }
        }
    }

    async fn save_progress(self: &Arc<Self>, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.progressed.notified() => {}
            }
            if let Err(error) = self.save().await {
                error!(%error, "timers not saved, trying again");
                self.progressed.notify_one();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(SAVE_INTERVAL) => {}
            }
        }
    }

    /// Brings the files to disk, deliveries too where the broker flushes synchronously, and then notes it.
    /// Nothing waits for this but the next save.
    async fn save(self: &Arc<Self>) -> Result<(), TimerError> {
        let unsaved = self.blocking(|timers| Ok(timers.state().as_ref().and_then(State::unsaved))).await?;
        let Some(unsaved) = unsaved else { return Ok(()) };
        if self.sync {
            self.store.flushed(unsaved.delivered).await?;
        }
        self.blocking(move |timers| timers.save_files(unsaved)).await
    }

    fn save_files(&self, unsaved: Unsaved) -> Result<(), TimerError> {
        for file in &unsaved.files {
            file.sync_data()?;
        }
        let mut guard = self.state();
        let Some(state) = guard.as_mut() else { return Ok(()) };
        let mut checkpoint = unsaved.checkpoint;
        if !self.sync {
            checkpoint.read_time_ms = state.read_time_ms();
        }
        state.note(checkpoint)?;
        if state.log.has_old_files() {
            let needed = state.wheel.first_position().unwrap_or(i64::MAX).min(checkpoint.log_position);
            state.log.delete_before(needed)?;
        }
        let check = Arc::clone(&state.check);
        drop(guard);
        check.sync()?;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, TimerError> + Send + 'static,
    ) -> Result<T, TimerError> {
        let timers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&timers)).await;
        done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Takes in what arrived and delivers what is due. Blocks.
    fn round(&self) -> Result<Round, TimerError> {
        let mut guard = self.state();
        if guard.is_none() {
            if self.store.max_offset(TIMER_TOPIC, QueueId::ZERO) == QueueOffset::ZERO {
                return Ok(Round::default());
            }
            *guard = Some(self.open()?);
        }
        let Some(state) = guard.as_mut() else { return Ok(Round::default()) };
        let more = self.take_in(state)?;
        self.read(state)?;
        let delivered = self.deliver(state);
        if !self.sync {
            // After a kill the files are as they were left, so what is noted now is not delivered again.
            state.note(TimerCheckpoint { read_time_ms: state.read_time_ms(), ..state.checkpoint })?;
        }
        if state.open.is_empty() {
            state.taken_back.clear();
        }
        let more = delivered? || more;
        let first_due = state.due.keys().next().map(|(due, _)| *due);
        let next_second = state.wheel.next(state.read).map(|second| second.saturating_mul(1000));
        let next_ms = first_due.into_iter().chain(next_second).min();
        Ok(Round { next_ms, more })
    }

    /// Takes messages of the timer topic into the wheel; whether there are more.
    fn take_in(&self, state: &mut State) -> Result<bool, TimerError> {
        let entries = self.store.entries(TIMER_TOPIC, QueueId::ZERO, state.next, TURN)?;
        for entry in &entries {
            if let Some(record) = self.store.message_at(entry.position) {
                if let Ok(record) = StoredMessageRef::parse(&record) {
                    self.take_in_one(state, &record, entry.position, entry.size)?;
                }
            }
            state.next = entry.offset.plus(1);
        }
        Ok(entries.len() == TURN)
    }

    fn take_in_one(
        &self,
        state: &mut State,
        record: &StoredMessageRef<'_>,
        position: LogPosition,
        size: i32,
    ) -> Result<(), TimerError> {
        let now_second = self.clock.now_ms().div_euclid(1000);
        let properties = record.properties();
        let out = properties.get(property::TIMER_OUT_MS).and_then(|out| out.parse::<i64>().ok());
        let Some(out) = out else {
            error!(offset = %record.queue_offset(), "timer message without TIMER_OUT_MS, skipped");
            return Ok(());
        };
        let (mut second, mut magic) = (out.div_euclid(1000).max(now_second), MAGIC);
        let waits = second - now_second;
        if waits >= self.roll_window {
            magic |= MAGIC_ROLL;
            let beyond = waits - self.roll_window;
            let turn = if beyond < self.roll_window / 3 { self.roll_window / 2 } else { self.roll_window };
            second = now_second + turn;
        }
        let takes_back = properties.get(property::TIMER_DEL_UNIQKEY);
        if takes_back.is_some() {
            magic |= MAGIC_DELETE;
        }
        let topic = properties.get(property::REAL_TOPIC).unwrap_or_default();
        let unit = Unit {
            previous: state.wheel.get(second).map_or(-1, |slot| slot.last),
            magic,
            taken_in_ms: now_second * 1000,
            wait_ms: i32::try_from((second - now_second) * 1000).unwrap_or(i32::MAX),
            position,
            size,
            topic_hash: tag_hash(topic).get() as i32,
        };
        let at = state.log.append(&unit)?;
        state.wheel.add(second, at, takes_back.is_some())?;
        if second < state.read {
            state.wait(second, unit, record);
            if !state.open.contains_key(&second) {
                state.wheel.forget(second);
            }
        }
        Ok(())
    }

    /// Reads the chains of the seconds that have begun.
    fn read(&self, state: &mut State) -> Result<(), TimerError> {
        let now_second = self.clock.now_ms().div_euclid(1000);
        while let Some(second) = state.wheel.next(state.read).filter(|second| *second <= now_second) {
            let mut chain = Vec::new();
            let mut at = state.wheel.get(second).map_or(-1, |slot| slot.last);
            while at >= 0 {
                let Some(unit) = state.log.read(at)? else { break };
                let before = at;
                at = unit.previous;
                chain.push(unit);
                if at >= before {
                    break; // a chain only leads back
                }
            }
            if chain.is_empty() {
                state.wheel.forget(second);
            }
            for unit in chain.into_iter().rev() {
                match self.store.message_at(unit.position) {
                    Some(record) => match StoredMessageRef::parse(&record) {
                        Ok(record) => state.wait(second, unit, &record),
                        Err(error) => {
                            error!(position = %unit.position, %error, "timer message is damaged, skipped")
                        }
                    },
                    None => error!(position = %unit.position, "record of a timer message is gone, skipped"),
                }
            }
            state.read = second + 1;
            if !state.open.contains_key(&second) {
                state.wheel.forget(second);
            }
        }
        state.read = state.read.max(now_second + 1);
        Ok(())
    }

    /// Delivers what is due; whether there is more of it.
    fn deliver(&self, state: &mut State) -> Result<bool, TimerError> {
        let mut buffer = Vec::new();
        let mut turn = 0;
        while let Some(entry) = state.due.first_entry() {
            let now = self.clock.now_ms();
            if entry.key().0 > now {
                return Ok(false);
            }
            if turn == TURN {
                return Ok(true);
            }
            turn += 1;
            let unit = entry.get().unit;
            if let Some(record) = self.store.message_at(unit.position) {
                if let Ok(record) = StoredMessageRef::parse(&record) {
                    state.doubtful = state.doubtful && self.is_done(&state.taken_back, &record, &unit);
                    if !state.doubtful {
                        let end = self.deliver_one(&state.taken_back, &record, &unit, now, &mut buffer)?;
                        state.delivered = end.unwrap_or(state.delivered);
                    }
                }
            }
            let (_, due) = entry.remove_entry();
            state.close(due.second);
        }
        Ok(false)
    }

    /// Whether the last run has delivered it, or it is not to be delivered.
    fn is_done(&self, taken_back: &HashSet<String>, record: &StoredMessageRef<'_>, unit: &Unit) -> bool {
        is_taken_back(taken_back, record)
            || destination(record, unit)
                .is_some_and(|queue| is_delivered(&self.store, record, queue, unit.second() * 1000))
    }

    /// Tells where the delivered message ends. Java: `TimerMessageStore.java`, `doPut` and `convertMessage`.
    fn deliver_one(
        &self,
        taken_back: &HashSet<String>,
        record: &StoredMessageRef<'_>,
        unit: &Unit,
        now: i64,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<LogPosition>, AppendError> {
        let told = record.properties();
        let lost = |reason: &str| {
            error!(offset = %record.queue_offset(), reason, "timer message cannot be delivered, skipped");
            Ok(None)
        };
        let Some((topic, queue_id)) = destination(record, unit) else {
            return lost("it does not say where to");
        };
        if is_taken_back(taken_back, record) {
            return Ok(None);
        }
        let mut builder = Properties::new(ByteString::from(told.to_text().as_ref()))
            .to_builder()
            .set(property::TIMER_ENQUEUE_MS, &unit.taken_in_ms.to_string())
            .set(property::TIMER_DEQUEUE_MS, &now.to_string());
        if unit.rolls() {
            let rolls = told.get(property::TIMER_ROLL_TIMES).and_then(|rolls| rolls.parse::<i64>().ok());
            builder = builder.set(property::TIMER_ROLL_TIMES, &(rolls.unwrap_or(0) + 1).to_string());
        }
        let Ok(properties) = builder.build() else { return lost("its properties are too long") };
        buffer.clear();
        let message = NewMessage { properties: &[properties.as_ref()], ..moved(record, topic, queue_id) };
        if message.encode(buffer).is_err() {
            return lost("it is too long");
        }
        match self.store.append(topic, queue_id, buffer) {
            Err(error) if error.is_permanent() => lost(&error.to_string()),
            appended => appended.map(|appended| Some(appended.end)),
        }
    }

    /// Leaves the files so that nothing is delivered twice: of a second that is half done, what is left
    /// stays.
    fn close(&self) -> Result<(), TimerError> {
        let mut guard = self.state();
        let Some(state) = guard.as_mut() else { return Ok(()) };
        let mut left: BTreeMap<i64, Vec<Unit>> = BTreeMap::new();
        for due in std::mem::take(&mut state.due).into_values() {
            let Some(record) = self.store.message_at(due.unit.position) else { continue };
            let Ok(record) = StoredMessageRef::parse(&record) else { continue };
            // The marks of what was taken back are not in this chain.
            if !is_taken_back(&state.taken_back, &record) {
                left.entry(due.second).or_default().push(due.unit);
            }
        }
        state.open.retain(|second, _| left.contains_key(second));
        for (second, units) in left {
            let mut slot = Slot { first: -1, last: -1, count: 0 };
            for unit in units {
                let at = state.log.append(&Unit { previous: slot.last, ..unit })?;
                let first = if slot.count == 0 { at } else { slot.first };
                slot = Slot { first, last: at, count: slot.count + 1 };
            }
            state.wheel.put(second, slot)?;
        }
        Ok(())
    }
}

/// What [`Timers::save`] brings to disk, and what can be noted then.
struct Unsaved {
    files: Vec<Arc<File>>,
    delivered: LogPosition,
    checkpoint: TimerCheckpoint,
}

impl State {
    /// A message whose second has begun waits for its millisecond.
    fn wait(&mut self, second: i64, unit: Unit, record: &StoredMessageRef<'_>) {
        if unit.magic & MAGIC_DELETE != 0 && !unit.rolls() {
            self.taken_back.extend(record.properties().get(property::TIMER_DEL_UNIQKEY).map(str::to_owned));
            return;
        }
        let due = if !unit.rolls() { due_ms(record) } else { second * 1000 };
        self.sequence += 1;
        self.due.insert((due, self.sequence), Due { second, unit });
        *self.open.entry(second).or_default() += 1;
    }

    /// One message of this second is done.
    fn close(&mut self, second: i64) {
        let left = self.open.get_mut(&second).map_or(0, |left| {
            *left = left.saturating_sub(1);
            *left
        });
        if left == 0 {
            self.open.remove(&second);
            self.wheel.forget(second);
        }
    }

    /// Messages of the seconds before this are delivered, in ms.
    fn read_time_ms(&self) -> i64 {
        self.open.keys().next().copied().unwrap_or(self.read) * 1000
    }

    fn unsaved(&self) -> Option<Unsaved> {
        let checkpoint = TimerCheckpoint {
            read_time_ms: self.read_time_ms(),
            log_position: self.log.end(),
            queue_offset: self.next.get(),
            master_queue_offset: self.next.get(),
            version: self.checkpoint.version,
        };
        let mut files = self.log.files_from(self.checkpoint.log_position);
        files.push(self.wheel.file());
        let unsaved = Unsaved { files, delivered: self.delivered, checkpoint };
        (checkpoint != self.checkpoint || self.log.has_old_files()).then_some(unsaved)
    }

    fn note(&mut self, checkpoint: TimerCheckpoint) -> io::Result<()> {
        if checkpoint != self.checkpoint {
            self.check.write(&checkpoint)?;
            self.checkpoint = checkpoint;
        }
        Ok(())
    }
}

/// Where a message goes when its second has come: to its topic, or round again.
fn destination<'a>(record: &StoredMessageRef<'a>, unit: &Unit) -> Option<(&'a str, QueueId)> {
    let real = real_queue(record)?;
    Some(if unit.rolls() { (TIMER_TOPIC, QueueId::ZERO) } else { real })
}

/// Brokers before 5.4 put the topic before the key.
fn is_taken_back(taken_back: &HashSet<String>, record: &StoredMessageRef<'_>) -> bool {
    let properties = record.properties();
    let key = properties.get(property::UNIQ_KEY).unwrap_or_default();
    let topic = properties.get(property::REAL_TOPIC).unwrap_or_default();
    !taken_back.is_empty() && (taken_back.contains(key) || taken_back.contains(&format!("{topic}+{key}")))
}

/// When a message shall come. Java keeps only the second before that; the millisecond follows from what was
/// asked.
fn due_ms(record: &StoredMessageRef<'_>) -> i64 {
    let properties = record.properties();
    let number = |name| properties.get(name).and_then(|value| value.parse::<i64>().ok());
    let out = number(property::TIMER_OUT_MS).unwrap_or(0);
    let [seconds, millis, at] = TIMER_PROPERTIES.map(number);
    let stored = record.store_timestamp();
    let asked = seconds
        .map(|seconds| stored.saturating_add(seconds.saturating_mul(1000)))
        .or_else(|| millis.map(|millis| stored.saturating_add(millis)))
        .or(at)
        .unwrap_or(out);
    asked.clamp(out, out.saturating_add(1000))
}
