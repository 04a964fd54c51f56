//! Reading: messages of a queue by offset, offsets by time.

use bytes::Bytes;
use rocketmq_protocol::QueueOffset;

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
    /// How far the log goes on behind the last message examined, in bytes. Far behind means: read from disk.
    pub log_bytes_behind: i64,
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
