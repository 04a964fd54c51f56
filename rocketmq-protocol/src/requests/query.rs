//! Finding messages by key.

use crate::request::{Segments, requests};
use crate::{ByteString, LogPosition};

requests! {
    /// Reads messages by unique key, key or tag; refused with `QUERY_NOT_FOUND` when there are none. A broker compares hashes only,
    /// so what it returns must be compared. Java: `protocol/header/QueryMessageRequestHeader.java`.
    QueryMessage = QUERY_MESSAGE {
        topic: ByteString => "topic",
        key: ByteString => "key",
        /// Most messages wanted; the newest come. A broker has a limit of its own, 64 by default.
        max_messages: i32 => "maxNum",
        /// Earliest store time in milliseconds since 1970.
        begin_timestamp: i64 => "beginTimestamp",
        /// Latest store time in milliseconds since 1970.
        end_timestamp: i64 => "endTimestamp",
        /// `K` (key), `U` (unique key) or, since 5.4, `T` (tag).
        index_type: Option<ByteString> => "indexType",
        /// Whether the key is a unique key: `max_messages` does not count then.
        unique_key_query: Option<bool> => "_UNIQUE_KEY_QUERY",
    } -> QueryMessageReply {
        /// Store time of the last message in the index, in milliseconds since 1970.
        index_last_timestamp: i64 => "indexLastUpdateTimestamp",
        /// Where the last message in the index starts.
        index_last_position: LogPosition => "indexLastUpdatePhyoffset",
    } body(messages: Segments);
}
