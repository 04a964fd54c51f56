//! [`ConsumeQueue`]: the units of one queue, the newest of them in memory.
//!
//! New units gather in a tail until the flusher writes them to the queue's file. An idle queue is this struct and nothing else.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::{LogPosition, QueueOffset};

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
    /// a later write and lost an earlier one.
    pub(super) fn load(name: QueueName, files: &QueueFiles, clean: bool) -> Result<Self, StoreError> {
        let queue = Self::empty(name);
        let Some((first, last)) = files.extent(&queue.name)? else { return Ok(queue) };
        let trusted_files = if clean { 0 } else { 2 };
        let mut end = (last - trusted_files * files.units_per_file()).max(first);
        let mut units = [0; CHUNK * UNIT_SIZE];
        loop {
            let read = files.read(&queue.name, end, &mut units)?;
            let valid = units.chunks_exact(UNIT_SIZE).take(read).map_while(Unit::decode).count();
            end += valid as i64;
            if valid < read || read == 0 {
                break;
            }
        }
        if !clean {
            files.truncate(&queue.name, end, last)?;
        }
        queue.tail().first = end;
        queue.min.store(first.min(end), Ordering::Relaxed);
        queue.next.store(end, Ordering::Relaxed);
        Ok(queue)
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
