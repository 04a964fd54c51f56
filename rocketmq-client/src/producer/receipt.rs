//! [`SendReceipt`]: what a broker says of a message that it has stored.

use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::{ByteString, QueueOffset, ResponseCode};

/// How safely a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendStatus {
    /// As safely as the broker is set up to.
    Ok,
    /// In memory: the disk did not have it in time.
    FlushDiskTimeout,
    /// By the master: its replica did not have it in time.
    FlushReplicaTimeout,
    /// By the master: there is no replica.
    ReplicaNotAvailable,
}

impl SendStatus {
    pub(super) fn from_code(code: ResponseCode) -> Self {
        match code {
            ResponseCode::FLUSH_DISK_TIMEOUT => Self::FlushDiskTimeout,
            ResponseCode::FLUSH_SLAVE_TIMEOUT => Self::FlushReplicaTimeout,
            ResponseCode::SLAVE_NOT_AVAILABLE => Self::ReplicaNotAvailable,
            _ => Self::Ok, // the request accepts no others
        }
    }
}

/// A message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendReceipt {
    /// How safely.
    pub status: SendStatus,
    /// What identifies the message wherever it is stored: its unique key.
    pub message_id: ByteString,
    /// Where the broker has it: address and position, as text.
    pub offset_message_id: ByteString,
    /// The queue it is in.
    pub queue: MessageQueue,
    /// Its place there.
    pub queue_offset: QueueOffset,
    /// With a timer message on a 5.x broker: what [`Producer::recall`](crate::Producer::recall) takes it back with.
    pub recall_handle: Option<ByteString>,
    /// Whether an earlier attempt may have stored the message, too: its answer did not come. Both have the same id.
    pub may_be_duplicate: bool,
}

/// All messages of a batch are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReceipt {
    /// How safely.
    pub status: SendStatus,
    /// What identifies each message, in their order.
    pub message_ids: Vec<ByteString>,
    /// The queue they are in.
    pub queue: MessageQueue,
    /// Place of the first; the others follow one by one.
    pub first_queue_offset: QueueOffset,
    /// Whether an earlier attempt may have stored the batch, too: its answer did not come.
    pub may_be_duplicate: bool,
}
