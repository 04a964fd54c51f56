//! Offsets: of groups, and of queues.

use crate::request::{Done, requests};
use crate::{ByteString, QueueId, QueueOffset};

requests! {
    /// Where a group stands in a queue; refused with `QUERY_NOT_FOUND` when the broker does not know.
    /// Java: `protocol/header/QueryConsumerOffsetRequestHeader.java`.
    QueryConsumerOffset = QUERY_CONSUMER_OFFSET {
        consumer_group: ByteString => "consumerGroup",
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
        /// Whether a young queue answers 0 for an unknown group.
        set_zero_if_not_found: Option<bool> => "setZeroIfNotFound",
    } -> QueryConsumerOffsetReply {
        offset: QueueOffset => "offset",
    };

    /// Stores where a group stands: the next message to consume. Java: `UpdateConsumerOffsetRequestHeader.java`.
    UpdateConsumerOffset = UPDATE_CONSUMER_OFFSET {
        consumer_group: ByteString => "consumerGroup",
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
        commit_offset: QueueOffset => "commitOffset",
    } -> Done;

    /// The offset behind the last message of a queue. Java: `GetMaxOffsetRequestHeader.java`.
    GetMaxOffset = GET_MAX_OFFSET {
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
    } -> GetMaxOffsetReply {
        offset: QueueOffset => "offset",
    };

    /// The offset of the oldest message of a queue. Java: `GetMinOffsetRequestHeader.java`.
    GetMinOffset = GET_MIN_OFFSET {
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
    } -> GetMinOffsetReply {
        offset: QueueOffset => "offset",
    };

    /// The offset at a point in time. Java: `SearchOffsetRequestHeader.java`.
    SearchOffset = SEARCH_OFFSET_BY_TIMESTAMP {
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
        /// Store time in milliseconds since 1970.
        timestamp: i64 => "timestamp",
        /// `LOWER` (when absent, too): the first message not older; `UPPER`: the last one not newer.
        boundary: Option<ByteString> => "boundaryType",
    } -> SearchOffsetReply {
        offset: QueueOffset => "offset",
    };

    /// Store time of the oldest message of a queue. Java: `GetEarliestMsgStoretimeRequestHeader.java`.
    GetEarliestStoreTime = GET_EARLIEST_MSG_STORETIME {
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
    } -> GetEarliestStoreTimeReply {
        /// Milliseconds since 1970; -1 when there is no message.
        timestamp: i64 => "timestamp",
    };
}
