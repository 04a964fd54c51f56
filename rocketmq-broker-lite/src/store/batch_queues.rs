//! [`BatchQueues`]: the queues of topics that a Java broker keeps with `queue.type=BatchCQ`, whose records stand for several messages.
//!
//! `ROOT/batchconsumequeue/<topic>/<queue id>/<20 digits>`: files of one size, named by the byte offset of their first unit. They are read,
//! and recovery adds what is missing; no message is appended to such a topic, so once the store is open, queues only get shorter.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use rocketmq_protocol::message::{StoredMessageRef, SysFlag};
use rocketmq_protocol::{LogPosition, QueueId};
use tracing::{error, warn};

use super::batch_unit::{BATCH_UNIT_SIZE, BatchUnit};
use super::disk::Disk;
use super::error::StoreError;
use super::mapped_file::file_path;
use super::queue_files::log_files;
use super::queue_table::{folders, names_a_folder};
use super::read::TimeBoundary;
use super::unit::Unit;

#[derive(Debug)]
pub(super) struct BatchQueues {
    root: PathBuf,
    units_per_file: i64,
    disk: Disk,
    topics: HashMap<String, BTreeMap<QueueId, BatchQueue>>,
    /// Whether a topic that has such queues had no folder: any part of the log may have messages of it.
    lacking: bool,
}

#[derive(Debug)]
pub(super) struct BatchQueue {
    dir: PathBuf,
    units_per_file: i64,
    /// First unit that the files have, and that the log has a record of.
    first: AtomicI64,
    /// Behind the last one.
    end: i64,
    /// Offset of the first message.
    min: AtomicI64,
    /// Offset behind the last one.
    max: i64,
}

impl BatchQueues {
    /// Loads every queue there is in the files below `root`.
    pub(super) fn load(root: PathBuf, file_size: u64, disk: Disk) -> Result<Self, StoreError> {
        let units_per_file = i64::try_from(file_size.div_ceil(BATCH_UNIT_SIZE as u64)).unwrap_or(i64::MAX);
        let units_per_file = units_per_file.clamp(1, i64::MAX / 1024);
        let mut topics = HashMap::new();
        for topic in folders(&root)? {
            let mut queues = BTreeMap::new();
            for name in folders(&root.join(&topic))? {
                if let Some(id) = name.parse().ok().filter(|id| *id >= 0) {
                    let dir = root.join(&topic).join(name);
                    queues.insert(QueueId::new(id), BatchQueue::load(dir, units_per_file)?);
                }
            }
            topics.insert(topic, queues);
        }
        Ok(Self { root, units_per_file, disk, topics, lacking: false })
    }

    /// Tells of a topic that has such queues. If it has no folder here, all of the log is to be read.
    pub(super) fn expect(&mut self, topic: &str) -> Result<(), StoreError> {
        if self.topics.contains_key(topic) || !names_a_folder(topic) {
            return Ok(());
        }
        let dir = self.root.join(topic);
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?; // found at the next start
        self.topics.insert(topic.to_owned(), BTreeMap::new());
        self.lacking = true;
        Ok(())
    }

    pub(super) fn are_lacking(&self) -> bool {
        self.lacking
    }

    pub(super) fn has_topic(&self, topic: &str) -> bool {
        !self.topics.is_empty() && self.topics.contains_key(topic)
    }

    pub(super) fn find(&self, topic: &str, queue_id: QueueId) -> Option<&BatchQueue> {
        self.topics.get(topic)?.get(&queue_id)
    }

    /// Every queue with its topic.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, QueueId, &BatchQueue)> {
        self.topics
            .iter()
            .flat_map(|(topic, queues)| queues.iter().map(move |(id, queue)| (topic.as_str(), *id, queue)))
    }

    /// Whether a record has its place here and not in an ordinary queue.
    pub(super) fn are_for(&self, message: &StoredMessageRef<'_>) -> bool {
        message.sys_flag().contains(SysFlag::INNER_BATCH) || self.has_topic(message.topic())
    }

    /// Adds the unit of a record, unless it is there. In recovery, in log order.
    pub(super) fn put(&mut self, message: &StoredMessageRef<'_>, unit: Unit) -> Result<(), StoreError> {
        let (topic, queue_id) = (message.topic(), message.queue_id());
        let possible = names_a_folder(topic) && queue_id.get() >= 0;
        let batch = BatchUnit::of(message, unit).filter(|_| possible);
        let Some(batch) = batch else {
            error!(topic, %queue_id, position = %unit.position, "batch belongs to no possible queue and cannot be consumed");
            return Ok(());
        };
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        let Some(queues) = self.topics.get_mut(topic) else { return Ok(()) };
        let queue = queues.entry(queue_id).or_insert_with(|| BatchQueue {
            dir: self.root.join(topic).join(queue_id.to_string()),
            units_per_file: self.units_per_file,
            first: AtomicI64::new(0),
            end: 0,
            min: AtomicI64::new(0),
            max: 0,
        });
        queue.put(batch, &self.disk)
    }

    /// Fits the queues to a log that reaches from `start` to `end`.
    pub(super) fn fit(&mut self, start: LogPosition, end: LogPosition) -> Result<(), StoreError> {
        let mut forgotten = Vec::new();
        for (topic, queues) in &mut self.topics {
            for (queue_id, queue) in queues {
                let dropped = queue.truncate(end)?;
                if dropped > 0 {
                    warn!(topic, %queue_id, dropped, log_end = %end, "dropped batch queue units behind the end of the commit log");
                }
                queue.expire(start)?;
                if queue.is_forgotten(start)? {
                    forgotten.push((topic.clone(), *queue_id));
                }
            }
        }
        forgotten.into_iter().try_for_each(|(topic, queue_id)| self.remove(&topic, queue_id))
    }

    /// Removes a queue, and its topic with the last one.
    fn remove(&mut self, topic: &str, queue_id: QueueId) -> Result<(), StoreError> {
        let Some(queues) = self.topics.get_mut(topic) else { return Ok(()) };
        if let Some(queue) = queues.remove(&queue_id) {
            fs::remove_dir_all(&queue.dir).map_err(StoreError::io("delete", &queue.dir))?;
        }
        if queues.is_empty() {
            self.topics.remove(topic);
            let dir = self.root.join(topic);
            fs::remove_dir(&dir).map_err(StoreError::io("delete", &dir))?;
        }
        Ok(())
    }

    /// Follows a log that now starts at `start`; returns how many files are deleted.
    pub(super) fn expire(&self, start: LogPosition) -> Result<usize, StoreError> {
        self.topics
            .values()
            .flat_map(BTreeMap::values)
            .try_fold(0, |deleted, queue| Ok(deleted + queue.expire(start)?))
    }

    /// Deletes the messages of a topic, all of which are before `log_end`, as [`super::consume_queue::ConsumeQueue::bury`] does.
    pub(super) fn bury(&self, topic: &str, log_end: LogPosition) -> Result<(), StoreError> {
        let queues = self.topics.get(topic).into_iter().flat_map(BTreeMap::values);
        queues.into_iter().try_for_each(|queue| queue.bury(log_end, &self.disk))
    }
}

impl BatchQueue {
    fn load(dir: PathBuf, units_per_file: i64) -> Result<Self, StoreError> {
        let files = log_files(&dir, units_per_file.unsigned_abs() * BATCH_UNIT_SIZE as u64)?;
        let unit_of = |(base, _): &(i64, PathBuf)| base / BATCH_UNIT_SIZE as i64;
        let first = files.first().map_or(0, unit_of);
        let mut queue = Self {
            dir,
            units_per_file,
            first: AtomicI64::new(first),
            end: first,
            min: AtomicI64::new(0),
            max: 0,
        };
        // An earlier file may have lost units that a later one has: then the later ones are behind the end.
        for file in files.iter().rev().take(3).rev() {
            queue.end = unit_of(file).max(queue.end);
            while queue.unit(queue.end)?.is_some() {
                queue.end += 1;
            }
            if queue.end < unit_of(file) + units_per_file {
                break;
            }
        }
        queue.find_max()?;
        Ok(queue)
    }

    /// Offset of the first message that can be read.
    pub(super) fn min(&self) -> i64 {
        self.min.load(Ordering::Acquire)
    }

    /// Offset behind the last message.
    pub(super) fn max(&self) -> i64 {
        self.max
    }

    fn first(&self) -> i64 {
        self.first.load(Ordering::Acquire)
    }

    fn find_max(&mut self) -> Result<(), StoreError> {
        let last = if self.end > self.first() { self.unit(self.end - 1)? } else { None };
        self.max = last.map_or(0, |batch| batch.end());
        Ok(())
    }

    pub(super) fn unit(&self, unit: i64) -> Result<Option<BatchUnit>, StoreError> {
        let start = self.file_start(unit);
        let path = self.path(start);
        let mut bytes = [0; BATCH_UNIT_SIZE];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, bytes_of(unit - start)));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("read", &path)(source)),
            Ok(()) => Ok(BatchUnit::decode(&bytes)),
        }
    }

    /// The unit that has the message at `offset`, or the first behind it.
    pub(super) fn unit_at(&self, offset: i64) -> Result<i64, StoreError> {
        self.first_unit(|batch| batch.end() > offset)
    }

    /// The offset that belongs to a store time: of a batch, its first.
    pub(super) fn offset_by_time(&self, time_ms: i64, boundary: TimeBoundary) -> Result<i64, StoreError> {
        let unit = match boundary {
            TimeBoundary::Lower => self.first_unit(|batch| batch.store_timestamp >= time_ms)?,
            TimeBoundary::Upper => self.first_unit(|batch| batch.store_timestamp > time_ms)? - 1,
        };
        Ok(self
            .unit(unit.max(self.first()))?
            .filter(|_| unit < self.end)
            .map_or(self.max, |batch| batch.first))
    }

    /// When the message at `offset` was stored.
    pub(super) fn store_time(&self, offset: i64) -> Result<Option<i64>, StoreError> {
        if !(self.min()..self.max).contains(&offset) {
            return Ok(None);
        }
        Ok(self.unit(self.unit_at(offset)?)?.map(|batch| batch.store_timestamp))
    }

    /// The first unit for which `wanted` holds, given that it holds for all that follow; the end if there is none.
    fn first_unit(&self, wanted: impl Fn(&BatchUnit) -> bool) -> Result<i64, StoreError> {
        let (mut low, mut high) = (self.first(), self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.unit(middle)? {
                Some(batch) if wanted(&batch) => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }

    fn put(&mut self, batch: BatchUnit, disk: &Disk) -> Result<(), StoreError> {
        if batch.first < self.max {
            return Ok(()); // it is there
        }
        let start = self.file_start(self.end);
        let path = self.path(start);
        fs::create_dir_all(&self.dir).map_err(StoreError::io("create", &self.dir))?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        file.set_len(bytes_of(self.units_per_file)).map_err(StoreError::io("extend", &path))?;
        let written = disk.write_at(&file, &batch.encode(), bytes_of(self.end - start));
        written.map_err(StoreError::io("write", &path))?;
        self.end += 1;
        self.max = batch.end();
        Ok(())
    }

    /// Drops the units of records that start at `end` or later; returns how many.
    fn truncate(&mut self, end: LogPosition) -> Result<i64, StoreError> {
        let before = self.end;
        self.end = self.first_unit(|batch| batch.unit.position >= end)?;
        for unit in self.end..before {
            let start = self.file_start(unit);
            let path = self.path(start);
            let file = OpenOptions::new().write(true).open(&path).map_err(StoreError::io("open", &path))?;
            let cleared = file.write_all_at(&[0; BATCH_UNIT_SIZE], bytes_of(unit - start));
            cleared.map_err(StoreError::io("write", &path))?;
        }
        self.find_max()?;
        Ok(before - self.end)
    }

    /// Follows a log that now starts at `start`: moves the first offset and deletes the files before it, but not the last one, which the
    /// numbers go on from; returns how many. One thread at a time.
    fn expire(&self, start: LogPosition) -> Result<usize, StoreError> {
        let oldest = self.file_start(self.first());
        let first = self.first_unit(|batch| !batch.unit.is_blank() && batch.unit.position >= start)?;
        let min = self.unit(first)?.filter(|_| first < self.end).map_or(self.max, |batch| batch.first);
        self.min.store(min, Ordering::Release);
        self.first.store(first, Ordering::Release);
        self.delete_between(oldest, self.file_start(first.min(self.end - 1).max(0)))
    }

    /// Deletes the files from the one that starts with the unit `from` up to that of `to`, which stays.
    fn delete_between(&self, from: i64, to: i64) -> Result<usize, StoreError> {
        let mut deleted = 0;
        let starts = (from..to).step_by(usize::try_from(self.units_per_file).unwrap_or(usize::MAX));
        for path in starts.map(|start| self.path(start)) {
            match fs::remove_file(&path) {
                Ok(()) => deleted += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("delete", &path)(source)),
            }
        }
        Ok(deleted)
    }

    /// Deletes the messages. The last file stays, so that a record which is found in the log again is known to be old; its units say up
    /// to where such records may be.
    fn bury(&self, log_end: LogPosition, disk: &Disk) -> Result<(), StoreError> {
        if self.end == self.first() && self.max == 0 {
            return Ok(());
        }
        let (oldest, last) = (self.file_start(self.first()), self.file_start(self.end - 1));
        self.min.store(self.max, Ordering::Release);
        self.first.store(self.end, Ordering::Release);
        self.delete_between(oldest, last)?;
        let path = self.path(last);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        let mut units = vec![0; usize::try_from(bytes_of(self.end - last)).unwrap_or(0)];
        file.read_exact_at(&mut units, 0).map_err(StoreError::io("read", &path))?;
        for bytes in units.chunks_exact_mut(BATCH_UNIT_SIZE) {
            if let Some(batch) = BatchUnit::decode(bytes) {
                bytes.copy_from_slice(&BatchUnit { unit: Unit::tombstone(log_end), ..batch }.encode());
            }
        }
        let written = disk.write_at(&file, &units, 0).and_then(|()| file.sync_data());
        written.map_err(StoreError::io("write", &path))
    }

    /// Whether the queue was buried and the log, which starts at `log_start`, has nothing left of it.
    fn is_forgotten(&self, log_start: LogPosition) -> Result<bool, StoreError> {
        let last = if self.end > 0 { self.unit(self.end - 1)? } else { None };
        let buried = last.and_then(|batch| batch.unit.buried_before());
        Ok(buried.is_some_and(|position| position <= log_start))
    }

    fn file_start(&self, unit: i64) -> i64 {
        unit - unit.rem_euclid(self.units_per_file)
    }

    fn path(&self, start: i64) -> PathBuf {
        file_path(Path::new(&self.dir), start * BATCH_UNIT_SIZE as i64)
    }
}

fn bytes_of(units: i64) -> u64 {
    units.unsigned_abs() * BATCH_UNIT_SIZE as u64
}
