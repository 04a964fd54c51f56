//! [`Arrival`]: the news that a message can be read.

use rocketmq_protocol::message::PropertiesRef;
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, TagHash};

/// A message that has just become readable in its queue. Listeners get it in queue order, on the thread that
/// dispatched it, so they must be quick: wake somebody and return.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Topic the record is stored under.
    pub topic: &'a str,
    /// Its queue.
    pub queue_id: QueueId,
    /// Its place in the queue; the queue's maximum is now at least one more.
    pub queue_offset: QueueOffset,
    /// What the consume queue unit says about its tag.
    pub tag_hash: TagHash,
    /// Where the record starts.
    pub position: LogPosition,
    /// Bytes of the record.
    pub size: usize,
    /// When it was appended, in ms since 1970.
    pub store_timestamp: i64,
    /// The properties of the record, for filters that look beyond the tag.
    pub properties: PropertiesRef<'a>,
}
