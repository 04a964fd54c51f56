//! [`Store`]: the whole of it.

use std::sync::Arc;

use bytes::Bytes;
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, TagHash};

use super::arrival::Arrival;
use super::error::{AppendError, FlushError, StoreError};
use super::options::StoreOptions;
use super::read::{ReadLimits, ReadOutcome, TimeBoundary};

/// An open message store. Dropping it without [`Store::close`] is like killing the process: nothing acknowledged is lost, and
/// the next open recovers.
pub struct Store {}

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

#[allow(unused_variables, clippy::unimplemented)]
impl Store {
    /// Opens or creates the store, recovering what the last run left. Blocks.
    ///
    /// # Errors
    /// When another broker has it, a file is missing, unreadable or of another size, or the disk is full.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        unimplemented!()
    }

    /// Appends records to one queue, all or none, and makes them readable. `records` are encoded records of this topic and queue, back to
    /// back; queue offset, position and store timestamp are filled in, in place, so that the caller can read them there.
    /// Does not wait for the disk: see [`Store::flushed`]. Does not block beyond a copy, so async tasks may call it.
    ///
    /// # Errors
    /// Nothing is appended then; see [`AppendError`].
    pub fn append(
        &self,
        topic: &str,
        queue_id: QueueId,
        records: &mut [u8],
    ) -> Result<Appended, AppendError> {
        unimplemented!()
    }

    /// Waits until everything before `position` is on disk. One flush answers all who wait.
    ///
    /// # Errors
    /// When that takes longer than `sync_flush_timeout`, or the disk refuses.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the wait, not the flush.
    pub async fn flushed(&self, position: LogPosition) -> Result<(), FlushError> {
        unimplemented!()
    }

    /// Reads messages of a queue from `offset` on whose tag hash passes `filter`.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn read(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
        limits: ReadLimits,
        filter: impl FnMut(TagHash) -> bool,
    ) -> Result<ReadOutcome, StoreError> {
        unimplemented!()
    }

    /// First offset of a queue; 0 without one.
    pub fn min_offset(&self, topic: &str, queue_id: QueueId) -> QueueOffset {
        unimplemented!()
    }

    /// Offset behind the last readable message of a queue; 0 without one.
    pub fn max_offset(&self, topic: &str, queue_id: QueueId) -> QueueOffset {
        unimplemented!()
    }

    /// Offset the next appended message of a queue gets.
    pub fn next_offset(&self, topic: &str, queue_id: QueueId) -> QueueOffset {
        unimplemented!()
    }

    /// The offset that belongs to a store time, within the queue's range.
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
        unimplemented!()
    }

    /// When the first message of a queue was stored, in ms since 1970.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn earliest_store_time(&self, topic: &str, queue_id: QueueId) -> Result<Option<i64>, StoreError> {
        unimplemented!()
    }

    /// When the message at `offset` was stored, in ms since 1970.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub fn store_time(
        &self,
        topic: &str,
        queue_id: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<i64>, StoreError> {
        unimplemented!()
    }

    /// The record that starts at `position`, if one does. Safe for positions from strangers.
    pub fn message_at(&self, position: LogPosition) -> Option<Bytes> {
        unimplemented!()
    }

    /// First position of the commit log.
    pub fn min_position(&self) -> LogPosition {
        unimplemented!()
    }

    /// Where the next record goes.
    pub fn max_position(&self) -> LogPosition {
        unimplemented!()
    }

    /// Every queue with its range, in no order.
    pub fn queues(&self) -> Vec<QueueRange> {
        unimplemented!()
    }

    /// Calls `listener` for each message that becomes readable from now on.
    pub fn on_arrival(&self, listener: impl Fn(&Arrival<'_>) + Send + Sync + 'static) {
        unimplemented!()
    }

    /// Whether an append has been holding the log for longer than `busy_after`: the disk cannot keep up.
    pub fn is_busy(&self) -> bool {
        unimplemented!()
    }

    /// Whether appends are taken; if not, why.
    ///
    /// # Errors
    /// The error an append would get.
    pub fn writable(&self) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// Flushes everything and ends the store's threads; later appends are refused, reads still work. Blocks.
    ///
    /// # Errors
    /// When something cannot be written; the next open recovers then.
    pub fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
