//! [`QueueTable`]: all consume queues, and the writing of what they gathered.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};
use rustc_hash::FxBuildHasher;
use tracing::{error, warn};

use super::consume_queue::{ConsumeQueue, Put};
use super::error::{AppendError, StoreError};
use super::queue_files::{QueueFiles, QueueName};
use super::unit::{UNIT_SIZE, Unit};

/// Longest topic, in bytes: the longest name of a folder.
const LONGEST_TOPIC: usize = 255;
/// A queue with fewer bytes than this waits for the next thorough write: with very many queues a write for each message
/// would cost more than the messages.
const WORTH_A_WRITE: usize = 4096;

#[derive(Debug)]
pub(super) struct QueueTable {
    /// Queues by topic, sorted by queue id.
    topics: DashMap<Arc<str>, Vec<Arc<ConsumeQueue>>, FxBuildHasher>,
    files: QueueFiles,
    /// Whether units are missing that any part of the log may have.
    damaged: bool,
    /// Where the last record starts that has a unit in the files.
    last_position: Option<LogPosition>,
    numbers: AtomicU32,
    /// Queues with a tail.
    unwritten: Mutex<Vec<Arc<ConsumeQueue>>>,
    unwritten_bytes: AtomicU64,
    /// Held while tails are written, so that each is written once and in order.
    writing: Mutex<()>,
}

impl QueueTable {
    /// Loads every queue there is in the files, each as far as it fits to a log that reaches no further than over `log`. Each is visited
    /// once: with very many queues, opening their files is what an open of the store takes.
    pub(super) fn load(files: QueueFiles, log: &Range<LogPosition>, clean: bool) -> Result<Self, StoreError> {
        let mut table = Self {
            topics: DashMap::default(),
            files,
            damaged: false,
            last_position: None,
            numbers: AtomicU32::new(0),
            unwritten: Mutex::default(),
            unwritten_bytes: AtomicU64::new(0),
            writing: Mutex::default(),
        };
        for topic in folders(table.files.root())? {
            let names = folders(&table.files.root().join(&topic))?;
            let mut queue_ids: Vec<i32> = names.iter().filter_map(|name| name.parse().ok()).collect();
            queue_ids.retain(|id| *id >= 0);
            queue_ids.sort_unstable(); // then each goes to the end of its topic's list
            for queue_id in queue_ids {
                let name = table.name(&topic, QueueId::new(queue_id));
                let (queue, damaged) = ConsumeQueue::load(name, &table.files, clean)?;
                if damaged {
                    warn!(
                        topic,
                        queue_id,
                        from = queue.max(),
                        "consume queue is damaged, taking it from the commit log"
                    );
                    table.damaged = true;
                }
                // Units that point out of the log are damaged; its scan can put good ones in their place.
                truncate(&queue, log.end, &table.files)?;
                queue.expire(log.start, &table.files)?;
                table.last_position = table.last_position.max(queue.last_position(&table.files)?);
                table.insert(&topic, queue);
            }
        }
        Ok(table)
    }

    pub(super) fn files(&self) -> &QueueFiles {
        &self.files
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn find(&self, topic: &str, queue_id: QueueId) -> Option<Arc<ConsumeQueue>> {
        let queues = self.topics.get(topic)?;
        // Most topics have the queues 0, 1, 2 and so on. A search would look at several, which among very many queues are all far away.
        let guess = usize::try_from(queue_id.get()).ok().and_then(|at| queues.get(at));
        if let Some(queue) = guess.filter(|queue| queue.name.queue_id == queue_id) {
            return Some(Arc::clone(queue));
        }
        let at = queues.binary_search_by_key(&queue_id, |queue| queue.name.queue_id).ok()?;
        queues.get(at).map(Arc::clone)
    }

    /// The queue, made if it is new.
    ///
    /// # Errors
    /// When it cannot be a folder, which a topic from a stranger or from a damaged record need not.
    pub(super) fn obtain(&self, topic: &str, queue_id: QueueId) -> Result<Arc<ConsumeQueue>, AppendError> {
        if let Some(queue) = self.find(topic, queue_id) {
            return Ok(queue);
        }
        if !names_a_folder(topic) {
            return Err(AppendError::Topic { topic: topic.to_owned() });
        }
        if queue_id.get() < 0 {
            return Err(AppendError::QueueId { queue_id: queue_id.get() });
        }
        Ok(self.insert(topic, ConsumeQueue::empty(self.name(topic, queue_id))))
    }

    fn insert(&self, topic: &str, queue: ConsumeQueue) -> Arc<ConsumeQueue> {
        let mut queues = self.topics.entry(Arc::from(topic)).or_default();
        match queues.binary_search_by_key(&queue.name.queue_id, |known| known.name.queue_id) {
            Ok(at) => queues.get(at).map(Arc::clone).unwrap_or_else(|| Arc::new(queue)),
            Err(at) => {
                let queue = Arc::new(queue);
                queues.insert(at, Arc::clone(&queue));
                queue
            }
        }
    }

    fn name(&self, topic: &str, queue_id: QueueId) -> QueueName {
        let topic = self.topics.get(topic).map_or_else(|| Arc::from(topic), |known| Arc::clone(known.key()));
        QueueName { number: self.numbers.fetch_add(1, Ordering::Relaxed), topic, queue_id }
    }

    /// Every queue, in no order.
    pub(super) fn all(&self) -> Vec<Arc<ConsumeQueue>> {
        self.topics.iter().flat_map(|queues| queues.value().clone()).collect()
    }

    /// Adds the unit of a message to its queue; false if it is there already or cannot be.
    pub(super) fn put(&self, topic: &str, queue_id: QueueId, offset: QueueOffset, unit: Unit) -> bool {
        match self.obtain(topic, queue_id) {
            Ok(queue) => self.put_to(&queue, offset, unit),
            Err(error) => {
                error!(%error, position = %unit.position, "message belongs to no possible queue and cannot be consumed");
                false
            }
        }
    }

    /// As [`QueueTable::put`], of a message whose queue is at hand.
    pub(super) fn put_to(&self, queue: &Arc<ConsumeQueue>, offset: QueueOffset, unit: Unit) -> bool {
        match queue.put(offset, unit, &self.files) {
            Put::First => {
                self.unwritten_bytes.fetch_add(UNIT_SIZE as u64, Ordering::Relaxed);
                lock(&self.unwritten).push(Arc::clone(queue));
            }
            Put::Added => {
                self.unwritten_bytes.fetch_add(UNIT_SIZE as u64, Ordering::Relaxed);
            }
            Put::Known => return false,
            Put::OutOfRange { end } => {
                let QueueName { topic, queue_id, .. } = &queue.name;
                error!(%topic, %queue_id, %offset, end, position = %unit.position, "message has an impossible queue offset and cannot be consumed");
                return false;
            }
        }
        true
    }

    /// Bytes of units in memory.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes.load(Ordering::Relaxed)
    }

    /// Writes tails to the files: all of them, or those worth it. Goes on behind a failure and returns the first.
    pub(super) fn write(&self, all: bool) -> Result<(), StoreError> {
        let _writing = lock(&self.writing);
        let mut outcome = Ok(());
        let mut left = Vec::new();
        let unwritten = std::mem::take(&mut *lock(&self.unwritten)); // no lock while files are written: appenders take it
        for queue in unwritten {
            if !all && queue.unwritten() < WORTH_A_WRITE {
                left.push(queue);
                continue;
            }
            match queue.write(&self.files) {
                Ok(written) => {
                    self.no_longer_unwritten(written.bytes);
                    if written.more {
                        left.push(queue);
                    }
                }
                Err(error) => {
                    outcome = outcome.and(Err(error));
                    left.push(queue);
                }
            }
        }
        lock(&self.unwritten).append(&mut left);
        outcome
    }

    /// Forces what was written to disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.files.sync()
    }

    /// Whether everything is on disk.
    pub(super) fn is_synced(&self) -> bool {
        lock(&self.unwritten).is_empty() && self.files.is_synced()
    }

    /// Where the last record starts that had a unit when the queues were loaded.
    pub(super) fn last_position(&self) -> Option<LogPosition> {
        self.last_position
    }

    /// Drops the units of records that start at `end` or later.
    pub(super) fn truncate(&self, end: LogPosition) -> Result<(), StoreError> {
        self.all().iter().try_for_each(|queue| truncate(queue, end, &self.files))
    }

    /// Ends recovery: the queues have what the log, which starts at `log_start`, has, and go on from there.
    pub(super) fn settle(&self, log_start: LogPosition) -> Result<(), StoreError> {
        for queue in self.all() {
            queue.set_next(queue.max());
            if queue.is_forgotten(log_start, &self.files)? {
                self.files.remove(&queue.name)?;
                if let Some(mut queues) = self.topics.get_mut(&queue.name.topic) {
                    queues.retain(|known| known.name.number != queue.name.number);
                }
            }
        }
        Ok(())
    }

    /// Deletes the messages of a topic; see [`ConsumeQueue::bury`].
    pub(super) fn bury(&self, topic: &str, log_end: impl Fn() -> LogPosition) -> Result<(), StoreError> {
        let _writing = lock(&self.writing);
        let queues = self.topics.get(topic).map(|queues| queues.value().clone()).unwrap_or_default();
        for queue in queues {
            let buried = queue.bury(&log_end, &self.files)?;
            self.no_longer_unwritten(buried);
        }
        Ok(())
    }

    fn no_longer_unwritten(&self, bytes: usize) {
        let counted = |count: u64| Some(count.saturating_sub(bytes as u64));
        let _ = self.unwritten_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    /// Follows a log that now starts at `start`; returns how many files are deleted. Goes on behind a failure and returns the first.
    pub(super) fn expire(&self, start: LogPosition) -> Result<usize, StoreError> {
        let mut outcome = Ok(0);
        for queue in self.all() {
            match queue.expire(start, &self.files) {
                Ok(more) => outcome = outcome.map(|deleted| deleted + more),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }
}

fn truncate(queue: &ConsumeQueue, end: LogPosition, files: &QueueFiles) -> Result<(), StoreError> {
    let dropped = queue.truncate(end, files)?;
    if dropped > 0 {
        warn!(topic = %queue.name.topic, queue_id = %queue.name.queue_id, dropped, log_end = %end, "dropped queue units behind the end of the commit log");
    }
    Ok(())
}

/// Whether a topic, from a stranger or from a damaged record, can be the name of a folder.
pub(super) fn names_a_folder(topic: &str) -> bool {
    let one_level = topic != "." && topic != ".." && !topic.contains(['/', '\0']);
    one_level && !topic.is_empty() && topic.len() <= LONGEST_TOPIC
}

/// Names of the folders in `dir`.
pub(super) fn folders(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::io("list", dir)(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        if entry.file_type().map_err(StoreError::io("inspect", &entry.path()))?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
