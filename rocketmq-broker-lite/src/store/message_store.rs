//! [`Store`]: commit log, queues and threads put together.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocketmq_protocol::message::{PropertiesRef, StoredMessageRef};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, TagHash};
use tracing::{debug, info, warn};

use super::arrival::Arrival;
use super::batch_queues::{BatchQueue, BatchQueues};
use super::checkpoint::Checkpoint;
use super::cleaning::Cleaning;
use super::commit_log::{CommitLog, is_queued};
use super::consume_queue::ConsumeQueue;
use super::dispatch::{Dispatch, QueueUnits};
use super::error::{AppendError, FlushError, StoreError};
use super::health::Health;
use super::index::{Index, KeyMatches, KeyQuery};
use super::lock::FolderLock;
use super::log_flusher::LogFlusher;
use super::options::{FlushMode, StoreOptions};
use super::queue_files::QueueFiles;
use super::queue_table::QueueTable;
use super::read::{self, Filter, QueueEntry, ReadLimits, ReadOutcome, TimeBoundary};
use super::recovery::{LogFiles, Recovery};
use super::wake::Wake;

/// Unwritten queue units beyond this are written even of queues that have few of them.
const UNWRITTEN_LIMIT: u64 = 32 << 20;
/// Bytes of the log that are looked at to tell whether a read would wait: about what a pull answers with.
const LOOKED_AT: usize = 64 * 1024;
/// Pause before the next try when there was no room for the next log file.
const ALLOCATION_RETRY: Duration = Duration::from_secs(1);

/// An open message store. Dropping it without [`Store::close`] is like killing the process: nothing that was appended is lost, and the
/// next open recovers.
pub struct Store {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    options: StoreOptions,
    log: CommitLog,
    queues: QueueTable,
    batch_queues: BatchQueues,
    dispatch: Dispatch,
    health: Health,
    log_flusher: LogFlusher,
    queues_changed: Wake,
    index: Index,
    /// As it was found, apart from the times that flushing moves.
    checkpoint: Checkpoint,
    /// The units of every record before it are on disk. Held while queues and checkpoint are put there.
    synced: Mutex<LogPosition>,
    /// Where the log started when the queues followed it last. Held during a round of cleaning.
    cleaned: Mutex<LogPosition>,
    /// Until the store is closed.
    lock: Mutex<Option<FolderLock>>,
}

/// Where records were appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the first record starts.
    pub position: LogPosition,
    /// Where the last record ends: await [`Store::flushed`] of this.
    pub end: LogPosition,
    /// Queue offset of the first record; the others follow.
    pub queue_offset: QueueOffset,
    /// Records appended.
    pub count: usize,
    /// Time of the append in ms since 1970, as stored.
    pub store_timestamp: i64,
}

/// A queue and its readable range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRange {
    /// Topic.
    pub topic: Arc<str>,
    /// Queue of the topic.
    pub queue_id: QueueId,
    /// First offset.
    pub min_offset: QueueOffset,
    /// Offset behind the last message.
    pub max_offset: QueueOffset,
}

impl Store {
    /// Opens or creates the store, recovering what the last run left. Blocks.
    ///
    /// # Errors
    /// When another broker has it, a file is missing, unreadable or of another size, or the disk is full.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::open(options)?);
        let store = Self { shared, threads: Mutex::default() };
        store.start("store-allocate", Shared::allocate_ahead)?;
        store.start("store-flush-log", Shared::flush_log)?;
        store.start("store-flush-queues", Shared::flush_queues)?;
        if store.shared.options.index {
            store.start("store-index", Shared::build_index)?;
        }
        Ok(store)
    }

    fn start(&self, name: &str, run: fn(&Shared)) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        let thread = thread.map_err(StoreError::io("start a thread for", &self.shared.options.root))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Appends records to one queue, all or none, and makes them readable. `records` are encoded records of this topic and queue, back
    /// to back; queue offset, position and store timestamp are filled in, in place, so that the caller can read them there.
    /// Does not wait for the disk: see [`Store::flushed`]. It takes microseconds, so async tasks may call it; only where the next log
    /// file is not ready in time is it made here.
    ///
    /// # Errors
    /// Nothing is appended then; see [`AppendError`].
    pub fn append(
        &self,
        topic: &str,
        queue_id: QueueId,
        records: &mut [u8],
    ) -> Result<Appended, AppendError> {
        let shared = &*self.shared;
        shared.health.check()?;
        if shared.batch_queues.has_topic(topic) {
            return Err(AppendError::BatchQueue { topic: topic.to_owned() });
        }
        let queue = shared.queues.obtain(topic, queue_id)?;
        let appended = shared.log.append(&queue, records)?;
        shared.dispatch.run(&shared.log, &shared.queues, Some(&queue));
        shared.log_flusher.wake.announce();
        shared.queues_changed.announce();
        shared.index.wake.announce();
        Ok(appended)
    }

    /// Waits until everything before `position` is on disk. One flush answers all who wait.
    ///
    /// # Errors
    /// When that takes longer than `sync_flush_timeout`, or the disk refuses.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the wait, not the flush.
    pub async fn flushed(&self, position: LogPosition) -> Result<(), FlushError> {
        self.shared.log_flusher.wait(position, self.shared.options.sync_flush_timeout).await
    }

    /// Reads messages of a queue from `offset` on whose tag hash passes `filter`. One read examines at least 800 messages if it
    /// finds nothing, and stays within one queue file.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn read(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
        limits: ReadLimits,
        mut filter: impl FnMut(TagHash) -> bool,
    ) -> Result<ReadOutcome, StoreError> {
        self.read_filtered(topic, queue_id, offset, limits, Filter { tag: &mut filter, properties: None })
    }

    /// As [`Store::read`], of messages whose properties pass as well. Looks into the record of every message that it examines.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn read_matching(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
        limits: ReadLimits,
        mut filter: impl FnMut(TagHash) -> bool,
        mut properties: impl FnMut(PropertiesRef<'_>) -> bool,
    ) -> Result<ReadOutcome, StoreError> {
        let filter = Filter { tag: &mut filter, properties: Some(&mut properties) };
        self.read_filtered(topic, queue_id, offset, limits, filter)
    }

    fn read_filtered(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
        limits: ReadLimits,
        filter: Filter<'_>,
    ) -> Result<ReadOutcome, StoreError> {
        if let Some(queue) = self.shared.queues.find(topic, queue_id) {
            let files = self.shared.queues.files();
            return read::read(&queue, files, &self.shared.log, offset.get(), limits, filter);
        }
        match self.shared.batch_queues.find(topic, queue_id) {
            Some(queue) => read::read_batches(queue, &self.shared.log, offset.get(), limits, filter),
            None => Ok(ReadOutcome::no_queue()),
        }
    }

    /// The first `max` messages of a queue from `offset` on, or from its first one, without reading their records.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn entries(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        match self.shared.queues.find(topic, queue_id) {
            Some(queue) => read::entries(&queue, self.shared.queues.files(), offset.get(), max),
            None => Ok(Vec::new()),
        }
    }

    /// Whether a read from there is likely to wait for the disk, so that it does not belong on a task that others wait for. Cheap, and
    /// nothing but a system call where most of the log is young.
    pub fn would_wait(&self, topic: &str, queue_id: QueueId, offset: QueueOffset) -> bool {
        let log = &self.shared.log;
        if !log.has_old_bytes() {
            return false;
        }
        let entry =
            self.entries(topic, queue_id, offset, 1).ok().and_then(|entries| entries.first().copied());
        entry.is_some_and(|entry| log.is_cold(entry.position, LOOKED_AT))
    }

    /// First offset of a queue; 0 without one.
    pub fn min_offset(&self, topic: &str, queue_id: QueueId) -> QueueOffset {
        self.offset(topic, queue_id, ConsumeQueue::min, BatchQueue::min)
    }

    /// Offset behind the last readable message of a queue; 0 without one.
    pub fn max_offset(&self, topic: &str, queue_id: QueueId) -> QueueOffset {
        self.offset(topic, queue_id, ConsumeQueue::max, BatchQueue::max)
    }

    /// Offset the next appended message of a queue gets.
    pub fn next_offset(&self, topic: &str, queue_id: QueueId) -> QueueOffset {
        self.offset(topic, queue_id, ConsumeQueue::next, BatchQueue::max)
    }

    fn offset(
        &self,
        topic: &str,
        queue_id: QueueId,
        which: fn(&ConsumeQueue) -> i64,
        which_of_batches: fn(&BatchQueue) -> i64,
    ) -> QueueOffset {
        QueueOffset::new(match self.shared.queues.find(topic, queue_id) {
            Some(queue) => which(&queue),
            None => self.shared.batch_queues.find(topic, queue_id).map_or(0, which_of_batches),
        })
    }

    /// The offset that belongs to a store time, within the queue's range; 0 without a queue.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn offset_by_time(
        &self,
        topic: &str,
        queue_id: QueueId,
        time_ms: i64,
        boundary: TimeBoundary,
    ) -> Result<QueueOffset, StoreError> {
        let found = match self.shared.queues.find(topic, queue_id) {
            Some(queue) => {
                let files = self.shared.queues.files();
                read::offset_by_time(&queue, files, &self.shared.log, time_ms, boundary)
            }
            None => match self.shared.batch_queues.find(topic, queue_id) {
                Some(queue) => queue.offset_by_time(time_ms, boundary),
                None => Ok(0),
            },
        };
        found.map(QueueOffset::new)
    }

    /// When the first message of a queue was stored, in ms since 1970; `None` if it has none.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn earliest_store_time(&self, topic: &str, queue_id: QueueId) -> Result<Option<i64>, StoreError> {
        self.store_time(topic, queue_id, self.min_offset(topic, queue_id))
    }

    /// When the message at `offset` was stored, in ms since 1970; `None` if there is none.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn store_time(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<i64>, StoreError> {
        let Some(queue) = self.shared.queues.find(topic, queue_id) else {
            return match self.shared.batch_queues.find(topic, queue_id) {
                Some(queue) => queue.store_time(offset.get()),
                None => Ok(None),
            };
        };
        if !(queue.min()..queue.max()).contains(&offset.get()) {
            return Ok(None);
        }
        let unit = queue.unit(offset.get(), self.shared.queues.files())?;
        Ok(unit.and_then(|unit| read::store_time(unit, &self.shared.log)))
    }

    /// The record that starts at `position`, if one does and was not deleted with its topic. Safe for positions from strangers.
    pub fn message_at(&self, position: LogPosition) -> Option<Bytes> {
        let record = self.shared.log.record_at(position)?;
        let deleted = StoredMessageRef::parse(&record).is_ok_and(|message| self.shared.is_deleted(&message));
        (!deleted).then_some(record)
    }

    /// The newest messages with a key, oldest first. A message that was appended before is found, unless the index has just lost its
    /// files and many messages are not in it again yet. Reads all over the log, so it may wait for the disk.
    ///
    /// # Errors
    /// When an index file cannot be read.
    pub fn query(&self, query: KeyQuery<'_>) -> Result<KeyMatches, StoreError> {
        let shared = &*self.shared;
        let is_deleted = |message: &StoredMessageRef<'_>| shared.is_deleted(message);
        shared.index.query(&shared.log, shared.to_be_indexed(), &is_deleted, query)
    }

    /// First position of the commit log.
    pub fn min_position(&self) -> LogPosition {
        self.shared.log.start()
    }

    /// Where the next record goes, unless it opens a new file.
    pub fn max_position(&self) -> LogPosition {
        self.shared.log.end()
    }

    /// Every queue with its range, in no order.
    pub fn queues(&self) -> Vec<QueueRange> {
        let range = |queue: Arc<ConsumeQueue>| QueueRange {
            topic: Arc::clone(&queue.name.topic),
            queue_id: queue.name.queue_id,
            min_offset: QueueOffset::new(queue.min()),
            max_offset: QueueOffset::new(queue.max()),
        };
        let batch_range = |(topic, queue_id, queue): (&str, QueueId, &BatchQueue)| QueueRange {
            topic: Arc::from(topic),
            queue_id,
            min_offset: QueueOffset::new(queue.min()),
            max_offset: QueueOffset::new(queue.max()),
        };
        let batches = self.shared.batch_queues.all().map(batch_range);
        self.shared.queues.all().into_iter().map(range).chain(batches).collect()
    }

    /// Calls `listener` for each message that becomes readable from now on.
    pub fn on_arrival(&self, listener: impl Fn(&Arrival<'_>) + Send + Sync + 'static) {
        self.shared.dispatch.listen(Box::new(listener));
    }

    /// Whether an append has been holding the log for longer than `busy_after`: the disk cannot keep up.
    pub fn is_busy(&self) -> bool {
        self.shared.log.is_held_longer_than(self.shared.options.busy_after)
    }

    /// Deletes the messages of a topic for good: none can be read any more, now or after a crash. Its queues go on with their numbers, so
    /// that what is stored from now on is told apart from records that are still in the log. Blocks.
    ///
    /// # Errors
    /// When a consume queue file cannot be deleted or written; some messages may be gone then, and some not.
    pub fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        self.shared.queues.bury(topic, || self.shared.log.end())?;
        self.shared.batch_queues.bury(topic, self.shared.log.end())?;
        self.shared.sync_queues()
    }

    /// Deletes the log files that are too old, or too many for the disk, and what refers to them; watches the disk usage. To be called
    /// now and then: see [`super::CleaningRules`]. Blocks.
    ///
    /// # Errors
    /// When a file cannot be deleted, or queue units cannot be put on disk before their records go.
    pub fn clean(&self) -> Result<(), StoreError> {
        self.shared.clean(false)
    }

    /// As [`Store::clean`], where expired files go at whatever hour it is: what an administrator asks for. Blocks.
    ///
    /// # Errors
    /// As [`Store::clean`].
    pub fn clean_at_any_hour(&self) -> Result<(), StoreError> {
        self.shared.clean(true)
    }

    /// Whether appends are taken; if not, why.
    ///
    /// # Errors
    /// The error an append would get.
    pub fn writable(&self) -> Result<(), AppendError> {
        self.shared.health.check()
    }

    /// Flushes everything, ends the store's threads and lets the folder go; later appends are refused, reads still work. Blocks.
    ///
    /// # Errors
    /// When something cannot be written; the next open recovers then.
    pub fn close(&self) -> Result<(), StoreError> {
        self.shared.log.close()?;
        self.stop_threads();
        let finished = self.shared.finish();
        self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        finished
    }

    fn stop_threads(&self) {
        self.shared.log.wanted_ahead.stop();
        self.shared.log_flusher.wake.stop();
        self.shared.queues_changed.stop();
        self.shared.index.wake.stop();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                warn!(root = %self.shared.options.root.display(), "a thread of the store panicked");
            }
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("root", &self.shared.options.root).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop_threads();
        self.shared.log_flusher.close();
    }
}

impl Shared {
    fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let file_size = options.checked_log_file_size()?;
        for dir in [&options.root, &options.commit_log_dir, &options.root.join("config")] {
            fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        }
        let lock = FolderLock::acquire(&options.root)?;
        let abort = options.root.join("abort");
        let clean = !abort.try_exists().map_err(StoreError::io("inspect", &abort))?;
        let mut checkpoint = Checkpoint::load(&options.root.join("checkpoint"))?;

        let files = QueueFiles::new(
            options.root.join("consumequeue"),
            options.consume_queue_file_size,
            options.open_queue_files,
            options.disk.clone(),
        );
        let log_files = LogFiles::list(&options.commit_log_dir, file_size)?;
        let queues = QueueTable::load(files, &log_files.extent(), clean)?;
        let batch_root = options.root.join("batchconsumequeue");
        let mut batch_queues =
            BatchQueues::load(batch_root, options.batch_queue_file_size, options.disk.clone())?;
        for topic in options.batch_topics.iter().filter(|topic| !queues.has_topic(topic)) {
            batch_queues.expect(topic)?;
        }
        let queue_units = QueueUnits::new(&options.delay_levels);
        let recovery = Recovery {
            dir: &options.commit_log_dir,
            file_size,
            disk: &options.disk,
            queues: &queues,
            batch_queues: &mut batch_queues,
            queue_units: &queue_units,
            last_unit: queues.last_position(),
            checkpoint,
            clean,
            check_crc: options.check_crc_on_recover,
        };
        let recovered = recovery.run(&log_files)?;
        if let Some(position) = recovered.last_position {
            checkpoint.confirm_position = position.get();
        }
        let (log_start, log_end) = (recovered.log.files.front().map(|file| file.base()), recovered.log.end);
        let timestamp = recovered.log.last_timestamp;
        let log = CommitLog::new(&options, file_size, recovered.log);

        let index = Index::open(&options, clean, checkpoint.index_timestamp, &log)?;
        // What recovery read may be in memory only, so the first flush starts at the beginning of it.
        let log_flusher =
            LogFlusher::new(log_start.filter(|_| !clean).unwrap_or(log_end), checkpoint.log_timestamp);
        let shared = Self {
            dispatch: Dispatch::new(log_end, timestamp, queue_units),
            log,
            queues,
            batch_queues,
            health: Health::default(),
            log_flusher,
            queues_changed: Wake::default(),
            index,
            checkpoint,
            synced: Mutex::new(recovered.queued_until),
            cleaned: Mutex::new(log_start.unwrap_or(log_end)),
            lock: Mutex::new(Some(lock)),
            options,
        };
        if !shared.is_synced() {
            shared.queues_changed.announce();
        }
        if shared.log.is_full() {
            shared.log.wanted_ahead.announce(); // the first append finds its file ready
        }
        shared.index.wake.announce(); // it may be behind
        write_abort(&abort)?;
        info!(root = %shared.options.root.display(), clean, log_end = %log_end, "store opened");
        Ok(shared)
    }

    /// Thread: brings in the pages that come next, and makes the next log file while the current one fills.
    fn allocate_ahead(&self) {
        let mut pause = Duration::ZERO;
        while self.log.wanted_ahead.wait(pause) {
            self.log.warm_ahead();
            pause = match self.log.make_spare_if_short() {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    warn!(%error, "no next commit log file yet");
                    ALLOCATION_RETRY
                }
            };
        }
    }

    /// Thread: forces the log to disk.
    fn flush_log(&self) {
        let pause = match self.options.flush_mode {
            FlushMode::Async => self.options.flush_interval,
            FlushMode::Sync => Duration::ZERO,
        };
        while self.log_flusher.wake.wait(pause) {
            match self.log_flusher.flush(&self.log) {
                Ok(()) | Err(StoreError::FlushFailed { .. }) => {}
                Err(error) => self.health.log_failed(&error),
            }
        }
    }

    /// Thread: writes the queues, and now and then syncs them and the checkpoint.
    fn flush_queues(&self) {
        let mut synced = Instant::now();
        while self.queues_changed.wait(self.options.queue_flush_interval) {
            let thorough = synced.elapsed() >= self.options.thorough_queue_flush_interval;
            let outcome = if thorough {
                synced = Instant::now();
                self.sync_queues()
            } else {
                self.queues
                    .write(self.queues.unwritten_bytes() > UNWRITTEN_LIMIT || self.health.check().is_err())
            };
            match &outcome {
                Ok(()) => self.health.queues_recovered(),
                Err(error) => self.health.queues_failed(error),
            }
            if outcome.is_err() || !self.is_synced() {
                self.queues_changed.announce();
            }
        }
    }

    /// Thread: follows dispatch with the index.
    fn build_index(&self) {
        self.index.follow(&self.log, || self.dispatch.position());
    }

    /// Whether the topic of a record was deleted since: the log keeps the record, its queue starts behind it.
    fn is_deleted(&self, message: &StoredMessageRef<'_>) -> bool {
        let (topic, queue_id) = (message.topic(), message.queue_id());
        let min = match self.queues.find(topic, queue_id) {
            Some(queue) => queue.min(),
            None => self.batch_queues.find(topic, queue_id).map_or(0, BatchQueue::min),
        };
        is_queued(message.sys_flag()) && message.queue_offset().get() < min
    }

    /// How far the log is to be in the index, unless that is switched off.
    fn to_be_indexed(&self) -> Option<LogPosition> {
        self.options.index.then(|| self.dispatch.position())
    }

    /// Whether queues and index are on disk.
    fn is_synced(&self) -> bool {
        self.queues.is_synced() && self.index.is_stored(self.to_be_indexed())
    }

    /// Puts queues, index and checkpoint on disk.
    fn sync_queues(&self) -> Result<(), StoreError> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the writing: what is dispatched meanwhile may miss it.
        let (queue_timestamp, position) = (self.dispatch.timestamp(), self.dispatch.position());
        self.queues.write(true)?;
        self.queues.sync()?;
        *synced = position;
        let log_timestamp = self.log_flusher.timestamp();
        if let Err(error) = self.index.store(&self.log, self.to_be_indexed()) {
            // The thread that builds the index says so; nothing else waits for it.
            debug!(error = &error as &dyn std::error::Error, "key index not stored");
        }
        let index_timestamp = self.index.stored_until();
        let checkpoint = Checkpoint { log_timestamp, queue_timestamp, index_timestamp, ..self.checkpoint };
        checkpoint.store(&self.options.root.join("checkpoint"))
    }

    /// One round of cleaning.
    fn clean(&self, any_hour: bool) -> Result<(), StoreError> {
        let mut cleaned = self.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = || *self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let cleaning = Cleaning {
            options: &self.options,
            any_hour,
            log: &self.log,
            queues: &self.queues,
            batch_queues: &self.batch_queues,
            health: &self.health,
            sync_queues: &|until| {
                if synced() < until {
                    self.sync_queues()?;
                }
                Ok(synced() >= until)
            },
        };
        let before = *cleaned;
        let outcome = cleaning.run(&mut cleaned);
        if *cleaned > before {
            self.index.wake.announce(); // it has files to delete, too
        }
        outcome
    }

    /// The end of an orderly run; threads are gone, appends refused.
    fn finish(&self) -> Result<(), StoreError> {
        self.dispatch.run(&self.log, &self.queues, None);
        let flushed = self.log_flusher.flush(&self.log);
        self.log_flusher.close();
        let indexed = self.index.store(&self.log, self.to_be_indexed());
        let synced = self.sync_queues();
        flushed.and(indexed).and(synced)?;
        let abort = self.options.root.join("abort");
        match fs::remove_file(&abort) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("delete", &abort)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Marks the store as in use: found at the next open, it means that the run did not end in order.
fn write_abort(path: &Path) -> Result<(), StoreError> {
    fs::write(path, std::process::id().to_string()).map_err(StoreError::io("write", path))
}
