//! [`ConsumeQueue`]: the units of one queue, the newest of them in memory.
//!
//! New units gather in a tail until the flusher writes them to the queue's file. An idle queue is this struct and nothing else.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};

use super::error::StoreError;
use super::queue_files::{QueueFiles, QueueName};
use super::unit::{UNIT_SIZE, Unit};

/// Units read from a file at a time.
const CHUNK: usize = 128;

#[derive(Debug)]
pub(super) struct ConsumeQueue {
    pub(super) name: QueueName,
    /// Offset of the next message to be appended. Changed under the append lock only.
    next: AtomicI64,
    min: AtomicI64,
    /// Held for a copy of a few units, never during file operations.
    tail: Mutex<Tail>,
}

/// The units from `first` on; those before it are in the files.
#[derive(Debug, Default)]
struct Tail {
    first: i64,
    units: Vec<u8>,
}

/// What became of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is in, and the tail was empty before.
    First,
    /// It is in.
    Added,
    /// The queue had a unit there already, as happens in recovery.
    Known,
    /// The queue ends so far before it that its offset cannot be right.
    OutOfRange {
        /// The queue's end.
        end: i64,
    },
}

/// What a write of the tail came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: usize,
    /// Units came in meanwhile; if not, the next one is [`Put::First`].
    pub(super) more: bool,
}

impl ConsumeQueue {
    /// A queue without messages.
    pub(super) fn empty(name: QueueName) -> Self {
        Self { name, next: AtomicI64::new(0), min: AtomicI64::new(0), tail: Mutex::default() }
    }

    /// A queue as its files have it. After an unclean stop more than the last file is looked at, because the file system may have kept
    /// a later write and lost an earlier one. Also tells whether that, or something worse, has happened: units are missing that the log may
    /// have had for long.
    pub(super) fn load(name: QueueName, files: &QueueFiles, clean: bool) -> Result<(Self, bool), StoreError> {
        let queue = Self::empty(name);
        let Some((first, last)) = files.extent(&queue.name)? else { return Ok((queue, false)) };
        let damaged;
        let trusted_files = if clean { 0 } else { 2 };
        let mut end = (last - trusted_files * files.units_per_file()).max(first);
        let mut units = [0; CHUNK * UNIT_SIZE];
        loop {
            let read = files.read(&queue.name, end, &mut units)?;
            let found = || units.chunks_exact(UNIT_SIZE).take(read).map(Unit::decode);
            let valid = found().take_while(Option::is_some).count();
            end += valid as i64;
            if valid < read || read == 0 {
                damaged = found().skip(valid).any(|unit| unit.is_some()) || files.file_start(end) < last;
                break;
            }
        }
        if !clean {
            files.truncate(&queue.name, end, last)?;
        }
        queue.tail().first = end;
        queue.min.store(first.min(end), Ordering::Relaxed);
        queue.next.store(end, Ordering::Relaxed);
        Ok((queue, damaged))
    }

    /// Whether it is this one.
    pub(super) fn is(&self, topic: &str, queue_id: QueueId) -> bool {
        self.name.queue_id == queue_id && *self.name.topic == *topic
    }

    /// First offset that can be read.
    pub(super) fn min(&self) -> i64 {
        self.min.load(Ordering::Acquire)
    }

    /// Offset behind the last readable unit.
    pub(super) fn max(&self) -> i64 {
        self.tail().end()
    }

    /// Offset of the next message to be appended.
    pub(super) fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// Moves on the offset of the next message. Under the append lock.
    pub(super) fn set_next(&self, next: i64) {
        self.next.store(next, Ordering::Release);
    }

    /// Adds the unit of the message at `offset`.
    pub(super) fn put(&self, offset: QueueOffset, unit: Unit, files: &QueueFiles) -> Put {
        let mut tail = self.tail();
        let (offset, end) = (offset.get(), tail.end());
        if offset < end {
            return if offset < 0 { Put::OutOfRange { end } } else { Put::Known };
        }
        let first = tail.units.is_empty();
        if offset > end {
            if offset > i64::MAX / 64 {
                return Put::OutOfRange { end };
            }
            if end == 0 {
                // A queue may start anywhere: the messages before are deleted, or were never here.
                tail.first = offset;
                self.min.store(offset, Ordering::Release);
            } else if offset - end > files.units_per_file() {
                return Put::OutOfRange { end };
            } else {
                // Units were lost. Offsets must stay those that the messages carry, so what is missing becomes a hole.
                if self.min() >= end {
                    self.min.store(offset, Ordering::Release); // the first message is never a hole
                }
                tail.units.extend(Unit::BLANK.encode().repeat(usize::try_from(offset - end).unwrap_or(0)));
            }
        }
        tail.units.extend_from_slice(&unit.encode());
        if first { Put::First } else { Put::Added }
    }

    /// Bytes of units that are not in a file yet.
    pub(super) fn unwritten(&self) -> usize {
        self.tail().units.len()
    }

    /// Writes the tail to the files. One thread at a time.
    pub(super) fn write(&self, files: &QueueFiles) -> Result<Written, StoreError> {
        // Readers need the tail meanwhile and the dispatcher adds to it, so write from a copy.
        let (first, units) = {
            let tail = self.tail();
            (tail.first, tail.units.clone())
        };
        files.write(&self.name, first, &units)?;
        let mut tail = self.tail();
        tail.first += (units.len() / UNIT_SIZE) as i64;
        if tail.units.len() == units.len() {
            tail.units = Vec::new();
        } else {
            tail.units.drain(..units.len());
        }
        Ok(Written { bytes: units.len(), more: !tail.units.is_empty() })
    }

    /// Copies whole units from `offset` on into `units`, not beyond the queue file `offset` is in; returns how many.
    pub(super) fn read(
        &self,
        offset: i64,
        units: &mut [u8],
        files: &QueueFiles,
    ) -> Result<usize, StoreError> {
        let in_files = {
            let tail = self.tail();
            if offset >= tail.first {
                let left_in_file = files.file_start(offset) + files.units_per_file() - offset;
                let wanted = units.len().min(bytes_of(left_in_file));
                let from = bytes_of(offset - tail.first);
                let available = tail.units.get(from..).unwrap_or_default();
                let n = available.len().min(wanted) / UNIT_SIZE;
                for (to, from) in
                    units.chunks_exact_mut(UNIT_SIZE).zip(available.chunks_exact(UNIT_SIZE)).take(n)
                {
                    to.copy_from_slice(from);
                }
                return Ok(n);
            }
            bytes_of(tail.first - offset)
        };
        let wanted = units.len().min(in_files);
        files.read(&self.name, offset, units.get_mut(..wanted).unwrap_or_default())
    }

    /// The unit at `offset`, if the queue has one there.
    pub(super) fn unit(&self, offset: i64, files: &QueueFiles) -> Result<Option<Unit>, StoreError> {
        let mut unit = [0; UNIT_SIZE];
        Ok(match self.read(offset, &mut unit, files)? {
            0 => None,
            _ => Unit::decode(&unit),
        })
    }

    /// The first offset from `start` to the end of the queue for which `wanted` holds, given that it holds for all that follow.
    pub(super) fn first_offset(
        &self,
        start: i64,
        files: &QueueFiles,
        mut wanted: impl FnMut(Unit) -> bool,
    ) -> Result<i64, StoreError> {
        let (mut low, mut high) = (start, self.max());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.unit(middle, files)? {
                Some(unit) if wanted(unit) => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Where the last record of the queue starts.
    pub(super) fn last_position(&self, files: &QueueFiles) -> Result<Option<LogPosition>, StoreError> {
        let max = self.max();
        if max <= self.min() {
            return Ok(None);
        }
        Ok(self.unit(max - 1, files)?.filter(|unit| !unit.is_blank()).map(|unit| unit.position))
    }

    /// Drops the units of records that start at `end` or later; returns how many. In recovery, before anybody reads or writes.
    pub(super) fn truncate(&self, end: LogPosition, files: &QueueFiles) -> Result<i64, StoreError> {
        let before = self.max();
        let mut max = before;
        while max > self.min() {
            match self.unit(max - 1, files)? {
                Some(unit) if unit.is_blank() || unit.position < end => break,
                _ => max -= 1,
            }
        }
        if max < before {
            let mut tail = self.tail();
            let kept_in_tail = (max - tail.first).max(0);
            tail.units.truncate(bytes_of(kept_in_tail));
            if max < tail.first {
                let last = files.file_start(tail.first.saturating_sub(1));
                files.truncate(&self.name, max, last)?;
                tail.first = max;
            }
        }
        Ok(before - max)
    }

    /// Moves the first offset to the first message that the log, which starts at `log_start`, still has; to the end of the queue if there is none.
    pub(super) fn correct_min(&self, log_start: LogPosition, files: &QueueFiles) -> Result<(), StoreError> {
        let (min, max) = (self.min(), self.max());
        let kept = |unit: Unit| !unit.is_blank() && unit.position >= log_start;
        if max > min && !self.unit(min, files)?.is_some_and(kept) {
            self.min.store(self.first_offset(min, files, kept)?, Ordering::Release);
        }
        Ok(())
    }

    /// Follows a log that now starts at `log_start`: corrects the first offset and deletes the files before it; returns how many. The last
    /// file stays, since it is what the numbers go on from.
    pub(super) fn expire(&self, log_start: LogPosition, files: &QueueFiles) -> Result<usize, StoreError> {
        let oldest_file = self.oldest_file(files);
        self.correct_min(log_start, files)?;
        let last_written = self.tail().first - 1;
        files.delete_before(&self.name, oldest_file, self.min().min(last_written))
    }

    /// Deletes the messages of the queue, whose numbers go on: the log still has records with the old ones, so a message that got such a
    /// number again would, after a crash, find its place taken. What stays is a file of blanks up to the next number, and its last unit
    /// says up to where such records may be. `log_end` is asked once the queue's end is known. Returns the bytes of the tail that need no
    /// writing any more. While no tails are written.
    pub(super) fn bury(
        &self,
        log_end: impl FnOnce() -> LogPosition,
        files: &QueueFiles,
    ) -> Result<usize, StoreError> {
        let end = self.max();
        if end == 0 {
            return Ok(0);
        }
        let last_file = files.file_start(end - 1);
        // First the files, then the blanks: a crash in between leaves a queue without its older messages, which is one of the usual kind.
        files.delete_before(&self.name, self.oldest_file(files), last_file)?;
        let mut blanks = Unit::BLANK.encode().repeat(bytes_of(end - 1 - last_file) / UNIT_SIZE);
        blanks.extend_from_slice(&Unit::tombstone(log_end()).encode());
        files.write(&self.name, last_file, &blanks)?;
        let mut tail = self.tail();
        let buried = bytes_of(end - tail.first);
        tail.units.drain(..buried);
        tail.first = end;
        self.min.store(end, Ordering::Release);
        Ok(buried)
    }

    /// Where the first file there may be starts: a queue that has expired whole keeps the file of its last message.
    fn oldest_file(&self, files: &QueueFiles) -> i64 {
        files.file_start((self.min() - 1).max(0))
    }

    /// Whether the queue was buried, and nothing came since, and the log, which starts at `log_start`, has nothing left of it.
    pub(super) fn is_forgotten(
        &self,
        log_start: LogPosition,
        files: &QueueFiles,
    ) -> Result<bool, StoreError> {
        let max = self.max();
        if max == 0 || self.min() < max {
            return Ok(false);
        }
        let buried = self.unit(max - 1, files)?.and_then(Unit::buried_before);
        Ok(buried.is_some_and(|position| position <= log_start))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn end(&self) -> i64 {
        self.first + (self.units.len() / UNIT_SIZE) as i64
    }
}

fn bytes_of(units: i64) -> usize {
    usize::try_from(units).unwrap_or(0).saturating_mul(UNIT_SIZE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;
    use rocketmq_protocol::TagHash;

    use super::*;
    use crate::store::disk::Disk;

    const UNITS_PER_FILE: i64 = 5;

    fn files(root: &Path) -> QueueFiles {
        QueueFiles::new(root.to_owned(), UNITS_PER_FILE as u64 * UNIT_SIZE as u64, 2, Disk::default())
    }

    fn name() -> QueueName {
        QueueName { number: 0, topic: Arc::from("t"), queue_id: QueueId::new(0) }
    }

    /// The unit of the message at `offset`: 100 bytes each, every record of the log in this queue.
    fn unit(offset: i64) -> Unit {
        Unit { position: LogPosition::new(offset.saturating_mul(100)), size: 100, tag_hash: TagHash::new(7) }
    }

    fn put(queue: &ConsumeQueue, offset: i64, files: &QueueFiles) -> Put {
        queue.put(QueueOffset::new(offset), unit(offset), files)
    }

    #[test]
    fn a_unit_that_is_there_already_is_not_added_again() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, files) = (ConsumeQueue::empty(name()), files(dir.path()));
        assert_eq!(put(&queue, 0, &files), Put::First);
        assert_eq!(put(&queue, 1, &files), Put::Added);
        assert_eq!(put(&queue, 0, &files), Put::Known);
        queue.write(&files).unwrap();
        assert_eq!(put(&queue, 1, &files), Put::Known);
        assert_eq!(put(&queue, 2, &files), Put::First);
        assert_eq!(queue.max(), 3);
    }

    #[test]
    fn the_first_message_of_an_emptied_queue_is_never_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, files) = (ConsumeQueue::empty(name()), files(dir.path()));
        for offset in 0..3 {
            assert!(matches!(put(&queue, offset, &files), Put::First | Put::Added));
        }
        queue.write(&files).unwrap();
        queue.expire(LogPosition::new(300), &files).unwrap();
        assert_eq!((queue.min(), queue.max()), (3, 3));
        assert_eq!(put(&queue, 5, &files), Put::First);
        assert_eq!((queue.min(), queue.max()), (5, 6));
    }

    #[test]
    fn lost_units_become_holes_and_absurd_offsets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, files) = (ConsumeQueue::empty(name()), files(dir.path()));
        put(&queue, 0, &files);
        assert_eq!(put(&queue, 3, &files), Put::Added);
        assert_eq!(queue.unit(1, &files).unwrap(), Some(Unit::BLANK));
        assert_eq!(queue.unit(3, &files).unwrap(), Some(unit(3)));
        for offset in [-1, 10, i64::MAX] {
            assert_eq!(put(&queue, offset, &files), Put::OutOfRange { end: 4 });
        }
        assert_eq!(put(&ConsumeQueue::empty(name()), i64::MAX, &files), Put::OutOfRange { end: 0 });
    }

    #[test]
    fn a_queue_that_starts_in_the_middle_of_a_file_reads_back_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, files) = (ConsumeQueue::empty(name()), files(dir.path()));
        put(&queue, 8, &files);
        queue.write(&files).unwrap();
        for clean in [true, false] {
            let (loaded, damaged) = ConsumeQueue::load(name(), &files, clean).unwrap();
            assert!(!damaged);
            loaded.correct_min(LogPosition::ZERO, &files).unwrap();
            assert_eq!((loaded.min(), loaded.max(), loaded.next()), (8, 9, 9));
        }
    }

    #[test]
    fn idle_queues_are_small() {
        assert!(size_of::<ConsumeQueue>() <= 128, "{}", size_of::<ConsumeQueue>());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(usize),
        Write,
        Truncate(i64),
        Reopen { clean: bool },
        DeleteLog(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_usize..8).prop_map(Step::Put),
            2 => Just(Step::Write),
            1 => (0_i64..40).prop_map(Step::Truncate),
            1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
            1 => (0_i64..20).prop_map(Step::DeleteLog),
        ]
    }

    proptest! {
        #[test]
        fn a_queue_holds_what_was_put_through_any_writes_cuts_and_reopenings(steps in proptest::collection::vec(step(), 1..40)) {
            let dir = tempfile::tempdir().unwrap();
            let files = files(dir.path());
            let mut queue = ConsumeQueue::empty(name());
            let (mut min, mut max, mut log_start) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Put(count) => for _ in 0..count {
                        put(&queue, max, &files);
                        max += 1;
                    },
                    Step::Write => drop(queue.write(&files).unwrap()),
                    Step::Truncate(to) => {
                        let kept = to.clamp(min.max(log_start), max);
                        prop_assert_eq!(queue.truncate(LogPosition::new(kept * 100), &files).unwrap(), max - kept);
                        max = kept;
                    }
                    Step::Reopen { clean } => {
                        queue.write(&files).unwrap();
                        let damaged;
                        (queue, damaged) = ConsumeQueue::load(name(), &files, clean).unwrap();
                        prop_assert!(!damaged);
                        queue.correct_min(LogPosition::new(log_start * 100), &files).unwrap();
                        // A queue whose files are all gone starts over; here, where positions follow offsets, with its log.
                        if min == max && queue.max() == 0 {
                            (min, max, log_start) = (0, 0, 0);
                        }
                    }
                    Step::DeleteLog(to) => {
                        log_start = to.clamp(log_start, max);
                        queue.write(&files).unwrap(); // before records go, their units are on disk
                        queue.expire(LogPosition::new(log_start * 100), &files).unwrap();
                        min = log_start.clamp(min, max);
                    }
                }
                prop_assert_eq!(queue.max(), max);
                prop_assert_eq!(queue.min().min(max), min);
                for offset in min..max {
                    prop_assert_eq!(queue.unit(offset, &files).unwrap(), Some(unit(offset)));
                }
                prop_assert_eq!(queue.unit(max, &files).unwrap(), None);
            }
        }
    }
}
