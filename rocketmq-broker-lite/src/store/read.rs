//! Reading: messages of a queue by offset, offsets by time.

use std::sync::Arc;

use bytes::Bytes;
use rocketmq_protocol::message::{PropertiesRef, StoredMessageRef};
use rocketmq_protocol::{LogPosition, QueueOffset, TagHash};

use super::batch_queues::BatchQueue;
use super::commit_log::{CommitLog, record_range};
use super::consume_queue::ConsumeQueue;
use super::error::StoreError;
use super::mapped_file::MappedFile;
use super::queue_files::QueueFiles;
use super::unit::{UNIT_SIZE, Unit};

/// Units that one read examines at least, however few messages it may return. Java: `maxFilterMessageSize` 16,000 bytes.
const EXAMINED_AT_LEAST: usize = 800;
/// Units fetched from a queue at a time.
const CHUNK: usize = 64;

/// How a read went, as pull replies name it. Source: `store/GetMessageStatus.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadStatus {
    /// At least one message.
    Found,
    /// Messages were examined, none passed the filter.
    NoMatchedMessage,
    /// Messages passed the filter, but their records are deleted already.
    MessageWasRemoving,
    /// The queue has no unit there although it should: go on with the next queue file.
    OffsetFoundNull,
    /// Beyond the end of the queue.
    OffsetOverflowBadly,
    /// Exactly the end of the queue: wait for the next message.
    OffsetOverflowOne,
    /// Before the first message that is still there.
    OffsetTooSmall,
    /// Nobody wrote to that queue yet.
    NoMatchedLogicQueue,
    /// The queue never had a message.
    NoMessageInQueue,
}

/// How much one read returns. The first message comes whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Messages at most.
    pub max_messages: usize,
    /// Bytes of records at most.
    pub max_bytes: usize,
}

/// What [`super::Store::read`] found.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    /// How it went.
    pub status: ReadStatus,
    /// Where the next read should start.
    pub next_offset: QueueOffset,
    /// First offset of the queue.
    pub min_offset: QueueOffset,
    /// Offset behind the last message of the queue.
    pub max_offset: QueueOffset,
    /// The records in queue order, borrowed from the page cache; neighbours in the log are one slice.
    pub records: Vec<Bytes>,
    /// Messages in `records`.
    pub messages: usize,
    /// Bytes in `records`.
    pub bytes: usize,
}

/// What a queue says of one of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its place in the queue.
    pub offset: QueueOffset,
    /// Where its record starts: [`super::Store::message_at`].
    pub position: LogPosition,
    /// Bytes of the record.
    pub size: i32,
    /// What tag filters look at; in the delay topic, the due time in ms.
    pub tag_hash: TagHash,
}

/// Which of the messages around a time [`super::Store::offset_by_time`] returns. Java: `common/BoundaryType.java`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeBoundary {
    /// The first message stored at that time or later; the queue's end if all are earlier.
    #[default]
    Lower,
    /// The last message stored at that time or earlier; the queue's start if all are later.
    Upper,
}

/// Which messages a read returns: those whose tag hash and, where that is asked for, properties pass.
pub(super) struct Filter<'f> {
    pub(super) tag: &'f mut dyn FnMut(TagHash) -> bool,
    pub(super) properties: Option<&'f mut dyn FnMut(PropertiesRef<'_>) -> bool>,
}

impl Filter<'_> {
    fn passes(&mut self, record: &[u8]) -> bool {
        match &mut self.properties {
            None => true,
            Some(passes) => StoredMessageRef::parse(record).is_ok_and(|message| passes(message.properties())),
        }
    }
}

/// What became of a unit whose tag passed.
enum Taken {
    Yes,
    /// Its properties do not pass.
    Unwanted,
    /// The record is not there any more.
    Gone,
}

/// Neighbouring records of the log that become one slice.
struct Run {
    file: Arc<MappedFile>,
    start: usize,
    end: usize,
}

impl ReadOutcome {
    fn nothing(status: ReadStatus, next_offset: i64, min: i64, max: i64) -> Self {
        Self {
            status,
            next_offset: QueueOffset::new(next_offset),
            min_offset: QueueOffset::new(min),
            max_offset: QueueOffset::new(max),
            records: Vec::new(),
            messages: 0,
            bytes: 0,
        }
    }

    pub(super) fn no_queue() -> Self {
        Self::nothing(ReadStatus::NoMatchedLogicQueue, 0, 0, 0)
    }

    /// What is known without looking at a unit: there is nothing at `offset`.
    fn outside(offset: i64, min: i64, max: i64) -> Option<Self> {
        let (status, next) = match offset {
            _ if max == 0 => (ReadStatus::NoMessageInQueue, 0),
            _ if offset < min => (ReadStatus::OffsetTooSmall, min),
            _ if offset == max => (ReadStatus::OffsetOverflowOne, offset),
            _ if offset > max => (ReadStatus::OffsetOverflowBadly, max),
            _ => return None,
        };
        Some(Self::nothing(status, next, min, max))
    }

    /// Takes up the record of `unit`, which has `count` messages.
    fn take(
        &mut self,
        unit: Unit,
        count: usize,
        run: &mut Option<Run>,
        log: &CommitLog,
        filter: &mut Filter<'_>,
    ) -> Taken {
        let range = |file: Arc<MappedFile>| {
            let (start, end) = record_range(&file, unit.position, unit.size)?;
            Some(Run { file, start, end })
        };
        // Messages arrive in bursts from one file: the last one is most likely the right one, and then costs no lookup.
        let known = run.as_ref().and_then(|run| range(Arc::clone(&run.file)));
        let Some(record) = known.or_else(|| log.file_at(unit.position).and_then(range)) else {
            return Taken::Gone;
        };
        if !filter.passes(record.file.readable().get(record.start..record.end).unwrap_or_default()) {
            return Taken::Unwanted;
        }
        self.messages += count;
        self.bytes += record.end - record.start;
        match run {
            Some(run) if Arc::ptr_eq(&run.file, &record.file) && run.end == record.start => {
                run.end = record.end
            }
            _ => {
                let finished = run.replace(record);
                self.finish(finished, log);
            }
        }
        Taken::Yes
    }

    fn finish(&mut self, run: Option<Run>, log: &CommitLog) {
        self.records.extend(run.and_then(|run| log.slice(&run.file, run.start, run.end)));
    }
}

/// See [`super::Store::read`].
pub(super) fn read(
    queue: &ConsumeQueue,
    files: &QueueFiles,
    log: &CommitLog,
    offset: i64,
    limits: ReadLimits,
    mut filter: Filter<'_>,
) -> Result<ReadOutcome, StoreError> {
    let (min, max) = (queue.min(), queue.max());
    if let Some(outside) = ReadOutcome::outside(offset, min, max) {
        return Ok(outside);
    }

    let mut outcome = ReadOutcome::nothing(ReadStatus::NoMatchedMessage, offset, min, max);
    let next_file = files.file_start(offset) + files.units_per_file();
    let examined_at_most = i64::try_from(limits.max_messages.max(EXAMINED_AT_LEAST)).unwrap_or(i64::MAX);
    let stop = max.min(next_file).min(offset.saturating_add(examined_at_most));
    let mut run = None;
    let mut at = offset;
    let mut removed_until = LogPosition::ZERO;
    let mut units = [0; CHUNK * UNIT_SIZE];
    'examine: while at < stop {
        let wanted = usize::try_from(stop - at).unwrap_or(CHUNK).min(CHUNK);
        let read = queue.read(at, units.get_mut(..wanted * UNIT_SIZE).unwrap_or_default(), files)?;
        let found = units.chunks_exact(UNIT_SIZE).take(read).map_while(Unit::decode);
        let before = at;
        for unit in found {
            let passes = !unit.is_blank() && unit.position >= removed_until && (filter.tag)(unit.tag_hash);
            if passes {
                let size = usize::try_from(unit.size).unwrap_or(usize::MAX);
                let full = outcome.messages >= limits.max_messages
                    || outcome.bytes.saturating_add(size) > limits.max_bytes;
                if full && outcome.messages > 0 {
                    break 'examine;
                }
                match outcome.take(unit, 1, &mut run, log, &mut filter) {
                    Taken::Yes => outcome.status = ReadStatus::Found,
                    Taken::Unwanted => {}
                    Taken::Gone => {
                        if outcome.messages == 0 {
                            outcome.status = ReadStatus::MessageWasRemoving;
                        }
                        // Log files go as a whole: the rest of this one is gone too. In one that is there, only this unit is wrong.
                        if unit.position < log.start() {
                            removed_until = log.end_of_file(unit.position);
                        }
                    }
                }
            }
            at += 1;
        }
        if at == before {
            if at == offset {
                return Ok(ReadOutcome::nothing(ReadStatus::OffsetFoundNull, next_file, min, max));
            }
            break;
        }
    }
    outcome.finish(run, log);
    outcome.next_offset = QueueOffset::new(at);
    Ok(outcome)
}

/// See [`super::Store::entries`].
pub(super) fn entries(
    queue: &ConsumeQueue,
    files: &QueueFiles,
    offset: i64,
    max: usize,
) -> Result<Vec<QueueEntry>, StoreError> {
    let (mut at, end) = (offset.max(queue.min()), queue.max());
    let mut found = Vec::new();
    let mut units = [0; CHUNK * UNIT_SIZE];
    while at < end && found.len() < max {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK).min(max - found.len());
        let read = queue.read(at, units.get_mut(..wanted * UNIT_SIZE).unwrap_or_default(), files)?;
        if read == 0 {
            at = files.file_start(at) + files.units_per_file();
        }
        for unit in units.chunks_exact(UNIT_SIZE).take(read) {
            if let Some(Unit { position, size, tag_hash }) =
                Unit::decode(unit).filter(|unit| !unit.is_blank())
            {
                found.push(QueueEntry { offset: QueueOffset::new(at), position, size, tag_hash });
            }
            at += 1;
        }
    }
    Ok(found)
}

/// As [`read`], where each record stands for several messages: it comes whole, whichever of them `offset` is.
pub(super) fn read_batches(
    queue: &BatchQueue,
    log: &CommitLog,
    offset: i64,
    limits: ReadLimits,
    mut filter: Filter<'_>,
) -> Result<ReadOutcome, StoreError> {
    let (min, max) = (queue.min(), queue.max());
    if let Some(outside) = ReadOutcome::outside(offset, min, max) {
        return Ok(outside);
    }
    let mut outcome = ReadOutcome::nothing(ReadStatus::NoMatchedMessage, offset, min, max);
    let mut run = None;
    let first = queue.unit_at(offset)?;
    for at in first..first + EXAMINED_AT_LEAST as i64 {
        let Some(batch) = queue.unit(at)? else { break };
        let count = usize::try_from(batch.count).unwrap_or(1);
        if (filter.tag)(batch.unit.tag_hash) {
            let size = usize::try_from(batch.unit.size).unwrap_or(usize::MAX);
            let full = outcome.messages + count > limits.max_messages
                || outcome.bytes.saturating_add(size) > limits.max_bytes;
            if full && outcome.messages > 0 {
                break;
            }
            match outcome.take(batch.unit, count, &mut run, log, &mut filter) {
                Taken::Yes => outcome.status = ReadStatus::Found,
                Taken::Gone if outcome.messages == 0 => outcome.status = ReadStatus::MessageWasRemoving,
                Taken::Gone | Taken::Unwanted => {}
            }
        }
        outcome.next_offset = QueueOffset::new(batch.end());
    }
    outcome.finish(run, log);
    Ok(outcome)
}

/// See [`super::Store::offset_by_time`].
pub(super) fn offset_by_time(
    queue: &ConsumeQueue,
    files: &QueueFiles,
    log: &CommitLog,
    time_ms: i64,
    boundary: TimeBoundary,
) -> Result<i64, StoreError> {
    let min = queue.min();
    // A record that is gone is older than all that are there.
    let time = |unit| store_time(unit, log).unwrap_or(i64::MIN);
    match boundary {
        TimeBoundary::Lower => queue.first_offset(min, files, |unit| time(unit) >= time_ms),
        TimeBoundary::Upper => {
            Ok((queue.first_offset(min, files, |unit| time(unit) > time_ms)? - 1).max(min))
        }
    }
}

/// When the record of a unit was stored.
pub(super) fn store_time(unit: Unit, log: &CommitLog) -> Option<i64> {
    let file = log.file_at(unit.position)?;
    let (start, end) = record_range(&file, unit.position, unit.size)?;
    let message = StoredMessageRef::parse(file.readable().get(start..end)?).ok()?;
    Some(message.store_timestamp())
}
